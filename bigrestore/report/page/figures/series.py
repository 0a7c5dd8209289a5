"""A volume over z: brightness with its jumps marked, and every figure's median and quartiles.

A jump of brightness between neighbouring sections runs as a streak through every reslice and no score sees it,
so it has the first and widest figure. Where there are more sections than a screen has columns, neighbours are
drawn together by their median, and the page says so; marks are never drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bigrestore.core.pixels import Doubles
from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.figures.axes import Frame
from bigrestore.report.page.markup import (
    Cell,
    count,
    escape,
    number,
    number_cell,
    plural,
    signed,
    table,
    text_cell,
)

MOST_POINTS = 600
MOST_ROWS = 500
LABELLED_JUMPS = 12


def volume(data: ReportData) -> str:
    """Return the figures and the table over z; empty for a single section."""
    sections = data.summary.get("sections")
    if not sections:
        return ""
    group = -(-len(sections) // MOST_POINTS)
    together = f" Each point is the median of {group} neighbouring sections." if group > 1 else ""
    plots = "".join(_plot(data, column, sections, group) for column in data.columns)
    return (
        f'<p class="note">{plural(len(sections), "section")}, medians of the tiles valid'
        f"{' in both images' if data.pair else ''}; the band holds the middle half of them.{together}</p>"
        f"{_grey(data, sections)}"
        f'<div class="plots">{plots}</div>{_table(data, sections)}'
    )


def _grey(data: ReportData, sections: Sequence[Mapping[str, Any]]) -> str:
    """Return the wide figure of the mean grey with the marked jumps, and their list."""
    jumps = data.summary.get("grey_jumps", {})
    if "image" not in jumps:
        return ""
    z = np.array([entry["z"] for entry in sections], np.float64)
    lines = {"before": _values(sections, "grey_before"), "after": _values(sections, "grey")}
    if not np.isfinite(lines["before"]).any():
        del lines["before"]
    finite = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
    low, high = float(finite.min()), float(finite.max())
    margin = max(1.0, 0.12 * (high - low))
    frame = Frame.fitted(720, 250, 22, 40, (float(z.min()), float(z.max())), (low - margin, high + margin))
    content = frame.y_axis()
    for name, values in lines.items():
        content += _line(frame, z, values, name)
    content += _marks(
        frame, dict(zip(z, lines["after"], strict=True)), jumps["image"]["marked"]
    ) + frame.x_axis(8)
    content += f'<text class="tx" x="{frame.width / 2:.0f}" y="{frame.height - 6}">section z</text>'
    key = "".join(f'<span class="sw {name}"></span>{name if data.pair else "mean grey"} ' for name in lines)
    label = escape(f"Mean grey level of each section, {len(jumps['image']['marked'])} jumps marked")
    return (
        '<figure class="widefig"><figcaption><strong>Brightness from section to section</strong> '
        "<small>mean grey of the tissue, % of the range</small></figcaption>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{frame.svg(label, content, "wide")}</div>'
        f'<p class="key">{key}<span class="sw jump"></span>jump{" after" if data.pair else ""}, marked above '
        f"{number(jumps['image']['threshold'], 1)} %</p>{_jump_sentences(jumps)}</figure>"
    )


def _jump_sentences(jumps: Mapping[str, Any]) -> str:
    """Say how large the jumps are and list the largest."""
    lines = []
    for name, label in (("before", "Before"), ("image", "After" if "before" in jumps else "Image")):
        if name not in jumps:
            continue
        brightness = jumps[name]
        largest = sorted(brightness["marked"], key=lambda jump: -abs(jump["jump"]))[:LABELLED_JUMPS]
        listed = "; ".join(
            f"z {jump['from_z']} → {jump['z']}: {signed(jump['jump'], 1)} %" for jump in largest
        )
        more = len(brightness["marked"]) - len(largest)
        lines.append(
            f"<li><strong>{label}</strong>: {plural(len(brightness['marked']), 'jump')} above "
            f"{number(brightness['threshold'], 1)} %, "
            f"typical step {number(brightness['typical'], 2)} %, largest {number(brightness['largest'], 1)} %"
            f"{'. ' + listed if listed else ''}{f' and {count(more)} more, in summary.json' if more > 0 else ''}.</li>"
        )
    return f'<ul class="plainlist">{"".join(lines)}</ul>'


def _marks(frame: Frame, grey: Mapping[float, float], marked: Sequence[Mapping[str, Any]]) -> str:
    """Return a mark at each jump, the largest with the number of their section."""
    largest = {jump["z"] for jump in sorted(marked, key=lambda jump: -abs(jump["jump"]))[:LABELLED_JUMPS]}
    marks, last = [], -1e9
    for jump in marked:
        x, y = frame.at_x(jump["z"]), frame.at_y(grey[float(jump["z"])])
        start = frame.at_y(grey[float(jump["from_z"])])
        marks.append(
            f'<path class="jump" d="M{x:.1f} {start:.1f}V{y:.1f}"/><circle class="jump" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        )
        if jump["z"] in largest and x - last > 26:
            marks.append(f'<text class="tx jump" x="{x:.1f}" y="{frame.top - 8}">{jump["z"]}</text>')
            last = x
    return "".join(marks)


def _plot(data: ReportData, column: Column, sections: Sequence[Mapping[str, Any]], group: int) -> str:
    """Return the figure of one column over z."""
    z = _grouped(np.array([entry["z"] for entry in sections], np.float64), group)
    kinds = {"before": "before", "image": "after"}
    bands = {}
    for name, shown in kinds.items():
        rows = [entry["metrics"][column.name].get(name) or [np.nan] * 3 for entry in sections]
        bands[shown] = np.stack([_grouped(part, group) for part in np.array(rows, np.float64).T])
    bands = {name: band for name, band in bands.items() if np.isfinite(band).any()}
    title = f"<strong>{escape(column.label)}</strong> <small>{escape(column.note)}</small>"
    if not bands:
        return f"<figure><figcaption>{title}: no tile has a value</figcaption></figure>"
    finite = np.concatenate([band[np.isfinite(band)] for band in bands.values()])
    same = data.in_every_tile(column, finite)
    if same:
        return f"<figure><figcaption>{title}: {same} in every section</figcaption></figure>"
    low, high = float(finite.min()), float(finite.max())
    margin = 0.06 * (high - low) or abs(low) * 0.01 or 0.5
    frame = Frame.fitted(320, 176, 10, 24, (float(z.min()), float(z.max())), (low - margin, high + margin))
    content = frame.y_axis()
    for name, band in bands.items():
        content += _area(frame, z, band[0], band[2], name) + _line(frame, z, band[1], name)
    label = escape(f"{column.label} over z")
    key = "".join(f'<span class="sw {name}"></span>{name} ' for name in bands) if data.twin(column) else ""
    return (
        f"<figure><figcaption>{title}</figcaption>{frame.svg(label, content + frame.x_axis())}"
        f'<p class="key">{key}</p></figure>'
    )


def _values(sections: Sequence[Mapping[str, Any]], key: str) -> Doubles:
    """Return one value per section, NaN if missing."""
    return np.array([np.nan if entry.get(key) is None else entry[key] for entry in sections], np.float64)


def _grouped(values: Doubles, group: int) -> Doubles:
    """Return the medians of neighbouring values, `group` at a time."""
    if group == 1:
        return values
    padded = np.pad(values, (0, -values.size % group), constant_values=np.nan).reshape(-1, group)
    there = np.isfinite(padded).any(axis=1)
    medians = np.full(padded.shape[0], np.nan)
    medians[there] = np.nanmedian(padded[there], axis=1)
    return medians


def _line(frame: Frame, z: Doubles, values: Doubles, kind: str) -> str:
    """Return a line, broken at missing values, with a point for a lone value."""
    path = []
    for run in _runs(values):
        points = [f"{frame.at_x(z[i]):.1f} {frame.at_y(values[i]):.1f}" for i in run]
        path.append("M" + "L".join(points) + ("h0.1" if len(points) == 1 else ""))
    return f'<path class="line {kind}" d="{"".join(path)}"/>'


def _area(frame: Frame, z: Doubles, low: Doubles, high: Doubles, kind: str) -> str:
    """Return the band between two lines."""
    path = []
    for run in _runs(low):
        there = [f"{frame.at_x(z[i]):.1f} {frame.at_y(low[i]):.1f}" for i in run]
        back = [f"{frame.at_x(z[i]):.1f} {frame.at_y(high[i]):.1f}" for i in reversed(run)]
        path.append("M" + "L".join(there + back) + "Z")
    return f'<path class="band {kind}" d="{"".join(path)}"/>'


def _runs(values: Doubles) -> list[list[int]]:
    """Return the positions of consecutive finite values."""
    there = np.flatnonzero(np.isfinite(values))
    parts = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1)
    return [[int(i) for i in part] for part in parts if part.size]


def _table(data: ReportData, sections: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the sections; the largest jumps first if not all are shown."""
    columns = data.group("score", "reference")
    marked = {
        jump["z"]: jump["jump"]
        for jump in data.summary.get("grey_jumps", {}).get("image", {}).get("marked", [])
    }
    shown = sections
    if len(sections) > MOST_ROWS:
        first = sorted(sections, key=lambda entry: (-abs(marked.get(entry["z"], 0.0)), entry["z"]))
        shown = sorted(first[:MOST_ROWS], key=lambda entry: entry["z"])
    read = {each["z"]: each["says"] for each in data.facts.get("read", ())}
    headings = [Cell("z"), Cell("Tiles"), Cell("Valid"), Cell("Mean grey, %"), Cell("Jump, %")]
    for column in columns:
        headings += [Cell(escape(column.label))] + ([Cell("change")] if data.twin(column) else [])
    headings += [Cell("What was read", numeric=False)] if read else []
    rows = []
    for entry in shown:
        row = [number_cell(float(entry[name]), 0) for name in ("z", "tiles", "valid")]
        row[0] = Cell(str(entry["z"]), float(entry["z"]))
        jump = marked.get(entry["z"])
        row += [
            number_cell(entry.get("grey"), 2),
            number_cell(jump, 2, change=True, kind="worse" if jump else ""),
        ]
        for column in columns:
            figures, digits = entry["metrics"][column.name], data.decimals[column.name]
            row.append(number_cell((figures["image"] or [None] * 3)[1], digits))
            if data.twin(column):
                row.append(number_cell((figures.get("change") or [None] * 3)[1], digits, change=True))
        row += [text_cell(read.get(entry["z"], ""))] if read else []
        rows.append(row)
    capped = (
        f" (the {count(MOST_ROWS)} with the largest jumps, of {count(len(sections))})"
        if len(shown) < len(sections)
        else ""
    )
    return (
        "<details><summary>Section by section</summary>"
        + table(
            "sections", f"Medians by section{capped}; all are in summary.json.", headings, rows, tall=True
        )
        + "</details>"
    )
