"""A training of a stage that is interrupted at its third step and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from bigrestore.settings.train import StageOptions
from bigrestore.training.stages.assembly import StagePlan
from bigrestore.training.stages.stage import train_stage


def train_interrupted(
    name: str, stage: Any, tissue: Path, output: Path, options: StageOptions, plan: StagePlan
) -> None:
    """Train until the third step of the class `stage` is interrupted, with a checkpoint a step, and resume."""
    step = stage.step

    def stopped(self: Any, number: int, progress: float) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number, progress)

    plan = attrs.evolve(plan, checkpoint_s=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_stage(name, tissue, output, options, plan)
    train_stage(name, tissue, output, attrs.evolve(options, resume=True), plan)
