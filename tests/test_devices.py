"""Training on several devices gives the same rows as training on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kills import contents
from logged import Logged
from support import SWEEP, rows_of
from unrendered import AEJAX

pytestmark = [pytest.mark.slow, pytest.mark.optimised]

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def results():
    """What tests/devices.py prints on 1, 2 and 8 virtual devices, by number of devices."""

    def start(count):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        return subprocess.Popen(
            [sys.executable, str(TESTS / "devices.py")], stdout=subprocess.PIPE, text=True, env=environment, cwd=TESTS
        )

    running = {count: start(count) for count in (1, 2, 8)}
    return {count: json.loads(process.communicate(timeout=300)[0]) for count, process in running.items()}


def test_all_devices_are_used(results):
    assert {count: result["devices"] for count, result in results.items()} == {1: 1, 2: 2, 8: 8}
    for how in ("map", "vmap", "data"):
        assert {count: result[how]["devices"] for count, result in results.items()} == {1: 1, 2: 2, 8: 8}, how


def flatten(value, path=""):
    """The numbers and texts of a row, by their path in it."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, child in items for name, leaf in flatten(child, f"{path}/{key}").items()}
    return {path: value}


def test_a_sweep_on_eight_devices_stores_the_same_rows_as_on_one(tmp_path):
    (tmp_path / "two.py").write_text(SWEEP)

    def start(count):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        command = [*AEJAX, "run", "two.py", "--results", str(count)]
        return Logged(command, env=environment, cwd=tmp_path)

    running = {count: start(count) for count in (1, 8)}
    for process in running.values():
        errors = process.messages(timeout=300)
        assert process.returncode == 3, errors  # some members diverge, and that is a result
    on_one, on_eight = (contents(tmp_path / f"{count}/two") for count in running)
    assert {name: params for name, (_, params) in on_eight.items()} == {name: p for name, (_, p) in on_one.items()}
    for name, (row, _) in on_one.items():
        other_row = flatten(json.loads(on_eight[name][0]))
        for path, value in flatten(json.loads(row)).items():
            # the last bits of PCA depend on the number of threads
            expected = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert other_row.pop(path) == expected, path
        assert not other_row
    for count in running:
        rows = rows_of(tmp_path / str(count) / "two")
        assert len(rows) == 15
        assert {row["provenance"]["devices"] for row in rows} == {count}
        assert max(row["execution"]["devices"] for row in rows) == count


@pytest.mark.parametrize("count", [2, 8])
def test_mapped_members_have_the_same_bits_on_any_number_of_devices(results, count):
    assert results[count]["map"]["bits"] == results[1]["map"]["bits"]


def test_vmapped_members_have_the_same_bits_on_two_devices_and_on_eight(results):
    assert results[8]["vmap"]["bits"] == results[2]["vmap"]["bits"]


@pytest.mark.parametrize("how", ["vmap", "data"])
@pytest.mark.parametrize("count", [2, 8])
def test_vmapped_members_and_split_batches_agree_to_float_tolerance(results, how, count):
    on_one = results[1][how]
    on_several = results[count][how]
    assert on_one["status"] == on_several["status"]
    assert on_one["bad_step"] == on_several["bad_step"]
    pairs = [(a, b) for a, b in zip(on_one["errors"], on_several["errors"], strict=True) if a is not None]
    assert len(pairs) >= 6
    np.testing.assert_allclose(*np.array(pairs).T, rtol=1e-4)


def test_a_batch_that_is_split_over_devices_is_summed_in_another_order(results):
    """A control: if the batch were not split, the bits would be those of one device."""
    assert results[8]["data"]["bits"] != results[1]["data"]["bits"]
