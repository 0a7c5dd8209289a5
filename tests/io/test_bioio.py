"""Files that bioio reads: through a stand-in of it, because its readers are no dependency of the tests."""

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
    else:
        monkeypatch.setattr("bigrestore.io.formats.bioio.find_spec", lambda name: None)
    with pytest.raises(InputError, match=words) as info:
        open_section(tmp_path / "a.xyz")
    assert "\n" not in str(info.value)


def test_a_reader_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    install(monkeypatch, ValueError("bad\nheader"))
    with pytest.raises(InputError, match=r"a\.lif cannot be read by bioio \(.*bad"):
        open_section(file)
