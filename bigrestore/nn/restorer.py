"""The whole network: interpolation, U-Net, prior and guards, put together.

    base = rational(x);  y0 = base + unet(x, deconvolutions);  y1 = y0 + generator
    y = y0 + realness (y1 - y0)

then the guards. At realness 0 the generator is not run at all, so that the result is noise-free and
independent of the seed. Untrained, y is the interpolation. Base, guards and the final sum are computed in
float32; only the U-Net and the generator run in the precision that is asked for.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.nn import guards
from bigrestore.nn.code import KernelBasis
from bigrestore.nn.estimator import DegradationEstimator
from bigrestore.nn.interpolation import catmull_rom, rational
from bigrestore.nn.latent import LatentHead
from bigrestore.nn.presets import Preset
from bigrestore.nn.prior import Generator
from bigrestore.nn.unet import UNet, UNetOutput
from bigrestore.nn.wiener import deconvolve, tissue_sigma, wiener_filters


@attrs.frozen(eq=False)
class Conditions:
    """What is known of the section that a batch of tiles comes from.

    Attributes
    ----------
    kernel : Tensor, (k, k)
        Blur kernel on the output grid.
    psi : Tensor, (24,)
        Degradation code.
    noise_gain, read_noise : float
        Noise model of the input.
    realness : float
        Share of the prior's detail, 0..1.
    lock : bool
        Whether the guards that compare with the input (back-projection, lock) act.
    seed, z : int
        Key of the prior's noise.
    """

    kernel: Tensor
    psi: Tensor
    noise_gain: float
    read_noise: float
    realness: float = 0.0
    lock: bool = True
    seed: int = 0
    z: int = 0


class Restorer(nn.Module):
    """Estimator, U-Net and, where the checkpoint has one, the prior.

    Parameters
    ----------
    preset : Preset
        Sizes.
    scale : int
        Output pixels per input pixel: 1, 2 or 4.
    with_prior : bool
        Whether to build the generator and its latent head.
    """

    def __init__(self, preset: Preset, scale: int, *, with_prior: bool = False) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise UsageError(f"the network restores at scale 1, 2 or 4, not {scale}")
        self.preset, self.scale = preset, scale
        self.basis = KernelBasis(scale)
        self.estimator = DegradationEstimator(scale)
        self.unet = UNet(preset, scale)
        self.latent_head = LatentHead(preset.channels[-1], preset.latent) if with_prior else None
        self.prior = (
            Generator(preset.channels, preset.latent, scale, preset.unshuffle) if with_prior else None
        )

    @property
    def alignment_px(self) -> int:
        """Tile origins and sizes are multiples of this many input pixels."""
        return self.preset.alignment_px

    def fidelity(
        self,
        x: Tensor,
        valid: Tensor,
        psi: Tensor,
        filters: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor, UNetOutput]:
        """Return base, y0 = base + residual, and the U-Net's output.

        Parameters
        ----------
        x, valid : Tensor, (N, 1, H, W)
            Degraded grey values 0..1 and their validity; H and W multiples of the alignment.
        psi : Tensor, (N, 24)
            Degradation codes; where one is all zero ("unknown"), its filters are not used.
        filters : Tensor, (1 or N, 3 * scale**2, t, t)
            Linear deconvolutions by the kernels, from `bigrestore.nn.wiener.wiener_filters`.
        dtype : torch.dtype
            What the U-Net computes in.
        """
        told = (psi != 0).any(dim=1).to(x.dtype)[:, None, None, None]
        linear = told * (deconvolve(x, valid, filters, self.scale) - catmull_rom(x, self.scale))
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            out = self.unet(x, valid, psi, linear)
        if out.shape_maps is None:
            base = x
        else:
            rho, kappa = out.shape_maps.chunk(2, dim=1)
            base = rational(x, self.scale, rho, kappa)
        return base, base + out.residual, out

    def forward(
        self,
        x: Tensor,
        valid: Tensor,
        conditions: Conditions,
        origins: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Restore a batch of tiles of one section.

        Parameters
        ----------
        x, valid : Tensor, (N, 1, H, W)
            Grey values 0..1 and validity; H and W multiples of the alignment.
        conditions : Conditions
            What is known of the section.
        origins : Tensor, (N, 2)
            Absolute input (y, x) of each tile's first pixel; multiples of the alignment.
        dtype : torch.dtype
            What the U-Net and the generator compute in.

        Returns
        -------
        Tensor, (N, 1, H * scale, W * scale), 0..1
        """
        psi = conditions.psi.expand(len(x), -1)
        numbers = torch.tensor([conditions.noise_gain, conditions.read_noise], device=x.device)
        filters = wiener_filters(conditions.kernel[None], tissue_sigma(*numbers[:, None]), self.scale)
        base, y, out = self.fidelity(x, valid, psi, filters, dtype)
        if conditions.realness > 0:
            y = y + conditions.realness * self.detail(out, conditions, origins, dtype)
        if conditions.lock:
            y = self._hold_to_data(y, x, valid, conditions)
        return guards.keep_saturated(y.clamp(0, 1), base, x, self.scale)

    def detail(self, out: UNetOutput, conditions: Conditions, origins: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what the generator adds to y0 at realness 1, (N, 1, H * scale, W * scale), float32."""
        if self.prior is None or self.latent_head is None:
            raise UsageError("this model has no prior, so realness must be 0; choose a model with a prior")
        with torch.autocast(out.residual.device.type, dtype, enabled=dtype != torch.float32):
            w_field = self.prior.mapping(self.latent_head(out.features[0]))
            detail = self.prior(w_field, out.features, conditions.seed, conditions.z, origins)
        return torch.as_tensor(detail).float()

    def _hold_to_data(self, y: Tensor, x: Tensor, valid: Tensor, conditions: Conditions) -> Tensor:
        """Back-projection (x2, x4), then the low-frequency lock."""
        if self.scale > 1:
            sigma = guards.noise_sigma(x, conditions.noise_gain, conditions.read_noise)
            y = guards.back_project(y, x, valid, conditions.kernel, sigma, self.scale)
        return guards.low_frequency_lock(y, x, valid, conditions.kernel, self.scale)
