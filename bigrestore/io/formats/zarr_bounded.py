"""Decode chunks of a Zarr array within the size that a chunk has, by codecs that only decode.

A codec is told the packed bytes and nothing of what they may become: some kilobytes of gzip unpack into all the memory
there is, a blosc header may claim 2 GiB, and of a chunk that lost its end the blosc decoder of numcodecs reads on
into memory, grey noise and no error. And a store may name a codec that runs what it decodes: pickle. So an array that
is opened for reading has its codecs listed and checked here, and each decompressor is put behind a guard that knows
how large a chunk is.
"""

from __future__ import annotations

import asyncio
import bz2
import lzma
import math
import zlib
from typing import Any

import attrs
import numcodecs.abc
import zarr
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
from zarr.codecs._v2 import V2Codec
from zarr.core.array import AsyncArray
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import get_pipeline_class
from zarr.storage import StorePath

from bigrestore.errors import InputError
from bigrestore.io.access.limits import MOST_CHUNKS_PER_SHARD, require_chunk
from bigrestore.io.access.tree_store import TreeStore

SLACK_BYTES = 1 << 16
"""What codecs add to a chunk at most: checksums, headers."""

_PLAIN = (BytesCodec, TransposeCodec, Crc32cCodec)
_PACKED = {BloscCodec: "blosc", GzipCodec: "gzip", ZstdCodec: "zstd"}
_V2_PACKED = {"blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"}
_V2_FILTERS = {"shuffle", "delta", "crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"}


