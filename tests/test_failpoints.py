"""A writer killed at every call that touches the disk: afterwards the old or the new, whole, and nothing else lost."""

import json
import subprocess
import sys

import numpy as np
import pytest

import crash
from aejax.runtime.errors import AejaxError
from aejax.storage import checkpoints, lock, run_folders

BROKEN = ["store:in_place", "replace:in_place", "replace:renamed_too_early", "replace:deleting_first"]
BROKEN += ["state:in_place", "state:renamed_too_early", "index:write_in_place"]
LASTING = ["replace:without_fsync", "store:without_folder_fsync", "replace:without_folder_fsync"]
LASTING += ["first_state:folders_without_fsync", "open:folders_without_fsync", "line:write_without_folder_fsync"]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The folders that every scenario left, killed at each of its calls, and how many calls it makes in each mode."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("crashed")
    crash.prepare(run_folders.open_folder(source, "x"))
    done = subprocess.run(
        [sys.executable, crash.__file__, str(source), str(target), *crash.SCENARIOS, *BROKEN, *LASTING],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return target, json.loads(done.stdout)


def wrong_after(scenario, crashed):
    """What the checker finds wrong, by kill; the last folder of each mode is that of a writer that was not killed."""
    target, counts = crashed
    wrong = {}
    for mode, count in counts[scenario].items():
        for number in range(1, count + 2):
            place = target / scenario / f"{mode}-{number}"
            found = check(scenario.partition(":")[0], place, finished=number == count + 1)
            if found:
                wrong[place.name] = found
    return wrong


def check(kind, root, finished):
    """What is wrong in a results folder after a kill, once it was opened again. `finished`: it was not killed."""
    wrong: list[str] = []
    told: list[str] = []
    try:
        folder = run_folders.open_folder(root, "x")
        with lock.hold(folder):
            pass
        if kind == "open":
            found = number_of(root / "y/runs" / crash.NEW)
            wrong += [] if found == 2 or (found is None and not finished) else [f"the run in a new folder: {found}"]
        if kind == "line" and finished and not (folder / "lines.jsonl").is_file():
            wrong.append("the line is lost")
        left = [path.name for path in folder.rglob(".*") if path.name.startswith((".partial", ".replaced"))]
        wrong += [f"left: {name}" for name in left]
        old, new, beside = (number_of(folder / "runs" / name) for name in (crash.OLD, crash.NEW, crash.BESIDE))
        if beside != 1:
            wrong.append(f"a finished run is lost: {beside}")
        allowed: dict[str, tuple] = {"replace": (1, 2), "replace_damaged": (1, None, 2)}
        if old not in ((2,) if finished and kind.startswith("replace") else allowed.get(kind, (1,))):
            wrong.append(f"the old run: {old}")
        if new not in ((2 if finished else None, 2) if kind == "store" else (None,)):
            wrong.append(f"the new run: {new}")
        if kind == "replace_damaged":
            kept = [*(folder / "runs").glob(f"{'.corrupt-' if old == 2 else ''}*{crash.OLD}*/arrays.safetensors")]
            if old != 1 and 7 not in [path.stat().st_size for path in kept]:
                wrong.append("the damaged run is not kept")
        wrong += check_states(kind, folder, finished)
        rows = run_folders.write_index(folder, told.append)
        if kind != "replace_damaged":
            wrong += told
        needed = {crash.BESIDE, crash.ELSEWHERE} | ({crash.OLD} if kind != "replace_damaged" else set())
        wrong += [f"the index lacks {run_id}" for run_id in needed - {row["run_id"] for row in rows}]
    except AejaxError as error:
        wrong.append(str(error))
    return wrong


def number_of(run):
    """The number that a stored run tells, "damaged" or "mixed", None when it is absent or was truncated on purpose."""
    if not run.exists():
        return None
    try:
        row, params, arrays = run_folders.read_run(run)
    except AejaxError:
        cut = run / "arrays.safetensors"
        return None if cut.exists() and cut.stat().st_size == 7 else "damaged"
    numbers = {row["seed"], *np.unique(params["encoder"]["kernel"]).tolist(), *np.unique(arrays["curve"]).tolist()}
    return numbers.pop() if len(numbers) == 1 else "mixed"


def check_states(kind, folder, finished):
    told: list[str] = []
    third = checkpoints.load_newest(folder, "s3", told.append)
    if kind == "first_state" and third is None and finished:
        told.append("the first state is lost")
    found = checkpoints.load_newest(folder, "s1", told.append)
    beside = checkpoints.load_newest(folder, "s2", told.append)
    wrong = [*told]
    if beside is None or beside.step != 5:
        wrong.append("another state is lost")
    steps = {"state": (30,) if finished else (20, 30), "forget": (None,) if finished else (20, None)}
    step = None if found is None else found.step
    if step not in steps.get(kind, (20,)):
        wrong.append(f"the newest state: {step}")
    if found is not None and {found.step} != {found.about["step"], *np.unique(found.arrays["kernel"]).tolist()}:
        wrong.append("a mixed state")
    return wrong


@pytest.mark.parametrize("scenario", crash.SCENARIOS)
def test_a_kill_at_any_point_leaves_the_old_or_the_new(crashed, scenario):
    assert wrong_after(scenario, crashed) == {}
    assert all(count >= 5 for count in crashed[1][scenario].values()), crashed[1]


@pytest.mark.parametrize("scenario", [*BROKEN, *LASTING])
def test_the_checker_notices_a_broken_writer(crashed, scenario):
    wrong = wrong_after(scenario, crashed)
    assert wrong
    assert all(place.startswith("power") for place in wrong) == (scenario in LASTING)
