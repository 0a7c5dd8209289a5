"""What viewers show outputs by: names, windows, colour in one chunk, and maps that open as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import pytest
import yaozarrs
import zarr
from numpy.typing import NDArray

from bigrestore.io.open_section import open_section
from bigrestore.io.store.collection import finish_collection
from bigrestore.io.store.display import MAP_WHITE, map_window, section_name
from bigrestore.io.store.ome_zarr import (
    create_group,
    create_store,
    finish_store,
    open_level,
    shard_paths,
    write_block,
)
from bigrestore.io.store.placement import pyramid_shapes
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.verify.store import verify_store


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("pm3214.ome.zarr", "pm3214"),
        ("a/b/slide 7.OME.TIFF", "slide 7"),
        ("a/b.c/x.y.png", "x.y"),
        ("s3://bucket/stain/pm12.zarr.zip", "pm12"),
        ("in.zarr/maps/invented", "invented"),
        ("volume.nii.gz", "volume"),
        ("sections/", "sections"),
        ("sections/pm*.png", "pm"),
        ("sections/*.png", "sections"),
        ("sections/[0-9]*.tif", "0-9"),
        ("12 section files", "12 section files"),
        ("a\u00e7\u00e3o.png", "a\u00e7\u00e3o"),
        ("a\x07b\udc80.png", "ab"),
        (".png", "image"),
        ("*", "image"),
        ("", "image"),
    ],
)
def test_a_section_is_named_by_its_file_or_folder(source: str, name: str) -> None:
    assert section_name(source) == name


def save(path: Path, pixels: NDArray[Any], **facts: Any) -> StoreSpec:
    """Write (z, y, x[, c]) pixels and their pyramid."""
    spec = StoreSpec(pixels.shape[:3], pixels.dtype, 3 if pixels.ndim == 4 else 1, **facts)
    create_store(path, spec)
    step = spec.shard_px
    for z, y, x in np.ndindex(spec.shape[0], -(-spec.shape[1] // step), -(-spec.shape[2] // step)):
        block = pixels[z, y * step : (y + 1) * step, x * step : (x + 1) * step]
        write_block(open_level(path, 0), z, y * step, x * step, block)
    build_pyramid(path, spec)
    return spec


def test_the_window_of_a_map_follows_its_values(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 0.2, 400, dtype=np.float32), (1, 300, 400))
    low, high = map_window(tmp_path / "ramp", save(tmp_path / "ramp", np.ascontiguousarray(ramp)))
    assert low == 0
    assert high == pytest.approx(0.199, abs=0.001)

    mostly = np.zeros((1, 300, 400), np.float32)
    mostly[:, :40, :40] = 0.05
    mostly[:, 0, 0] = 1.0  # one pixel of a fault does not darken the rest
    assert map_window(tmp_path / "mostly", save(tmp_path / "mostly", mostly))[1] == pytest.approx(
        0.05, abs=1e-4
    )

    volume = np.zeros((3, 64, 80), np.float32)
    volume[2] = 0.3
    spec = save(tmp_path / "volume", volume, is_volume=True)
    assert map_window(tmp_path / "volume", spec)[1] == pytest.approx(0.3, abs=1e-4)

    spec = save(tmp_path / "zero", np.zeros((1, 64, 80), np.float32))
    assert map_window(tmp_path / "zero", spec) == (0.0, MAP_WHITE)
    tiny = np.full((1, 64, 80), 1e-9, np.float32)
    assert map_window(tmp_path / "tiny", save(tmp_path / "tiny", tiny)) == (0.0, MAP_WHITE)


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_chunk_holds_all_channels_of_colour(tmp_path: Path, fmt: Any, depth: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (depth, 501, 213, 3), np.uint8)
    path = tmp_path / "o.zarr"
    spec = save(path, pixels, fmt=fmt, is_volume=depth > 1, chunk_px=96, shard_px=192)
    finish_store(path, spec, (0, 255), {"version": "0"})
    for level, shape in enumerate(pyramid_shapes(spec)):
        array = open_level(path, level, mode="r")
        assert array.chunks == (3, *([1] if depth > 1 else []), 96, 96)
        names = ("zarr.json", ".zarray", ".zattrs")
        files = {file for file in (path / str(level)).rglob("*") if file.is_file() and file.name not in names}
        assert files == {
            file for z in range(depth) for file in shard_paths(path, spec, level, z, 0, 0, *shape[1:])
        }
    np.testing.assert_array_equal(open_section(path).data.compute(), pixels)
    assert verify_store(path) == []


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_colour_of_a_former_version_is_read_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: Any
) -> None:
    monkeypatch.setattr(StoreSpec, "array_chunks", lambda spec: (1, spec.chunk_px, spec.chunk_px))
    pixels = np.random.default_rng(0).integers(0, 255, (1, 300, 213, 3), np.uint8)
    spec = save(tmp_path / "o.zarr", pixels, fmt=fmt, chunk_px=96, shard_px=384)
    finish_store(tmp_path / "o.zarr", spec, (0, 255), {"version": "0"})
    monkeypatch.undo()
    assert open_level(tmp_path / "o.zarr", 0, mode="r").chunks == (1, 96, 96)
    np.testing.assert_array_equal(open_section(tmp_path / "o.zarr").data.compute(), pixels)
    assert verify_store(tmp_path / "o.zarr") == []


def attributes(group: Path) -> dict[str, Any]:
    """Return the attributes of OME of a group, whatever the version."""
    found = dict(zarr.open_group(group, mode="r").attrs)
    return found.get("ome", found)


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
@pytest.mark.parametrize("colour", [False, True])
def test_an_image_and_its_channels_are_named(tmp_path: Path, fmt: Any, colour: bool) -> None:
    spec = save(tmp_path / "o.zarr", np.zeros((1, 50, 60, 3)[: 4 if colour else 3], np.uint8), fmt=fmt)
    finish_store(tmp_path / "o.zarr", spec, (10, 200), {}, name="pm3214", channel="restored")
    stated = attributes(tmp_path / "o.zarr")
    assert stated["multiscales"][0]["name"] == "pm3214"
    channels = stated["omero"]["channels"]
    assert [entry["label"] for entry in channels] == (["red", "green", "blue"] if colour else ["restored"])
    assert {(entry["window"]["start"], entry["window"]["end"]) for entry in channels} == {(10.0, 200.0)}


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
@pytest.mark.parametrize(
    "names", [("residual",), ("residual", "uncertainty"), ("residual", "invented", "uncertainty")]
)
def test_a_group_of_images_opens_as_one(tmp_path: Path, fmt: Any, names: tuple[str, ...]) -> None:
    group = tmp_path / "maps"
    facts: dict[str, Any] = {"fmt": fmt, "voxel_size_um": (None, 2.0, 1.5)}
    create_group(group, StoreSpec((1, 50, 60), np.float32, fmt=fmt))
    for name in names:
        spec = save(group / name, np.zeros((1, 50, 60), np.float32), **facts)
        finish_store(group / name, spec, (0, 1), {}, name="a <b> & \u00e7", channel=name)
    for _ in range(2):  # as a resumed run does
        finish_collection(group, spec, "a <b> & \u00e7", names)
    files = {file.relative_to(group).as_posix(): file.read_bytes() for file in group.glob("OME/*")}
    assert set(files) == {
        f"OME/{name}" for name in (("zarr.json",) if fmt == "0.5" else (".zgroup", ".zattrs"))
    } | {"OME/METADATA.ome.xml"}
    if fmt == "0.5":
        yaozarrs.validate_zarr_store(str(group))
    else:  # whose version yaozarrs does not see in such a group
        yaozarrs.v04.Bf2Raw.model_validate(attributes(group))
        yaozarrs.v04.Series.model_validate(attributes(group / "OME"))
    assert attributes(group)["bioformats2raw.layout"] == 3
    assert attributes(group / "OME")["series"] == list(names)
    ome = ome_types.from_xml(files["OME/METADATA.ome.xml"].decode())
    assert [image.name for image in ome.images] == [f"a <b> & \u00e7: {name}" for name in names]
    for image, name in zip(ome.images, names, strict=True):
        # Where napari looks for an image: the group named by its ID.
        assert "multiscales" in attributes(group / image.id.removeprefix("Image:"))
        stated = image.pixels
        assert (stated.size_y, stated.size_x, stated.physical_size_y, stated.physical_size_x) == (
            50,
            60,
            2.0,
            1.5,
        )
        assert (stated.type.value, stated.channels[0].name) == ("float", name)
    assert json.loads(files.get("OME/.zattrs", b"{}")) in ({}, {"series": list(names)})
