"""What a file itself says of its values holds: fewer bits, limits, white as 0, a scale; and what it says is logged."""

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
from numcodecs import FixedScaleOffset
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from bigrestore.errors import InputError
from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.io.drawn_inputs import open_mask
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section

RUN = ("--method", "catmull-rom", "--no-report", "--progress", "none")


def of_bits(bits: int, dtype: Any = np.uint16) -> NDArray[Any]:
    """Return real tissue with values of so many bits."""
    tissue = np.asarray(data.immunohistochemistry()).mean(axis=2)[:200, :220] / 255
    return np.rint(tissue * (2**bits - 1)).astype(dtype)


def whole(section: Section) -> NDArray[Any]:
    return section.read(0, 0, section.height, 0, section.width)


# --- TIFF ---------------------------------------------------------------------------------------


def write_tiff(path: Path, how: str, bits: int) -> None:
    """Write values of some bits with a statement of them."""
    pixels, top = of_bits(bits), 2**bits - 1
    if how == "BitsPerSample":
        tifffile.imwrite(path, pixels, bitspersample=bits, photometric="minisblack", metadata=None)
    elif how == "SignificantBits":
        tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "YX", "SignificantBits": bits})
        xml = tifffile.tiffcomment(path)
        assert f'SignificantBits="{bits}"' in xml
    else:
        tag = {"MaxSampleValue": 281, "SMaxSampleValue": 341}[how]
        tifffile.imwrite(path, pixels, metadata=None, extratags=[(tag, 3, 1, top, True)])


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("how", ["BitsPerSample", "SignificantBits", "MaxSampleValue", "SMaxSampleValue"])
def test_bits_that_a_tiff_states_are_its_range(
    tmp_path: Path, how: str, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, how, bits)
    with caplog.at_level(logging.INFO):
        section = open_section(path)
    assert section.value_range == (0, 2**bits - 1)
    assert f"states 0 to {2**bits - 1} by {how}; they are taken for black and white" in caplog.text
    np.testing.assert_array_equal(whole(section), tifffile.imread(path))
    check_range_used(section, None)
    full = open_section(path, input_range="full")
    assert (full.value_range, full.range_place) == ((0, 65535), None)
    assert open_section(path, input_range=(5, 900)).value_range == (5, 900)


