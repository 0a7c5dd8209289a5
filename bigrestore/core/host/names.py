"""File names in texts and checksums, whatever bytes they are made of.

A name on the disk is bytes. Python keeps those that the locale cannot decode as lone surrogates, which no file of text
takes: a name from an old disk, or any umlaut where the locale is not UTF-8.
"""

from __future__ import annotations

import codecs
import io
import re
import sys

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNDECODED = re.compile("[\udc80-\udcff]+")


def printable(text: str) -> str:
    r"""Return a text with the undecoded bytes of names decoded as UTF-8, and as \xe4 where they are not."""
    return _UNDECODED.sub(
        lambda part: part[0].encode("ascii", "surrogateescape").decode("utf-8", "backslashreplace"), text
    )


def visible(text: str) -> str:
    r"""Return a printable text on one line, with the control characters of names as \n or \x1b: they move a cursor."""
    return _CONTROL.sub(lambda one: one[0].encode("unicode_escape").decode("ascii"), printable(text))


def name_bytes(text: str) -> bytes:
    """Return a name, or a text with names, as bytes for a checksum."""
    return text.encode("utf-8", "surrogateescape")


def print_any_name() -> None:
    """Let standard output and error take every text: a character that they cannot show is escaped."""
    codecs.register_error("bigrestore.names", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="bigrestore.names")


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = printable(error.object[error.start : error.end])
    return part.encode(error.encoding, "backslashreplace"), error.end
