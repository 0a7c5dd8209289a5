"""Inputs that are wrong on purpose: cut off, of the wrong kind, or made to harm whoever opens them.

Each is built from a few lines, so that what is wrong with it can be read here, and says by which commands it is
tried and how they must end. None is larger than some MiB on the disk, whatever it claims.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numcodecs
import numpy as np
import tifffile
import zarr
from PIL import Image
from scipy.ndimage import gaussian_filter

INPUT, OUTPUT, BESIDE = "INPUT", "OUTPUT", "BESIDE"
"""In a command: the bad input, a place that is free, and a second file that was made beside the input."""

INFO = ("info", INPUT)
VERIFY = ("verify", INPUT)
VIEW = ("view", INPUT, "--no-browser")
SCORE = ("score", INPUT, "--before", BESIDE, "--tile-size", "96", "-o", OUTPUT)
RUN = ("run", INPUT, OUTPUT, "--method", "rational", "--no-report", "--progress", "none", "--threads", "1")
REFUSED = frozenset({3})

OF_ANOTHER_PROJECT = (
    "--method",
    "external",
    "--model",
    INPUT,
    "--no-report",
    "--progress",
    "none",
    "--threads",
    "1",
)
MODEL = ("run", BESIDE, OUTPUT, *OF_ANOTHER_PROJECT)

Make = Callable[[Path], Path | str]


@attrs.frozen
class Bad:
    """One bad input: how it is made, the command that is tried on it, and how that may end."""

    name: str
    make: Make
    command: tuple[str, ...] = INFO
    codes: frozenset[int] = REFUSED


CORPUS: list[Bad] = []


def bad(command: tuple[str, ...] = INFO, codes: frozenset[int] = REFUSED) -> Callable[[Make], Make]:
    def note(make: Make) -> Make:
        CORPUS.append(Bad(make.__name__, make, command, codes))
        return make

    return note


def several(names: dict[str, Any], make: Callable[[Path, Any], Path | str], *rest: Any) -> None:
    """Add one bad input for each value."""
    for name, value in names.items():
        CORPUS.append(Bad(name, lambda folder, value=value: make(folder, value), *rest))


def tissue(side: int = 96) -> np.ndarray[Any, Any]:
    """Return pixels that no codec packs well."""
    return np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)


def packed_zeros(megabytes: int) -> bytes:
    """Return a raw deflate stream of zeros; one block is packed and repeated, so that it is made at once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (megabytes // 10) + b"\x03\0"


def zlib_zeros(megabytes: int) -> bytes:
    """Return a zlib stream of zeros, whose Adler checksum counts them."""
    return b"\x78\xda" + packed_zeros(megabytes) + struct.pack(">HH", megabytes * 1_000_000 % 65521, 1)


def gzip_zeros(megabytes: int, head: bytes = b"") -> bytes:
    """Return gzip files after one another: of some bytes, and of zeros."""
    crc, block = 0, bytes(10_000_000)
    for _ in range(megabytes // 10):
        crc = zlib.crc32(block, crc)
    tail = struct.pack("<II", crc, megabytes * 1_000_000 % 2**32)
    return gzip.compress(head) + b"\x1f\x8b\x08" + b"\0" * 6 + b"\x03" + packed_zeros(megabytes) + tail


# ---------------------------------------------------------------------------------------------- files


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "input.tif"
    path.write_bytes(content)
    return path


def _png(side: int = 96) -> bytes:
    out = io.BytesIO()
    Image.fromarray(tissue(side)).save(out, "PNG")
    return out.getvalue()


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(tissue()).save(out, "JPEG")
    return out.getvalue()


def _tiff(**options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, options.pop("pixels", tissue()), **options)
    return out.getvalue()


several(
    {
        "empty_file": b"",
        "one_byte": b"I",
        "text_file": b"This is no image.\n" * 50,
        "html_page": b"<html><body>404 not found</body></html>",
        "png_signature_only": b"\x89PNG\r\n\x1a\n",
        "jpeg_signature_only": b"\xff\xd8\xff\xe0",
        "hdf5_signature_only": b"\x89HDF\r\n\x1a\n" + b"\0" * 64,
        "gzip_signature_only": b"\x1f\x8b\x08",
        "zip_signature_only": b"PK\x03\x04" + b"\0" * 60,
        "tiff_without_directory": b"II*\0",
        "tiff_directory_behind_the_end": b"II*\0" + struct.pack("<I", 2**31),
        "bigtiff_directory_behind_the_end": b"II+\0" + struct.pack("<HHQ", 8, 0, 2**62),
        "tiff_directory_of_garbage": b"II*\0\x08\0\0\0" + bytes(range(256)) * 8,
        "png_half_a_header": _png()[:30],
        "jpeg_header_only": _jpeg()[:100],
        "tiff_cut_in_half": _tiff(tile=(32, 32), compression="deflate")[:4000],
        "pickle_file": pickle.dumps({"a": 1}),
        "elf_program": b"\x7fELF" + b"\0" * 200,
        "minc1_file": b"CDF\x01" + bytes(200),
        "gzipped_tiff": gzip.compress(b"II*\0" + bytes(400)),
        "nifti_of_zeros": b"\x5c\x01\0\0" + b"\0" * 340 + b"n+1\0" + b"\0" * 10,
    },
    _file,
)
several(
    {
        "png_cut_off": _png()[:-3000],
        "png_flipped_bytes": _png()[:2000] + b"\xff" * 400 + _png()[2400:],
        "jpeg_cut_off": _jpeg()[:-2500],
        "tiff_tile_of_garbage": _tiff(tile=(32, 32), compression="deflate")[:-1500] + b"\xaa" * 1500,
        "tiff_lzw_of_garbage": _tiff(compression="lzw", rowsperstrip=16)[:-4000] + b"\x55" * 4000,
    },
    _file,
    RUN,
    frozenset({3, 5}),
)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_claiming(folder: Path, size: tuple[int, int, int, int]) -> Path:
    width, height, bits, colour = size
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _chunk(b"IEND", b"")
    return _file(folder, b"\x89PNG\r\n\x1a\n" + body)


several(
    {
        "png_claims_4e18_pixels": (2**31 - 1, 2**31 - 1, 8, 0),
        "png_claims_a_line_of_2e9": (2**31 - 1, 1, 8, 0),
        "png_claims_100000_square_rgb16": (100_000, 100_000, 16, 2),
        "png_claims_no_width": (0, 100, 8, 0),
    },
    _png_claiming,
    RUN,
)


@bad(RUN)
def png_bomb(folder: Path) -> Path:
    """Zeros of 29999 x 40000 pixels in a megabyte, valid in every byte: a row has its filter type before it."""
    body = zlib_zeros(1200)
    header = struct.pack(">IIBBBBB", 29_999, 40_000, 8, 0, 0, 0, 0)
    return _file(
        folder,
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b""),
    )


@bad(RUN, frozenset({0, 3}))
def png_text_bomb(folder: Path) -> Path:
    """A compressed comment that unpacks into 1.2 GB."""
    comment = _chunk(b"zTXt", b"Comment\0\0" + zlib_zeros(1200))
    whole = _png()
    return _file(folder, whole[:33] + comment + whole[33:])


# ----------------------------------------------------------------------------------------------- TIFF


def _entry(tag: int, kind: int, count: int, value: int, big: bool) -> bytes:
    return struct.pack("<HHQQ" if big else "<HHII", tag, kind, count, value)


def _raw_tiff(folder: Path, tags: dict[int, tuple[int, int, int]], tail: bytes = b"\0" * 256) -> Path:
    """Write a BigTIFF of one directory from raw tags: type, count, value or offset."""
    wanted = {
        256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (16, 1, 400),
        277: (3, 1, 1), 278: (4, 1, 64), 279: (16, 1, 4096),
    } | tags  # fmt: skip
    entries = b"".join(_entry(tag, *facts, big=True) for tag, facts in sorted(wanted.items()))
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
    directory = struct.pack("<Q", len(wanted)) + entries + struct.pack("<Q", 0)
    return _file(folder, (head + directory).ljust(400, b"\0") + tail)


_DEFLATE = (3, 1, 8)

several(
    {
        "tiff_tag_of_2e60_values": {273: (16, 2**60, 400), 279: (16, 2**60, 400)},
        "tiff_byte_count_2e60": {279: (16, 1, 2**60)},
        "tiff_offset_2e60": {273: (16, 1, 2**60)},
        "tiff_claims_4e18_pixels": {256: (4, 1, 2**31 - 1), 257: (4, 1, 2**31 - 1), 278: (4, 1, 2**31 - 1)},
        "tiff_claims_strip_of_10_gb": {256: (4, 1, 100_000), 257: (4, 1, 100_000), 278: (4, 1, 100_000), 259: (3, 1, 8)},
        "tiff_tile_of_4_gb": {322: (4, 1, 2**16), 323: (4, 1, 2**16), 324: (16, 1, 400), 325: (16, 1, 99), 259: _DEFLATE},
        "tiff_no_width": {256: (4, 1, 0)},
        "tiff_tile_of_no_size": {322: (4, 1, 0), 323: (4, 1, 0), 324: (16, 1, 400), 325: (16, 1, 99)},
        "tiff_65535_samples": {277: (3, 1, 65535)},
        "tiff_300_bits": {258: (3, 1, 300)},
        "tiff_unknown_compression": {259: (3, 1, 54321)},
        "tiff_description_of_2e60_bytes": {270: (2, 2**60, 400)},
    },
    _raw_tiff,
    RUN,
)  # fmt: skip


@bad()
def tiff_directories_in_a_circle(folder: Path) -> Path:
    path = _raw_tiff(folder, {}, b"\0" * 5000)
    raw = bytearray(path.read_bytes())
    count = struct.unpack_from("<Q", raw, 16)[0]
    struct.pack_into("<Q", raw, 24 + 20 * count, 16)
    path.write_bytes(raw)
    return path


CORPUS[-1] = attrs.evolve(CORPUS[-1], codes=frozenset({0, 3}))


@bad(RUN, frozenset({3, 5}))
def tiff_deflate_bomb(folder: Path) -> Path:
    """One tile of 64 x 64 whose stream unpacks into 1.5 GB."""
    body = zlib_zeros(1500)
    tags = {322: (4, 1, 64), 323: (4, 1, 64), 324: (16, 1, 400), 325: (16, 1, len(body)), 259: (3, 1, 8)}
    return _raw_tiff(folder, tags, body)


CORPUS[-1] = attrs.evolve(CORPUS[-1], codes=frozenset({0, 3, 5}))


@bad()
def tiff_xml_bomb(folder: Path) -> Path:
    """OME-XML whose entities unpack a billionfold."""
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    xml = f'<?xml version="1.0"?><!DOCTYPE O [<!ENTITY a0 "ha">{entities}]><OME><Image>&a11;</Image></OME>'
    path = folder / "input.ome.tif"
    tifffile.imwrite(path, tissue(), description=xml, metadata=None)
    return path


CORPUS[-1] = attrs.evolve(CORPUS[-1], codes=frozenset({0, 3}))

several(
    {
        "tiff_of_complex": {"pixels": np.zeros((9, 9), np.complex64)},
        "tiff_of_float64": {"pixels": np.zeros((9, 9))},
        "tiff_of_five_channels": {"pixels": np.zeros((9, 9, 5), np.uint8), "photometric": 1, "planarconfig": 1},
        "tiff_of_four_stains": {"pixels": np.zeros((9, 9, 4), np.uint8), "photometric": 1, "planarconfig": 1},
        "tiff_of_three_stains": {"pixels": np.zeros((9, 9, 3), np.uint8), "photometric": 1, "planarconfig": 1},
        "tiff_of_float_with_white_as_0": {"pixels": np.zeros((9, 9), np.float32), "photometric": 0},
        "tiff_with_time": {"pixels": np.zeros((4, 9, 9), np.uint8), "imagej": True, "metadata": {"axes": "TYX"}},
    },
    lambda folder, options: _file(folder, _tiff(**options)),
)  # fmt: skip


@bad()
def tiff_pages_turned_in_two_ways(folder: Path) -> Path:
    with tifffile.TiffWriter(folder / "input.tif") as writer:
        for orientation in (1, 6, 1):
            writer.write(tissue(), metadata=None, extratags=[(274, 3, 1, orientation, True)])
    return folder / "input.tif"


@bad(RUN)
def tiff_beyond_its_own_limits(folder: Path) -> Path:
    """Values of 16 bits in a file that says they have ten."""
    pixels = tissue().astype(np.uint16) * 257
    return _file(folder, _tiff(pixels=pixels, metadata=None, extratags=[(281, 3, 1, 1023, True)]))


@bad()
def ome_tiff_without_the_rest_of_its_set(folder: Path) -> Path:
    uuids = [f"urn:uuid:{n}0000000-0000-0000-0000-000000000000" for n in range(2)]
    data = "".join(
        f'<TiffData FirstZ="{n}" IFD="0" PlaneCount="1"><UUID FileName="z{n}.ome.tif">{uuid}</UUID></TiffData>'
        for n, uuid in enumerate(uuids)
    )
    xml = (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[0]}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="96" SizeY="96" SizeZ="2" '
        f'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
    )
    tifffile.imwrite(folder / "z0.ome.tif", tissue(), description=xml.encode(), metadata=None)
    return folder / "z0.ome.tif"


