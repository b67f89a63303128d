"""Training on other processes: a pool on this machine, or a Ray cluster. One task is one compiled program.

Workers train and score. The driver holds the results folder and stores each row when it arrives. A worker that dies is
replaced and its unfinished runs are tried again; a run that cannot be trained is recorded as failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from aejax.runner.context import Source
from aejax.runner.jobs import Job
from aejax.runner.remote.driver import Driver
from aejax.runner.remote.pool import Pool
from aejax.runner.remote.ray import Ray
from aejax.runner.remote.task import check

__all__ = ["Driver", "Place", "Pool", "Ray", "Source", "check", "train"]

Place: TypeAlias = Pool | Ray
"""Where tasks are trained."""


def train(place: Place, driver: Driver, jobs: Sequence[Job]) -> None:
    """Train the missing runs of these jobs at a place.

    Raises what `Driver.run` raises, and MachineError where the place cannot be reached.
    """
    if any(job.missing for job in jobs):
        with place.open() as workers:
            driver.run(jobs, workers)
