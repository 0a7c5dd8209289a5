"""Files as scanners, converters and file managers leave them are read, or named with the command that helps."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import logging
import os
import re
import shlex
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
import zarr.codecs.numcodecs as numcodecs
from nibabel.cmdline import convert as nib_convert
from numpy.typing import NDArray
from PIL import Image
from scipy.io import netcdf_file

from bigrestore.errors import InputError
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.io.verify.store import verify_store


def values(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def whole(section: Section) -> NDArray[Any]:
    return np.stack([section.read(z, 0, section.height, 0, section.width) for z in range(section.depth)])


def refusal(source: Path | str) -> str:
    """Return the sentence by which an input is refused."""
    with pytest.raises(InputError) as error:
        open_section(source)
    sentence = str(error.value)
    assert error.value.exit_code == 3
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def run_command(sentence: str, folder: Path) -> None:
    """Run the command `python -c ...` that a sentence names."""
    (program,) = re.findall(r'python -c (".*")', sentence)
    with contextlib.chdir(folder):
        exec(shlex.split(program)[0], {})


# --- NDPI, against tifffile -----------------------------------------------------------------------


def ndpi(path: Path, mcu: int) -> NDArray[Any]:
    """Write a page as Hamamatsu does: one JPEG stream, with its restart markers as tiles."""
    pixels = values(64, 64, 3).repeat(8, 0).repeat(8, 1)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling=0, restart_marker_blocks=mcu)
    stream = out.getvalue()
    scan = stream.index(b"\xff\xda")
    starts = [scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big")]
    starts += [
        i + 2 for i in range(starts[0], len(stream) - 1) if stream[i] == 255 and 0xD0 <= stream[i + 1] <= 0xD7
    ]
    tail = stream + struct.pack("<3H", 8, 8, 8) + b"Hamamatsu\0" + struct.pack(f"<{len(starts)}I", *starts)
    at = 12 + len(stream)
    tags = [
        (256, 4, 1, 512), (257, 4, 1, 512), (258, 3, 3, at), (259, 3, 1, 7), (262, 3, 1, 6), (271, 2, 10, at + 6),
        (273, 4, 1, 12), (277, 3, 1, 3), (278, 4, 1, 512), (279, 4, 1, len(stream)), (530, 3, 2, 65537),
        (65420, 4, 1, 1), (65426, 4, len(starts), at + 16),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<Q", 12 + len(tail)) + tail
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(8 + 4 * len(tags)))
    return pixels


@pytest.mark.parametrize("mcu", [16, 32, 64])
def test_ndpi_reads_as_tifffile_reads_it(tmp_path: Path, mcu: int) -> None:
    ndpi(tmp_path / "a.ndpi", mcu)
    wanted = tifffile.imread(tmp_path / "a.ndpi")
    section = open_section(tmp_path / "a.ndpi")
    np.testing.assert_array_equal(whole(section)[0], wanted)
    np.testing.assert_array_equal(section.read(0, 100, 300, 250, 511), wanted[100:300, 250:511])


# --- colours and depths ---------------------------------------------------------------------------


def png(path: Path, pixels: NDArray[Any], colour_type: int, transparent: bytes = b"") -> Path:
    """Write a PNG by its chunks; Pillow writes no 16-bit grey with alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(pixels.dtype.newbyteorder(">")))
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"tRNS", transparent) if transparent else b"")
    body += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("colour_type", "samples", "channels"), [(0, 1, 1), (4, 2, 1), (2, 3, 3), (6, 4, 3)])
def test_a_png_of_any_colour_type_and_depth(
    tmp_path: Path, dtype: Any, colour_type: int, samples: int, channels: int
) -> None:
    pixels = values(40, 30, samples, dtype=dtype)
    path = png(tmp_path / "a.png", pixels, colour_type)
    section = open_section(path)
    assert (section.channels, section.dtype) == (channels, np.dtype(dtype))
    decoded = np.asarray(imagecodecs.png_decode(path.read_bytes())).reshape(40, 30, -1)[..., :channels]
    np.testing.assert_array_equal(whole(section)[0].reshape(40, 30, -1), decoded)


