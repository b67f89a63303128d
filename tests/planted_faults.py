"""Plant small faults in the science, one at a time, and see which of them the tests notice.

    python tests/planted_faults.py [--room training] [--only 3 17] [--jobs 2] [--record FILE.json]

`planted_faults.toml` holds the faults: a file, a text that stands in it exactly once, what replaces it, what is wrong
then, and the tests that should fail. Each fault is planted in a temporary copy of the checkout, never in the checkout
itself. A fault is killed when one of its tests fails, and survives when all of them pass. The default
tier runs first; the slow tier runs where it sees nothing.

Before any fault is planted, the default tier of all named files runs on a copy as it is. A slow test that saw a fault
runs once more without it. So a test that fails anyway kills nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

CHECKOUT = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".toml")
COPIED = ("aejax", "tests", "experiments", "results", "pyproject.toml", "README.md")
TIMEOUT_SECONDS = 900
KILLED = "killed"
SURVIVED = "survived"
UNDECIDED = "undecided"
TIERS = ("not slow", "slow")
"""The default tier and the slow one, as pytest selects them."""
NO_TESTS = 5
"""pytest's exit code where no test is left."""


def room_of(file: str) -> str:
    """The folder below `aejax/` that a file is in."""
    return file.split("/")[0]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        file: the file below `aejax/` that it is planted in.
        text: what stands in that file exactly once.
        replacement: what stands there instead.
        wrong: what the code does wrong then.
        tests: the tests that should fail, as pytest names them.
        reason: why it may survive; empty for a fault that must be killed.
    """

    file: str
    text: str
    replacement: str
    wrong: str
    tests: tuple[str, ...]
    reason: str = ""

    @property
    def room(self) -> str:
        """The folder below `aejax/`."""
        return room_of(self.file)


class TableError(Exception):
    """A fault of the table cannot be planted."""


def read_table(path: Path = TABLE) -> list[Fault]:
    """The faults of the table."""
    entries = tomllib.loads(path.read_text())["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def planted(source: str, fault: Fault) -> str:
    """The source with the fault in it. Raises TableError unless the text stands in it exactly once."""
    count = source.count(fault.text)
    if count != 1:
        raise TableError(f"{fault.file}: found {count} times, expected once: {fault.text!r}")
    if fault.text == fault.replacement:
        raise TableError(f"{fault.file}: replaced by itself: {fault.text!r}")
    return source.replace(fault.text, fault.replacement)


def check_table(faults: Sequence[Fault], checkout: Path = CHECKOUT) -> None:
    """Raise TableError for the first fault that cannot be planted or that names a test file which is not there."""
    for fault in faults:
        planted((checkout / "aejax" / fault.file).read_text(), fault)
        for test in fault.tests:
            if not (checkout / "tests" / test.split("::")[0]).is_file():
                raise TableError(f"{fault.file}: no such test file: tests/{test.split('::')[0]}")


def copy_checkout(target: Path) -> Path:
    """Copy what the tests need to a new folder, and link the data beside it."""
    copy = target / "checkout"
    copy.mkdir(parents=True)
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    shared = CHECKOUT.parent / "shared"
    if shared.exists():
        (target / "shared").symlink_to(shared)
    return copy


def run_tests(
    copy: Path, tests: Sequence[str], *options: str, timeout: float | None = TIMEOUT_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run these tests in that copy. Programs that XLA has compiled are kept beside the copies."""
    targets = [f"tests/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=line", *options, *targets]
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(copy.parents[1] / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def failed_test(output: str) -> str:
    """The name of the first failed test in pytest's closing lines."""
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            name, _, _ = line.partition(" - ")
            return name.split(maxsplit=1)[1].removeprefix("tests/")
    return "?"


def run_tiers(copy: Path, tests: Sequence[str]) -> dict[str, str]:
    """What came of the tests: the outcome, the test or the problem that decided it, and the tier that it is in.

    The slow tier runs only where no test of the default tier fails.
    """
    ran = False
    for tier in TIERS:
        done = run_tests(copy, tests, "-n", "0", "-x", "-m", tier)
        if done.returncode == 1:
            return {"outcome": KILLED, "by": failed_test(done.stdout), "tier": tier}
        if done.returncode not in (0, NO_TESTS):
            return {"outcome": UNDECIDED, "by": done.stdout[-300:], "tier": tier}
        ran = ran or done.returncode == 0
    return {"outcome": SURVIVED if ran else UNDECIDED, "by": "" if ran else "no test found", "tier": ""}


def try_fault(copy: Path, fault: Fault) -> dict[str, object]:
    """Plant the fault in the copy, run its tests, and take it out again. Returns the fault and what came of it.

    It is undecided where pytest did not end in time or could not run, where no test was found, and where the slow test
    that failed also fails without the fault.
    """
    path = copy / "aejax" / fault.file
    source = path.read_text()
    path.write_text(planted(source, fault))
    start = time.monotonic()
    try:
        result = run_tiers(copy, fault.tests)
    except subprocess.TimeoutExpired:
        result = {"outcome": UNDECIDED, "by": f"no end within {TIMEOUT_SECONDS} s", "tier": ""}
    finally:
        path.write_text(source)
    if (result["outcome"], result["tier"]) == (KILLED, TIERS[1]):
        sound = run_tests(copy, [result["by"]], "-n", "0", "-m", TIERS[1])
        if sound.returncode:
            result = {**result, "outcome": UNDECIDED, "by": f"{result['by']} fails without the fault, too"}
    return {**asdict(fault), **result, "seconds": round(time.monotonic() - start, 1)}


def try_all(faults: Sequence[Fault], copies: Sequence[Path]) -> list[dict[str, object]]:
    """Try every fault, one at a time in each of the copies; prints a line for each."""
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def try_one(fault: Fault) -> dict[str, object]:
        copy = free.get()
        try:
            outcome = try_fault(copy, fault)
        finally:
            free.put(copy)
        print(
            f"{outcome['outcome']:9} {outcome['seconds']:6} s  {fault.file}: {fault.wrong} {outcome['by']}", flush=True
        )
        return outcome

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(try_one, faults))


