"""A range of the bytes of a file, and what is said where it is more than can be needed."""

from __future__ import annotations

from bigrestore.errors import InputError

Span = tuple[int | None, int | None]
"""First byte and the byte after the last; a negative start counts from the end, None is the end itself."""


def too_large(shown: str, size: int, most: int) -> InputError:
    """Return the error of a file that holds more than it can need."""
    return InputError(
        f"{shown} has {size} bytes, where {most} at most can be needed; it is damaged, so copy or write it again."
    )
