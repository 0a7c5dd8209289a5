"""Toy methods with a real, finite receptive field, and inputs made of real tissue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigrestore.api import report_sinks
from bigrestore.model.method import PSI_SIZE, SectionStatistics, TileBatch, TileResult
from bigrestore.run.execute import execute
from bigrestore.run.view.summary import RunSummary
from bigrestore.settings import RunSettings

REACH = 5


def fir(x: np.ndarray) -> np.ndarray:
    """Blur by a separable asymmetric FIR with zeros outside, summed in one fixed order per pixel."""
    taps = np.array([1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 4], np.float32) / np.float32(39)
    for axis in (0, 1):
        padded = np.pad(x, [(REACH, REACH) if a == axis else (0, 0) for a in (0, 1)])
        total = np.zeros_like(x)
        for k, tap in enumerate(taps):
            part = padded[k : k + x.shape[0]] if axis == 0 else padded[:, k : k + x.shape[1]]
            total = total + tap * part
        x = total
    return x


def on_phase(x: np.ndarray, step: int = 4) -> np.ndarray:
    """Add a tenth of each cell's mean: wrong wherever a tile does not begin on the lattice of cells."""
    h, w = x.shape
    cells = x.reshape(h // step, step, w // step, step)
    means = (cells.sum(axis=3).sum(axis=1) * np.float32(1 / step**2)).astype(np.float32)
    return x * np.float32(0.9) + np.float32(0.1) * means.repeat(step, 0).repeat(step, 1)


class Fir:
    """An exact method: FIR of reach 5 on the input, a strided step, then enlarging or thinning."""

    name = "fir"
    exact = True
    alignment_px = 4
    halo_px = 8

    def __init__(
        self, scale: int | Fraction = 1, hook: Callable[[int, TileBatch], None] | None = None
    ) -> None:
        self.scale = scale
        self.calls = 0
        self.windows: list[int] = []
        self._hook, self._lock = hook, threading.Lock()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "scale": str(self.scale)}

    def analyse(self, windows: np.ndarray) -> SectionStatistics:
        self.windows.append(len(windows))
        return SectionStatistics(np.ones((1, 1), np.float32), np.zeros(PSI_SIZE, np.float32), 0.0, 0.0)

    def one(self, x: np.ndarray) -> np.ndarray:
        y = on_phase(fir(x))
        if self.scale >= 1:
            return y.repeat(int(self.scale), 0).repeat(int(self.scale), 1)
        step = Fraction(self.scale).denominator
        return y[::step, ::step]

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        with self._lock:
            self.calls += 1
            call = self.calls
        if self._hook is not None:
            self._hook(call, batch)
        assert (batch.origins % self.alignment_px == 0).all()
        return TileResult(np.clip(np.stack([self.one(x) for x in batch.pixels]), 0, 1).astype(np.float32))

    def whole(self, x: np.ndarray) -> np.ndarray:
        """What the method makes of a whole section at once, its far edge replicated as a tile's is."""
        h, w = x.shape
        step = self.alignment_px
        padded = np.pad(x, [(0, -h % step), (0, -w % step)], mode="edge")
        y = np.clip(self.one(padded), 0, 1)
        s = Fraction(self.scale)
        return y[: -(-h * s.numerator // s.denominator), : -(-w * s.numerator // s.denominator)]


class Moody(Fir):
    """Not exact: every tile comes back with an offset of its own."""

    name = "moody"
    exact = False

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        result = super().restore(batch, statistics)
        offsets = ((batch.origins[:, 0] * 7 + batch.origins[:, 1] * 3) // 4 % 5) * 0.02
        return TileResult(result.pixels + offsets[:, None, None].astype(np.float32))


class QuickScores:
    """An engine of scores that are of every pixel and cost next to nothing."""

    name = "quick"
    metrics = ("niqe", "brisque", "piqe")

    def score(self, tile: np.ndarray) -> dict[str, float]:
        return {"niqe": 10 * float(tile.mean()), "brisque": float(tile.std()), "piqe": float(tile[::7].sum())}

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def save_zarr(path: Path, pixels: np.ndarray) -> Path:
    """Write a bare Zarr array."""
    zarr.save_array(path, pixels)
    return path


def level0(path: Path) -> np.ndarray:
    """Read the full-resolution pixels of an output store."""
    return np.asarray(zarr.open_array(path / "0", mode="r")[:])


def go(source: Path | str, output: Path, method: Fir | str | None = None, **settings: Any) -> RunSummary:
    """Run quietly with small blocks, and without a report unless it is asked for, then of tiles of a block."""
    asked = {"block_size": 480, "tile_size": 160, "threads": 2, "mask": "none", "progress": "none"}
    asked |= {"score_tile_size": 480}
    asked |= {"report": False} | settings
    if isinstance(method, str):
        asked["method"], method = method, None
    resolved = RunSettings(**asked)
    return execute(source, output, resolved, method=method, sinks=report_sinks(resolved))
