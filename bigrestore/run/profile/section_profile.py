"""The profile of a section, computed before its first tile: background, tissue, blur and noise.

All estimates are made here, once for each section, from windows on an absolute lattice. They are stored, so that results
depend neither on the tiling nor on the worker.

Level and noise of the background come from bright windows that vary by white noise alone. A section without such windows
has no background, and all of it is restored.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.host.arithmetic import exact_arithmetic
from bigrestore.core.pixels import Floats, luma, to_grey, to_unit
from bigrestore.errors import InputError, UnreadableSectionError, gpu_failures
from bigrestore.io.conventions.range_check import MOST_CLIPPED
from bigrestore.io.patched import PatchedSection
from bigrestore.io.section import Section
from bigrestore.model.method import WINDOW_PX, Method, SectionStatistics

log = logging.getLogger(__name__)

THUMBNAIL_PX = 1024
"""Longer side of the thumbnail for the search for tissue."""

LEAST_READ_PX = 9
"""Least height and width of a section that is read: mirrored into a window, a thinner one has edges on the lattice of
JPEG blocks, or no detail across."""

MOST_WINDOWS = 128
"""Largest number of windows analysed in one section."""

BACKGROUND_WINDOWS = 16
"""Number of windows examined for background."""

NOISIEST_BACKGROUND = 10 / 255
"""Largest noise of a background; noisier windows may be faint tissue."""


@attrs.frozen(eq=False)
class Profile:
    """Background, tissue, blur and noise of one section.

    Attributes
    ----------
    statistics : SectionStatistics
        Blur and noise, estimated by the method from the windows.
    background : float or None
        Background level, 0..1; None without flat background.
    background_sigma : float
        Standard deviation of the background's noise, 0..1.
    tissue_share : float
        Share of tissue in the thumbnail, 0..1.
    windows : int
        Number of windows analysed.
    clipped_share : float
        Share of their pixels beyond black and white, 0..1.
    """

    statistics: SectionStatistics
    background: float | None
    background_sigma: float
    tissue_share: float
    windows: int
    clipped_share: float = 0.0

    @property
    def noise_law(self) -> tuple[float, float]:
        """Gain and read noise."""
        return self.statistics.noise_gain, self.statistics.read_noise

    def to_json(self) -> dict[str, Any]:
        """Return the profile as a JSON document, with float32 values that `from_json` restores exactly."""
        statistics = self.statistics
        return {
            "kernel": statistics.kernel.tolist(),
            "psi": statistics.psi.tolist(),
            "noise_gain": statistics.noise_gain,
            "read_noise": statistics.read_noise,
            "details": statistics.details,
            "background": self.background,
            "background_sigma": self.background_sigma,
            "tissue_share": self.tissue_share,
            "windows": self.windows,
            "clipped_share": self.clipped_share,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the profile as names and values for people."""
        rows = [
            (name.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else f"{value}")
            for name, value in self.statistics.details.items()
        ]
        level = "none found" if self.background is None else f"{self.background:.3f}"
        noise = f", noise {self.background_sigma:.4f}" if self.background is not None else ""
        rows += [("background", level + noise), ("tissue", f"{self.tissue_share:.1%}")]
        return rows + ([("clipped", f"{self.clipped_share:.1%}")] if self.clipped_share else [])

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Profile:
        """Return the profile from a document of `to_json`."""
        statistics = SectionStatistics(
            kernel=np.asarray(document["kernel"], np.float32),
            psi=np.asarray(document["psi"], np.float32),
            noise_gain=document["noise_gain"],
            read_noise=document["read_noise"],
            details=document["details"],
        )
        names = ("background", "background_sigma", "tissue_share", "windows")
        known = {name: document[name] for name in names}
        clipped = document.get("clipped_share", 0.0)  # the first profiles do not say it
        return cls(statistics, **known, clipped_share=clipped)


@attrs.frozen(eq=False)
class Sample:
    """The pixels of a section behind its profile.

    Attributes
    ----------
    windows : ndarray, (n, 128, 128), float32
        Grey values of tissue, 0..1; n may be 0.
    background, background_sigma
        As in `Profile`.
    tissue : ndarray, (h, w), bool
        True for pixels of tissue in the thumbnail.
    factor : float
        Section pixels per pixel of the thumbnail.
    """

    windows: Floats
    background: float | None
    background_sigma: float
    tissue: NDArray[np.bool_]
    factor: float

    @property
    def tissue_share(self) -> float:
        """Return the share of tissue in the section, 0..1."""
        return float(self.tissue.mean())


