"""A recipe learned from pairs: a bank of what was fitted to windows of them.

A draw is one window of the bank, or a point between it and the window most like it, with what a network adds where one was
trained. It is a `Degradation` as any other:
patches, whole sections and trainings need not know where its kernel comes from.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.kernels import Kernel, kernel_size
from bigrestore.degradation.degradation import Degradation, Noise, Storage
from bigrestore.degradation.jpeg import JPEG_BLOCK_PX
from bigrestore.degradation.learned.synthesis import Synthesis
from bigrestore.errors import ModelError
from bigrestore.model.nets.parts.learned_degradation import LearnedDegradation, SynNet
from bigrestore.model.nets.parts.part import TrainedPart, load_part

LEARNED_KIND = "degradation"
"""Of its part, and of the stage that makes it."""

LEARNED_SUFFIX = ".safetensors"

BETWEEN_SHARE = 0.5
"""Share of draws that lie between two windows."""

NOISE_FLOOR = 1e-6
"""Added to a variance before its logarithm is compared."""


@attrs.frozen
class BankWindow:
    """What was fitted to one window, beside its kernel.

    Attributes
    ----------
    noise : Noise
    bit_depth, jpeg_quality : int
        As in `Storage`.
    """

    noise: Noise
    bit_depth: int
    jpeg_quality: int


@attrs.frozen(eq=False)
class LearnedRecipe:
    """A bank of fits; see `load_learned`.

    Attributes
    ----------
    name : str
        Stem of the file.
    sha256 : str
        Of its tensors.
    scale : int
        Of its pairs.
    kernels : ndarray, (K, k, k), float32
        Each sums to one; taps may be negative.
    windows : tuple of BankWindow, (K,)
    codes : Tensor, (K, 64), optional
        Of the windows, where a network was trained.
    network : SynNet, optional
        What adds to the fitted blur.
    contrast_kept : float
        Part of the fitted `contrast_gain` that is left beside what the network adds.
    neighbours : ndarray, (K,), int
        The window most like each.
    """

    name: str
    sha256: str
    scale: int
    kernels: NDArray[np.float32]
    windows: tuple[BankWindow, ...]
    codes: Tensor | None = None
    network: SynNet | None = None
    contrast_kept: float = 1.0
    neighbours: NDArray[np.int64] = attrs.field(init=False)

    @neighbours.default
    def _nearest(self) -> NDArray[np.int64]:
        flat = self.kernels.reshape(len(self.kernels), -1).astype(np.float64)
        level = np.log([w.noise.gain / 2 + w.noise.read**2 + NOISE_FLOOR for w in self.windows])
        apart = ((flat[:, None] - flat[None]) ** 2).sum(-1) / max((flat**2).sum(-1).mean(), 1e-9)
        apart = apart + 0.01 * (level[:, None] - level[None]) ** 2
        np.fill_diagonal(apart, np.inf)
        return apart.argmin(axis=1) if len(apart) > 1 else np.zeros(1, np.int64)

    def draw(self, scale: int, rng: np.random.Generator) -> Degradation:
        """Draw one degradation.

        Parameters
        ----------
        scale : int
            Of the recipe; or 1, for an estimator, which reads the input alone: kernels are then on the input grid.
        rng : numpy.random.Generator
            The only source of chance.
        """
        first = int(rng.integers(len(self.windows)))
        between = rng.random() < BETWEEN_SHARE
        share = float(rng.uniform(0, 0.5)) if between else 0.0
        phase = (int(rng.integers(JPEG_BLOCK_PX)), int(rng.integers(JPEG_BLOCK_PX)))
        second = int(self.neighbours[first])
        kernel = (1 - share) * self.kernels[first] + share * self.kernels[second]
        own, other = self.windows[first], self.windows[second]
        noise, synthesis = _point_between(own.noise, other.noise, share), None
        if self.network is not None and scale == self.scale:
            synthesis = self._synthesis(first, second, share)
            change = self.network.noise_change(synthesis.code[None])[0]
            noise = corrected_noise(noise, change, self.contrast_kept)
        return Degradation(
            scale=scale,
            kernel=kernel.astype(np.float32) if scale == self.scale else on_input_grid(kernel, self.scale),
            kind="learned",
            blur={"window": float(first), "neighbour": float(second), "share": share},
            downsampling="none" if scale == 1 else "learned",
            noise=noise,
            storage=Storage(own.bit_depth, own.jpeg_quality, phase),
            synthesis=synthesis,
        )

    def _synthesis(self, first: int, second: int, share: float) -> Synthesis:
        """Return the network under the code between two windows."""
        assert self.network is not None
        assert self.codes is not None
        code = F.normalize((1 - share) * self.codes[first] + share * self.codes[second], dim=0)
        return Synthesis(self.network, code)

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies it."""
        return {"name": self.name, "learned": self.sha256, "scale": self.scale}

    def always_degrading(self) -> LearnedRecipe:
        """Return it as it is: it has no undegraded pairs."""
        return self


