"""Read Neuroglancer's precomputed volumes: an `info` file, and chunks of raw values, JPEG or PNG beside it.

A scale is a level. Chunks are files of their own, named after their voxels, and may be packed by gzip, as cloud-volume
writes them, or lie in shards (`bigrestore.io.formats.shards`). A chunk that is missing is black, as in Neuroglancer.
"""

from __future__ import annotations

import itertools
import json
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.access.limits import MOST_METADATA_BYTES, require_chunk
from bigrestore.io.access.places import InputPath
from bigrestore.io.access.trees import LocalTree, RemoteTree, Tree
from bigrestore.io.decoded import Decoded
from bigrestore.io.formats.shards import Sharding, ShardReader
from bigrestore.io.levels import Level, OpenedImage, Wanted, accepted_dtype, require_pixels
from bigrestore.settings.values import is_number, is_whole

log = logging.getLogger(__name__)

INFO = "info"
"""The file that describes a volume."""

ENCODINGS = ("raw", "jpeg", "png")

CACHE_BYTES = 128 * 2**20
"""Of decoded chunks; a chunk holds several sections."""

PACKED = b"\x1f\x8b"
"""How a file of gzip begins."""


def is_precomputed(tree: Tree) -> bool:
    """Tell a precomputed volume by its `info`."""
    if not tree.exists(INFO):
        return False
    try:
        stated = json.loads(_unpacked(tree.read(INFO, (None, None), MOST_METADATA_BYTES), 0, INFO))
    except (ValueError, FileNotFoundError):
        return False
    return isinstance(stated, dict) and "scales" in stated


def open_precomputed(place: InputPath, wanted: Wanted) -> OpenedImage:
    """Open a precomputed volume.

    Raises
    ------
    InputError
        If its `info` is damaged, or its chunks are of another encoding.
    UsageError
        If the channel asked for is not there.
    """
    tree: Tree = LocalTree(place) if isinstance(place, Path) else RemoteTree(place)
    stated, source = _info(tree, str(place)), str(place)
    dtype = accepted_dtype(_dtype(stated, source), source, labels=wanted.labels, command=_to_zarr(source))
    channels = _channel_count(stated.get("num_channels", 1), "num_channels", source)
    chosen = None if wanted.channel is None else wanted.require_channel(channels, source)
    rgb = chosen is None and channels == 3 and dtype.kind == "u"
    if chosen is None and channels != 1 and not rgb:
        raise InputError(
            f"{source} has {channels} channels of {dtype.name}; one is restored, or three of uint8 or uint16 as RGB: choose "
            f"one by --channel, from 0 to {channels - 1}."
        )
    cache: Decoded[NDArray[Any]] = Decoded(CACHE_BYTES)
    scales = [_Scale.of(each, source, channels, dtype) for each in _scales(stated, source)]
    scales.sort(key=lambda scale: -scale.size[0] * scale.size[1] * scale.size[2])
    readers = [_ScaleReader(tree, scale, cache, chosen or 0, rgb, source) for scale in scales]
    return OpenedImage(
        kind="precomputed",
        levels=tuple(reader.level(scales[0]) for reader in readers),
        channels=3 if rgb else 1,
        dtype=dtype,
        axes="zyx" if channels == 1 else "czyx",
        is_volume=True,
        resident_bytes=CACHE_BYTES,
        files=(place / INFO,),
        details={
            "encoding": scales[0].encoding,
            "chunks": list(scales[0].chunk[::-1]),
            "voxel_size_from": "resolution of its info",
        },
    )