@bad(RUN)
def png_with_its_orientation_behind_the_pixels(folder: Path) -> Path:
    exif = Image.Exif()
    exif[274] = 8
    whole = _png()
    return _file(folder, whole[:-12] + _chunk(b"eXIf", exif.tobytes()[6:]) + whole[-12:])


@bad()
def minc_vector_of_two(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "input.mnc", "w") as file:
        stored = file.create_dataset("minc-2.0/image/0/image", data=np.stack([tissue()] * 2, axis=-1))
        stored.attrs["dimorder"] = np.bytes_("zspace,xspace,vector_dimension")
    return folder / "input.mnc"


@bad(RUN, frozenset({3, 5}))
def tiff_of_nan(folder: Path) -> Path:
    return _file(folder, _tiff(pixels=np.full((64, 64), np.nan, np.float32)))


@bad(RUN)
def device_zero(folder: Path) -> Path:
    return Path("/dev/zero")


@bad(RUN)
def named_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.tif")
    return folder / "pipe.tif"


@bad()
def link_to_itself(folder: Path) -> Path:
    (folder / "loop.tif").symlink_to(folder / "loop.tif")
    return folder / "loop.tif"


@bad(RUN)
def socket_among_sections(folder: Path) -> Path:
    Image.fromarray(tissue()).save(folder / "a1.png")
    before = Path.cwd()
    os.chdir(folder)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a2.png")
    os.chdir(before)
    return folder


