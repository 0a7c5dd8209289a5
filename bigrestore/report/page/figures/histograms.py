"""How the tiles are spread, before and after, in the same bins and on the same scale.

A median may move because every tile changed a little or one in ten by far; the histogram shows the difference. Both
images are drawn over each other as shares of their tiles. The ends of the axis are the 0.5 and 99.5 % quantiles of
both together, and tiles beyond them are counted in the last bins: one tile cannot flatten the rest. A figure with the
same value in every tile, as the page writes it, is a sentence instead of an axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bigrestore.core.pixels import Doubles
from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.figures.axes import Frame
from bigrestore.report.page.markup import escape, number, plural

FEWEST_BINS, MOST_BINS = 10, 40


def histograms(data: ReportData, columns: Sequence[Column]) -> str:
    """Return the histograms of some columns, side by side as far as the screen allows."""
    return '<div class="plots">' + "".join(_histogram_figure(data, column) for column in columns) + "</div>"


def edges_of(parts: Sequence[Doubles]) -> Doubles | None:
    """Return the common edges of the bins of all parts; None without any value."""
    values = np.concatenate([part[np.isfinite(part)] for part in parts])
    if not values.size:
        return None
    low = float(np.quantile(values, 0.005, method="lower"))
    high = float(np.quantile(values, 0.995, method="higher"))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        margin = abs(low) * 0.01 or 0.5
        low, high = low - margin, high + margin
    most = max(int(np.isfinite(part).sum()) for part in parts)
    bins = int(np.clip(round(np.sqrt(most)), FEWEST_BINS, MOST_BINS))
    return np.linspace(low, high, bins + 1)


def shares(values: Doubles, edges: Doubles) -> Doubles:
    """Return the share of the tiles in each bin; values beyond the ends are in the last ones."""
    there = np.clip(values[np.isfinite(values)], edges[0], edges[-1])
    return np.histogram(there, edges)[0] / max(1, there.size)


def _histogram_figure(data: ReportData, column: Column) -> str:
    """Return one histogram with its caption."""
    twin = data.twin(column)
    parts = {"after": data.of_image(column)}
    if twin:
        parts = {"before": data.of_before(column)} | parts
    edges = edges_of(list(parts.values()))
    title = f"<strong>{escape(column.label)}</strong>"
    if edges is None:
        return f"<figure><figcaption>{title}: no tile has a value</figcaption></figure>"
    same = data.in_every_tile(column, np.concatenate(list(parts.values())))
    if same:
        images = ", before and after" if twin else ""
        return f"<figure><figcaption>{title}: {same} in every tile{images}</figcaption></figure>"
    heights = {name: shares(values, edges) for name, values in parts.items()}
    top = max(float(share.max()) for share in heights.values())
    ends = (float(edges[0]), float(edges[-1]))
    frame = Frame.fitted(320, 168, 10, 24, ends, (0.0, top * 1.06), 100.0, " %")
    content = frame.y_axis(100.0, " %") + "".join(
        _steps(frame, edges, share, name) for name, share in heights.items()
    )
    digits = data.decimals[column.name]
    medians: dict[str, float | None] = dict.fromkeys(parts)
    for name, values in parts.items():
        if np.isfinite(values).any():
            middle = medians[name] = float(np.nanmedian(values))
            x = frame.at_x(min(max(middle, float(edges[0])), float(edges[-1])))
            content += f'<path class="median {name}" d="M{x:.1f} {frame.top}V{frame.height - frame.bottom}"/>'
    content += frame.x_axis()
    label = escape(
        f"Histogram of {column.label}: "
        + ", ".join(f"{name} median {number(value, digits)}" for name, value in medians.items())
    )
    return (
        f"<figure><figcaption>{title} <small>{escape(column.note)}</small></figcaption>"
        f"{frame.svg(label, content)}<p class=key>{_key(medians, digits, twin=twin)}{_beyond(parts, edges)}</p></figure>"
    )


def _key(medians: dict[str, float | None], digits: int, *, twin: bool) -> str:
    """Return the key of the histogram, with the medians."""
    if not twin:
        return f'<span class="sw after"></span>median {number(medians["after"], digits)}'
    return " ".join(
        f'<span class="sw {name}"></span>{name}, median {number(value, digits)}'
        for name, value in medians.items()
    )


def _beyond(parts: dict[str, Doubles], edges: Doubles) -> str:
    """Say how many tiles lie beyond the ends."""
    beyond = sum(int(((values < edges[0]) | (values > edges[-1])).sum()) for values in parts.values())
    text = f"{plural(beyond, 'value')} beyond the ends, in the last bins"
    return f'<small class="beyond">{text}</small>' if beyond else ""


def _steps(frame: Frame, edges: Doubles, share: Doubles, kind: str) -> str:
    """Return one histogram as a filled outline."""
    base = frame.at_y(0.0)
    path = [f"M{frame.at_x(float(edges[0])):.1f} {base:.1f}"]
    for index, height in enumerate(share):
        path.append(f"V{frame.at_y(float(height)):.1f}H{frame.at_x(float(edges[index + 1])):.1f}")
    return f'<path class="hist {kind}" d="{"".join(path)}V{base:.1f}Z"/>'