def test_a_transparent_grey_of_16_bits(tmp_path: Path) -> None:
    pixels = values(40, 30, 1, dtype=np.uint16)
    section = open_section(png(tmp_path / "a.png", pixels, 0, transparent=b"\0\7"))
    assert section.channels == 1
    np.testing.assert_array_equal(whole(section)[0], pixels[..., 0])


@pytest.mark.parametrize(("colours", "channels"), [("coloured", 3), ("grey", 1), ("eight bits", 3)])
@pytest.mark.parametrize(
    "options", [{}, {"tile": (16, 16), "compression": "deflate"}], ids=["plain", "tiles"]
)
def test_a_palette_tiff_reads_as_pillow_reads_it(
    tmp_path: Path, colours: str, channels: int, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    table = values(3, 256, seed=3).astype(np.uint16)
    table = {"coloured": table * 257, "grey": table[:1].repeat(3, 0) * 257, "eight bits": table}[colours]
    indices = values(40, 30)
    tifffile.imwrite(
        tmp_path / "a.tif", indices, photometric="palette", colormap=table, metadata=None, **options
    )
    with caplog.at_level(logging.INFO):
        section = open_section(tmp_path / "a.tif")
    assert (section.channels, section.dtype) == (channels, np.uint8)
    assert "has a palette of 256" in caplog.text
    if colours == "eight bits":  # Pillow takes the upper byte of these, too, and shows black
        wanted = table.T.astype(np.uint8)[indices]
    else:
        with Image.open(tmp_path / "a.tif") as image:
            wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(whole(section)[0].reshape(40, 30, -1), wanted[..., :channels])


def test_a_palette_of_16_colours_and_one_as_labels(tmp_path: Path) -> None:
    indices = values(40, 30) % 16
    picture = Image.fromarray(indices)
    picture.putpalette(values(48, seed=5).tobytes())
    picture.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(whole(open_section(tmp_path / "a.tif"))[0], wanted)
    from bigrestore.io.formats.table import open_input

    mask = open_input(tmp_path / "a.tif", labels=True)
    np.testing.assert_array_equal(mask.levels[0].read(0, 0, 40, 0, 30), indices)


def test_a_cmyk_jpeg_reads_as_pillow_converts_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    smooth = values(10, 8, 4).repeat(8, 0).repeat(8, 1)
    Image.fromarray(smooth, mode="CMYK").save(tmp_path / "a.jpg", quality=95)
    section = open_section(tmp_path / "a.jpg")
    assert section.channels == 3
    assert "CMYK" in caplog.text
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(whole(section)[0], np.asarray(image.convert("RGB")))


def test_a_cmyk_tiff_is_named_with_the_command(tmp_path: Path) -> None:
    Image.fromarray(values(40, 30, 4), mode="CMYK").save(tmp_path / "a.tif")
    assert f"magick {tmp_path / 'a.tif'} -colorspace sRGB converted.tif" in refusal(tmp_path / "a.tif")


# --- other types of pixels: the command in the sentence converts them ------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.float64, np.int32, np.uint32])
def test_the_command_converts_a_nifti_of_another_type(
    tmp_path: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.arange(3 * 20 * 30).reshape(3, 20, 30).astype(dtype) - (
        5 if np.dtype(dtype).kind != "u" else 0
    )
    nibabel.save(nibabel.Nifti1Image(pixels.T, np.diag([0.02, 0.02, 0.02, 1])), "in.nii.gz")
    (command,) = re.findall(r"\(nib-convert (.*)\)\.", refusal("in.nii.gz"))
    nib_convert.main(shlex.split(command))
    np.testing.assert_array_equal(whole(open_section("converted.nii")), pixels.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_the_command_converts_a_tiff_and_a_store_of_another_type(tmp_path: Path, dtype: Any) -> None:
    pixels = (np.arange(600).reshape(20, 30) - 5).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="minisblack")
    group = zarr.create_group(tmp_path / "in.ome.zarr")
    group.create_array("0", data=pixels)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    for source, made in (("in.tif", "converted.tif"), ("in.ome.zarr", "converted.zarr")):
        run_command(refusal(tmp_path / source), tmp_path)
        np.testing.assert_array_equal(whole(open_section(tmp_path / made))[0], pixels.astype(np.float32))


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_a_colour_nifti_is_called_colour_and_converted(tmp_path: Path, names: str) -> None:
    pixels = values(30, 20, 4, len(names))
    packed = pixels.view([(name, "u1") for name in names])[..., 0]
    nibabel.save(nibabel.Nifti1Image(packed, np.diag([0.02, 0.02, 0.02, 1])), tmp_path / "in.nii.gz")
    sentence = refusal(tmp_path / "in.nii.gz")
    assert "colour" in sentence
    assert "void" not in sentence
    run_command(sentence, tmp_path)
    section = open_section(tmp_path / "colour.tif")
    assert (section.channels, section.shape) == (3, (4, 20, 30))
    np.testing.assert_array_equal(whole(section), pixels.transpose(2, 1, 0, 3)[..., :3])


def test_structured_pixels_are_named_by_their_fields(tmp_path: Path) -> None:
    warnings.simplefilter("ignore")
    zarr.create_array(tmp_path / "a", data=np.zeros((4, 4), [("a", "<i4"), ("b", "<f8")]))
    sentence = refusal(tmp_path / "a")
    assert "structured (a, b)" in sentence
    assert "void" not in sentence


# --- other files: what they are, and what converts them -------------------------------------------


def minc1(path: Path) -> bytes:
    with netcdf_file(path, "w") as file:
        for name, size in (("zspace", 5), ("yspace", 12), ("xspace", 10)):
            file.createDimension(name, size)
        file.createVariable("image", "b", ("zspace", "yspace", "xspace"))[:] = values(5, 12, 10) // 3
    return path.read_bytes()


def minc2(path: Path) -> bytes:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("minc-2.0/image/0/image", data=values(5, 12, 10), compression="gzip")
        data.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
    return path.read_bytes()


def test_minc1_is_named_with_mincconvert(tmp_path: Path) -> None:
    minc1(tmp_path / "in put.mnc")
    sentence = refusal(tmp_path / "in put.mnc")
    assert "MINC1" in sentence
    assert f"mincconvert -2 '{tmp_path / 'in put.mnc'}' converted.mnc" in sentence


@pytest.mark.parametrize(
    ("make", "command"), [(minc2, "gunzip -k"), (minc1, "gunzip -k")], ids=["MINC2", "MINC1"]
)
def test_a_gzipped_minc_is_named_with_gunzip(
    tmp_path: Path, make: Callable[[Path], bytes], command: str
) -> None:
    content = make(tmp_path / "in.mnc")
    (tmp_path / "in.mnc.gz").write_bytes(gzip.compress(content))
    assert f"{command} {tmp_path / 'in.mnc.gz'}" in refusal(tmp_path / "in.mnc.gz")


def test_minc_compressed_by_gzip_inside_is_read(tmp_path: Path) -> None:
    minc2(tmp_path / "in.mnc")
    with h5py.File(tmp_path / "in.mnc") as file:
        stored = file["minc-2.0/image/0/image"][...]
    np.testing.assert_array_equal(whole(open_section(tmp_path / "in.mnc")), stored)


@pytest.mark.parametrize("name", ["get", "__getitem__"])
def test_damage_that_hdf5_meets_late_is_a_sentence(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    minc2(tmp_path / "in.mnc")

    def damaged(*_: Any) -> Any:
        raise KeyError("Unable to synchronously open object (message not aligned)")

    monkeypatch.setattr(h5py.Group, name, damaged)
    assert "is a damaged MINC file" in refusal(tmp_path / "in.mnc")


def test_minc_compressed_by_an_unknown_filter_is_named_with_h5repack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minc2(tmp_path / "in.mnc")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    sentence = refusal(tmp_path / "in.mnc")
    assert "the HDF5 filter 1 (deflate)" in sentence
    assert "h5repack" in sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bz2.compress(b"x" * 99), "bunzip2 -k"),
        (b"\xfd7zXZ\0" + bytes(99), "unxz -k"),
        (gzip.compress(b"II*\0" + bytes(400)), "gunzip -k"),
        (b"ZISRAWFILE" + bytes(99), "bfconvert"),
        (b"NRRD0004\n" + bytes(99), "bfconvert"),
        (b"BM" + bytes(400), "magick"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "magick"),
    ],
    ids=["bzip2", "xz", "gzip", "czi", "nrrd", "bmp", "jpeg2000"],
)
def test_files_of_other_kinds_are_named_with_their_command(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "in.tif").write_bytes(content)
    assert f"{words} {tmp_path / 'in.tif'}" in refusal(tmp_path / "in.tif")


