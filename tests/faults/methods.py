"""Restore one section by every method, cut, shared and killed in every way, and compare with a run left alone.

    python tests/faults/methods.py [--side 720] [--methods wiener,usrnet] [--model METHOD=FILE ...]

At every scale of a method, on a section of more than one block: two other tile sizes, a region, OME-TIFF from TIFF, two
workers, and a run that is killed by SIGKILL once a block is done and resumed. Workers and resumed runs must give the same
bytes; tiles, the region and the TIFF at most one grey level, which is the rounding of a sum. A method without a shipped
part is left out and named, unless --model gives its file. Ends with 1 where one differs.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from survival import different, digest, ended, forked, make_input, records, run, say, wait

from bigrestore.core.geometry import round_up
from bigrestore.errors import UsageError
from bigrestore.model.methods.table import METHODS
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings

TOLD: dict[str, Any] = {"blur": (0.8, 0.8, 0.0), "noise": 1.0}
SCALES = (1, 2)
BLOCK_PX = 480
"""Output pixels; side of a block, and of the tiles of the run left alone, where the method's steps allow it."""

TILES_PX = (240, 160)
"""Output pixels; side of the tiles of the other runs, rounded up to the method's steps."""

QUICK: dict[str, dict[str, Any]] = {"dpir": {"rounds": 1}, "gddec": {"steps": 2}, "latent": {"steps": 1}}
"""Options of slow methods: cuts and kills are tried, and no quality."""

REGION = (141, 600, 267, 580)
DONE = "ok"


def pixels(path: Path) -> np.ndarray:
    """Return the grey values of a result."""
    made = tifffile.imread(path) if path.suffix == ".tif" else zarr.open_array(path, path="0", mode="r")[:]
    grey: np.ndarray = np.asarray(made)
    return grey.reshape(grey.shape[-2:]).astype(int)


def carry_out(source: Path, output: Path, settings: dict[str, Any], **changes: Any) -> int:
    """Restore in a process of its own; return the exit code."""
    return wait(forked(lambda: run(source, output, **(settings | changes))), seconds=900)


def killed_and_resumed(source: Path, output: Path, settings: dict[str, Any]) -> str:
    """Kill a run once a block is done, and resume it; return what is wrong."""
    pid = forked(lambda: run(source, output, **settings))
    while not records(output):
        if (code := ended(pid)) is not None:
            return f"it ended with {code} before it was killed"
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    code = carry_out(source, output, settings, resume=True)
    return f"resumed, it ended with {code}" if code else ""


def compare(wanted: np.ndarray, path: Path) -> str:
    """Return how far a result is from what is wanted, where that is more than a level."""
    made = pixels(path)
    if made.shape != wanted.shape:
        return f"{made.shape} instead of {wanted.shape} pixels"
    most = int(np.abs(made - wanted).max())
    return f"differs by {most} levels" if most > 1 else ""


def trial(source: Path, folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every way of doing it, and what is wrong with it."""
    calm = folder / "calm.ome.zarr"
    if code := carry_out(source, calm, settings):
        yield "alone", f"it ended with {code}"
        return
    wanted = pixels(calm)
    step = int(create_method(RunSettings(**settings)).alignment_px * settings["scale"])
    for tile in {round_up(side, step) for side in TILES_PX}:
        output = folder / f"tiles-{tile}.ome.zarr"
        code = carry_out(source, output, settings, tile_size=tile)
        yield f"tiles of {tile} px", f"it ended with {code}" if code else compare(wanted, output)
    tiff, output = folder / "in.tif", folder / "out.ome.tif"
    tifffile.imwrite(tiff, np.asarray(zarr.open_array(source, mode="r")[:]), photometric="minisblack")
    code = carry_out(tiff, output, settings)
    yield "TIFF", f"it ended with {code}" if code else compare(wanted, output)
    (y0, y1, x0, x1), output = REGION, folder / "roi.ome.zarr"
    code = carry_out(source, output, settings, roi=f"{y0}:{y1},{x0}:{x1}")
    yield "region", f"it ended with {code}" if code else compare(wanted[y0:y1, x0:x1], output)
    output = folder / "workers.ome.zarr"
    code = carry_out(source, output, settings, workers=2)
    wrong = different(digest(calm), digest(output))
    yield "two workers", f"it ended with {code}" if code else ", ".join(wrong[:2])
    output = folder / "killed.ome.zarr"
    fault = killed_and_resumed(source, output, settings)
    yield "killed and resumed", fault or ", ".join(different(digest(calm), digest(output))[:2])


def settings_of(name: str, scale: int, models: dict[str, str]) -> dict[str, Any]:
    """Return the settings of a method, told blur and noise where it heeds them."""
    told = {flag: value for flag, value in TOLD.items() if flag in METHODS[name].flags}
    settings = {"method": name, "scale": scale, "options": QUICK.get(name, {}), **told}
    settings |= {"model": models[name]} if name in models else {}
    block = math.lcm(BLOCK_PX, int(create_method(RunSettings(**settings)).alignment_px * scale))
    return settings | {"block_size": block, "tile_size": block}


def main() -> int:
    """Try all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=720)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--model", nargs="*", default=[], metavar="METHOD=FILE")
    options = parser.parse_args()
    models = dict(part.split("=", 1) for part in options.model)
    bad = 0
    for name in options.methods.split(","):
        for scale in SCALES:
            if scale not in METHODS[name].scales:
                continue
            try:
                settings = settings_of(name, scale, models)
            except UsageError as error:
                say(f"{name} x{scale}: left out: {error}")
                continue
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                side, most = max(options.side, 3 * settings["block_size"] // 2), METHODS[name].most_mpx
                if most is not None:
                    side = min(side, math.isqrt(int(most * 1e6)) // scale * scale)
                    settings |= {"roi": f"0:{side},0:{side}"}
                source = make_input(folder / "in.zarr", side // scale)
                faults = {way: fault for way, fault in trial(source, folder, settings) if fault}
            seconds = time.monotonic() - started
            say(
                f"{name} x{scale}: {'; '.join(f'{way}: {fault}' for way, fault in faults.items()) or DONE} ({seconds:.0f} s)"
            )
            bad += len(faults)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
