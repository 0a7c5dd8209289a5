"""Jumps of brightness from section to section, and the tones that take them out.

A section is stained and exposed by itself, so its tissue is darker or brighter than that of its neighbours. Its tone is one
factor on its distance from white: white stays where it is, and what is twice as dark stays twice as dark.

Both the median and the quartile range of the tissue, as distances from white, follow a running median over the sections
around. Of the two factors asked for, the one nearer to 1 is taken, and 1 where they disagree: a change of tone moves both
alike, other tissue does not. The running median is of as many sections before as after, so that a steady gradient
along the volume stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from bigrestore.core.pixels import Floats
from bigrestore.errors import InputError
from bigrestore.io.section import Section
from bigrestore.run.profile.section_profile import thumbnail_of

log = logging.getLogger(__name__)

REACH = 5
"""Sections before and after one that its brightness follows."""

MOST_CHANGE = 0.1
"""Largest change of the distance from white."""

LEAST_CHANGE = 0.5 / 255
"""Change of the median below which a section keeps its tone."""

LEAST_TISSUE_SHARE = 0.01
"""Share of tissue of a section below which nothing is said of its brightness."""

LEAST_DISTANCE = 4 / 255
"""Tissue nearer to white than this, in median or quartile range, says nothing."""


@attrs.frozen
class Brightness:
    """Where the tissue of a section lies: distances from white, 0..1.

    Attributes
    ----------
    white : float
        Level of the background, or 1 without one.
    median, spread : float
        Distance of the median of the tissue from white, and its quartile range.
    """

    white: float
    median: float
    spread: float


@attrs.frozen
class Tone:
    """The map of grey values of a section: white + factor * (value - white).

    Attributes
    ----------
    white : float
        The grey value that stays, 0..1.
    factor : float
        Of every distance from it.
    """

    white: float
    factor: float

    def of(self, values: Floats) -> Floats:
        """Return grey values, or colour, in this tone."""
        white = np.float32(self.white)
        return np.asarray(white + np.float32(self.factor) * (values - white), np.float32)


Tones = Mapping[int, Tone]
"""Tones of the sections that have one."""


def brightness(section: Section, z: int) -> Brightness | None:
    """Return where the tissue of a section lies; None without tissue, or where it cannot be read."""
    try:
        small = thumbnail_of(section, z)
    except InputError as error:
        log.warning("Section %d is left out of --harmonise: %s", z, error)
        return None
    tissue = small.grey[small.tissue]
    if tissue.size < LEAST_TISSUE_SHARE * small.grey.size:
        return None
    white = 1.0 if small.background is None else small.background
    low, middle, high = _level_quartiles(white - tissue)
    return Brightness(white, middle, high - low) if min(middle, high - low) > LEAST_DISTANCE else None


def _level_quartiles(values: Floats) -> tuple[float, float, float]:
    """Return the quartiles, between grey levels: a level stands for the share of values at and about it."""
    levels, counts = np.unique(values, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / values.size
    low, middle, high = (float(np.interp(share, shares, levels)) for share in (0.25, 0.5, 0.75))
    return low, middle, high


def find_tones(section: Section, wanted: Iterable[int]) -> dict[int, Tone]:
    """Return the tones of sections, each from those around it.

    Parameters
    ----------
    section : Section
        The volume.
    wanted : iterable of int
        Indices of sections.
    """
    order = sorted(set(wanted))
    around = {near for z in order for near in range(max(0, z - REACH), min(section.depth, z + REACH + 1))}
    seen = {z: brightness(section, z) for z in sorted(around)}
    known = {z: one for z, one in seen.items() if one is not None}
    tones = {}
    for z in order:
        if z not in known:
            continue
        factor = _factor(z, known, section.depth)
        if abs(factor - 1) > MOST_CHANGE:
            log.warning(
                "Section %d: its tissue is %.0f %% nearer to white than that around it; %.0f %% of it are taken back.",
                *(z, 100 * (factor - 1), 100 * MOST_CHANGE),
            )
        tones[z] = Tone(known[z].white, round(float(np.clip(factor, 1 - MOST_CHANGE, 1 + MOST_CHANGE)), 5))
    return tones


def _factor(z: int, known: Mapping[int, Brightness], depth: int) -> float:
    """Return the factor on a section's distances from white: that of median and spread that is nearer to 1."""
    reach = min(REACH, z, depth - 1 - z)
    near = [known[other] for other in range(z - reach, z + reach + 1) if other in known]
    own = known[z]
    asked = np.array(
        [
            float(np.median([one.median for one in near])) / own.median,
            float(np.median([one.spread for one in near])) / own.spread,
        ]
    )
    if np.sign(asked[0] - 1) != np.sign(asked[1] - 1):
        return 1.0
    nearer = float(asked[np.argmin(np.abs(np.log(asked)))])
    return nearer if abs(nearer - 1) * own.median > LEAST_CHANGE else 1.0


def tones_to_json(tones: Tones) -> dict[str, list[float]]:
    """Return tones as a JSON document."""
    return {f"{z}": [tone.white, tone.factor] for z, tone in tones.items()}


def tones_from_json(document: Mapping[str, Any]) -> dict[int, Tone]:
    """Return tones from a document of `tones_to_json`."""
    return {int(z): Tone(*values) for z, values in document.items()}
