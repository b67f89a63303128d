"""Hundreds of damages to stored runs and saved states: each one noticed, where a plain reader uses most of them."""

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

RUN_IDS, STATE_IDS, STEPS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb"), ("first", "other"), (10, 20)
DAMAGES = 320
KINDS = ("flip", "flip", "flip", "truncate", "delete", "swap", "swap")


def write_all(folder):
    """Two runs, and two states of each of two populations; all alike but for their numbers."""
    for seed, run_id in enumerate(RUN_IDS):
        row = {"format": FORMAT, "run_id": run_id, "dataset": "d", "label": "l", "codings": 2}
        row |= {"hyper": {"l2": 0.5}, "seed": seed, "sse_test": 3.25 + seed}
        params = {"encoder": {"kernel": np.full((3, 2), seed + 0.5, np.float32)}}
        run_folders.write_run(folder, row, params, {"pca_curve": np.linspace(seed + 1, 0, 4)})
    for seed, state_id in enumerate(STATE_IDS):
        for step in STEPS:
            arrays = {"kernel": np.full((3, 2), step + seed, np.float32), "count": np.int32(step)}
            checkpoints.save(folder, state_id, step, {"config": {"epochs": 5, "seed": seed}}, arrays)


def places(folder):
    """The folders under test, each with the like of it that it may be mistaken for."""
    runs = [folder / "runs" / run_id for run_id in RUN_IDS]
    older, newer = (folder / "states" / STATE_IDS[0] / f"{step:012}" for step in STEPS)
    other = folder / "states" / STATE_IDS[1] / newer.name
    return [(runs[0], runs[1]), (newer, older), (newer, other)]