def _point_between(one: Noise, two: Noise, share: float) -> Noise:
    """Return the noise between two, on a line of their variances."""
    numbers = [
        (1 - share) * a + share * b
        for a, b in zip(
            (one.gain, one.read**2, one.correlated_share, one.contrast_gain),
            (two.gain, two.read**2, two.correlated_share, two.contrast_gain),
            strict=True,
        )
    ]
    return Noise(numbers[0], float(np.sqrt(numbers[1])), numbers[2], numbers[3])


def corrected_noise(noise: Noise, change: Tensor, contrast_kept: float = 1.0) -> Noise:
    """Return fitted noise with the change, (3,), that `SynNet.noise_change` makes, and a part of its `contrast_gain`."""
    gain, read, share = (float(number) for number in change)
    odds = noise.correlated_share / max(1 - noise.correlated_share, 1e-3) * math.exp(share)
    return Noise(
        noise.gain * math.exp(gain),
        noise.read * math.exp(0.5 * read),
        min(odds / (1 + odds), 1.0),
        contrast_kept * noise.contrast_gain,
    )


def on_input_grid(kernel: NDArray[np.floating], scale: int) -> Kernel:
    """Return a kernel of x2 or x4 on the input grid: the sums of its taps over the cells of a degraded pixel.

    The averaging of a pixel, which belongs to the grid, leaves one tap.
    """
    size, middle = kernel_size(1), kernel.shape[0] // 2
    first = (
        -middle + (scale - 1) // 2
    )  # of the first tap, from the first clean pixel of the cell in the middle
    cells = np.clip((np.arange(kernel.shape[0]) + first) // scale + size // 2, 0, size - 1)
    summed = np.zeros((size, size))
    np.add.at(summed, (cells[:, None], cells[None, :]), np.asarray(kernel, np.float64))
    return np.asarray(summed / summed.sum(), np.float32)


def load_learned(path: str | Path, scale: int) -> LearnedRecipe:
    """Read a file of `bigrestore train degradation`.

    Raises
    ------
    InputMissingError, ModelError
        There is no such file, or it is damaged.
    UsageError
        It is a part of another kind.
    ModelScaleError
        It was learned at another scale.
    """
    return recipe_of(load_part(LEARNED_KIND, scale, path, "--recipe"))


def recipe_of(part: TrainedPart) -> LearnedRecipe:
    """Return the recipe in a part."""
    assert isinstance(part.network, LearnedDegradation)
    try:
        windows = tuple(
            BankWindow(
                Noise(
                    float(w["noise_gain"]),
                    float(w["read_noise"]),
                    float(w["correlated_share"]),
                    float(w.get("contrast_gain", 0)),  # files of older versions lack it
                ),
                int(w["bit_depth"]),
                int(w["jpeg_quality"]),
            )
            for w in part.info["windows"]
        )
        contrast_kept = float(part.info.get("contrast_kept", 1.0))
        if not (0 <= contrast_kept <= 1 and all(w.noise.contrast_gain >= 0 for w in windows)):
            raise ValueError("a part of the unexplained residual below 0 or above 1")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The learned degradation {part.name} does not say what was fitted ({error}); train it again."
        ) from error
    kernels = part.network.kernels.numpy().astype(np.float64)
    if not windows or len(windows) != len(kernels):
        raise ModelError(
            f"The learned degradation {part.name} has {len(kernels)} kernels of {len(windows)} windows; train it again."
        )
    kernels = kernels / kernels.sum(axis=(1, 2), keepdims=True)  # float16 rounds each tap
    network = part.network.syn_net
    return LearnedRecipe(
        part.name,
        str(part.info["sha256"]),
        int(part.info["scale"]),
        kernels.astype(np.float32),
        windows,
        None if network is None else part.network.codes,
        network,
        contrast_kept,
    )
