"""Decode the chunks of a Zarr array within their known size, by codecs that only decode.

A codec does not know how large a chunk may become. Some kilobytes of gzip can unpack into all memory, and a blosc
header may claim 2 GiB. numcodecs decodes a cut-off blosc chunk into grey noise without an error. A store may also
name pickle, a codec that runs its input.

So the metadata of an array opened for reading are rewritten: unknown codecs are refused, and each decompressor is
wrapped in one that knows the chunk's size. zarr builds its decoding from those metadata.
"""

from __future__ import annotations

import asyncio
import bz2
import dataclasses
import lzma
import math
import zlib
from typing import Any

import attrs
import numcodecs.abc
import zarr
from zarr.abc.buffer import Buffer
from zarr.abc.codec import BytesBytesCodec, Codec
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import StorePath

from bigrestore.errors import InputError
from bigrestore.io.access.limits import MOST_CHUNKS_PER_SHARD, require_chunk
from bigrestore.io.access.tree_store import TreeStore

SLACK_BYTES = 1 << 16
"""Bytes that codecs add to a chunk at most: checksums, headers."""

_NUMCODECS = "numcodecs."
"""Begins the names of codecs in Zarr v3 that numcodecs brings."""

_PLAIN = (BytesCodec, TransposeCodec, Crc32cCodec)
_PACKED = {BloscCodec: "blosc", GzipCodec: "gzip", ZstdCodec: "zstd"}
_V2_PACKED = {"blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"}
_V2_FILTERS = {"shuffle", "delta", "crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"}


def bounded(array: zarr.Array[Any], source: str) -> zarr.Array[Any]:
    """Return the array with bounded decoding of its chunks.

    Parameters
    ----------
    array : zarr.Array
        Opened by `open_node`.
    source : str
        Its name in messages.

    Raises
    ------
    InputError
        If its chunks are too large to be decoded, stored by a codec that is not read, or of sizes that cannot be.
    """
    if getattr(array.metadata, "_stored_document", None) is not None:
        # Zarr 3.4 takes other sizes for those that cannot be, finds no file of them, and reads fill values.
        raise InputError(
            f"{source} states chunks of sizes that cannot be; restore its metadata from their source."
        )
    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    require_chunk(chunk_bytes, source)
    stored = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    if array.shards and stored // chunk_bytes > MOST_CHUNKS_PER_SHARD:
        raise InputError(
            f"{source} has shards of {stored // chunk_bytes} chunks; write it again with {MOST_CHUNKS_PER_SHARD} at most."
        )
    opened = array.async_array
    metadata: Any = opened.metadata
    if metadata.zarr_format == 3:
        codecs = tuple(_bounded_codec(codec, source) for codec in metadata.codecs)
        metadata = dataclasses.replace(metadata, codecs=codecs)
    else:
        for item in metadata.filters or ():
            if item.codec_id not in _V2_FILTERS:
                raise _unreadable(item.codec_id, source)
        packer = metadata.compressor
        if packer is not None:
            if packer.codec_id not in _V2_PACKED:
                raise _unreadable(packer.codec_id, source)
            # A filter such as delta may store a chunk in a type of its own, eight times as large.
            compressor = BoundedV2Compressor(packer, 8 * chunk_bytes + SLACK_BYTES)
            metadata = dataclasses.replace(metadata, compressor=compressor)
    store = opened.store_path.store
    assert isinstance(store, TreeStore)
    path = StorePath(TreeStore(store.tree, stored + stored // 8 + (16 << 20)), opened.store_path.path)
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=path))


def _bounded_codec(codec: Codec, source: str) -> Codec:
    """Return a codec of Zarr v3 with its decompressors bounded."""
    if isinstance(codec, ShardingCodec):
        return ShardingCodec(
            chunk_shape=codec.chunk_shape,
            codecs=tuple(_bounded_codec(item, source) for item in codec.codecs),
            index_codecs=tuple(_bounded_codec(item, source) for item in codec.index_codecs),
            index_location=codec.index_location,
        )
    if isinstance(codec, _PLAIN):
        return codec
    stated = str(getattr(codec, "codec_name", ""))
    if stated.startswith(_NUMCODECS):
        plain = stated.removeprefix(_NUMCODECS)
        if plain in _V2_PACKED and isinstance(codec, BytesBytesCodec):
            return BoundedCodec(codec, plain)
        if plain in _V2_FILTERS:
            return codec
        raise _unreadable(stated, source)
    name = next((name for kind, name in _PACKED.items() if isinstance(codec, kind)), None)
    if name is None or not isinstance(codec, BytesBytesCodec):
        raise _unreadable(type(codec).__name__, source)
    return BoundedCodec(codec, name)


def _unreadable(name: str, source: str) -> InputError:
    return InputError(
        f"{source} is stored by the codec {name}, which is not read; write it again with blosc, zstd or gzip."
    )