def swap(one, other):
    aside = one.with_name(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def damage(rng, place, other, kind):
    """Spoil `place` in one way, and say how. The manifest is met as often as the other files together."""
    files = sorted(path.name for path in place.iterdir())
    name = "manifest.json" if rng.random() < 0.4 else files[rng.integers(len(files))]
    path, like = place / name, other / name
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
        swap(place, other)
        name = "the folder"
    elif path.read_bytes() != like.read_bytes():
        swap(path, like)
    else:  # the same parameters in both are no damage
        swap(place / "manifest.json", other / "manifest.json")
    return name


def read_strictly(place):
    """What aejax makes of the folder; None when it does not use it. It says so, or raises, naming the folder."""
    told: list[str] = []
    if place.parent.name == "runs":
        row = run_folders.read_row(place, told.append)
        if row is None:
            assert len(told) == 1, told
            assert str(place) in told[0]
            with pytest.raises(ResultsError, match=place.name):
                run_folders.read_run(place)
            return None
        stored = run_folders.read_run(place)
        return [row, {name: array.tolist() for name, array in {**stored.params["encoder"], **stored.arrays}.items()}]
    folder, state_id = place.parents[2], place.parent.name
    before = sorted(path.name for path in place.parent.iterdir())
    try:
        found = checkpoints.load_newest(folder, state_id, told.append, repair=False)
    except ResultsError:  # both states are spoilt, as when they are exchanged
        found, told = None, [*told[:1], "older state of step 10"]
    assert sorted(path.name for path in place.parent.iterdir()) == before
    if found is None or found.step != STEPS[1]:
        assert str(place) in told[0], told
        assert "older state of step 10" in told[1]
        return None
    return [found.step, found.about, {name: array.tolist() for name, array in found.arrays.items()}]


def read_plainly(place):
    """The same files read without the manifest."""
    try:
        heads = [json.loads(path.read_bytes()) for path in sorted(place.glob("*.json")) if path.name != "manifest.json"]
        held = [load_file(path) for path in sorted(place.glob("*.safetensors"))]
    except Exception:
        return None
    expected = 1 if place.parent.name == "runs" else 0
    if len(heads) != 1 or len(held) != 1 + expected:
        return None
    return [heads, [{name: array.tolist() for name, array in arrays.items()} for arrays in held]]


def test_no_damage_is_used_silently(tmp_path):
    intact = tmp_path / "intact"
    write_all(run_folders.open_folder(intact, "x"))
    truth = {}
    for place, _ in places(intact / "x"):
        name = place.relative_to(intact)
        truth[name] = (read_strictly(place), read_plainly(place))
        assert None not in truth[name]

    rng = np.random.default_rng(0)
    met, silent, plain = Counter(), [], Counter()
    for number in range(DAMAGES):
        root = tmp_path / "damaged"
        shutil.copytree(intact, root)
        place, other = places(root / "x")[number % 3]
        kind = KINDS[(number // 3) % len(KINDS)]
        what = damage(rng, place, other, kind)
        strictly, plainly = truth[place.relative_to(root)]
        met[kind] += 1
        met[what] += 1
        if read_strictly(place) is not None:
            silent.append((number, kind, what))
        used = read_plainly(place)
        plain["used"] += used is not None
        plain["used, other numbers"] += used is not None and used != plainly
        assert strictly is not None
        shutil.rmtree(root)

    assert silent == []
    assert sum(met[kind] for kind in set(KINDS)) == DAMAGES
    for kind in KINDS:
        assert met[kind] >= 40, met
    for name in ("manifest.json", "run.json", "state.json", "state.safetensors", "parameters.safetensors"):
        assert met[name] >= 10, met
    assert met["the folder"] >= 20, met
    # the control: the same damages read without the manifest, which shows that they are worth noticing
    assert plain["used"] >= DAMAGES // 2, plain
    assert plain["used, other numbers"] >= DAMAGES // 5, plain


@pytest.mark.parametrize("number", [0, 1], ids=["run", "state"])
def test_every_single_bit_counts(tmp_path, number):
    write_all(run_folders.open_folder(tmp_path, "x"))
    place, _ = places(tmp_path / "x")[number]
    bits = 0
    for path in sorted(place.iterdir()):
        intact = path.read_bytes()
        for bit in range(8 * len(intact)):
            data = bytearray(intact)
            data[bit // 8] ^= 1 << (bit % 8)
            overwrite(path, data)
            assert read_quickly(place) is None, f"bit {bit} of {path.name}"
        overwrite(path, intact)
        bits += 8 * len(intact)
        assert read_quickly(place) is not None
    assert bits > 3500


def overwrite(path: Path, data: bytes | bytearray) -> None:
    with path.open("r+b") as file:
        file.write(data)


def read_quickly(place):
    if place.parent.name == "runs":
        return run_folders.read_row(place)
    found = checkpoints.load_newest(place.parents[2], place.parent.name, lambda _: None, repair=False)
    return found if found is not None and found.step == STEPS[1] else None


def test_the_manifest_lists_every_file_and_no_other(tmp_path):
    write_all(run_folders.open_folder(tmp_path, "x"))
    for place, _ in places(tmp_path / "x")[:2]:
        path = place / "manifest.json"
        intact = json.loads(path.read_bytes())
        name = next(iter(intact["sha256"]))
        for hashes in ({}, {**intact["sha256"], "more": "0" * 64}, {name: intact["sha256"][name]}):
            path.write_bytes(run_folders.to_json({**intact, "sha256": hashes}, indent=1).encode())
            assert read_quickly(place) is None
        for text in (json.dumps(intact), path.read_text() + "\n", run_folders.to_json({**intact, "more": 1}, indent=1)):
            path.write_text(text)
            assert read_quickly(place) is None


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_flip_to_another_format_is_told_from_another_format(tmp_path, monkeypatch, version):
    """1 and 2 are older formats that could be read, 4 a newer one; the state says that it is of format 3."""
    monkeypatch.setattr(checkpoints, "FORMAT", 3)
    write_all(run_folders.open_folder(tmp_path, "x"))
    place = places(tmp_path / "x")[1][0]
    path = place / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format": 3', b'"format": %d' % version))
    told: list[str] = []
    found = checkpoints.load_newest(tmp_path / "x", STATE_IDS[0], told.append, repair=False)
    assert found is not None
    assert found.step == STEPS[0]
    assert "manifest.json: damaged" in told[0]
