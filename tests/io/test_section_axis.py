"""A section of MINC or NIfTI along any axis is one section, and never hundreds of rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from bigrestore.io.conventions.section_axis import section_axis
from bigrestore.io.open_section import open_section


def values(*shape: int) -> NDArray[Any]:
    """Return random pixels."""
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def nifti(path: Path, pixels: NDArray[Any], slices: int | None = None) -> Path:
    image: Any = nibabel.Nifti1Image(pixels, np.diag([0.01, 0.02, 0.03, 1]))
    image.header.set_xyzt_units("mm")
    image.header.set_dim_info(slice=slices)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((100, 120, 1), 2),
        ((100, 1, 120), 1),
        ((1, 100, 120), 0),
        ((100, 120, 5), 2),
        ((90, 5, 120), 1),
        ((5, 90, 120), 0),
        ((60, 70, 80), 2),
    ],
)
def test_nifti_sections_lie_along_their_axis(
    tmp_path: Path, shape: tuple[int, int, int], axis: int, suffix: str
) -> None:
    section = open_section(nifti(tmp_path / f"a{suffix}", values(*shape)))
    read: Any = nibabel.load(tmp_path / f"a{suffix}")
    # From (x, y, z): the axis of the sections first, the faster one of the two others last.
    wanted = np.moveaxis(np.asarray(read.dataobj), axis, 0).swapaxes(1, 2)
    assert section.shape == wanted.shape
    assert section.is_volume == (wanted.shape[0] > 1)
    np.testing.assert_array_equal(section.data.compute().reshape(wanted.shape), wanted)
    np.testing.assert_array_equal(section.read(wanted.shape[0] - 1, 3, 40, 5, 41), wanted[-1, 3:40, 5:41])
    sizes = [10.0, 20.0, 30.0]
    first, *others = sizes.pop(axis), *sizes[::-1]
    assert section.voxel_size_um == pytest.approx((first, *others))


def test_a_run_of_a_coronal_nifti_section_is_one_section(tmp_path: Path, call: Callable[..., int]) -> None:
    pixels = values(100, 1, 120)
    nifti(tmp_path / "a.nii", pixels)
    words = ("--method", "catmull-rom", "--mask", "none", "--no-report", "--progress", "none")
    assert call("run", tmp_path / "a.nii", tmp_path / "out.zarr", *words) == 0
    written = zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[...]
    np.testing.assert_array_equal(written.squeeze(), pixels[:, 0].T)


@pytest.mark.parametrize("slices", [0, 1, 2])
def test_the_slices_of_the_header_are_the_sections(
    tmp_path: Path, slices: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        section = open_section(nifti(tmp_path / "a.nii", values(60, 70, 80), slices))
    assert section.depth == (60, 70, 80)[slices]
    assert ("its slices lie along axis" in caplog.text) is (slices != 2)


@pytest.mark.parametrize(
    ("order", "shape", "axis"),
    [
        ("yspace,zspace,xspace", (1, 100, 120), 0),
        ("zspace,yspace,xspace", (100, 1, 120), 1),
        ("zspace,xspace,yspace", (100, 120, 1), 2),
        ("yspace,zspace,xspace", (5, 100, 120), 0),
        ("zspace,yspace,xspace", (100, 5, 120), 1),
        ("zspace,yspace,xspace", (60, 70, 80), 0),
    ],
)
def test_minc_sections_lie_along_their_axis(
    tmp_path: Path, order: str, shape: tuple[int, ...], axis: int
) -> None:
    with h5py.File(tmp_path / "a.mnc", "w") as file:
        stored = file.create_dataset("minc-2.0/image/0/image", data=values(*shape))
        stored.attrs["dimorder"] = np.bytes_(order)
    section = open_section(tmp_path / "a.mnc")
    with h5py.File(tmp_path / "a.mnc") as file:
        wanted = np.moveaxis(file["minc-2.0/image/0/image"][...], axis, 0)
    assert section.shape == wanted.shape
    np.testing.assert_array_equal(section.data.compute().reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    ("lengths", "usual", "expected", "warned"),
    [
        ((1, 1, 90), 2, 0, False),
        ((1, 90, 1), 2, 2, False),
        ((20, 20, 20), 2, 2, False),
        ((31, 400, 500), 2, 0, True),
        ((33, 400, 500), 2, 2, False),
        ((8, 30, 500), 2, 2, False),
        ((400, 500, 3), 2, 2, False),
        ((3, 400, 3), 2, 2, False),
    ],
)
def test_an_axis_is_that_of_the_sections_where_others_would_give_strips(
    lengths: tuple[int, int, int],
    usual: int,
    expected: int,
    warned: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert section_axis(lengths, usual, "a.nii") == expected
    assert bool(caplog.records) == warned
