"""Kill a sweep with SIGKILL at random moments, restart it each time until it ends, and compare with an unkilled sweep.

After every kill, all finished runs must still be there, untouched. At the end, every row and every parameter must be
bit for bit that of the sweep that was not killed, and no stored run may have been trained again: every block of runs
notes which runs it trains. A state is saved after every chunk, so that most kills leave one to resume from.

    python tests/kills.py --kills 50 --out results/kills
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import unrendered
from logged import Logged

SWEEP = """
from aejax.training import loop
from aejax import Sweep
COMMON = {{"dataset": "digits", "epochs": {epochs}, "batch_size": 50, "seeds": (0, 1)}}
SWEEPS = [
    Sweep(**COMMON, widths=(24, 6), tied=tied, hyper={{"learning_rate": (0.003, 1e30), "l2": 0.0, "codings": (2, 6)}})
    for tied in (False, True)
] + [Sweep(**COMMON, widths=(8,), hyper={{"learning_rate": (0.01, 0.003), "l2": 0.001}})]
"""
VARYING_FIELDS = ("compile_seconds", "train_seconds", "score_seconds", "pca_seconds", "provenance", "execution")
"""Fields of a row that differ from one call to the next."""
RUNS = 20
"""Runs of SWEEP."""
KILLS_PER_SWEEP = 10
NOTE_BLOCKS = "--note-blocks"
"""First argument of this script when it runs aejax and notes the blocks that it trains."""
NOTING = (sys.executable, __file__, NOTE_BLOCKS)
"""The beginning of its command line then."""
NOTES = "trained.jsonl"
PHASES = ("starting", "compiling the first", "training", "between programs")


def start(
    experiment: Path,
    results: Path,
    *,
    save_every: float = 0,
    how: str = "auto",
    program: Sequence[str] = unrendered.AEJAX,
) -> Logged:
    """Start the sweep in another process of this program."""
    command = [*program, "run", str(experiment), "--results", str(results), "--how", how]
    command += ["--save-every", str(save_every)]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background process ignores SIGINT, and so would its child
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return Logged(command)


def run_and_note_blocks(arguments: Sequence[str]) -> int:
    """Run `aejax`. After the first chunk of each block, note the runs of the block in the results folder."""
    from aejax.runner import train_job
    from aejax.training import loop

    train_block = loop.train_block
    train_members = train_job._train_block
    block = {}

    def train_noted_members(job, context, choice, members, missing):
        block["folder"] = context.folder
        block["ids"] = [member.run_id for member in members]
        block["stored"] = [run_id for run_id in block["ids"] if run_id not in missing]
        return train_members(job, context, choice, members, missing)

    def train_noted_block(*arguments, report, **options):
        is_noted = False

        def note_and_report(progress):
            nonlocal is_noted
            if not is_noted:
                is_noted = True
                note = {"pid": os.getpid(), "trained": block["ids"], "stored": block["stored"], "step": progress.step}
                with (block["folder"].parent / NOTES).open("a") as notes:
                    notes.write(json.dumps(note) + "\n")
            report(progress)

        return train_block(*arguments, report=note_and_report, **options)

    train_job._train_block = train_noted_members
    loop.train_block = train_noted_block
    return unrendered.main(arguments)


def finished(folder: Path) -> dict[str, tuple]:
    """The inodes, times and sizes of the files of every finished run, which change if the run is touched."""
    files = {}
    for run in sorted(folder.glob("runs/[!.]*")):
        stats = [(path.name, path.stat()) for path in sorted(run.iterdir())]
        files[run.name] = tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
    return files


def contents(folder: Path) -> dict[str, tuple]:
    """The row, without VARYING_FIELDS, and the parameters of every run."""
    runs = {}
    for run in sorted(folder.glob("runs/[!.]*")):
        row = json.loads((run / "run.json").read_text())
        kept = json.dumps({name: value for name, value in row.items() if name not in VARYING_FIELDS}, sort_keys=True)
        runs[run.name] = (kept, (run / "parameters.safetensors").read_bytes())
    return runs


def phase(folder: Path, process: subprocess.Popen) -> str:
    """The phase of a sweep, from its lock file, the blocks that it has noted and its saved states."""
    try:
        record = json.loads((folder / ".lock").read_bytes())
    except (OSError, ValueError):
        return PHASES[0]
    if record["pid"] != process.pid:
        return PHASES[0]
    notes = folder.parent / NOTES
    if not notes.exists() or f'{{"pid": {process.pid}, ' not in notes.read_text():
        return PHASES[1]
    return PHASES[2 if any(folder.glob("states/*/*/manifest.json")) else 3]


def kill(folder: Path, process: subprocess.Popen, wanted: Collection[str], seconds: float) -> str | None:
    """Kill the sweep `seconds` after it reaches one of the `wanted` phases.

    Returns the phase in which it was killed, None if it ended before.
    """
    while phase(folder, process) not in wanted and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    phase_killed = phase(folder, process)
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    return phase_killed


def torture(home: Path, kills: int, epochs: int, seed: int = 0, ways: Sequence[str] = ("auto",)) -> dict[str, object]:
    """Kill sweeps `kills` times, and start a new one whenever one ends. Raises AssertionError if a promise is broken.

    Every second kill comes soon after a state is saved, the others at any time from taking the lock to the end of the
    whole sweep. After KILLS_PER_SWEEP kills a sweep may end, and the next sweep uses the next of `ways`.
    """
    experiment = home / "killed.py"
    experiment.write_text(SWEEP.format(epochs=epochs))
    expected = {}
    longest = 0.0
    for how in ways:
        folder = home / f"alone-{how}" / "killed"
        unkilled = start(experiment, folder.parent, how=how, program=NOTING)
        while phase(folder, unkilled) == PHASES[0] and unkilled.poll() is None:
            time.sleep(0.005)
        began = time.monotonic()
        errors = unkilled.messages()
        assert unkilled.returncode == 3, errors  # some members diverge, which is a result too
        longest = max(longest, time.monotonic() - began)
        expected[how] = contents(folder)
        assert len(expected[how]) == RUNS
    rng = random.Random(seed)
    done = 0
    sweeps = 0
    resumable = 0
    blocks = 0
    phases: Counter[str] = Counter()
    while done < kills or sweeps == 0:
        how = ways[sweeps % len(ways)]
        results = home / f"killed-{sweeps}"
        folder = results / "killed"
        before = {}
        last = min(kills, done + KILLS_PER_SWEEP)
        while True:
            process = start(experiment, results, how=how, program=NOTING)
            phase_killed = None
            if done < last:
                is_early = done % 2 == 0
                early_seconds = rng.uniform(0, 1) ** 2 * epochs / 150  # small values are the most likely
                seconds = early_seconds if is_early else rng.uniform(0, min(longest, 12.0))
                phase_killed = kill(folder, process, ("training",) if is_early else PHASES[1:], seconds)
            errors = process.messages()
            after = finished(folder)
            changed = {run_id for run_id in before if before[run_id] != after.get(run_id)}
            assert not changed, f"touched after they were finished: {changed}"
            before = after
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 3, errors
                break
            assert phase_killed is not None
            done += 1
            phases[phase_killed] += 1
            resumable += any(folder.glob("states/*/*"))
        assert contents(folder) == expected[how], "rows or parameters differ from those of the unkilled sweep"
        assert len((folder / "runs.jsonl").read_text().splitlines()) == RUNS
        leftovers = [path.name for path in (*folder.glob("runs/.*"), *folder.glob("states/*"))]
        assert not leftovers, f"left over: {leftovers}"
        notes = [json.loads(line) for line in (results / NOTES).read_text().splitlines()]
        blocks += len(notes)
        assert {run_id for note in notes for run_id in note["trained"]} == set(contents(folder))
        repeated = [note for note in notes if note["stored"]]
        assert not repeated, f"trained although they were stored: {repeated}"
        sweeps += 1
    record = {"kills": done, "sweeps": sweeps, "kills_that_left_a_state": resumable, "runs_each": RUNS, "lost": 0}
    record |= {"blocks_begun_or_gone_on_with": blocks, "stored_runs_trained_again": 0}
    return {**record, "phases": dict(sorted(phases.items())), "ways": list(ways)}


def main() -> None:
    """Kill sweeps, and print or write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=["auto", "vmap"], help="values of --how, used in turn")
    parser.add_argument("--out", type=Path, help="folder for kills.json")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as home:
        record = torture(Path(home), options.kills, options.epochs, options.seed, options.ways)
    from aejax.runtime import hardware
    from aejax.storage import provenance
    from support import write_record

    hardware.use_one_device_per_core()  # as the sweeps do, for the provenance
    record |= {"seed": options.seed, "epochs": options.epochs, "provenance": provenance.describe("default", "")}
    write_record(record, options.out, "kills")


if __name__ == "__main__":
    if sys.argv[1:2] == [NOTE_BLOCKS]:
        sys.exit(run_and_note_blocks(sys.argv[2:]))
    main()
