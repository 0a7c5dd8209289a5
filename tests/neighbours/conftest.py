"""Volumes whose sections share their layers and nothing smaller: each is warped, and has cells and noise of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage import data

DEPTH, SIDE = 4, 512
HOLE = np.s_[200:300, 180:310]
HOLED = 1
"""The section with a hole."""


def layers() -> np.ndarray:
    """Return the low frequencies of real tissue, 512 x 512, 0..1."""
    return gaussian_filter(np.asarray(data.immunohistochemistry()).mean(axis=2) / 255, 6)


def made_volume(depth: int = DEPTH, detail: float = 0.03) -> np.ndarray:
    """Return a volume, 0..1: layers that drift by (3, -2) px a section, under warps of up to 4 px."""
    base, chance = layers(), np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    sections = []
    for z in range(depth):
        cells = gaussian_filter(chance.normal(size=base.shape), 1.2)
        warps = [gaussian_filter(chance.normal(size=base.shape), 60) for _ in range(2)]
        dy, dx = (4 * warp / np.abs(warp).max() for warp in warps)
        warped = map_coordinates(base, [y + dy + 3 * z, x + dx - 2 * z], order=1, mode="reflect")
        sections.append(warped + detail * cells / cells.std() + chance.normal(0, 1 / 255, base.shape))
    return np.clip(sections, 0, 1)


def to_bytes(volume: np.ndarray) -> np.ndarray:
    """Return grey values as they are stored."""
    return np.rint(np.clip(volume, 0, 1) * 255).astype(np.uint8)


def stored(path: Path, volume: np.ndarray) -> Path:
    """Write a volume, a chunk for each section, and return its path."""
    zarr.create_array(path, data=volume, chunks=(1, *volume.shape[1:]))
    return path


@pytest.fixture(scope="session")
def volume() -> np.ndarray:
    """Return a volume, 4 x 512 x 512, 0..1."""
    return made_volume()


def with_hole(volume: np.ndarray, folder: Path) -> tuple[Path, Path]:
    """Write a volume with a black hole in its second section, and the mask that calls it damage."""
    pixels, mask = to_bytes(volume), np.ones(volume.shape, np.uint8)
    pixels[HOLED][HOLE], mask[HOLED][HOLE] = 0, 2
    return stored(folder / "in.zarr", pixels), stored(folder / "mask.zarr", mask)


@pytest.fixture
def holed(volume: np.ndarray, tmp_path: Path) -> tuple[Path, Path]:
    """Return a volume with a hole, and its mask."""
    return with_hole(volume, tmp_path)
