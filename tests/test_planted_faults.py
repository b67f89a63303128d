"""The table of planted faults fits the source, and the tool tells killed faults from survivors."""

from dataclasses import replace

import pytest

import planted_faults
from planted_faults import Fault, TableError

TEST = """
import runpy

def test_sum():
    f = runpy.run_path("aejax/runtime/x.py")["f"]
    assert f(1, 2)[0] == 3
"""
FAULT = Fault("runtime/x.py", "a + b", "a - b", "It subtracts.", ("test_x.py",))


def test_every_fault_of_the_table_can_be_planted():
    faults = planted_faults.read_table()
    planted_faults.check_table(faults)
    assert len(faults) >= 120
    assert len({(fault.file, fault.text, fault.replacement) for fault in faults}) == len(faults)


def test_a_faulty_source_still_compiles():
    for fault in planted_faults.read_table():
        source = (planted_faults.CHECKOUT / "aejax" / fault.file).read_text()
        compile(planted_faults.planted(source, fault), fault.file, "exec")


@pytest.mark.parametrize("source", ["", "a + b\na + b\n"])
def test_a_text_that_does_not_stand_exactly_once_is_an_error(source):
    with pytest.raises(TableError, match="expected once"):
        planted_faults.planted(source, FAULT)


def test_a_fault_that_changes_nothing_is_an_error():
    with pytest.raises(TableError, match="replaced by itself"):
        planted_faults.planted("a + b", replace(FAULT, replacement="a + b"))


@pytest.fixture
def copy(tmp_path):
    """A tiny checkout: a function, and a test that looks at one of its two results."""
    copy = tmp_path / "0/checkout"
    (copy / "aejax/runtime").mkdir(parents=True)
    (copy / "tests").mkdir()
    (copy / "aejax/runtime/x.py").write_text("def f(a, b):\n    return a + b, a * b\n")
    (copy / "tests/test_x.py").write_text(TEST)
    return copy


@pytest.mark.parametrize(
    ("text", "replacement", "outcome", "by"),
    [
        ("a + b", "a - b", "killed", "test_x.py::test_sum"),
        ("a * b", "a / b", "survived", ""),
    ],
)
def test_a_fault_is_killed_where_a_test_looks_and_survives_elsewhere(copy, text, replacement, outcome, by):
    source = (copy / "aejax/runtime/x.py").read_text()
    result = planted_faults.try_fault(copy, replace(FAULT, text=text, replacement=replacement))
    assert (result["outcome"], result["by"]) == (outcome, by)
    assert (copy / "aejax/runtime/x.py").read_text() == source


SLOW_TEST = """

import pytest

@pytest.mark.slow
def test_product():
    f = runpy.run_path("aejax/runtime/x.py")["f"]
    assert f(1, 2)[1] == 2
"""


def test_the_slow_tier_runs_where_the_default_tier_sees_nothing(copy):
    (copy / "tests/test_x.py").write_text(TEST + SLOW_TEST)
    result = planted_faults.try_fault(copy, replace(FAULT, text="a * b", replacement="a / b"))
    assert (result["outcome"], result["by"], result["tier"]) == ("killed", "test_x.py::test_product", "slow")
    result = planted_faults.try_fault(copy, FAULT)
    assert (result["outcome"], result["by"], result["tier"]) == ("killed", "test_x.py::test_sum", "not slow")


def test_a_slow_test_that_fails_without_the_fault_kills_nothing(copy):
    (copy / "tests/test_x.py").write_text(TEST + SLOW_TEST.replace("== 2", "== 5"))
    result = planted_faults.try_fault(copy, replace(FAULT, text="a * b", replacement="a / b"))
    assert result["outcome"] == "undecided"
    assert "without the fault" in str(result["by"])


def test_the_failed_test_is_named_with_all_of_its_parameters():
    output = "FAILED tests/test_x.py::test_sum[one layer] - assert 2 - 1 == 3\n1 failed in 0.1s"
    assert planted_faults.failed_test(output) == "test_x.py::test_sum[one layer]"


def test_a_fault_that_stops_pytest_is_undecided(copy):
    result = planted_faults.try_fault(copy, replace(FAULT, tests=("test_absent.py",)))
    assert result["outcome"] == "undecided"


@pytest.mark.parametrize("sound", [True, False])
def test_tests_that_fail_without_a_fault_are_an_error(copy, sound):
    if sound:
        planted_faults.check_sound([FAULT], [copy])
    else:
        (copy / "tests/test_x.py").write_text(TEST.replace("== 3", "== 4"))
        with pytest.raises(TableError, match=r"without a fault pytest ended with 1"):
            planted_faults.check_sound([FAULT], [copy])


def test_the_summary_names_what_was_not_killed():
    outcomes = [
        {"file": "nets/a.py", "wrong": "One.", "outcome": "killed", "tier": "slow", "reason": ""},
        {"file": "nets/a.py", "wrong": "Two.", "outcome": "survived", "tier": "", "reason": ""},
    ]
    text = planted_faults.summary(outcomes)
    assert "all rooms: 1 of 2 killed, 0 by the default tier alone" in text
    assert "survived: nets/a.py: Two. (no reason given)" in text
