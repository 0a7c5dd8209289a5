"""Files that bioio reads: through a stand-in of it, and files of Zeiss where their reader is installed."""

from __future__ import annotations

import importlib.machinery
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

from bigrestore.errors import InputError, UsageError
from bigrestore.io.open_section import open_section

Sizes = namedtuple("Sizes", "Z Y X")


class UnsupportedFileFormatError(Exception):
    """As bioio raises where no reader takes a file."""


def pixels_of(*shape: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 60000, shape).astype(dtype)


class StandIn:
    """What `bioio.BioImage` offers, over arrays by scene and resolution level."""

    def __init__(
        self, order: str, scenes: dict[str, list[NDArray[Any]]], names: list[str] | None = None
    ) -> None:
        self._scenes, self._scene, self._level = scenes, next(iter(scenes)), 0
        self.scenes, self.channel_names = tuple(scenes), names
        self.dims = SimpleNamespace(order=order)
        self.physical_pixel_sizes = Sizes(3.0, 0.5, 0.25)

    @property
    def resolution_levels(self) -> tuple[int, ...]:
        return tuple(range(len(self._scenes[self._scene])))

    @property
    def dask_data(self) -> da.Array:
        return da.from_array(self._scenes[self._scene][self._level], chunks=32)

    def set_scene(self, scene: str) -> None:
        self._scene, self._level = scene, 0

    def set_resolution_level(self, level: int) -> None:
        self._level = level


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.lif").write_bytes(b"\x70\0\0\0 and pixels")
    return tmp_path / "a.lif"


def install(monkeypatch: pytest.MonkeyPatch, image: Any) -> None:
    """Let `import bioio` find a stand-in that opens any file as `image`, or raises it."""
    module = ModuleType("bioio")
    module.__spec__ = importlib.machinery.ModuleSpec("bioio", None)

    def opened(_: Path) -> Any:
        if isinstance(image, Exception):
            raise image
        return image

    module.BioImage = opened  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bioio", module)


def test_a_channel_of_a_volume(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    pixels = pixels_of(1, 3, 4, 40, 50)
    install(monkeypatch, StandIn("TCZYX", {"one": [pixels]}, ["DAPI", "GFP", "Cy5"]))
    with pytest.raises(InputError, match=r"3 channels \(DAPI, GFP, Cy5\); .* --channel, from 0 to 2"):
        open_section(file)
    section = open_section(file, channel=1)
    assert (section.kind, section.shape, section.channels) == ("bioio", (4, 40, 50), 1)
    assert section.voxel_size_um == (3.0, 0.5, 0.25)
    np.testing.assert_array_equal(section.read(3, 2, 40, 7, 50), pixels[0, 1, 3, 2:, 7:])
    with pytest.raises(UsageError, match="--channel is 3"):
        open_section(file, channel=3)


def test_scenes_levels_and_colour(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    fine, coarse = (
        pixels_of(1, 1, 1, 40, 60, 3, dtype=np.uint8),
        pixels_of(1, 1, 1, 20, 30, 3, dtype=np.uint8),
    )
    small = pixels_of(1, 1, 1, 10, 12, 3, dtype=np.uint8)
    install(monkeypatch, StandIn("TCZYXS", {"slide": [fine, coarse], "label": [small]}))
    section = open_section(file)
    assert (section.channels, section.levels) == (3, ((1, 40, 60), (1, 20, 30)))
    np.testing.assert_array_equal(section.read(0, 0, 40, 0, 60), fine[0, 0, 0])
    np.testing.assert_array_equal(open_section(file, channel=2).read(0, 0, 40, 0, 60), fine[0, 0, 0, ..., 2])
    reduced = open_section(file, level=1)
    assert reduced.voxel_size_um == (3.0, 1.0, 0.5)
    np.testing.assert_array_equal(reduced.read(0, 0, 20, 0, 30), coarse[0, 0, 0])
    assert open_section(file, series=1).shape == (1, 10, 12)
    with pytest.raises(UsageError, match=r"--series is 2, but .* holds 2"):
        open_section(file, series=2)


@pytest.mark.parametrize(
    ("order", "shape", "words"),
    [("TCZYX", (5, 1, 1, 9, 9), "5 time points"), ("TZYXQ", (1, 1, 9, 9, 2), "the axes TZYXQ")],
)
def test_axes_that_are_not_restored(
    monkeypatch: pytest.MonkeyPatch, file: Path, order: str, shape: tuple[int, ...], words: str
) -> None:
    install(monkeypatch, StandIn(order, {"one": [pixels_of(*shape)]}))
    with pytest.raises(InputError, match=words):
        open_section(file)


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x70\0\0\0", r"a Leica file \(LIF\).* pip install '\S+\[bioio\]' bioio-lif"),
        (b"ZISRAWFILE", r"a Zeiss file \(CZI\).* pip install '\S+\[bioio\]' bioio-czi"),
        (b"nobody knows", r"of no kind that is read.* pip install '\S+\[bioio\]' bioio-lif, or another"),
    ],
)
def test_a_reader_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, head: bytes, words: str, installed: bool
) -> None:
    (tmp_path / "a.xyz").write_bytes(head + bytes(400))
    if installed:
        install(monkeypatch, UnsupportedFileFormatError("no reader"))
    there = ("bioio",) if installed else ()
    monkeypatch.setattr("bigrestore.io.formats.bioio.find_spec", lambda name: name in there or None)
    with pytest.raises(InputError, match=words) as info:
        open_section(tmp_path / "a.xyz")
    assert "\n" not in str(info.value)