@bad()
def name_of_5000_letters(folder: Path) -> Path:
    return folder / ("a" * 5000)


@bad(RUN, frozenset({3}))
def markup_in_the_name(folder: Path) -> Path:
    path = folder / "[red]a[bold]<script>\x1b[31m.tif"
    path.write_bytes(b"II*\0")
    return path


@bad()
def folder_of_nothing(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@bad()
def folder_of_one_good_and_one_bad_section(folder: Path) -> Path:
    Image.fromarray(tissue()).save(folder / "a1.png")
    (folder / "a2.png").write_bytes(_png()[:20])
    return folder


@bad()
def folder_of_two_shapes(folder: Path) -> Path:
    Image.fromarray(tissue()).save(folder / "a1.png")
    Image.fromarray(tissue(50)).save(folder / "a2.png")
    return folder


@bad()
def folder_of_two_pixel_sizes(folder: Path) -> Path:
    for index, per_cm in enumerate((20_000, 20_000, 10_000)):
        (folder / f"a{index}.tif").write_bytes(_tiff(resolution=(per_cm, per_cm), resolutionunit=3))
    return folder


@bad()
def folder_of_a_section_twice(folder: Path) -> Path:
    for name in ("a1.png", "a2.png", "a2 copy.png"):
        Image.fromarray(tissue()).save(folder / name)
    return folder


@bad()
def ome_tiff_of_a_stopped_acquisition(folder: Path) -> Path:
    path = folder / "input.ome.tif"
    tifffile.imwrite(path, np.stack([tissue()] * 3), ome=True, metadata={"axes": "ZYX"})
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace('SizeZ="3"', 'SizeZ="7"').encode())
    return path