def test_a_stopped_acquisition_is_restored_by_the_command(tmp_path: Path) -> None:
    pixels = values(5, 40, 30)
    path = tmp_path / "in.ome.tif"
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "ZYX"})
    xml = tifffile.tiffcomment(path).replace('SizeZ="5"', 'SizeZ="8"').replace('Count="5"', 'Count="8"')
    tifffile.tiffcomment(path, xml.encode())
    sentence = refusal(path)
    assert "5 of the 8 sections" in sentence
    run_command(sentence, tmp_path)
    np.testing.assert_array_equal(whole(open_section(tmp_path / "whole.tif")), pixels)


# --- stores ---------------------------------------------------------------------------------------


def ome_store(path: Path, pixels: NDArray[Any], size: float = 0.5, version: str = "0.5") -> Path:
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=pixels, chunks=(16, 16))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    steps = [{"type": "scale", "scale": [size, size]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    body = {"version": version, "multiscales": [{**image, "version": version}]}
    group.attrs.update({"ome": body} if version == "0.5" else body)
    return path


def zip_of(folder: Path, path: Path, *, macos: bool = False, inside: str = "") -> Path:
    """Pack a folder as a file manager does; that of macOS adds files of its own."""
    with zipfile.ZipFile(path, "w") as file:
        for item in sorted(folder.rglob("*")):
            if item.is_file():
                name = f"{inside}{item.relative_to(folder)}"
                file.write(item, name)
                if macos:
                    file.writestr(f"__MACOSX/{os.path.dirname(name)}/._{item.name}", b"\0\5\x16\7")  # noqa: PTH120
        if macos:
            file.writestr(".DS_Store", b"\0\0\0\1Bud1")
            file.writestr(f"{inside}0/._c", b"\0\5\x16\7")
    return path


def test_a_folder_of_stores_is_a_volume(tmp_path: Path) -> None:
    pixels = values(11, 40, 30)
    for z in range(11):
        ome_store(tmp_path / "vol" / f"s{z}.ome.zarr", pixels[z])
    section = open_section(tmp_path / "vol")
    assert (section.shape, section.voxel_size_um) == ((11, 40, 30), (None, 0.5, 0.5))
    stored = [zarr.open_array(tmp_path / "vol" / f"s{z}.ome.zarr" / "0", mode="r")[...] for z in range(11)]
    np.testing.assert_array_equal(whole(section), stored)
    assert len(section.files) == 22, "the metadata of each store and of its level identify it"
    before = section.version(4, 0, 40, 0, 30)
    array: Any = zarr.open_array(tmp_path / "vol" / "s4.ome.zarr" / "0", mode="r+")
    array[0, 0] = 7
    assert section.version(4, 0, 40, 0, 30) != before, "a chunk that changes is noticed"


def test_a_folder_of_zipped_stores_and_of_stores_among_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = values(2, 40, 30)
    (tmp_path / "vol").mkdir()
    for z in range(2):
        zip_of(ome_store(tmp_path / f"s{z}.ome.zarr", pixels[z]), tmp_path / "vol" / f"s{z}.ome.zarr.zip")
    np.testing.assert_array_equal(whole(open_section(tmp_path / "vol")), pixels)
    Image.fromarray(pixels[1]).save(tmp_path / "s1.png")
    section = open_section(tmp_path)
    np.testing.assert_array_equal(whole(section), pixels[1:])
    assert "2 left out that are stores among section files (s0.ome.zarr, s1.ome.zarr)" in caplog.text


@pytest.mark.parametrize("inside", ["", "a.ome.zarr/"])
def test_a_zip_file_of_macos_reads_as_the_store(tmp_path: Path, inside: str) -> None:
    pixels = values(40, 30)
    store = ome_store(tmp_path / "a.ome.zarr", pixels)
    path = zip_of(store, tmp_path / "a.zip", macos=True, inside=inside)
    section = open_section(path)
    np.testing.assert_array_equal(whole(section)[0], zarr.open_array(store / "0", mode="r")[...])
    assert not [fault for fault in verify_store(path) if fault.id.startswith(("chunk", "store"))]


def test_a_zip_file_without_a_store_is_named_and_no_object_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("one/readme.txt", "hello")
        file.writestr("two/readme.txt", "hello")
    sentence = refusal(tmp_path / "a.zip")
    assert "object at" not in sentence
    assert "TreeStore object" not in sentence
    assert str(tmp_path / "a.zip") in sentence


CODECS: dict[str, dict[str, Any]] = {
    "zlib": {"compressors": [("Zlib", {"level": 4})]},
    "lz4": {"compressors": [("LZ4", {})]},
    "bz2": {"compressors": [("BZ2", {})]},
    "lzma": {"compressors": [("LZMA", {})]},
    "gzip": {"compressors": [("GZip", {})]},
    "zstd": {"compressors": [("Zstd", {})]},
    "blosc": {"compressors": [("Blosc", {})]},
    "shuffle": {"compressors": [("Shuffle", {}), ("Zlib", {})]},
    "delta": {"filters": [("Delta", {"dtype": "<u2", "astype": "<i4"})], "compressors": [("Zlib", {})]},
    "fletcher32": {"compressors": [("Fletcher32", {})]},
    "crc32": {"compressors": [("CRC32", {})]},
    "shards": {"compressors": [("Zlib", {})], "shards": (64, 64)},
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs_of_numcodecs_in_zarr_v3(tmp_path: Path, name: str) -> None:
    pixels = values(100, 90, dtype=np.uint16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {
            key: [getattr(numcodecs, codec)(**facts) for codec, facts in value] if key != "shards" else value
            for key, value in CODECS[name].items()
        }
        array = zarr.create_array(tmp_path / "a", shape=(100, 90), dtype="u2", chunks=(32, 32), **options)
        array[...] = pixels
        stored = zarr.open_array(tmp_path / "a", mode="r")[...]
    np.testing.assert_array_equal(whole(open_section(tmp_path / "a"))[0], stored)


def test_a_chunk_of_numcodecs_is_bounded_and_others_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zlib_codec = numcodecs.Zlib()
        zarr.create_array(tmp_path / "a", data=values(64, 64), chunks=(64, 64), compressors=[zlib_codec])
        scaled = numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="u1", astype="u1")
        zarr.create_array(tmp_path / "b", data=values(64, 64), chunks=(64, 64), filters=[scaled])
    (tmp_path / "a" / "c" / "0" / "0").write_bytes(zlib.compress(bytes(50_000_000)))
    with pytest.raises(InputError, match="unpacks into more than"):
        whole(open_section(tmp_path / "a"))
    assert "the codec numcodecs.fixedscaleoffset, which is not read" in refusal(tmp_path / "b")


@pytest.mark.parametrize("version", ["0.6", "0.6.dev3", "0.7"])
def test_ome_zarr_with_coordinate_systems_is_named_and_its_array_is_read(
    tmp_path: Path, version: str
) -> None:
    pixels = values(40, 30)
    group = zarr.create_group(tmp_path / "a.ome.zarr")
    group.create_array("s0", data=pixels, dimension_names=["y", "x"])
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5], "input": "/s0", "output": "physical"}]
    image = {
        "coordinateSystems": [{"name": "physical", "axes": axes}],
        "datasets": [{"path": "s0", "coordinateTransformations": steps}],
    }
    group.attrs["ome"] = {"version": version, "multiscales": [image]}
    sentence = refusal(tmp_path / "a.ome.zarr")
    assert f"is OME-Zarr {version}" in sentence
    (path,) = re.findall(r"such as (\S+), with --voxel-size", sentence)
    section = open_section(path, voxel_size_um=0.5)
    np.testing.assert_array_equal(whole(section)[0], pixels)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_names_an_image_that_can_be_read(tmp_path: Path, version: str) -> None:
    pixels = values(40, 30)
    plate = zarr.create_group(tmp_path / "plate.zarr", zarr_format=3 if version == "0.5" else 2)
    put = lambda group, what: group.attrs.update({"ome": what} if version == "0.5" else what)  # noqa: E731
    put(
        plate,
        {
            "plate": {
                "rows": [{"name": "A"}],
                "columns": [{"name": "1"}, {"name": "2"}],
                "wells": [{"path": "A/2"}, {"path": "A/1"}],
            }
        },
    )
    for column, fields in (("1", "0"), ("2", "01")):
        well = plate.require_group(f"A/{column}")
        put(well, {"well": {"images": [{"path": field} for field in fields]}})
        for field in fields:
            ome_store(tmp_path / "plate.zarr" / "A" / column / field, pixels, version=version)
    sentence = refusal(tmp_path / "plate.zarr")
    assert "plate of 2 wells" in sentence
    (path,) = re.findall(r"such as (\S+)\.$", sentence)
    np.testing.assert_array_equal(whole(open_section(path))[0], pixels)
    assert "a well of 2 images" in refusal(tmp_path / "plate.zarr" / "A" / "2")
    np.testing.assert_array_equal(whole(open_section(tmp_path / "plate.zarr" / "A" / "1"))[0], pixels)

    packed = zip_of(tmp_path / "plate.zarr", tmp_path / "plate.zip")
    (path,) = re.findall(r"such as (\S+)\.$", refusal(packed))
    section = open_section(path)
    np.testing.assert_array_equal(whole(section)[0], pixels)
    assert section.files == (packed,)