def profile_section(section: Section, z: int, method: Method) -> Profile:
    """Compute the profile of one section.

    Parameters
    ----------
    section : Section
        The input.
    z : int
        Index of the section in its volume.
    method : Method
        Estimates blur and noise.

    Returns
    -------
    Profile

    Raises
    ------
    UnreadableSectionError
        Nothing of the section can be read.
    InputError
        Floating-point values leave the stated range.
    """
    return profile_windows(sample_section(section, z), method)


def profile_windows(seen: Sample, method: Method) -> Profile:
    """Return the profile of a sampled section."""
    with gpu_failures(), exact_arithmetic():
        statistics = method.analyse(seen.windows)
    clipped = float(((seen.windows < 0) | (seen.windows > 1)).mean()) if len(seen.windows) else 0.0
    return Profile(
        statistics,
        seen.background,
        seen.background_sigma,
        seen.tissue_share,
        len(seen.windows),
        round(clipped, 6),
    )


def warn_of_clipping(profile: Profile, section: Section, z: int) -> None:
    """Warn if much of a section's tissue lies beyond the stated range of values."""
    if profile.clipped_share > MOST_CLIPPED:
        black, white = section.value_range
        log.warning(
            "Section %d: %.1f %% of the pixels of its tissue lie beyond --input-range %g %g, and are cut off at its ends.",
            *(z, 100 * profile.clipped_share, black, white),
        )


def sample_section(section: Section, z: int) -> Sample:
    """Find background and tissue of a section and read its windows.

    Raises
    ------
    InputError
        Where floating-point values leave the stated range, or the section cannot be read.
    """
    small = thumbnail_of(section, z)
    if min(section.height, section.width) < LEAST_READ_PX:
        log.info(
            "Section %d is thinner than %d px: neither blur nor noise can be read of it.", z, LEAST_READ_PX
        )
        chosen = []
    else:
        chosen = tissue_windows(section, small)
    seen = (_window_or_none(section, z, y, x) for y, x in chosen)
    windows = [window for window in seen if window is not None]
    stack = np.stack(windows) if windows else np.zeros((0, WINDOW_PX, WINDOW_PX), np.float32)
    return Sample(stack, small.background, small.background_sigma, small.tissue, small.factor)


@attrs.frozen(eq=False)
class Thumbnail:
    """A section of at most 1024 px, and where its tissue is.

    Attributes
    ----------
    grey : ndarray, (h, w), 0..1
        Area means.
    background, background_sigma, tissue, factor
        As in `Sample`.
    """

    grey: Floats
    background: float | None
    background_sigma: float
    tissue: NDArray[np.bool_]
    factor: float


def thumbnail_of(section: Section, z: int) -> Thumbnail:
    """Return the thumbnail of a section.

    Raises
    ------
    InputError
        Where floating-point values leave the stated range, or the section cannot be read.
    """
    grey, factor = _thumbnail(section, z)
    level, sigma = _background(section, z, _lattice_means(grey, factor, section.height, section.width))
    tissue = np.ones(grey.shape, bool)
    if level is not None:
        tissue = np.abs(grey - level) > max(4 / 255, 2 * sigma)
    return Thumbnail(grey, level, sigma, tissue, factor)


def find_background(section: Section, z: int) -> tuple[float | None, float]:
    """Return level and noise of a section's background, 0..1, as `profile_section` finds them.

    Raises
    ------
    InputError
        Where floating-point values leave the stated range, or the section cannot be read.
    """
    grey, factor = _thumbnail(section, z)
    return _background(section, z, _lattice_means(grey, factor, section.height, section.width))


def describe(profile: Profile) -> str:
    """Return all that a profile holds as one line."""
    facts = [f"{name} {value}" for name, value in profile.statistics.details.items() if name != "windows"]
    where = "none" if profile.background is None else f"{profile.background:.3f}"
    return ", ".join([*facts, f"background {where}", tissue_words(profile), f"{profile.windows} windows"])


def tissue_words(profile: Profile) -> str:
    """Return the share of tissue in words."""
    return f"tissue {profile.tissue_share:.0%}"


def _thumbnail(section: Section, z: int) -> tuple[Floats, float]:
    """Return a small grey picture of a section, 0..1, and section pixels per pixel of it."""
    try:
        raw, factor = section.lowres(z, THUMBNAIL_PX)
    except InputError as error:
        patched = PatchedSection.of(section)
        raw, factor = patched.lowres(z, THUMBNAIL_PX)
        if not patched.read_px:
            raise UnreadableSectionError(str(error)) from error
        log.warning("Section %d cannot be read everywhere: %s", z, error)
    thumbnail = to_unit(raw, section.value_range)
    _refuse_other_range(section, thumbnail)
    return (luma(thumbnail) if thumbnail.ndim == 3 else thumbnail), factor


