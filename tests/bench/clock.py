"""Trainings whose minutes are those of the processor: nothing else on the machine is part of what they are compared by."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import attrs

from bigrestore.settings.train import StageOptions
from bigrestore.training.loop import loop
from bigrestore.training.stages.assembly import StagePlan
from bigrestore.training.stages.stage import train_stage


@contextlib.contextmanager
def processor_minutes() -> Iterator[None]:
    """Give trainings within the clock of the processor, on which a waiting training does not grow older."""
    with mock.patch.object(loop, "time", SimpleNamespace(monotonic=time.process_time)):
        yield


def train_or_go_on(
    stage: str, data: Path, path: Path, options: StageOptions, plan: StagePlan | None = None
) -> Path:
    """Train a stage by the clock of the processor, or go on where it was stopped; return the file.

    Raises
    ------
    SystemExit
        It was stopped before its minutes were over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = (path.with_name(f"{path.name}.train") / stage).is_dir()
    with processor_minutes():
        result = train_stage(stage, data, path, attrs.evolve(options, resume=begun), plan)
    if result.status != "done":
        raise SystemExit(f"The training of {path.name} was stopped; the same command goes on with it.")
    return path
