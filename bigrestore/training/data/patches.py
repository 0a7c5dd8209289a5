"""Where training patches come from: windows of clean sections, drawn by group, scale and worth.

Free images with a cell-body stain are few and must be used well. The stain nearest to BigBrain is drawn most,
everything is also seen downscaled (a section of 1 um per pixel becomes one of 4), and half of the patches get
BigBrain's grey levels (background white, tissue median near 198 of 255). Dark stays on light: a network trained on
inverted tissue learns less about tissue. Choices by pixel values are made once, at loading; a draw is then a look-up
and depends only on the random generator handed in: the data of step i depend only on (seed, i).
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.errors import InputError, UsageError
from bigrestore.training.data.images import GreyImage, group_of, load_images
from bigrestore.training.data.windows import GreyLevels, WindowRule, area_downscale, cell_maps, window_origins

log = logging.getLogger(__name__)

ELECTRON_MICROSCOPY = "em_"
"""Groups with these prefixes keep their grey levels: they have no white background to map."""

GROUP_WEIGHTS: Mapping[str, float] = {
    "human_cortex_cellbody_inm1": 1.6,
    "brain_section_dab_mouse": 2.5,
    "brain_nissl_rat": 0.9,
    "brain_section_he_mouse": 0.7,
    "histology_he": 0.9,
    "histology_purple_dsb2018": 0.5,
    "brightfield_grey_cytology_dsb2018": 0.4,
    "em_neural_drosophila_sstem": 0.15,
    "em_neural_mouse_tem": 0.15,
    "em_neural_rat_sem": 0.15,
}
"""Relative frequency of each group; an unlisted group has weight 1."""

SCALE_WEIGHTS: Mapping[float, float] = {1.0: 0.32, 0.75: 0.24, 0.5: 0.22, 0.35: 0.12, 0.25: 0.10}
"""Area-downscaling factors, and how often each is drawn; small ones hold few different windows."""

GROUP_SCALE_WEIGHTS: Mapping[str, Mapping[float, float]] = {
    # Compressed at capture: at larger factors what is left at the highest frequencies is rounding, not tissue.
    "brain_nissl_rat": {0.25: 0.4, 0.2: 0.3, 0.16: 0.2, 0.125: 0.1},
    # Grain over soft outlines: sharp by its spectrum, but not by its content.
    "em_neural_rat_sem": {0.5: 0.7, 0.35: 0.3},
    "histology_he": {0.75: 0.2, 0.5: 0.45, 0.35: 0.2, 0.25: 0.15},
    "histology_purple_dsb2018": {0.75: 0.4, 0.5: 0.4, 0.35: 0.2},
}
"""Groups drawn at other factors than `SCALE_WEIGHTS`."""

TISSUE_TARGET = (195 / 255, 202 / 255)
"""BigBrain's median tissue grey; its background is 1."""

REMAP_SLOPE = (0.4, 1.6)
"""Least and greatest contrast gain of the remap: noise must not be blown up with the tissue."""

FEW_WINDOWS = 300
"""A group with fewer windows is drawn less, in proportion: a handful would be learned by heart."""

NAMED_FILES = 3
"""Most files named in a refusal."""


def step_rng(seed: int, step: int, stream: int = 0) -> np.random.Generator:
    """Return the generator of one training step: the same for the same (seed, step, stream)."""
    return np.random.default_rng([stream, step, seed])


def step_generator(
    seed: int, step: int, device: torch.device | str = "cpu", stream: int = 1
) -> torch.Generator:
    """Return the torch generator of one training step, on a device."""
    number = int(np.random.SeedSequence([stream, step, seed]).generate_state(1, np.uint64)[0])
    return torch.Generator(device=device).manual_seed(number & (2**63 - 1))


