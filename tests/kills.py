"""Kill a sweep with SIGKILL at random moments, start it again each time until it ends, and compare with one left alone.

After every kill: what was finished is still there, untouched. At the end: every row and every parameter is bit for bit
that of the sweep that nobody killed. A state is saved after every chunk, so that most kills find one to go on from.

No run that is stored is trained again: every block says whom it trains, once it has.

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

SWEEP = """
from aejax.training import loop
from aejax import Sweep
COMMON = {{"dataset": "digits", "epochs": {epochs}, "batch_size": 50, "seeds": (0, 1)}}
SWEEPS = [
    Sweep(**COMMON, widths=(24, 6), tied=tied, hyper={{"learning_rate": (0.003, 1e30), "l2": 0.0, "codings": (2, 6)}})
    for tied in (False, True)
] + [Sweep(**COMMON, widths=(8,), hyper={{"learning_rate": (0.01, 0.003), "l2": 0.001}})]
"""
OF_THE_MOMENT = ("compile_seconds", "train_seconds", "score_seconds", "pca_seconds", "provenance", "execution")
RUNS, PER_SWEEP = 20, 10
WATCHED, NOTES = "--watched", "trained.jsonl"
PHASES = ("starting", "compiling the first", "training", "between programs")


def start(experiment: Path, results: Path, *, save_every: float = 0, how: str = "auto") -> subprocess.Popen:
    """The sweep in a process of its own."""
    command = [sys.executable, __file__, WATCHED, "run", str(experiment), "--results", str(results), "--how", how]
    command += ["--save-every", str(save_every)]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as for what runs in the background; it would be inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def watched(arguments: Sequence[str]) -> int:
    """`aejax` with these arguments, noting in its results folder whom each block has trained, once for each block."""
    from aejax import cli
    from aejax.runner import train_job
    from aejax.training import loop

    train_block, train_members, at = loop.train_block, train_job._train_block, {}

    def note_members(job, context, choice, members, missing):
        at["folder"], at["ids"] = context.folder, [member.run_id for member in members]
        at["stored"] = [name for name in at["ids"] if name not in missing]
        return train_members(job, context, choice, members, missing)

    def note_chunk(*given, report, **options):
        told = []

        def first(progress):
            if not told:
                told.append(True)
                line = json.dumps({"trained": at["ids"], "stored": at["stored"], "step": progress.step})
                with (at["folder"].parent / NOTES).open("a") as notes:
                    notes.write(line + "\n")
            report(progress)

        return train_block(*given, report=first, **options)

    train_job._train_block, loop.train_block = note_members, note_chunk
    return cli.main(arguments)


def finished(folder: Path) -> dict[str, tuple]:
    """What says that a finished run has not been touched: its files' inodes, times and sizes."""
    found = {}
    for run in sorted(folder.glob("runs/[!.]*")):
        stats = [(path.name, path.stat()) for path in sorted(run.iterdir())]
        found[run.name] = tuple((name, one.st_ino, one.st_mtime_ns, one.st_size) for name, one in stats)
    return found


def contents(folder: Path) -> dict[str, tuple]:
    """Row, less what is of the moment, and parameters of every run."""
    found = {}
    for run in sorted(folder.glob("runs/[!.]*")):
        row = json.loads((run / "run.json").read_text())
        kept = json.dumps({name: value for name, value in row.items() if name not in OF_THE_MOMENT}, sort_keys=True)
        found[run.name] = (kept, (run / "parameters.safetensors").read_bytes())
    return found


def phase(folder: Path, process: subprocess.Popen) -> str:
    """What a sweep is at, by what its lock says of its own work and by the states there are."""
    try:
        record = json.loads((folder / ".lock").read_bytes())
    except (OSError, ValueError):
        return PHASES[0]
    if record["pid"] != process.pid:
        return PHASES[0]
    if record["kept_seconds"] + record["unsaved_seconds"] == 0:
        return PHASES[1]
    return PHASES[2 if any(folder.glob("states/*/*/manifest.json")) else 3]


