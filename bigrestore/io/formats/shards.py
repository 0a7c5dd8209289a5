"""Find chunks in the shards of a precomputed volume.

A shard is one file of many chunks. A chunk's number is the compressed Morton code of its place; a hash of that names shard
and minishard. A shard begins with the ranges of its minishard indices, and such an index lists numbers, places and sizes
of chunks. Format: "neuroglancer_uint64_sharded_v1" of Neuroglancer's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from bigrestore.errors import InputError
from bigrestore.io.access.limits import MOST_METADATA_BYTES
from bigrestore.io.access.trees import Tree
from bigrestore.io.decoded import Decoded
from bigrestore.settings.values import is_whole

SHARD_TYPE = "neuroglancer_uint64_sharded_v1"
PACKINGS = ("raw", "gzip")
ENTRY_BYTES = 16
"""Of a minishard in the head of a shard: first byte and end of its index, after the head."""

INDEX_CACHE_BYTES = 32 * 2**20
ALL_BITS = 2**64 - 1

ChunkPlace = tuple[int, ...]
Unpack = Callable[[bytes, int, str], bytes]


@attrs.frozen
class Sharding:
    """How the chunks of a scale are shared out among files."""

    preshift_bits: int
    minishard_bits: int
    shard_bits: int
    hashed: bool
    packed_index: bool
    packed_data: bool

    @classmethod
    def of(cls, stated: Any) -> Sharding:
        """Read the `sharding` of a scale.

        Raises
        ------
        ValueError
            Naming what is not understood.
        """
        if not isinstance(stated, dict) or stated.get("@type") != SHARD_TYPE:
            raise ValueError(f"its sharding is {stated!r}")
        bits = {}
        for name, most in {"preshift_bits": 64, "minishard_bits": 24, "shard_bits": 64}.items():
            value = stated.get(name)
            if not isinstance(value, int) or not is_whole(value) or not 0 <= value <= most:
                raise ValueError(f"its {name} is {value!r}")
            bits[name] = value
        if stated.get("hash") not in ("identity", "murmurhash3_x86_128"):
            raise ValueError(f"its hash is {stated.get('hash')!r}")
        packed = {}
        for name in ("minishard_index_encoding", "data_encoding"):
            if stated.get(name, "raw") not in PACKINGS:
                raise ValueError(f"its {name} is {stated[name]!r}")
            packed[name] = stated.get(name) == "gzip"
        return cls(
            **bits,
            hashed=stated["hash"] != "identity",
            packed_index=packed["minishard_index_encoding"],
            packed_data=packed["data_encoding"],
        )

    def where(self, number: int) -> tuple[str, int]:
        """Return the file of a chunk, below its scale, and the minishard in it."""
        key = number >> self.preshift_bits
        if self.hashed:
            key = murmur3_low(key)
        minishard = key & ((1 << self.minishard_bits) - 1)
        shard = (key >> self.minishard_bits) & ((1 << self.shard_bits) - 1)
        return f"{shard:0{-(-self.shard_bits // 4)}x}.shard", minishard


class ShardReader:
    """Reads the chunks of one scale out of its shards.

    Parameters
    ----------
    tree : Tree
        The volume.
    key : str
        Folder of the scale.
    sharding : Sharding
        How its chunks are shared out.
    grid : tuple of int
        Chunks along x, y and z.
    unpack : callable
        Unpacks gzip: takes content, most bytes, and a name for messages.
    """

    def __init__(
        self, tree: Tree, key: str, sharding: Sharding, grid: tuple[int, ...], unpack: Unpack
    ) -> None:
        self._tree, self._key, self._sharding, self._grid, self._unpack = tree, key, sharding, grid, unpack
        self._indices: Decoded[Mapping[int, tuple[int, int]]] = Decoded(INDEX_CACHE_BYTES)

    def file(self, place: ChunkPlace) -> str:
        """Return the name of the shard that a chunk lies in."""
        return f"{self._key}/{self._sharding.where(morton_code(place, self._grid))[0]}"

    def read(self, place: ChunkPlace, most: int) -> bytes:
        """Return the content of a chunk, unpacked.

        Raises
        ------
        FileNotFoundError
            If no shard holds it.
        InputError
            If the shard is damaged.
        """
        number = morton_code(place, self._grid)
        name, minishard = self._sharding.where(number)
        name = f"{self._key}/{name}"
        shown = f"{self._tree}/{name}"
        index = self._indices.get(
            (name, minishard), lambda: self._index(name, minishard, shown), self._index_cost()
        )
        if number not in index:
            raise FileNotFoundError(name)
        start, stop = index[number]
        content = self._exactly(name, start, stop, most, shown)
        return self._unpack(content, most, shown) if self._sharding.packed_data else content

    def _index_cost(self) -> int:
        """Return about how many bytes an index takes in memory: minishards are of a size."""
        chunks = int(np.prod(self._grid, dtype=object))
        return 200 * (1 + chunks // (1 << self._sharding.minishard_bits + self._sharding.shard_bits))

    def _index(self, name: str, minishard: int, shown: str) -> Mapping[int, tuple[int, int]]:
        """Return first byte and end of the chunks of a minishard in its file, by number."""
        at, head = ENTRY_BYTES * minishard, ENTRY_BYTES << self._sharding.minishard_bits
        entry = self._exactly(name, at, at + ENTRY_BYTES, ENTRY_BYTES, shown)
        start, stop = (int(value) for value in np.frombuffer(entry, "<u8"))
        if start == stop:
            return {}
        content = self._exactly(name, head + start, head + stop, MOST_METADATA_BYTES, shown)
        if self._sharding.packed_index:
            content = self._unpack(content, MOST_METADATA_BYTES, shown)
        if len(content) % 24:
            raise _damaged_shard(shown, "an index is cut off")
        steps = np.frombuffer(content, "<u8").reshape(3, -1)
        numbers, sizes = np.cumsum(steps[0], dtype=np.uint64), steps[2]
        stops = np.cumsum(steps[1] + sizes, dtype=np.uint64)
        return {
            number: (head + end - size, head + end)
            for number, end, size in zip(numbers.tolist(), stops.tolist(), sizes.tolist(), strict=True)
        }

    def _exactly(self, name: str, start: int, stop: int, most: int, shown: str) -> bytes:
        """Return a range of a shard, all of it."""
        if not 0 <= start <= stop <= ALL_BITS >> 1 or stop - start > most:
            raise _damaged_shard(shown, f"it states {stop - start} bytes, where {most} at most can be needed")
        content = self._tree.read(name, (start, stop), most)
        if len(content) != stop - start:
            raise _damaged_shard(shown, f"it ends before byte {stop}")
        return content


def morton_code(place: ChunkPlace, grid: tuple[int, ...]) -> int:
    """Return the number of a chunk: bits of x, y and z in turn, as many of each as its axis has."""
    code, bit = 0, 0
    for level in range(max(side - 1 for side in grid).bit_length()):
        for at, side in zip(place, grid, strict=True):
            if 1 << level < side:
                code |= (at >> level & 1) << bit
                bit += 1
    return code


def murmur3_low(key: int) -> int:
    """Return the lower 8 bytes of MurmurHash3_x86_128, seed 0, of a key of 8 bytes; 0..2^64 - 1."""

    def word(value: int) -> int:
        return value & 0xFFFFFFFF

    def turned(value: int, by: int) -> int:
        return word(value << by) | value >> 32 - by

    def mixed(value: int) -> int:
        value = word((value ^ value >> 16) * 0x85EBCA6B)
        value = word((value ^ value >> 13) * 0xC2B2AE35)
        return value ^ value >> 16

    low, high = word(key), key >> 32
    second = word(turned(word(high * 0xAB0E9789), 16) * 0x38B34AE5)
    first = word(turned(word(low * 0x239B961B), 15) * 0xAB0E9789)
    h1, h2, h3, h4 = first ^ 8, second ^ 8, 8, 8
    h1 = word(h1 + h2 + h3 + h4)
    h2, h3, h4 = (word(each + h1) for each in (h2, h3, h4))
    h1, h2, h3, h4 = map(mixed, (h1, h2, h3, h4))
    h1 = word(h1 + h2 + h3 + h4)
    return h1 | word(h2 + h1) << 32


def _damaged_shard(shown: str, reason: str) -> InputError:
    return InputError(f"{shown} is a damaged shard ({reason}); copy it again.")
