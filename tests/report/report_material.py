"""Reports to test with: real tissue, degraded and restored by plain filters, and measured by plain formulas.

The scores are not those of any engine: they only have to behave like scores (fall where noise and blur fall), so that
tables and page are tested without the engines, and in a second.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from bigrestore.report.images import Overview
from bigrestore.report.table.content import Report

Floats = NDArray[np.float64]


def tissue(height: int, width: int) -> Floats:
    """Return grey tissue of any size, by mirroring skimage's immunohistochemistry, on a white slide."""
    from skimage.data import immunohistochemistry

    grey = immunohistochemistry().astype(np.float64) @ (0.299, 0.587, 0.114) / 255
    rows, columns = -(-height // 512), -(-width // 512)
    line = np.concatenate([grey if i % 2 == 0 else grey[:, ::-1] for i in range(columns)], axis=1)
    full = np.concatenate([line if i % 2 == 0 else line[::-1] for i in range(rows)])[:height, :width]
    y, x = np.mgrid[:height, :width]
    lobe = np.hypot((y / height - 0.52) / 0.46, (x / width - 0.5) / 0.47) < 1 + 0.07 * np.sin(
        9 * x / width + 4
    )
    slow = 0.06 * np.sin(5 * x / width) * np.cos(4 * y / height)
    return np.clip(np.where(lobe, full * 0.9 + slow, 0.93), 0, 1)


def _figures(tile: Floats) -> dict[str, float]:
    """Return numbers that behave like scores and like the plain columns."""
    smooth = ndimage.gaussian_filter(tile, 1.0)
    noise = float(np.median(np.abs(ndimage.laplace(tile)))) / 3.0
    edges = float(np.mean(np.hypot(*np.gradient(smooth)))) + 1e-6
    rows, columns = tile.mean(axis=1), tile.mean(axis=0)
    return {
        "brisque": 70 - 900 * edges + 700 * noise,
        "niqe": 2.4 + 0.06 / edges + 45 * noise,
        "piqe": 60 - 700 * edges + 500 * noise,
        "sharpness": edges**2,
        "noise": noise,
        "stripes_rows": float(np.std(np.diff(rows))) / 3,
        "stripes_columns": float(np.std(np.diff(columns))) / 3,
        "shading": float(np.ptp(ndimage.gaussian_filter(tile, 20))),
        "clipped": float(((tile <= 0) | (tile >= 1)).mean()),
        "mean": float(tile.mean()),
    }


def _eight_bits(values: Floats) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def make_report(
    *,
    rows: int = 8,
    columns: int = 11,
    tile_px: int = 96,
    sections: int = 1,
    pair: bool = True,
    reference: bool = False,
    maps: tuple[str, ...] = (),
    facts: dict[str, Any] | None = None,
    seed: int = 7,
) -> Report:
    """Return a report on a section or a volume; `facts` are added to the provenance."""
    height, width = rows * tile_px - tile_px // 3, columns * tile_px - tile_px // 2
    images, tiles = _measured(rows, columns, tile_px, sections, pair, reference, seed)

    def pictures(z: int, y: int, x: int, high: int, wide: int) -> Any:
        cut = {name: _eight_bits(values[y : y + high, x : x + wide]) for name, values in images[z].items()}
        return (cut["before"] if pair else None, cut["image"], cut["reference"] if reference else None)

    def overviews(z: int, longest_px: int) -> Overview:
        step = -(-max(height, width) // longest_px)
        small = images[z]["image"][::step, ::step]
        change = np.abs(images[z]["image"] - images[z]["before"])[::step, ::step].astype(np.float32)
        return Overview(_eight_bits(small), float(step), dict.fromkeys(maps, change))

    known = {
        "image": "pm1234o_restored.ome.zarr",
        "engine": {
            "name": "native",
            "version": "0.1.0",
            "parameters": {"niqe": "2a7c182a68c9" * 5, "brisque": "7c8e23" * 10},
        },
        "tile_px": tile_px,
        "value_range": [0, 255],
        "scale": 1,
        "voxel_size_um": [20, 10, 10],
        "versions": {"bigrestore": "0.1.0", "numpy": "2.4"},
    }
    known |= {"before": "pm1234o.tif", "method": "network", "model": "tiny-x1"} if pair else {}
    known |= {"reference": "pm1234o_clean.tif"} if reference else {}
    return Report(
        tiles=tiles,
        facts=known | (facts or {}),
        pictures=pictures,
        overviews=overviews,
    )


@functools.lru_cache(maxsize=4)
def _measured(
    rows: int, columns: int, tile_px: int, sections: int, pair: bool, reference: bool, seed: int
) -> tuple[dict[int, dict[str, Floats]], pa.Table]:
    """Return the images of each section by name, and the table of their tiles."""
    random = np.random.default_rng(seed)
    clean = tissue(rows * tile_px - tile_px // 3, columns * tile_px - tile_px // 2)
    images: dict[int, dict[str, Floats]] = {}
    offset = 0.0
    for z in range(sections):
        offset = 0.6 * offset + random.normal(0, 0.008) + (0.09 if z in (5, 17) else 0.0)
        truth = np.clip(clean + offset, 0, 1)
        blurred = ndimage.gaussian_filter(truth, 1.5)
        noisy = np.clip(blurred + random.normal(0, 0.02, truth.shape) * (0.5 + blurred), 0, 1)
        calm = ndimage.gaussian_filter(noisy, 0.7)
        restored = np.clip(calm + 1.1 * (calm - ndimage.gaussian_filter(calm, 1.6)), 0, 1)
        images[z] = {"before": noisy, "image": restored, "reference": truth}
    table = [
        _row(z, row, column, image, tile_px, pair=pair, reference=reference)
        for z, image in images.items()
        for row in range(rows)
        for column in range(columns)
    ]
    return images, pa.Table.from_pylist(table)


def _row(
    z: int, row: int, column: int, image: dict[str, Floats], tile_px: int, *, pair: bool, reference: bool
) -> dict[str, Any]:
    """Return one row of the table."""
    y, x = row * tile_px, column * tile_px
    cut = {name: values[y : y + tile_px, x : x + tile_px] for name, values in image.items()}
    high, wide = cut["image"].shape
    share = float((cut["reference"] < 0.88).mean())
    smooth_share = float((ndimage.gaussian_filter(cut["reference"], 8) < 0.88).mean())
    share = max(share, smooth_share)
    reason = "small" if (high, wide) != (tile_px, tile_px) else "background" if share < 0.6 else ""
    nothing = dict.fromkeys(_figures(np.zeros((32, 32))), float("nan"))
    found: dict[str, Any] = {
        "z": z, "row": row, "column": column, "y": y, "x": x, "height": high, "width": wide, "tissue": share,
        "reason": reason,
    }  # fmt: skip
    if pair:
        found["reason_before"] = reason or ("flat" if (row * 7 + column) % 41 == 3 else "")
    after = nothing if reason else _figures(cut["image"])
    before = nothing if not pair or found["reason_before"] else _figures(cut["before"])
    for name in after:
        found[name] = after[name]
        if pair:
            found[name + "_before"] = before[name]
    if pair:
        both = not (reason or found["reason_before"])
        found["drift"] = after["mean"] - before["mean"] if both else float("nan")
        found["residual"] = float(np.std(cut["image"] - cut["before"]) / 0.016) if both else float("nan")
        found["invented"] = (
            min(1.0, 0.02 + 3 * abs(after["sharpness"] - before["sharpness"])) if both else float("nan")
        )
        found["seam"] = float("nan") if not both else 0.0004 + 0.001 * after["noise"]
    if reference:
        for name, ending in (("image", ""), ("before", "_before")):
            if ending and not pair:
                continue
            invalid = reason or (ending and found["reason_before"])
            error = float(np.mean((cut[name] - cut["reference"]) ** 2))
            found["psnr" + ending] = float("nan") if invalid else -10 * np.log10(error)
            found["ssim" + ending] = float("nan") if invalid else max(0.0, 1 - 60 * error)
    return found
