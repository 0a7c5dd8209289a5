"""The resolver: a denoiser learns to undo enlargements in the place of noise.

Clean windows are reduced by a factor and enlarged again, by cubic interpolation or by repeating pixels; the network is
told the factor. It is judged by the features of tissue rather than by pixels: what was lost is unknown, and a mean of all
that may have been is soft. The features are those of the denoiser that it starts from, frozen, or those of a VGG19 of the
user's (the first two stages).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from bigrestore.errors import ModelError
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.drunet import SRRUNetMethod
from bigrestore.model.nets.parts.drunet import DRUNet, factor_map
from bigrestore.model.nets.parts.part import TrainedPart, save_part
from bigrestore.model.nets.reading.estimator import DegradationEstimator
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.patches import PatchSource, step_rng
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, held_out_source
from bigrestore.training.stages.halo import measure_method_halo
from bigrestore.training.stages.parts.part_stage import PartStage

RESOLVER_PATCH_PX = 96
RESOLVER_BATCH = 8
RESOLVER_HELD_OUT = 32
RESOLVER_STREAM = 14
RESOLVER_HELD_OUT_SEED = 3_141_592
LARGEST_ENLARGEMENT = 4.0
"""At 16, as published, a cell of 10 um is gone."""
PROBED_FACTORS = (1.0, 2.0, LARGEST_ENLARGEMENT)
"""Factors that the halo is measured under."""
REPEATED_SHARE = 0.5
"""Share of the windows enlarged by repeating pixels."""
PIXELS, FIRST_FEATURES, SECOND_FEATURES = 0.01, 0.5, 0.5
"""Weights of the losses, as published for the features of VGG19."""
RESOLVER_SHOWN = 10
VGG_LAYERS = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128))
"""Convolutions of the first two stages of torchvision's VGG19: number in `features`, channels in and out."""
VGG_MEAN, VGG_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResolverSource:
    """Windows of tissue, reduced and enlarged again.

    Parameters
    ----------
    train, held_out : PatchSource
        Clean windows.
    seed : int
        Seed of the training.
    device : torch.device
        Where windows are wanted.
    """

    def __init__(self, train: PatchSource, held_out: PatchSource, *, seed: int, device: torch.device) -> None:
        self.train, self.seed, self.device = train, seed, device
        self._held_out = self._made(held_out, RESOLVER_HELD_OUT_SEED, 0, RESOLVER_HELD_OUT)

    def at(self, step: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return enlarged and clean windows of a step, (N, 1, 96, 96), and their factors, (N, 1, 1, 1)."""
        return self._made(self.train, self.seed, step, count)

    def held_out(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the held-out windows, always the same."""
        return self._held_out

    def _made(self, source: PatchSource, seed: int, step: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = step_rng(seed, step, RESOLVER_STREAM)
        clean = source.draw(count, rng, self.device)
        factors = rng.uniform(1, LARGEST_ENLARGEMENT, count)
        enlarged = []
        for index, window in enumerate(clean):
            side = round(window.shape[-1] / factors[index])
            factors[index] = window.shape[-1] / side
            small = F.interpolate(window[None], (side, side), mode="bicubic", antialias=True).clamp(0, 1)
            # Pixels stay centred: plain "nearest" shifts an image at factors that are no whole numbers.
            mode = "nearest-exact" if rng.random() < REPEATED_SHARE else "bicubic"
            enlarged.append(F.interpolate(small, window.shape[-2:], mode=mode).clamp(0, 1))
        told = torch.from_numpy(factors.astype(np.float32)).to(self.device)[:, None, None, None]
        return torch.cat(enlarged), clean, told


class Features(nn.Module):
    """Features of two depths that restored and clean windows are compared by.

    Parameters
    ----------
    denoiser : DRUNet
        Its encoder's first two grids are the features.
    """

    def __init__(self, denoiser: DRUNet) -> None:
        super().__init__()
        self.denoiser = copy.deepcopy(denoiser).requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of images, (N, 1, H, W)."""
        return self.denoiser.features(images, torch.zeros_like(images))[:2]


class VGGFeatures(nn.Module):
    """The first two stages of a VGG19.

    Parameters
    ----------
    file : Path
        torchvision's state dict, read without running code.

    Raises
    ------
    ModelError
        The file cannot be read, or is no VGG19.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            layers = [nn.Conv2d(into, out, 3, padding=1) for _, into, out in VGG_LAYERS]
            for layer, (number, _, _) in zip(layers, VGG_LAYERS, strict=True):
                parts = {name: state[f"features.{number}.{name}"] for name in ("weight", "bias")}
                layer.load_state_dict(parts)
        except Exception as error:  # what a foreign file makes of torch's reader is not of one kind
            raise ModelError(
                f"--features is {file}, and it is no state dict of torchvision's VGG19; give vgg19-*.pth, or leave it out."
            ) from error
        self.layers = nn.ModuleList(layers).requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of images, (N, 1, H, W)."""
        mean, deviation = (
            torch.tensor(values, device=images.device)[:, None, None] for values in (VGG_MEAN, VGG_DEVIATION)
        )
        h, stages = (images.expand(-1, 3, -1, -1) - mean) / deviation, []
        for index, layer in enumerate(self.layers):
            h = F.relu(layer(h))
            if index % 2:
                stages.append(h)
                h = F.max_pool2d(h, 2)
        return stages


class ResolverStage(PartStage[DRUNet]):
    """What the training loop asks for, for a resolver.

    Parameters
    ----------
    net : DRUNet
        The resolver, starting as a denoiser.
    sizes : dict
        Its arguments, for its file.
    source : ResolverSource
        Where windows come from.
    features : nn.Module
        What they are compared by.
    seed, batch : int
        Seed, and windows per step.
    dtype : torch.dtype
        What the network computes in.
    """

    name = "resolver"

    def __init__(
        self,
        net: DRUNet,
        sizes: dict[str, Any],
        source: ResolverSource,
        features: nn.Module,
        *,
        seed: int,
        batch: int = RESOLVER_BATCH,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.sizes, self.source, self.features = net, sizes, source, features
        self.seed, self.batch, self.dtype = seed, batch, dtype

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step, the total first."""
        return self._losses(*self.source.at(step, self.batch))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the loss on the held-out windows, and similarity and PSNR beyond those of the enlarged ones."""
        enlarged, clean, factor = self.source.held_out()
        made = self._resolved(enlarged, factor).clamp(0, 1)
        loss = float(self._losses(enlarged, clean, factor)["loss"])
        before, after = (_similarity(images, clean) for images in (enlarged, made))
        gain = _mean_psnr(made, clean) - _mean_psnr(enlarged, clean)
        return {"held_out_loss": loss, "ssim_gain": after - before, "psnr_gain": gain}

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out windows, one a column: enlarged, restored, clean."""
        enlarged, clean, factor = self.source.held_out()
        rows = (enlarged, self._resolved(enlarged, factor), clean)
        return sheet_of(rows, RESOLVER_SHOWN)

    def state(self) -> dict[str, Any]:
        """Return the frozen features for a checkpoint."""
        return {"features": self.features.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.features.load_state_dict(state["features"])

    def export(self, path: Path) -> None:
        """Measure the halo and write the part."""
        net, alignment = copy.deepcopy(self.net).cpu().eval(), {"alignment_px": self.net.alignment_px}
        part = TrainedPart(net, path.stem, {"halo_px": 0, "sha256": "", **alignment})
        knowledge, windows = Knowledge(DegradationEstimator(), 1), self.source.held_out()[0]
        methods = (SRRUNetMethod(part, knowledge, factor=factor) for factor in PROBED_FACTORS)
        halo_px = max(measure_method_halo(method, windows) for method in methods)
        save_part(path, self.net, self.name, 1, {"sizes": self.sizes, "halo_px": halo_px, **alignment})

    def _resolved(self, enlarged: Tensor, factor: Tensor) -> Tensor:
        with torch.autocast(enlarged.device.type, self.dtype, enabled=self.dtype != torch.float32):
            made: Tensor = self.net(enlarged, factor_map(enlarged, factor))
        return made.float()

    def _losses(self, enlarged: Tensor, clean: Tensor, factor: Tensor) -> dict[str, Tensor]:
        made = self._resolved(enlarged, factor)
        with torch.no_grad():
            wanted = self.features(clean)
        first, second = (
            (mine - theirs).abs().mean() / theirs.abs().mean().clamp_min(1e-6)
            for mine, theirs in zip(self.features(made), wanted, strict=True)
        )
        pixels = (made - clean).abs().mean()
        total = PIXELS * pixels + FIRST_FEATURES * first + SECOND_FEATURES * second
        return {"loss": total, "pixels": pixels, "first": first, "second": second}


def _similarity(images: Tensor, clean: Tensor) -> float:
    """Return the mean structural similarity of images, (N, 1, H, W), to clean ones."""
    pairs = zip(images[:, 0].cpu().numpy(), clean[:, 0].cpu().numpy(), strict=True)
    return float(
        np.mean([structural_similarity(one, other, data_range=1.0) for one, other in pairs])  # type: ignore[no-untyped-call]
    )


def _mean_psnr(images: Tensor, clean: Tensor) -> float:
    """Return the mean PSNR of images, (N, 1, H, W), dB."""
    return float(-10 * (images - clean).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean())


def build_resolver(
    _: str, material: Material, net: DRUNet, info: dict[str, Any], options: StageOptions, __: LoopSettings
) -> tuple[ResolverStage, ResolverSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    device = torch.device(options.device)
    source = ResolverSource(
        PatchSource(material.training, RESOLVER_PATCH_PX, **material.draws),
        held_out_source(material, RESOLVER_PATCH_PX),
        seed=options.seed,
        device=device,
    )
    features = Features(net) if options.features is None else VGGFeatures(options.features)
    stage = ResolverStage(
        net,
        info["sizes"],
        source,
        features.to(device),
        seed=options.seed,
        batch=options.batch or RESOLVER_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, source


RESOLVER = StageBuilder(StagePlan(warmup_steps=200), build_resolver)
