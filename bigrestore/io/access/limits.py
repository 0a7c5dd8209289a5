"""Limits on the claims of a header, checked before memory is allocated.

Nothing makes a header's sizes true. Some hundred bytes can claim more pixels than there are bytes in the world, and
some thousand can unpack into all memory. The limits lie far above a microscope's images: a whole human brain at a
micrometre has 1.3e15 voxels.
"""

from __future__ import annotations

import math

from bigrestore.core.host.resources import memory
from bigrestore.errors import InputError

MOST_PX = 10**16
"""Most pixels of an image."""

MOST_SIDE_PX = 2**31 - 1
"""Most pixels along one axis of an image."""

MOST_CHUNK_BYTES = 2**30
"""Most bytes of one chunk or segment, always decoded whole."""

MOST_CHUNKS_PER_SHARD = 2**20
"""Most chunks in one shard; the index of a shard is held whole."""

MOST_METADATA_BYTES = 64 * 2**20
"""Most bytes of one metadata document."""

BOMB_BYTES = 256 * 2**20
"""Always allowed to unpack: a blank section of 150 Mpx is below it."""

BOMB_RATIO = 400
"""Highest packing ratio beyond `BOMB_BYTES`; tissue is packed by 10 at most."""

DEFLATE_RATIO = 1040
"""Highest packing ratio of deflate."""


def require_claim(shape: tuple[int, ...], source: str) -> None:
    """Refuse a shape beyond any image.

    Raises
    ------
    InputError
        If an axis or the number of pixels is beyond the limits.
    """
    if max(shape) > MOST_SIDE_PX or math.prod(shape) > MOST_PX:
        raise InputError(
            f"{source} claims the shape {' x '.join(map(str, shape))}, which no image has; its header is damaged, so "
            "copy or write it again."
        )


def require_chunk(nbytes: int, source: str) -> None:
    """Refuse a chunk, tile or strip too large to be decoded in memory.

    Raises
    ------
    InputError
        If it has more than `MOST_CHUNK_BYTES`.
    """
    if not 0 < nbytes <= MOST_CHUNK_BYTES:
        raise InputError(
            f"{source} is stored in pieces of {nbytes} bytes, and a piece is decoded whole; write it again in "
            f"pieces of some MiB, {MOST_CHUNK_BYTES >> 20} MiB at most."
        )


def too_large(shown: str, size: int, most: int) -> InputError:
    """Return the error for a file of more bytes than it can need."""
    return InputError(
        f"{shown} has {size} bytes, where {most} at most can be needed; it is damaged, so copy or write it again."
    )


def require_unpacked(packed: int, unpacked: int, source: str, *, labels: bool = False) -> None:
    """Refuse a whole-decoded file that needs too much memory, or is packed as no image is.

    Parameters
    ----------
    packed, unpacked : int
        Bytes in the file, and their claimed unpacked size.
    labels : bool
        Whether it is a mask, which may be packed by any factor.

    Raises
    ------
    InputError
        Naming its claim.
    """
    usable = memory()
    if unpacked > usable.count // 2:
        raise InputError(
            f"{source} can only be decoded whole, which takes {unpacked >> 20} MiB and more than half of the "
            f"{usable.count >> 20} MiB of memory of this process ({usable.source}); convert it to OME-Zarr or a tiled "
            "TIFF, or ask for more memory."
        )
    if not labels and unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        raise InputError(
            f"{source} claims {unpacked / 2**20:.0f} MiB of pixels in {packed} bytes, which no micrograph packs "
            "into; copy or write it again, in tiles if it is blank."
        )