@bad()
def nifti_of_colour(folder: Path) -> Path:
    import nibabel

    colours = np.zeros((20, 30, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), folder / "input.nii.gz")
    return folder / "input.nii.gz"


@bad()
def nifti_gzip_bomb(folder: Path) -> Path:
    """A gzipped volume that claims, and unpacks into, far more than it is."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30_000, 30_000, 2))
    path = folder / "input.nii.gz"
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip_zeros(1800, header.binaryblock + b"\0" * 4))
    return path


# ----------------------------------------------------------------------------------------------- Zarr


def _zarr3(folder: Path, **changes: Any) -> Path:
    """Write the metadata of a Zarr v3 array, changed."""
    facts: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [512, 512],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }
    store = folder / "input.zarr"
    store.mkdir()
    (store / "zarr.json").write_text(json.dumps(facts | changes))
    return store


def _grid(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def _shards(*chunk: int) -> list[Any]:
    crc = {"name": "crc32c"}
    options = {"chunk_shape": list(chunk), "codecs": [_BYTES], "index_codecs": [_BYTES, crc]}
    return [{"name": "sharding_indexed", "configuration": options}]


several(
    {
        "zarr_claims_1e18_pixels": {"shape": [10**9, 10**9]},
        "zarr_claims_a_line_of_1e15": {"shape": [1, 10**15]},
        "zarr_claims_1e18_and_one_chunk": {"shape": [10**9, 10**9], "chunk_grid": _grid(10**9, 10**9)},
        "zarr_chunk_of_100_gb": {"shape": [10**6, 10**6], "chunk_grid": _grid(10**6, 10**5)},
        "zarr_chunk_of_nothing": {"chunk_grid": _grid(0, 64)},
        "zarr_chunk_below_zero": {"chunk_grid": _grid(-64, 64)},
        "zarr_shape_below_zero": {"shape": [-5, 512]},
        "zarr_shape_of_fractions": {"shape": [5.5, 512]},
        "zarr_shape_of_text": {"shape": "large"},
        "zarr_shard_of_1e12_chunks": {"shape": [10**6, 10**6], "chunk_grid": _grid(10**6, 10**6), "codecs": _shards(1, 1)},
        "zarr_no_pixels": {"shape": [0, 512]},
        "zarr_of_strings": {"data_type": "string", "fill_value": "", "codecs": [{"name": "vlen-utf8"}]},
        "zarr_unknown_codec": {"codecs": [_BYTES, {"name": "os.system", "configuration": {"cmd": "true"}}]},
        "zarr_unknown_type": {"data_type": "uint8; import os"},
        "zarr_attributes_of_a_number": {"attributes": 7},
        "zarr_version_99": {"zarr_format": 99},
        "zarr_six_axes": {"shape": [1] * 6, "chunk_grid": _grid(*[1] * 6)},
    },
    lambda folder, changes: _zarr3(folder, **changes),
)  # fmt: skip


@bad()
def zarr_whose_separator_was_lost(folder: Path) -> Path:
    """Chunks lie as 0/0, and the metadata say 0.0: nothing but fill is found."""
    encoding: Any = {"name": "v2", "separator": "/"}
    place, pixels = folder / "input.zarr", tissue()
    zarr.create_array(
        place, shape=pixels.shape, dtype="u1", chunks=(32, 32), zarr_format=2, chunk_key_encoding=encoding
    )[...] = pixels
    stated = json.loads((place / ".zarray").read_text())
    del stated["dimension_separator"]
    (place / ".zarray").write_text(json.dumps(stated))
    return place


@bad()
def zarr_that_rescales(folder: Path) -> Path:
    return _zarr3(folder, attributes={"scale_factor": 0.1, "add_offset": -5})


@bad()
def zarr_json_nested_without_end(folder: Path) -> Path:
    store = folder / "input.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("[" * 200_000)
    return store


@bad()
def zarr_json_of_a_gigabyte(folder: Path) -> Path:
    store = folder / "input.zarr"
    store.mkdir()
    with (store / "zarr.json").open("wb") as file:
        file.truncate(1 << 30)
    return store


@bad()
def zarr_json_is_a_pipe(folder: Path) -> Path:
    store = folder / "input.zarr"
    store.mkdir()
    os.mkfifo(store / "zarr.json")
    return store


def _zarr_chunks(folder: Path, content: bytes) -> Path:
    """Write an array whose chunks are packed by gzip, all of one content."""
    gzipped = [_BYTES, {"name": "gzip", "configuration": {"level": 5}}]
    store = _zarr3(folder, codecs=gzipped, shape=[64, 64])
    (store / "c" / "0").mkdir(parents=True)
    (store / "c" / "0" / "0").write_bytes(content)
    return store


several(
    {
        "zarr_gzip_bomb": gzip_zeros(1500),
        "zarr_gzip_cut_off": gzip.compress(tissue(64).tobytes())[:-100],
        "zarr_chunk_empty": b"",
    },
    _zarr_chunks,
    RUN,
    frozenset({3, 5}),
)  # fmt: skip


@bad(RUN, frozenset({3, 5}))
def zarr_blosc_claims_2_gb(folder: Path) -> Path:
    store = folder / "input.zarr"
    zarr.create_array(store, data=tissue(64), chunks=(64, 64), zarr_format=2, compressors=numcodecs.Blosc())
    chunk = store / "0.0"
    raw = bytearray(chunk.read_bytes())
    struct.pack_into("<I", raw, 4, 2**31 - 1)
    chunk.write_bytes(raw)
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_zstd_claims_2e62(folder: Path) -> Path:
    store = folder / "input.zarr"
    zarr.create_array(store, data=tissue(64), chunks=(64, 64), compressors=zarr.codecs.ZstdCodec())
    (store / "c" / "0" / "0").write_bytes(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**62) + b"\x01\0\0")
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_chunk_of_8_gb_of_nothing(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64])
    (store / "c" / "0").mkdir(parents=True)
    with (store / "c" / "0" / "0").open("wb") as file:
        file.truncate(8 << 30)
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_chunk_links_out_of_the_store(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64])
    (store / "c" / "0").mkdir(parents=True)
    (folder / "secret").write_bytes(b"s" * 4096)
    (store / "c" / "0" / "0").symlink_to(folder / "secret")
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_folder_links_out_of_the_store(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64])
    (folder / "elsewhere" / "0").mkdir(parents=True)
    (folder / "elsewhere" / "0" / "0").write_bytes(b"s" * 4096)
    (store / "c").symlink_to(folder / "elsewhere")
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_chunk_links_to_itself(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64])
    (store / "c" / "0").mkdir(parents=True)
    (store / "c" / "0" / "0").symlink_to(store / "c" / "0" / "0")
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_chunk_links_to_nothing(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64])
    (store / "c" / "0").mkdir(parents=True)
    (store / "c" / "0" / "0").symlink_to(store / "c" / "0" / "gone")
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_chunk_is_a_device(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64])
    (store / "c" / "0").mkdir(parents=True)
    os.mkfifo(store / "c" / "0" / "0")
    return store


@bad(RUN, frozenset({3, 5}))
def zarr_shard_index_of_garbage(folder: Path) -> Path:
    store = _zarr3(folder, shape=[64, 64], codecs=_shards(32, 32))
    (store / "c" / "0").mkdir(parents=True)
    (store / "c" / "0" / "0").write_bytes(b"\xfe" * 4164)
    return store


def _zarr2(folder: Path, changes: dict[str, Any]) -> Path:
    """Write the metadata of a Zarr v2 array, changed, and a pickle for a chunk that would leave a file behind."""
    facts = {
        "zarr_format": 2, "shape": [64, 64], "chunks": [64, 64], "dtype": "|u1", "compressor": None, "fill_value": 0,
        "order": "C", "filters": None,
    }  # fmt: skip
    store = folder / "input.zarr"
    store.mkdir()
    (store / ".zarray").write_text(json.dumps(facts | changes))

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "pickle-was-run"),)

    (store / "0.0").write_bytes(pickle.dumps(Trap()))
    return store


several(
    {
        "zarr2_object_pickle": {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]},
        "zarr2_pickle_filter_on_bytes": {"filters": [{"id": "pickle", "protocol": 5}]},
        "zarr2_pickle_as_compressor": {"compressor": {"id": "pickle", "protocol": 5}},
        "zarr2_json_codec": {"dtype": "|O", "filters": [{"id": "json2"}]},
        "zarr2_unknown_compressor": {"compressor": {"id": "no-such-codec"}},
        "zarr2_structured_type": {"dtype": [["a", "<i4"], ["b", "<f8"]]},
        "zarr2_order_of_nonsense": {"order": "Z"},
    },
    _zarr2,
    RUN,
)


def _ome(folder: Path, image: dict[str, Any]) -> Path:
    """Write a group whose multiscales metadata are changed, with one good level."""
    store = folder / "input.ome.zarr"
    group = zarr.create_group(store)
    group.create_array("0", data=tissue())
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    whole = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]} | image
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [whole]}})
    return store


def _at(path: str, scale: Any = (1.0, 1.0)) -> dict[str, Any]:
    return {
        "datasets": [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}]
    }


several(
    {
        "ome_level_above_the_store": _at("../../input.ome.zarr/0"),
        "ome_level_with_absolute_path": _at("/etc"),
        "ome_level_missing": _at("7"),
        "ome_no_levels": {"datasets": []},
        "ome_scale_of_nan": _at("0", (float("nan"), 1.0)),
        "ome_scale_of_text": _at("0", ("a", "b")),
        "ome_scale_too_long": _at("0", [1.0] * 9),
        "ome_axes_of_numbers": {"axes": 3},
        "ome_axes_twice_y": {"axes": [{"name": "y"}, {"name": "y"}]},
        "ome_path_with_markup": _at("[/red]<b>&"),
        "ome_levels_of_null": {"datasets": None},
        "ome_of_coordinate_systems": {"coordinateSystems": [{"name": "physical"}]},
    },
    _ome,
)


@bad()
def ome_plate(folder: Path) -> Path:
    wells = {"wells": [{"path": "B/3"}], "rows": [{"name": "B"}], "columns": [{"name": "3"}]}
    zarr.create_group(folder / "plate.zarr").attrs["ome"] = {"version": "0.5", "plate": wells}
    return folder / "plate.zarr"


@bad()
def ome_group_that_holds_itself(folder: Path) -> Path:
    store = folder / "input.zarr"
    zarr.create_group(store)
    (store / "a").symlink_to(store)
    return store


@bad(VERIFY, frozenset({3, 6}))
def verify_absurd_level(folder: Path) -> Path:
    store = _ome(folder, {})
    path = store / "0" / "zarr.json"
    path.write_text(path.read_text().replace("96", "999999999", 2))
    return store


@bad(VIEW, frozenset({2, 3}))  # 2 without the extra `view`
def view_of_a_map_that_is_missing(folder: Path) -> Path:
    store = _ome(folder, {})
    path = store / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["bigrestore"] = {"maps": {"residual": {}}}
    path.write_text(json.dumps(document))
    return store


# ------------------------------------------------------------------------------------------- zip files


def _zip(folder: Path, members: dict[str, bytes | int]) -> Path:
    """Write a zip file of members; a number stands for so many megabytes of zeros."""
    path = folder / "input.zarr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            if isinstance(content, bytes):
                file.writestr(name, content)
                continue
            with file.open(name, "w") as entry:
                for _ in range(content // 10):
                    entry.write(bytes(10_000_000))
    return path


_META = json.dumps(
    {
        "zarr_format": 3, "node_type": "array", "shape": [64, 64], "data_type": "uint8", "chunk_grid": _grid(64, 64),
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": 0,
        "codecs": [_BYTES], "attributes": {},
    }
).encode()  # fmt: skip
several(
    {
        "zip_of_nothing": {},
        "zip_of_a_text": {"readme.txt": b"hello"},
        "zip_that_climbs_out": {"../../zarr.json": b"{}"},
        "zip_with_a_bomb_for_metadata": {"zarr.json": 300},
    },
    _zip,
)
several(
    {"zip_with_a_bomb_for_a_chunk": {"zarr.json": _META, "c/0/0": 500}},
    _zip,
    RUN,
    frozenset({3, 5}),
)


@bad(RUN, frozenset({3, 5}))
def zip_cut_off(folder: Path) -> Path:
    path = _zip(folder, {"zarr.json": _META, "c/0/0": tissue(64).tobytes()})
    path.write_bytes(path.read_bytes()[:-30])
    return path


@bad(RUN, frozenset({3, 5}))
def zip_locked_by_a_password(folder: Path) -> Path:
    path = _zip(folder, {"zarr.json": _META})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    at = raw.index(b"PK\x01\x02")
    raw[at + 8] |= 1
    path.write_bytes(raw)
    return path


# ---------------------------------------------------------------------------------- names, and stores of a run


@bad(RUN)
def name_of_other_bytes(folder: Path) -> Path:
    """A damaged image whose name is not UTF-8."""
    path = folder / os.fsdecode(b"m\xe4use.png")
    path.write_bytes(_png()[:-40])
    return path


@bad(VERIFY, frozenset({6}))
def store_of_a_run_whose_level_0_is_not_listed(folder: Path) -> Path:
    path = folder / "input.ome.zarr"
    group = zarr.create_group(path)
    group.create_array("0", data=tissue())
    group.create_array("1", data=tissue(48))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    steps = [{"type": "scale", "scale": [2.0, 2.0]}, {"type": "translation", "translation": [0.5, 0.5]}]
    image = {"axes": axes, "datasets": [{"path": "1", "coordinateTransformations": steps}]}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [image]}, "bigrestore": {"version": "0"}})
    return path


@bad()
def store_of_a_killed_run(folder: Path) -> Path:
    """The mark of an unfinished store, and half of the root metadata."""
    path = folder / "input.ome.zarr"
    group = zarr.create_group(path)
    group.create_array("0", data=tissue())
    group.attrs["bigrestore"] = {"unfinished": True}
    (path / "zarr.0123456789abcdef.partial").write_text("{")
    return path


def _beside(folder: Path, other: np.ndarray[Any, Any]) -> Path:
    """Write tissue, and an image of its shape beside it."""
    Image.fromarray(other).save(folder / BESIDE, "PNG")
    Image.fromarray(_blobs()).save(folder / "input.png")
    return folder / "input.png"


def _blobs() -> np.ndarray[Any, Any]:
    """Return structure of some pixels, as of cells."""
    return (
        gaussian_filter(np.random.default_rng(1).normal(128, 900, (192, 192)), 6)
        .clip(0, 255)
        .astype(np.uint8)
    )


several(
    {
        "score_before_another_section": lambda: np.roll(_blobs(), (90, 70), (0, 1)),
        "score_before_the_mirrored_section": lambda: np.ascontiguousarray(_blobs()[:, ::-1]),
        "score_before_the_inverted_section": lambda: 255 - _blobs(),
        "score_before_the_shifted_section": lambda: np.roll(_blobs(), 6, 0),
    },
    lambda folder, make: _beside(folder, make()),
    SCORE,
    frozenset({2}),
)


# ------------------------------------------------------------------------- networks of other projects


class _Command:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def _model(folder: Path, name: str, content: bytes) -> Path:
    """Write a model, and tissue beside it."""
    Image.fromarray(tissue()).save(folder / BESIDE, "PNG")
    (folder / name).write_bytes(content)
    return folder / name


def _pickled(value: Any) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def _zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def _tensors() -> dict[str, Any]:
    import torch

    return {"conv_first.weight": torch.zeros(8, 3, 3, 3)}


def _expanded() -> Any:
    return {
        name: tensor[:1, :1, :1, :1].expand(1 << 20, 1 << 20, 1, 1) for name, tensor in _tensors().items()
    }


def _safetensors(header: dict[str, Any], size: int = 4) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


several(
    {
        "model_pickle_of_a_command": (".pth", lambda: _pickled(_Command())),
        "model_bare_pickle_of_a_command": (".ckpt", lambda: pickle.dumps(_Command(), 2)),
        "model_command_beside_weights": (".pt", lambda: _pickled({"params": _tensors(), "at": _Command()})),
        "model_cut_off": (".pth", lambda: _pickled(_tensors())[:700]),
        "model_of_one_tensor": (".pth", lambda: _pickled(_tensors())),
        "model_of_a_nested_mapping": (".pth", lambda: _pickled({"params": {"params": {"params": {}}}})),
        "model_claims_terabytes": (".pth", lambda: _pickled(_expanded())),
        "model_of_a_billion_layers": (
            ".pth",
            lambda: _pickled({f"body.{10**9}.rdb1.conv1.weight": _tensors()}),
        ),
        "model_program": (".pt", lambda: _zipped("net/code/__torch__.py", b"import os")),
        "model_bomb": (".pth", lambda: _zipped("net/data/0", bytes(1 << 20))),
        "model_safetensors_without_bytes": (
            ".safetensors",
            lambda: _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        ),
        "model_safetensors_header_of_exabytes": (".safetensors", lambda: b"\xff" * 8 + b"{}"),
        "model_safetensors_of_another_size": (
            ".safetensors",
            lambda: _safetensors({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}),
        ),
        "model_onnx_of_noise": (".onnx", lambda: tissue().tobytes()),
        "model_onnx_empty": (".onnx", bytes),
    },
    lambda folder, what: _model(folder, f"net{what[0]}", what[1]()),
    MODEL,
)


# ------------------------------------------------------------------------- judges


def _judge(folder: Path, content: bytes) -> Path:
    """Write what is no trained network, and an image beside it."""
    _beside(folder, _blobs())
    path = folder / "judge.safetensors"
    path.write_bytes(content)
    return path


JUDGED = ("score", BESIDE, "--tile-size", "96", "-o", OUTPUT, "--metrics")
for _name, _flag in {"likelihood": "--likelihood-model", "rankiqa": "--ranking-model"}.items():
    several(
        {
            f"{_name}_of_a_pickle_that_runs_code": b"cos\nsystem\n(S'true'\ntR.",
            f"{_name}_of_nothing": b"",
            f"{_name}_of_a_header_without_end": struct.pack("<Q", 2**40) + b"{",
        },
        _judge,
        (*JUDGED, _name, _flag, INPUT, "--before", BESIDE),
    )

FOLLOWED = (
    "run",
    BESIDE,
    OUTPUT,
    "--no-report",
    "--progress",
    "none",
    "--threads",
    "1",
    "--realness-map",
    "auto",
)
several(
    {
        "objective_of_a_pickle_that_runs_code": b"cos\nsystem\n(S'true'\ntR.",
        "objective_of_nothing": b"",
        "objective_of_a_header_without_end": struct.pack("<Q", 2**40) + b"{",
        "objective_of_a_text": b"auto\n",
    },
    _judge,
    (*FOLLOWED, "--objective-model", INPUT),
)
several({"objective_beside_a_drawn_map": b""}, _judge, (*FOLLOWED[:-1], "auto,map.png"), frozenset({2}))
several(
    {"objective_that_nothing_asks_for": b""},
    _judge,
    (*FOLLOWED[:-2], "--objective-model", INPUT),
    frozenset({2}),
)


# ------------------------------------------------------------------------------------------- volumes of chunks


def _volume(folder: Path, change: dict[str, Any]) -> Path:
    """Write a precomputed volume of one chunk, with a change of its scale."""
    path = folder / "volume"
    (path / "a").mkdir(parents=True)
    (path / "a" / "0-16_0-16_0-1").write_bytes(tissue(16).tobytes()[:256])
    scale = {
        "key": "a",
        "size": [16, 16, 1],
        "chunk_sizes": [[16, 16, 1]],
        "resolution": [1, 1, 1],
        "encoding": "raw",
    }
    info = {"type": "image", "data_type": "uint8", "num_channels": 1, "scales": [scale | change]}
    (path / "info").write_text(json.dumps(info))
    return path


several(
    {
        "precomputed_of_a_billion_voxels_a_chunk": {"size": [10**6] * 3, "chunk_sizes": [[10**6] * 3]},
        "precomputed_of_shards_without_bits": {"sharding": {"@type": "neuroglancer_uint64_sharded_v1"}},
        "precomputed_of_unknown_shards": {"sharding": {"@type": "neuroglancer_uint64_sharded_v2"}},
        "precomputed_of_an_unknown_encoding": {"encoding": "jxl"},
        "precomputed_without_a_size": {"size": None},
    },
    _volume,
)


# ------------------------------------------------------------------------------------- several inputs, channels


def _image(folder: Path, _: object) -> Path:
    """Write a good image of one channel, and another of its name in another folder."""
    (folder / "other").mkdir()
    Image.fromarray(tissue()).save(folder / "other" / "a.png")
    Image.fromarray(tissue()).save(folder / "a.png")
    return folder / "a.png"


INTO = ("run", INPUT, "--output-folder")
several({"channel_that_is_not_there": None}, _image, (*RUN, "--channel", "7"), frozenset({2}))
several({"output_folder_that_is_a_file": None}, _image, (*INTO, INPUT), frozenset({4}))
several(
    {"two_inputs_of_one_name": None}, _image, ("run", INPUT, INPUT, "--output-folder", OUTPUT), frozenset({2})
)
several({"one_path_alone": None}, _image, ("run", INPUT), frozenset({2}))
several(
    {"try_into_a_sheet_that_is_no_png": None},
    _image,
    ("try", INPUT, "-o", OUTPUT, "--roi", "0:9,0:9"),
    frozenset({2}),
)
several(
    {"file_of_a_reader_that_is_missing": b"ZISRAWFILE" + bytes(600)}, lambda folder, what: _file(folder, what)
)


# ------------------------------------------------------------------------------------------------ URLs

several(
    {
        "url_of_a_file": "file:///etc/hostname",
        "url_without_a_server": "http://127.0.0.1:9/a.zarr",
        "url_of_no_scheme": "nosuch://host/a.zarr",
        "url_in_a_chain": "simplecache::http://127.0.0.1:9/a.zarr",
    },
    lambda folder, url: url,
)
