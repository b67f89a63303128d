"""The command line: `aejax run | report | ls | show | diff | encode | decode | sample | interpolate | traverse`.

Nothing heavy is imported before a command needs it. Exit codes: 0 done; 1 internal error; 2 config, usage or data
(nothing written); 3 finished, some runs failed; 4 results folder not usable; 5 environment; 130, 143 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aejax import __version__
from aejax.runtime.errors import AejaxError, ConfigError
from aejax.runtime.signals import STOPPED, Interrupted, SignalHandler

if TYPE_CHECKING:
    from aejax.runner import remote

DESCRIPTION = "Train autoencoders and hold every one of them against exact PCA on the same data."
EPILOG = """examples:
  aejax run experiments/quickstart.py              train everything in a file; tables and figures in results/quickstart
  aejax run my.py --set epochs=50 --set hyper.l2=0,0.001 --results tries
  aejax encode results/quickstart/runs/RUN_ID new_rows.npy codings.npy
  aejax decode results/quickstart/runs/RUN_ID codings.npy reconstructions.npy
  aejax sample results/faces/RUN_ID --density mixture --images 100 --out faces.png

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
    run.add_argument("--dry-run", action="store_true", help="print the plan: programs, members, memory, what is stored")
    run.add_argument(
        "--how",
        default="auto",
        choices=("auto", "vmap", "map", "loop", "data"),
        help="how members of a sweep are trained: together, one after another in one program (the bits of a run alone),"
        " one program call each, or each alone with its batches shared out over devices (auto: measured)",
    )
    run.add_argument("--width", type=int, metavar="N", help="members vmapped together")
    run.add_argument(
        "--save-every",
        type=float,
        metavar="SECONDS",
        help="save the state in training so often (as often as 2 %% of the time allows)",
    )
    places = run.add_argument_group("training on other processes, a task for every sweep")
    places.add_argument(
        "--on",
        default="here",
        choices=("here", "pool", "ray"),
        help="this process, a pool of processes of this machine, or a Ray cluster (pip install 'aejax[ray]')",
    )
    places.add_argument("--workers", type=int, metavar="N", help="processes of the pool (one a core)")
    places.add_argument(
        "--ray-address", metavar="HOST:PORT", help="address of the cluster (the one that `ray start` started here)"
    )
    places.add_argument("--cpus-per-task", type=int, metavar="N", help="CPUs of a Ray task, and its threads (1)")
    places.add_argument(
        "--gpus-per-task", type=int, metavar="N", help="GPUs of a Ray task (1 where JAX is on a GPU here, else 0)"
    )
    run.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard events, too: results/EXPERIMENT/tensorboard"
    )
    hosts = run.add_argument_group("several processes of one job (jax.distributed)")
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="address that the first process listens on")
    hosts.add_argument("--processes", type=int, metavar="N", help="processes of this job")
    hosts.add_argument("--process", type=int, metavar="I", help="number of this one, from 0; the first one writes")

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

    _add_generators(commands, data, debug)

    report = commands.add_parser("report", parents=[debug], help="rebuild summary and figures from stored runs")
    report.add_argument("folder", type=Path, help="results/EXPERIMENT")

    ls = commands.add_parser("ls", parents=[debug], help="list experiments, or the runs of one")
    ls.add_argument("path", type=Path, nargs="?", default=Path("results"), help="results, or results/EXPERIMENT")
    ls.add_argument("--sort", metavar="FIELD", help="a column or any field of a row; downwards: --sort=-FIELD")
    ls.add_argument("--status", metavar="STATUS", help="only completed, failed, diverged or damaged runs")
    show = commands.add_parser("show", parents=[debug], help="everything that is known of a run")
    diff = commands.add_parser("diff", parents=[debug], help="in what two runs differ: fields, numbers, parameters")
    for command, name in ((show, "run"), (diff, "first"), (diff, "second")):
        where = "run folder, or results/EXPERIMENT/ID, of which the beginning is enough"
        command.add_argument(name, type=Path, metavar="RUN", help=where)
    for command in (ls, show):
        command.add_argument("--json", action="store_true", help="print strict JSON")
    return parser


