"""The figures: how tiles are spread, and a volume over z, drawn by matplotlib as SVG inside the page.

A median may move because every tile changed a little or one in ten by far; the histogram shows the difference. A jump of
brightness between neighbouring sections runs as a streak through every reslice and no score sees it, so it has the widest
figure. Colours are those of the style sheet, by name, so figures follow the dark scheme; a saved figure has them as
numbers. matplotlib is loaded with this module, which only a report loads.
"""

from __future__ import annotations

import functools
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, ScalarFormatter
from matplotlib.transforms import Bbox

from bigrestore.core.pixels import Doubles
from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.shown import plural, signed

FEWEST_BINS, MOST_BINS, MOST_POINTS, MOST_BARS, LABELLED_JUMPS = 10, 40, 600, 60, 12
COLOURS = {"before": "#b0772a", "after": "#1f6f9f", "soft": "#5a636d", "faint": "#eeece7", "jump": "#c02f4c"}
STYLE: dict[str, Any] = {f"axes.spines.{side}": False for side in ("left", "right", "top")}
STYLE |= dict.fromkeys(("axes.edgecolor", "text.color", "xtick.color", "ytick.color"), COLOURS["soft"])
STYLE |= {"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": COLOURS["faint"]}
STYLE |= {"axes.xmargin": 0.03, "font.size": 11, "lines.linewidth": 1.8, "lines.markersize": 3}
STYLE |= {"ytick.major.size": 0, "svg.fonttype": "none", "svg.hashsalt": "bigrestore"}
SMALL, WIDE = (320, 172), (760, 250)

AxesOf = Callable[[tuple[int, int]], Any]
"""Gives the axes of a size, which each figure of it is drawn into in turn."""


class Plot(NamedTuple):
    """A figure of the page: its title and note, the words under it with their colours, and its SVG, if any."""

    title: str
    note: str
    below: Sequence[tuple[str, str]] = ()
    name: str = ""
    svg: str = ""


def plots(data: ReportData) -> tuple[dict[str, Plot], list[Plot]]:
    """Return the histogram of each column by name, and the figures over z, none for a single section."""
    sections = data.summary.get("sections", ())
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        axes_of = functools.cache(_new_axes)  # making axes takes as long as drawing into them
        spread = {column.name: _histogram(data, column, axes_of) for column in data.columns}
        over_z = [_over_z(data, column, sections, axes_of) for column in data.columns if sections]
        return spread, [_brightness(data, sections, axes_of), *over_z] if sections else []


def _histogram(data: ReportData, column: Column, axes_of: AxesOf) -> Plot:
    """Return how the tiles of a column are spread."""
    parts = data.counted(column)
    edges, same = edges_of(list(parts.values())), data.same(column, np.concatenate(list(parts.values())))
    if edges is None or same:
        both = ", before and after" if len(parts) > 1 else ""
        return Plot(column.label, f"{same} in every tile{both}" if same else "no tile has a value")
    medians = {name: float(np.median(values[~np.isnan(values)])) for name, values in parts.items()}
    shown = edges * column.factor

    def draw(axes: Any) -> None:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for name, values in parts.items():
            axes.stairs(shares(values, edges), shown, fill=True, color=COLOURS[name], alpha=0.3)
            axes.stairs(shares(values, edges), shown, color=COLOURS[name], linewidth=1.4)
            middle = np.clip(medians[name] * column.factor, shown[0], shown[-1])
            axes.axvline(middle, color=COLOURS[name], dashes=(4, 3))

    said = {name: f"{name} median {data.number(column, median)}" for name, median in medians.items()}
    beyond = sum(int(((values < edges[0]) | (values > edges[-1])).sum()) for values in parts.values())
    below = [*said.items()] + (
        [("", f"{plural(beyond, 'value')} in the last bins lie beyond")] if beyond else []
    )
    label, prefix = (
        f"Histogram of {column.label}: {', '.join(said.values())}",
        f"h-{data.columns.index(column)}",
    )
    return Plot(column.label, column.note, below, column.name, _svg(axes_of(SMALL), draw, label, prefix))


def edges_of(parts: Sequence[Doubles]) -> Doubles | None:
    """Return the edges of the bins of all parts: the 0.5 and 99.5 % quantiles, if they differ; None without any value."""
    values = np.concatenate([part[np.isfinite(part)] for part in parts])
    if not values.size:
        return None
    values.sort()
    low, high = values[int(0.005 * (values.size - 1))], values[-1 - int(0.005 * (values.size - 1))]
    if high <= low:
        low, high = values[0], values[-1]
    margin = 0.0 if high > low else abs(low) * 0.01 or 0.5
    most = max(int(np.isfinite(part).sum()) for part in parts)
    bins = int(np.clip(round(np.sqrt(most)), FEWEST_BINS, MOST_BINS))
    return np.linspace(low - margin, high + margin, bins + 1)


def shares(values: Doubles, edges: Doubles) -> Doubles:
    """Return the share of the tiles in each bin; values beyond the ends are in the last ones."""
    there = np.clip(values[np.isfinite(values)], edges[0], edges[-1])
    return np.histogram(there, edges)[0] / max(1, there.size)


