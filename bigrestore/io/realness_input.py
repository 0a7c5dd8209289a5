"""Open a map of realness: an image of shares, 0 to 1, whose meaning does not hang on who drew it.

A map is drawn by hand as 8 bits or computed as floating-point numbers, and both are common. 16 bits are refused: 255
would be all in one program's file and next to nothing in another's, and no pixel would say which.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bigrestore.errors import InputError
from bigrestore.io.section import Section, open_section


def open_realness(path_or_glob: str | Path) -> Section:
    """Open a map of realness, reading nothing but headers.

    Parameters
    ----------
    path_or_glob : str or Path
        Whatever `bigrestore.io.section.open_section` takes, of one channel.

    Returns
    -------
    Section
        uint8, of which 255 is 1, or float32.

    Raises
    ------
    InputMissingError, InputError
        When there is nothing there, or nothing that can be read; or it has colours or 16 bits.
    """
    found = open_section(path_or_glob)
    if found.channels != 1:
        raise InputError(
            f"the realness map {path_or_glob} has {found.channels} channels; give one of a single channel."
        )
    if found.dtype == np.uint16:
        raise InputError(
            f"the realness map {path_or_glob} is of uint16; give uint8, where 255 is 1, or float32 from 0 to 1."
        )
    return found
