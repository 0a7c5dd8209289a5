"""A tree of files as a read-only store of zarr.

zarr's own stores for folders, zip files and URLs read files of any size whole, follow any link, and wait for a pipe
for ever; a `Tree` does not.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterable
from typing import Any

import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.errors import ZarrUserWarning

from bigrestore.io.access.limits import MOST_METADATA_BYTES
from bigrestore.io.access.places import ByteRange
from bigrestore.io.access.trees import Tree


class TreeStore(Store):
    """The files of a tree.

    Parameters
    ----------
    tree : Tree
        The files.
    most : int
        Most bytes of a file, or of a range of one.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, tree: Tree, most: int = MOST_METADATA_BYTES) -> None:
        super().__init__(read_only=True)
        self.tree, self.most = tree, most

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TreeStore) and other.tree is self.tree and other.most == self.most

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self.tree)

    __repr__ = __str__

    def with_read_only(self, read_only: bool = True) -> TreeStore:
        """Return the store itself.

        Raises
        ------
        ValueError
            If it is to be written to.
        """
        if not read_only:
            raise ValueError("a TreeStore can only be read")
        return self

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a file or a range of it; None if the file is missing."""
        try:
            content = await asyncio.to_thread(self.tree.read, key, _byte_range(byte_range), self.most)
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several ranges."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Tell whether the file exists."""
        return await asyncio.to_thread(self.tree.exists, key)

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        raise PermissionError("a TreeStore can only be read")

    async def delete(self, key: str) -> None:
        """Refuse to remove."""
        raise PermissionError("a TreeStore can only be read")

    async def list(self) -> AsyncIterator[str]:
        """Yield all files."""
        async for name in self.list_prefix(""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield all files under a folder."""
        for name in await asyncio.to_thread(self.tree.names, prefix) or []:
            below = f"{prefix.rstrip('/')}/{name}" if prefix else name
            if await self.exists(below):
                yield below
            else:
                async for inner in self.list_prefix(below):
                    yield inner

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        for name in await asyncio.to_thread(self.tree.names, prefix) or []:
            yield name


def open_node(tree: Tree, path: str = "") -> zarr.Array[Any] | zarr.Group:
    """Open a group or an array of a tree for reading.

    Raises
    ------
    Exception
        Any error of zarr, if the node is missing or its metadata are damaged.
    """
    with warnings.catch_warnings():
        # Codecs of numcodecs are no part of Zarr v3; those that are read here are checked in `zarr_bounded`.
        warnings.filterwarnings("ignore", "Numcodecs codecs", ZarrUserWarning)
        return zarr.open(store=TreeStore(tree), path=path, mode="r")


def _byte_range(part: ByteRequest | None) -> ByteRange:
    """Convert a range of zarr to a start and a stop."""
    if part is None:
        return None, None
    if isinstance(part, RangeByteRequest):
        return part.start, part.end
    if isinstance(part, OffsetByteRequest):
        return part.offset, None
    assert isinstance(part, SuffixByteRequest)
    return -part.suffix, None