def _brightness(data: ReportData, sections: Sequence[Mapping[str, Any]], axes_of: AxesOf) -> Plot:
    """Return the wide figure of the mean grey with the marked jumps."""
    title, jumps = "Brightness from section to section", data.summary["grey_jumps"].get("image")
    if jumps is None:
        return Plot(title, "fewer than two sections have a score")
    keys = {"before": "grey_before", "after": "grey"} if data.pair else {"after": "grey"}
    known = {name: [entry for entry in sections if entry[key] is not None] for name, key in keys.items()}
    grey = {name: {entry["z"]: 100 * entry[keys[name]] for entry in there} for name, there in known.items()}
    marked = jumps["marked"]
    named = sorted(marked, key=lambda jump: -abs(jump["jump"]))[:LABELLED_JUMPS]

    def draw(axes: Any) -> None:
        for name, values in grey.items():
            axes.plot(
                [*values], [*values.values()], "-o" if len(values) <= MOST_BARS else "-", color=COLOURS[name]
            )
        for z, from_z in ((jump["z"], jump["from_z"]) for jump in marked):
            ends = [grey["after"][from_z], grey["after"][z]]
            axes.plot([z, z], ends, "-o", color=COLOURS["jump"], markevery=[1], markersize=5)
        for z in (jump["z"] for jump in named):
            axes.text(z, 1.02, z, transform=axes.get_xaxis_transform(), color=COLOURS["jump"], ha="center")

    below = [(name, name if data.pair else "mean grey") for name in grey]
    below += [("jump", f"jump, marked above {100 * jumps['threshold']:.1f} %")]
    below += [("", f"z {jump['from_z']} → {jump['z']}: {signed(100 * jump['jump'], 1)} %") for jump in named]
    label = f"Mean grey of each section, {plural(len(marked), 'jump')} marked"
    svg = _svg(axes_of(WIDE), draw, label, "grey")
    return Plot(title, "mean grey of the tissue, % of the range", below, "brightness", svg)


def _over_z(data: ReportData, column: Column, sections: Sequence[Mapping[str, Any]], axes_of: AxesOf) -> Plot:
    """Return the median and quartiles of one column over z."""
    group = -(-len(sections) // MOST_POINTS)
    z = _grouped(np.array([entry["z"] for entry in sections], np.float64), group)
    bands: dict[str, list[Doubles]] = {}
    entries = [entry["metrics"][column.name] for entry in sections]
    for name, key in (("before", "before"), ("after", "image")):
        rows = np.array([entry.get(key) or [np.nan] * 3 for entry in entries], np.float64)
        if np.isfinite(rows).any():
            bands[name] = [_grouped(part, group) for part in rows.T]
    if not bands:
        return Plot(column.label, "no tile has a value")
    same = data.same(column, np.array(list(bands.values())).ravel())
    if same:
        scored, total = sum(any(entry.values()) for entry in entries), len(data.sections)
        some = f"in {scored} of {total} sections; the others have no score"
        return Plot(column.label, f"{same} {'in every section' if scored == total else some}")

    def draw(axes: Any) -> None:
        for name, band in bands.items():
            low, middle, high = (part * column.factor for part in band)
            spread, line = (axes.vlines, "-o") if len(z) <= MOST_BARS else (axes.fill_between, "-")
            spread(z, low, high, color=COLOURS[name], alpha=0.3)
            axes.plot(z, middle, line, color=COLOURS[name])

    svg = _svg(axes_of(SMALL), draw, f"{column.label} over z", f"z-{data.columns.index(column)}")
    return Plot(column.label, column.note, [(name, name) for name in bands], f"{column.name}-over-z", svg)


def _grouped(values: Doubles, group: int) -> Doubles:
    """Return the medians of neighbouring values, `group` at a time."""
    padded = np.pad(values, (0, -values.size % group), constant_values=np.nan).reshape(-1, group)
    known = [part[np.isfinite(part)] for part in padded]
    return np.array([np.median(part) if part.size else np.nan for part in known])


def _new_axes(size: tuple[int, int]) -> Any:
    """Return empty axes that fill a figure of some width and height in points."""
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72), frameon=False)
    FigureCanvasSVG(figure)
    return figure.add_axes((46 / width, 24 / height, 1 - 60 / width, 1 - 46 / height), facecolor="none")


def _emptied(axes: Any) -> None:
    """Remove what was drawn into axes, and their limits."""
    for artist in (*axes.lines, *axes.patches, *axes.collections, *axes.texts):
        artist.remove()
    axes.dataLim.set_points(Bbox.null().get_points())
    axes.ignore_existing_data_limits = True
    axes.autoscale()
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _svg(axes: Any, draw: Callable[[Any], None], label: str, prefix: str) -> str:
    """Return what `draw` draws as an SVG element: no date, and no identifier that another figure has."""
    _emptied(axes)
    figure = axes.figure
    width = round(72 * figure.get_figwidth())
    axes.xaxis.set_major_locator(MaxNLocator(width // 80, integer=not prefix.startswith("h")))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    draw(axes)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = "\n".join(map(str.strip, stream.getvalue().splitlines()))
    text = text[text.index("<svg") : text.index("<metadata>")] + text[text.index("</metadata>") + 11 :]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", re.sub(r'<g id="[^"]*"', "<g", text))
    text = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    return text.replace("<svg ", f'<svg class="plot" role="img" aria-label="{html.escape(label)}" ', 1)