def _add_generators(commands: Any, data: _Parser, debug: _Parser) -> None:
    """`sample`, `interpolate` and `traverse`."""
    where = "run folder: results/EXPERIMENT/runs/RUN_ID"
    sample = commands.add_parser("sample", parents=[debug], help="new rows out of a density of a stored run's codings")
    sample.add_argument("run", type=Path, metavar="RUN", help=where)
    sample.add_argument("--images", type=int, default=60, metavar="N", help="how many (60)")
    sample.add_argument(
        "--density",
        dest="kind",
        metavar="KIND",
        help="prior, gaussian or mixture (the first of prior, mixture, gaussian it has)",
    )
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="another seed draws other ones (0)")
    sample.add_argument(
        "--noise", action="store_true", help="draw from the likelihood, too, instead of giving its mean"
    )
    interpolate = commands.add_parser(
        "interpolate", parents=[data, debug], help="what a stored run decodes between the codings of test rows"
    )
    interpolate.add_argument("run", type=Path, metavar="RUN", help=where)
    interpolate.add_argument("rows", type=int, nargs="*", metavar="ROW", help="pairs of test rows (0 1 2 3 4 5 6 7)")
    interpolate.add_argument("--steps", type=int, default=8, metavar="N", help="rows a pair, both ends among them (8)")
    interpolate.add_argument(
        "--spherical",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="along the arc rather than the line (of a variational run yes, else no)",
    )
    traverse = commands.add_parser(
        "traverse", parents=[data, debug], help="what a stored run decodes while one coding at a time is moved"
    )
    traverse.add_argument("run", type=Path, metavar="RUN", help=where)
    traverse.add_argument("--codings", type=int, nargs="+", default=(), metavar="I", help="which, from 0 (all)")
    traverse.add_argument("--row", type=int, metavar="ROW", help="the others at this test row's (at their means)")
    for command in (sample, interpolate, traverse):
        kinds = "FILE.png (images), FILE.csv (rows that are none), or FILE.npy: all in raw units but the picture"
        command.add_argument("--out", type=Path, metavar="FILE", help=kinds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors are one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        options = build_parser().parse_args(arguments)
        commands = {"run": _run, "encode": _encode, "decode": _decode, "report": _report}
        commands |= {"ls": _ls, "show": _show, "diff": _diff}
        commands |= dict.fromkeys(("sample", "interpolate", "traverse"), _generate)
        return commands[options.command](options)
    except AejaxError as error:
        if debug:
            traceback.print_exc()
        print(f"aejax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Interrupted) as stop:
        print(STOPPED, file=sys.stderr)
        return stop.exit_code if isinstance(stop, Interrupted) else 130
    except BrokenPipeError:
        return 0


def _run(options: argparse.Namespace) -> int:
    with SignalHandler() as interrupts:
        return _run_inside(options, interrupts)


def _run_inside(options: argparse.Namespace, interrupts: SignalHandler) -> int:
    from aejax.cli import progress
    from aejax.config import experiment_file, overrides
    from aejax.reporting import tensorboard
    from aejax.runner import remote, run_experiment
    from aejax.runtime import distributed, hardware, validate

    if options.width is not None:
        validate.whole_number("--width", options.width, minimum=1)
    if options.save_every is not None:
        validate.number("--save-every", options.save_every)
    place = _place(options)
    name, sweeps = experiment_file.load(options.experiment)
    sweeps = overrides.override(sweeps, options.assignments)
    hardware.use_one_device_per_core()
    distributed.join(options.coordinator, options.processes, options.process)
    interrupts.install()
    hardware.device_name()  # says so where there is no device
    where = {"root": options.results, "data_dir": options.data_dir, "smoke": options.smoke}
    if options.dry_run:
        progress.show_plan(run_experiment.plan(name, sweeps, **where))
        return 0
    with progress.TerminalProgress(
        interrupts.raise_if_interrupted, quiet=not distributed.is_first_process()
    ) as watcher:
        if options.tensorboard:
            folder = options.results / (f"{name}-smoke" if options.smoke else name)
            watcher.live = tensorboard.Live(folder)
        outcome = run_experiment.execute(
            name,
            sweeps,
            **where,
            again=options.again,
            how=options.how,
            width=options.width,
            save_seconds=options.save_every,
            listener=watcher,
            on=place,
            source=remote.Source(options.experiment, tuple(options.assignments)),
            events=options.tensorboard,
        )
    if not distributed.is_first_process():
        return 0
    watcher.summarise(outcome)
    for row in outcome.failed:
        name = f"{row['label']} {row['codings']}, seed {row['seed']}, {row['hyper']}"
        print(f"aejax: {row['status']}: {name}: {row['reason']}", file=sys.stderr)
    return 3 if outcome.failed else 0


def _place(options: argparse.Namespace) -> remote.Place | None:
    """Where `--on` says to train. Raises ConfigError on an option of another place."""
    from aejax.runner import remote

    own = {"pool": ("workers",), "ray": ("ray_address", "cpus_per_task", "gpus_per_task")}
    for place, names in own.items():
        for name in names:
            if getattr(options, name) is not None and options.on != place:
                raise ConfigError(f"--{name.replace('_', '-')}", f"given with --on {options.on}", f"add --on {place}")
    if options.on == "pool":
        return remote.Pool(options.workers)
    if options.on == "ray":
        cpus = 1 if options.cpus_per_task is None else options.cpus_per_task
        return remote.Ray(options.ray_address or "auto", cpus, options.gpus_per_task)
    return None


def _encode(options: argparse.Namespace) -> int:
    from aejax.inference import stored_run

    codings = stored_run.encode(options.run, options.source, data_dir=options.data_dir, out=options.out)
    print(f"{options.out}: codings {codings.shape}")
    return 0


def _decode(options: argparse.Namespace) -> int:
    from aejax.inference import stored_run

    reconstructions = stored_run.decode(options.run, Path(options.source), out=options.out)
    print(f"{options.out}: reconstructions {reconstructions.shape}")
    return 0


def _generate(options: argparse.Namespace) -> int:
    from aejax.inference import generate

    given = {name: value for name, value in vars(options).items() if name not in ("command", "debug")}
    path, rows = getattr(generate, options.command)(**given)
    print(f"{path}: rows {rows.shape}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from aejax.reporting import summary

    for path in summary.rebuild(options.folder, lambda text: print(f"aejax: warning: {text}", file=sys.stderr)):
        print(path)
    return 0


def _ls(options: argparse.Namespace) -> int:
    from aejax.cli import listing

    listing.list_path(options.path, sort=options.sort, status=options.status, as_json=options.json)
    return 0


def _show(options: argparse.Namespace) -> int:
    from aejax.cli import details

    details.show(options.run, options.json)
    return 0


def _diff(options: argparse.Namespace) -> int:
    from aejax.cli import details

    details.diff(options.first, options.second)
    return 0
