"""Open the drawn inputs of a run: a mask of labels, and a map of realness.

Programs store masks as one bit, as 0 and 255, or as int16 volumes; a mask becomes three labels when it is read.
A realness map is 8 bits or float32. 16 bits are refused: 255 could mean 1 or nearly 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.formats.table import open_input
from bigrestore.io.levels import Level
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section, section_of

DAMAGE = 2
"""The label of damaged pixels, excluded from all measurements."""


def open_mask(path_or_glob: str | Path) -> Section:
    """Open a mask, reading nothing but headers.

    Parameters
    ----------
    path_or_glob : str or Path
        Whatever `bigrestore.io.open_section.open_section` takes, of bool or any integer type.

    Returns
    -------
    Section
        uint8 with the labels 0 (0, or a bit that is not set), 2 (2) and 1 (any other value).

    Raises
    ------
    InputMissingError, InputError
        If nothing is there, or it is unreadable or coloured.
    """
    image = open_input(path_or_glob, labels=True)
    if image.channels != 1:
        raise InputError(
            f"the mask {path_or_glob} has {image.channels} channels; give one of a single channel of bool or "
            f"integers with 0 for what passes through, {DAMAGE} for damage and anything else for tissue."
        )
    levels = tuple(attrs.evolve(level, read=_Labels(level)) for level in image.levels)
    return section_of(
        attrs.evolve(image, levels=levels, dtype=np.dtype(np.uint8), stated_range=None), str(path_or_glob)
    )


@attrs.frozen(eq=False)
class _Labels:
    """Reads a level as labels."""

    level: Level

    def __call__(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window; the comparison precedes the change of type, because 256 would become 0."""
        drawn = self.level.read(z, y0, y1, x0, x1)
        return np.where(drawn == DAMAGE, np.uint8(DAMAGE), (drawn != 0).astype(np.uint8))


def open_realness(path_or_glob: str | Path) -> Section:
    """Open a map of realness, reading nothing but headers.

    Parameters
    ----------
    path_or_glob : str or Path
        Whatever `bigrestore.io.open_section.open_section` takes, of one channel.

    Returns
    -------
    Section
        uint8 (255 means 1) or float32.

    Raises
    ------
    InputMissingError, InputError
        If nothing is there, or it is unreadable, coloured or of 16 bits.
    """
    section = open_section(path_or_glob, input_range="full")
    if section.channels != 1:
        raise InputError(
            f"the realness map {path_or_glob} has {section.channels} channels; give one of a single channel."
        )
    if section.dtype == np.uint16:
        raise InputError(
            f"the realness map {path_or_glob} is of uint16; give uint8, where 255 is 1, or float32 from 0 to 1."
        )
    return section