@attrs.frozen(eq=False)
class _ScaledImage:
    """One image at one downscaling factor, with the origins of its windows and its draw weight."""

    name: str
    group: str
    factor: float
    pixels: NDArray[Any]
    origins: NDArray[np.int32]
    levels: GreyLevels

    @property
    def remappable(self) -> bool:
        """Whether the image shows dark tissue on a light background, as far as its levels tell."""
        light = self.levels.background > 0.5 and self.levels.tissue > 0.3 * self.levels.background
        return light and not group_of(self.name).startswith(ELECTRON_MICROSCOPY)


class PatchSource:
    """Draws clean patches from a set of images held in memory.

    Parameters
    ----------
    source : path, list of paths, or list of GreyImage
        A folder of images (files in a folder `val` below it are left out), files, or a packed `.npz`.
    patch_px : int
        Side of a patch in pixels of the output grid, all margins included.
    augment : bool
        Dihedral transforms and the contrast remap; off for validation windows.
    group_weights, scale_weights, group_scale_weights : mapping, optional
        In place of the tables of this module.
    remap_probability : float
        Share of the patches with BigBrain's grey levels.
    rule : WindowRule, optional
        What a window must have.

    Raises
    ------
    UsageError
        A size, weight or probability is out of range.
    InputError
        No image has a window of this size with enough sharp tissue.
    """

    def __init__(
        self,
        source: Path | str | Sequence[Path | str] | Sequence[GreyImage],
        patch_px: int,
        *,
        augment: bool = True,
        group_weights: Mapping[str, float] | None = None,
        scale_weights: Mapping[float, float] | None = None,
        group_scale_weights: Mapping[str, Mapping[float, float]] | None = None,
        remap_probability: float = 0.5,
        rule: WindowRule | None = None,
    ) -> None:
        if patch_px < 16:
            raise UsageError(f"patch_px is {patch_px}; give a patch of at least 16 pixels.")
        if not 0 <= remap_probability <= 1:
            raise UsageError(f"remap_probability is {remap_probability}; give a probability within 0..1.")
        self.patch_px = patch_px
        self.augment = augment
        self.remap_probability = remap_probability
        self._group_weights = dict(GROUP_WEIGHTS if group_weights is None else group_weights)
        self._scale_weights = dict(SCALE_WEIGHTS if scale_weights is None else scale_weights)
        self._group_scales = dict(GROUP_SCALE_WEIGHTS if group_scale_weights is None else group_scale_weights)
        for name, weight in self._group_weights.items():
            if not weight >= 0:
                raise UsageError(f"The weight of the group {name} is {weight}; give 0 or more.")
        self._rule = rule or WindowRule()
        images = _as_images(source)
        self._levels = [level for image in images for level in self._levels_of(image)]
        self._probability = self._probabilities()
        self._cumulative = np.cumsum(self._probability)
        self._report(images)

    @property
    def groups(self) -> dict[str, float]:
        """Return the probability of each usable group."""
        total: dict[str, float] = defaultdict(float)
        for level, probability in zip(self._levels, self._probability, strict=True):
            total[level.group] += float(probability)
        return dict(total)

    @property
    def names(self) -> list[str]:
        """Return the names of the files in use."""
        return sorted({level.name for level in self._levels})

    @property
    def windows(self) -> int:
        """Return the number of different windows, before augmentation."""
        return sum(len(level.origins) for level in self._levels)

    def draw(
        self, n: int, rng: np.random.Generator, device: torch.device | str = "cpu", together: int = 1
    ) -> Tensor:
        """Draw patches.

        Parameters
        ----------
        n : int
            Number of patches, at least 1.
        rng : numpy.random.Generator
            The only source of chance: the same state gives the same patches.
        device : torch.device or str
            Where the patches are wanted; they travel there as bytes.
        together : int
            How many patches in a row come from one image, at one factor and in one tone; divides n.

        Returns
        -------
        Tensor, (n, 1, patch_px, patch_px), float32
            Grey values 0..1 of the storage range.
        """
        if n < 1:
            raise UsageError(f"n is {n}; draw at least one patch.")
        if together < 1 or n % together:
            raise UsageError(f"together is {together}; give a divisor of the {n} patches.")
        sets = n // together
        chosen = np.searchsorted(self._cumulative, rng.random(sets) * self._cumulative[-1], side="right")
        where = rng.random(n)
        turns = rng.integers(0, 8, n) if self.augment else np.zeros(n, np.int64)
        remap = rng.random(sets) < (self.remap_probability if self.augment else 0.0)
        target = rng.uniform(*TISSUE_TARGET, sets)
        chosen, remap, target = (np.repeat(drawn, together) for drawn in (chosen, remap, target))
        picked = [self._levels[min(int(i), len(self._levels) - 1)] for i in chosen]
        crops = [self._crop(level, w, int(t)) for level, w, t in zip(picked, where, turns, strict=True)]
        tones = [
            remap_curve(level.levels, median) if remapped and level.remappable else None
            for level, remapped, median in zip(picked, remap, target, strict=True)
        ]
        if torch.device(device).type == "cpu":
            return _finish_on_cpu(crops, tones)
        return _finish_on_device(crops, tones, torch.device(device))

    def _crop(self, level: _ScaledImage, where: float, turn: int) -> NDArray[Any]:
        """Cut one window and turn it by one of the eight symmetries of the square."""
        y, x = level.origins[int(where * len(level.origins))]
        crop = level.pixels[y : y + self.patch_px, x : x + self.patch_px]
        if turn & 1:
            crop = crop.T
        return crop[:: -1 if turn & 2 else 1, :: -1 if turn & 4 else 1]

    def _levels_of(self, image: GreyImage) -> list[_ScaledImage]:
        """Downscale one image by the factors of its group and find the windows at each."""
        if self._group_weights.get(image.group, 1.0) == 0:
            return []
        levels = []
        for factor in self._group_scales.get(image.group, self._scale_weights):
            if min(image.pixels.shape) * factor < self.patch_px:
                continue
            pixels = area_downscale(image.pixels, factor)
            maps = cell_maps(pixels, image.noise_variance * factor**2)
            height, width = pixels.shape
            origins = window_origins(maps, (height, width), self.patch_px, self._rule)
            if len(origins):
                levels.append(_ScaledImage(image.name, image.group, factor, pixels, origins, maps.levels))
        return levels

    def _probabilities(self) -> NDArray[np.float64]:
        """Return how often each level is drawn: by group, then by factor, then by number of windows."""
        windows: Counter[tuple[str, float]] = Counter()
        for level in self._levels:
            windows[level.group, level.factor] += len(level.origins)
        factors: dict[str, float] = defaultdict(float)
        held: Counter[str] = Counter()
        for group, factor in windows:
            factors[group] += self._factor_weight(group, factor)
            held[group] += windows[group, factor]
        weights = np.array(
            [
                self._group_weights.get(level.group, 1.0)
                * min(1.0, held[level.group] / FEW_WINDOWS)
                * self._factor_weight(level.group, level.factor)
                / factors[level.group]
                * len(level.origins)
                / windows[level.group, level.factor]
                for level in self._levels
            ],
            dtype=np.float64,
        )
        return weights / weights.sum() if len(weights) else weights

    def _factor_weight(self, group: str, factor: float) -> float:
        """Return how often a downscaling factor is drawn in a group."""
        return float(self._group_scales.get(group, self._scale_weights)[factor])

    def _report(self, images: Sequence[GreyImage]) -> None:
        """Log the loaded images, and refuse a set without any usable window."""
        if not self._levels:
            largest = max((min(image.pixels.shape) for image in images), default=0)
            names = sorted({image.name for image in images})
            named = ", ".join(names[:NAMED_FILES]) + (", ..." if len(names) > NAMED_FILES else "")
            raise InputError(
                f"None of the {len(images)} {'training' if self.augment else 'held-out'} image(s) ({named}) has a window "
                f"of {self.patch_px} pixels with enough sharp tissue (the largest is {largest} pixels on its short "
                "side); give larger or sharper images, or take out those that are neither."
            )
        unused = len({image.name for image in images}) - len(self.names)
        if unused:
            log.info(
                "%d of the training files have no window of %d px that is sharp tissue.",
                unused,
                self.patch_px,
            )
        if self.windows < 500:
            log.warning(
                "The training images hold only %d windows of %d px; the network will know little but these.",
                self.windows,
                self.patch_px,
            )
        megapixels = sum(image.pixels.size for image in images) / 1e6
        log.info("Training data: %d files, %.1f Mpx, %d windows.", len(self.names), megapixels, self.windows)


