"""A writer that is killed at any call that changes the disk leaves the old data or the new, and loses nothing else."""

import json
import subprocess
import sys

import numpy as np
import pytest

import crash
from aejax.runtime.errors import AejaxError
from aejax.storage import checkpoints, lock, run_folders

pytestmark = pytest.mark.slow

BROKEN_AFTER_A_KILL = [
    "store:in_place",
    "replace:in_place",
    "replace:renamed_too_early",
    "replace:deleting_first",
    "state:in_place",
    "state:renamed_too_early",
    "index:write_in_place",
]
"""Scenarios with a broken writer that a kill already exposes."""
BROKEN_AFTER_A_POWER_CUT = [
    "replace:without_fsync",
    "store:without_folder_fsync",
    "replace:without_folder_fsync",
    "first_state:folders_without_fsync",
    "open:folders_without_fsync",
    "line:write_without_folder_fsync",
]
"""Scenarios with a broken writer that only a power cut exposes."""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The folders left by every scenario killed at each of its calls, and its number of calls by mode."""
    source = tmp_path_factory.mktemp("source")
    target = tmp_path_factory.mktemp("crashed")
    scenarios = [*crash.SCENARIOS, *BROKEN_AFTER_A_KILL, *BROKEN_AFTER_A_POWER_CUT]
    crash.prepare(run_folders.open_folder(source, "x"))
    done = subprocess.run(
        [sys.executable, crash.__file__, str(source), str(target), *scenarios],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return target, json.loads(done.stdout)


def problems_of(scenario, crashed):
    """The problems found after each kill. The last folder of each mode was left by a writer that was not killed."""
    target, counts = crashed
    problems = {}
    for mode, count in counts[scenario].items():
        for number in range(1, count + 2):
            root = target / scenario / f"{mode}-{number}"
            folder_problems = check_folder(scenario.partition(":")[0], root, finished=number == count + 1)
            if folder_problems:
                problems[root.name] = folder_problems
    return problems


def check_folder(scenario, root, finished):
    """The problems of a results folder that is opened after a kill, or after the writer `finished`."""
    problems: list[str] = []
    warnings: list[str] = []
    try:
        folder = run_folders.open_folder(root, "x")
        with lock.hold(folder):
            pass
        if scenario == "open":
            number = number_of(root / "y/runs" / crash.NEW)
            if number != 2 and (number is not None or finished):
                problems.append(f"the run in a new folder: {number}")
        if scenario == "line" and finished and not (folder / "lines.jsonl").is_file():
            problems.append("the line is lost")
        leftovers = [path.name for path in folder.rglob(".*") if path.name.startswith((".partial", ".replaced"))]
        problems += [f"left over: {name}" for name in leftovers]
        old, new, beside = (number_of(folder / "runs" / name) for name in (crash.OLD, crash.NEW, crash.BESIDE))
        if beside != 1:
            problems.append(f"a finished run is lost: {beside}")
        allowed: dict[str, tuple] = {"replace": (1, 2), "replace_damaged": (1, None, 2)}
        if old not in ((2,) if finished and scenario.startswith("replace") else allowed.get(scenario, (1,))):
            problems.append(f"the old run: {old}")
        if new not in ((2 if finished else None, 2) if scenario == "store" else (None,)):
            problems.append(f"the new run: {new}")
        if scenario == "replace_damaged":
            kept = [*(folder / "runs").glob(f"{'.corrupt-' if old == 2 else ''}*{crash.OLD}*/arrays.safetensors")]
            if old != 1 and 7 not in [path.stat().st_size for path in kept]:
                problems.append("the damaged run is not kept")
        problems += check_states(scenario, folder, finished)
        rows = run_folders.write_index(folder, warnings.append)
        if scenario != "replace_damaged":
            problems += warnings
        needed = {crash.BESIDE, crash.ELSEWHERE} | ({crash.OLD} if scenario != "replace_damaged" else set())
        problems += [f"the index lacks {run_id}" for run_id in needed - {row["run_id"] for row in rows}]
    except AejaxError as error:
        problems.append(str(error))
    return problems


def number_of(run):
    """The number in a stored run, "damaged" or "mixed"; None if the run is absent or was truncated on purpose."""
    if not run.exists():
        return None
    try:
        row, params, arrays = run_folders.read_run(run)
    except AejaxError:
        truncated = run / "arrays.safetensors"
        return None if truncated.exists() and truncated.stat().st_size == 7 else "damaged"
    numbers = {row["seed"], *np.unique(params["encoder"]["kernel"]).tolist(), *np.unique(arrays["curve"]).tolist()}
    return numbers.pop() if len(numbers) == 1 else "mixed"


def check_states(scenario, folder, finished):
    """The problems of the saved states."""
    problems: list[str] = []
    first = checkpoints.load_newest(folder, "s3", problems.append)
    if scenario == "first_state" and first is None and finished:
        problems.append("the first state is lost")
    newest = checkpoints.load_newest(folder, "s1", problems.append)
    beside = checkpoints.load_newest(folder, "s2", problems.append)
    if beside is None or beside.step != 5:
        problems.append("another state is lost")
    allowed_steps = {"state": (30,) if finished else (20, 30), "remove": (None,) if finished else (20, None)}
    step = None if newest is None else newest.step
    if step not in allowed_steps.get(scenario, (20,)):
        problems.append(f"the newest state: {step}")
    if newest is not None:
        numbers = {newest.metadata["step"], *np.unique(newest.arrays["kernel"]).tolist()}
        if numbers != {newest.step}:
            problems.append("a mixed state")
    return problems


@pytest.mark.parametrize("scenario", crash.SCENARIOS)
def test_a_kill_at_any_call_leaves_the_old_or_the_new_data(crashed, scenario):
    assert problems_of(scenario, crashed) == {}
    assert all(count >= 5 for count in crashed[1][scenario].values()), crashed[1]


@pytest.mark.parametrize("scenario", [*BROKEN_AFTER_A_KILL, *BROKEN_AFTER_A_POWER_CUT])
def test_the_check_detects_a_broken_writer(crashed, scenario):
    problems = problems_of(scenario, crashed)
    assert problems
    assert all(name.startswith("power") for name in problems) == (scenario in BROKEN_AFTER_A_POWER_CUT)
