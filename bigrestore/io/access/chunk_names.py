"""Look for the chunks of a Zarr array, before a store without any is read as a black image.

A chunk that is not stored is the fill value, by the specification. So an array whose metadata name its chunks in
another way than they are stored, because a copy lost the separator `dimension_separator`, opens and reads as nothing
but fill. A few chunks are looked for by their names; only where none is there is the folder listed.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import zarr

from bigrestore.errors import InputError
from bigrestore.io.access.tree_store import TreeStore

log = logging.getLogger(__name__)

LOOKED_FOR = 3
"""Places along each axis where a chunk is looked for: the first, the middle and the last."""

_FORMS = {"0.0": r"\d+(\.\d+)+", "0/0": r"\d+", "c/0/0": "c", "c.0.0": r"c(\.\d+)+"}
"""Ways to name chunks, and the names in the array's folder that they make."""


def require_chunks(array: zarr.Array[Any], source: str, *, finest: bool) -> None:
    """Refuse an array whose chunks lie under other names than its metadata say; warn if it has none.

    Parameters
    ----------
    array : zarr.Array
        Opened by `open_node`.
    source : str
        Its name in messages.
    finest : bool
        Whether to warn of an array without chunks.

    Raises
    ------
    InputError
        Naming the way in which they are stored.
    """
    store = array.store
    assert isinstance(store, TreeStore)
    if min(array.shards or array.chunks, default=1) < 1:
        raise InputError(
            f"{source} states chunks of 0 pixels, which hold nothing; restore its metadata from their source."
        )
    folder = f"{array.path}/" if array.path else ""
    places = list(_places(array))
    keys = [array.metadata.encode_chunk_key(place) for place in places]
    if any(store.tree.exists(folder + key) for key in keys):
        return
    stated = _form(array.metadata.encode_chunk_key((0,) * array.ndim))
    names = store.tree.names(array.path) or []
    present = {form for form, name in _FORMS.items() if any(re.fullmatch(name, one) for one in names)}
    present |= {
        form
        for form in _FORMS.keys() - {stated}
        if any(store.tree.exists(folder + _chunk_name(form, place)) for place in places)
    }
    if stated in present or array.ndim == 1:
        return
    if present:
        remedy = (
            f'write "dimension_separator": "{"/" if "/" in min(present) else "."}" into {source}/.zarray'
            if array.metadata.zarr_format == 2
            else f'correct "chunk_key_encoding" in {source}/zarr.json'
        )
        raise InputError(
            f"{source} has its chunks under names such as {min(present)}, but its metadata say {stated}, so none of them is "
            f"found; {remedy}."
        )
    if finest:
        log.warning(
            "%s has no stored chunk; every pixel is its fill value %s.", source, array.metadata.fill_value
        )


def _places(array: zarr.Array[Any]) -> Iterator[tuple[int, ...]]:
    """Yield some places on the grid of the array's files."""
    units = array.shards or array.chunks
    counts = [-(-length // unit) for length, unit in zip(array.shape, units, strict=True)]
    along = [sorted({(count - 1) * at // (LOOKED_FOR - 1) for at in range(LOOKED_FOR)}) for count in counts]
    return itertools.product(*along)


def _form(key: str) -> str:
    """Return the way in which the key of a first chunk is named, with two axes."""
    start = "c" if key.startswith("c") else ""
    separator = "/" if "/" in key else "."
    return separator.join([*start, "0", "0"])


def _chunk_name(form: str, place: Sequence[int]) -> str:
    """Return the name of a chunk in one of the ways."""
    separator = "/" if "/" in form else "."
    return separator.join([*(["c"] if form.startswith("c") else []), *map(str, place)])
