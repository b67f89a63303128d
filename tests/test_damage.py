"""Stored runs and saved states are damaged in hundreds of ways: aejax detects each, a plain reader uses most."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from aejax.runtime.errors import ResultsError
from aejax.storage import checkpoints, run_folders
from aejax.storage.run_folders import FORMAT

RUN_IDS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
STATE_IDS = ("first", "other")
STEPS = (10, 20)
DAMAGES = 320
KINDS = ("flip", "flip", "flip", "truncate", "delete", "swap", "swap")


def write_all(folder):
    """Store two runs, and two states of each of two state_ids, which differ in their numbers only."""
    for seed, run_id in enumerate(RUN_IDS):
        row = {"format": FORMAT, "run_id": run_id, "dataset": "d", "label": "l", "codings": 2}
        row |= {"hyper": {"l2": 0.5}, "seed": seed, "sse_test": 3.25 + seed}
        params = {"encoder": {"kernel": np.full((3, 2), seed + 0.5, np.float32)}}
        run_folders.write_run(folder, row, params, {"pca_curve": np.linspace(seed + 1, 0, 4)})
    for seed, state_id in enumerate(STATE_IDS):
        for step in STEPS:
            arrays = {"kernel": np.full((3, 2), step + seed, np.float32), "count": np.int32(step)}
            checkpoints.save(folder, state_id, step, {"config": {"epochs": 5, "seed": seed}}, arrays)


def targets(folder):
    """The folders to damage, each with a similar folder that it may be mistaken for."""
    runs = [folder / "runs" / run_id for run_id in RUN_IDS]
    older, newer = (folder / "states" / STATE_IDS[0] / f"{step:012}" for step in STEPS)
    other = folder / "states" / STATE_IDS[1] / newer.name
    return [(runs[0], runs[1]), (newer, older), (newer, other)]


def swap(first, second):
    temporary = first.with_name(".temporary")
    first.rename(temporary)
    second.rename(first)
    temporary.rename(second)


def damage(rng, target, similar, kind):
    """Damage the folder `target` in one way. Returns the name of the file. The manifest is chosen in 40% of cases."""
    files = sorted(path.name for path in target.iterdir())
    name = "manifest.json" if rng.random() < 0.4 else files[rng.integers(len(files))]
    path = target / name
    similar_path = similar / name
    data = bytearray(path.read_bytes())
    if kind == "flip":
        bit = rng.integers(8 * len(data))
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
    elif kind == "truncate":
        path.write_bytes(data[: rng.integers(len(data))])
    elif kind == "delete":
        path.unlink()
    elif rng.random() < 0.4:
        swap(target, similar)
        name = "the folder"
    elif path.read_bytes() != similar_path.read_bytes():
        swap(path, similar_path)
    else:  # swapping equal files is no damage
        swap(target / "manifest.json", similar / "manifest.json")
    return name


def read_strictly(target):
    """The content of the folder as aejax reads it; None if aejax reports it as damaged, naming the folder."""
    warnings: list[str] = []
    if target.parent.name == "runs":
        row = run_folders.read_row(target, warnings.append)
        if row is None:
            assert len(warnings) == 1, warnings
            assert str(target) in warnings[0]
            with pytest.raises(ResultsError, match=target.name):
                run_folders.read_run(target)
            return None
        stored = run_folders.read_run(target)
        return [row, {name: array.tolist() for name, array in {**stored.params["encoder"], **stored.arrays}.items()}]
    folder = target.parents[2]
    before = sorted(path.name for path in target.parent.iterdir())
    try:
        state = checkpoints.load_newest(folder, target.parent.name, warnings.append, repair=False)
    except ResultsError:  # both states are damaged, as when they are swapped
        state = None
        warnings = [*warnings[:1], "older state of step 10"]
    assert sorted(path.name for path in target.parent.iterdir()) == before
    if state is None or state.step != STEPS[1]:
        assert str(target) in warnings[0], warnings
        assert "older state of step 10" in warnings[1]
        return None
    return [state.step, state.metadata, {name: array.tolist() for name, array in state.arrays.items()}]


def read_plainly(target):
    """The content of the folder, read without its manifest; None if a file is missing or cannot be parsed."""
    try:
        json_files = [path for path in sorted(target.glob("*.json")) if path.name != "manifest.json"]
        heads = [json.loads(path.read_bytes()) for path in json_files]
        contents = [load_file(path) for path in sorted(target.glob("*.safetensors"))]
    except Exception:
        return None
    expected = 2 if target.parent.name == "runs" else 1
    if len(heads) != 1 or len(contents) != expected:
        return None
    return [heads, [{name: array.tolist() for name, array in arrays.items()} for arrays in contents]]


def test_no_damage_is_used_silently(tmp_path):
    intact = tmp_path / "intact"
    write_all(run_folders.open_folder(intact, "x"))
    expected = {}
    for target, _ in targets(intact / "x"):
        name = target.relative_to(intact)
        expected[name] = (read_strictly(target), read_plainly(target))
        assert None not in expected[name]

    rng = np.random.default_rng(0)
    counts = Counter()
    undetected = []
    plain_reader = Counter()
    for number in range(DAMAGES):
        root = tmp_path / "damaged"
        shutil.copytree(intact, root)
        target, similar = targets(root / "x")[number % 3]
        kind = KINDS[(number // 3) % len(KINDS)]
        damaged_file = damage(rng, target, similar, kind)
        counts[kind] += 1
        counts[damaged_file] += 1
        if read_strictly(target) is not None:
            undetected.append((number, kind, damaged_file))
        content = read_plainly(target)
        _, intact_content = expected[target.relative_to(root)]
        plain_reader["used"] += content is not None
        plain_reader["used, other numbers"] += content is not None and content != intact_content
        shutil.rmtree(root)

    assert undetected == []
    assert sum(counts[kind] for kind in set(KINDS)) == DAMAGES
    for kind in KINDS:
        assert counts[kind] >= 40, counts
    for name in ("manifest.json", "run.json", "state.json", "state.safetensors", "parameters.safetensors"):
        assert counts[name] >= 10, counts
    assert counts["the folder"] >= 20, counts
    # a control: a reader without the manifest uses many of these damaged files, so detecting them matters
    assert plain_reader["used"] >= DAMAGES // 2, plain_reader
    assert plain_reader["used, other numbers"] >= DAMAGES // 5, plain_reader


@pytest.mark.parametrize("number", [0, 1], ids=["run", "state"])
def test_every_flipped_bit_is_detected(tmp_path, number):
    write_all(run_folders.open_folder(tmp_path, "x"))
    target, _ = targets(tmp_path / "x")[number]
    bits = 0
    for path in sorted(target.iterdir()):
        intact = path.read_bytes()
        for bit in range(8 * len(intact)):
            data = bytearray(intact)
            data[bit // 8] ^= 1 << (bit % 8)
            overwrite(path, data)
            assert read_if_intact(target) is None, f"bit {bit} of {path.name}"
        overwrite(path, intact)
        bits += 8 * len(intact)
        assert read_if_intact(target) is not None
    assert bits > 3500


def overwrite(path: Path, data: bytes | bytearray) -> None:
    with path.open("r+b") as file:
        file.write(data)


def read_if_intact(target):
    """The row or the state in the folder; None if it is damaged."""
    if target.parent.name == "runs":
        return run_folders.read_row(target)
    state = checkpoints.load_newest(target.parents[2], target.parent.name, lambda _: None, repair=False)
    return state if state is not None and state.step == STEPS[1] else None


def test_the_manifest_lists_every_file_and_no_other(tmp_path):
    write_all(run_folders.open_folder(tmp_path, "x"))
    for target, _ in targets(tmp_path / "x")[:2]:
        path = target / "manifest.json"
        intact = json.loads(path.read_bytes())
        name = next(iter(intact["sha256"]))
        for hashes in ({}, {**intact["sha256"], "more": "0" * 64}, {name: intact["sha256"][name]}):
            path.write_bytes(run_folders.to_json({**intact, "sha256": hashes}, indent=1).encode())
            assert read_if_intact(target) is None
        for text in (json.dumps(intact), path.read_text() + "\n", run_folders.to_json({**intact, "more": 1}, indent=1)):
            path.write_text(text)
            assert read_if_intact(target) is None


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_format_changed_by_damage_is_not_taken_for_another_format(tmp_path, monkeypatch, version):
    """The manifest has format 1 or 2 (older, readable) or 4 (newer), while the state itself has format 3."""
    monkeypatch.setattr(checkpoints, "FORMAT", 3)
    write_all(run_folders.open_folder(tmp_path, "x"))
    target, _ = targets(tmp_path / "x")[1]
    path = target / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format": 3', b'"format": %d' % version))
    warnings: list[str] = []
    state = checkpoints.load_newest(tmp_path / "x", STATE_IDS[0], warnings.append, repair=False)
    assert state is not None
    assert state.step == STEPS[0]
    assert "manifest.json: damaged" in warnings[0]
