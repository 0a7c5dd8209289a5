"""Pictures within a budget, because a page is sent by mail: the chosen tiles, and the sections with their maps.

Which tiles are shown is decided by the numbers and not by taste: for each score the tile with the largest improvement,
the one in the middle and the one with the least (of a single image: the best, the median and the worst value). The
script draws the colours of the tiles itself, so a section costs the page its small picture and no more; of more than
`MOST_PICTURED` sections as many have one, evenly spread.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from bigrestore.core.pixels import Floats
from bigrestore.report.page.data import ReportData
from bigrestore.report.shown import LOSSLESS, data_uri, encode_webp
from bigrestore.report.table.statistics import best_middle_worst, goodness
from bigrestore.run.tile.maps import SHOWS

TILE_BYTES, SECTION_BYTES, MAP_BYTES = 6_000_000, 2_500_000, 800_000
"""Of all pictures of tiles, of all of sections, and of all of one map, before base64 adds a third."""

QUALITIES, SMALL_QUALITIES = (LOSSLESS, 95, 88, 78, 60, 35), (70, 40, 10)
MOST_SCORES = 4
FIRST_PX, MOST_PX = 480, 960
"""Side of the picture of the first screen, more than its tile where tiles are small, and of the largest picture."""

MOST_PICTURED, LARGEST_PX, PIXELS = 256, 1200, 6_000_000
"""Sections with a picture, its longer side, and the pixels of all of them with their maps."""

SCALE = mpl.colormaps["viridis"]
VALUES = [to_hex(SCALE(at)) for at in np.linspace(0, 1, 9)]
CHANGES = ("#8a3d00", "#cf6f16", "#f3b673", "#f6f4f0", "#9ec9e8", "#3a85c6", "#0b3f80")
"""From orange, worse, over white to blue, better: the clearest pair for red-green blind readers."""


def choose(data: ReportData) -> dict[int, list[str]]:
    """Return the roles of the tiles to show, such as `best by NIQE`, by their position in the table."""
    judges = [column for column in data.group("score", "reference") if column.direction != "none"]
    judges = [column for column in judges if not data.pair or column in data.twins][:MOST_SCORES]
    picked = [best_middle_worst(goodness(data.table, column)) for column in judges]
    roles: dict[int, list[str]] = {}
    for index, rank in enumerate(("best", "median", "worst")):
        for column, tiles in zip(judges, picked, strict=True):
            for tile in tiles[index : index + 1]:
                roles.setdefault(tile, []).append(f"{rank} by {column.label}")
    return roles


def views(data: ReportData) -> tuple[list[dict[str, Any]], str]:
    """Return the first screen's view and those of the chosen tiles, and how their pictures are stored."""
    roles = choose(data)
    first = [tile for tile, said in roles.items() if "median" in said[0]] or list(roles)
    tiles = first[:1] + list(roles)
    places = [_place(data, tile, widened=not index) for index, tile in enumerate(tiles)]
    names = ("Before", "After" if data.pair else "Image", "Reference")
    named = [zip(names, data.report.pictures(*place), strict=True) for place in places]
    loaded = [[(name, picture) for name, picture in shown if picture is not None] for shown in named]
    encoded, quality = encode_within([picture for shown in loaded for _, picture in shown], TILE_BYTES)
    uris, made = map(data_uri, encoded), []
    for tile, place, shown in zip(tiles, places, loaded, strict=True):
        sizes = [{"name": name, "height": each.shape[0], "width": each.shape[1]} for name, each in shown]
        view = {"tile": tile, "roles": ", ".join(roles[tile]), "bar": scale_bar(data, place[4])}
        made.append(view | {"pictures": [size | {"uri": next(uris)} for size in sizes]})
    return made, "without loss" if quality == LOSSLESS else f"as WebP of quality {quality}"