@attrs.frozen
class BoundedCodec(BytesBytesCodec):
    """A decompressor of Zarr v3 limited to the size of a chunk.

    Attributes
    ----------
    inner : BytesBytesCodec
        The decompressor.
    name : str
        blosc, gzip or zstd; or another of numcodecs.
    """

    inner: BytesBytesCodec
    name: str

    is_fixed_size = False

    def to_dict(self) -> Any:
        """Return the codec's metadata."""
        return self.inner.to_dict()

    def evolve_from_array_spec(self, array_spec: Any) -> BoundedCodec:
        """Return the codec adapted to its array."""
        return BoundedCodec(self.inner.evolve_from_array_spec(array_spec), self.name)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Return the inner codec's answer; packed chunks have no fixed size."""
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: Any) -> Buffer:
        """Decode one chunk."""
        most = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize + SLACK_BYTES
        packed = chunk_bytes.to_bytes()
        if states_length(self.name, packed):  # a look at the header takes less than a thread
            unpacked = decode(self.name, packed, most)
        else:
            unpacked = await asyncio.to_thread(decode, self.name, packed, most)
        if unpacked is None:
            (buffer,) = await self.inner.decode([(chunk_bytes, chunk_spec)])
            assert buffer is not None
            return buffer
        return chunk_bytes.from_bytes(unpacked)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: Any) -> Buffer | None:
        """Refuse to encode."""
        raise PermissionError("the array is open for reading only")


class BoundedV2Compressor(numcodecs.abc.Codec):  # type: ignore[misc]
    """A decompressor of Zarr v2 limited to a number of bytes.

    Parameters
    ----------
    inner : numcodecs.abc.Codec
        The decompressor.
    most : int
        Bytes that a chunk may become.
    """

    codec_id = "bounded"

    def __init__(self, inner: Any, most: int) -> None:
        self.inner, self.most, self.codec_id = inner, most, inner.codec_id

    def encode(self, buf: Any) -> Any:
        """Refuse to encode."""
        raise PermissionError("the array is open for reading only")

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode one chunk."""
        packed = bytes(buf)
        unpacked = decode(self.codec_id, packed, self.most)
        return self.inner.decode(packed) if unpacked is None else unpacked


def decode(name: str, packed: bytes, most: int) -> bytes | None:
    """Decode packed bytes, or check the size in their header.

    Parameters
    ----------
    name : str
        The compression.
    packed : bytes
        A chunk.
    most : int
        Bytes it may become.

    Returns
    -------
    bytes or None
        The chunk, if its header states no size; None if the size is fine and the codec's own decoder may run.

    Raises
    ------
    ValueError
        If it becomes more, or its header disagrees with it.
    """
    if name == "blosc":
        # Bytes 4-8 of the header are the length unpacked, bytes 12-16 that of the chunk itself.
        stated, length = int.from_bytes(packed[4:8], "little"), int.from_bytes(packed[12:16], "little")
        if len(packed) < 16 or length != len(packed):
            raise ValueError(f"the chunk has {len(packed)} bytes, its header says {length}")
        _require(stated, most)
    elif name == "lz4":
        _require(int.from_bytes(packed[:4], "little", signed=True), most)
    elif name == "zstd":
        stated_or_none = zstd_length(packed)
        if stated_or_none is None:
            import imagecodecs

            return bytes(imagecodecs.zstd_decode(packed, out=most))
        _require(stated_or_none, most)
    else:
        return _inflate(name, packed, most)
    return None


def states_length(name: str, packed: bytes) -> bool:
    """Tell whether the header of a chunk states its size, so that `decode` only looks there; the errors are its."""
    return name in ("blosc", "lz4") or (name == "zstd" and zstd_length(packed) is not None)


def _require(stated: int, most: int) -> None:
    if not 0 <= stated <= most:
        raise ValueError(f"the chunk claims to unpack into {stated} bytes, and {most} at most fit")


def _inflate(name: str, packed: bytes, most: int) -> bytes:
    """Decode a stream of unknown length, stopping above `most` bytes."""
    unpacked, rest = bytearray(), packed
    while rest:
        stream: Any = _stream(name)
        unpacked += stream.decompress(rest, most + 1 - len(unpacked))
        if len(unpacked) > most:
            raise ValueError(f"the chunk unpacks into more than {most} bytes")
        if not stream.eof:
            raise ValueError("the chunk was cut off")
        rest = stream.unused_data
    return bytes(unpacked)


def _stream(name: str) -> Any:
    """Return a decompressor of one stream; a chunk may hold several after one another."""
    if name == "bz2":
        return bz2.BZ2Decompressor()
    if name == "lzma":
        return lzma.LZMADecompressor(memlimit=256 << 20)
    return zlib.decompressobj(wbits=31 if name == "gzip" else 15)


def zstd_length(packed: bytes) -> int | None:
    """Return the unpacked length in a zstd frame's header, None without one (RFC 8878, 3.1.1.1).

    Raises
    ------
    ValueError
        If it is no zstd frame.
    """
    if packed[:4] != b"\x28\xb5\x2f\xfd" or len(packed) < 6:
        raise ValueError("the chunk is no zstd frame")
    descriptor = packed[4]
    single, size_flag = bool(descriptor & 0x20), descriptor >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[size_flag]
    if width == 0:
        return None
    stated = int.from_bytes(packed[at : at + width], "little") + (256 if width == 2 else 0)
    return stated