def test_a_reader_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    install(monkeypatch, ValueError("bad\nheader"))
    with pytest.raises(InputError, match=r"a\.lif cannot be read by bioio \(.*bad"):
        open_section(file)


def test_a_chunk_is_decoded_once(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    plane = pixels_of(96, 80)
    decoded: list[tuple[int, int]] = []

    def chunk(block_info: Any = None) -> NDArray[Any]:
        (top, bottom), (left, right) = block_info[None]["array-location"][-2:]
        decoded.append((top, left))
        return plane[None, None, None, top:bottom, left:right]

    image = StandIn("TCZYX", {"one": [plane[None, None, None]]})
    lazy = da.map_blocks(chunk, chunks=((1,), (1,), (1,), (40, 40, 16), (50, 30)), dtype=plane.dtype)
    monkeypatch.setattr(StandIn, "dask_data", lazy)
    install(monkeypatch, image)
    section = open_section(file)
    for y0, y1, x0, x1 in [(0, 96, 0, 80), (39, 41, 49, 51), (80, 96, 0, 3), (5, 6, 79, 80)]:
        np.testing.assert_array_equal(section.read(0, y0, y1, x0, x1), plane[y0:y1, x0:x1])
    assert sorted(decoded) == [(y, x) for y in (0, 40, 80) for x in (0, 50)]


def test_channels_of_colour_are_refused(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    install(monkeypatch, StandIn("TCZYXS", {"one": [pixels_of(1, 2, 1, 9, 9, 3, dtype=np.uint8)]}))
    with pytest.raises(InputError, match="2 channels of 3 colours each"):
        open_section(file)


def test_a_damaged_file_of_an_installed_reader_is_no_matter_of_installing(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    install(monkeypatch, UnsupportedFileFormatError("no reader"))
    monkeypatch.setattr("bigrestore.io.formats.bioio.find_spec", lambda name: name in ("bioio", "bioio_lif"))
    with pytest.raises(InputError, match=r"a\.lif cannot be read by bioio-lif, .* damaged, so copy it again"):
        open_section(file)


@pytest.fixture(scope="module")
def czi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of files written by Zeiss's library, where it and the reader are installed."""
    pytest.importorskip("bioio_czi")
    writer = pytest.importorskip("pylibCZIrw.czi")
    folder = tmp_path_factory.mktemp("czi")
    plane = pixels_of(70, 90, dtype=np.uint8)
    with writer.create_czi(str(folder / "grey.czi")) as document:
        for x in (0, 45):  # two tiles side by side
            document.write(plane[:, x : x + 45, None], plane={"C": 0}, location=(x, 0))
        document.write_metadata("grey", scale_x=0.5e-6, scale_y=0.5e-6)
    with writer.create_czi(str(folder / "volume.czi")) as document:
        for z, c in np.ndindex(3, 2):
            values = plane.astype(np.uint16) * 100 + z + 10 * c
            document.write(values[..., None], plane={"C": c, "Z": z})
        document.write_metadata("volume", channel_names={0: "DAPI", 1: "GFP"}, scale_z=2e-6)
    with writer.create_czi(str(folder / "colour.czi")) as document:  # blue first, as Zeiss's files are
        document.write(np.stack([plane, plane // 2, 255 - plane], -1), plane={"C": 0})
    return folder


def test_files_of_zeiss(czi: Path) -> None:
    plane = pixels_of(70, 90, dtype=np.uint8)
    grey = open_section(czi / "grey.czi")
    assert (grey.kind, grey.shape, grey.voxel_size_um) == ("bioio", (1, 70, 90), (None, 0.5, 0.5))
    np.testing.assert_array_equal(grey.read(0, 5, 70, 30, 90), plane[5:, 30:])
    with pytest.raises(InputError, match=r"2 channels \(DAPI, GFP\)"):
        open_section(czi / "volume.czi")
    volume = open_section(czi / "volume.czi", channel=1)
    assert volume.shape == (3, 70, 90)
    np.testing.assert_array_equal(volume.read(2, 0, 70, 0, 90), plane.astype(np.uint16) * 100 + 12)


def test_colour_of_zeiss_is_red_first(czi: Path) -> None:
    plane = pixels_of(70, 90, dtype=np.uint8)
    red_first = np.stack([255 - plane, plane // 2, plane], -1)
    section = open_section(czi / "colour.czi")
    assert section.channels == 3
    np.testing.assert_array_equal(section.read(0, 3, 60, 4, 80), red_first[3:60, 4:80])
    for channel in range(3):
        alone = open_section(czi / "colour.czi", channel=channel)
        np.testing.assert_array_equal(alone.read(0, 0, 70, 0, 90), red_first[..., channel])
