"""The whole network: interpolation, U-Net, prior and guards, put together.

    base = rational(x);  y0 = base + unet(x, deconvolutions);  y1 = y0 + generator
    y = y0 + realness gate (y1 - y0)

then the guards. `prior_gate` lowers realness at places without support in the input
(`bigrestore.model.nets.prior_gate`). At realness 0 the generator does not run, so the result is noise-free and
independent of the seed. Untrained, y is the interpolation. Base, guards and the final sum are float32; only the U-Net
and the generator run in the chosen precision.
"""

from __future__ import annotations

from functools import cache

import attrs
import torch
from torch import Tensor, nn

from bigrestore.core.interpolation import catmull_rom, enlarge_maps, rational
from bigrestore.core.waiting import readable
from bigrestore.errors import UsageError
from bigrestore.model.nets import guards
from bigrestore.model.nets.code import KernelBasis
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.prior.latent import LatentHead
from bigrestore.model.nets.prior_gate import expected_ratios, prior_gate
from bigrestore.model.nets.reading.estimator import DegradationEstimator
from bigrestore.model.nets.unet import UNet, UNetOutput
from bigrestore.model.nets.wiener import deconvolve, tissue_sigma, wiener_filters
from bigrestore.settings.presets import Preset


@attrs.frozen(eq=False)
class Conditions:
    """Facts of the section of a batch of tiles.

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
        Run the guards comparing with the input (back-projection, lock).
    seed, z : int
        Key of the prior's noise.
    filters : Tensor, (1, 3 * scale**2, t, t), optional
        Linear deconvolutions by the kernel (`bigrestore.model.nets.wiener.wiener_filters`).
    ratios : tuple of Tensor, optional
        Energies that the gate expects under the kernel (`bigrestore.model.nets.prior_gate.expected_ratios`).
    """

    kernel: Tensor
    psi: Tensor
    noise_gain: float
    read_noise: float
    realness: float = 0.0
    lock: bool = True
    seed: int = 0
    z: int = 0
    filters: Tensor | None = None
    ratios: tuple[Tensor, Tensor] | None = None


@attrs.frozen(eq=False)
class Restored:
    """The output of the network for a batch, with optional extras.

    Attributes
    ----------
    y : Tensor, (N, 1, H * scale, W * scale), 0..1
        The restored tiles.
    fidelity : Tensor, (N, 1, H * scale, W * scale), 0..1
        The same at realness 0, guards included; `y` itself if the prior added nothing.
    unet : UNetOutput
        Of the U-Net, with the expected error.
    """

    y: Tensor
    fidelity: Tensor
    unet: UNetOutput


