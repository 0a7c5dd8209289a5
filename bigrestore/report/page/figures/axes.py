"""Round numbers for axes, and the coordinates of a small figure.

The figures are drawn at the width of a phone and only grow: their letters are never smaller than the text around
them.
"""

from __future__ import annotations

import math

import attrs

from bigrestore.report.page.markup import number

LETTER_PX = 6.6
"""Width of a digit at the figures' size of letters."""

Y_TICKS = 3


def round_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round numbers in low..high, `wanted` or half as many again: steps of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(1.0, 1.5 * wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    # 0.999: a step equal to `raw` up to rounding is wide enough.
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(value: float, ticks: list[float]) -> str:
    """Return a tick with just as many figures as the step needs."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(value) or 1.0
    return number(value, max(0, min(7, -math.floor(math.log10(step) + 1e-9))) if step else 0)


@attrs.frozen
class Frame:
    """The drawing area of a figure and the values at its edges.

    Attributes
    ----------
    width, height : int
        Of the whole figure.
    left, top, right, bottom : int
        Margins.
    x, y : tuple of float
        Values at the left and right, and at the bottom and top.
    """

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int
    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def fitted(
        cls,
        width: int,
        height: int,
        top: int,
        bottom: int,
        x: tuple[float, float],
        y: tuple[float, float],
        factor: float = 1.0,
        unit: str = "",
    ) -> Frame:
        """Return a figure with a left margin as wide as the numbers of its vertical axis."""
        ticks = round_ticks(y[0] * factor, y[1] * factor, Y_TICKS)
        longest = max(len(tick_text(tick, ticks) + unit) for tick in ticks)
        return cls(width, height, max(34, round(9 + LETTER_PX * longest)), top, 12, bottom, x, y)

    def at_x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        share = (value - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        return self.left + share * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Return the vertical place of a value."""
        share = (value - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def x_axis(self, wanted: int = 4) -> str:
        """Return the axis under the figure."""
        base = self.height - self.bottom
        ticks = round_ticks(*self.x, wanted)
        while (
            len(ticks) > 2 and LETTER_PX * sum(len(tick_text(tick, ticks)) + 2 for tick in ticks) > self.width
        ):
            ticks = ticks[::2]
        marks = ""
        for tick in ticks:
            at, text = self.at_x(tick), tick_text(tick, ticks)
            half = LETTER_PX * len(text) / 2
            shown = min(max(at, half), self.width - half)
            marks += (
                f'<path class="tick" d="M{at:.1f} {base}v4"/>'
                f'<text class="tx" x="{shown:.1f}" y="{base + 16}">{text}</text>'
            )
        return f'<path class="axis" d="M{self.left} {base}H{self.width - self.right}"/>{marks}'

    def y_axis(self, factor: float = 1.0, unit: str = "") -> str:
        """Return the lines and numbers of the vertical axis; the numbers are multiplied by `factor`."""
        ticks = round_ticks(self.y[0] * factor, self.y[1] * factor, Y_TICKS)
        return "".join(
            f'<path class="grid" d="M{self.left} {self.at_y(tick / factor):.1f}H{self.width - self.right}"/>'
            f'<text class="ty" x="{self.left - 5}" y="{self.at_y(tick / factor) + 4:.1f}">'
            f"{tick_text(tick, ticks)}{unit}</text>"
            for tick in ticks
        )

    def svg(self, label: str, content: str, kind: str = "") -> str:
        """Return the figure; `label` describes it to screen readers, escaped already."""
        return (
            f'<svg class="plot {kind}" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{label}">'
            f"{content}</svg>"
        )
