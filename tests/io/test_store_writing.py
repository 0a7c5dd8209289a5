"""Guards stores that look whole too early, differ from run to run, or that validators refuse."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import pytest
import yaozarrs
import zarr
from numpy.typing import NDArray

from bigrestore.errors import DiskFullError, InputError, OutputError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.ome_zarr import (
    create_store,
    finish_store,
    open_level,
    read_block,
    shard_paths,
    write_block,
)
from bigrestore.io.store.placement import pyramid_factors, pyramid_shapes
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec

SMALL = {"chunk_px": 96, "shard_px": 384}


def write_store(path: Path, spec: StoreSpec, pixels: NDArray[Any], workers: int = 1) -> None:
    """Write (z, y, x[, c]) pixels as the engine does: shard by shard, pyramid, metadata."""
    create_store(path, spec)
    array = open_level(path, 0)
    step = spec.shard_px
    for z, y, x in np.ndindex(spec.shape[0], -(-spec.shape[1] // step), -(-spec.shape[2] // step)):
        block = pixels[z, y * step : (y + 1) * step, x * step : (x + 1) * step]
        write_block(array, z, y * step, x * step, block)
    build_pyramid(path, spec, workers)
    high = 1.0 if spec.dtype.kind == "f" else float(np.iinfo(spec.dtype).max)
    finish_store(path, spec, (0.0, high), {"version": "0", "method": "test"})


def noise(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> NDArray[Any]:
    """Return pixels of every value."""
    values = np.random.default_rng(seed).random(shape)
    return (values if np.dtype(dtype).kind == "f" else values * np.iinfo(dtype).max).astype(dtype)


def reference_level(pixels: NDArray[Any], factors: tuple[int, int, int]) -> NDArray[Any]:
    """Halve (z, y, x[, c]) with means over existing voxels, by plain slicing in float64."""
    out = [-(-n // f) for n, f in zip(pixels.shape, factors, strict=False)]
    missing = [(0, o * f - n) for o, f, n in zip(out, factors, pixels.shape, strict=False)]
    padded = np.pad(pixels.astype(np.float64), missing + [(0, 0)] * (pixels.ndim - 3), constant_values=np.nan)
    blocks = padded.reshape(out[0], factors[0], out[1], factors[1], out[2], factors[2], *pixels.shape[3:])
    mean = np.nanmean(blocks, axis=(1, 3, 5))
    return (np.rint(mean) if pixels.dtype.kind == "u" else mean).astype(pixels.dtype)


def digest(path: Path) -> dict[str, str]:
    """Return the checksum of every file under a directory."""
    files = sorted(item for item in path.rglob("*") if item.is_file())
    return {str(item.relative_to(path)): hashlib.sha256(item.read_bytes()).hexdigest() for item in files}


SPECS = [
    pytest.param((1, 1001, 771), np.uint8, 1, False, id="section-uint8"),
    pytest.param((1, 501, 387), np.uint16, 3, False, id="section-rgb-uint16"),
    pytest.param((3, 501, 387), np.float32, 1, True, id="volume-float32"),
    pytest.param((3, 501, 97), np.uint8, 3, True, id="volume-rgb-uint8"),
]


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
@pytest.mark.parametrize(("shape", "dtype", "channels", "is_volume"), SPECS)
def test_store_gives_back_every_pixel_and_validates(
    tmp_path: Path, shape: tuple[int, int, int], dtype: Any, channels: int, is_volume: bool, fmt: Any
) -> None:
    spec = StoreSpec(
        shape,
        dtype,
        channels,
        voxel_size_um=(20.0, 21.25, 21.25),
        translation_um=(None, 5.0, -3.0),
        is_volume=is_volume,
        fmt=fmt,
        **SMALL,
    )
    pixels = noise((*shape, 3) if channels == 3 else shape, dtype)
    path = tmp_path / "out.ome.zarr"
    write_store(path, spec, pixels)

    yaozarrs.validate_zarr_store(str(path))
    image = ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"))
    assert image.ome_zarr_version == fmt

    section = open_section(path)
    assert section.format_version == fmt
    assert section.is_volume is is_volume
    assert section.voxel_size_um == (20.0 if is_volume else None, 21.25, 21.25)
    assert section.translation_um == (0.0 if is_volume else None, 5.0, -3.0)
    assert section.levels == tuple(pyramid_shapes(spec))
    np.testing.assert_array_equal(section.data.compute(), pixels)

    factors = pyramid_factors(spec)
    before = pixels
    for level in range(1, len(factors)):
        step = tuple(b // a for a, b in zip(factors[level - 1], factors[level], strict=True))
        before = reference_level(before, (step[0], step[1], step[2]))
        coarse = open_section(path, level=level)
        np.testing.assert_array_equal(coarse.data.compute(), before)
        assert coarse.voxel_size_um[2] == 21.25 * factors[level][2]
        assert coarse.translation_um[2] == pytest.approx(-3.0 + 21.25 * (factors[level][2] - 1) / 2)


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_metadata_say_micrometer_axes_window_and_provenance(tmp_path: Path, fmt: Any) -> None:
    spec = StoreSpec((1, 300, 200), np.uint16, voxel_size_um=(None, 10.0, 10.0), fmt=fmt)
    write_store(tmp_path / "o", spec, noise((1, 300, 200), np.uint16))
    attributes = dict(zarr.open_group(tmp_path / "o", mode="r").attrs)
    ome: Any = attributes["ome"] if fmt == "0.5" else attributes
    assert ome["multiscales"][0]["axes"] == [
        {"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")
    ]
    assert ome["omero"]["channels"][0]["window"] == {"min": 0.0, "max": 65535.0, "start": 0.0, "end": 65535.0}
    assert attributes["bigrestore"] == {"method": "test", "version": "0"}
    if fmt == "0.5":
        metadata = json.loads((tmp_path / "o" / "0" / "zarr.json").read_text())
        assert metadata["dimension_names"] == ["y", "x"]


def test_unknown_voxel_size_is_neither_written_nor_read_as_a_micrometre(tmp_path: Path) -> None:
    write_store(tmp_path / "o", StoreSpec((1, 300, 200), np.uint8), noise((1, 300, 200), np.uint8))
    assert "micrometer" not in (tmp_path / "o" / "zarr.json").read_text()
    assert open_section(tmp_path / "o").voxel_size_um == (None, None, None)


def test_store_without_its_last_step_is_no_image(tmp_path: Path) -> None:
    create_store(tmp_path / "o", StoreSpec((1, 300, 200), np.uint8))
    assert "multiscales" not in (tmp_path / "o" / "zarr.json").read_text()


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_same_arguments_give_same_bytes_whatever_the_workers(tmp_path: Path, fmt: Any) -> None:
    spec = StoreSpec(
        (2, 900, 400), np.uint16, voxel_size_um=(1.0, 1.0, 1.0), is_volume=True, fmt=fmt, **SMALL
    )
    pixels = noise((2, 900, 400), np.uint16)
    write_store(tmp_path / "a", spec, pixels)
    write_store(tmp_path / "b", spec, pixels, workers=3)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_building_the_pyramid_again_changes_nothing(tmp_path: Path, fmt: Any) -> None:
    spec = StoreSpec((1, 900, 400), np.uint8, fmt=fmt, **SMALL)
    write_store(tmp_path / "a", spec, noise((1, 900, 400), np.uint8))
    first = digest(tmp_path / "a")
    seen: list[tuple[int, int]] = []
    build_pyramid(tmp_path / "a", spec, 2, lambda done, total: seen.append((done, total)))
    assert digest(tmp_path / "a") == first
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
@pytest.mark.parametrize(("channels", "is_volume"), [(1, False), (3, False), (1, True), (3, True)])
def test_a_block_owns_exactly_the_files_it_leaves(
    tmp_path: Path, channels: int, is_volume: bool, fmt: Any
) -> None:
    depth = 2 if is_volume else 1
    spec = StoreSpec((depth, 900, 500), np.uint8, channels, is_volume=is_volume, fmt=fmt, **SMALL)
    create_store(tmp_path / "o", spec)
    array = open_level(tmp_path / "o", 0)
    before = set(digest(tmp_path / "o"))
    colour = (3,) if channels == 3 else ()
    write_block(array, depth - 1, 768, 384, np.zeros((132, 116, *colour), np.uint8))  # all fill value
    made = {tmp_path / "o" / name for name in set(digest(tmp_path / "o")) - before}
    assert made == set(shard_paths(tmp_path / "o", spec, 0, depth - 1, 768, 384, 132, 116))
    write_block(array, depth - 1, 0, 0, np.ones((768, 384, *colour), np.uint8))
    two = shard_paths(tmp_path / "o", spec, 0, depth - 1, 0, 0, 768, 384)
    assert all(path.exists() for path in two)
    assert not set(two) & made
    window = read_block(array, spec.axes, depth - 1, 700, 800, 300, 400)
    assert window[:68, :84].min() == 1
    assert window[68:].max() == 0


def test_background_blocks_leave_files_so_that_missing_means_missing(tmp_path: Path) -> None:
    spec = StoreSpec((1, 500, 500), np.uint8, fill_value=0)
    write_store(tmp_path / "o", spec, np.zeros((1, 500, 500), np.uint8))
    assert all(path.exists() for path in shard_paths(tmp_path / "o", spec, 0, 0, 0, 0, 500, 500))
    assert all(path.exists() for path in shard_paths(tmp_path / "o", spec, 1, 0, 0, 0, 250, 250))


def test_unwritten_pixels_hold_the_fill_value(tmp_path: Path) -> None:
    create_store(tmp_path / "o", StoreSpec((1, 500, 500), np.uint8, fill_value=255))
    assert int(np.asarray(open_level(tmp_path / "o", 0)[0, 0])) == 255


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another place"):
        create_store(tmp_path / "file" / "o", StoreSpec((1, 10, 10), np.uint8))


def test_a_level_that_is_not_there_is_said(tmp_path: Path) -> None:
    create_store(tmp_path / "o", StoreSpec((1, 10, 10), np.uint8))
    with pytest.raises(InputError, match="no readable level 3"):
        open_level(tmp_path / "o", 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (2, 10, 10)},
        {"shape": (1, 0, 10)},
        {"dtype": np.float64},
        {"channels": 2},
        {"fmt": "0.3"},
        {"shard_px": 1000},
    ],
)
def test_specs_that_cannot_be_stored_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((UsageError, InputError)):
        StoreSpec(**{"shape": (1, 10, 10), "dtype": np.uint8, **wrong})


@pytest.mark.parametrize("step", ["create", "level", "block", "pyramid", "finish"])
def test_a_full_disk_is_said_at_every_step_and_going_on_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spec = StoreSpec((1, 500, 400), np.uint8, **SMALL)
    pixels = noise((1, 500, 400), np.uint8)
    path = tmp_path / "o.ome.zarr"
    fails_at = {
        "create": "zarr.json",
        "level": "0/zarr.json",
        "block": "0/c/1/0",
        "pyramid": "1/c/0/0",
        "finish": "zarr.json",
    }[step]
    seen: list[str] = []

    def filling(put: Any) -> Any:
        async def fill(self: Any, key: str, *args: Any, **kwargs: Any) -> None:
            seen.append(key)
            if key == fails_at and (step != "finish" or "1/c/0/0" in seen):
                raise OSError(errno.ENOSPC, "No space left on device", key)
            await put(self, key, *args, **kwargs)

        return fill

    with monkeypatch.context() as patch:
        for name in ("set", "set_if_not_exists"):
            patch.setattr(zarr.storage.LocalStore, name, filling(getattr(zarr.storage.LocalStore, name)))
        with pytest.raises(DiskFullError, match=r"o\.ome\.zarr.* no space left .*--resume\.$") as error:
            write_store(path, spec, pixels)
    assert error.value.errno == errno.ENOSPC
    if path.exists() and step != "create":
        with pytest.raises(InputError, match=r"was not finished|without an image"):
            open_section(path)
    if step in ("pyramid", "finish"):  # what the engine does again on --resume
        build_pyramid(path, spec)
        finish_store(path, spec, (0.0, 255.0), {"version": "0", "method": "test"})
        write_store(tmp_path / "whole", spec, pixels)
        assert digest(path) == digest(tmp_path / "whole")