def test_a_run_is_the_one_with_the_range_given(tmp_path: Path, call: Callable[..., int]) -> None:
    write_tiff(tmp_path / "a.tif", "MaxSampleValue", 10)
    tifffile.imwrite(tmp_path / "b.tif", of_bits(10))
    assert call("run", tmp_path / "a.tif", tmp_path / "a.zarr", *RUN, "--scale", 2) == 0
    words = ("--scale", 2, "--input-range", 0, 1023)
    assert call("run", tmp_path / "b.tif", tmp_path / "b.zarr", *RUN, *words) == 0
    images = [zarr.open_array(tmp_path / name / "0", mode="r")[:] for name in ("a.zarr", "b.zarr")]
    np.testing.assert_array_equal(*images)
    assert images[0].max() <= 1023
    assert call("run", tmp_path / "b.tif", tmp_path / "c.zarr", *RUN) == 3


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.uint16, 0, 813), (np.uint16, 100, 1023), (np.uint8, 0, 199)]
)
def test_the_extremes_of_the_pixels_are_no_range(
    tmp_path: Path, dtype: Any, low: int, high: int, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.clip(of_bits(8), low, high).astype(dtype)
    tags = [(280, 3, 1, low, True), (281, 3, 1, high, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, extratags=tags)
    with caplog.at_level(logging.INFO):
        section = open_section(tmp_path / "a.tif")
    assert section.value_range == (0, np.iinfo(dtype).max)
    assert f"states the values {low} to {high} by MaxSampleValue, which is no number of bits" in caplog.text


def test_a_file_that_does_not_keep_its_own_limits_is_refused(
    tmp_path: Path, call: Callable[..., int], capfd: Any
) -> None:
    tags = [(281, 3, 1, 1023, True)]
    tifffile.imwrite(tmp_path / "a.tif", of_bits(12), metadata=None, extratags=tags)
    assert call("run", tmp_path / "a.tif", tmp_path / "out.zarr", *RUN) == 3
    said = capfd.readouterr().err
    assert "states values from 0 to 1023 by MaxSampleValue, but" in said
    assert "say what black and white are by --input-range LO HI" in said
    assert call("run", tmp_path / "a.tif", tmp_path / "out.zarr", *RUN, "--input-range", 0, 4095) == 0


@pytest.mark.parametrize("storage", [{}, {"tile": (64, 64), "compression": "deflate"}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_as_0_is_inverted_with_a_word(
    tmp_path: Path, dtype: Any, storage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pixels = of_bits(8 * np.dtype(dtype).itemsize, dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite", metadata=None, **storage)
    with caplog.at_level(logging.INFO):
        window = whole(open_section(tmp_path / "a.tif"))
    np.testing.assert_array_equal(window, np.iinfo(dtype).max - tifffile.imread(tmp_path / "a.tif"))
    assert "0 means white" in caplog.text
    if dtype == np.uint8:
        np.testing.assert_array_equal(window, np.asarray(Image.open(tmp_path / "a.tif")))


def test_white_as_0_goes_with_fewer_bits(tmp_path: Path) -> None:
    pixels = of_bits(12)
    tifffile.imwrite(tmp_path / "a.tif", pixels, bitspersample=12, photometric="miniswhite", metadata=None)
    section = open_section(tmp_path / "a.tif")
    assert section.value_range == (0, 4095)
    np.testing.assert_array_equal(whole(section), 4095 - pixels)
    tags = [(281, 3, 1, 4095, True)]
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="miniswhite", metadata=None, extratags=tags)
    section = open_section(tmp_path / "b.tif")
    low, high = section.value_range
    assert (low, high) == (65535 - 4095, 65535)
    np.testing.assert_array_equal(whole(section) - low, 4095 - pixels)
    check_range_used(section, None)


@pytest.mark.parametrize(
    ("photometric", "word"),
    [(0, "MinIsWhite"), (32803, "colour filter array"), (32844, "logarithms"), (34892, "raw values")],
)
def test_values_that_are_no_grey_levels_are_refused(tmp_path: Path, photometric: int, word: str) -> None:
    dtype = np.float32 if photometric == 0 else np.uint16
    tifffile.imwrite(tmp_path / "a.tif", of_bits(8, dtype), metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags[262].overwrite(photometric)
    with pytest.raises(InputError, match=word):
        open_section(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(60, 50), (60, 50, 3), (4, 60, 50)])
def test_a_file_that_does_not_say_what_0_is_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    kind = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric=kind, metadata=None)
    raw = (tmp_path / "a.tif").read_bytes()
    unsaid = raw.replace(b"\x06\x01\x03\0\x01\0\0\0", b"\x07\x01\x03\0\x01\0\0\0")  # tag 262 becomes 263
    assert unsaid != raw
    (tmp_path / "a.tif").write_bytes(unsaid)
    with pytest.raises(InputError, match="does not say whether 0 is black"):
        open_section(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("offset", "slope", "refused"), [(-32768.0, 1.0, True), (0.0, 0.5, False), (10.0, -1.0, False)]
)
def test_a_calibration_of_imagej_is_said_and_signed_values_are_refused(
    tmp_path: Path, offset: float, slope: float, refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    stated = {"axes": "YX", "cf": 0, "c0": offset, "c1": slope, "vunit": "gray value"}
    tifffile.imwrite(path, of_bits(16), imagej=True, metadata=stated)
    if refused:
        with pytest.raises(InputError, match="holds int16 pixels"):
            open_section(path)
        return
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(whole(open_section(path)), tifffile.imread(path))
    assert f"value = {offset} + {slope} * stored" in caplog.text


def test_sections_of_other_bits_make_no_volume(tmp_path: Path) -> None:
    write_tiff(tmp_path / "s1.tif", "BitsPerSample", 12)
    write_tiff(tmp_path / "s2.tif", "BitsPerSample", 12)
    assert open_section(tmp_path).value_range == (0, 4095)
    write_tiff(tmp_path / "s2.tif", "BitsPerSample", 10)
    with pytest.raises(InputError, match=r"of 0 to 4095 and s2\.tif is .*of 0 to 1023"):
        open_section(tmp_path)


def test_the_limits_of_a_mask_mean_nothing(tmp_path: Path) -> None:
    drawn = np.array([[0, 1023], [2, 7]], np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", drawn, metadata=None, extratags=[(281, 3, 1, 1023, True)])
    np.testing.assert_array_equal(whole(open_mask(tmp_path / "m.tif")), [[0, 1], [2, 1]])


# --- NIfTI --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 4095, (0, 4095)), (0, 1023, (0, 1023)), (0, 813, (0, 65535)), (50, 1023, (0, 65535)), (0, 0, (0, 65535))],
)  # fmt: skip
def test_nifti_cal_max_counts_where_it_is_a_number_of_bits(
    tmp_path: Path, low: float, high: float, expected: tuple[float, float]
) -> None:
    image: Any = nibabel.Nifti1Image(of_bits(10), np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = low, high
    nibabel.save(image, tmp_path / "a.nii")
    section = open_section(tmp_path / "a.nii")
    assert section.value_range == expected
    np.testing.assert_array_equal(whole(section).T, np.asarray(nibabel.load(tmp_path / "a.nii").dataobj))


# --- MINC ---------------------------------------------------------------------------------------


def write_minc(
    path: Path, pixels: NDArray[Any], valid: Any = None, means: tuple[float, float] | None = None
) -> None:
    """Write a MINC2 file of one section with limits of its values, and what they mean."""
    with h5py.File(path, "w") as file:
        image = file.create_dataset("minc-2.0/image/0/image", data=pixels[np.newaxis])
        image.attrs["dimorder"] = np.bytes_("yspace,zspace,xspace")
        if valid is not None:
            image.attrs["valid_range"] = np.array(valid, float)
        for name, value in zip(("image-min", "image-max"), means or (), strict=False):
            file["minc-2.0/image/0/image"].parent[name] = np.array([value])


@pytest.mark.parametrize(
    ("valid", "expected"),
    [((0, 4095), (0, 4095)), ((10, 3000), (10, 3000)), ((4095, 0), (0, 4095)), ((0, 65535), (0, 65535)), (None, (0, 65535))],
)  # fmt: skip
def test_minc_valid_range_is_the_range(tmp_path: Path, valid: Any, expected: tuple[float, float]) -> None:
    pixels = np.clip(of_bits(11), 10, None)
    write_minc(tmp_path / "a.mnc", pixels, valid)
    section = open_section(tmp_path / "a.mnc")
    assert section.value_range == expected
    with h5py.File(tmp_path / "a.mnc") as file:
        np.testing.assert_array_equal(whole(section), file["minc-2.0/image/0/image"][0])


@pytest.mark.parametrize("valid", [(-32768, 32767), (0, 1e300), (np.nan, 5)])
def test_a_valid_range_that_is_none_is_said(
    tmp_path: Path, valid: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write_minc(tmp_path / "a.mnc", of_bits(16), valid)
    assert open_section(tmp_path / "a.mnc").value_range == (0, 65535)
    assert "by valid_range, which uint16 does not have" in caplog.text


def test_minc_values_beyond_the_valid_range_are_refused(tmp_path: Path) -> None:
    write_minc(tmp_path / "a.mnc", of_bits(12), (0, 1000))
    with pytest.raises(InputError, match="states values from 0 to 1000 by valid_range"):
        check_range_used(open_section(tmp_path / "a.mnc"), None)


def test_what_minc_values_mean_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_minc(tmp_path / "a.mnc", of_bits(8, np.uint8), (0, 255), (0.0, 255.0))
    write_minc(tmp_path / "b.mnc", of_bits(8, np.uint8), (0, 255), (-3.0, 2.5))
    write_minc(tmp_path / "c.mnc", of_bits(8, np.uint8), (0, 255), (9.0, 2.0))
    with caplog.at_level(logging.INFO):
        open_section(tmp_path / "a.mnc")
    assert not caplog.records
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(whole(open_section(tmp_path / "b.mnc")), of_bits(8, np.uint8))
    assert "0 to 255 mean -3 to 2.5" in caplog.text
    with pytest.raises(InputError, match="turns dark to light"):
        open_section(tmp_path / "c.mnc")


def test_limits_of_floating_point_are_statistics(tmp_path: Path) -> None:
    top = float(np.finfo(np.float32).max)
    for number, valid in enumerate(((-top, top), (0.0, 0.83), (0.0, 1.0))):
        write_minc(tmp_path / f"{number}.mnc", of_bits(0, np.float32), valid)
        assert open_section(tmp_path / f"{number}.mnc").value_range == (0, 1)
    write_minc(tmp_path / "a.mnc", of_bits(8, np.float32), (0, 255))
    assert open_section(tmp_path / "a.mnc").value_range == (0, 255)


# --- Zarr ---------------------------------------------------------------------------------------


def write_ome_zarr(path: Path, pixels: NDArray[Any], window: dict[str, float] | None) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(64, 64))[...] = pixels
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    if window is not None:
        group.attrs["omero"] = {"channels": [{"label": "grey", "color": "FFFFFF", "window": window}]}


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"min": 0, "max": 4095, "start": 100, "end": 900}, (0, 4095)),
        ({"min": 0, "max": 1023}, (0, 1023)),
        ({"min": 0, "max": 65535, "start": 0, "end": 1023}, (0, 65535)),
        ({"start": 0, "end": 1023}, (0, 65535)),
        ({"min": 7, "max": 871, "start": 7, "end": 871}, (0, 65535)),
    ],
    ids=["12-bits", "10-bits", "shown", "shown-only", "statistics"],
)
def test_an_omero_window_counts_where_it_means_limits(
    tmp_path: Path, window: dict[str, float], expected: tuple[float, float]
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", of_bits(10), window)
    section = open_section(tmp_path / "a.zarr")
    assert section.value_range == expected
    np.testing.assert_array_equal(whole(section), zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")[:])


def test_limits_and_scales_in_attributes_of_an_array(tmp_path: Path) -> None:
    def write(**stated: Any) -> Path:
        array = zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(200, 220), dtype="u2", chunks=(64, 64))
        array[...] = of_bits(10)
        array.attrs.update(stated)
        return tmp_path / "a.zarr"

    assert open_section(write(valid_range=[0, 1023])).value_range == (0, 1023)
    assert open_section(write(valid_min=0, valid_max=2000)).value_range == (0, 2000)
    assert open_section(write(scale_factor=1.0, add_offset=0)).value_range == (0, 65535)
    for stated in ({"scale_factor": 0.1}, {"add_offset": -100}, {"scale_factor": -1, "add_offset": 65535}):
        with pytest.raises(InputError, match="rescales its values"):
            open_section(write(**stated))


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
@pytest.mark.parametrize("form", [2, 3])
def test_a_codec_that_scales_is_refused(tmp_path: Path, form: Any) -> None:
    codec = FixedScaleOffset(offset=100, scale=2, dtype="u2", astype="u2")
    if form == 2:
        filters: Any = [codec]
    else:
        from zarr.codecs import numcodecs

        filters = [numcodecs.FixedScaleOffset(offset=100, scale=2, dtype="<u2", astype="<u2")]
    zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 64), dtype="u2", chunks=(64, 64), filters=filters, zarr_format=form
    )[...] = 200
    with pytest.raises(InputError, match=r"stored by the codec .*[Ff]ixed_?[Ss]cale_?[Oo]ffset"):
        open_section(tmp_path / "a.zarr")


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("fill", [0, 200, 65535])
def test_missing_chunks_have_the_fill_value(tmp_path: Path, form: Any, fill: int) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(200, 220), dtype="u2", chunks=(64, 64), fill_value=fill, zarr_format=form
    )
    array[64:128, 64:128] = of_bits(16)[:64, :64]
    np.testing.assert_array_equal(
        whole(open_section(tmp_path / "a.zarr")), zarr.open_array(tmp_path / "a.zarr", mode="r")[:]
    )
