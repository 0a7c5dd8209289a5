"""Stains are never taken for red, green and blue, nor for alpha; and what is colour is read as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputError, UsageError
from bigrestore.io.open_section import open_section


def values(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """Return random pixels."""
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


# --- samples of a TIFF --------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_that_a_file_calls_grey_are_channels(tmp_path: Path, samples: int, planar: Any) -> None:
    pixels = values(60, 50, samples) if planar == "contig" else values(samples, 60, 50)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig=planar, metadata=None)
    with pytest.raises(InputError, match=rf"has {samples} samples per pixel that it calls grey") as info:
        open_section(tmp_path / "a.tif")
    assert f"choose one by --channel, from 0 to {samples - 1}" in str(info.value)
    assert ("tiffset -s 262 2" in str(info.value)) is (samples == 3)
    for channel in range(samples):
        section = open_section(tmp_path / "a.tif", channel=channel)
        one = pixels[..., channel] if planar == "contig" else pixels[channel]
        assert section.channels == 1
        np.testing.assert_array_equal(section.read(0, 0, 60, 0, 50), one)


def test_the_remedy_for_three_samples_makes_colour_of_them(tmp_path: Path) -> None:
    pixels = values(60, 50, 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags[262].overwrite(2)  # as tiffset -s 262 2
    np.testing.assert_array_equal(open_section(tmp_path / "a.tif").read(0, 0, 60, 0, 50), pixels)


@pytest.mark.parametrize(
    ("kind", "samples", "extra", "colours", "level"),
    [
        ("minisblack", 2, ["unassalpha"], 1, logging.INFO),
        ("minisblack", 2, ["assocalpha"], 1, logging.INFO),
        ("rgb", 4, ["unassalpha"], 3, logging.INFO),
        ("rgb", 4, ["assocalpha"], 3, logging.INFO),
        ("rgb", 4, ["unspecified"], 3, logging.WARNING),
    ],
)
def test_what_is_dropped_beside_colour_is_said(
    tmp_path: Path,
    kind: Any,
    samples: int,
    extra: list[str],
    colours: int,
    level: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = values(60, 50, samples)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric=kind, extrasamples=extra, planarconfig="contig", metadata=None
    )
    with caplog.at_level(logging.INFO):
        window = open_section(tmp_path / "a.tif").read(0, 0, 60, 0, 50)
    np.testing.assert_array_equal(window, pixels[..., 0] if colours == 1 else pixels[..., :3])
    assert [record.levelno for record in caplog.records] == [level]
    if extra != ["unspecified"] and colours == 3:
        shown = np.asarray(Image.open(tmp_path / "a.tif").convert("RGBA"))
        assert shown.shape == (60, 50, 4)


# --- channels of OME, ImageJ and Zarr -----------------------------------------------------------

RED, GREEN, BLUE, MAGENTA = -16776961, 16711935, 65535, -16711681


def ome(**stated: Any) -> Callable[[Path], Path]:
    """Return a writer of an OME-TIFF of three channels with what is said of them."""

    def write(folder: Path) -> Path:
        metadata = {"axes": "CYX", "Channel": stated}
        tifffile.imwrite(
            folder / "a.ome.tif", values(3, 60, 50), ome=True, photometric="minisblack", metadata=metadata
        )
        return folder / "a.ome.tif"

    return write


def imagej(colours: list[tuple[int, int, int]] | None) -> Callable[[Path], Path]:
    """Return a writer of an ImageJ stack of three channels with lookup tables of some colours."""

    def write(folder: Path) -> Path:
        ramp = np.arange(256) / 255
        tables = [np.outer(colour, ramp).astype(np.uint8) for colour in colours or []]
        metadata: dict[str, Any] = {"axes": "CYX", "mode": "composite"} | (
            {"LUTs": tables} if colours else {}
        )
        tifffile.imwrite(folder / "a.tif", values(3, 60, 50), imagej=True, metadata=metadata)
        return folder / "a.tif"

    return write


def ome_zarr(*channels: dict[str, Any]) -> Callable[[Path], Path]:
    """Return a writer of an OME-Zarr image of three channels with omero's entries."""

    def write(folder: Path) -> Path:
        group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
        group.create_array("0", shape=(3, 60, 50), dtype="u1", chunks=(1, 32, 32))[...] = values(3, 60, 50)
        scale = {"type": "scale", "scale": [1, 1, 1]}
        axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space"} for axis in "yx")]
        datasets = [{"path": "0", "coordinateTransformations": [scale]}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        if channels:
            group.attrs["omero"] = {"channels": list(channels)}
        return folder / "a.zarr"

    return write


PURE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
STAINS = {
    "ome names": ome(Name=["DAPI", "GFP", "Cy5"]),
    "ome names in red": ome(Name=["Texas Red", "GFP", "DAPI"]),
    "ome colours": ome(Color=[BLUE, GREEN, RED]),
    "ome other colours": ome(Color=[MAGENTA, GREEN, BLUE]),
    "ome wavelengths": ome(EmissionWavelength=[461, 509, 670], Color=[RED, GREEN, BLUE]),
    "ome fluorophores": ome(Fluor=["Hoechst", "GFP", "Cy5"]),
    "ome contrast": ome(ContrastMethod=["Fluorescence"] * 3),
    "imagej": imagej([(0, 0, 255), (0, 255, 0), (255, 0, 0)]),
    "imagej magenta": imagej([(255, 0, 255), (0, 255, 0), (255, 255, 0)]),
    "zarr labels": ome_zarr(*({"label": name, "color": "FFFFFF"} for name in ("NeuN", "GFAP", "DAPI"))),
    "zarr colours": ome_zarr(*({"label": "", "color": code} for code in ("0000FF", "00FF00", "FF0000"))),
    "zarr cyan": ome_zarr(*({"color": code} for code in ("00FFFF", "FF00FF", "FFFF00"))),
}
COLOURS = {
    "ome names": (ome(Name=["Red", "Green", "Blue"]), 0),
    "ome letters": (ome(Name=["R", "G", "B"]), 0),
    "ome colours": (ome(Color=[RED, GREEN, BLUE]), 0),
    "ome numbers": (ome(Name=["Channel 0", "Channel 1", "Channel 2"], Color=[RED, GREEN, BLUE]), 0),
    "ome numbers only": (ome(Name=["Channel:0:0", "Channel:0:1", "C2"]), 1),
    "ome nothing": (ome(), 1),
    "imagej": (imagej(PURE), 0),
    "imagej nothing": (imagej(None), 1),
    "zarr": (ome_zarr(*({"label": "", "color": code} for code in ("FF0000", "00FF00", "0000ff"))), 0),
    "zarr labels": (ome_zarr(*({"label": name} for name in ("red", "green", "blue"))), 0),
    "zarr nothing": (ome_zarr(), 1),
    "zarr damaged": (ome_zarr({"label": None, "color": 5}, {}, {"color": "x"}), 1),
}


@pytest.mark.parametrize("what", STAINS)
def test_three_stains_are_refused(tmp_path: Path, what: str) -> None:
    path = STAINS[what](tmp_path)
    with pytest.raises(InputError, match="choose the one to restore by --channel, from 0 to 2"):
        open_section(path)
    for channel in range(3):
        window = open_section(path, channel=channel).read(0, 3, 60, 0, 41)
        np.testing.assert_array_equal(window, values(3, 60, 50)[channel, 3:60, 0:41])


@pytest.mark.parametrize("what", COLOURS)
def test_red_green_and_blue_are_colour_and_what_nobody_named_is_with_a_word(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    write, warnings = COLOURS[what]
    section = open_section(write(tmp_path))
    assert section.channels == 3
    np.testing.assert_array_equal(section.read(0, 0, 60, 0, 50), np.moveaxis(values(3, 60, 50), 0, -1))
    assert len(caplog.records) == warnings
    assert not warnings or "does not say what its three channels are" in caplog.text


def test_what_bigrestore_writes_is_colour_without_a_word(
    tmp_path: Path, call: Callable[..., int], capfd: Any
) -> None:
    Image.fromarray(values(300, 260, 3)).save(tmp_path / "a.png")
    for name in ("out.ome.zarr", "out.ome.tif"):
        words = ("--method", "catmull-rom", "--no-report", "--progress", "none", "-q")
        assert call("run", tmp_path / "a.png", tmp_path / name, *words) == 0
        capfd.readouterr()
        assert call("info", tmp_path / name) == 0
        assert "three channels" not in capfd.readouterr().err


# --- one channel of many ------------------------------------------------------------------------


def tiff_of(axes: str, shape: tuple[int, ...], **more: Any) -> Callable[[Path], tuple[Path, NDArray[Any]]]:
    """Return a writer of a tiled TIFF, and its pixels as (c, z, y, x)."""

    def write(folder: Path) -> tuple[Path, NDArray[Any]]:
        pixels = values(*shape, dtype=np.uint16)
        path = folder / "a.ome.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes}, **more)
        order = [axes.index(axis) for axis in "CZYX" if axis in axes]
        whole = pixels.transpose(order)
        return path, whole if "Z" in axes else whole[:, None]

    return write


def zarr_of(axes: str, shape: tuple[int, ...], **more: Any) -> Callable[[Path], tuple[Path, NDArray[Any]]]:
    """Return a writer of a bare Zarr array with names of its axes, and its pixels as (c, z, y, x)."""

    def write(folder: Path) -> tuple[Path, NDArray[Any]]:
        pixels = values(*shape, dtype=np.float32)
        array = zarr.create_array(
            folder / "a.zarr", shape=shape, dtype="f4", dimension_names=list(axes), **more
        )
        array[...] = pixels
        whole = pixels.transpose([axes.index(axis) for axis in "czyx" if axis in axes])
        return folder / "a.zarr", whole if "z" in axes else whole[:, None]

    return write


MANY = {
    "OME-TIFF of pages": tiff_of("CYX", (5, 60, 50), ome=True),
    "OME-TIFF, channels within sections": tiff_of("ZCYX", (2, 4, 60, 50), ome=True, tile=(32, 32)),
    "OME-TIFF, sections within channels": tiff_of("CZYX", (4, 2, 60, 50), ome=True, compression="zlib"),
    "Zarr, chunks of one channel": zarr_of("cyx", (6, 60, 50), chunks=(1, 32, 32)),
    "Zarr, chunks of all channels": zarr_of("czyx", (2, 3, 60, 50), chunks=(2, 1, 32, 50)),
    "Zarr, channels last": zarr_of("yxc", (60, 50, 4), chunks=(20, 20, 4), shards=(60, 60, 4)),
}


@pytest.mark.parametrize("what", MANY)
def test_one_channel_of_many_is_read(tmp_path: Path, what: str) -> None:
    path, pixels = MANY[what](tmp_path)
    with pytest.raises(InputError, match=rf"choose one by --channel, from 0 to {len(pixels) - 1}"):
        open_section(path)
    for channel, whole in enumerate(pixels):
        section = open_section(path, channel=channel)
        assert (section.channels, section.shape) == (1, whole.shape)
        np.testing.assert_array_equal(section.read(len(whole) - 1, 7, 59, 3, 50), whole[-1, 7:59, 3:50])
    with pytest.raises(UsageError, match=rf"--channel is {len(pixels)}, but .* has {len(pixels)} channels"):
        open_section(path, channel=len(pixels))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "palette.tif", "a.zarr"])
