"""The training loop: the same for every stage, and safe to kill at any moment.

A stage knows its modules and losses; the loop knows everything else: rate, averaging, guarding, checkpoints, logs,
signals. The order within a step matters. First the loss; then the guard's verdict on the step before, whose weights
enter the average if they were sound; then the gradient is taken, clipped and followed, all on the device. So the host
prepares a step while a GPU computes the one before. The data of step i depend on (seed, i) alone, so a
resumed training repeats the steps of an uninterrupted one, to the last bit on a schedule in steps. On a schedule in
minutes, the spent minutes are part of the checkpoint.
"""

from __future__ import annotations

import logging
import random
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.training.loop.ema import WeightAverage
from bigrestore.training.loop.guard import StepGuard, Verdict
from bigrestore.training.loop.logs import CsvLog, LiveLine, duration, format_values, open_board
from bigrestore.training.loop.resume import check_settings, load_checkpoint, refuse_existing, save_checkpoint
from bigrestore.training.loop.schedule import LoopSettings, TrainResult
from bigrestore.training.loop.sheet import write_sheet
from bigrestore.training.loop.signals import StopSignal, stop_signals

log = logging.getLogger(__name__)


class TrainingStage(Protocol):
    """What is trained.

    Attributes
    ----------
    name : str
        `estimator`, `fidelity`, ...
    batch : int
        Windows or pairs per step.
    """

    name: str
    batch: int

    def modules(self) -> nn.Module:
        """Return the trained module; the loop averages and saves its parameters with a gradient."""
        ...

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step: `loss`, a float32 scalar to minimise, and its parts.

        `progress` is the finished part of the schedule, 0..1. Everything drawn depends on (seed, step).
        """
        ...

    def validate(self) -> dict[str, float]:
        """Return validation figures of the present weights."""
        ...

    def sheet(self) -> NDArray[Any] | Mapping[str, NDArray[Any]] | None:
        """Return a picture of the present weights' work, (H, W) or (H, W, 3), uint8, or several by name, or None."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the state beside the trained module for a resume: tensors, numbers, strings, lists, dicts."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        ...

    def export(self, path: Path) -> None:
        """Write the present weights as a model."""
        ...


def train(stage: TrainingStage, settings: LoopSettings, export: Path | None = None) -> TrainResult:
    """Train a stage to the end of its schedule, or until a signal.

    Parameters
    ----------
    stage : TrainingStage
    settings : LoopSettings
    export : Path, optional
        Where to write the model, from the averaged weights, once the schedule is done.

    Returns
    -------
    TrainResult

    Raises
    ------
    OutputExistsError
        The directory holds a training and `resume` is off.
    UsageError
        A resume with other settings than the training was started with.
    OutputError
        A checkpoint, log or sheet cannot be written.
    DivergedError
        The guard gave up.
    """
    return _Training(stage, settings).run(export)


def _parameters(stage: TrainingStage) -> dict[str, nn.Parameter]:
    """Return the trained parameters of a stage by name, in their stable order."""
    parameters = {name: p for name, p in stage.modules().named_parameters() if p.requires_grad}
    if not parameters:
        raise UsageError(f"The stage {stage.name} has nothing to train; unfreeze some of its parameters.")
    return parameters


def _groups_by_factor(parameters: Mapping[str, nn.Parameter], settings: LoopSettings) -> list[dict[str, Any]]:
    """Return parameter groups for Adam, each with a factor on the rate by fan-in and name."""
    limit = settings.fan_in_limit
    by_factor: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in parameters.items():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 1
        allowed = 1.0 if limit is None else min(1.0, limit / inputs)
        by_factor[allowed * settings.rate_factor(name)].append(parameter)
    return [{"params": group, "rate_factor": factor} for factor, group in by_factor.items()]


