"""Guards TIFF decoded as a whole, segments in the wrong place, lost units, and pyramids that readers refuse."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import ome_types
import pytest
import tifffile
from numpy.typing import NDArray

from bigrestore.errors import DiskFullError, InputError, OutputError, StoppedError
from bigrestore.io.formats.tiff.metadata import ome_voxel_size
from bigrestore.io.open_section import open_section
from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.store.tiff import write_pyramidal_tiff

LAYOUTS = [
    {"tile": (64, 80)},
    {"rowsperstrip": 16},
    {"rowsperstrip": 1000},
]
SHAPES = [
    pytest.param((151, 207), False, id="grey"),
    pytest.param((3, 151, 207), False, id="stack"),
    pytest.param((151, 207, 3), True, id="rgb"),
    pytest.param((2, 151, 207, 3), True, id="rgb-stack"),
]


def values(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> NDArray[Any]:
    """Return random pixels."""
    return (np.random.default_rng(seed).random(shape) * (1 if np.dtype(dtype).kind == "f" else 250)).astype(
        dtype
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=["tiled", "strips", "one-strip"])
@pytest.mark.parametrize(("shape", "rgb"), SHAPES)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_every_window_is_where_it_was_written(
    tmp_path: Path, shape: tuple[int, ...], rgb: bool, layout: dict[str, Any], compression: str | None
) -> None:
    for dtype in (np.uint8, np.uint16) if rgb else (np.uint16, np.float32):
        for byteorder, planar in (("<", None), (">", None), (">", "separate")):
            if planar and not rgb:
                continue
            pixels = values(shape, dtype)
            stored = np.moveaxis(pixels, -1, -3) if planar else pixels
            tifffile.imwrite(
                tmp_path / "a.tif",
                stored,
                byteorder=byteorder,
                bigtiff=byteorder == ">",
                compression=compression,
                predictor=compression is not None,
                planarconfig=planar,
                photometric="rgb" if rgb else "minisblack",
                **layout,
            )
            section = open_section(tmp_path / "a.tif")
            whole = pixels if len(shape) == 3 + rgb else pixels[np.newaxis]
            assert (section.shape, section.channels) == (whole.shape[:3], 3 if rgb else 1)
            window = section.read(section.depth - 1, 60, 140, 75, 200)
            assert window.dtype == np.dtype(dtype)
            assert window.dtype.isnative
            np.testing.assert_array_equal(window, whole[-1, 60:140, 75:200])


def count_segments(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the tiles and strips that are decoded from here on."""
    from bigrestore.io.formats.tiff import pixels as tiff_pixels

    decoded: list[int] = []
    original = tiff_pixels.Plane._decode

    def counting(self: Any, page: Any, index: int) -> Any:
        decoded.append(index)
        return original(self, page, index)

    monkeypatch.setattr(tiff_pixels.Plane, "_decode", counting)
    return decoded


def test_a_window_decodes_only_the_tiles_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values((640, 640), np.uint8), tile=(64, 64), compression="deflate")
    section = open_section(tmp_path / "a.tif")
    decoded = count_segments(monkeypatch)
    section.read(0, 60, 70, 130, 190)
    assert sorted(decoded) == [2, 12]
    section.read(0, 64, 128, 130, 190)
    assert sorted(decoded) == [2, 12], "a tile that was just decoded is decoded again"


def test_a_tiled_file_of_any_size_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tifffile.TiffWriter(tmp_path / "big.tif", bigtiff=True) as writer:
        encoded = imagecodecs.zstd_encode(np.full((1024, 1024), 9, np.uint8))
        tiles = (encoded for _ in range(40 * 40))
        writer.write(
            tiles, shape=(40000, 40000), dtype=np.uint8, tile=(1024, 1024), compression="zstd", metadata=None
        )
    section = open_section(tmp_path / "big.tif")
    assert section.shape == (1, 40000, 40000)
    assert section.resident_bytes <= 64 * 2**20
    decoded = count_segments(monkeypatch)
    assert (section.read(0, 39990, 40000, 30000, 40000) == 9).all()
    assert len(decoded) == 11


