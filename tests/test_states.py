"""Saved training states: the newest valid one is loaded or an error is raised; training never restarts silently."""

import numpy as np
import pytest

from aejax.runtime.errors import ConfigError, ResultsError
from aejax.storage import checkpoints, run_folders

ABOUT = {"config": {"epochs": 5, "widths": [6, 2]}, "seconds": 1.5}


def arrays_at(step):
    return {
        "params/kernel": np.full((3, 2), step, np.float32),
        "optimiser/count": np.int32(step),
        "key": np.array([0, step], np.uint32),
        "stopped": np.array(False),
        "order": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    }


@pytest.fixture
def folder(tmp_path):
    return run_folders.open_folder(tmp_path / "results", "x")


@pytest.fixture
def warnings():
    return []


def save(folder, *steps, state_id="a1"):
    """Save a state after each of these steps. Returns their folders."""
    return [checkpoints.save(folder, state_id, step, ABOUT, arrays_at(step)) for step in steps]


def damage(path):
    """Flip a bit of a state's arrays."""
    data = bytearray((path / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "state.safetensors").write_bytes(data)


def names(folder, state_id="a1"):
    """The names in the folder of a state_id."""
    return sorted(path.name for path in (folder / "states" / state_id).iterdir())


def test_a_loaded_state_equals_the_saved_one(folder, warnings):
    save(folder, 7)
    state = checkpoints.load_newest(folder, "a1", warnings.append)
    assert state is not None
    assert (state.step, state.metadata, warnings) == (7, ABOUT, [])
    assert state.arrays.keys() == arrays_at(7).keys()
    for name, array in arrays_at(7).items():
        assert state.arrays[name].shape == np.shape(array), name
        assert state.arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(state.arrays[name], array)


def test_without_saved_states_there_is_no_state_and_no_warning(folder, warnings):
    assert checkpoints.load_newest(folder, "a1", warnings.append) is None
    assert (checkpoints.list_ids(folder), warnings) == ([], [])
    checkpoints.remove(folder, "a1")
    assert not (folder / "states").exists()


def test_the_two_newest_states_are_kept(folder):
    save(folder, 0, 9, 10, 100)
    assert names(folder) == ["000000000010", "000000000100"]


def test_the_older_state_that_is_kept_is_a_valid_one(folder):
    save(folder, 1)
    damage(save(folder, 2)[0])
    damage(save(folder, 3)[0])
    save(folder, 4)
    assert [int(name) for name in names(folder)] == [1, 2, 3, 4]  # the damaged ones stay, for `load_newest` to report
    save(folder, 5)
    assert [int(name) for name in names(folder)] == [4, 5]


def test_a_damaged_state_is_reported_and_kept_and_the_older_one_is_used(folder, warnings):
    damage(save(folder, 10, 20)[1])
    before = names(folder)
    for repair in (False, True):
        warnings.clear()
        state = checkpoints.load_newest(folder, "a1", warnings.append, repair)
        assert state is not None
        assert state.step == 10
        assert len(warnings) == 2
        assert "000000000020/state.safetensors: damaged" in warnings[0]
        assert ("kept as 000000000020.corrupt" in warnings[0]) == repair
        assert "older state of step 10" in warnings[1]
        assert names(folder) == (["000000000010", "000000000020.corrupt"] if repair else before)
    damage(save(folder, 20)[0])
    checkpoints.load_newest(folder, "a1", warnings.append)
    assert names(folder) == ["000000000010", "000000000020.corrupt", "000000000020.corrupt-2"]


def test_no_valid_state_is_an_error_until_the_folder_is_deleted(folder, warnings):
    for path in save(folder, 10, 20):
        damage(path)
    for _ in range(2):
        with pytest.raises(ResultsError, match=r"states/a1: .*none is valid; delete that folder"):
            checkpoints.load_newest(folder, "a1", warnings.append)
    assert len(warnings) == 2
    assert checkpoints.list_ids(folder) == ["a1"]


def test_a_state_folder_whose_name_is_not_a_step_is_damaged(folder, warnings):
    path = save(folder, 10, 20)[1]
    path.rename(path.with_name("00000000002p"))
    state = checkpoints.load_newest(folder, "a1", warnings.append)
    assert state is not None
    assert state.step == 10
    assert "00000000002p" in warnings[0]


def test_saving_a_step_again_replaces_it(folder, warnings):
    save(folder, 10)
    checkpoints.save(folder, "a1", 10, {"again": True}, {})
    state = checkpoints.load_newest(folder, "a1", warnings.append)
    assert state == checkpoints.SavedState(10, {"again": True}, {})
    assert names(folder) == ["000000000010"]


def test_removing_states_keeps_damaged_ones(folder, warnings):
    damage(save(folder, 10, 20)[1])
    checkpoints.load_newest(folder, "a1", warnings.append)
    save(folder, 30, state_id="other")
    checkpoints.remove(folder, "a1")
    assert checkpoints.load_newest(folder, "a1", warnings.append) is None
    assert checkpoints.list_ids(folder) == ["other"]
    assert (folder / "states/.corrupt-a1-000000000020-1/state.safetensors").is_file()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "/etc"])
def test_no_name_writes_outside_the_results_folder(folder, name):
    with pytest.raises(ConfigError):
        checkpoints.save(folder, name, 1, {}, {})
    with pytest.raises(ConfigError):
        checkpoints.load_newest(folder, name, print)
    with pytest.raises(ConfigError):
        checkpoints.remove(folder, name)
    assert not (folder / "states").exists()


@pytest.mark.parametrize("step", [-1, 10**12])
def test_a_step_out_of_range_is_refused(folder, step):
    with pytest.raises(ValueError, match="step"):
        checkpoints.save(folder, "a1", step, {}, {})


def test_a_newer_format_is_refused_and_its_state_unchanged(folder, warnings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "FORMAT", 2)
        save(folder, 10)
    with pytest.raises(ConfigError, match="format 2, this aejax reads up to 1"):
        checkpoints.load_newest(folder, "a1", warnings.append)
    assert names(folder) == ["000000000010"]


def test_an_equal_about_is_accepted(folder, warnings):
    save(folder, 1)
    state = checkpoints.load_newest(folder, "a1", warnings.append)
    assert state is not None
    checkpoints.check_same(state.metadata, {"seconds": 1.5, "config": {"widths": (6, 2), "epochs": 5}}, "states/a1")


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"a": {"b": 2, "c": [1]}, "d": "x"}, "a.b: 1 stored, 2 asked"),
        ({"a": {"b": 1, "c": [1, 2]}, "d": "x"}, "a.c: [1] stored, [1, 2] asked"),
        ({"a": {"b": 1, "c": [1]}}, 'd: "x" stored, none asked'),
        ({"a": {"b": 1, "c": [1], "e": None}, "d": "x"}, "a.e: none stored, null asked"),
        ({"a": {"b": True, "c": [1]}, "d": "x"}, "a.b: 1 stored, true asked"),
        ({"a": 3, "d": "y"}, 'a: {"b": 1, "c": [1]} stored, 3 asked, d: "x" stored, "y" asked'),
        ({"a": {"b": 1, "c": [1]}, "d": "x", **dict.fromkeys("fghijklmn")}, "and 1 more"),
    ],
)
def test_a_different_about_is_refused_with_the_fields_that_differ(requested, message):
    with pytest.raises(ResultsError) as caught:
        checkpoints.check_same({"a": {"b": 1, "c": [1]}, "d": "x"}, requested, "states/a1")
    assert caught.value.field == "states/a1"
    assert message in str(caught.value)
    assert caught.value.exit_code == 4
