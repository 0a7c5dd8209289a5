"""An OME-TIFF that is one file of a set is read with the others beside it, or refused with the one that is missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.open_section import open_section

SHAPE = (120, 100)


def uuid(number: int) -> str:
    return f"urn:uuid:{number}0000000-0000-0000-0000-000000000000"


def planes(count: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """Return planes of noise, each of a level of its own."""
    noise = np.random.default_rng(0).integers(0, 40, (count, *SHAPE))
    return (noise + 40 * np.arange(count)[:, None, None]).astype(dtype)


def write_set(
    folder: Path,
    pixels: NDArray[Any],
    *,
    each: int = 1,
    channels: int = 1,
    prefix: str = "",
    levels: int = 0,
    **storage: Any,
) -> list[Path]:
    """Write planes to files of `each`, every one with the OME-XML of all; `prefix` stands before their names there."""
    count, files = len(pixels), []
    numbers = range(count // each)
    for first in numbers:
        data = "".join(
            f'<TiffData FirstZ="{n * each if channels == 1 else 0}" FirstC="{0 if channels == 1 else n}" IFD="0" '
            f'PlaneCount="{each}"><UUID FileName="{prefix}z{n}.ome.tif">{uuid(n)}</UUID></TiffData>'
            for n in numbers
        )
        named = "".join(f'<Channel ID="Channel:0:{n}" SamplesPerPixel="1"/>' for n in range(channels))
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid(first)}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            f'Type="{pixels.dtype}" SizeX="{SHAPE[1]}" SizeY="{SHAPE[0]}" SizeZ="{count // channels}" '
            f'SizeC="{channels}" SizeT="1">{named}{data}</Pixels></Image></OME>'
        )
        path = folder / f"z{first}.ome.tif"
        with tifffile.TiffWriter(path) as writer:
            for index in range(first * each, (first + 1) * each):
                described = {"description": xml.encode()} if index == first * each else {}
                writer.write(pixels[index], metadata=None, subifds=levels, **described, **storage)
                for level in range(1, levels + 1):
                    writer.write(
                        pixels[index][:: 2**level, :: 2**level], metadata=None, subfiletype=1, **storage
                    )
        files.append(path)
    return files


@pytest.mark.parametrize(
    ("dtype", "each", "storage"),
    [
        pytest.param(np.uint8, 1, {}, id="one-plane-each"),
        pytest.param(np.uint16, 2, {}, id="two-planes-each"),
        pytest.param(np.uint8, 1, {"compression": "deflate", "rowsperstrip": 16}, id="deflate"),
        pytest.param(np.uint16, 1, {"tile": (32, 48), "compression": "lzw"}, id="tiles"),
        pytest.param(np.uint8, 3, {"predictor": True, "compression": "deflate"}, id="predictor"),
    ],
)
def test_every_section_comes_from_its_own_file(
    tmp_path: Path, dtype: Any, each: int, storage: dict[str, Any]
) -> None:
    pixels = planes(6, dtype)
    files = write_set(tmp_path, pixels, each=each, **storage)
    for named in (files[0], files[-1]):
        np.testing.assert_array_equal(tifffile.imread(named), pixels)
        section = open_section(named)
        assert section.files[0] == named
        assert set(section.files) == set(files)
        np.testing.assert_array_equal(section.data.compute(), pixels)


def test_colours_in_a_file_each_and_pyramids_are_read(tmp_path: Path) -> None:
    colours = planes(3)
    write_set(tmp_path, colours, channels=3)
    section = open_section(tmp_path / "z1.ome.tif")
    assert (section.shape, section.channels) == ((1, *SHAPE), 3)
    np.testing.assert_array_equal(section.read(0, 0, 120, 0, 100), np.moveaxis(colours, 0, -1))
    stack = planes(4)
    write_set(tmp_path, stack, levels=1, tile=(32, 32), compression="deflate")
    section = open_section(tmp_path / "z2.ome.tif", level=1)
    assert section.shape == (4, 60, 50)
    np.testing.assert_array_equal(section.data.compute(), stack[:, ::2, ::2])


def test_a_run_restores_the_whole_set(tmp_path: Path, call: Callable[..., int]) -> None:
    files = write_set(tmp_path, planes(3), compression="deflate")
    out = tmp_path / "out.ome.zarr"
    words = ("--method", "catmull-rom", "--mask", "none", "--no-report", "--progress", "none")
    assert call("run", files[1], out, *words) == 0
    np.testing.assert_array_equal(zarr.open_array(out / "0", mode="r")[:], planes(3))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    files = write_set(tmp_path, planes(4))
    files[2].unlink()
    with pytest.raises(InputError, match=r"z2\.ome\.tif does not lie beside it; copy the whole set"):
        open_section(files[0])
    os.mkfifo(files[2])
    with pytest.raises(InputError, match=r"z2\.ome\.tif does not lie beside it"):
        open_section(files[0])


@pytest.mark.parametrize("prefix", ["../", "other/", "/tmp/", "C:\\scans\\"])
def test_files_of_other_folders_are_not_read(tmp_path: Path, prefix: str) -> None:
    files = write_set(tmp_path, planes(3), prefix=prefix)
    with pytest.raises(InputError, match="in another folder"):
        open_section(files[0])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(np.zeros((60, 50), np.uint8), id="size"),
        pytest.param(np.zeros(SHAPE, np.uint16), id="type"),
        pytest.param(np.zeros((*SHAPE, 3), np.uint8), id="colour"),
    ],
)
def test_a_file_of_another_kind_in_the_set_is_refused(tmp_path: Path, other: NDArray[Any]) -> None:
    files = write_set(tmp_path, planes(3))
    tifffile.imwrite(files[1], other)
    with pytest.raises(InputError, match=r"z1\.ome\.tif has pages of another size, type or storage"):
        open_section(files[0])


def test_a_file_that_was_cut_off_and_one_of_another_set_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_set(tmp_path, planes(3), compression="deflate")
    files[2].write_bytes(files[1].read_bytes())
    open_section(files[0])
    assert f"z2.ome.tif is of another set than {files[0]} says" in caplog.text
    files[2].write_bytes(files[2].read_bytes()[:-500])
    with pytest.raises(InputError, match=r"cut off|damaged|lacks a section"):
        open_section(files[0])


def test_a_file_that_changes_meanwhile_is_not_mixed_in(tmp_path: Path) -> None:
    files = write_set(tmp_path, planes(3), compression="deflate")
    section = open_section(files[0])
    before = [section.version(z, 0, 10, 0, 10) for z in range(3)]
    assert len(set(before)) == 3
    section.read(1, 0, 10, 0, 10)
    (tmp_path / "new").mkdir()
    write_set(tmp_path / "new", planes(3)[::-1], compression="deflate")[1].replace(files[1])
    with pytest.raises(InputError, match=r"z1\.ome\.tif was written to since .*z0\.ome\.tif"):
        section.read(1, 0, 10, 0, 10)
    assert section.version(1, 0, 10, 0, 10) != before[1]
    assert section.version(2, 0, 10, 0, 10) == before[2]


def test_a_set_behind_a_url_is_refused(tmp_path: Path, server: str) -> None:
    write_set(tmp_path, planes(3))
    with pytest.raises(InputError, match="copy them to one folder on a disk"):
        open_section(f"{server}/z0.ome.tif")


def test_a_file_described_elsewhere_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<BinaryOnly MetadataFile="all.companion.ome" UUID="{uuid(0)}"/></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", planes(1)[0], description=xml.encode(), metadata=None)
    with caplog.at_level(logging.WARNING):
        assert open_section(tmp_path / "a.ome.tif").shape == (1, *SHAPE)
    assert "all.companion.ome" in caplog.text
