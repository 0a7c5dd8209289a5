"""Guards Zarr inputs read along wrong axes, in wrong units, or with more chunks than the window needs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from bigrestore.core.retry import transient
from bigrestore.errors import InputError
from bigrestore.io.access.tree_store import TreeStore
from bigrestore.io.open_section import open_section


def ome_store(path: Path, pixels: Any, axes: list[Any], version: str, **multiscale: Any) -> None:
    """Write a foreign OME-Zarr image of one level."""
    fmt = 3 if version == "0.5" else 2
    group = zarr.create_group(path, zarr_format=fmt)
    chunks = tuple(min(64, n) for n in pixels.shape)
    array = group.create_array("s0", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)
    array[...] = pixels
    entry = {
        "axes": axes,
        "datasets": [{"path": "s0", "coordinateTransformations": multiscale.pop("transforms", [])}],
        **multiscale,
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}
    else:
        group.attrs["multiscales"] = [{"version": version, **entry}]


def space(name: str, unit: str | None = "micrometer") -> dict[str, str]:
    """Return an axis entry."""
    return {"name": name, "type": "space", **({"unit": unit} if unit else {})}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_scale_and_translation_of_level_and_image_are_composed_and_converted(
    tmp_path: Path, version: str
) -> None:
    pixels = np.arange(5 * 70 * 90, dtype=np.uint16).reshape(1, 1, 5, 70, 90)
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        space("z", "millimeter"),
        space("y", "nanometer"),
        space("x"),
    ]
    ome_store(
        tmp_path / "i",
        pixels,
        axes,
        version,
        transforms=[
            {"type": "scale", "scale": [1, 1, 0.02, 500, 0.25]},
            {"type": "translation", "translation": [0, 0, 1, 100, 3]},
        ],
        coordinateTransformations=[
            {"type": "scale", "scale": [1, 1, 1, 2, 2]},
            {"type": "translation", "translation": [0, 0, 0, 0, 1]},
        ],
    )
    section = open_section(tmp_path / "i")
    assert section.kind == "ome-zarr"
    assert section.axes == "tczyx"
    assert section.shape == (5, 70, 90)
    assert section.voxel_size_um == pytest.approx((20.0, 1.0, 0.5))
    assert section.translation_um == pytest.approx((1000.0, 0.2, 7.0))
    np.testing.assert_array_equal(section.read(3, 10, 70, 20, 90), pixels[0, 0, 3, 10:70, 20:90])


def test_scale_without_unit_stays_unknown(tmp_path: Path) -> None:
    ome_store(
        tmp_path / "i",
        np.zeros((9, 9), np.uint8),
        [space("y", None), space("x", None)],
        "0.4",
        transforms=[{"type": "scale", "scale": [1, 1]}],
    )
    assert open_section(tmp_path / "i").voxel_size_um == (None, None, None)


def test_unknown_unit_stays_unknown_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    axes, scale = [space("y", "furlong"), space("x")], [{"type": "scale", "scale": [1.0, 1.0]}]
    ome_store(tmp_path / "i", np.zeros((9, 9), np.uint8), axes, "0.5", transforms=scale)
    with caplog.at_level(logging.WARNING):
        assert open_section(tmp_path / "i").voxel_size_um == (None, None, 1.0)
    assert "furlong" in caplog.text


@pytest.mark.parametrize("order", ["xy", "xyz", "yxc", "zcyx", "cyx"])
def test_any_order_of_axes_gives_the_same_section(tmp_path: Path, order: str) -> None:
    sizes = {"z": 4, "y": 30, "x": 50, "c": 3}
    rng = np.random.default_rng(0)
    canonical = "".join(axis for axis in "zyxc" if axis in order)
    pixels = rng.integers(0, 255, [sizes[axis] for axis in canonical], dtype=np.uint8)
    stored = pixels.transpose([canonical.index(axis) for axis in order])
    axes = [{"name": "c", "type": "channel"} if axis == "c" else space(axis) for axis in order]
    ome_store(tmp_path / "i", stored, axes, "0.5")
    section = open_section(tmp_path / "i")
    whole = pixels if "z" in order else pixels[np.newaxis]
    assert section.channels == (3 if "c" in order else 1)
    np.testing.assert_array_equal(section.read(section.depth - 1, 3, 30, 5, 50), whole[-1, 3:, 5:])
    np.testing.assert_array_equal(section.data.compute(), whole)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "u1"])
def test_bare_array_of_any_byte_order_comes_out_native(tmp_path: Path, zarr_format: Any, dtype: str) -> None:
    pixels = np.random.default_rng(0).random((3, 50, 60))
    pixels = (pixels if "f" in dtype else pixels * 200).astype(dtype)
    codecs = (
        {"serializer": zarr.codecs.BytesCodec(endian="big" if ">" in dtype else "little")}
        if zarr_format == 3
        else {}
    )
    native = np.dtype(dtype).newbyteorder("=") if zarr_format == 3 else np.dtype(dtype)
    array = zarr.create_array(
        tmp_path / "a",
        shape=pixels.shape,
        chunks=(1, 32, 32),
        dtype=native,
        zarr_format=zarr_format,
        **codecs,
    )
    array[...] = pixels
    section = open_section(tmp_path / "a")
    window = section.read(2, 1, 50, 2, 60)
    assert section.kind == "zarr"
    assert window.dtype.isnative
    assert section.dtype.isnative
    np.testing.assert_array_equal(window, pixels[2, 1:, 2:])


def test_bare_array_with_colour_last_is_rgb(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    zarr.create_array(tmp_path / "a", data=pixels)
    section = open_section(tmp_path / "a")
    assert (section.shape, section.channels) == ((1, 40, 50), 3)
    np.testing.assert_array_equal(section.read(0, 0, 40, 0, 50), pixels)


def test_group_of_one_array_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = zarr.create_group(tmp_path / "g")
    group.create_array("data", data=np.full((20, 30), 7, np.uint8))
    with caplog.at_level(logging.INFO):
        assert open_section(tmp_path / "g").read(0, 0, 1, 0, 1)[0, 0] == 7
    assert "'data'" in caplog.text


def test_group_of_several_images_names_them(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g")
    for name in ("one", "two"):
        group.create_array(name, data=np.zeros((20, 30), np.uint8))
    with pytest.raises(InputError, match=r"several images \(one, two\); name one"):
        open_section(tmp_path / "g")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_window_reads_only_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    shards = (128, 128) if sharded else None
    zarr.create_array(tmp_path / "a", data=pixels, chunks=(32, 32), shards=shards, compressors=None)
    section = open_section(tmp_path / "a")
    fetched = 0
    get = TreeStore.get

    async def counting(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal fetched
        value = await get(self, key, *args, **kwargs)
        fetched += 0 if value is None else len(value)
        return value

    monkeypatch.setattr(TreeStore, "get", counting)
    np.testing.assert_array_equal(section.read(0, 40, 60, 70, 90), pixels[40:60, 70:90])
    assert 32 * 32 <= fetched <= 32 * 32 + 512  # one chunk, and the index of a shard


def test_time_points_and_odd_channels_are_refused(tmp_path: Path) -> None:
    axes = [{"name": "t", "type": "time"}, space("y"), space("x")]
    ome_store(tmp_path / "t", np.zeros((2, 9, 9), np.uint8), axes, "0.4")
    with pytest.raises(InputError, match="2 time points"):
        open_section(tmp_path / "t")
    axes[0] = {"name": "c", "type": "channel"}
    ome_store(tmp_path / "c", np.zeros((2, 9, 9), np.uint8), axes, "0.4")
    with pytest.raises(InputError, match="2 channels"):
        open_section(tmp_path / "c")


def test_axes_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    ome_store(tmp_path / "q", np.zeros((9, 9), np.uint8), [space("q"), space("x")], "0.5")
    with pytest.raises(InputError, match="axes 'qx'"):
        open_section(tmp_path / "q")


def test_level_named_but_missing_is_said(tmp_path: Path) -> None:
    ome_store(tmp_path / "i", np.zeros((9, 9), np.uint8), [space("y"), space("x")], "0.5")
    group = zarr.open_group(tmp_path / "i", mode="r+")
    ome: Any = dict(group.attrs)["ome"]
    ome["multiscales"][0]["datasets"].append({"path": "s9", "coordinateTransformations": []})
    group.attrs["ome"] = ome
    with pytest.raises(InputError, match="'s9', which is not there"):
        open_section(tmp_path / "i")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_that_was_cut_off_is_refused_not_decoded(tmp_path: Path, zarr_format: Any) -> None:
    """The blosc decoder reads on behind a chunk that is too short, and finds noise there."""
    compressor = {2: numcodecs.Blosc(), 3: zarr.codecs.BloscCodec(typesize=1)}[zarr_format]
    pixels = np.random.default_rng(0).integers(0, 255, (96, 80), np.uint8)
    zarr.create_array(
        tmp_path / "a.zarr", data=pixels, chunks=(32, 32), compressors=compressor, zarr_format=zarr_format
    )
    section = open_section(tmp_path / "a.zarr")
    np.testing.assert_array_equal(section.read(0, 0, 96, 0, 80), pixels)
    chunk = tmp_path / "a.zarr" / {2: "1.2", 3: "c/1/2"}[zarr_format]
    chunk.write_bytes(chunk.read_bytes()[:-40])
    np.testing.assert_array_equal(section.read(0, 0, 96, 0, 64), pixels[:, :64])
    with pytest.raises(InputError, match=r"its header says .* restore the file"):
        section.read(0, 40, 41, 64, 80)


def test_the_first_error_of_several_tasks_is_the_one_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((9, 9), np.uint8))
    section = open_section(tmp_path / "a.zarr")

    def fail(*_: object) -> None:  # newer versions of zarr read the parts of a shard as tasks of one group
        raise ExceptionGroup("tasks", [ExceptionGroup("inner", [OSError(5, "Input/output error")])])

    monkeypatch.setattr(zarr.Array, "__getitem__", fail)
    with pytest.raises(InputError, match=r"Input/output error\)") as error:
        section.read(0, 0, 9, 0, 9)
    assert transient(error.value), "it is worth another try"
