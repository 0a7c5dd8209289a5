"""All sections of a volume at a glance: what is read of each, and what a run would bring it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from bigrestore.errors import InputError
from bigrestore.io.section import Section
from bigrestore.model.method import Method
from bigrestore.run.profile.expected import section_gain
from bigrestore.run.profile.section_profile import Profile, profile_windows, sample_section
from bigrestore.run.profile.words import NOTICEABLE_NOISE, noise_levels, reading

HEADER = "section  blur px   noise  JPEG  stripes  clipped  tissue  gain dB    in words"


@attrs.frozen
class SectionLine:
    """One section of the table.

    Attributes
    ----------
    z : int
        Its index.
    says : str
        The sentence of `bigrestore.run.profile.words`, or why it cannot be read.
    sigma_px, sigma_error_px : float or None
        Blur in input pixels, and its standard error; None where none is read.
    noise : float or None
        Standard deviation in tissue, of 255.
    jpeg_quality, banding : float or None
        As read by the method.
    clipped_share, tissue_share : float
        0..1.
    sharp : bool or None
        Whether there is no blur to undo.
    gain_db, gain_spread_db : float or None
        What it gains at realness 0, by restored crops, and the spread of such figures; None where it is not asked for, for a
        sharp section, and for a model without fitted numbers.
    readable : bool
        Whether it can be read.
    """

    z: int
    says: str
    sigma_px: float | None = None
    sigma_error_px: float | None = None
    noise: float | None = None
    jpeg_quality: float | None = None
    banding: float | None = None
    clipped_share: float = 0.0
    tissue_share: float = 0.0
    sharp: bool | None = None
    gain_db: float | None = None
    gain_spread_db: float | None = None
    readable: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the line as a JSON document."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in attrs.asdict(self).items()
        }

    def row(self) -> str:
        """Return the line under `HEADER`."""
        jpeg = "none" if self.jpeg_quality == 0 else _figure(self.jpeg_quality, ".0f")
        sigma, gain = _figure(self.sigma_px, ".2f"), _figure(self.gain_db, "+.1f")
        if self.sigma_error_px is not None:
            sigma += f"±{self.sigma_error_px:.2f}"
        if self.gain_spread_db is not None:
            gain += f"±{self.gain_spread_db:.1f}"
        numbers = (
            f"{self.z:>7}  {sigma:<9} {_figure(self.noise, '.1f'):>5}  {jpeg:>4}  {_figure(self.banding, '.4f'):>7}"
            f"  {self.clipped_share:>7.1%}  {self.tissue_share:>6.0%}  {gain:<9}"
        )
        return f"{numbers}  {self.says}"


def triage(
    section: Section, zs: Iterable[int], method: Method, scale: int, *, gain: bool = True
) -> Iterator[SectionLine]:
    """Yield the lines of sections as they are read; one that cannot be read says so and stops nothing.

    With `gain`, crops of each section are restored for the gain that it may expect.
    """
    for z in zs:
        try:
            sample = sample_section(section, z)
            line = _line(z, profile := profile_windows(sample, method), scale)
            if gain and _has_faults(line):
                known = section_gain(section, z, sample, method, profile.statistics) or (None, None)
                line = attrs.evolve(line, gain_db=known[0], gain_spread_db=known[1])
        except InputError as error:
            line = SectionLine(z, f"cannot be read: {error}", readable=False)
        yield line


def _has_faults(line: SectionLine) -> bool:
    """Tell whether a run has anything to gain: a gain over an image without faults says nothing."""
    return line.sharp is False or (line.noise or 0.0) >= NOTICEABLE_NOISE


def _line(z: int, profile: Profile, scale: int) -> SectionLine:
    statistics = profile.statistics
    details, facts = statistics.details, reading(statistics, z, scale)
    error = details.get("sigma_error_px")
    return SectionLine(
        z,
        facts["says"],
        facts.get("sigma_input_px"),
        None if error is None else error / scale,
        noise_levels(statistics) if details.get("windows") else None,
        details.get("jpeg_quality"),
        details.get("banding"),
        profile.clipped_share,
        profile.tissue_share,
        facts.get("sharp"),
    )


def _figure(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)