def test_one_compressed_strip_is_decoded_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = values((300, 200), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="deflate", rowsperstrip=300)
    section = open_section(tmp_path / "a.tif")
    decoded = count_segments(monkeypatch)
    for y in range(0, 300, 50):
        np.testing.assert_array_equal(section.read(0, y, y + 50, 0, 200), pixels[y : y + 50])
    assert decoded == [0]
    assert section.resident_bytes == 300 * 200 * 2


def test_an_uncompressed_strip_is_mapped_and_costs_no_memory(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values((300, 200), np.uint16))
    assert open_section(tmp_path / "a.tif").resident_bytes == 0


def test_plain_pages_at_1_4_16_and_64_um_are_a_pyramid(tmp_path: Path) -> None:
    fine = values((1603, 1207), np.uint8)
    with tifffile.TiffWriter(tmp_path / "B20_0001.tif", bigtiff=True) as writer:
        for factor in (1, 4, 16, 64):
            page = fine[: 1603 // factor * factor : factor, : 1207 // factor * factor : factor]
            writer.write(
                page,
                tile=(64, 64),
                resolution=(10000 / factor, 10000 / factor),
                resolutionunit=3,
                metadata=None,
            )
    section = open_section(tmp_path / "B20_0001.tif")
    assert not section.is_volume
    assert [shape[1] for shape in section.levels] == [1603, 400, 100, 25]
    assert section.voxel_size_um == (None, 1.0, 1.0)
    coarse = open_section(tmp_path / "B20_0001.tif", level=2)
    assert coarse.voxel_size_um == (None, 16.0, 16.0)
    assert coarse.translation_um == (None, 7.5, 7.5)
    np.testing.assert_array_equal(coarse.read(0, 0, 100, 0, 75), fine[:1600:16, :1200:16])


def test_thumbnail_comes_from_the_smallest_level_that_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = np.full((1024, 1024), 90, np.uint8)
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(fine, tile=(64, 64), compression="deflate", subifds=2, metadata=None)
        writer.write(fine[::2, ::2], tile=(64, 64), compression="deflate", subfiletype=1, metadata=None)
        writer.write(fine[::4, ::4], tile=(64, 64), compression="deflate", subfiletype=1, metadata=None)
    section = open_section(tmp_path / "p.tif")
    decoded = count_segments(monkeypatch)
    thumbnail, factor = section.lowres(0, 200)
    assert (thumbnail.shape, factor) == ((128, 128), 8.0)
    assert (thumbnail == 90).all()
    assert len(decoded) == 16


def test_other_images_in_the_file_do_not_become_sections(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values((300, 200), np.uint8), metadata=None)
        writer.write(values((90, 190), np.uint8), metadata=None)
    assert open_section(tmp_path / "a.tif").levels == ((1, 300, 200),)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (300, 300), "resolutionunit": 2}, (None, None, None)),
        ({"resolution": (1, 1), "resolutionunit": 1}, (None, None, None)),
        ({"resolution": (5000, 2500), "resolutionunit": 3}, (None, 4.0, 2.0)),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um", "spacing": 3}}, (3.0, 0.25, 0.5)),
        (
            {
                "ome": True,
                "metadata": {
                    "PhysicalSizeX": 500,
                    "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeY": 0.25,
                    "PhysicalSizeZ": 0.02,
                    "PhysicalSizeZUnit": "mm",
                },
            },
            (20.0, 0.25, 0.5),
        ),
    ],
    ids=["printer-default", "no-unit", "centimetre", "imagej", "ome"],
)
def test_voxel_size_from_wherever_it_is_stated(
    tmp_path: Path, options: dict[str, Any], expected: Any
) -> None:
    pixels = values((4, 60, 50), np.uint8)
    metadata = {"axes": "ZYX", **options.pop("metadata", {})}
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=metadata, photometric="minisblack", **options)
    section = open_section(tmp_path / "a.tif")
    assert section.voxel_size_um == (pytest.approx(expected) if None not in expected else expected)
    np.testing.assert_array_equal(section.data.compute(), pixels)
    override = open_section(tmp_path / "a.tif", voxel_size_um=(None, 7.0, 7.0))
    assert override.voxel_size_um == (section.voxel_size_um[0], 7.0, 7.0)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("0.4990|Filename = 1", 0.499), (".5", 0.5), ("2.", 2.0), ("1.2.3", None), ("..", None), ("0", None)],
)
def test_the_scanners_own_pixel_size_counts_only_where_it_is_a_number(
    tmp_path: Path, stated: str, expected: float | None
) -> None:
    text = f"Aperio Image Library|AppMag = 20|MPP = {stated}"
    tifffile.imwrite(tmp_path / "a.tif", values((60, 50), np.uint8), description=text, metadata=None)
    assert open_section(tmp_path / "a.tif").voxel_size_um == (None, expected, expected)


