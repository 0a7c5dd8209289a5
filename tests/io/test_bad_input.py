"""Guards the sentences: whatever is wrong with an input, the user is told what and what to do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bigrestore.core import regular
from bigrestore.errors import InputError, InputMissingError, UsageError
from bigrestore.io.decoded import Decoded
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section


def one_sentence(error: pytest.ExceptionInfo[Any]) -> bool:
    """Tell whether a message is a sentence for people."""
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and "Traceback" not in text


def test_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="does not exist") as error:
        open_section(tmp_path / "absent.tif")
    assert one_sentence(error)
    assert error.value.exit_code == 3
    assert isinstance(error.value, FileNotFoundError)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.mnc", "a.nii"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="is empty") as error:
        open_section(tmp_path / name)
    assert one_sentence(error)


@pytest.mark.parametrize(
    "start",
    [
        b"II*\0",
        b"MM\0+",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"\x89HDF\r\n\x1a\n",
        b"\x1f\x8b\x08",
        b"hello",
    ],
)
def test_a_file_that_only_begins_like_an_image(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a").write_bytes(start + b"\x07" * 600)
    with pytest.raises(InputError) as error:
        open_section(tmp_path / "a")
    assert one_sentence(error)
    assert str(tmp_path / "a") in str(error.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")

    def refuse(path: Path, mode: str) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(regular, "open", refuse, raising=False)
    with pytest.raises(InputError, match="may not be read") as error:
        open_section(tmp_path / "a.png")
    assert one_sentence(error)


def test_a_directory_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="neither a Zarr store nor") as error:
        open_section(tmp_path)
    assert one_sentence(error)


def test_an_empty_group(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "g")
    with pytest.raises(InputError, match="without an image"):
        open_section(tmp_path / "g")


def test_damaged_metadata(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="not a readable Zarr store"):
        open_section(tmp_path)
    (tmp_path / "zarr.json").write_text(
        json.dumps(
            {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"multiscales": [{"axes": 3}]}}}
        )
    )
    with pytest.raises(InputError, match="damaged"):
        open_section(tmp_path)


@pytest.mark.parametrize("dtype", ["complex64", "float64", "int16", "bool", "uint64"])
def test_a_dtype_that_is_not_read_names_the_conversion(tmp_path: Path, dtype: str) -> None:
    zarr.create_array(tmp_path / "a", data=np.ones((9, 9), dtype))
    with pytest.raises(InputError, match=f"holds {dtype} pixels.*: .+") as error:
        open_section(tmp_path / "a")
    assert one_sentence(error)


def test_a_complex_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.complex64))
    with pytest.raises(InputError, match="magnitude"):
        open_section(tmp_path / "a.tif")


def test_zero_size(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(0, 9), chunks=(1, 1), dtype="uint8")
    with pytest.raises(InputError, match="no pixels"):
        open_section(tmp_path / "a")


def test_one_axis_is_no_image(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", data=np.zeros(9, np.uint8))
    with pytest.raises(InputError, match="two \\(yx\\) to five axes"):
        open_section(tmp_path / "a")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_is_named_and_not_replaced(tmp_path: Path, bad: float) -> None:
    pixels = np.zeros((3, 50, 60), np.float32)
    pixels[2, 41, 17] = bad
    zarr.create_array(tmp_path / "a", data=pixels)
    section = open_section(tmp_path / "a")
    assert section.read(2, 0, 41, 0, 60).max() == 0
    with pytest.raises(InputError, match=r"z=2, y=41, x=17.*numpy\.nan_to_num") as error:
        section.read(2, 30, 50, 10, 60)
    assert one_sentence(error)


def test_a_damaged_chunk_is_named_when_it_is_read(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a", data=np.random.default_rng(0).random((64, 64), dtype=np.float32), chunks=(32, 32)
    )
    chunk = tmp_path / "a" / "c" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-50])
    section = open_section(tmp_path / "a")
    section.read(0, 0, 32, 0, 64)
    with pytest.raises(InputError, match="z=0, y=40:50, x=40:50 cannot be decoded") as error:
        section.read(0, 40, 50, 40, 50)
    assert one_sentence(error)


@pytest.mark.parametrize("window", [(1, 0, 1, 0, 1), (0, -1, 5, 0, 5), (0, 0, 5, 0, 61), (0, 5, 5, 0, 5)])
def test_a_window_outside_is_refused(tmp_path: Path, window: Any) -> None:
    zarr.create_array(tmp_path / "a", data=np.zeros((50, 60), np.uint8))
    with pytest.raises(UsageError, match="does not lie inside"):
        open_section(tmp_path / "a").read(*window)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 4}, "choose --level from 0 to 0"),
        ({"level": -1}, "choose --level"),
        ({"voxel_size_um": 0}, "not positive"),
        ({"voxel_size_um": (1, float("nan"))}, "not positive"),
        ({"voxel_size_um": (1, 2, 3, 4)}, "4 numbers"),
        ({"input_range": (5, 5)}, "is empty"),
        ({"input_range": (0, float("inf"))}, "is empty"),
    ],
)
def test_absurd_arguments(tmp_path: Path, options: Any, words: str) -> None:
    zarr.create_array(tmp_path / "a", data=np.zeros((50, 60), np.uint8))
    with pytest.raises(UsageError, match=words) as error:
        open_section(tmp_path / "a", **options)
    assert one_sentence(error)


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "zip://a::http://127.0.0.1:9/b", "memory://a", "nosuch://a/b"]
)
def test_a_url_of_no_server_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"is no place|is not understood") as error:
        open_section(url)
    assert one_sentence(error)


def test_the_range_comes_from_the_dtype_and_never_from_the_data(tmp_path: Path) -> None:
    for dtype, top in ((np.uint8, 255.0), (np.uint16, 65535.0), (np.float32, 1.0)):
        name = np.dtype(dtype).name
        zarr.create_array(tmp_path / name, data=np.zeros((9, 9), dtype))
        assert open_section(tmp_path / name).value_range == (0.0, top)
    assert open_section(tmp_path / "uint16", input_range=(0, 4095)).value_range == (0.0, 4095.0)


def test_the_fingerprint_changes_with_pixels_size_and_range(tmp_path: Path) -> None:
    pixels = np.zeros((600, 600), np.uint8)
    for name in ("a", "b"):
        zarr.create_array(tmp_path / name, data=pixels, chunks=(100, 100))
    first = open_section(tmp_path / "a").fingerprint()
    assert json.loads(json.dumps(first)) == first
    assert open_section(tmp_path / "a").fingerprint() == first
    assert open_section(tmp_path / "a", input_range=(0, 100)).fingerprint() != first
    array: Any = zarr.open_array(tmp_path / "a", mode="r+")
    array[310, 300] = 1
    assert open_section(tmp_path / "a").fingerprint()["windows_blake2b"] != first["windows_blake2b"]


@pytest.mark.parametrize(("shape", "windows"), [((9, 256), 1), ((300, 9), 3), ((400, 500), 9)])
def test_a_fingerprint_reads_no_window_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], windows: int
) -> None:
    zarr.create_array(tmp_path / "a", data=np.zeros(shape, np.uint8))
    section, read, places = open_section(tmp_path / "a"), Section.read, []
    monkeypatch.setattr(Section, "read", lambda self, *place: places.append(place) or read(self, *place))
    assert len(section.fingerprint()["windows_blake2b"]) == 9
    assert len(places) == len(set(places)) == windows


def test_many_threads_decode_once_and_read_alike(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), compression="deflate")
    section = open_section(tmp_path / "a.tif")
    windows = [(y, x) for y in range(0, 200, 13) for x in range(0, 200, 17)]
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda w: section.read(0, w[0], w[0] + 50, w[1], w[1] + 50), windows))
    for (y, x), window in zip(windows, parts, strict=True):
        np.testing.assert_array_equal(window, pixels[y : y + 50, x : x + 50])


def test_the_cache_keeps_its_budget_and_forgets_failures() -> None:
    cache: Decoded[str] = Decoded(3)
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        if name == "bad" and made.count("bad") == 1:
            raise ValueError(name)
        return name

    for name in "abcd":
        cache.get(name, lambda name=name: make(name), 1)
    cache.get("d", lambda: make("d"), 1)
    assert made == list("abcd")
    cache.get("a", lambda: make("a"), 1)
    assert made == [*"abcd", "a"], "the oldest was kept beyond the budget"
    with pytest.raises(ValueError, match="bad"):
        cache.get("bad", lambda: make("bad"), 1)
    assert cache.get("bad", lambda: make("bad"), 1) == "bad"
