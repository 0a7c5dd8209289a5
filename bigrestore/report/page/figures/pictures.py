"""The best, the median and the worst tile at full size, before beside after beside the reference.

Numbers do not show the change of a cell; pictures do. Which tiles are shown is decided by the numbers and not by
taste: for each score the tile with the largest improvement, the one in the middle and the one with the least (of a
single image: the best, the median and the worst value). A tile chosen by several scores is shown once, with all its
roles.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import GreyBytes
from bigrestore.report.metrics.columns import BEFORE, Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.embed import LOSSLESS, data_uri, encode_within
from bigrestore.report.page.markup import escape, number, signed
from bigrestore.report.table.statistics import improvement

BUDGET_BYTES = 8_000_000
"""Of all the pictures together, before base64 adds a third."""

MOST_SCORES = 4
NARROWEST_PX = 200
"""Width of a figure whose picture is smaller: its numbers need as much."""

RANKS = ("Best", "Median", "Worst")


@attrs.frozen
class Choice:
    """A tile to show.

    Attributes
    ----------
    tile : int
        Position in the table.
    rank : str
        `Best`, `Median` or `Worst`.
    scores : list of str
        Labels of the scores choosing it.
    """

    tile: int
    rank: str
    scores: list[str]


def choose(data: ReportData) -> list[Choice]:
    """Return the tiles to show: for each rank, each tile once."""
    chosen: list[Choice] = []
    for column in _judges(data):
        if data.pair:
            goodness = improvement(data.table, column)
        else:
            goodness = -np.array([column.badness(value) for value in data.of_image(column)])
        for rank, tile in zip(RANKS, _extremes(goodness), strict=False):
            same = next((each for each in chosen if each.tile == tile and each.rank == rank), None)
            if same:
                same.scores.append(column.label)
            else:
                chosen.append(Choice(tile, rank, [column.label]))
    return sorted(chosen, key=lambda choice: RANKS.index(choice.rank))


def _judges(data: ReportData) -> list[Column]:
    """Return the scores for choosing tiles."""
    columns = data.group("score", "reference")
    if data.pair:
        columns = [column for column in columns if data.twin(column)]
    return [column for column in columns if column.direction != "none"][:MOST_SCORES]


def _extremes(goodness: NDArray[np.float64]) -> list[int]:
    """Return the tiles with the highest, the middle and the lowest value, or fewer."""
    there = np.flatnonzero(np.isfinite(goodness))
    order = there[np.argsort(-goodness[there], kind="stable")]
    if order.size < 3:
        return [int(tile) for tile in order[:1]]
    return [int(order[0]), int(order[order.size // 2]), int(order[-1])]


def pictures(data: ReportData) -> str:
    """Return the cards of the chosen tiles."""
    choices = choose(data)
    if not choices:
        return "<p>No tile has a score, so none is shown.</p>"
    tiles = sorted({choice.tile for choice in choices})
    loaded = {tile: _pictures_of(data, tile) for tile in tiles}
    flat = [picture for tile in tiles for _, picture in loaded[tile]]
    encoded, quality = encode_within(flat, BUDGET_BYTES)
    uris = iter(data_uri(content, "webp") for content in encoded)
    shown = {tile: [(name, next(uris), picture.shape) for name, picture in loaded[tile]] for tile in tiles}
    stored = (
        "without loss" if quality == LOSSLESS else f"as WebP of quality {quality}, to keep the page small"
    )
    note = (
        "One pixel of the image is one pixel of the page. The tiles were chosen by the "
        f"{'change of the' if data.pair else ''} scores alone; they are stored {stored}."
    )
    fit = '<p class="fit"><input type="checkbox" id="fit"> <label for="fit">Fit the pictures to the page</label></p>'
    most = max(len(each) for each in loaded.values())
    swipe = '<p class="swipe note">Swipe a picture sideways for the one beside it.</p>' if most > 1 else ""
    cards = "".join(_card(data, choice, shown[choice.tile]) for choice in _once(choices))
    return f'<p class="note">{note}</p><div class="cards">{fit}{swipe}{cards}</div>'


def _once(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices with each tile once; later roles are added to the first choice."""
    by_tile: dict[int, Choice] = {}
    for choice in choices:
        first = by_tile.get(choice.tile)
        if first is None:
            by_tile[choice.tile] = attrs.evolve(
                choice, scores=[f"{choice.rank} by {each}" for each in choice.scores]
            )
        else:
            first.scores.extend(f"{choice.rank.lower()} by {each}" for each in choice.scores)
    return list(by_tile.values())


def _pictures_of(data: ReportData, tile: int) -> list[tuple[str, GreyBytes]]:
    """Return the pictures of a tile with their names."""
    table = data.table
    place = [int(table[name][tile]) for name in ("z", "y", "x", "height", "width")]
    before, image, reference = data.pictures(place[0], place[1], place[2], place[3], place[4])
    named = [("Before", before), ("After" if data.pair else "Image", image), ("Reference", reference)]
    return [(name, picture) for name, picture in named if picture is not None]


def _card(data: ReportData, choice: Choice, shown: Sequence[tuple[str, str, tuple[int, ...]]]) -> str:
    """Return one tile with its pictures and numbers."""
    table, tile = data.table, choice.tile
    where = f"row {table['row'][tile]}, column {table['column'][tile]}"
    if data.sections.size > 1:
        where = f"section z = {table['z'][tile]}, {where}"
    place = (
        f"{where} (y {table['y'][tile]}, x {table['x'][tile]}), tissue {100 * table['tissue'][tile]:.0f} %"
    )
    roles = ", ".join([choice.scores[0], *(text[0].lower() + text[1:] for text in choice.scores[1:])])
    figures = "".join(
        f'<figure style="width:{max(NARROWEST_PX, shape[1])}px"><img src="{uri}" width="{shape[1]}" '
        f'height="{shape[0]}" alt="{escape(name)}, {escape(where)}">'
        f"<figcaption><strong>{name}</strong>{_numbers(data, tile, name)}</figcaption></figure>"
        for name, uri, shape in shown
    )
    rank = choice.rank.lower()
    return (
        f'<article class="card {rank}"><h3>{escape(roles)}</h3><p class="where">{escape(place)}</p>'
        f'<div class="strip" tabindex="0" role="region" aria-label="{escape(roles)}">{figures}</div></article>'
    )


def _numbers(data: ReportData, tile: int, name: str) -> str:
    """Return the scores of one picture of a tile."""
    parts = []
    for column in data.group("score", "reference"):
        digits, twin = data.decimals[column.name], data.twin(column)
        after = float(data.table[column.name][tile])
        before = float(data.table[column.name + BEFORE][tile]) if twin else float("nan")
        text = {"Before": number(before, digits) if twin else "", "Reference": ""}.get(
            name, number(after, digits)
        )
        if name == "After" and twin:
            text += f" <small>({signed(after - before, digits)})</small>"
        if text:
            parts.append(f"<span>{escape(column.label)} {text}</span>")
    return "".join(parts)