class Restorer(nn.Module):
    """Estimator, U-Net and, in some checkpoints, the prior.

    Parameters
    ----------
    preset : Preset
        Sizes.
    scale : int
        Output pixels per input pixel: 1, 2 or 4.
    with_prior : bool
        Whether to build the generator and its latent head.
    fusion : str
        How the U-Net's features enter the generator, of `settings.presets.FUSIONS_OF_FEATURES`.
    """

    def __init__(self, preset: Preset, scale: int, *, with_prior: bool = False, fusion: str = "sft") -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise UsageError(f"the network restores at scale 1, 2 or 4, not {scale}")
        self.preset, self.scale = preset, scale
        self.basis = KernelBasis(scale)
        self.estimator = DegradationEstimator()
        self.unet = UNet(preset, scale)
        self.latent_head = LatentHead(preset.channels[-1], preset.latent) if with_prior else None
        self.prior = (
            Generator(preset.channels, preset.latent, scale, preset.unshuffle, fusion) if with_prior else None
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
        whole: bool | None = None,
    ) -> tuple[Tensor, Tensor, UNetOutput]:
        """Return base, y0 = base + residual, and the U-Net's output.

        Parameters
        ----------
        x, valid : Tensor, (N, 1, H, W)
            Degraded grey values 0..1 and their validity; H and W multiples of the alignment.
        psi : Tensor, (1 or N, 24)
            Degradation codes; an all-zero code ("unknown") switches its filters off.
        filters : Tensor, (1 or N, 3 * scale**2, t, t)
            Linear deconvolutions by the kernels, from `bigrestore.model.nets.wiener.wiener_filters`.
        dtype : torch.dtype
            What the U-Net computes in.
        whole : bool, optional
            As in `restore`.
        """
        told = (psi != 0).any(dim=1).to(x.dtype)[:, None, None, None]
        linear = told * (deconvolve(x, valid, filters, self.scale, whole) - catmull_rom(x, self.scale))
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
        return self.restore(x, valid, conditions, origins, dtype).y

    def restore(
        self,
        x: Tensor,
        valid: Tensor,
        conditions: Conditions,
        origins: Tensor,
        dtype: torch.dtype = torch.float32,
        share: Tensor | None = None,
        *,
        both: bool = False,
        whole: bool | None = None,
    ) -> Restored:
        """Restore a batch of tiles of one section, and list the parts of the result.

        Parameters
        ----------
        x, valid, conditions, origins, dtype
            As in `forward`.
        share : Tensor, (N, 1, H, W), 0..1, optional
            What the realness of the conditions is multiplied with, per input pixel; None: 1 everywhere.
        both : bool
            Whether `Restored.fidelity` is wanted; else it is `y`.
        whole : bool, optional
            Whether all of `valid` is 1, where the caller knows; else the pixels are looked at.

        Returns
        -------
        Restored
        """
        conditions = self.completed(conditions)
        assert conditions.filters is not None
        base, y0, out = self.fidelity(x, valid, conditions.psi[None], conditions.filters, dtype, whole)
        base = base.clamp(0, 1)
        noise = conditions.noise_gain, conditions.read_noise
        seen = guards.Seen(x, valid, base, conditions.kernel, *noise, self.scale, whole=whole)
        factor = self._factor(seen, conditions, share)
        looks = factor is not None and readable(factor)
        if factor is not None and looks and not bool(factor.any()):
            factor = None

        @cache
        def at_zero() -> Tensor:
            return guards.guarded(y0, lambda: base, seen, lock=conditions.lock)

        if factor is None:
            y = at_zero()
        else:
            added = factor * self.detail(out, conditions, origins, dtype)
            y = guards.guarded(y0 + added, at_zero, seen, lock=conditions.lock)
            y = y if looks else torch.where(factor.any(), y, at_zero())
        lone = at_zero() if both else y
        return Restored(y, lone, out)

    def completed(self, conditions: Conditions) -> Conditions:
        """Return conditions with what is computed once for all tiles of a section: `filters` and `ratios`."""
        kernel, filters, ratios = conditions.kernel, conditions.filters, conditions.ratios
        if filters is None:
            numbers = torch.tensor([conditions.noise_gain, conditions.read_noise], device=kernel.device)
            filters = wiener_filters(kernel[None], tissue_sigma(*numbers[:, None]), self.scale)
        if ratios is None and conditions.realness > 0:
            ratios = expected_ratios(kernel, self.scale)
        return attrs.evolve(conditions, filters=filters, ratios=ratios)

    def _factor(self, seen: guards.Seen, conditions: Conditions, share: Tensor | None) -> Tensor | None:
        """Return what the prior's detail is multiplied with; None at realness 0."""
        if conditions.realness <= 0:
            return None
        known = conditions.noise_gain, conditions.read_noise
        gate = prior_gate(
            seen.x, seen.valid, seen.kernel, *known, self.scale, whole=seen.whole, ratios=conditions.ratios
        )
        factor = conditions.realness * gate
        return factor if share is None else factor * enlarge_maps(share, self.scale)

    def detail(self, out: UNetOutput, conditions: Conditions, origins: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the generator's part beyond y0 at realness 1, (N, 1, H * scale, W * scale), float32."""
        if self.prior is None or self.latent_head is None:
            raise UsageError("this model has no prior, so realness must be 0; choose a model with a prior")
        with torch.autocast(out.residual.device.type, dtype, enabled=dtype != torch.float32):
            w_field = self.prior.mapping(self.latent_head(out.features[0]))
            detail = self.prior(w_field, out.features, conditions.seed, conditions.z, origins)
        return torch.as_tensor(detail).float()
