"""The second player of a training: a critic with an optimiser, a guard and a state of its own.

The loop trains one set of modules by one loss, the generator's. The critic learns inside the stage's step, before the
generator's loss: first from its own loss on real and made patches, then, as a fixed function, it judges the
generator. It has its own guard, because either player can be thrown off: a step of unsound loss or gradient is
skipped, and a critic with many of them goes back to its last snapshot. Its whole state is part of the stage's
checkpoint, so a resumed training continues to the bit.

R1, the penalty on the critic's gradient at real patches, is taken every 16 steps and counts 16 times then
(lazy regularisation). Its gradient is far above the usual one, so the guard clips late.

Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018; lazy R1: Karras et al.,
CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.training.loop.guard import GuardSettings, StepGuard, Verdict

R1_EVERY = 16
R1_GAMMA_PER_PX = 0.0002
BETAS = (0.0, 0.99)
GUARD = GuardSettings(jump_deviations=20.0, jump_share=0.25, clip_factor=10.0)
"""Losses of two players swing as long as both learn: a jump must exceed any swing."""


class Adversary:
    """A critic and how it learns.

    Parameters
    ----------
    critic : nn.Module
        Judges a batch.
    rate_at : callable
        Learning rate by step and progress.
    betas : (float, float)
        Of its Adam.
    guard : GuardSettings
        How wary its guard is.
    """

    def __init__(
        self,
        critic: nn.Module,
        rate_at: Callable[[int, float], float],
        *,
        betas: tuple[float, float] = BETAS,
        guard: GuardSettings = GUARD,
    ) -> None:
        self.critic, self._rate_at = critic, rate_at
        parameters = list(critic.parameters())
        self._parameters = parameters
        self._optimiser = torch.optim.Adam(parameters, lr=rate_at(0, 0.0), betas=betas, fused=True)
        self._guard = StepGuard(parameters, self._optimiser, guard)

    def learn(self, step: int, progress: float, loss: Tensor, penalty: Tensor | None = None) -> None:
        """Make one step of the critic.

        Parameters
        ----------
        step : int
            Index of the step.
        progress : float
            Finished part of the schedule, 0..1.
        loss : Tensor, ()
            What the guard judges, with its graph.
        penalty : Tensor, (), optional
            Added to the loss, but not judged as a jump.
        """
        if self._put_back():
            return
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate_at(step, progress) * self._guard.rate_factor
        self._guard.follow(step, loss, penalty)

    def _put_back(self) -> bool:
        """Judge the last step; return whether the critic went back to its snapshot for it."""
        thrown = self._guard.settle() is Verdict.RESTORE
        if thrown:
            self._guard.restore()
        return thrown

    def fixed(self) -> _Fixed:
        """Return a context with a fixed critic: gradients pass through it and not into it."""
        return _Fixed(self._parameters)

    def state(self) -> dict[str, Any]:
        """Return the state for a resume."""
        self._put_back()
        return {
            "critic": self.critic.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "guard": self._guard.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.critic.load_state_dict(state["critic"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._guard.load_state_dict(state["guard"])


class _Fixed:
    """Switches the gradients of parameters off for a while."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters

    def __enter__(self) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(True)


def logistic_critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the critic's loss of the non-saturating game, from its judgements (N,) of real and made."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def logistic_generator_loss(made: Tensor) -> Tensor:
    """Return the generator's non-saturating loss, from the critic's judgements (N,)."""
    return F.softplus(-made).mean()


def r1_penalty(critic: nn.Module, real: Tensor, contrast: float = 1.0) -> Tensor:
    """Return the mean squared norm of the critic's gradient at real patches, with a graph.

    Parameters
    ----------
    critic : nn.Module
        Maps (N, 1, H, W) to (N,).
    real : Tensor, (N, 1, H, W)
        Real patches.
    contrast : float
        Factor on the critic's input; the gradient is with respect to the enlarged input.
    """
    at = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
    return (gradient / contrast).square().sum((1, 2, 3)).mean()


def r1_gamma(patch_px: int, batch: int) -> float:
    """Return StyleGAN2's weight of R1 for patches of a size: 0.0002 px^2 / batch."""
    return R1_GAMMA_PER_PX * patch_px**2 / batch
