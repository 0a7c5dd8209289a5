"""Settings and result of a training: its schedule, its folder, and the settings fixed over a resume.

A schedule counts steps, or minutes granted by a scheduler. Both give a progress of 0..1, and the learning rate
depends on it alone, so a training on a slow machine ends as well annealed as one on a fast machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import attrs

from bigrestore.errors import UsageError
from bigrestore.training.loop.guard import GuardSettings


def _check_positive(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    """Refuse a number not above zero."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise UsageError(f"{attribute.name} is {value}; give a number above 0.")


@attrs.frozen(kw_only=True)
class LoopSettings:
    """How a training runs.

    Attributes
    ----------
    directory : Path
        Where checkpoints, logs and sheets go.
    steps, minutes : int, float or None
        Length of the schedule: one of the two.
    rate, last_rate : float
        Highest and last learning rate of the cosine.
    warmup_steps : int
        Steps of the linear warm-up, at most a tenth of `steps`.
    seed : int
        Of everything.
    betas : (float, float)
        Of Adam.
    fan_in_limit : int or None
        A weight with n inputs learns at `rate` times min(1, fan_in_limit / n): if all inputs of a filter move
        together, its output then changes by at most the rate times this many inputs. Adam's rate goes with 1 / width
        in the analysis of Yang et al. ("Tensor Programs V", 2022) as well. None: one rate for all, for shallow or
        bounded networks.
    rate_factors : mapping of str to float
        Further factors on the rate by parameter name: the first fitting pattern (as of a shell) counts.
    average_decay : float
        Of the averaged weights.
    start_share : float
        Share of the weights that the training started from in what is validated and exported.
    checkpoint_s : float
        Seconds between checkpoints.
    log_every : int
        Steps per row of the log.
    resume : bool
        Go on from the checkpoint in `directory`, if there is one.
    facts : mapping
        JSON-able settings of the stage, fixed over a resume: preset, scale, recipe, data, ...
    """

    directory: Path = attrs.field(converter=Path)
    steps: int | None = attrs.field(default=None, validator=_check_positive)
    minutes: float | None = attrs.field(default=None, validator=_check_positive)
    rate: float = attrs.field(default=1e-3, validator=_check_positive)
    last_rate: float = attrs.field(default=1e-5, validator=_check_positive)
    warmup_steps: int = attrs.field(default=500, validator=_check_positive)
    seed: int = 0
    betas: tuple[float, float] = (0.9, 0.99)
    fan_in_limit: int | None = attrs.field(default=None, validator=_check_positive)
    rate_factors: Mapping[str, float] = attrs.field(factory=dict)
    average_decay: float = 0.999
    checkpoint_s: float = attrs.field(default=120.0, validator=_check_positive)
    log_every: int = attrs.field(default=20, validator=_check_positive)
    start_share: float = 0.0
    resume: bool = False
    guard: GuardSettings = attrs.field(factory=GuardSettings)
    facts: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError(
                "The length of a training is given by steps or by minutes; give exactly one of them."
            )
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}; give 0 or a positive number.")

    def identity(self) -> dict[str, Any]:
        """Return the settings fixed over a resume, as plain JSON values."""
        own = attrs.asdict(self, recurse=True)
        for name in ("directory", "checkpoint_s", "log_every", "resume", "facts"):
            del own[name]
        if not self.rate_factors:
            del own["rate_factors"]
        if not self.start_share:
            del own["start_share"]
        plain: dict[str, Any] = json.loads(json.dumps({**dict(self.facts), **own}))
        return plain

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return the finished part of the schedule, 0..1, before a step."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None
        return min(elapsed_s / (60 * self.minutes), 1.0)

    def rate_factor(self, name: str) -> float:
        """Return the factor of the first pattern fitting a parameter's name, else 1."""
        fitting = (factor for pattern, factor in self.rate_factors.items() if fnmatchcase(name, pattern))
        return next(fitting, 1.0)

    def rate_at(self, step: int, progress: float) -> float:
        """Return the learning rate of a step: linear warm-up times a cosine to the last rate."""
        last = min(self.last_rate, self.rate)
        cosine = last + (self.rate - last) * 0.5 * (1 + math.cos(math.pi * progress))
        warmup = self.warmup_steps if self.steps is None else min(self.warmup_steps, max(1, self.steps // 10))
        return cosine * min(1.0, (step + 1) / warmup)


@attrs.frozen
class TrainResult:
    """How a training ended.

    Attributes
    ----------
    status : "done" or "stopped"
        "stopped": by a signal; a checkpoint was written.
    steps : int
        Steps made, those before a resume included.
    elapsed_s : float
        Seconds of training, those before a resume included.
    figures : dict
        Validation figures of the averaged weights at the last checkpoint.
    skipped, restored : int
        Steps skipped and weights restored by the guard.
    signal_number : int or None
        What stopped it.
    """

    status: Literal["done", "stopped"]
    steps: int
    elapsed_s: float
    figures: dict[str, float]
    skipped: int
    restored: int
    signal_number: int | None = None