class _Training:
    """One call of `train`."""

    def __init__(self, stage: TrainingStage, settings: LoopSettings) -> None:
        self.stage = stage
        self.settings = settings
        random.seed(settings.seed)
        np.random.seed(settings.seed % 2**32)  # noqa: NPY002  (for third parties; nothing here draws from it)
        torch.manual_seed(settings.seed)
        named = _parameters(stage)
        self.parameters = list(named.values())
        groups = _groups_by_factor(named, settings)
        self.optimiser = torch.optim.Adam(groups, lr=settings.rate, betas=settings.betas, fused=True)
        self.average = WeightAverage(self.parameters, settings.average_decay, settings.start_share)
        self.guard = StepGuard(self.parameters, self.optimiser, settings.guard)
        self.step = 0
        self.elapsed_s = 0.0
        self.figures: dict[str, float] = {}
        self._sums: dict[str, Tensor | float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._last_means: dict[str, float] = {}
        self._followed: tuple[int, dict[str, Tensor]] = (0, {})
        self._rate = 0.0
        self._resume()

    def run(self, export: Path | None) -> TrainResult:
        """Run to the end or to a signal."""
        directory = self.settings.directory
        self.csv = CsvLog(directory / "log.csv", self.step)
        self.figures_csv = CsvLog(directory / "validation.csv", self.step + 1 if self.step else 0)
        self.board = open_board(directory / "tensorboard", self.step)
        try:
            with stop_signals() as stop, LiveLine(self.stage.name) as self.line:
                self._loop(stop)
        finally:
            if self.board is not None:
                self.board.close()
        done = self._progress() >= 1
        if done and export is not None:
            with self.average.applied():
                self.stage.export(export)
        return TrainResult(
            "done" if done else "stopped",
            self.step,
            self.elapsed_s,
            dict(self.figures),
            self.guard.skipped,
            self.guard.restored,
            None if done else stop.number,
        )

    def _loop(self, stop: StopSignal) -> None:
        """Make steps, with a checkpoint at every interval and at the end."""
        clock_s = time.monotonic() - self.elapsed_s
        last_save_s = self.elapsed_s
        first_step, first_s = self.step, self.elapsed_s
        saved_step = self.step if self.step else -1
        while self._progress() < 1 and not stop:
            self._make_step()
            self.step += 1
            self.elapsed_s = time.monotonic() - clock_s
            if self.line.due():
                self._show(first_step, first_s)
            if self.elapsed_s - last_save_s >= self.settings.checkpoint_s:
                self._checkpoint(validate=True)
                self.elapsed_s = time.monotonic() - clock_s
                last_save_s, saved_step = self.elapsed_s, self.step
        if stop.number is not None:
            log.info("%s: the training ends with a checkpoint.", signal.Signals(stop.number).name)
        if self.step != saved_step:
            # A signal leaves seconds to end in; the figures can wait for the next checkpoint.
            self._checkpoint(validate=not stop)
            self.elapsed_s = time.monotonic() - clock_s

    def _progress(self) -> float:
        """Return the finished part of the schedule."""
        return self.settings.progress(self.step, self.elapsed_s)

    def _make_step(self) -> None:
        """Measure, settle the step before, and step along the clipped gradient."""
        progress = self._progress()
        losses = self.stage.step(self.step, progress)
        if self._settle() is not Verdict.RESTORE:
            rate = self.settings.rate_at(self.step, progress) * self.guard.rate_factor
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["rate_factor"]
            self.average.hold()
            norm = self.guard.follow(self.step, losses["loss"])
            self._followed = (
                self.step,
                {name: value.detach() for name, value in losses.items()} | {"gradient_norm": norm},
            )
            self._rate = rate
        if (self.step + 1) % self.settings.log_every == 0:
            self._settle()
            self._write_row()

    def _settle(self) -> Verdict | None:
        """Take a step into average and means once its verdict is known, or put the network back."""
        verdict = self.guard.settle()
        if verdict is Verdict.RESTORE and not self.guard.restore():
            self.average.copy_to_parameters()
        if verdict is Verdict.GO:
            step, values = self._followed
            if step > 0:
                self.average.update()
            for name, value in values.items():
                self._sums[name] += value
                self._counts[name] += 1
        return verdict

    def _write_row(self) -> None:
        """Write the means of the interval."""
        self._last_means = means = self._means()
        self._sums.clear()
        self._counts.clear()
        fixed = {"seconds": self.elapsed_s, "rate": self._rate}
        guard = {
            "skipped": self.guard.skipped, "restored": self.guard.restored, "clipped": self.guard.clipped
        }  # fmt: skip
        self.csv.add(self.step, fixed | means | guard)
        if self.board is not None:
            self.board.add("train", fixed | means | guard, self.step)

    def _means(self) -> dict[str, float]:
        """Return the mean of every loss over the interval so far."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def _show(self, first_step: int, first_s: float) -> None:
        """Show the live line."""
        means = self._means() or self._last_means
        means = {name: mean for name, mean in means.items() if name != "gradient_norm"}
        speed = (self.step - first_step) / max(self.elapsed_s - first_s, 1e-9)
        if self.settings.steps is not None:
            left_s = (self.settings.steps - self.step) / max(speed, 1e-9)
            total = f"/{self.settings.steps}"
        else:
            left_s = 60 * (self.settings.minutes or 0) - self.elapsed_s
            total = ""
        figures = f" | {format_values(self.figures)}" if self.figures else ""
        self.line.show(
            f"step {self.step}{total} eta {duration(left_s)} {speed:.2f} steps/s rate {self._rate:.2e} "
            f"{format_values(means)}{figures}"
        )

    def _checkpoint(self, *, validate: bool) -> None:
        """Measure and picture the averaged weights, then write a checkpoint, the figures in it."""
        self._settle()
        if validate:
            self._validate()
        rng: dict[str, Any] = {"torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng["cuda"] = torch.cuda.get_rng_state_all()
        state = {
            "format": 1,
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "settings": self.settings.identity(),
            "module": self.stage.modules().state_dict(),
            "stage": self.stage.state(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "guard": self.guard.state_dict(),
            "rng": rng,
            "figures": self.figures,
        }
        save_checkpoint(self.settings.directory, self.step, state)

    def _validate(self) -> None:
        """Measure the averaged weights, and write figures and sheet."""
        with self.average.applied(), torch.no_grad():
            self.figures = {name: float(value) for name, value in self.stage.validate().items()}
            sheet = self.stage.sheet()
        if sheet is not None:
            pictures = sheet if isinstance(sheet, Mapping) else {"": sheet}
            for name, picture in pictures.items():
                stem = f"step-{self.step:09d}" + (f"-{name}" if name else "")
                write_sheet(self.settings.directory / "sheets" / f"{stem}.png", picture)
        if not self.figures:
            return
        self.figures_csv.add(self.step, {"seconds": self.elapsed_s} | self.figures)
        log.info("%s step %d validation: %s", self.stage.name, self.step, format_values(self.figures))
        if self.board is not None:
            self.board.add("validation", self.figures, self.step)

    def _resume(self) -> None:
        """Load the newest checkpoint, or refuse to overwrite a training."""
        directory = self.settings.directory
        if not self.settings.resume:
            refuse_existing(directory)
            return
        saved = load_checkpoint(directory)
        if saved is None:
            log.info("There is no checkpoint in %s yet; the training starts from the beginning.", directory)
            return
        check_settings(saved["settings"], self.settings.identity(), directory)
        self.stage.load_state(saved["stage"])
        self.stage.modules().load_state_dict(saved["module"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.average.load_state_dict(saved["average"])
        self.guard.load_state_dict(saved["guard"])
        torch.set_rng_state(saved["rng"]["torch"])
        if torch.cuda.is_available() and "cuda" in saved["rng"]:
            torch.cuda.set_rng_state_all(saved["rng"]["cuda"])
        self.step = int(saved["step"])
        self.elapsed_s = float(saved["elapsed_s"])
        self.figures = dict(saved["figures"])
        log.info("The training goes on at step %d, after %s.", self.step, duration(self.elapsed_s))
