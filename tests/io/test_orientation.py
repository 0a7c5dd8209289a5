"""Pixels that a file says are to be turned or mirrored are, as Pillow does it, and are read lazily all the same."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bigrestore.errors import InputError
from bigrestore.io.drawn_inputs import open_mask
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section

ORIENTATIONS = tuple(range(1, 9))


def values(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Return random pixels."""
    return (np.random.default_rng(seed).random(shape) * 250).astype(dtype)


def as_pillow_shows(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn pixels by Pillow, which applies the orientation of EXIF."""
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def tag(orientation: int) -> list[Any]:
    """Return the tag Orientation for tifffile."""
    return [(274, 3, 1, orientation, True)]


def whole(section: Section, z: int = 0) -> NDArray[Any]:
    return section.read(z, 0, section.height, 0, section.width)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"tile": (32, 48), "compression": "deflate"},
        {"rowsperstrip": 7, "compression": "lzw"},
        {"rowsperstrip": 100, "compression": "zstd", "predictor": True},
    ],
    ids=["one-strip", "tiles", "strips", "one-packed-strip"],
)
def test_every_window_of_a_tiff_is_where_pillow_shows_it(
    tmp_path: Path, orientation: int, storage: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    for pixels in (values((100, 140)), values((100, 140, 3))):
        kind = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=kind, extratags=tag(orientation), metadata=None, **storage)
        section, shown = open_section(path), as_pillow_shows(pixels, orientation)
        assert section.shape[1:] == shown.shape[:2]
        np.testing.assert_array_equal(section.read(0, 13, 77, 40, 99), shown[13:77, 40:99])
        np.testing.assert_array_equal(whole(section), shown)


def test_pillow_opens_the_file_alike(tmp_path: Path) -> None:
    pixels = values((60, 90))
    for orientation in ORIENTATIONS:
        path = tmp_path / f"{orientation}.tif"
        Image.fromarray(pixels).save(path, tiffinfo={274: orientation}, compression="tiff_lzw")
        np.testing.assert_array_equal(whole(open_section(path)), np.asarray(Image.open(path)))


def test_a_turned_volume_and_its_voxels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stack = values((3, 60, 90), np.float32)
    resolution = {"resolution": (1e4 / 2, 1e4 / 3), "resolutionunit": 3}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack:
            writer.write(plane, extratags=tag(6), metadata=None, **resolution)
    with caplog.at_level(logging.INFO):
        section = open_section(tmp_path / "a.tif")
    assert "orientation 6: it is turned by 90 degrees clockwise" in caplog.text
    assert (section.shape, section.details["orientation"]) == ((3, 90, 60), 6)
    assert section.voxel_size_um == (None, 2.0, 3.0)
    np.testing.assert_array_equal(section.data.compute(), np.rot90(stack, -1, axes=(1, 2)))


def test_a_stated_position_of_turned_pixels_is_unknown(tmp_path: Path) -> None:
    place = {"PositionX": [5.0] * 2, "PositionY": [7.0] * 2, "PositionZ": [1.0, 2.0]}
    units = {f"Position{axis}Unit": ["µm"] * 2 for axis in "XYZ"}
    for orientation, known in ((1, 7.0), (3, None)):
        path = tmp_path / f"{orientation}.ome.tif"
        stated = {"axes": "ZYX", "Plane": place | units}
        tifffile.imwrite(path, values((2, 60, 90)), ome=True, metadata=stated, extratags=tag(orientation))
        assert open_section(path).translation_um[:2] == (1.0, known)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_levels_lie_over_one_another(tmp_path: Path, orientation: int) -> None:
    fine = values((123, 90))  # 123 = 30 * 4 + 3: the coarse level ends before the fine one
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for factor in (1, 4):
            page = fine[: 123 // factor * factor : factor, : 90 // factor * factor : factor]
            options = {"resolution": (1e4 / factor, 1e4 / factor), "resolutionunit": 3}
            writer.write(page, metadata=None, extratags=tag(orientation), **options)
    coarse = open_section(tmp_path / "a.tif", level=1)
    np.testing.assert_array_equal(whole(coarse), as_pillow_shows(fine[:120:4, :88:4], orientation))
    # The rows that no coarse pixel covers lie at the other end once they are reversed.
    rows, columns = (1.5, 1.5 + 3), (1.5, 1.5 + 2)
    exchanged = orientation in (5, 6, 7, 8)
    y, x = (columns, rows) if exchanged else (rows, columns)
    shown = (y[orientation in (3, 4, 7, 8)], x[orientation in (2, 3, 6, 7)])
    assert coarse.translation_um == (None, *shown)


def test_pages_turned_in_different_ways_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for orientation in (1, 1, 8, 1, 1):
            writer.write(values((60, 60)), metadata=None, extratags=tag(orientation))
    with pytest.raises(InputError, match="orientations 1, 8"):
        open_section(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_a_number_that_is_no_orientation_turns_nothing(tmp_path: Path, orientation: int) -> None:
    pixels = values((60, 90))
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None)
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, extratags=[(274, 3, 1, orientation, True)])
    assert raw != (tmp_path / "a.tif").read_bytes()
    np.testing.assert_array_equal(whole(open_section(tmp_path / "a.tif")), pixels)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "colour.png", "deep.png"])
def test_exif_is_applied(tmp_path: Path, orientation: int, name: str) -> None:
    path = tmp_path / name
    exif = Image.Exif()
    exif[274] = orientation
    if name == "deep.png":
        pixels = values((60, 90, 3), np.uint16)
        raw = bytes(imagecodecs.png_encode(pixels))
        path.write_bytes(raw[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + raw[33:])
        shown = np.stack([as_pillow_shows(pixels[..., c], orientation) for c in range(3)], axis=-1)
    else:
        pixels = values((60, 90, 3) if name == "colour.png" else (60, 90))
        Image.fromarray(pixels).save(path, exif=exif.tobytes())
        shown = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    section = open_section(path)
    assert section.shape[1:] == shown.shape[:2]
    np.testing.assert_array_equal(section.read(0, 3, 55, 7, 58), shown[3:55, 7:58])


@pytest.mark.parametrize("deep", [False, True])
def test_exif_behind_the_pixels_of_a_png_is_refused_with_a_command(tmp_path: Path, deep: bool) -> None:
    raw = bytes(imagecodecs.png_encode(values((60, 90, 3), np.uint16 if deep else np.uint8)))
    for orientation in (1, 8):
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f"{orientation}.png"
        path.write_bytes(raw[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + raw[-12:])
    assert whole(open_section(tmp_path / "1.png")).shape == (60, 90, 3)
    with pytest.raises(InputError, match=r"orientation 8 behind its pixels.*mogrify -auto-orient"):
        whole(open_section(tmp_path / "8.png"))


def test_damaged_exif_is_said_and_turns_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = values((60, 90))
    for number, content in enumerate((b"MM\0*\0\0\xff\xff", b"garbage", b"II*\0\x08\0\0\0\x05\0\x12\x01")):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", exif=b"Exif\0\0" + content)
        np.testing.assert_array_equal(whole(open_section(tmp_path / f"{number}.png")), pixels)
    assert "is damaged" in caplog.text
    assert "1.png" in caplog.text


def test_xmp_and_a_resolution_follow(tmp_path: Path) -> None:
    pixels = values((60, 90))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    Image.fromarray(pixels).save(tmp_path / "a.jpg", xmp=xmp, dpi=(25400, 12700), quality=100)
    section = open_section(tmp_path / "a.jpg")
    assert section.shape == (1, 90, 60)
    assert section.voxel_size_um == (None, pytest.approx(1.0, rel=1e-3), pytest.approx(2.0, rel=1e-3))


def test_a_mask_is_turned_as_the_image_is(tmp_path: Path) -> None:
    drawn = (values((60, 90)) > 120).astype(np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", drawn, extratags=tag(5), metadata=None)
    np.testing.assert_array_equal(whole(open_mask(tmp_path / "m.tif")), drawn.T)


def test_a_run_writes_what_is_shown(tmp_path: Path, call: Callable[..., int]) -> None:
    pixels = values((300, 260))
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=tag(8), metadata=None, tile=(64, 64))
    words = ("--method", "catmull-rom", "--mask", "none", "--no-report", "--progress", "none")
    assert call("run", tmp_path / "a.tif", tmp_path / "out.ome.zarr", *words) == 0
    written = zarr.open_array(tmp_path / "out.ome.zarr" / "0", mode="r")[:]
    np.testing.assert_array_equal(written, np.rot90(pixels))