def _refuse_other_range(section: Section, thumbnail: Floats) -> None:
    """Refuse floating-point input outside its assumed range."""
    if section.dtype.kind != "f":
        return
    low, high = float(thumbnail.min()), float(thumbnail.max())
    if low < -0.05 or high > 1.05:
        black, white = section.value_range
        span = white - black
        raise InputError(
            f"{section.source} has values from {black + low * span:g} to {black + high * span:g}, but {black:g} is "
            f"taken for black and {white:g} for white; say with --input-range LO HI what they are."
        )


def _lattice_means(grey: Floats, factor: float, height: int, width: int) -> NDArray[np.float64]:
    """Return (n, 4): y, x, mean and standard deviation, in the thumbnail, of each lattice window."""
    windows = []
    for y, x in _lattice(height, width, WINDOW_PX):
        part = _seen(grey, factor, y, x, WINDOW_PX)
        windows.append((y, x, float(part.mean()), float(part.std())))
    return np.array(windows, np.float64).reshape(-1, 4)


def _lattice(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """Return the origins of the windows of a section, on multiples of their side.

    Windows are whole, but along an axis shorter than one they begin at 0.
    """
    rows, columns = (range(0, max(1, length - side + 1), side) for length in (height, width))
    return [(y, x) for y in rows for x in columns]


def _seen(picture: NDArray[Any], factor: float, y: int, x: int, side: int) -> NDArray[Any]:
    """Return the part of the thumbnail under a window: one pixel at least."""
    y0, x0 = min(int(y / factor), picture.shape[0] - 1), min(int(x / factor), picture.shape[1] - 1)
    y1, x1 = int((y + side) / factor), int((x + side) / factor)
    return picture[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def _background(section: Section, z: int, cells: NDArray[np.float64]) -> tuple[float | None, float]:
    """Return level and noise of the background, (None, 0) without a flat window.

    Of the brightest quarter of the windows, those with the least variation are read. A window is flat if its 8 x 8 means
    have at most twice the standard deviation of the mean of 64 independent pixels, or half a grey level of 8 bits.
    """
    bright = cells[cells[:, 2] >= np.quantile(cells[:, 2], 0.75)]
    tried = bright[np.argsort(bright[:, 3], kind="stable")][:BACKGROUND_WINDOWS]
    levels, sigmas = [], []
    for y, x, _, _ in tried:
        window = _window_or_none(section, z, int(y), int(x))
        if window is None:
            continue
        sigma = float(window.std())
        means = window.reshape(16, 8, 16, 8).mean(axis=(1, 3))
        if sigma <= NOISIEST_BACKGROUND and float(means.std()) <= max(0.5 / 255, 2 * sigma / 8):
            levels.append(float(window.mean()))
            sigmas.append(sigma)
    if not levels:
        return None, 0.0
    level = max(levels)
    near = [i for i, other in enumerate(levels) if level - other <= 2 / 255]
    return float(np.median([levels[i] for i in near])), float(np.median([sigmas[i] for i in near]))


def tissue_windows(
    section: Section,
    small: Thumbnail | Sample,
    side: int = WINDOW_PX,
    most: int = MOST_WINDOWS,
    shares: Sequence[float] = (0.5, 0.1),
) -> list[tuple[int, int]]:
    """Choose windows of tissue, evenly spread over a section.

    Parameters
    ----------
    section, small : Section, Thumbnail or Sample
        The section, and where its tissue is.
    side : int
        Of a window, in pixels of the section.
    most : int
        How many are chosen at most.
    shares : sequence of float
        Least shares of tissue: the first that any window has counts.

    Returns
    -------
    list of (int, int)
        First pixels (y, x), on multiples of the side.
    """
    lattice = _lattice(section.height, section.width, side)
    covered = [float(_seen(small.tissue, small.factor, y, x, side).mean()) for y, x in lattice]
    for smallest in shares:
        chosen = [place for place, share in zip(lattice, covered, strict=True) if share >= smallest]
        if chosen:
            break
    count = min(len(chosen), most)
    return [chosen[(2 * i + 1) * len(chosen) // (2 * count)] for i in range(count)]


def _window_or_none(section: Section, z: int, y: int, x: int) -> Floats | None:
    """Read one window as grey 0..1; None if it cannot be read: its blocks report that.

    A section smaller than a window is mirrored until it fills it.
    """
    y1, x1 = min(y + WINDOW_PX, section.height), min(x + WINDOW_PX, section.width)
    try:
        grey = to_grey(section.read(z, y, y1, x, x1), section.value_range)
    except InputError:
        return None
    below, right = WINDOW_PX - grey.shape[0], WINDOW_PX - grey.shape[1]
    return np.pad(grey, [(0, below), (0, right)], mode="symmetric") if below or right else grey
