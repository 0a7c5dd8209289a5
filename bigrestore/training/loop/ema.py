"""The running average of the weights; it is validated and shipped.

The average smooths the noise of the last hundred or so steps. Early on it must forget the random start faster: the
decay at update t is min(decay, (1 + t) / (10 + t)). Only weights of sound loss are averaged (see
`bigrestore.training.loop.guard`), so an undone step leaves no trace. Whether a loss is sound is known a step later:
until then the weights are held.

A fine-tuned network averaged with its start keeps more of its skill on other data, and is as good or better on its
own (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022): `start_share`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bigrestore.errors import UsageError


class WeightAverage:
    """Exponential moving average of a list of parameters, in float32.

    Parameters
    ----------
    parameters : iterable of Tensor
        The parameters; their order is the identity of the average, so it must not change between runs.
    decay : float
        0 <= decay < 1, the decay after the warm-up.
    start_share : float
        0 <= start_share < 1, the share of the first weights in what is validated and exported.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float = 0.999, start_share: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"The decay of the weight average is {decay}; give 0 <= decay < 1.")
        if not 0 <= start_share < 1:
            raise UsageError(f"The share of the first weights is {start_share}; give 0 <= start_share < 1.")
        self.decay = decay
        self.updates = 0
        self._parameters = list(parameters)
        self._average = [p.detach().float().clone() for p in self._parameters]
        self._held = [t.clone() for t in self._average]
        self.start_share = start_share
        self._start = [t.clone() for t in self._average] if start_share else []

    def hold(self) -> None:
        """Hold the present weights for `update`."""
        torch._foreach_copy_(self._held, [p.detach() for p in self._parameters])

    def update(self) -> None:
        """Take the weights that were held last into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        follow(self._average, self._held, None)
        self.updates += 1

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Replace the weights by their average."""
        for parameter, average in zip(self._parameters, self._average, strict=True):
            parameter.copy_(average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average, with the share of the start, in the place of the weights, and the weights back.

        For validation and export.
        """
        before = [p.detach().clone() for p in self._parameters]
        self.copy_to_parameters()
        with torch.no_grad():
            if self._start:
                for parameter, start in zip(self._parameters, self._start, strict=True):
                    parameter.lerp_(start.to(parameter), self.start_share)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weights in zip(self._parameters, before, strict=True):
                    parameter.copy_(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors and numbers only."""
        state = {"updates": self.updates, "average": [t.clone() for t in self._average]}
        return state | ({"start": [t.clone() for t in self._start]} if self._start else {})

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another average of the same parameters.

        Raises
        ------
        UsageError
            The number or a shape of the tensors differs.
        """
        shapes = [tuple(t.shape) for t in self._average]
        if [tuple(t.shape) for t in state["average"]] != shapes:
            raise UsageError(
                f"The saved weight average has {len(state['average'])} tensors that do not fit the "
                f"{len(shapes)} of this network; resume with the preset that the training was started with."
            )
        for average, saved in zip(self._average, state["average"], strict=True):
            average.copy_(saved)
        if self._start:
            for start, saved in zip(self._start, state["start"], strict=True):
                start.copy_(saved)
        self.updates = int(state["updates"])