def bounded(array: zarr.Array[Any], source: str) -> zarr.Array[Any]:
    """Return an array whose chunks are decoded within bounds.

    Parameters
    ----------
    array : zarr.Array
        Opened by `open_node`.
    source : str
        What it is called in messages.

    Raises
    ------
    InputError
        When its chunks are too large to be decoded, or stored by a codec that is not read.
    """
    piece = math.prod(array.chunks) * array.dtype.itemsize
    require_chunk(piece, source)
    stored = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    if array.shards and stored // piece > MOST_CHUNKS_PER_SHARD:
        raise InputError(
            f"{source} has shards of {stored // piece} chunks; write it again with {MOST_CHUNKS_PER_SHARD} at most."
        )
    inner = array._async_array
    store = inner.store_path.store
    assert isinstance(store, TreeStore)
    place = StorePath(TreeStore(store.tree, stored + stored // 8 + (16 << 20)), inner.store_path.path)
    anew: Any = AsyncArray(metadata=inner.metadata, store_path=place, config=inner.config)
    codecs = [_guarded(codec, source) for codec in anew.codec_pipeline]
    object.__setattr__(anew, "codec_pipeline", get_pipeline_class().from_codecs(codecs))
    return zarr.Array(anew)


def _guarded(codec: Codec, source: str) -> Codec:
    """Return a codec with its decompressors behind guards."""
    if isinstance(codec, ShardingCodec):
        inner = tuple(_guarded(item, source) for item in codec.codecs)
        return ShardingCodec(
            chunk_shape=codec.chunk_shape,
            codecs=inner,
            index_codecs=tuple(_guarded(item, source) for item in codec.index_codecs),
            index_location=codec.index_location,
        )
    if isinstance(codec, V2Codec):
        return _guarded_v2(codec, source)
    if isinstance(codec, _PLAIN):
        return codec
    name = next((name for kind, name in _PACKED.items() if isinstance(codec, kind)), None)
    if name is None or not isinstance(codec, BytesBytesCodec):
        raise _unreadable(type(codec).__name__, source)
    return Guard(codec, name)


def _unreadable(name: str, source: str) -> InputError:
    return InputError(
        f"{source} is stored by the codec {name}, which is not read; write it again with blosc, zstd or gzip."
    )


@attrs.frozen
class Guard(BytesBytesCodec):
    """A decompressor of Zarr v3 that decodes no more than a chunk.

    Attributes
    ----------
    inner : BytesBytesCodec
        The decompressor.
    name : str
        blosc, gzip or zstd.
    """

    inner: BytesBytesCodec
    name: str

    is_fixed_size = False

    def to_dict(self) -> Any:
        """Return what the codec is in metadata."""
        return self.inner.to_dict()

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Guard:
        """Return the guard of a codec that knows its array."""
        return Guard(self.inner.evolve_from_array_spec(array_spec), self.name)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return the size that zarr asks for; packed chunks have none that is known before."""
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        """Decode one chunk."""
        most = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize + SLACK_BYTES
        packed = chunk_bytes.to_bytes()
        found = await asyncio.to_thread(decode, self.name, packed, most)
        if found is None:
            return await self.inner._decode_single(chunk_bytes, chunk_spec)
        return chunk_spec.prototype.buffer.from_bytes(found)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        """Refuse to encode."""
        raise PermissionError("the array is open for reading only")


def _guarded_v2(codec: V2Codec, source: str) -> V2Codec:
    """Return the codec of a Zarr v2 array with its decompressor behind a guard."""
    for item in codec.filters or ():
        if item.codec_id not in _V2_FILTERS:
            raise _unreadable(item.codec_id, source)
    packer = codec.compressor
    if packer is None:
        return codec
    if packer.codec_id not in _V2_PACKED:
        raise _unreadable(packer.codec_id, source)
    return GuardedV2(filters=codec.filters, compressor=packer)


class GuardedV2(V2Codec):
    """The codec of a Zarr v2 array that decodes no more than a chunk."""

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Any:
        """Decode one chunk."""
        # A filter such as delta may store a chunk in a type of its own, eight times as large.
        most = 8 * math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize + SLACK_BYTES
        guard = _GuardV2(self.compressor, most)
        return await V2Codec(filters=self.filters, compressor=guard)._decode_single(chunk_bytes, chunk_spec)


class _GuardV2(numcodecs.abc.Codec):  # type: ignore[misc]
    """One decompressor of numcodecs for one chunk of known size."""

    def __init__(self, inner: Any, most: int) -> None:
        self.inner, self.most, self.codec_id = inner, most, inner.codec_id

    def encode(self, buf: Any) -> Any:
        """Refuse to encode."""
        raise PermissionError("the array is open for reading only")

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode one chunk."""
        packed = bytes(buf)
        found = decode(self.codec_id, packed, self.most)
        return self.inner.decode(packed) if found is None else found


def decode(name: str, packed: bytes, most: int) -> bytes | None:
    """Decode packed bytes, or check by their header that they may be decoded.

    Parameters
    ----------
    name : str
        The compression.
    packed : bytes
        A chunk.
    most : int
        Bytes that it may become.

    Returns
    -------
    bytes or None
        The chunk where there is no header to go by, so that it had to be decoded; None where its own decoder may
        be asked.

    Raises
    ------
    ValueError
        When it becomes more, or its header disagrees with it.
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


def _require(stated: int, most: int) -> None:
    if not 0 <= stated <= most:
        raise ValueError(f"the chunk claims to unpack into {stated} bytes, and {most} at most fit")


def _inflate(name: str, packed: bytes, most: int) -> bytes:
    """Decode a stream that does not say how long it becomes, stopping where it is too long."""
    found, rest = bytearray(), packed
    while rest:
        stream: Any = _stream(name)
        found += stream.decompress(rest, most + 1 - len(found))
        if len(found) > most:
            raise ValueError(f"the chunk unpacks into more than {most} bytes")
        if not stream.eof:
            raise ValueError("the chunk was cut off")
        rest = stream.unused_data
    return bytes(found)


def _stream(name: str) -> Any:
    """Return a decompressor of one stream; a chunk may hold several after one another."""
    if name == "bz2":
        return bz2.BZ2Decompressor()
    if name == "lzma":
        return lzma.LZMADecompressor(memlimit=256 << 20)
    return zlib.decompressobj(wbits=31 if name == "gzip" else 15)


def zstd_length(packed: bytes) -> int | None:
    """Return the length that the header of a zstd frame states, None where it states none (RFC 8878, 3.1.1.1).

    Raises
    ------
    ValueError
        When it is no zstd frame.
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
