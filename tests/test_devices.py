"""Several devices, and several processes, give the rows of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