@attrs.frozen
class _Scale:
    """One scale of the `info`, its axes x, y, z as there."""

    key: str
    size: tuple[int, ...]
    offset: tuple[int, ...]
    chunk: tuple[int, ...]
    resolution_nm: tuple[float, ...]
    encoding: str
    channels: int
    dtype: np.dtype[Any]
    sharding: Sharding | None

    @classmethod
    def of(cls, stated: Any, source: str, channels: int, dtype: np.dtype[Any]) -> _Scale:
        """Read a scale, and refuse what is not read."""
        if not isinstance(stated, dict) or not isinstance(stated.get("key"), str):
            raise _damaged(source, "a scale has no key")
        try:
            sharding = None if stated.get("sharding") is None else Sharding.of(stated["sharding"])
        except ValueError as err:
            raise _damaged(source, str(err)) from err
        encoding = stated.get("encoding")
        if encoding not in ENCODINGS:
            raise InputError(
                f"{source} has chunks of the encoding {encoding!r}, and {', '.join(ENCODINGS)} are read; write it as Zarr: "
                f"{_to_zarr(source)}."
            )
        sides = stated.get("chunk_sizes")
        resolution = stated.get("resolution")
        if not (isinstance(resolution, list) and len(resolution) == 3 and all(map(is_number, resolution))):
            raise _damaged(source, f"the resolution is {resolution!r}")
        size = _three_whole(stated.get("size"), "size", source)
        chunk = _three_whole(sides[0] if isinstance(sides, list) and sides else None, "chunk_sizes", source)
        require_pixels(size[::-1], source)
        if min(chunk) < 1:
            raise _damaged(source, f"a chunk has the size {list(chunk)}")
        bounds = [min(side, extent) for side, extent in zip(chunk, size, strict=True)]
        require_chunk(int(np.prod(bounds, dtype=object)) * channels * dtype.itemsize, source)
        return cls(
            key=stated["key"].strip("/"),
            size=size,
            offset=_three_whole(stated.get("voxel_offset", [0, 0, 0]), "voxel_offset", source),
            chunk=chunk,
            resolution_nm=tuple(float(value) for value in resolution),
            encoding=encoding,
            channels=channels,
            dtype=dtype,
            sharding=sharding,
        )

    @property
    def grid(self) -> tuple[int, ...]:
        """Return the number of chunks along x, y and z."""
        return tuple(-(-extent // side) for extent, side in zip(self.size, self.chunk, strict=True))

    def chunks(self, z: int, y0: int, y1: int, x0: int, x1: int) -> Iterator[tuple[int, int, int]]:
        """Yield the places x, y, z of the chunks under a window, in chunks."""
        ranges = [
            range(start // side, -(-stop // side))
            for (start, stop), side in zip(((z, z + 1), (y0, y1), (x0, x1)), self.chunk[::-1], strict=True)
        ]
        return ((x, y, at) for at, y, x in itertools.product(*ranges))

    def span(self, place: tuple[int, int, int]) -> list[tuple[int, int]]:
        """Return the voxels x, y, z of a chunk, without the offset."""
        return [
            (at * side, min((at + 1) * side, extent))
            for at, side, extent in zip(place, self.chunk, self.size, strict=True)
        ]

    def name(self, place: tuple[int, int, int]) -> str:
        """Return the file of a chunk, below the volume."""
        spans = zip(self.span(place), self.offset, strict=True)
        return f"{self.key}/" + "_".join(f"{start + by}-{stop + by}" for (start, stop), by in spans)


class _ScaleReader:
    """Reads windows of one scale."""

    def __init__(
        self,
        tree: Tree,
        scale: _Scale,
        cache: Decoded[NDArray[Any]],
        channel: int,
        rgb: bool,
        source: str,
    ) -> None:
        self._tree, self._scale, self._cache = tree, scale, cache
        self._channel, self._rgb, self._source = channel, rgb, source
        self._local = isinstance(tree, LocalTree)
        self._said = False
        self._shards = (
            None
            if scale.sharding is None
            else ShardReader(tree, scale.key, scale.sharding, scale.grid, _unpacked)
        )

    def level(self, finest: _Scale) -> Level:
        """Return the level; the first voxel of the finest scale lies at 0 where it has no offset."""
        scale = self._scale
        size = [nm / 1000 for nm in scale.resolution_nm[::-1]]
        starts = [
            (offset * nm + (nm - finest_nm) / 2) / 1000
            for offset, nm, finest_nm in zip(
                scale.offset, scale.resolution_nm, finest.resolution_nm, strict=True
            )
        ][::-1]
        x, y, z = scale.size
        return Level(
            (z, y, x),
            (min(scale.chunk[1], y), min(scale.chunk[0], x)),
            self.read,
            (size[0], size[1], size[2]),
            (starts[0], starts[1], starts[2]),
            self.version,
        )

    def read(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window as (h, w) or (h, w, 3)."""
        scale = self._scale
        pixels = np.zeros((3 if self._rgb else 1, y1 - y0, x1 - x0), scale.dtype)
        chosen = slice(None) if self._rgb else slice(self._channel, self._channel + 1)
        for place in scale.chunks(z, y0, y1, x0, x1):
            chunk = self._chunk(place)
            if chunk is None:
                continue
            (left, right), (top, bottom), (first, _) = scale.span(place)
            a, b, c, d = max(y0, top), min(y1, bottom), max(x0, left), min(x1, right)
            part = chunk[chosen, z - first, a - top : b - top, c - left : d - left]
            pixels[:, a - y0 : b - y0, c - x0 : d - x0] = part
        return np.moveaxis(pixels, 0, -1) if self._rgb else pixels[0]

    def version(self, z: int, y0: int, y1: int, x0: int, x1: int, *, fresh: bool = False) -> list[str]:
        """Return the versions of the files under a window."""
        names = [self._file(place) for place in self._scale.chunks(z, y0, y1, x0, x1)]
        return self._tree.versions([INFO, *dict.fromkeys(names)], fresh=fresh)

    def _file(self, place: tuple[int, int, int]) -> str:
        """Return the name of a chunk's file, on a disk also packed, or of its shard."""
        if self._shards is not None:
            return self._shards.file(place)
        name = self._scale.name(place)
        packed = f"{name}.gz"
        return packed if self._local and not self._tree.exists(name) and self._tree.exists(packed) else name

    def _chunk(self, place: tuple[int, int, int]) -> NDArray[Any] | None:
        """Return a decoded chunk, (c, z, y, x); None where it is missing."""
        scale = self._scale
        shape = (scale.channels, *(stop - start for start, stop in scale.span(place)[::-1]))
        nbytes = int(np.prod(shape)) * scale.dtype.itemsize
        name = self._file(place)
        try:
            return self._cache.get((scale.key, place), lambda: self._decoded(place, shape, nbytes), nbytes)
        except FileNotFoundError:
            if not self._said:
                self._said = True
                log.warning("%s lacks chunks, such as %s; they are black.", self._source, name)
            return None

    def _encoded(self, place: tuple[int, int, int], nbytes: int) -> bytes:
        """Return the encoded content of a chunk, unpacked; raw values have `nbytes`, whatever they begin with."""
        most = 2 * nbytes + 65536
        if self._shards is not None:
            return self._shards.read(place, most)
        name = self._file(place)
        content = self._tree.read(name, (None, None), most)
        if self._scale.encoding == "raw" and len(content) == nbytes:
            return content
        return _unpacked(content, most, f"{self._source}/{name}")

    def _decoded(self, place: tuple[int, int, int], shape: tuple[int, ...], nbytes: int) -> NDArray[Any]:
        """Read and decode a chunk."""
        import imagecodecs

        scale, shown = self._scale, f"{self._source}/{self._scale.name(place)}"
        encoded = self._encoded(place, nbytes)
        if scale.encoding == "raw":
            if len(encoded) != nbytes:
                raise InputError(
                    f"{shown} has {len(encoded)} bytes, where {nbytes} are stated; it is damaged, so copy it again."
                )
            return np.frombuffer(encoded, scale.dtype.newbyteorder("<")).reshape(shape).astype(scale.dtype)
        try:
            decode = imagecodecs.jpeg_decode if scale.encoding == "jpeg" else imagecodecs.png_decode
            image = np.asarray(decode(encoded))
        except Exception as err:
            raise InputError(f"{shown} cannot be decoded ({err}); copy or write it again.") from err
        if image.size != np.prod(shape) or image.dtype != scale.dtype:
            raise InputError(
                f"{shown} holds {' x '.join(map(str, image.shape))} values of {image.dtype}, where "
                f"{' x '.join(map(str, shape))} of {scale.dtype} are stated; write it again."
            )
        return np.moveaxis(image.reshape(*shape[1:], shape[0]), -1, 0)


def _info(tree: Tree, source: str) -> dict[str, Any]:
    """Return the document of a volume."""
    try:
        stated = json.loads(_unpacked(tree.read(INFO, (None, None), MOST_METADATA_BYTES), 0, source))
    except ValueError as err:
        raise _damaged(source, f"it is no JSON ({err})") from err
    if not isinstance(stated, dict):
        raise _damaged(source, "it is no object")
    return stated


def _scales(stated: dict[str, Any], source: str) -> list[Any]:
    """Return the scales of a volume, at least one."""
    scales = stated.get("scales")
    if not isinstance(scales, list) or not scales:
        raise _damaged(source, "it has no scales")
    return scales


def _dtype(stated: dict[str, Any], source: str) -> np.dtype[Any]:
    """Return the stated type of the values."""
    try:
        dtype: np.dtype[Any] = np.dtype(stated.get("data_type", ""))
    except TypeError as err:
        raise _damaged(source, f"data_type is {stated.get('data_type')!r}") from err
    return dtype


def _three_whole(value: Any, name: str, source: str) -> tuple[int, ...]:
    """Return three whole numbers, x, y and z."""
    if not (isinstance(value, list) and len(value) == 3 and all(map(is_whole, value))):
        raise _damaged(source, f"{name} is {value!r}")
    return tuple(value)


def _channel_count(value: Any, name: str, source: str) -> int:
    """Return a whole number above 0."""
    if not isinstance(value, int) or not is_whole(value) or not 1 <= value <= 65536:
        raise _damaged(source, f"{name} is {value!r}")
    return value


def _damaged(source: str, reason: str) -> InputError:
    return InputError(f"{source} has a damaged info file ({reason}); copy or write the volume again.")


def _unpacked(content: bytes, most: int, shown: str) -> bytes:
    """Return the content of a file, unpacked where it is gzipped; `most` bytes, 0: as many as a document may have."""
    if not content.startswith(PACKED):
        return content
    try:
        unpacker = zlib.decompressobj(wbits=31)
        return unpacker.decompress(content, (most or MOST_METADATA_BYTES) + 1)
    except zlib.error as err:
        raise InputError(f"{shown} is damaged ({err}); copy it again.") from err


def _to_zarr(source: str) -> str:
    """Return the command that writes a volume as Zarr."""
    program = (
        "import tensorstore as ts, zarr; a = ts.open({'driver': 'neuroglancer_precomputed', 'kvstore': 'file://' + "
        f"r'{source}'}}).result(); zarr.save_array('converted.zarr', a[..., 0].T.read().result())"
    )
    return f'pip install tensorstore; python -c "{program}"'
