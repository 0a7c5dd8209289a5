"""The guard against single steps throwing a network off.

Adam divides by the root of a running mean of squared gradients, so a weight moves by up to the full rate for any size
of the gradient. Usually it moves by a tenth, in directions that cancel. Sometimes all weights of a filter agree: one
batch has a monstrous gradient, or all of them can fix the same error (the brightness of the whole patch). Then the
filter's output moves by the rate times its number of inputs times their mean, in every layer at once, and a network
without norm layers multiplies this: measured, from a shift of 0.07 to one of 12 grey ranges in one step, in float32
as in bfloat16. The rates by fan-in of `bigrestore.training.loop.loop` remove the cause; this is the net below:

1. Gradients are clipped at a multiple of a running quantile of their own norm. A fixed clip is no help far above the
   usual norm.
2. A step of infinite or undefined loss or gradient, or of a jump in the loss, is skipped.
3. A jump on the next batch too comes from the weights, not from the batch: weights and optimiser go back to the last
   snapshot, taken *after* its loss was found sound, and continue at half the rate. If even these weights show the
   jump, the loss itself has changed (a new term, another stage of a schedule), and the guard learns the new level
   instead of undoing for ever.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from bigrestore.errors import DivergedError

log = logging.getLogger(__name__)

_NUMBERS = ("bad_in_a_row", "suspect", "skipped", "restored", "clipped", "rate_factor")
"""Attributes of a guard in a checkpoint, beside its queues."""


class Verdict(Enum):
    """What to do with a step once its loss is known."""

    GO = "go"
    SKIP = "skip"
    RESTORE = "restore"


@attrs.frozen
class GuardSettings:
    """How wary the guard is.

    Attributes
    ----------
    window : int
        Remembered steps, for losses and gradient norms.
    minimum : int
        Steps before a loss can count as a jump and before clipping is relative.
    jump_deviations : float
        Robust standard deviations (1.4826 times the median absolute deviation) of a jump above the running median.
    jump_share : float
        Least deviation, as a share of the median: a very even loss is no trap.
    clip_quantile, clip_factor : float
        Gradients are clipped at `clip_factor` times this quantile of their recent norms.
    first_clip : float
        Fixed clip until there are `minimum` norms.
    snapshot_every : int
        Steps between snapshots.
    skips_to_restore : int
        Skipped steps in a row before the last snapshot is restored.
    restores_to_fail : int
        Restorations within `window` steps before training is given up.
    """

    window: int = 200
    minimum: int = 50
    jump_deviations: float = 8.0
    jump_share: float = 0.1
    clip_quantile: float = 0.5
    clip_factor: float = 1.5
    first_clip: float = 1.0
    snapshot_every: int = 50
    skips_to_restore: int = 5
    restores_to_fail: int = 8


class StepGuard:
    """Judges the loss of each step, clips its gradient, and puts a thrown network back.

    Parameters
    ----------
    parameters : iterable of Tensor
        The trained parameters.
    optimiser : Optimizer
        Their optimiser; its state is part of a snapshot.
    settings : GuardSettings, optional
        How wary to be.

    Attributes
    ----------
    rate_factor : float
        Factor on the learning rate: halved at every restoration, because restored weights would be thrown off again
        at the same rate, and doubled over about 700 sound steps up to 1.
    skipped, restored, clipped : int
        Skipped steps, restorations, and steps of a clipped gradient, since the start of training.
    bad_in_a_row : int
        Skipped steps since the last made one.
    suspect : bool
        The last loss was a jump.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        optimiser: Optimizer,
        settings: GuardSettings | None = None,
    ) -> None:
        self.settings = settings or GuardSettings()
        self.skipped = 0
        self.restored = 0
        self.clipped = 0
        self.rate_factor = 1.0
        self._parameters = list(parameters)
        self._optimiser = optimiser
        self._losses: deque[float] = deque(maxlen=self.settings.window)
        self._norms: deque[float] = deque(maxlen=self.settings.window)
        self._restore_steps: deque[int] = deque(maxlen=self.settings.restores_to_fail)
        self.bad_in_a_row = 0
        self.suspect = False
        self._fresh_from_snapshot = False
        self._snapshot: tuple[list[Tensor], list[dict[str, Any]]] | None = None
        self._snapshot_step = -1

    def judge(self, step: int, loss: float) -> Verdict:
        """Decide on a step by the loss of the present weights on its batch.

        Parameters
        ----------
        step : int
            Index of the step, increasing.
        loss : float
            Its loss, before any update.

        Returns
        -------
        Verdict
            GO: the weights are sound; they may be averaged and updated. SKIP: make no update. RESTORE: call
            `restore`, and make no update.

        Raises
        ------
        DivergedError
            The network was put back too often within few steps.
        """
        if self.bad_in_a_row >= self.settings.skips_to_restore:
            return self._put_back(step, f"{self.bad_in_a_row} steps in a row could not be made")
        if not math.isfinite(loss):
            return self._bad(step, "its loss is not a number" if math.isnan(loss) else "its loss is infinite")
        if not self._is_jump(loss):
            self._accept(loss)
            return Verdict.GO
        if self._fresh_from_snapshot:
            log.info(
                "step %d: sound weights give the loss %.4g too; the guard learns a new level", step, loss
            )
            self._losses.clear()
            self._accept(loss)
            return Verdict.GO
        if self.suspect:
            return self._put_back(step, f"the loss rose to {loss:.4g} on two batches in a row")
        self.suspect = True
        self.skipped += 1
        log.info("step %d left out: the loss jumped to %.4g", step, loss)
        return Verdict.SKIP

    def clip_gradients(self, step: int) -> float | None:
        """Shorten the gradients to the usual length.

        Returns
        -------
        float or None
            Norm of all gradients before clipping; None if it is not finite: skip the step.
        """
        clipped = [p for p in self._parameters if p.grad is not None]
        total = get_total_norm([p.grad for p in clipped if p.grad is not None])
        norm = float(total)
        if not math.isfinite(norm):
            self._bad(step, "its gradient is not finite")
            return None
        self.bad_in_a_row = 0
        limit = self.limit
        if norm > limit:
            self.clipped += 1
            clip_grads_with_norm_(clipped, max_norm=limit, total_norm=total)
        # What is remembered is capped too: one monstrous norm would otherwise raise the quantile for long,
        # but a lasting rise still raises it, by up to a factor of two per window.
        self._norms.append(min(norm, 2 * limit) if len(self._norms) >= self.settings.minimum else norm)
        return norm

    @property
    def limit(self) -> float:
        """Return the gradient norm for clipping the next step."""
        if len(self._norms) < self.settings.minimum:
            return self.settings.first_clip
        return self.settings.clip_factor * float(np.quantile(self._norms, self.settings.clip_quantile))

    @torch.no_grad()
    def keep(self, step: int) -> None:
        """Copy weights and optimiser state if a snapshot is due; call it after a GO, before the step."""
        if self._snapshot is not None and step - self._snapshot_step < self.settings.snapshot_every:
            return
        weights = [p.detach().clone() for p in self._parameters]
        moments = [self._optimiser.state.get(p, {}) for p in self._parameters]
        self._snapshot = (weights, copy.deepcopy(moments))
        self._snapshot_step = step

    @torch.no_grad()
    def restore(self) -> bool:
        """Put weights and optimiser back to the last snapshot.

        Returns
        -------
        bool
            False when there is no snapshot yet (only right after a resume or a start); the caller then puts
            the averaged weights in their place.
        """
        self._optimiser.zero_grad(set_to_none=True)
        if self._snapshot is None:
            self._optimiser.state.clear()
            return False
        weights, moments = self._snapshot
        for parameter, saved, state in zip(self._parameters, weights, copy.deepcopy(moments), strict=True):
            parameter.copy_(saved)
            self._optimiser.state.pop(parameter, None)
            if state:
                self._optimiser.state[parameter] = state
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the guard's memory without its snapshot: numbers only."""
        return {
            "losses": list(self._losses),
            "norms": list(self._norms),
            "restore_steps": list(self._restore_steps),
            **{name: getattr(self, name) for name in _NUMBERS},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the memory of another guard; the next sound step takes a new snapshot."""
        self._losses = deque(state["losses"], maxlen=self.settings.window)
        self._norms = deque(state["norms"], maxlen=self.settings.window)
        self._restore_steps = deque(state["restore_steps"], maxlen=self.settings.restores_to_fail)
        for name in _NUMBERS:
            setattr(self, name, state[name])
        self._snapshot = None

    def _is_jump(self, loss: float) -> bool:
        """Say whether a loss is far above the recent ones."""
        if len(self._losses) < self.settings.minimum:
            return False
        recent = np.asarray(self._losses)
        median = float(np.median(recent))
        deviation = 1.4826 * float(np.median(np.abs(recent - median)))
        deviation = max(deviation, self.settings.jump_share * abs(median), 1e-12)
        return loss > median + self.settings.jump_deviations * deviation

    def _accept(self, loss: float) -> None:
        """Note a sound step."""
        self._losses.append(loss)
        self.rate_factor = min(1.0, 1.001 * self.rate_factor)
        self.suspect = False
        self._fresh_from_snapshot = False

    def _bad(self, step: int, why: str) -> Verdict:
        """Count a skipped step."""
        self.bad_in_a_row += 1
        self.skipped += 1
        log.warning("step %d left out: %s", step, why)
        return Verdict.SKIP

    def _put_back(self, step: int, why: str) -> Verdict:
        """Ask for a restoration, or give up when there were too many."""
        self._restore_steps.append(step)
        times = len(self._restore_steps)
        if times == self.settings.restores_to_fail and step - self._restore_steps[0] < self.settings.window:
            raise DivergedError(
                f"Training was put back {times} times within {step - self._restore_steps[0] + 1} steps (at "
                f"step {step}: {why}); lower the rate, or train in float32."
            )
        self.restored += 1
        self.rate_factor *= 0.5
        self.bad_in_a_row = 0
        self.suspect = False
        self._fresh_from_snapshot = True
        log.warning("step %d: %s; weights and optimiser go back to step %d", step, why, self._snapshot_step)
        return Verdict.RESTORE
