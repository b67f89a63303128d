"""Several devices, and several processes, give the rows of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kills import contents
from support import rows_of
from test_hosts import SWEEP

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def found():
    """What tests/devices.py prints on 1, 2 and 8 virtual devices."""

    def start(count):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        return subprocess.Popen(
            [sys.executable, str(TESTS / "devices.py")], stdout=subprocess.PIPE, text=True, env=environment, cwd=TESTS
        )

    running = {count: start(count) for count in (1, 2, 8)}
    return {count: json.loads(process.communicate(timeout=300)[0]) for count, process in running.items()}


def test_the_devices_are_there_and_used(found):
    assert {count: one["devices"] for count, one in found.items()} == {1: 1, 2: 2, 8: 8}
    assert {count: one["map"]["devices"] for count, one in found.items()} == {1: 1, 2: 2, 8: 8}
    assert {count: one["vmap"]["devices"] for count, one in found.items()} == {1: 1, 2: 2, 8: 8}
    assert {count: one["data"]["devices"] for count, one in found.items()} == {1: 1, 2: 2, 8: 8}


def flat(value, name=""):
    """Numbers and texts of a row by their place in it."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: leaf for key, one in items for place, leaf in flat(one, f"{name}/{key}").items()}
    return {name: value}


def test_a_sweep_on_eight_devices_stores_the_rows_of_one(tmp_path):
    (tmp_path / "two.py").write_text(SWEEP)

    def start(count):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        command = [sys.executable, "-m", "aejax", "run", "two.py", "--results", str(count)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)

    running = {count: start(count) for count in (1, 8)}
    for process in running.values():
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 3, errors  # some members diverge, and that is a result
    one, eight = (contents(tmp_path / f"{count}/two") for count in running)
    assert {name: parameters for name, (_, parameters) in eight.items()} == {n: p for n, (_, p) in one.items()}
    for name, (row, _) in one.items():
        again = flat(json.loads(eight[name][0]))
        for place, value in flat(json.loads(row)).items():  # PCA's last bits depend on threads
            assert again.pop(place) == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), place
        assert not again
    for count in running:
        rows = rows_of(tmp_path / str(count) / "two")
        assert len(rows) == 15
        assert {row["provenance"]["devices"] for row in rows} == {count}
        assert max(row["execution"]["devices"] for row in rows) == count


@pytest.mark.parametrize("count", [2, 8])
def test_members_one_after_another_have_the_same_bits_on_any_number_of_devices(found, count):
    assert found[count]["map"]["bits"] == found[1]["map"]["bits"]


def test_vmapped_members_have_the_same_bits_on_two_devices_and_on_eight(found):
    assert found[8]["vmap"]["bits"] == found[2]["vmap"]["bits"]


@pytest.mark.parametrize("how", ["vmap", "data"])
@pytest.mark.parametrize("count", [2, 8])
def test_the_others_agree_to_float_tolerance(found, how, count):
    one, several = found[1][how], found[count][how]
    assert one["status"] == several["status"]
    assert one["bad_step"] == several["bad_step"]
    pairs = [(a, b) for a, b in zip(one["errors"], several["errors"], strict=True) if a is not None]
    assert len(pairs) >= 6
    np.testing.assert_allclose(*np.array(pairs).T, rtol=1e-4)


def test_a_batch_that_is_shared_out_is_summed_in_another_order(found):
    """The control: had the batch not been shared out, the bits would be those of one device."""
    assert found[8]["data"]["bits"] != found[1]["data"]["bits"]
