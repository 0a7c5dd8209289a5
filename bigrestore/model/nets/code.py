"""The degradation code psi: 24 numbers describing the degradation to the network.

Ten are whitened coordinates of the blur kernel in a basis of principal components, fitted on sampled kernels and kept
in the checkpoint. The others are noise, JPEG, banding, jitter, damage, scale and optics, each scaled to about -1 ..
1. The zero vector means "unknown": the network also works, less well, without a code.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn

from bigrestore.model.method import PSI_SIZE
from bigrestore.model.nets.redegrade import KERNEL_PX

KERNEL_CODES = 10
PSI_SCALES = (1, 2, 4)
CODE_LIMIT = 3.0
"""Rare kernels lie up to nine standard deviations out; in psi their codes are limited smoothly to this."""
GAIN_FLOOR = 1e-6
"""Noise gains below this count as none; the whole range of the model is 1e-5 .. 4e-3."""
READ_FLOOR = 1e-3
"""Read noise below a quarter of a grey level of 8 bits counts as none."""


@attrs.frozen(eq=False)
class Degradations:
    """The degradation of each sample of a batch.

    Attributes
    ----------
    kernel : Tensor, (N, k, k)
        Effective kernel on the output grid; sums to one.
    noise_gain, read_noise : Tensor, (N,)
        The noise has standard deviation sqrt(noise_gain * x + read_noise**2), x in 0..1.
    jpeg_quality : Tensor, (N,)
        1..100, or 0 for none.
    banding : Tensor, (N,)
        Amplitude, 0..1 of the range.
    jitter_px : Tensor, (N,)
        Standard deviation of the line jitter, input pixels.
    damage, defocus : Tensor, (N,)
        1 for damage, 1 for a defocus disk; probabilities are allowed.
    thickness_px : Tensor, (N,)
        Blur by section thickness, as the radius of its largest disk, output pixels.
    """

    kernel: Tensor
    noise_gain: Tensor
    read_noise: Tensor
    jpeg_quality: Tensor
    banding: Tensor
    jitter_px: Tensor
    damage: Tensor
    defocus: Tensor
    thickness_px: Tensor


class KernelBasis(nn.Module):
    """Principal components of the kernels of a recipe.

    Parameters
    ----------
    scale : int
        Decides the size of the kernels.
    """

    mean: Tensor
    components: Tensor
    spread: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        pixels = KERNEL_PX[scale] ** 2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.zeros(KERNEL_CODES, pixels))
        self.register_buffer("spread", torch.ones(KERNEL_CODES))

    def fit(self, kernels: Tensor) -> None:
        """Fit the basis to sampled kernels, (n, k, k), n well above 10."""
        flat = kernels.flatten(1).double()
        mean = flat.mean(0)
        _, singular, rows = torch.linalg.svd(flat - mean, full_matrices=False)
        signs = torch.sign(rows.gather(1, rows.abs().argmax(1, keepdim=True)))
        self.mean.copy_(mean)
        self.components.copy_((rows * signs)[:KERNEL_CODES])
        self.spread.copy_(singular[:KERNEL_CODES] / math.sqrt(len(flat) - 1))

    def encode(self, kernels: Tensor) -> Tensor:
        """Return the whitened coordinates, (N, 10), of kernels (N, k, k)."""
        return ((kernels.flatten(1) - self.mean) @ self.components.T) / self.spread


def compose_psi(basis: KernelBasis, known: Degradations, scale: int) -> Tensor:
    """Write degradations as codes.

    Parameters
    ----------
    basis : KernelBasis
        Basis of the kernel codes.
    known : Degradations
        True or estimated degradations of N samples.
    scale : int
        1, 2 or 4.

    Returns
    -------
    Tensor, (N, 24)
    """
    count = known.noise_gain.shape[0]
    psi = torch.zeros(count, PSI_SIZE, device=known.kernel.device)
    codes = basis.encode(known.kernel)
    psi[:, :KERNEL_CODES] = CODE_LIMIT * torch.tanh(codes / CODE_LIMIT)
    psi[:, 10] = gain_to_code(known.noise_gain)
    psi[:, 11] = read_to_code(known.read_noise)
    psi[:, 12] = jpeg_to_code(known.jpeg_quality)
    psi[:, 13] = known.banding / 0.04
    psi[:, 14] = known.jitter_px / 0.4
    psi[:, 15] = known.damage
    psi[:, 16 + PSI_SCALES.index(scale)] = 1.0
    psi[:, 19] = known.defocus
    psi[:, 20] = (known.thickness_px / 4).clamp_max(2)
    return psi


def gain_to_code(gain: Tensor) -> Tensor:
    """Log of the noise gain: -1 for none, 0.8 for 4e-3."""
    return (torch.log10(gain.clamp_min(GAIN_FLOOR)) + 4) / 2


def code_to_gain(code: Tensor) -> Tensor:
    """Inverse of `gain_to_code`; at or below the floor there is no noise."""
    gain = 10 ** (2 * code - 4)
    return torch.where(gain <= 1.5 * GAIN_FLOOR, torch.zeros_like(gain), gain)


def read_to_code(read: Tensor) -> Tensor:
    """Log of the read noise: -1 for none, 1 for 0.1 of the range."""
    return torch.log10(read.clamp_min(READ_FLOOR)) + 2


def code_to_read(code: Tensor) -> Tensor:
    """Inverse of `read_to_code`; at or below the floor there is no noise."""
    read = 10 ** (code - 2)
    return torch.where(read <= 1.1 * READ_FLOOR, torch.zeros_like(read), read)


def jpeg_to_code(quality: Tensor) -> Tensor:
    """0 for no JPEG, 1 for quality 40."""
    return torch.where(quality > 0, (100 - quality) / 60, torch.zeros_like(quality))
