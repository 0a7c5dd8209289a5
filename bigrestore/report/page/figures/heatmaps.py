"""Each figure as colours over the section: before, after, and what changed.

A map of 30,000 tiles is a picture of 30,000 pixels, stretched over the thumbnail, and not as many rectangles; the
page stays small however large the section is. Before and after share one scale. Changes are coloured by
whether they are better (blue) or worse (orange), whichever way the figure runs. Tiles that were not scored are
hatched, and where all tiles have the same value, as the page writes it, that value stands alone without a scale. Which
figure is shown is chosen by radio buttons and style sheets alone.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.encoding import data_uri, encode_png, encode_webp
from bigrestore.report.page.figures.colours import DIVERGING, SEQUENTIAL, gradient, paint
from bigrestore.report.page.markup import escape, number, plural, signed
from bigrestore.report.page.material import Material
from bigrestore.report.table.statistics import improvement, paired_change

Figures = NDArray[np.float64]

THUMBNAIL_QUALITY = 82


@attrs.frozen(eq=False)
class Grid:
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
    def of(cls, material: Material) -> Grid:
        """Lay the lattice over the thumbnail."""
        table, scale = material.table, material.thumbnail_px
        tiles = np.flatnonzero(table["z"] == material.thumbnail_z)
        height, width = material.thumbnails["image"].shape[:2]
        if not tiles.size:
            return cls(tiles, tiles, tiles, (0, 0), 0.0, 0.0, 1.0, width, height)
        row, column = table["row"][tiles], table["column"][tiles]
        pitch = float(material.facts.get("tile_px") or table["height"][tiles].max())
        origin = material.facts.get("origin_px") or (0, 0)
        top, left = float(row.min()) * pitch - origin[0], float(column.min()) * pitch - origin[1]
        row, column = row - row.min(), column - column.min()
        shape = (int(row.max()) + 1, int(column.max()) + 1)
        return cls(tiles, row, column, shape, left / scale, top / scale, pitch / scale, width, height)

    def image(self, position: Figures, anchors: tuple[str, ...]) -> str:
        """Return the element that colours the cells by `position`, 0..1 along a scale."""
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


def thumbnail_styles(material: Material) -> str:
    """Return the rules that put each thumbnail, once in the file, under every map of its image."""
    return "".join(
        f".t-{name}{{background-image:url({data_uri(encode_webp(picture, THUMBNAIL_QUALITY), 'webp')})}}"
        for name, picture in material.thumbnails.items()
        if name in ("image", "before")
    )


def switch_styles(total: int) -> str:
    """Return the rules by which the checked radio button shows its panel and marks its label."""
    shown = ",".join(f"#map-{i}:checked~.panel-{i}" for i in range(total))
    marked = ",".join(f"#map-{i}:checked~.tabs label[for=map-{i}]" for i in range(total))
    focused = ",".join(f"#map-{i}:focus-visible~.tabs label[for=map-{i}]" for i in range(total))
    return (
        f"{shown}{{display:block}}{marked}{{background:var(--ink);color:var(--paper);border-color:var(--ink)}}"
        f"{focused}{{outline:3px solid var(--focus);outline-offset:2px}}"
    )


def heatmaps(material: Material) -> str:
    """Return the switch and a panel of maps for each figure."""
    grid, columns = Grid.of(material), material.columns
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
    panels = "".join(_panel(material, grid, column, i) for i, column in enumerate(columns))
    return (
        f'{_hatches(material, grid)}<div class="maps">{buttons}<div class="tabs">{labels}</div>{panels}</div>'
    )


def _hatches(material: Material, grid: Grid) -> str:
    """Return the hatched outlines of the tiles without a score, drawn once and used by every map."""
    table = material.table
    kinds = {"image": table["reason"] != ""}
    if material.pair:
        kinds["before"] = table["reason_before"] != ""
        kinds["change"] = ~material.paired
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


def _panel(material: Material, grid: Grid, column: Column, index: int) -> str:
    """Return the maps of one figure."""
    image = material.own_image(column)
    twin = material.twin(column)
    maps = []
    if twin:
        before = material.own_before(column)
        limits = _limits(material, column, np.concatenate([image[grid.tiles], before[grid.tiles]]))
        maps.append(_value_map(material, grid, column, index, "before", before, limits))
        maps.append(_value_map(material, grid, column, index, "image", image, limits))
        maps.append(_change_map(material, grid, column, index))
    else:
        limits = _limits(material, column, image[grid.tiles])
        maps.append(_value_map(material, grid, column, index, "image", image, limits))
    return (
        f'<div class="panel panel-{index}"><p class="says"><strong>{escape(column.label)}</strong>: {escape(column.says)} '
        f"{escape(column.note[:1].upper() + column.note[1:] + '.' if column.note else '')}</p>"
        f'<div class="row n{len(maps)}">{"".join(maps)}</div></div>'
    )


def _limits(material: Material, column: Column, values: Figures) -> tuple[float, float] | None:
    """Return the values at the ends of a scale; None where there is no value, or no two that are told apart.

    They are the tiles at the 2 and 98 % quantiles, or the extremes where those two are the same number.
    """
    there = values[np.isfinite(values)]
    if not there.size or material.in_every_tile(column, there):
        return None
    low = float(np.quantile(there, 0.02, method="lower"))
    high = float(np.quantile(there, 0.98, method="higher"))
    if material.in_every_tile(column, np.array([low, high])):
        low, high = float(there.min()), float(there.max())
    return low, high


def _value_map(
    material: Material,
    grid: Grid,
    column: Column,
    index: int,
    kind: str,
    values: Figures,
    limits: tuple[float, float] | None,
) -> str:
    """Return the map of the values of one image."""
    title = {"before": "Before", "image": "After" if material.twin(column) else "Image"}[kind]
    shown = values[grid.tiles]
    if not np.isfinite(shown).any():
        return _figure(grid, kind, index, f"{title}: no value here", "", "")
    if limits is None:
        same = material.in_every_tile(column, shown[np.isfinite(shown)])
        return _figure(grid, kind, index, f"{title} <small>{same} in every tile</small>", "", "")
    low, high = limits
    digits, middle = material.decimals[column.name], (low + high) / 2
    caption = f"{title} <small>median {number(float(np.nanmedian(shown)), digits)}</small>"
    ends = [
        ("≤ " if np.nanmin(shown) < low else "") + number(low, digits),
        number(middle, digits or (0 if middle.is_integer() else 1)),
        ("≥ " if np.nanmax(shown) > high else "") + number(high, digits),
    ]
    layer = grid.image((values - low) / (high - low), SEQUENTIAL)
    return _figure(grid, kind, index, caption, layer, _bar(SEQUENTIAL, ends, ["", ""]))


def _change_map(material: Material, grid: Grid, column: Column, index: int) -> str:
    """Return the map of the change, coloured by better and worse."""
    change = paired_change(material.table, column.name)
    gain = change if column.direction == "none" else improvement(material.table, column)
    shown = change[grid.tiles]
    if not np.isfinite(shown).any():
        return _figure(grid, "change", index, "Change: no tile is valid in both", "", "")
    same = material.in_every_tile(column, shown)
    if same:
        return _figure(grid, "change", index, f"Change <small>{same} in every tile</small>", "", "")
    digits, finite = material.decimals[column.name], np.abs(gain[grid.tiles])
    finite = finite[np.isfinite(finite)]
    reach = float(np.quantile(finite, 0.98, method="higher")) if finite.size else 1.0
    if not any(digit in "123456789" for digit in number(reach, digits)):
        reach = float(finite.max()) or 1.0
    left = reach if column.direction == "lower" else -reach
    sides = ["less", "more"] if column.direction == "none" else ["worse", "better"]
    ends = [signed(left, digits), "0", signed(-left, digits)]
    layer = grid.image(gain / (2 * reach) + 0.5, DIVERGING)
    caption = f"Change <small>median {signed(float(np.nanmedian(shown)), digits)}</small>"
    return _figure(grid, "change", index, caption, layer, _bar(DIVERGING, ends, sides))


def _bar(anchors: tuple[str, ...], ends: list[str], sides: list[str]) -> str:
    """Return the bar that says which colour is which number."""
    left, right = (f" <b>{side}</b>" if side else "" for side in sides)
    return (
        f'<div class="bar"><i style="background:{gradient(anchors)}"></i>'
        f"<span>{ends[0]}{left}</span><span>{ends[1]}</span><span>{ends[2]}{right}</span></div>"
    )


def _figure(grid: Grid, kind: str, index: int, caption: str, layer: str, bar: str) -> str:
    """Return one map with its caption and bar; a change lies over the image after."""
    under = "before" if kind == "before" else "image"
    place = f'data-metric={index} data-kind={kind} data-grid="{grid.x:.3f},{grid.y:.3f},{grid.pitch:.4f}"'
    wide = f"max-width:min(100%,calc(78vh*{grid.width / grid.height:.4f}))"
    hatched = f'<use href="#out-{kind}"/>'
    return (
        f'<figure class="mapfig"><figcaption>{caption}</figcaption>'
        f'<div class="map t-{under}" style="{wide}" {place}><svg viewBox="0 0 {grid.width} {grid.height}" role="img" '
        f'aria-label="{escape(_plain(caption))}">{layer}{hatched}</svg></div>{bar}</figure>'
    )


def _plain(caption: str) -> str:
    """Return a caption without its tags."""
    return caption.replace("<small>", "").replace("</small>", "")


def map_note(material: Material) -> str:
    """Say what the maps show and what the hatching is."""
    sections = material.sections.size
    where = (
        f" of section z = {material.thumbnail_z}, of {plural(sections, 'section')}" if sections > 1 else ""
    )
    drawn = "Tiles that the sample left out have no colour. " if material.sampled else ""
    scored: Any = material.summary["tiles"]
    invalid = scored["total"] - scored["valid"]
    hatch = (
        '<span class="sw hatch"></span> hatched: not scored (blank, flat, background or cut by the edge). '
        if invalid
        else ""
    )
    pair = "Before and after share one scale; changes are blue where better and orange where worse. "
    return (
        f"One colour per tile over the thumbnail{where}. {pair if material.pair else ''}{hatch}{drawn}"
        "<span class=js>Point at a tile, or tap it, for its values.</span>"
    )