def test_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.full((20, 20), 5, np.uint8), photometric="miniswhite", compression="deflate"
    )
    assert (open_section(tmp_path / "a.tif").read(0, 0, 20, 0, 20) == 250).all()


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = values((20, 30, 4), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(open_section(tmp_path / "a.tif").read(0, 0, 20, 0, 30), pixels[..., :3])


def test_jpeg_tiles_decode(tmp_path: Path) -> None:
    yy, xx = np.mgrid[:128, :160]
    pixels = np.stack([yy, xx, (yy + xx) // 2], -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(64, 64), compression="jpeg")
    window = open_section(tmp_path / "a.tif").read(0, 0, 128, 0, 160)
    np.testing.assert_array_equal(window, tifffile.imread(tmp_path / "a.tif"))
    assert np.abs(window.astype(int) - pixels).mean() < 3


def test_time_points_and_palettes_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", values((4, 60, 50), np.uint8), ome=True, metadata={"axes": "TYX"})
    with pytest.raises(InputError, match="time points"):
        open_section(tmp_path / "t.tif")
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", values((60, 50), np.uint8), photometric="palette", colormap=colours)
    with pytest.raises(InputError, match="palette"):
        open_section(tmp_path / "p.tif")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_file_that_was_cut_off_is_refused_at_opening(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values((600, 500), np.uint8), compression=compression, metadata=None)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cut off"):
        open_section(path)


# --- writing -----------------------------------------------------------------------------------


def finished_store(path: Path, spec: StoreSpec) -> NDArray[Any]:
    """Write a finished store of random pixels and return them."""
    pixels = values((*spec.shape, 3) if spec.channels == 3 else spec.shape, spec.dtype)
    create_store(path, spec)
    array = open_level(path, 0)
    for z in range(spec.shape[0]):
        write_block(array, z, 0, 0, pixels[z])
    build_pyramid(path, spec)
    finish_store(path, spec, (0, 255), {})
    return pixels


@pytest.mark.parametrize(
    ("shape", "dtype", "channels", "is_volume"),
    [
        pytest.param((1, 1203, 701), np.uint8, 1, False, id="grey-uint8"),
        pytest.param((1, 603, 701), np.uint16, 3, False, id="rgb-uint16"),
        pytest.param((3, 603, 701), np.float32, 1, True, id="volume-float32"),
        pytest.param((3, 603, 51), np.uint8, 3, True, id="volume-rgb"),
    ],
)
def test_output_tiff_is_what_ome_and_tifffile_expect(
    tmp_path: Path, shape: tuple[int, int, int], dtype: Any, channels: int, is_volume: bool
) -> None:
    spec = StoreSpec(
        shape,
        dtype,
        channels,
        voxel_size_um=(20.0, 21.25, 21.5),
        translation_um=(-100.0, 3.0, None),
        is_volume=is_volume,
    )
    pixels = finished_store(tmp_path / "s", spec)
    path = tmp_path / "o.ome.tif"
    write_pyramidal_tiff(tmp_path / "s", path, spec, {"version": "1", "scale": 1})
    assert not (tmp_path / "o.ome.tif.partial").exists()

    ome = ome_types.from_tiff(path)
    stated = ome.images[0].pixels
    assert (stated.size_z, stated.size_y, stated.size_x) == shape
    assert (stated.physical_size_x, stated.physical_size_y, stated.physical_size_z) == (21.5, 21.25, 20.0)
    assert stated.physical_size_x_unit.value == "\u00b5m"
    assert [plane.position_y for plane in stated.planes] == [3.0] * shape[0]
    assert '"version": "1"' in str(ome.structured_annotations)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.is_ome
        assert len(file.series) == 1
        levels = file.series[0].levels
        assert all(level.keyframe.is_tiled and level.keyframe.tilewidth == 512 for level in levels)
        np.testing.assert_array_equal(np.squeeze(levels[0].asarray()), np.squeeze(pixels))
        coarsest = levels[-1].shape[levels[-1].axes.index("Y")]
        assert coarsest == -(-shape[1] // 2 ** (len(levels) - 1))

    section = open_section(path)
    assert section.voxel_size_um == (20.0, 21.25, 21.5)
    for level in range(1, len(section.levels)):
        if is_volume:  # the store halves z as well, so only the sizes can be compared
            assert section.levels[level][0] == shape[0]
            continue
        mine, store = open_section(path, level=level), open_section(tmp_path / "s", level=level)
        assert mine.voxel_size_um[1:] == store.voxel_size_um[1:]
        np.testing.assert_array_equal(mine.data.compute(), store.data.compute())


@pytest.mark.parametrize(
    ("shape", "dtype", "channels"),
    [
        pytest.param((1, 1203, 701), np.uint8, 1, id="grey"),
        pytest.param((1, 1103, 701), np.uint8, 3, id="rgb"),
        pytest.param((1, 1103, 701), np.uint16, 3, id="rgb-uint16"),
        pytest.param((3, 603, 701), np.uint8, 1, id="volume"),
        pytest.param((1, 1, 1), np.uint8, 1, id="pixel"),
    ],
)
def test_viewers_see_the_name_the_channel_and_every_level(
    tmp_path: Path, shape: tuple[int, int, int], dtype: Any, channels: int
) -> None:
    spec = StoreSpec(shape, dtype, channels, is_volume=shape[0] > 1, voxel_size_um=(None, 1.5, 1.25))
    pixels = finished_store(tmp_path / "s", spec)
    path = tmp_path / "o.ome.tif"
    write_pyramidal_tiff(tmp_path / "s", path, spec, {}, name="pm <3>", channel="restored")
    image = ome_types.from_tiff(path).images[0]
    assert image.name == "pm <3>"
    assert [channel.name for channel in image.pixels.channels] == ["restored" if channels == 1 else "RGB"]
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        offsets = [level.keyframe.offset for level in levels]
        # OME readers follow SubIFDs, and OpenSlide the pages: of one section both lead to the same levels.
        assert len(file.series) == 1
        assert [page.offset for page in file.pages] == offsets if shape[0] == 1 else len(file.pages) == 3
        reduced = [page.aspage().is_reduced for page in file.pages]
        assert reduced == [shape[0] == 1 and number > 0 for number in range(len(reduced))]
        np.testing.assert_array_equal(np.squeeze(file.asarray()), np.squeeze(pixels))
    assert len(open_section(path).levels) == len(offsets)


def test_openslide_sees_the_pyramid(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    spec = StoreSpec((1, 1103, 701), np.uint8, 3, voxel_size_um=(None, 1.5, 1.25))
    pixels = finished_store(tmp_path / "s", spec)
    write_pyramidal_tiff(tmp_path / "s", tmp_path / "o.ome.tif", spec, {})
    with openslide.OpenSlide(tmp_path / "o.ome.tif") as slide:
        assert slide.level_dimensions == ((701, 1103), (351, 552), (176, 276))
        assert (float(slide.properties["openslide.mpp-x"]), float(slide.properties["openslide.mpp-y"])) == (
            1.25,
            1.5,
        )
        np.testing.assert_array_equal(
            np.asarray(slide.read_region((40, 500), 0, (300, 200)))[..., :3], pixels[0, 500:700, 40:340]
        )


def test_the_same_store_gives_the_same_tiff(tmp_path: Path) -> None:
    spec = StoreSpec((1, 700, 600), np.uint8)
    finished_store(tmp_path / "s", spec)
    for name in ("a.tif", "b.tif"):
        write_pyramidal_tiff(tmp_path / "s", tmp_path / name, spec, {"x": 1}, workers=2)
    first, second = (hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("a.tif", "b.tif"))
    assert first == second


def test_a_tiff_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    spec = StoreSpec((1, 50, 50), np.uint8)
    finished_store(tmp_path / "s", spec)
    with pytest.raises(OutputError, match="cannot be written"):
        write_pyramidal_tiff(tmp_path / "s", tmp_path / "absent" / "o.tif", spec, {})


def test_a_full_disk_is_said_and_leaves_no_part_of_a_tiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = StoreSpec((1, 1300, 900), np.uint8)
    finished_store(tmp_path / "s", spec)
    written = 0
    original = tifffile.FileHandle.write

    def fill(self: Any, data: Any, /) -> int:
        nonlocal written
        written += len(data)
        if written > 400_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(tifffile.FileHandle, "write", fill)
    with pytest.raises(DiskFullError, match=r"o\.tif cannot be written.*free space.*--resume\.$"):
        write_pyramidal_tiff(tmp_path / "s", tmp_path / "o.tif", spec, {})
    assert [item.name for item in tmp_path.iterdir()] == ["s"]


def test_a_signal_while_a_tiff_is_written_ends_it_in_the_calling_thread(tmp_path: Path) -> None:
    spec = StoreSpec((1, 1300, 900), np.uint8)
    finished_store(tmp_path / "s", spec)
    seen: list[str] = []

    def check() -> None:
        seen.append(threading.current_thread().name)
        if len(seen) == 4:
            raise StoppedError("Stopped.")

    with pytest.raises(StoppedError):
        write_pyramidal_tiff(tmp_path / "s", tmp_path / "o.tif", spec, {}, workers=2, check=check)
    assert seen == [threading.current_thread().name] * 4
    assert [item.name for item in tmp_path.iterdir()] == ["s"]


# --- where the image lies ----------------------------------------------------------------------


def test_position_of_our_own_tiff_comes_back_at_every_level(tmp_path: Path) -> None:
    spec = StoreSpec(
        (1, 1203, 701), np.uint8, voxel_size_um=(None, 2.0, 1.5), translation_um=(None, -300.5, 1e5)
    )
    finished_store(tmp_path / "s", spec)
    write_pyramidal_tiff(tmp_path / "s", tmp_path / "o.ome.tif", spec, {})
    for level in range(len(open_section(tmp_path / "o.ome.tif").levels)):
        mine, store = (open_section(tmp_path / name, level=level) for name in ("o.ome.tif", "s"))
        assert mine.translation_um == pytest.approx(store.translation_um)
        assert mine.voxel_size_um == store.voxel_size_um
    assert open_section(tmp_path / "o.ome.tif").translation_um == (None, -300.5, 1e5)


def test_position_of_a_volume_is_that_of_its_first_section(tmp_path: Path) -> None:
    spec = StoreSpec(
        (3, 60, 50),
        np.uint8,
        voxel_size_um=(20.0, 2.0, 2.0),
        translation_um=(-70010.0, 4.0, 5.0),
        is_volume=True,
    )
    finished_store(tmp_path / "s", spec)
    write_pyramidal_tiff(tmp_path / "s", tmp_path / "o.ome.tif", spec, {})
    assert open_section(tmp_path / "o.ome.tif").translation_um == (-70010.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        ({"PositionX": 3.0, "PositionXUnit": "mm"}, (None, None, 3000.0)),
        ({"PositionX": 3.0}, (None, None, None)),  # the schema's "reference frame"
        ({"PositionX": 3.0, "PositionXUnit": "pixel"}, (None, None, None)),
        (
            {"PositionX": float("nan"), "PositionXUnit": "mm", "PositionY": 2, "PositionYUnit": "nm"},
            (None, 0.002, None),
        ),
    ],
    ids=["millimetre", "no-unit", "pixel", "nan"],
)
def test_a_position_counts_only_with_a_unit_of_length(
    tmp_path: Path, plane: dict[str, Any], expected: Any
) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", values((60, 50), np.uint8), metadata={"axes": "YX", "Plane": plane}
    )
    assert open_section(tmp_path / "a.ome.tif").translation_um == pytest.approx(expected)


@pytest.mark.parametrize("size", ["inf", "nan", "wide", "-2", "0"])
def test_an_absurd_size_in_the_ome_xml_is_unknown(size: str) -> None:
    xml = f'<OME><Image><Pixels PhysicalSizeX="{size}" PhysicalSizeY="2"/></Image></OME>'
    assert ome_voxel_size(xml) == (None, 2.0, None)