def _place(data: ReportData, tile: int, *, widened: bool) -> tuple[int, int, int, int, int]:
    """Return z, y, x, height and width of a tile, widened or cut about its middle to a side that a picture has."""
    table, spans = data.table, []
    section = table["z"] == table["z"][tile]
    for first, extent in (("y", "height"), ("x", "width")):
        start, size = int(table[first][tile]), int(table[extent][tile])
        low, high = int(table[first][section].min()), int((table[first] + table[extent])[section].max())
        side = min(max(size, FIRST_PX if widened else 0), MOST_PX, high - low)
        spans.append((min(max(start + size // 2 - side // 2, low), high - side), side))
    (y, height), (x, width) = spans
    return int(table["z"][tile]), y, x, height, width


def scale_bar(data: ReportData, width_px: int) -> tuple[str, float]:
    """Return the length of a scale bar in words, round and at most a quarter of a picture, and its share of the width."""
    um = (data.facts.get("voxel_size_um") or [None] * 3)[2]
    size = width_px * (um or 1)
    power = 10.0 ** math.floor(math.log10(size / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= size / 4)
    words = f"{length:g} {'µm' if um else 'px'}" if length < 1000 or not um else f"{length / 1000:g} mm"
    return words, length / size


def viewer(data: ReportData) -> tuple[dict[str, Any] | None, str]:
    """Return what the script shows of the sections besides the values of their tiles, and the picture shown first.

    That picture stands in the page itself. Of an empty table there is neither.
    """
    table, sections = data.table, data.sections
    if not table["z"].size:
        return None, ""
    first = data.report.overviews(data.shown_z, LARGEST_PX)
    places = np.linspace(0, len(sections) - 1, min(len(sections), MOST_PICTURED)).round().astype(int)
    pictured = sorted({sections[at] for at in places} | {data.shown_z})
    side = min(LARGEST_PX, math.isqrt(PIXELS // (len(pictured) * (1 + len(first.maps)))))
    small = [first] if len(pictured) == 1 else [data.report.overviews(z, side) for z in pictured]
    keys = [str(z) for z in pictured]
    images, _ = encode_within([each.picture for each in small], SECTION_BYTES, SMALL_QUALITIES)
    pictures = dict(zip(keys, map(data_uri, images), strict=True))
    still, pictures[str(data.shown_z)] = pictures[str(data.shown_z)], ""
    total, scored = Counter(table["z"].tolist()), Counter(table["z"][data.paired].tolist())
    shown = {
        "z": sections,
        "counts": [[total[z], scored[z]] for z in sections],
        "height": round(first.picture.shape[0] * first.px),
        "width": round(first.picture.shape[1] * first.px),
        "origin": data.facts.get("origin_px") or [0, 0],
        "tile": int(data.facts.get("tile_px") or table["height"].max()),
        "pictures": pictures,
        "maps": {name: _map(name, keys, [each.maps[name] for each in small]) for name in first.maps},
    }
    return shown, still


def _map(name: str, keys: list[str], values: list[Floats]) -> dict[str, Any]:
    """Return a map of all pictured sections, on one scale; where it is low the section shows through."""
    high = max(float(np.quantile(each, 0.995)) for each in values) or max(map(np.max, values)) or 1.0
    along = [np.clip(each / high, 0.0, 1.0) for each in values]
    painted = [SCALE(each, alpha=np.sqrt(each), bytes=True) for each in along]
    encoded, _ = encode_within(painted, MAP_BYTES, SMALL_QUALITIES)
    pictures = dict(zip(keys, map(data_uri, encoded), strict=True))
    return {"says": SHOWS[name], "high": float(high), "pictures": pictures}


def encode_within(
    pictures: Sequence[NDArray[np.uint8]], budget: int, qualities: Sequence[int] = QUALITIES
) -> tuple[list[bytes], int]:
    """Return pictures as WebP at the best quality that fits all into a budget of bytes, or the lowest, and the quality."""
    for quality in qualities:
        encoded: list[bytes] = []
        for picture in pictures:
            encoded.append(encode_webp(picture, quality))
            if sum(map(len, encoded)) > budget and quality != qualities[-1]:
                break  # the rest cannot help this quality
        else:
            break
    return encoded, quality
