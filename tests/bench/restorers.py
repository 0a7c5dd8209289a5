"""From a method of the package to a function that restores one image held in memory.

The quality figures ask for nothing but such a function, so that a checkpoint of a training under way, a
method without weights and the whole `bigrestore.restore` road can be judged by one ruler. The tiles here are
cut by a loop of ten lines and not by the engine: what it gives is the bare network, whole image.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image

from bigrestore.model.method import WINDOW_PX, Method, SectionStatistics, TileBatch

Unit = NDArray[np.float32]
"""A grey image of 0..1."""

Restorer = Callable[[NDArray[np.uint8]], Unit]
"""Maps a degraded 8-bit image to a restored one of 0..1, `scale` times as large."""

TILE_PX = 1024
MAX_WINDOWS = 256


@attrs.frozen(eq=False)
class Candidate:
    """Something to be judged: its name, its scale, how it restores, how it estimates (where it can)."""

    name: str
    scale: int
    restore: Restorer
    analyse: Callable[[NDArray[np.uint8]], SectionStatistics] | None


def from_method(name: str, method: Method) -> Candidate:
    """Return a candidate that runs the method on the whole image, blind."""

    def analyse(image: NDArray[np.uint8]) -> SectionStatistics:
        return method.analyse(windows_of(unit(image)))

    def restore(image: NDArray[np.uint8]) -> Unit:
        return restore_whole(method, unit(image), analyse(image))

    return Candidate(name, int(method.scale), restore, analyse)


def from_run(name: str, method: Method) -> Candidate:
    """Return a candidate that writes the image to a file and goes the whole road of `bigrestore run`."""
    from bigrestore.io.open_section import open_section
    from bigrestore.run.execute import execute
    from bigrestore.run.profile.section_profile import profile_section
    from bigrestore.settings import RunSettings

    settings = RunSettings(scale=int(method.scale), progress="none", report=False)

    def analyse(image: NDArray[np.uint8]) -> SectionStatistics:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "section.png"
            Image.fromarray(image).save(source)
            return profile_section(open_section(source), 0, method).statistics

    def restore(image: NDArray[np.uint8]) -> Unit:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "section.png", Path(folder) / "restored.ome.zarr"
            Image.fromarray(image).save(source)
            execute(source, target, settings, method=method).raise_if_failed()
            return unit(np.asarray(zarr.open_array(target / "0", mode="r")[...]))

    return Candidate(name, int(method.scale), restore, analyse)


def unit(image: NDArray[np.uint8]) -> Unit:
    """Return 8 bits as 0..1."""
    return image.astype(np.float32) / np.float32(255)


def windows_of(image: Unit) -> NDArray[np.float32]:
    """Return (n, 128, 128) windows on a lattice, those with most structure first, at most 256.

    The lattice is the densest that stays below twice the number wanted; of its windows the flattest quarter
    is dropped, which on a section is glass.
    """
    # A narrow image would give no window at all, and then no estimate.
    lacking = [(0, max(0, WINDOW_PX - side)) for side in image.shape]
    image = np.pad(image, lacking, mode="reflect")
    height, width = image.shape
    step = WINDOW_PX // 2
    while (height // step) * (width // step) > 2 * MAX_WINDOWS:
        step += WINDOW_PX // 4
    found = [
        image[y : y + WINDOW_PX, x : x + WINDOW_PX]
        for y in range(0, height - WINDOW_PX + 1, step)
        for x in range(0, width - WINDOW_PX + 1, step)
    ]
    if not found:
        return np.zeros((0, WINDOW_PX, WINDOW_PX), np.float32)
    found.sort(key=lambda window: -float(window.std()))
    return np.stack(found[: min(MAX_WINDOWS, max(1, 3 * len(found) // 4))])


def restore_whole(method: Method, image: Unit, statistics: SectionStatistics, tile_px: int = TILE_PX) -> Unit:
    """Return the restored image, computed in tiles with the method's own halo."""
    scale, halo, step = int(method.scale), method.halo_px, method.alignment_px
    height, width = image.shape
    padded = np.pad(image, ((0, -height % step), (0, -width % step)), mode="edge")
    tile_px = max(step, tile_px - tile_px % step)
    result = np.empty((padded.shape[0] * scale, padded.shape[1] * scale), np.float32)
    for top in range(0, padded.shape[0], tile_px):
        for left in range(0, padded.shape[1], tile_px):
            y0, x0 = max(0, top - halo), max(0, left - halo)
            tile = padded[y0 : top + tile_px + halo, x0 : left + tile_px + halo]
            origin = np.array([[y0, x0]], np.int64)
            batch = TileBatch(np.ascontiguousarray(tile)[None], None, origin, 0)
            restored = method.restore(batch, statistics).pixels[0]
            core = restored[(top - y0) * scale :, (left - x0) * scale :]
            goal = result[top * scale : (top + tile_px) * scale, left * scale : (left + tile_px) * scale]
            goal[...] = core[: goal.shape[0], : goal.shape[1]]
    return result[: height * scale, : width * scale]
