"""Tell red, green and blue from three stains, by what a file says of its channels.

Three channels are restored as colour: their luma is restored and the rest interpolated. Of three fluorescence
channels that makes a picture of none of them. So names, colours or wavelengths that are not those of red, green and
blue count, and without any the image is taken for colour with a word in the log.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import attrs

from bigrestore.errors import InputError

log = logging.getLogger(__name__)

PURE_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))

_CHANNEL_WORDS = (r"\b(red|r)\b", r"\b(green|g)\b", r"\b(blue|b)\b")
_NUMBERED = re.compile(r"(channel|chan|ch|c)?[\s:_#-]*\d*([\s:_-]\d+)*")
"""Names that programs give where nobody has."""

CHOOSE_ONE = "choose the one to restore by --channel, from 0 to 2"


@attrs.frozen
class Channel:
    """What a file says of one channel.

    Attributes
    ----------
    name : str
        Its name, or "".
    colour : tuple of int, optional
        The colour in which it is shown, (red, green, blue) from 0 to 255.
    fluorescent : bool
        Whether a fluorophore, a wavelength or a method of fluorescence is stated.
    """

    name: str = ""
    colour: tuple[int, int, int] | None = None
    fluorescent: bool = False


def require_colour(channels: Sequence[Channel], source: str) -> None:
    """Refuse three channels that are not red, green and blue; say it where nothing tells.

    Parameters
    ----------
    channels : sequence of Channel
        Three, or none if the file says nothing.
    source : str
        The file, for messages.

    Raises
    ------
    InputError
        Naming what the channels are.
    """
    names = [channel.name.strip() for channel in channels]
    named = [name for name in names if not _NUMBERED.fullmatch(name.lower())]
    shown = ", ".join(names) if named else "unnamed"
    if any(channel.fluorescent for channel in channels):
        raise InputError(
            f"{source} has three channels of fluorescence ({shown}), not red, green and blue; {CHOOSE_ONE}."
        )
    if named:
        if len(names) == 3 and all(
            re.search(word, name.lower()) for word, name in zip(_CHANNEL_WORDS, names, strict=True)
        ):
            return
        raise InputError(f"{source} has the channels {shown}, not red, green and blue; {CHOOSE_ONE}.")
    colours = [channel.colour for channel in channels]
    if colours == list(PURE_COLOURS):
        return
    if len(set(colours)) > 1:
        raise InputError(
            f"{source} has three channels that are shown in other colours than red, green and blue, so they are no "
            f"colour image; {CHOOSE_ONE}."
        )
    log.warning(
        "%s does not say what its three channels are; they are taken for red, green and blue.", source
    )
