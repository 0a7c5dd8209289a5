"""Pictures within a budget, because a page is sent by mail: the chosen tiles, and every section with its maps.

Numbers do not show the change of a cell; pictures do. Which tiles are shown is decided by the numbers and not by
taste: for each score the tile with the largest improvement, the one in the middle and the one with the least (of a
single image: the best, the median and the worst value). The first screen shows the one in the middle.

The script draws the colours of the tiles itself, so a section costs the page its small picture and no more. Of more than
`MOST_PICTURED` sections as many have one, evenly spread; the others show their tiles alone.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigrestore.core.pixels import Floats
from bigrestore.report.metrics.columns import BEFORE, Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.table.statistics import best_middle_worst, goodness, improvement, paired_change
from bigrestore.run.tile.maps import SHOWS

TILE_BYTES, SECTION_BYTES, MAP_BYTES = 6_000_000, 2_500_000, 800_000
"""Of all pictures of tiles, of all of sections, and of all of one map, before base64 adds a third."""

LOSSLESS = 101
"""A quality of WebP beyond 100: every pixel as it was."""

QUALITIES = (LOSSLESS, 95, 88, 78, 60, 35)
SMALL_QUALITIES = (78, 60, 35, 10)

MOST_SCORES = 4
FIRST_PX = 480
"""Side of the picture of the first screen, more than its tile where tiles are small."""

MOST_PICTURED, LARGEST_PX, PIXELS = 256, 1200, 12_000_000
"""Sections with a picture, its longer side, and the pixels of all of them with their maps."""

RANKS = ("Best", "Median", "Worst")

VALUES = ("#2d1160", "#3b3b8f", "#2f6591", "#218c8d", "#3fb27b", "#92cf5b", "#f2e44c")
"""Colours of rising lightness, safe for colour blindness and grey printing, after the idea of viridis."""

CHANGES = ("#8a3d00", "#cf6f16", "#f3b673", "#f6f4f0", "#9ec9e8", "#3a85c6", "#0b3f80")
"""From orange, worse, over white to blue, better: the clearest pair for red-green blind readers."""


class Choice(NamedTuple):
    """A tile to show: its position in the table, `Best`, `Median` or `Worst`, and the scores choosing it."""

    tile: int
    rank: str
    scores: list[str]


class Shown(NamedTuple):
    """A picture in the page."""

    name: str
    uri: str
    width: int
    height: int


class View(NamedTuple):
    """A tile as it is shown: its position in the table, its roles, its pictures, and words and share of a scale bar."""

    tile: int
    roles: str
    pictures: list[Shown]
    bar: tuple[str, float]


def choose(data: ReportData) -> list[Choice]:
    """Return the tiles to show: for each rank, each tile once."""
    judges = [column for column in data.group("score", "reference") if column.direction != "none"]
    judges = [column for column in judges if not data.pair or column in data.twins][:MOST_SCORES]
    chosen: dict[tuple[int, str], Choice] = {}
    for column in judges:
        for rank, tile in zip(RANKS, best_middle_worst(goodness(data.table, column)), strict=False):
            chosen.setdefault((tile, rank), Choice(tile, rank, [])).scores.append(column.label)
    return sorted(chosen.values(), key=lambda choice: RANKS.index(choice.rank))


def views(data: ReportData) -> tuple[list[View], int]:
    """Return the view of the first screen and one for each chosen tile, and the quality of the pictures."""
    choices = choose(data)
    roles: dict[int, list[str]] = {}
    for choice in choices:
        roles.setdefault(choice.tile, []).extend(f"{choice.rank.lower()} by {score}" for score in choice.scores)
    first = [choice.tile for choice in choices if choice.rank == "Median"] or list(roles)
    tiles = first[:1] + list(roles)
    places = [_place(data, tile, widened=not index) for index, tile in enumerate(tiles)]
    names = ("Before", "After" if data.pair else "Image", "Reference")
    loaded = [list(zip(names, data.report.pictures(*place), strict=True)) for place in places]
    there = [[(name, picture) for name, picture in shown if picture is not None] for shown in loaded]
    encoded, quality = encode_within([picture for shown in there for _, picture in shown], TILE_BYTES)
    uris = map(data_uri, encoded)
    made = []
    for tile, place, shown in zip(tiles, places, there, strict=True):
        pictures = [Shown(name, next(uris), picture.shape[1], picture.shape[0]) for name, picture in shown]
        text = ", ".join(roles[tile])
        made.append(View(tile, text[:1].upper() + text[1:], pictures, scale_bar(data, place[4])))
    return made, quality


def _place(data: ReportData, tile: int, *, widened: bool) -> tuple[int, int, int, int, int]:
    """Return z, y, x, height and width of a tile, widened to the side of the first picture inside its section."""
    table = data.table
    section = table["z"] == table["z"][tile]
    spans = []
    for first, extent in (("y", "height"), ("x", "width")):
        start, size = int(table[first][tile]), int(table[extent][tile])
        low, high = int(table[first][section].min()), int((table[first] + table[extent])[section].max())
        side = min(max(size, FIRST_PX if widened else 0), high - low)
        spans.append((min(max(start + size // 2 - side // 2, low), high - side), side))
    (y, height), (x, width) = spans
    return int(table["z"][tile]), y, x, height, width


def scale_bar(data: ReportData, width_px: int) -> tuple[str, float]:
    """Return the length of a scale bar in words, round and at most a quarter of a picture, and its share of the width."""
    um = (data.facts.get("voxel_size_um") or [None] * 3)[2]
    size = width_px * (um or 1)
    power = 10.0 ** math.floor(math.log10(size / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= size / 4)
    unit = "px" if not um else "mm" if length >= 1000 else "µm"
    return f"{length / 1000 if unit == 'mm' else length:g} {unit}", length / size


def viewer(data: ReportData) -> dict[str, Any]:
    """Return what the script shows of the sections, without the values of their tiles."""
    table, sections = data.table, data.sections
    first = data.report.overviews(data.shown_z, LARGEST_PX)
    count = min(len(sections), MOST_PICTURED)
    pictured = sorted({sections[round(i)] for i in np.linspace(0, len(sections) - 1, count)} | {data.shown_z})
    side = min(LARGEST_PX, math.isqrt(PIXELS // (len(pictured) * (1 + len(first.maps)))))
    small = [first] if len(pictured) == 1 else [data.report.overviews(z, side) for z in pictured]
    z, keys = table["z"], [str(z) for z in pictured]
    height, width = (round(side * first.px) for side in first.picture.shape[:2])
    maps = {name: _map(keys, [each.maps[name] for each in small]) | {"says": SHOWS[name]} for name in first.maps}
    images, _ = encode_within([each.picture for each in small], SECTION_BYTES, SMALL_QUALITIES)
    return {
        "z": sections,
        "counts": [[int((z == at).sum()), int((data.paired & (z == at)).sum())] for at in sections],
        "width": width,
        "height": height,
        "origin": data.facts.get("origin_px") or [0, 0],
        "tile": int(data.facts.get("tile_px") or table["height"].max()),
        "pictures": dict(zip(keys, map(data_uri, images), strict=True)),
        "maps": maps,
    }


def _map(keys: list[str], values: list[Floats]) -> dict[str, Any]:
    """Return a map of all pictured sections, on one scale."""
    high = max(float(np.quantile(each, 0.995)) for each in values) or max(float(each.max()) for each in values)
    encoded, _ = encode_within([paint(each / (high or 1.0)) for each in values], MAP_BYTES, SMALL_QUALITIES)
    return {"high": high, "pictures": dict(zip(keys, map(data_uri, encoded), strict=True))}


def paint(position: Floats) -> NDArray[np.uint8]:
    """Return RGBA colours, (..., 4), of positions 0..1 along the scale of values; the low ones are transparent."""
    stops = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in VALUES], np.float64)
    along = np.clip(position, 0.0, 1.0)
    colours = [np.interp(along * (len(VALUES) - 1), np.arange(len(VALUES)), stops[:, i]) for i in range(3)]
    return np.rint(np.stack([*colours, 255 * np.sqrt(along)], axis=-1)).astype(np.uint8)


def limits(data: ReportData, column: Column) -> dict[str, Any]:
    """Return the ends of the colour scales of a column, as they are written, or the one number of every tile.

    The ends are the tiles at the 2 and 98 % quantiles, or the extremes if those two are the same number; of a change the
    98 % quantile of its size.
    """
    twin = column in data.twins
    values = np.concatenate([data.table[column.name + ending] for ending in (["", BEFORE] if twin else [""])])
    known: dict[str, Any] = {"same": data.same(column, values)}
    values = values[np.isfinite(values)]
    if values.size and not known["same"]:
        ends = [np.quantile(values, share, method=how) for share, how in ((0.02, "lower"), (0.98, "higher"))]
        ends = [values.min(), values.max()] if data.same(column, np.array(ends)) else ends
        known |= {name: float(end) * column.factor for name, end in zip(("low", "high"), ends, strict=True)}
    if not twin:
        return known
    change = paired_change(data.table, column.name)
    gain = np.abs(change if column.direction == "none" else improvement(data.table, column))
    gain = gain[np.isfinite(gain)]
    known["sameChange"] = data.same(column, change)
    if gain.size and not known["sameChange"]:
        reach = float(np.quantile(gain, 0.98, method="higher"))
        # Written as zero: most tiles did not change, so the scale ends at the largest change.
        reach = reach if any(digit in "123456789" for digit in data.number(column, reach)) else float(gain.max())
        known["reach"] = reach * column.factor or 1.0
    return known


def data_uri(webp: bytes) -> str:
    """Return a picture as a URI."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def encode_webp(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return a picture, grey, RGB or RGBA, as WebP, without loss for `LOSSLESS`."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    how: dict[str, Any] = {"quality": quality, "method": 4}
    if quality == LOSSLESS:
        how = {"lossless": True, "quality": 60, "method": 3}
    (picture if picture.mode == "RGBA" else picture.convert("RGB")).save(stream, "WEBP", **how)
    return stream.getvalue()


def encode_within(
    pictures: Sequence[NDArray[np.uint8]], budget: int, qualities: Sequence[int] = QUALITIES
) -> tuple[list[bytes], int]:
    """Return pictures as WebP at the best quality to fit all of them into a budget of bytes, and that quality.

    The lowest quality is taken if none fits.
    """
    encoded: list[bytes] = []
    quality = qualities[0]
    for quality in qualities:
        encoded = []
        for picture in pictures:
            encoded.append(encode_webp(picture, quality))
            if sum(map(len, encoded)) > budget and quality != qualities[-1]:
                break  # the rest cannot help this quality
        else:
            break
    return encoded, quality
