"""Each figure as colours over the section: before, after, and the change.

A map of 30,000 tiles is a picture of 30,000 pixels, stretched over the thumbnail, and not as many rectangles; the
page stays small however large the section is. Before and after share one scale. Changes are coloured by whether they
are better (blue) or worse (orange), whichever way the figure runs. Unscored tiles are hatched. If all tiles have the
same value, as the page writes it, the value stands alone without a scale. Which figure is shown is chosen by radio
buttons and style sheets alone.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import Doubles
from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.embed import data_uri, encode_png, encode_webp
from bigrestore.report.page.figures.colours import DIVERGING, SEQUENTIAL, gradient, paint
from bigrestore.report.page.markup import escape, number, plural, signed
from bigrestore.report.table.statistics import improvement, paired_change

THUMBNAIL_QUALITY = 82


@attrs.frozen(eq=False)
class MapGrid:
    """The lattice of the tiles of one section over its thumbnail.

    Attributes
    ----------
    tiles : ndarray of int
        Positions in the table of the section's tiles.
    row, column : ndarray of int
        Their cells, from 0.
    shape : tuple of int
        Rows and columns of the lattice.
    x, y, pitch : float
        Place of the first cell and side of a cell, in thumbnail pixels.
    width, height : int
        Of the thumbnail.
    """

    tiles: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    shape: tuple[int, int]
    x: float
    y: float
    pitch: float
    width: int
    height: int

    @classmethod
    def of(cls, data: ReportData) -> MapGrid:
        """Lay the lattice over the thumbnail."""
        table, scale = data.table, data.thumbnail_px
        tiles = np.flatnonzero(table["z"] == data.thumbnail_z)
        height, width = data.thumbnails["image"].shape[:2]
        if not tiles.size:
            return cls(tiles, tiles, tiles, (0, 0), 0.0, 0.0, 1.0, width, height)
        row, column = table["row"][tiles], table["column"][tiles]
        pitch = float(data.facts.get("tile_px") or table["height"][tiles].max())
        origin = data.facts.get("origin_px") or (0, 0)
        top, left = float(row.min()) * pitch - origin[0], float(column.min()) * pitch - origin[1]
        row, column = row - row.min(), column - column.min()
        shape = (int(row.max()) + 1, int(column.max()) + 1)
        return cls(tiles, row, column, shape, left / scale, top / scale, pitch / scale, width, height)

    def image(self, position: Doubles, anchors: tuple[str, ...]) -> str:
        """Return the element colouring the cells by `position`, 0..1 along a scale."""
        cells = np.full(self.shape, np.nan)
        cells[self.row, self.column] = position[self.tiles]
        uri = data_uri(encode_png(paint(cells, anchors)), "png")
        rows, columns = self.shape
        return (
            f'<image class="heat" href="{uri}" x="{self.x:.2f}" y="{self.y:.2f}" width="{columns * self.pitch:.2f}" '
            f'height="{rows * self.pitch:.2f}" preserveAspectRatio="none"/>'
        )

    def outline(self, chosen: NDArray[np.bool_]) -> str:
        """Return the path around some tiles, one rectangle for each run along a row."""
        cells = np.zeros(self.shape, np.int8)
        cells[self.row, self.column] = chosen[self.tiles]
        steps = np.diff(np.pad(cells, ((0, 0), (1, 1))), axis=1)
        rows, starts = np.nonzero(steps == 1)
        ends = np.nonzero(steps == -1)[1]
        side = self.pitch
        return "".join(
            f"M{self.x + start * side:.1f} {self.y + row * side:.1f}h{(end - start) * side:.1f}v{side:.1f}"
            f"h{(start - end) * side:.1f}z"
            for row, start, end in zip(rows, starts, ends, strict=True)
        )


def thumbnail_styles(data: ReportData) -> str:
    """Return the rules to put each thumbnail, once in the file, under every map of its image."""
    return "".join(
        f".t-{name}{{background-image:url({data_uri(encode_webp(picture, THUMBNAIL_QUALITY), 'webp')})}}"
        for name, picture in data.thumbnails.items()
        if name in ("image", "before")
    )


def switch_styles(total: int) -> str:
    """Return the rules for the checked radio button to show its panel and mark its label."""
    shown = ",".join(f"#map-{i}:checked~.panel-{i}" for i in range(total))
    marked = ",".join(f"#map-{i}:checked~.tabs label[for=map-{i}]" for i in range(total))
    focused = ",".join(f"#map-{i}:focus-visible~.tabs label[for=map-{i}]" for i in range(total))
    return (
        f"{shown}{{display:block}}{marked}{{background:var(--ink);color:var(--paper);border-color:var(--ink)}}"
        f"{focused}{{outline:3px solid var(--focus);outline-offset:2px}}"
    )


def heatmaps(data: ReportData) -> str:
    """Return the switch and a panel of maps for each figure."""
    grid, columns = MapGrid.of(data), data.columns
    if not grid.tiles.size:
        return "<p>No tile lies on the section of the thumbnail, so there is no map.</p>"
    buttons = "".join(
        f'<input type="radio" class="switch" name="map" id="map-{i}" aria-label="{escape(column.label)}"'
        f"{' checked' if not i else ''}>"
        for i, column in enumerate(columns)
    )
    labels = "".join(
        f'<label for="map-{i}">{escape(column.label)}</label>' for i, column in enumerate(columns)
    )
    panels = "".join(_panel(data, grid, column, i) for i, column in enumerate(columns))
    return f'{_hatches(data, grid)}<div class="maps">{buttons}<div class="tabs">{labels}</div>{panels}</div>'


def _hatches(data: ReportData, grid: MapGrid) -> str:
    """Return the hatched outlines of the tiles without a score, drawn once and used by every map."""
    table = data.table
    kinds = {"image": table["reason"] != ""}
    if data.pair:
        kinds["before"] = table["reason_before"] != ""
        kinds["change"] = ~data.paired
    size = max(6.0, min(grid.width, grid.height) / 60)
    paths = "".join(
        f'<path id="out-{name}" class="out" d="{grid.outline(chosen)}" fill="url(#hatch)"/>'
        for name, chosen in kinds.items()
    )
    return (
        '<svg class="defs" width="0" height="0" aria-hidden="true"><defs>'
        f'<pattern id="hatch" patternUnits="userSpaceOnUse" width="{size:.1f}" height="{size:.1f}" '
        f'patternTransform="rotate(45)"><rect class="hatch-a" width="{size:.1f}" height="{size:.1f}"/>'
        f'<rect class="hatch-b" width="{size / 3:.1f}" height="{size:.1f}"/></pattern>{paths}</defs></svg>'
    )


def _panel(data: ReportData, grid: MapGrid, column: Column, index: int) -> str:
    """Return the maps of one figure."""
    image = data.own_image(column)
    twin = data.twin(column)
    maps = []
    if twin:
        before = data.own_before(column)
        limits = _limits(data, column, np.concatenate([image[grid.tiles], before[grid.tiles]]))
        maps.append(_value_map(data, grid, column, index, "before", before, limits))
        maps.append(_value_map(data, grid, column, index, "image", image, limits))
        maps.append(_change_map(data, grid, column, index))
    else:
        limits = _limits(data, column, image[grid.tiles])
        maps.append(_value_map(data, grid, column, index, "image", image, limits))
    return (
        f'<div class="panel panel-{index}"><p class="says"><strong>{escape(column.label)}</strong>: {escape(column.says)} '
        f"{escape(column.note[:1].upper() + column.note[1:] + '.' if column.note else '')}</p>"
        f'<div class="row n{len(maps)}">{"".join(maps)}</div></div>'
    )


def _limits(data: ReportData, column: Column, values: Doubles) -> tuple[float, float] | None:
    """Return the values at the ends of a scale; None without two distinct values.

    They are the tiles at the 2 and 98 % quantiles, or the extremes if those two are the same number.
    """
    there = values[np.isfinite(values)]
    if not there.size or data.in_every_tile(column, there):
        return None
    low = float(np.quantile(there, 0.02, method="lower"))
    high = float(np.quantile(there, 0.98, method="higher"))
    if data.in_every_tile(column, np.array([low, high])):
        low, high = float(there.min()), float(there.max())
    return low, high


def _value_map(
    data: ReportData,
    grid: MapGrid,
    column: Column,
    index: int,
    kind: str,
    values: Doubles,
    limits: tuple[float, float] | None,
) -> str:
    """Return the map of the values of one image."""
    title = {"before": "Before", "image": "After" if data.twin(column) else "Image"}[kind]
    shown = values[grid.tiles]
    if not np.isfinite(shown).any():
        return _map_figure(grid, kind, index, f"{title}: no value here", "", "")
    if limits is None:
        same = data.in_every_tile(column, shown[np.isfinite(shown)])
        return _map_figure(grid, kind, index, f"{title} <small>{same} in every tile</small>", "", "")
    low, high = limits
    digits, middle = data.decimals[column.name], (low + high) / 2
    caption = f"{title} <small>median {number(float(np.nanmedian(shown)), digits)}</small>"
    ends = [
        ("≤ " if np.nanmin(shown) < low else "") + number(low, digits),
        number(middle, digits or (0 if middle.is_integer() else 1)),
        ("≥ " if np.nanmax(shown) > high else "") + number(high, digits),
    ]
    layer = grid.image((values - low) / (high - low), SEQUENTIAL)
    return _map_figure(grid, kind, index, caption, layer, _bar(SEQUENTIAL, ends, ["", ""]))


def _change_map(data: ReportData, grid: MapGrid, column: Column, index: int) -> str:
    """Return the map of the change, coloured by better and worse."""
    change = paired_change(data.table, column.name)
    gain = change if column.direction == "none" else improvement(data.table, column)
    shown = change[grid.tiles]
    if not np.isfinite(shown).any():
        return _map_figure(grid, "change", index, "Change: no tile is valid in both", "", "")
    same = data.in_every_tile(column, shown)
    if same:
        return _map_figure(grid, "change", index, f"Change <small>{same} in every tile</small>", "", "")
    digits, finite = data.decimals[column.name], np.abs(gain[grid.tiles])
    finite = finite[np.isfinite(finite)]
    reach = float(np.quantile(finite, 0.98, method="higher")) if finite.size else 1.0
    # Written as zero: most tiles did not change, so the scale ends at the largest change.
    if not any(digit in "123456789" for digit in number(reach, digits)):
        reach = float(finite.max()) or 1.0
    left = reach if column.direction == "lower" else -reach
    sides = ["less", "more"] if column.direction == "none" else ["worse", "better"]
    ends = [signed(left, digits), "0", signed(-left, digits)]
    layer = grid.image(gain / (2 * reach) + 0.5, DIVERGING)
    caption = f"Change <small>median {signed(float(np.nanmedian(shown)), digits)}</small>"
    return _map_figure(grid, "change", index, caption, layer, _bar(DIVERGING, ends, sides))


def _bar(anchors: tuple[str, ...], ends: list[str], sides: list[str]) -> str:
    """Return the colour bar with its numbers."""
    left, right = (f" <b>{side}</b>" if side else "" for side in sides)
    return (
        f'<div class="bar"><i style="background:{gradient(anchors)}"></i>'
        f"<span>{ends[0]}{left}</span><span>{ends[1]}</span><span>{ends[2]}{right}</span></div>"
    )


def _map_figure(grid: MapGrid, kind: str, index: int, caption: str, layer: str, bar: str) -> str:
    """Return one map with its caption and bar; a change lies over the image after."""
    under = "before" if kind == "before" else "image"
    place = f'data-metric={index} data-kind={kind} data-grid="{grid.x:.3f},{grid.y:.3f},{grid.pitch:.4f}"'
    wide = f"max-width:min(100%,calc(78vh*{grid.width / grid.height:.4f}))"
    hatched = f'<use href="#out-{kind}"/>'
    spoken = escape(caption.replace("<small>", "").replace("</small>", ""))
    return (
        f'<figure class="mapfig"><figcaption>{caption}</figcaption>'
        f'<div class="map t-{under}" style="{wide}" {place}><svg viewBox="0 0 {grid.width} {grid.height}" role="img" '
        f'aria-label="{spoken}">{layer}{hatched}</svg></div>{bar}</figure>'
    )


def map_note(data: ReportData) -> str:
    """Explain the maps and the hatching."""
    sections = data.sections.size
    where = f" of section z = {data.thumbnail_z}, of {plural(sections, 'section')}" if sections > 1 else ""
    drawn = "Tiles that the sample left out have no colour. " if data.sampled else ""
    scored: Any = data.summary["tiles"]
    invalid = scored["total"] - scored["valid"]
    hatch = (
        '<span class="sw hatch"></span> hatched: not scored (blank, flat, background or cut by the edge). '
        if invalid
        else ""
    )
    pair = "Before and after share one scale; changes are blue where better and orange where worse. "
    return (
        f"One colour per tile over the thumbnail{where}. {pair if data.pair else ''}{hatch}{drawn}"
        "<span class=js>Point at a tile, or tap it, for its values.</span>"
    )
