"""Whether tiled equals whole: runs with tiles of 256, 512 and 1024 px against a run in one single tile.

    python -m tests.bench.tiling [--model FILE] [--side 1536]

Stored as uint8 and as float32, computed in float32 and in bfloat16, at the realness that the model states, and, where
it has a prior, at 1. The single tile sees no halo and no cut, so it is the whole-image result.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import attrs
import numpy as np
import zarr
from numpy.typing import NDArray

from bigrestore.run.execute import execute
from bigrestore.settings import RunSettings
from tests.bench.metrics import Figure, figure_table, table, write_json
from tests.bench.models import default_model, model_file
from tests.bench.tissue import tissue

TILES_PX = (256, 512, 1024)
SIDE_PX = 1536
WHOLE_PX = 3840
FLOAT_TARGET = 1e-4
IDENTICAL_TARGET = 0.9999


@attrs.frozen
class Agreement:
    """How far a tiled result is from the whole one; `largest` in grey levels of 8 bits, or 0..1 for float."""

    stored: str
    precision: str
    realness: float | None
    tile_px: int
    largest: float
    identical: float


def restored(source: Path, target: Path, settings: RunSettings) -> NDArray[np.generic]:
    """Return level 0 of a run."""
    execute(source, target, settings).raise_if_failed()
    return np.asarray(zarr.open_array(target / "0", mode="r")[...])


def compare(model: str, side_px: int, scale: int, device: str) -> list[Agreement]:
    """Return the agreement for every storage type, precision and tile size."""
    image = tissue(side_px, side_px)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {"uint8": image, "float32": image.astype(np.float32) / np.float32(255)}
        for stored, pixels in sources.items():
            zarr.create_array(folder / f"{stored}.zarr", data=pixels, chunks=(480, 480))
        for stored, precision, realness in _variants(model, scale):
            base = RunSettings(
                model=model,
                scale=scale,
                device=device,
                precision=precision,
                realness=realness,
                tile_size=WHOLE_PX,
                overwrite=True,
                progress="none",
                report=False,
            )
            source, target = folder / f"{stored}.zarr", folder / "out.ome.zarr"
            whole = restored(source, target, base).astype(np.float64)
            for tile_px in TILES_PX:
                tiled = restored(source, target, attrs.evolve(base, tile_size=tile_px))
                difference = np.abs(tiled.astype(np.float64) - whole)
                identical = float(np.mean(difference == 0))
                found.append(
                    Agreement(stored, precision, realness, tile_px, float(difference.max()), identical)
                )
    return found


def _variants(model: str, scale: int) -> list[tuple[str, str, float | None]]:
    """Return type, precision and realness of the runs."""
    from bigrestore.model.nets.checkpoint import load_model

    usual: list[tuple[str, str, float | None]] = [
        ("uint8", "fp32", None),
        ("float32", "fp32", None),
        ("uint8", "bf16", None),
    ]
    joined = "halo_prior_px" in load_model(model, scale).info
    return [*usual, ("uint8", "fp32", 1.0)] if joined else usual


def figures(found: list[Agreement]) -> list[Figure]:
    """Return the bench lines: the worst over the tile sizes."""
    lines = []
    for kind in dict.fromkeys((item.stored, item.precision, item.realness) for item in found):
        stored, precision, realness = kind
        these = [item for item in found if (item.stored, item.precision, item.realness) == kind]
        largest, identical = max(i.largest for i in these), min(i.identical for i in these)
        name = f"tiled against whole, tiles 256 to 1024, {stored}, {precision}"
        name += "" if realness is None else f", realness {realness:g}"
        if stored == "float32":
            lines.append(Figure(name, f"<= {FLOAT_TARGET:g}", f"{largest:.1e}", largest <= FLOAT_TARGET))
            continue
        text = f"{largest:.0f} level, {100 * identical:.4f} % identical"
        met, target = largest <= 1, "max 1 level"
        if precision == "fp32" and realness is None:
            met, target = met and identical >= IDENTICAL_TARGET, "max 1 level, >= 99.99 % identical"
        lines.append(Figure(name, target, text, met))
    return lines


def measure(
    model: str | None = None, side_px: int = SIDE_PX, scale: int = 1, device: str = "cpu"
) -> list[Figure]:
    """Return the figures of this module, print every tile size, and write all."""
    file = model_file(model or default_model(scale), scale)
    found = compare(file, side_px, scale, device)
    rows = [
        (
            item.stored,
            item.precision,
            "model's" if item.realness is None else f"{item.realness:g}",
            str(item.tile_px),
            f"{item.largest:.2e}",
            f"{100 * item.identical:.4f} %",
        )
        for item in found
    ]
    print(
        table(("stored", "precision", "realness", "tile px", "largest difference", "identical"), rows),
        end="\n\n",
    )
    write_json("tiling", {"model": model, "side_px": side_px, "runs": [attrs.asdict(item) for item in found]})
    return figures(found)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tiling")
    parser.add_argument("--model", default=None)
    parser.add_argument("--side", type=int, default=SIDE_PX, help="side of the section, px")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(figure_table(measure(options.model, options.side, options.scale, options.device)))


if __name__ == "__main__":
    main()
