"""The command line: `aejax run | report | ls | show | diff | encode | decode | sample | interpolate | traverse`.

A command imports heavy libraries only when it needs them. Exit codes: 0 done; 1 internal error; 2 config, usage or data
(nothing written); 3 finished, some runs failed; 4 results folder not usable; 5 environment; 130, 143 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from aejax import __version__
from aejax.runtime.errors import AejaxError, ConfigError
from aejax.runtime.signals import STOPPED, Interrupted, SignalHandler

DESCRIPTION = "Train autoencoders and compare every one of them with exact PCA on the same data."
EPILOG = """examples:
  aejax run experiments/quickstart.py              train everything in a file; tables and figures in results/quickstart
  aejax run my.py --set epochs=50 --set hyper.l2=0,0.001 --results tries
  aejax encode results/quickstart/runs/RUN_ID new_rows.npy codings.npy
  aejax decode results/quickstart/runs/RUN_ID codings.npy reconstructions.npy
  aejax sample results/faces/RUN_ID --density mixture --images 100 --out faces.png

Experiment files are Python and are run as such: run only those you trust. Nothing else aejax reads is executed."""

_FLAG: dict[str, Any] = {"action": "store_true"}
_COUNT: dict[str, Any] = {"type": int, "metavar": "N"}


class _Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError("command line", message, f"see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="aejax", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"aejax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_run(commands)

    encode = _add_command(commands, "encode", "write codings of new data by a stored run", data=True)
    encode.add_argument(
        "source", metavar="DATA", help="The rows: a .npy, .npz or .csv file, a folder of images, or DATASET[:SPLIT]."
    )
    encode.add_argument("out", type=Path, metavar="OUT.npy", help="The file to write: float32, (n, codings).")
    decode = _add_command(commands, "decode", "write reconstructions from codings by a stored run")
    decode.add_argument("source", type=Path, metavar="CODINGS", help="The codings: a .npy file, (n, codings).")
    text = "The file to write: float32, in raw units, in the shape of the run's data."
    decode.add_argument("out", type=Path, metavar="OUT.npy", help=text)
    _add_generators(commands)

    report = _add_command(commands, "report", "rebuild summary and figures from stored runs", run=())
    report.add_argument("folder", type=Path, help="The results folder of an experiment: results/EXPERIMENT.")
    ls = _add_command(commands, "ls", "list experiments, or the runs of one", run=())
    text = "The folder to list: results, or results/EXPERIMENT (default: results)."
    ls.add_argument("path", type=Path, nargs="?", default="results", help=text)
    text = "Sort runs by a column or a field of their rows; --sort=-FIELD sorts downwards."
    ls.add_argument("--sort", metavar="FIELD", help=text)
    ls.add_argument("--status", metavar="STATUS", help="List only completed, failed, diverged or damaged runs.")
    ls.add_argument("--json", **_FLAG, help="Print strict JSON.")
    show = _add_command(commands, "show", "print everything stored of a run")
    show.add_argument("--json", **_FLAG, help="Print strict JSON.")
    text = "print in what two runs differ: fields, metrics, parameters"
    _add_command(commands, "diff", text, run=("first", "second"))
    return parser


def _add_command(commands: Any, name: str, text: str, *, run: Sequence[str] = ("run",), data: bool = False) -> _Parser:
    """Add a command. `run` names its arguments that are a stored run; with `data` it reads datasets."""
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    if data:
        folder_help = "Read datasets from this folder, and download them into it (default: the folder of TFDS)."
        command.add_argument("--data-dir", type=Path, metavar="DIR", help=folder_help)
    command.add_argument("--debug", **_FLAG, help="Show the traceback of an error.")
    run_help = "The stored run: its folder, or results/EXPERIMENT/ID. The beginning of the ID is enough."
    for argument in run:
        command.add_argument(argument, type=Path, metavar="RUN", help=run_help)
    return command


def _add_run(commands: Any) -> None:
    """Add `run`."""
    run = _add_command(commands, "run", "train everything in an experiment file", run=(), data=True)
    add = run.add_argument
    add("experiment", type=Path, help="The Python file that ends in SWEEPS = [Sweep(...), ...].")
    text = "Change a field of every sweep, e.g. epochs=50, seeds=0,1,2, activation=relu, hyper.l2=0,0.001."
    add("--set", action="append", default=[], metavar="FIELD=VALUE", dest="assignments", help=text)
    add("--smoke", **_FLAG, help="Train a small part of everything, to test that it runs.")
    add("--results", type=Path, default="results", metavar="DIR", help="Write into DIR/EXPERIMENT (default: results).")
    add("--again", **_FLAG, help="Train runs again that are stored already.")
    add("--dry-run", **_FLAG, help="Print the plan and train nothing: programs, members, memory, stored runs.")
    text = """Choose how the members of a sweep are trained. vmap: together in one program. map: one after another in
        one program, with the bits of a run alone. loop: one program call per member. data: each alone, its batches
        split over the devices. auto (default): the fastest in a short measurement."""
    add("--how", default="auto", choices=("auto", "vmap", "map", "loop", "data"), help=text)
    add("--width", **_COUNT, help="Train N members together under vmap (default: measured).")
    text = "Save the state in training this often (default: as often as 2 %% of the time allows)."
    add("--save-every", type=float, metavar="SECONDS", help=text)
    add("--tensorboard", **_FLAG, help="Also write TensorBoard events, into DIR/EXPERIMENT/tensorboard.")

    add = run.add_argument_group("training on other processes, one task per sweep").add_argument
    text = """Train in this process (here, the default), in a pool of processes on this machine, or on a Ray cluster
        (pip install 'aejax[ray]')."""
    add("--on", default="here", choices=("here", "pool", "ray"), help=text)
    add("--workers", **_COUNT, help="Start N processes in the pool (default: one per core).")
    text = "Connect to the Ray cluster at this address (default: the one that `ray start` started on this machine)."
    add("--ray-address", metavar="HOST:PORT", help=text)
    add("--cpus-per-task", **_COUNT, help="Give each Ray task N CPUs and as many threads (default: 1).")
    text = "Give each Ray task N GPUs (default: 1 where JAX uses a GPU in this process, else 0)."
    add("--gpus-per-task", **_COUNT, help=text)

    add = run.add_argument_group("several processes that form one job (jax.distributed)").add_argument
    text = "Meet the other processes here: the address that the first process listens on."
    add("--coordinator", metavar="HOST:PORT", help=text)
    add("--processes", **_COUNT, help="The number of processes in the job.")
    text = "The number of this process, from 0; process 0 writes the results."
    add("--process", type=int, metavar="I", help=text)


def _add_generators(commands: Any) -> None:
    """Add `sample`, `interpolate` and `traverse`."""
    out_text = """Write a picture (FILE.png, for images), a table in raw units (FILE.csv, for other rows) or an array in
        raw units (FILE.npy)."""
    text = "draw codings from a density of a stored run and decode them"
    sample = _add_command(commands, "sample", text)
    sample.add_argument("--images", **_COUNT, default=60, help="Draw N rows (default: 60).")
    text = """Draw from the prior, gaussian or mixture density (default: the first of prior, mixture and gaussian that
        the run has)."""
    sample.add_argument("--density", dest="kind", metavar="KIND", help=text)
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="Set the seed of the draws (default: 0).")
    sample.add_argument("--noise", **_FLAG, help="Sample from the likelihood of a variational run instead of its mean.")
    sample.add_argument("--out", type=Path, metavar="FILE", help=out_text)

    text = "decode codings between those of two test rows, by a stored run"
    interpolate = _add_command(commands, "interpolate", text, data=True)
    interpolate.add_argument(
        "rows", type=int, nargs="*", metavar="ROW", help="Pairs of numbers of test rows (default: 0 1 2 3 4 5 6 7)."
    )
    interpolate.add_argument(
        "--steps", **_COUNT, default=8, help="Decode N rows per pair, including both ends (default: 8)."
    )
    text = "Follow an arc instead of a straight line (default: only for a variational run)."
    interpolate.add_argument("--spherical", action=argparse.BooleanOptionalAction, default=None, help=text)
    interpolate.add_argument("--out", type=Path, metavar="FILE", help=out_text)

    text = "decode codings with one coding varied at a time, by a stored run"
    traverse = _add_command(commands, "traverse", text, data=True)
    text = "Vary these codings, counted from 0 (default: all, at most the 32 with the largest spread)."
    traverse.add_argument("--codings", type=int, nargs="+", default=(), metavar="I", help=text)
    traverse.add_argument(
        "--row", type=int, metavar="ROW", help="Keep the other codings at this test row's (default: at their means)."
    )
    traverse.add_argument("--out", type=Path, metavar="FILE", help=out_text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. An error is one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run_command(build_parser().parse_args(arguments))
    except AejaxError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"aejax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Interrupted) as stop:
        print(STOPPED, file=sys.stderr)
        return stop.exit_code if isinstance(stop, Interrupted) else 130
    except BrokenPipeError:
        return 0


def _run_command(options: argparse.Namespace) -> int:
    """Run the command that the options name and return its exit code."""
    match options.command:
        case "run":
            with SignalHandler() as signals:
                return _run(options, signals)
        case "encode":
            from aejax.inference import stored_run

            z_nk = stored_run.encode(options.run, options.source, data_dir=options.data_dir, out=options.out)
            print(f"{options.out}: codings {z_nk.shape}")
        case "decode":
            from aejax.inference import stored_run

            reconstructions = stored_run.decode(options.run, options.source, out=options.out)
            print(f"{options.out}: reconstructions {reconstructions.shape}")
        case "sample" | "interpolate" | "traverse":
            from aejax.inference import generate

            arguments = {name: value for name, value in vars(options).items() if name not in ("command", "debug")}
            path, rows = getattr(generate, options.command)(**arguments)
            print(f"{path}: rows {rows.shape}")
        case "report":
            from aejax.reporting import summary

            for path in summary.rebuild(options.folder, lambda text: print(f"aejax: warning: {text}", file=sys.stderr)):
                print(path)
        case "ls":
            from aejax.cli import listing

            listing.list_path(options.path, sort=options.sort, status=options.status, as_json=options.json)
        case "show":
            from aejax.cli import details

            details.show(options.run, options.json)
        case "diff":
            from aejax.cli import details

            details.diff(options.first, options.second)
    return 0


def _run(options: argparse.Namespace, signals: SignalHandler) -> int:
    """Train an experiment, or show its plan."""
    from aejax.cli import progress
    from aejax.config import experiment_file, overrides
    from aejax.reporting import tensorboard
    from aejax.runner import remote, run_experiment
    from aejax.runtime import distributed, hardware, validate

    if options.width is not None:
        validate.whole_number("--width", options.width, minimum=1)
    if options.save_every is not None:
        validate.number("--save-every", options.save_every)
    places = {"workers": "pool", "ray_address": "ray", "cpus_per_task": "ray", "gpus_per_task": "ray"}
    for option, place in places.items():
        if getattr(options, option) is not None and options.on != place:
            raise ConfigError(f"--{option.replace('_', '-')}", f"given with --on {options.on}", f"add --on {place}")
    on = None
    if options.on == "pool":
        on = remote.Pool(options.workers)
    if options.on == "ray":
        cpus = 1 if options.cpus_per_task is None else options.cpus_per_task
        on = remote.Ray(options.ray_address or "auto", cpus, options.gpus_per_task)
    name, sweeps = experiment_file.load(options.experiment)
    sweeps = overrides.override(sweeps, options.assignments)
    hardware.use_one_device_per_core()
    distributed.join(options.coordinator, options.processes, options.process)
    signals.install()
    hardware.device_name()  # raises MachineError where there is no device
    folders = {"root": options.results, "data_dir": options.data_dir, "smoke": options.smoke}
    if options.dry_run:
        progress.show_plan(run_experiment.plan(name, sweeps, **folders))
        return 0
    training = {"again": options.again, "how": options.how, "width": options.width, "save_seconds": options.save_every}
    source = remote.Source(options.experiment, tuple(options.assignments))
    with progress.TerminalProgress(signals.raise_if_interrupted, quiet=not distributed.is_first_process()) as terminal:
        if options.tensorboard:
            terminal.live = tensorboard.Live(options.results / (f"{name}-smoke" if options.smoke else name))
        outcome = run_experiment.execute(
            name, sweeps, **folders, **training, listener=terminal, on=on, source=source, events=options.tensorboard
        )
    if not distributed.is_first_process():
        return 0
    terminal.summarise(outcome)
    for row in outcome.failed:
        described = f"{row['label']} {row['codings']}, seed {row['seed']}, {row['hyper']}"
        print(f"aejax: {row['status']}: {described}: {row['reason']}", file=sys.stderr)
    return 3 if outcome.failed else 0
