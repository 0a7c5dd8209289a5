"""Refuse a chunk that was cut off and would be decoded nonetheless.

The blosc decoder of numcodecs does not compare the length in a chunk's header with the bytes that it was
given. Of a chunk that lost its end, as when a copy is broken off, it reads on into memory: grey noise,
another at every reading, and no error.
Stores with a checksum per chunk, as bigrestore's own, need no such check.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import zarr
from zarr.codecs import BloscCodec

from bigrestore.errors import InputError

HEADER_BYTES = 16


def needs_check(array: zarr.Array[Any]) -> bool:
    """Return whether the files of an array are single chunks that end in a blosc compression."""
    codecs = array.compressors
    return array.shards is None and bool(codecs) and isinstance(codecs[-1], numcodecs.Blosc | BloscCodec)


def require_whole_chunks(array: zarr.Array[Any], selection: tuple[int | slice, ...]) -> None:
    """Check the chunks under a selection.

    Parameters
    ----------
    array : zarr.Array
        An array of a local store for which `needs_check` holds.
    selection : tuple of int or slice
        Non-negative index or slice of step one for each axis.

    Raises
    ------
    InputError
        A chunk file is shorter or longer than its header states.
    """
    folder = Path(getattr(array.store, "root", ".")) / array.path
    touched = []
    for part, size, chunk in zip(selection, array.shape, array.chunks, strict=True):
        start, stop, _ = part.indices(size) if isinstance(part, slice) else (part, part + 1, 1)
        touched.append(range(start // chunk, -(-stop // chunk)))
    for index in product(*touched):
        require_whole_chunk(folder / array.metadata.encode_chunk_key(index))


def require_whole_chunk(file: Path) -> None:
    """Check one chunk file; one that does not exist is an empty chunk, and whole.

    The header holds the compressed length as a little-endian 32-bit number at byte 12.

    Raises
    ------
    InputError
        The file is shorter or longer than its header states.
    """
    try:
        with file.open("rb") as chunk:
            head = chunk.read(HEADER_BYTES)
    except FileNotFoundError:
        return
    stated, actual = int.from_bytes(head[12:16], "little"), file.stat().st_size
    if len(head) < HEADER_BYTES or stated != actual:
        raise InputError(
            f"the chunk {file} has {actual} bytes, its header says {stated}; copy or write the store again."
        )