def test_a_damaged_plate_is_still_a_plate(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "plate.zarr")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": 7}}
    assert "is an OME-Zarr plate" in refusal(tmp_path / "plate.zarr")


# --- what lies in a folder beside its sections ----------------------------------------------------


def folder_of_sections(path: Path) -> NDArray[Any]:
    pixels = values(3, 40, 30)
    path.mkdir()
    for z in range(3):
        tifffile.imwrite(path / f"s{z}.tif", pixels[z])
    return pixels


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("s1_mask.png", (40, 30)),
        ("mask-s1.tif", (40, 30)),
        ("thumbnail.jpg", (10, 8)),
        ("s1.Overview.png", (20, 15)),
        ("._s1.tif", (4, 4)),
        (".hidden.png", (40, 30)),
    ],
)
def test_masks_thumbnails_and_hidden_files_are_left_out_with_a_line(
    tmp_path: Path, name: str, shape: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    pixels = folder_of_sections(tmp_path / "vol")
    image = Image.fromarray(values(*shape))
    image.save(tmp_path / "vol" / name)
    section = open_section(tmp_path / "vol")
    np.testing.assert_array_equal(whole(section), pixels)
    assert f"({name})" in caplog.text


def test_a_folder_of_masks_alone_is_read(tmp_path: Path) -> None:
    for z in range(2):
        Image.fromarray(values(40, 30)).save(tmp_path / f"s{z}_mask.png")
    assert open_section(tmp_path).depth == 2


@pytest.mark.parametrize(
    "name",
    ["s1.png", "s1.ome.tif", "s1 copy.tif", "s1_copy 2.tif", "s1 (1).tif", "Copy of s1.tif", "s1 - Copy.tif"],
)
def test_a_section_that_is_there_twice_is_named(tmp_path: Path, name: str) -> None:
    pixels = folder_of_sections(tmp_path / "vol")
    if name.endswith("png"):
        Image.fromarray(pixels[1]).save(tmp_path / "vol" / name)
    else:
        shutil.copy(tmp_path / "vol" / "s1.tif", tmp_path / "vol" / name)
    sentence = refusal(tmp_path / "vol")
    assert "a section twice" in sentence
    assert name in sentence
    assert "s1.tif" in sentence


def test_numbers_in_brackets_are_no_copies(tmp_path: Path) -> None:
    for z in range(3):
        tifffile.imwrite(tmp_path / f"section ({z}).tif", values(40, 30, seed=z))
    assert open_section(tmp_path).depth == 3


def test_a_thumbnail_by_its_shape_alone_is_named(tmp_path: Path) -> None:
    folder_of_sections(tmp_path / "vol")
    tifffile.imwrite(tmp_path / "vol" / "a.tif", values(10, 8))
    assert "a.tif is 10 x 8" in refusal(tmp_path / "vol")
