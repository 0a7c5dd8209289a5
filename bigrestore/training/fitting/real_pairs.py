"""Real pairs of a degraded and a clean image of the same place, cut into windows and registered.

Pairs are a folder with `lq/` and `hq/` of equal names, as `degrade` writes them, or two sections. Windows of 512 degraded
pixels are looked at one by one; those of empty glass are left out, and those whose images do not correlate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
from scipy.ndimage import shift

from bigrestore.core.geometry import round_up
from bigrestore.core.pixels import Floats, to_grey
from bigrestore.core.registration import Offset, find_offset, overlapping
from bigrestore.errors import InputError, InputMissingError, ModelScaleError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.settings.values import SCALES
from bigrestore.training.data.images import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

REAL_WINDOW_PX = 512
"""Side of a window, degraded pixels."""

SMALLEST_WINDOW_PX = 64
"""Smaller windows are not registered."""

MOST_PAIR_WINDOWS = 120
"""Windows with tissue that are looked at, spread evenly."""

MOST_READ = 480
"""Windows that are read to meet them."""

LEAST_WINDOW_CORRELATION = 0.5
"""Correlation of structures below which a window shows another place."""

MOST_OFFSET_PX = 16
"""Largest offset along an axis, degraded pixels."""

LEAST_KEPT_SHARE = 0.25
"""Share of the windows that must correlate, or the pairs are not of one place."""

LEAST_PAIR_WINDOWS = 4
"""Fewer windows tell nothing from which another could be predicted."""

STILL_PX = 0.06
"""Offsets below this, in degraded pixels, are left: interpolation would cost more."""

LEAST_WINDOW_CONTRAST = 0.02
"""Standard deviation, 0..1, below which a clean window is empty glass."""


@attrs.frozen(eq=False)
class RealWindow:
    """A registered window of a pair.

    Attributes
    ----------
    name : str
        Of its image.
    z, y, x : int
        First degraded pixel.
    degraded, clean : ndarray, (h, w) and (scale * h, scale * w)
        Grey values 0..1; the clean one moved into register.
    offset : Offset
        Where it lay, degraded pixels.
    eight_bits : bool
        Whether degraded pixels are multiples of 1/255.
    """

    name: str
    z: int
    y: int
    x: int
    degraded: Floats
    clean: Floats
    offset: Offset
    eight_bits: bool

    @classmethod
    def unmoved(cls, degraded: Floats, clean: Floats, name: str = "") -> RealWindow:
        """Return a window of a pair that is known to be in register."""
        return cls(name, 0, 0, 0, degraded, clean, Offset(0.0, 0.0, 1.0), _has_eight_bits(degraded))


@attrs.frozen(eq=False)
class PairImages:
    """A degraded and a clean image of one field."""

    name: str
    degraded: Section
    clean: Section

    def boxes(self) -> list[tuple[int, int, int, int, int]]:
        """Return (z, y0, y1, x0, x1) of windows, degraded pixels."""
        sides = [
            [
                (start, min(start + REAL_WINDOW_PX, side))
                for start in range(0, side, REAL_WINDOW_PX)
                if min(start + REAL_WINDOW_PX, side) - start >= SMALLEST_WINDOW_PX
            ]
            for side in (self.degraded.height, self.degraded.width)
        ]
        return [
            (z, *rows, *columns)
            for z in range(self.degraded.depth)
            for rows in sides[0]
            for columns in sides[1]
        ]


def open_pairs(folder: Path | None, lq: str | None, hq: str | None, scale: int) -> list[PairImages]:
    """Open pairs, reading nothing but headers.

    Parameters
    ----------
    folder : Path, optional
        With `lq/` and `hq/`; or
    lq, hq : str, optional
        two sections.
    scale : int
        Clean pixels per degraded pixel.

    Raises
    ------
    UsageError
        Neither or both are given, or the sizes are of another scale.
    InputError
        A side is missing, names do not match, or sizes do not.
    """
    if (folder is None) == (lq is None and hq is None):
        raise UsageError("Give either PAIRS, a folder with lq/ and hq/, or two sections by --lq and --hq.")
    if folder is None:
        if lq is None or hq is None:
            given, missing = ("--hq", "--lq") if lq is None else ("--lq", "--hq")
            raise UsageError(f"{given} alone is no pair; give the other section by {missing}.")
        pairs = [PairImages(Path(lq).name, open_section(lq), open_section(hq))]
    else:
        pairs = [
            PairImages(name, open_section(folder / "lq" / name), open_section(folder / "hq" / name))
            for name in _equal_names(folder)
        ]
    for pair in pairs:
        _check_sizes(pair, scale)
    return pairs


def _equal_names(folder: Path) -> list[str]:
    """Return the names of images in both `lq/` and `hq/`."""
    if not folder.is_dir():
        raise InputMissingError(f"There is no folder {folder}; give one with lq/ and hq/, or --lq and --hq.")
    names = []
    for side in ("lq", "hq"):
        if not (folder / side).is_dir():
            raise InputMissingError(
                f"{folder} has no folder {side}/; pairs are images of equal names in lq/ and hq/, as `bigrestore degrade` "
                "--count writes them."
            )
        paths = (folder / side).iterdir()
        names.append({path.name for path in paths if path.suffix.lower() in IMAGE_SUFFIXES})
    alone = sorted(names[0] ^ names[1])
    if alone:
        side, other = ("lq", "hq") if alone[0] in names[0] else ("hq", "lq")
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise InputMissingError(
            f"{folder / side / alone[0]}{more} has no image of this name in {other}/; add it, or take it out."
        )
    if not names[0]:
        raise InputError(
            f"There is no image in {folder / 'lq'}; pairs are PNG, JPEG, TIFF, BMP or WebP files of equal names."
        )
    return sorted(names[0])


def _check_sizes(pair: PairImages, scale: int) -> None:
    """Refuse a pair whose clean image is not `scale` times as large."""
    own, other = pair.degraded, pair.clean
    sizes = [(section.height, section.width) for section in (own, other)]
    what = (
        f"{other.source} has {other.height} x {other.width} px and {own.source} {own.height} x {own.width} px"
    )
    if own.depth != other.depth:
        raise InputError(
            f"{own.source} has {own.depth} section(s) and {other.source} {other.depth}; give two of equal depth."
        )
    for factor in SCALES:
        if sizes[1] == (sizes[0][0] * factor, sizes[0][1] * factor):
            if factor != scale:
                raise ModelScaleError(f"{what}, which is x{factor}; give --scale {factor}.")
            return
    raise InputError(f"{what}; a clean image is 1, 2 or 4 times as large as its degraded one.")


def register_pairs(pairs: list[PairImages], scale: int, where: str) -> list[RealWindow]:
    """Cut pairs into windows and register them.

    Parameters
    ----------
    pairs : list of PairImages
    scale : int
        Clean pixels per degraded pixel.
    where : str
        What the user gave, for the sentence.

    Returns
    -------
    list of RealWindow

    Raises
    ------
    InputError
        Too few windows show the same place, or there are too few windows with tissue.
    """
    looked_at, kept = 0, []
    for window in _tissue_windows(pairs, scale):
        looked_at += 1
        offset = window.offset
        if (
            offset.correlation >= LEAST_WINDOW_CORRELATION
            and max(abs(offset.y), abs(offset.x)) <= MOST_OFFSET_PX
        ):
            kept.append(_moved_by(window, scale))
    if looked_at and len(kept) < LEAST_KEPT_SHARE * looked_at:
        raise InputError(
            f"The pairs in {where} do not show the same place: {len(kept)} of {looked_at} windows correlate above "
            f"{LEAST_WINDOW_CORRELATION:g}; register them, or check the names."
        )
    if len(kept) < LEAST_PAIR_WINDOWS:
        raise InputError(
            f"The pairs in {where} have {len(kept)} window(s) with tissue, of {SMALLEST_WINDOW_PX} to {REAL_WINDOW_PX} px, "
            f"and a degradation is learned from at least {LEAST_PAIR_WINDOWS}; give more pairs, or larger ones."
        )
    log.info("%d of %d windows show the same place", len(kept), looked_at)
    return kept


def _tissue_windows(pairs: list[PairImages], scale: int) -> Iterator[RealWindow]:
    """Yield windows with tissue as they lie, evenly spread, with the offset of the clean side."""
    places = [(pair, box) for pair in pairs for box in pair.boxes()]
    # Read in rounds, each between those before, so that any number of windows is evenly spread.
    rounds = max(1, round_up(len(places), MOST_PAIR_WINDOWS) // MOST_PAIR_WINDOWS)
    order = [index for start in range(rounds) for index in range(start, len(places), rounds)]
    met = 0
    for index in order[:MOST_READ]:
        pair, (z, y0, y1, x0, x1) = places[index]
        own, other = pair.degraded, pair.clean
        sides = [scale * edge for edge in (y0, y1, x0, x1)]
        clean = np.clip(to_grey(other.read(z, *sides), other.value_range), 0, 1)
        if float(clean.std()) < LEAST_WINDOW_CONTRAST:
            continue
        degraded = np.clip(to_grey(own.read(z, y0, y1, x0, x1), own.value_range), 0, 1)
        height, width = degraded.shape
        means = clean.reshape(height, scale, width, scale).mean(axis=(1, 3))
        offset = find_offset(degraded, means, MOST_OFFSET_PX)
        yield RealWindow(pair.name, z, y0, x0, degraded, clean, offset, _has_eight_bits(degraded))
        met += 1
        if met == MOST_PAIR_WINDOWS:
            return


def _has_eight_bits(degraded: Floats) -> bool:
    """Return whether grey values are multiples of 1/255."""
    return bool(np.abs(degraded * 255 - np.rint(degraded * 255)).max() < 1e-2)


def _moved_by(window: RealWindow, scale: int) -> RealWindow:
    """Return a window with its clean side in register, cut to what both sides show.

    A blur of no direction has no phase; the fraction of a pixel is moved by splines of the fifth order, which keep
    frequencies that a blurred image holds.
    """
    y, x = window.offset.whole
    degraded, means = overlapping(window.degraded, np.empty(window.degraded.shape, bool), y, x)
    top, left = max(0, y) * scale, max(0, x) * scale
    height, width = (side * scale for side in means.shape)
    rest = np.array([window.offset.y - y, window.offset.x - x])
    clean = window.clean
    if np.abs(rest).max() > STILL_PX:
        clean = np.asarray(shift(clean, -rest * scale, order=5, mode="nearest"), np.float32)
    clean = np.ascontiguousarray(clean[top : top + height, left : left + width])
    return attrs.evolve(
        window,
        y=window.y + max(0, -y),
        x=window.x + max(0, -x),
        degraded=np.ascontiguousarray(degraded),
        clean=clean,
    )