def kill(folder: Path, process: subprocess.Popen, wanted: Collection[str], seconds: float) -> str | None:
    """Kill it so many seconds after it has come to one of these phases.

    Returns the phase that it was at then, None when it had ended.
    """
    while phase(folder, process) not in wanted and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    at = phase(folder, process)
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    return at


def torture(home: Path, kills: int, epochs: int, seed: int = 0, ways: Sequence[str] = ("auto",)) -> dict[str, object]:
    """Kill until it has been done `kills` times, starting new sweeps when one ends. Raises AssertionError.

    Every second kill comes soon after the process has saved a state, the others at any time from when
    it has the lock to when the whole sweep would end. After PER_SWEEP kills a sweep is left to end, and the next one is
    trained in the next of `ways`.
    """
    experiment = home / "killed.py"
    experiment.write_text(SWEEP.format(epochs=epochs))
    expected, longest = {}, 0.0
    for how in ways:
        folder = home / f"alone-{how}" / "killed"
        left_alone = start(experiment, folder.parent, how=how)
        while phase(folder, left_alone) == PHASES[0] and left_alone.poll() is None:
            time.sleep(0.005)
        began = time.monotonic()
        _, err = left_alone.communicate()
        assert left_alone.returncode == 3, err  # some members diverge, and that is a result
        longest = max(longest, time.monotonic() - began)
        expected[how] = contents(folder)
        assert len(expected[how]) == RUNS
    rng, done, sweeps, resumed, blocks = random.Random(seed), 0, 0, 0, 0
    phases: Counter[str] = Counter()
    while done < kills or sweeps == 0:
        how, results, before = ways[sweeps % len(ways)], home / f"killed-{sweeps}", {}
        folder = results / "killed"
        last = min(kills, done + PER_SWEEP)
        while True:
            process, at = start(experiment, results, how=how), None
            if done < last:
                aimed = done % 2 == 0
                soon = rng.uniform(0, 1) ** 2 * epochs / 150  # mostly sooner than that
                seconds = soon if aimed else rng.uniform(0, min(longest, 12.0))
                at = kill(folder, process, ("training",) if aimed else PHASES[1:], seconds)
            _, err = process.communicate()
            after = finished(folder)
            changed = {name for name in before if before[name] != after.get(name)}
            assert not changed, f"touched after they were finished: {changed}"
            before = after
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 3, err
                break
            assert at is not None
            done, phases[at] = done + 1, phases[at] + 1
            resumed += any(folder.glob("states/*/*"))
        assert contents(folder) == expected[how], "rows or parameters differ from those of the sweep left alone"
        assert len((folder / "runs.jsonl").read_text().splitlines()) == RUNS
        left = [path.name for path in (*folder.glob("runs/.*"), *folder.glob("states/*"))]
        assert not left, f"left behind: {left}"
        notes = [json.loads(line) for line in (results / NOTES).read_text().splitlines()]
        blocks += len(notes)
        assert {name for note in notes for name in note["trained"]} == set(contents(folder))
        again = [note for note in notes if note["stored"]]
        assert not again, f"trained although they were stored: {again}"
        sweeps += 1
    record = {"kills": done, "sweeps": sweeps, "kills_that_left_a_state": resumed, "runs_each": RUNS, "lost": 0}
    record |= {"blocks_begun_or_gone_on_with": blocks, "stored_runs_trained_again": 0}
    return {**record, "phases": dict(sorted(phases.items())), "ways": list(ways)}


def main() -> None:
    """Torture, and print or write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=["auto", "vmap"], help="values of --how, in turn")
    parser.add_argument("--out", type=Path, help="folder for kills.json")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as home:
        record = torture(Path(home), options.kills, options.epochs, options.seed, options.ways)
    from aejax.runtime import hardware
    from aejax.storage import provenance
    from support import write_record

    hardware.use_one_device_per_core()  # as the sweeps have done
    record |= {"seed": options.seed, "epochs": options.epochs, "provenance": provenance.describe("default", "")}
    write_record(record, options.out, "kills")


if __name__ == "__main__":
    if sys.argv[1:2] == [WATCHED]:
        sys.exit(watched(sys.argv[2:]))
    main()