def _as_images(source: Path | str | Sequence[Path | str] | Sequence[GreyImage]) -> list[GreyImage]:
    """Load the images not loaded yet."""
    if isinstance(source, str | Path):
        return load_images(source)
    images = [entry for entry in source if isinstance(entry, GreyImage)]
    paths = [entry for entry in source if not isinstance(entry, GreyImage)]
    return images + (load_images(paths) if paths or not images else [])


def remap_curve(levels: GreyLevels, median: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the piecewise linear grey curve from an image to BigBrain's levels.

    Parameters
    ----------
    levels : GreyLevels
        Of the image.
    median : float
        Wanted grey of the tissue median, 0..1.

    Returns
    -------
    inputs, outputs : ndarray, (n,), float32
        Knots, increasing. The tissue median goes to `median` and the background to 1 if the contrast gain lies within
        `REMAP_SLOPE`; black stays at or above 0, and order is kept.
    """
    gap = max(levels.background - levels.tissue, 1e-3)
    slope = float(np.clip((1 - median) / gap, *REMAP_SLOPE))
    below = min(slope, median / max(levels.tissue, 1e-3))
    knee = min(levels.tissue + (1 - median) / slope, 1.0)
    inputs = np.array([0.0, levels.tissue, knee, max(1.0, knee + 1e-3)], dtype=np.float32)
    top = min(1.0, median + slope * (knee - levels.tissue))
    outputs = np.array([median - below * levels.tissue, median, top, top], dtype=np.float32)
    return inputs, outputs


def _grey_table(
    crop: NDArray[Any], tone: tuple[NDArray[np.float32], NDArray[np.float32]] | None
) -> NDArray[np.float32]:
    """Return the grey value of every storage value of a crop's dtype."""
    size = int(np.iinfo(crop.dtype).max) + 1
    linear = np.arange(size, dtype=np.float32) / np.float32(size - 1)
    return linear if tone is None else np.interp(linear, *tone).astype(np.float32)


_Tones = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]] | None]


def _finish_on_cpu(crops: Sequence[NDArray[Any]], tones: _Tones) -> Tensor:
    """Turn storage values into grey values by table."""
    side = crops[0].shape[0]
    batch = np.empty((len(crops), 1, side, side), dtype=np.float32)
    for out, crop, tone in zip(batch, crops, tones, strict=True):
        np.take(_grey_table(crop, tone), crop, out=out[0], mode="clip")
    return torch.from_numpy(batch)


def _finish_on_device(crops: Sequence[NDArray[Any]], tones: _Tones, device: torch.device) -> Tensor:
    """Send storage values to a device and turn them into grey values there."""
    if any(crop.dtype != np.uint8 for crop in crops):
        return _finish_on_cpu(crops, tones).to(device)
    values = torch.from_numpy(np.stack(crops))
    tables = torch.from_numpy(
        np.stack([_grey_table(crop, tone) for crop, tone in zip(crops, tones, strict=True)])
    )
    if device.type == "cuda":
        values, tables = values.pin_memory(), tables.pin_memory()
    flat = values.to(device, non_blocking=True).flatten(1).long()
    return tables.to(device, non_blocking=True).gather(1, flat).view(len(crops), 1, *values.shape[1:])
