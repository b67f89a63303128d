"""The command line: `aejax run | encode | decode | report`.

Nothing heavy is imported before a command needs it. Exit codes: 0 done; 1 internal error; 2 config, usage or data
(nothing written); 3 finished, some runs failed; 4 results folder not usable; 5 environment; 130, 143 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from aejax import __version__
from aejax.errors import AejaxError, ConfigError
from aejax.interrupt import Interrupted, Interrupts

DESCRIPTION = "Train autoencoders and hold every one of them against exact PCA on the same data."
EPILOG = """examples:
  aejax run experiments/quickstart.py              train everything in a file; tables and figures in results/quickstart
  aejax run my.py --set epochs=50 --set hyper.l2=0,0.001 --results tries
  aejax encode results/quickstart/runs/RUN_ID new_rows.npy codings.npy
  aejax decode results/quickstart/runs/RUN_ID codings.npy reconstructions.npy

Experiment files are Python and are run as such: run only those you trust. Nothing else aejax reads is executed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError("command line", message, f"see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="aejax", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"aejax {__version__}")
    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show the traceback of an error")
    data = _Parser(add_help=False)
    data.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder that holds or gets datasets (default: TFDS's own)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", parents=[data, debug], help="train everything in an experiment file")
    run.add_argument("experiment", type=Path, help="a Python file that ends in SWEEPS = [Sweep(...), ...]")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change a field of every sweep, e.g. epochs=50, seeds=0,1,2, activation=relu, hyper.l2=0,0.001",
    )
    run.add_argument("--smoke", action="store_true", help="a small part of everything, to see that it runs")
    run.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="results folder (results)")
    run.add_argument("--again", action="store_true", help="train runs anew that are stored already")

    for name, source, text in (
        ("encode", "DATA", "codings of new data by a stored run, as an (n, codings) float32 .npy"),
        ("decode", "CODINGS", "reconstructions from an (n, codings) .npy, in the units and shape of the run's data"),
    ):
        command = commands.add_parser(name, parents=[data, debug] if name == "encode" else [debug], help=text)
        command.add_argument("run", type=Path, metavar="RUN", help="run folder: results/EXPERIMENT/runs/RUN_ID")
        command.add_argument(
            "source",
            metavar=source,
            help="a .npy, .npz, .csv, folder of images, or dataset[:split]" if name == "encode" else "a .npy file",
        )
        command.add_argument("out", type=Path, metavar="OUT.npy")

    report = commands.add_parser("report", parents=[debug], help="rebuild summary and figures from stored runs")
    report.add_argument("folder", type=Path, help="results/EXPERIMENT")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors are one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        options = build_parser().parse_args(arguments)
        command = {"run": _run, "encode": _encode, "decode": _decode, "report": _report}[options.command]
        return command(options)
    except AejaxError as error:
        if debug:
            traceback.print_exc()
        print(f"aejax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Interrupted) as stop:
        print("aejax: interrupted; finished runs are kept, the same command goes on from there", file=sys.stderr)
        return stop.exit_code if isinstance(stop, Interrupted) else 130
    except BrokenPipeError:
        return 0


def _run(options: argparse.Namespace) -> int:
    from aejax import experiment, runner, sweep
    from aejax.progress import TerminalWatcher

    name, sweeps = experiment.load(options.experiment)
    sweeps = sweep.override(sweeps, options.assignments)
    with Interrupts() as interrupts, TerminalWatcher(interrupts.check) as watcher:
        outcome = runner.execute(
            name,
            sweeps,
            root=options.results,
            data_dir=options.data_dir,
            smoke=options.smoke,
            again=options.again,
            watcher=watcher,
        )
    watcher.summarise(outcome)
    for row in outcome.failed:
        name = f"{row['label']} {row['codings']}, seed {row['seed']}, {row['hyper']}"
        print(f"aejax: {row['status']}: {name}: {row['reason']}", file=sys.stderr)
    return 3 if outcome.failed else 0


def _encode(options: argparse.Namespace) -> int:
    from aejax import stored

    codings = stored.encode(options.run, options.source, data_dir=options.data_dir, out=options.out)
    print(f"{options.out}: codings {codings.shape}")
    return 0


def _decode(options: argparse.Namespace) -> int:
    from aejax import stored

    reconstructions = stored.decode(options.run, Path(options.source), out=options.out)
    print(f"{options.out}: reconstructions {reconstructions.shape}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from aejax import runner

    for path in runner.rebuild(options.folder):
        print(path)
    return 0