def check_sound(faults: Sequence[Fault], copies: Sequence[Path]) -> None:
    """Run the default tier of all named tests on a copy without a fault. Raises TableError where one does not pass."""
    tests = sorted({test for fault in faults for test in fault.tests})
    done = run_tests(copies[0], tests, "-n", str(len(copies)), "-m", TIERS[0], timeout=None)
    if done.returncode not in (0, NO_TESTS):
        raise TableError(f"without a fault pytest ended with {done.returncode}:\n{done.stdout[-2000:]}")


def summary(outcomes: Sequence[Mapping[str, object]]) -> str:
    """How many faults each room has, how many were killed, and all others with the reason that the table gives."""
    rooms = Counter(room_of(str(outcome["file"])) for outcome in outcomes)
    killed = Counter(room_of(str(outcome["file"])) for outcome in outcomes if outcome["outcome"] == KILLED)
    by_default = sum(outcome["tier"] == TIERS[0] for outcome in outcomes if outcome["outcome"] == KILLED)
    lines = [f"{room}: {killed[room]} of {count} killed" for room, count in sorted(rooms.items())]
    lines.append(f"all rooms: {killed.total()} of {rooms.total()} killed, {by_default} by the default tier alone")
    for outcome in outcomes:
        if outcome["outcome"] != KILLED:
            reason = outcome["reason"] or "(no reason given)"
            lines.append(f"{outcome['outcome']}: {outcome['file']}: {outcome['wrong']} {reason}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns 1 where a fault was not killed and the table gives no reason for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--room", help="only the faults of this room of aejax/")
    parser.add_argument("--only", type=int, nargs="+", help="only these faults, by their place in the table from 1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults tried at once")
    parser.add_argument("--check", action="store_true", help="only check that every fault can be planted")
    parser.add_argument("--record", type=Path, help="write what came of every fault to this JSON file")
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except TableError as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> int:
    """Check or try the faults that the options choose. Raises TableError."""
    faults = read_table()
    check_table(faults)
    if options.only is not None:
        faults = [faults[i - 1] for i in options.only]
    if options.room is not None:
        faults = [fault for fault in faults if fault.room == options.room]
    if options.check:
        print(f"{len(faults)} faults can be planted")
        return 0
    with tempfile.TemporaryDirectory(prefix="planted-faults-") as temporary:
        copies = [copy_checkout(Path(temporary) / str(i)) for i in range(options.jobs)]
        check_sound(faults, copies)
        outcomes = try_all(faults, copies)
    if options.record is not None:
        options.record.write_text(json.dumps(outcomes, indent=1, ensure_ascii=False) + "\n")
    print(summary(outcomes))
    return int(any(outcome["outcome"] != KILLED and not outcome["reason"] for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
