"""The guard against single steps throwing a network off.

Adam divides by the root of a running mean of squared gradients, so a weight moves by up to the full rate for any size
of the gradient. Usually it moves by a tenth, in directions that cancel. Sometimes all weights of a filter agree: one
batch has a monstrous gradient, or all of them can fix the same error (the brightness of the whole patch). Then the
filter's output moves by the rate times its number of inputs times their mean, in every layer at once, and a network
without norm layers multiplies this: measured, from a shift of 0.07 to one of 12 grey ranges in one step, in float32
as in bfloat16. The rates by fan-in of `bigrestore.training.loop.loop` remove the cause; this is the net below:

1. Gradients are clipped at a multiple of a running quantile of their own norm. A fixed clip is no help far above the
   usual norm.
2. A step of infinite or undefined loss or gradient, or of a jump in the loss, is skipped. The device decides that, by
   limits that the host gave it: the host reads loss and norm one step later, so it never waits for a GPU.
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
from torch.nn.utils import get_total_norm
from torch.optim import Adam

from bigrestore.errors import DivergedError

log = logging.getLogger(__name__)

_NUMBERS = ("bad_in_a_row", "suspect", "skipped", "restored", "clipped", "rate_factor")
"""Attributes of a guard in a checkpoint, beside its queues."""


_Snapshot = tuple[list[Tensor], list[dict[str, Any]]]
"""Weights, and the moments of the optimiser."""


class Verdict(Enum):
    """What a step was, once its loss and gradient are known."""

    GO = "go"
    SKIP = "skip"
    RESTORE = "restore"


@attrs.frozen(eq=False)
class _Followed:
    """A step whose numbers are on their way to the host.

    Attributes
    ----------
    step : int
        Its index.
    limit : float
        Where its gradient was clipped.
    numbers : Tensor, (2,), on the host
        Loss and gradient norm, once they have arrived.
    arrival : torch.cuda.Event, optional
        Of the numbers; None where they are there at once.
    """

    step: int
    limit: float
    numbers: Tensor
    arrival: torch.cuda.Event | None

    def read(self) -> tuple[float, float]:
        """Return loss and norm."""
        if self.arrival is not None:
            self.arrival.synchronize()
        loss, norm = self.numbers.tolist()
        return loss, norm


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
    """Clips the gradient of each step, follows it where it is sound, and puts a thrown network back.

    A step is `settle`, for the verdict on the one before, then `follow`; after a RESTORE, `restore` and no step.

    Parameters
    ----------
    parameters : iterable of Tensor
        The trained parameters.
    optimiser : Adam
        Their optimiser, a fused one; its state is part of a snapshot.
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
        optimiser: Adam,
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
        self._snapshot: _Snapshot | None = None
        self._snapshot_step = -1
        self._candidate: _Snapshot | None = None
        self._followed: _Followed | None = None

    def follow(self, step: int, loss: Tensor, penalty: Tensor | None = None) -> Tensor:
        """Take the gradient of a loss, and follow it where loss and gradient are sound: the device decides.

        Parameters
        ----------
        step : int
            Index of the step, increasing.
        loss : Tensor, ()
            Of the present weights, with its graph.
        penalty : Tensor, (), optional
            Added to the loss, but not judged as a jump.

        Returns
        -------
        Tensor, ()
            Norm of all gradients before clipping.
        """
        if self._snapshot is None or step - self._snapshot_step >= self.settings.snapshot_every:
            self._candidate = self._copied()
        (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]
        norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        judged, limit = loss.detach().float(), self.limit
        sound = (judged <= self.highest_loss) & judged.isfinite() & norm.isfinite()
        # The words of a loss scaler to a fused optimiser: divide gradients by the one, do nothing where the other is 1.
        self._optimiser.grad_scale = (norm.float() / limit).clamp_min(1)  # type: ignore[attr-defined]
        self._optimiser.found_inf = (~sound).float()  # type: ignore[attr-defined]
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        numbers, arrival = torch.stack([judged, norm.float()]), None
        if numbers.is_cuda:
            numbers, arrival = numbers.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrival.record()
        self._followed = _Followed(step, limit, numbers, arrival)
        return norm

    def settle(self) -> Verdict | None:
        """Judge the step that was followed last; None where there is none, or where it was judged before.

        Raises
        ------
        DivergedError
            The network was put back too often within few steps.
        """
        followed, self._followed = self._followed, None
        if followed is None:
            return None
        candidate, self._candidate = self._candidate, None
        loss, norm = followed.read()
        verdict = self.judge(followed.step, loss, norm)
        if verdict is Verdict.GO:
            if norm > followed.limit:
                self.clipped += 1
            if candidate is not None:
                self._snapshot, self._snapshot_step = candidate, followed.step
        return verdict

    def judge(self, step: int, loss: float, norm: float) -> Verdict:
        """Decide on a step by the loss of its weights on its batch, and by the norm of the gradient.

        Parameters
        ----------
        step : int
            Index of the step, increasing.
        loss : float
            Its loss, before the update.
        norm : float
            Of all gradients before clipping.

        Returns
        -------
        Verdict
            GO: the weights were sound, and may be averaged. SKIP: no update was made. RESTORE: call `restore`.

        Raises
        ------
        DivergedError
            The network was put back too often within few steps.
        """
        if self.bad_in_a_row >= self.settings.skips_to_restore:
            return self._put_back(step, f"{self.bad_in_a_row} steps in a row could not be made")
        if not math.isfinite(loss):
            return self._bad(step, "its loss is not a number" if math.isnan(loss) else "its loss is infinite")
        if not math.isfinite(norm):
            return self._bad(step, "its gradient is not finite")
        if loss <= self.highest_loss:
            self._accept(loss, norm)
            return Verdict.GO
        if self.suspect:
            return self._put_back(step, f"the loss rose to {loss:.4g} on two batches in a row")
        self.suspect = True
        self.skipped += 1
        log.info("step %d left out: the loss jumped to %.4g", step, loss)
        return Verdict.SKIP

    @property
    def highest_loss(self) -> float:
        """Return the loss above which the next one is a jump, in the numbers of float32."""
        if len(self._losses) < self.settings.minimum or self._fresh_from_snapshot:
            return math.inf
        return self._highest_usual

    @property
    def _highest_usual(self) -> float:
        recent = np.asarray(self._losses)
        median = float(np.median(recent))
        deviation = 1.4826 * float(np.median(np.abs(recent - median)))
        deviation = max(deviation, self.settings.jump_share * abs(median), 1e-12)
        return float(np.float32(median + self.settings.jump_deviations * deviation))

    @property
    def limit(self) -> float:
        """Return the gradient norm for clipping the next step."""
        if len(self._norms) < self.settings.minimum:
            return self.settings.first_clip
        return self.settings.clip_factor * float(np.quantile(self._norms, self.settings.clip_quantile))

    def _copied(self) -> _Snapshot:
        """Return copies of weights and moments."""
        weights = [p.detach().clone() for p in self._parameters]
        return weights, copy.deepcopy([self._optimiser.state.get(p, {}) for p in self._parameters])

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
        self._snapshot = self._candidate = self._followed = None

    def _accept(self, loss: float, norm: float) -> None:
        """Note a sound step."""
        if self._fresh_from_snapshot and self._losses and loss > self._highest_usual:
            log.info("sound weights give the loss %.4g too; the guard learns a new level", loss)
            self._losses.clear()
        self._losses.append(loss)
        # What is remembered is capped too: one monstrous norm would otherwise raise the quantile for long,
        # but a lasting rise still raises it, by up to a factor of two per window.
        full = len(self._norms) >= self.settings.minimum
        self._norms.append(min(norm, 2 * self.limit) if full else norm)
        self.rate_factor = min(1.0, 1.001 * self.rate_factor)
        self.bad_in_a_row = 0
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