def test_one_channel_of_colour_is_read(tmp_path: Path, name: str) -> None:
    pixels, path = values(60, 50, 3), tmp_path / name
    if name == "palette.tif":
        table = np.random.default_rng(1).integers(0, 255, (3, 256)).astype(np.uint16) * np.uint16(257)
        indices = values(60, 50)
        tifffile.imwrite(path, indices, photometric="palette", colormap=table)
        pixels = np.moveaxis(table >> 8, 0, -1)[indices].astype(np.uint8)
    elif name == "a.zarr":
        zarr.save_array(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    for channel in range(3):
        section = open_section(path, channel=channel)
        assert section.channels == 1
        np.testing.assert_array_equal(section.read(0, 0, 60, 0, 50), pixels[..., channel])


def test_sections_of_many_channels_are_a_volume_of_one(tmp_path: Path) -> None:
    pixels = values(2, 4, 60, 50)
    for index in range(2):
        metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy3", "Cy5"]}}
        tifffile.imwrite(tmp_path / f"s{index}.ome.tif", pixels[index], metadata=metadata)
    section = open_section(str(tmp_path / "s*.tif"), channel=2)
    np.testing.assert_array_equal(section.read(1, 0, 60, 0, 50), pixels[1, 2])
    with pytest.raises(UsageError, match=r"4 channels \(DAPI, GFP, Cy3, Cy5\); choose one from 0 to 3"):
        open_section(tmp_path / "s0.ome.tif", channel=9)


def test_a_file_of_one_channel_has_no_other(tmp_path: Path) -> None:
    Image.fromarray(values(60, 50)).save(tmp_path / "a.png")
    assert open_section(tmp_path / "a.png", channel=0).channels == 1
    with pytest.raises(UsageError, match=r"--channel is 1, but .*a\.png has a single channel; leave it out"):
        open_section(tmp_path / "a.png", channel=1)


def test_the_input_beside_an_output_is_read_by_the_channel_of_its_run(
    tmp_path: Path, call: Callable[..., int], capfd: Any
) -> None:
    path, pixels = MANY["OME-TIFF of pages"](tmp_path)
    words = ("--method", "rational", "--channel", 3, "--no-report", "--progress", "none", "-q")
    words = (*words, "--input-range", "full")
    assert call("run", path, tmp_path / "out.ome.zarr", *words) == 0
    np.testing.assert_array_equal(open_section(tmp_path / "out.ome.zarr").read(0, 0, 60, 0, 50), pixels[3, 0])
    from bigrestore.io.conventions.provenance import image_read, provenance_of

    details = open_section(tmp_path / "out.ome.zarr").details
    assert image_read(provenance_of(details)) == (None, 3, 0)
    assert call("run", path, tmp_path / "out.ome.zarr", *words, "--resume") == 0
    other = tuple(4 if word == 3 else word for word in words)
    assert call("run", path, tmp_path / "out.ome.zarr", *other, "--resume") == 4
    assert "--channel (3 then, 4 now)" in capfd.readouterr().err


# --- colour in MINC and NIfTI -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "shape", "turn"),
    [
        ("zspace,xspace,vector_dimension", (60, 50, 3), (0, 1, 2)),
        ("vector_dimension,zspace,xspace", (3, 60, 50), (1, 2, 0)),
        ("zspace,vector_dimension,xspace", (60, 3, 50), (0, 2, 1)),
        ("yspace,zspace,xspace,vector_dimension", (1, 60, 50, 3), None),
        ("zspace,yspace,xspace,vector_dimension", (60, 1, 50, 3), None),
        ("yspace,zspace,xspace,vector_dimension", (4, 60, 50, 3), None),
    ],
)
def test_minc_vectors_of_three_are_colour(
    tmp_path: Path, order: str, shape: tuple[int, ...], turn: tuple[int, ...] | None
) -> None:
    pixels = values(*shape)
    with h5py.File(tmp_path / "a.mnc", "w") as file:
        stored = file.create_dataset("minc-2.0/image/0/image", data=pixels)
        stored.attrs["dimorder"] = np.bytes_(order)
    section = open_section(tmp_path / "a.mnc")
    depth = 4 if 4 in shape else 1
    assert (section.shape, section.channels) == ((depth, 60, 50), 3)
    with h5py.File(tmp_path / "a.mnc") as file:
        raw = file["minc-2.0/image/0/image"][...]
    wanted = raw.transpose(turn)[np.newaxis] if turn else raw.reshape(depth, 60, 50, 3)
    np.testing.assert_array_equal(section.data.compute(), wanted)
    np.testing.assert_array_equal(section.read(depth - 1, 7, 33, 5, 41), wanted[-1, 7:33, 5:41])


@pytest.mark.parametrize(("count", "dtype"), [(2, np.uint8), (4, np.uint8), (3, np.float32)])
def test_other_minc_vectors_are_refused(tmp_path: Path, count: int, dtype: Any) -> None:
    with h5py.File(tmp_path / "a.mnc", "w") as file:
        stored = file.create_dataset("minc-2.0/image/0/image", data=values(60, 50, count, dtype=dtype))
        stored.attrs["dimorder"] = np.bytes_("zspace,xspace,vector_dimension")
    with pytest.raises(InputError, match=f"vector_dimension of {count} values"):
        open_section(tmp_path / "a.mnc")


@pytest.mark.parametrize("shape", [(50, 60, 4, 1, 3), (50, 60, 1, 1, 3), (50, 60, 1, 3)])
def test_nifti_vectors_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nibabel.save(nibabel.Nifti1Image(values(*shape), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="two or three axes longer than 1"):
        open_section(tmp_path / "a.nii")
