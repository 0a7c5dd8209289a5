"""How likely an input is, given its restoration: what scores and the map `unlikely` ask of a trained PixelCNN.

It refutes and does not praise: an image that is far too soft explains its input nearly as well as the truth, because the
network knows blur. What it marks is what no degradation of the training makes of the image: cells that are not in the
input or are missing from it, and shifts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import repeat_pixels
from bigrestore.core.pixels import Floats
from bigrestore.model.method import Method, SectionStatistics, TileBatch, TileResult
from bigrestore.model.nets.parts.part import TrainedPart, load_part
from bigrestore.model.nets.parts.pixelcnn import Mixture, PixelCNN, noise_bits, to_levels
from bigrestore.model.wrapped import WrappedMethod
from bigrestore.settings.values import UNLIKELY_MAP

WINDOW_SUM_PX = 13
"""Side of the squares of input pixels whose bits are summed for the map."""

LIKELIHOOD_BYTES_PER_PX = 3200
LIKELIHOOD_PX_PER_SECOND = 40_000.0
"""Peak memory and speed on one core, measured with some reserve."""


class Likelihood:
    """A trained likelihood on a device.

    Parameters
    ----------
    part : TrainedPart
        Of the kind `likelihood`.
    device : str or torch.device
        Where it computes, in float32.
    """

    def __init__(self, part: TrainedPart, device: str | torch.device = "cpu") -> None:
        assert isinstance(part.network, PixelCNN)
        self.identity = part.identity
        self.device = torch.device(device)
        self.net: PixelCNN = part.network.to(self.device)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scale, self.reach_px = self.net.scale, self.net.reach_px

    @classmethod
    def load(
        cls, scale: int, file: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> Likelihood:
        """Load the shipped one of a scale, or a file; the errors are those of `load_part`."""
        return cls(load_part("likelihood", scale, file, "--likelihood-model"), device)

    @torch.inference_mode()
    def bits(self, pixels: Floats, restored: Floats, *, alone: bool = False) -> Floats:
        """Return the bits of every input pixel, given its restoration and the pixels before it.

        Parameters
        ----------
        pixels : ndarray, (n, h, w), float32
            Inputs, 0..1.
        restored : ndarray, (n, h * scale, w * scale), float32
            What they were restored to, 0..1.
        alone : bool
            Whether the pixels before one are left out.

        Returns
        -------
        ndarray, (n, h, w), float32
        """
        levels, mixture = self._mixture(self._tensor(pixels), self._tensor(restored), 0.0 if alone else 1.0)
        return np.asarray(mixture.bits(levels)[:, 0].cpu().numpy(), np.float32)

    @torch.inference_mode()
    def unlikely(self, pixels: Floats, valid: NDArray[np.bool_] | None, restored: Floats) -> Floats:
        """Return by how many standard deviations the bits around a pixel exceed what the network expects.

        The bits are those by the restoration alone: pixels seen before one would soon explain an input that contradicts it.
        Its own distribution has mean and variance of the bits of every pixel. Sums over 13 x 13 pixels less the sums of
        the means, over the root of the sum of the variances, are standard normal where it is right.

        Parameters
        ----------
        pixels, restored
            As of `bits`.
        valid : ndarray, (n, h, w), bool, optional
            Undamaged pixels; the others are not summed, and looked at as what the restoration says.

        Returns
        -------
        ndarray, (n, h * scale, w * scale), float32
            None negative.
        """
        x, y = self._tensor(pixels), self._tensor(restored)
        known = torch.ones_like(x)
        if valid is not None:
            known = torch.from_numpy(valid).to(self.device)[:, None].float()
            x = torch.where(known > 0, x, F.avg_pool2d(y, self.scale))
        levels, mixture = self._mixture(x, y, sees=0.0)
        mean, variance = mixture.expected_bits()
        excess, spread = (_window_sums(part * known) for part in (mixture.bits(levels) - mean, variance))
        z = (excess / spread.clamp_min(1e-6).sqrt()).clamp_min(0)
        return np.asarray(repeat_pixels(z, self.scale)[:, 0].cpu().numpy(), np.float32)

    def _mixture(self, x: Tensor, y: Tensor, sees: float = 1.0) -> tuple[Tensor, Mixture]:
        levels = to_levels(x)
        mixture: Mixture = self.net(levels, y, sees)
        return levels, mixture

    def _tensor(self, images: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(self.device)[:, None]


class WithUnlikely(WrappedMethod):
    """A method that also gives the map `unlikely` of what it made.

    Parameters
    ----------
    method : Method
        At a whole scale.
    likelihood : Likelihood
        Of the same scale.
    """

    def __init__(self, method: Method, likelihood: Likelihood) -> None:
        fast = 1.0 if likelihood.device.type == "cpu" else 50.0
        reach = likelihood.reach_px + WINDOW_SUM_PX // 2
        super().__init__(method, reach, LIKELIHOOD_BYTES_PER_PX, fast * LIKELIHOOD_PX_PER_SECOND)
        self.likelihood = likelihood

    @property
    def map_names(self) -> tuple[str, ...]:
        """The maps of the method, and its own."""
        return (*super().map_names, UNLIKELY_MAP)

    def describe(self) -> dict[str, Any]:
        """Return the identity of the method, and that of the likelihood."""
        return {**super().describe(), "likelihood": self.likelihood.identity}

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Restore tiles, and add the map where it is asked for."""
        asked = tuple(name for name in batch.maps if name != UNLIKELY_MAP)
        result = self.method.restore(attrs.evolve(batch, maps=asked), statistics)
        if UNLIKELY_MAP not in batch.maps:
            return result
        parts = [
            self.likelihood.unlikely(
                batch.pixels[at], None if batch.valid is None else batch.valid[at], result.pixels[at]
            )
            for at in (slice(index, index + 1) for index in range(len(batch.pixels)))
        ]
        return attrs.evolve(result, maps={**result.maps, UNLIKELY_MAP: np.concatenate(parts)})


def law_bits(noise_gain: float, read_noise: float, pixels: Floats) -> float:
    """Return the mean entropy of the noise of pixels, in bits; NaN where no noise was read."""
    if noise_gain <= 0 and read_noise <= 0:
        return float("nan")
    gain, read = (torch.tensor(part, dtype=torch.float64) for part in (noise_gain, read_noise))
    return float(noise_bits(gain, read, torch.from_numpy(pixels.astype(np.float64))).mean())


def _window_sums(image: Tensor) -> Tensor:
    """Return the sums over squares of 13 pixels around each pixel, as far as they lie in the image."""
    return F.avg_pool2d(image, WINDOW_SUM_PX, 1, WINDOW_SUM_PX // 2) * WINDOW_SUM_PX**2
