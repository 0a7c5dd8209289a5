"""Guards PNG, JPEG, MINC2, NIfTI and stacks: order, depth, alpha, units, memory, and what is refused."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputError, InputMissingError
from bigrestore.io.formats import image as image_reader
from bigrestore.io.formats import stack as stack_reader
from bigrestore.io.open_section import open_section


def values(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Return random pixels."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


# --- PNG and JPEG -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"), [((60, 70), np.uint8), ((60, 70), np.uint16), ((60, 70, 3), np.uint8)]
)
def test_png_comes_back(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    pixels = values(shape, dtype)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    section = open_section(tmp_path / "a.png")
    assert (section.dtype, section.channels) == (np.dtype(dtype), 3 if len(shape) == 3 else 1)
    np.testing.assert_array_equal(section.read(0, 5, 60, 7, 70), pixels[5:, 7:])


def test_png_of_16_bit_colour_keeps_16_bits(tmp_path: Path) -> None:
    pixels = values((20, 30, 4), np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    section = open_section(tmp_path / "a.png")
    assert section.dtype == np.uint16
    np.testing.assert_array_equal(section.read(0, 0, 20, 0, 30), pixels[..., :3])


def test_jpeg_comes_back(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50), 77, np.uint8)).save(tmp_path / "a.jpg", quality=95)
    assert open_section(tmp_path / "a.jpg").read(0, 0, 40, 0, 50).mean() == pytest.approx(77, abs=1)


def test_png_is_decoded_once_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(values((60, 70))).save(tmp_path / "a.png")
    decoded: list[Path] = []
    original = image_reader._decode

    def counting(path: Path, *rest: Any) -> Any:
        decoded.append(path)
        return original(path, *rest)

    monkeypatch.setattr(image_reader, "_decode", counting)
    section = open_section(tmp_path / "a.png")
    assert decoded == [], "opening decodes"
    for _ in range(3):
        section.read(0, 0, 10, 0, 10)
    assert len(decoded) == 1
    assert section.resident_bytes == 60 * 70


def test_png_larger_than_pillow_trusts_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(values((60, 70))).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_section(tmp_path / "a.png").read(0, 0, 60, 0, 70).shape == (60, 70)
    assert Image.MAX_IMAGE_PIXELS == 100, "the limit of the process is not put back"


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3)])
def test_alpha_is_dropped_and_said(
    tmp_path: Path, mode: str, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = values((20, 30, len(mode)))
    Image.fromarray(pixels, mode=None).save(tmp_path / "a.png")
    with caplog.at_level(logging.INFO):
        section = open_section(tmp_path / "a.png")
    assert "alpha" in caplog.text
    window = section.read(0, 0, 20, 0, 30)
    np.testing.assert_array_equal(window, pixels[..., 0] if channels == 1 else pixels[..., :3])


def test_palettes_are_grey_or_colour_by_their_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(values((20, 30)) % 4)
    for name, palette, channels in (
        ("g", [0, 0, 0, 9, 9, 9, 80, 80, 80, 7, 7, 7], 1),
        ("c", [1, 2, 3] * 4, 3),
    ):
        indexed = picture.copy()
        indexed.putpalette(palette)
        indexed.save(tmp_path / f"{name}.png")
        section = open_section(tmp_path / f"{name}.png")
        assert section.channels == channels
        table = np.array(palette, np.uint8).reshape(-1, 3)
        wanted = table[np.asarray(picture)]
        np.testing.assert_array_equal(
            section.read(0, 0, 20, 0, 30), wanted[..., 0] if channels == 1 else wanted
        )


def test_one_bit_images_are_refused(tmp_path: Path) -> None:
    Image.new("1", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="one bit per pixel"):
        open_section(tmp_path / "a.png")


@pytest.mark.parametrize("dpi", [72, 96, 300])
def test_default_dpi_is_no_voxel_size(tmp_path: Path, dpi: int) -> None:
    Image.fromarray(values((20, 30))).save(tmp_path / "a.png", dpi=(dpi, dpi))
    assert open_section(tmp_path / "a.png").voxel_size_um == (None, None, None)


def test_a_scanner_resolution_is_a_voxel_size(tmp_path: Path) -> None:
    Image.fromarray(values((20, 30))).save(tmp_path / "a.png", dpi=(25400, 25400))
    assert open_section(tmp_path / "a.png").voxel_size_um[1:] == pytest.approx((1.0, 1.0))


def test_png_that_was_cut_off_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(values((200, 200))).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="damaged or cut off"):
        open_section(path).read(0, 0, 200, 0, 200)


# --- stacks -------------------------------------------------------------------------------------


def section_files(folder: Path, count: int = 11) -> NDArray[Any]:
    """Write sections pm1o.png ... and return them."""
    pixels = values((count, 30, 40))
    for z in range(count):
        Image.fromarray(pixels[z]).save(folder / f"pm{z + 1}o.png")
    return pixels


def test_files_become_a_volume_in_natural_order(tmp_path: Path) -> None:
    pixels = section_files(tmp_path)
    (tmp_path / "notes.txt").write_text("not a section")
    for source in (tmp_path, str(tmp_path / "pm*o.png")):
        section = open_section(source)
        assert (section.kind, section.is_volume, section.shape) == ("stack", True, (11, 30, 40))
        np.testing.assert_array_equal(section.data.compute(), pixels)
    picked = open_section([tmp_path / "pm3o.png", tmp_path / "pm1o.png"])
    np.testing.assert_array_equal(picked.data.compute(), pixels[[2, 0]])


def test_a_stack_opens_by_headers_and_keeps_few_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section_files(tmp_path)
    decoded: list[str] = []
    original = image_reader._decode

    def counting(path: Path, *rest: Any) -> Any:
        decoded.append(path.name)
        return original(path, *rest)

    monkeypatch.setattr(image_reader, "_decode", counting)
    section = open_section(tmp_path)
    assert decoded == []
    for z in (0, 0, 1, 0, 1):
        section.read(z, 0, 5, 0, 5)
    assert decoded == ["pm1o.png", "pm2o.png"]
    assert section.resident_bytes == stack_reader.KEPT_OPEN * 30 * 40


def test_the_first_section_that_differs_is_named(tmp_path: Path) -> None:
    section_files(tmp_path)
    Image.fromarray(values((31, 40))).save(tmp_path / "pm7o.png")
    with pytest.raises(InputError, match=r"pm1o.png is 30 x 40 .* and pm7o.png is 31 x 40"):
        open_section(tmp_path)
    Image.fromarray(values((30, 40), np.uint16)).save(tmp_path / "pm7o.png")
    with pytest.raises(InputError, match="uint16"):
        open_section(tmp_path)


def test_tiff_pyramids_stack_level_by_level(tmp_path: Path) -> None:
    pixels = values((2, 64, 64))
    for z in range(2):
        with tifffile.TiffWriter(tmp_path / f"s{z}.tif") as writer:
            writer.write(pixels[z], subifds=1, metadata=None)
            writer.write(pixels[z, ::2, ::2], subfiletype=1, metadata=None)
    section = open_section(tmp_path, level=1)
    assert section.shape == (2, 32, 32)
    np.testing.assert_array_equal(section.read(1, 0, 32, 0, 32), pixels[1, ::2, ::2])


def test_nothing_to_stack_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no file matches"):
        open_section(str(tmp_path / "pm*.png"))
    with pytest.raises(InputError, match="neither a Zarr store nor holds section files"):
        open_section(tmp_path)
    with pytest.raises(InputError, match="empty"):
        open_section([])


# --- MINC2 --------------------------------------------------------------------------------------


def write_minc(
    path: Path, pixels: NDArray[Any], order: str, start: float = 0.0, image_max: Any = 255.0
) -> None:
    """Write a MINC2 file by its layout in HDF5."""
    with h5py.File(path, "w") as file:
        image = file.create_group("minc-2.0/image/0")
        data = image.create_dataset("image", data=pixels, chunks=tuple(min(16, n) for n in pixels.shape))
        data.attrs["dimorder"] = np.bytes_(order)
        image.create_dataset("image-min", data=np.zeros_like(np.asarray(image_max, float)))
        image.create_dataset("image-max", data=np.asarray(image_max, float))
        for name, step in (("xspace", 0.02), ("yspace", 0.04), ("zspace", 0.08)):
            dimension = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0)
            dimension.attrs["step"], dimension.attrs["start"], dimension.attrs["units"] = (
                step,
                start,
                np.bytes_("mm"),
            )


def test_minc_volume_is_sliced_with_its_steps(tmp_path: Path) -> None:
    pixels = values((5, 30, 40))
    write_minc(tmp_path / "v.mnc", pixels, "yspace,zspace,xspace", start=-1.5)
    section = open_section(tmp_path / "v.mnc")
    assert (section.kind, section.shape, section.is_volume) == ("minc", (5, 30, 40), True)
    assert section.voxel_size_um == pytest.approx((40.0, 80.0, 20.0))
    assert section.translation_um == pytest.approx((-1500.0,) * 3)
    np.testing.assert_array_equal(section.read(3, 5, 30, 7, 40), pixels[3, 5:, 7:])


def test_y_start_flaw_of_coronal_sections_is_corrected_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = values((30, 1, 40))
    write_minc(tmp_path / "pm3001o.mnc", pixels, "zspace,yspace,xspace")
    with caplog.at_level(logging.INFO):
        section = open_section(tmp_path / "pm3001o.mnc")
    assert section.shape == (1, 30, 40)
    assert section.translation_um[0] == pytest.approx((-70.01 + 3000 * 0.02) * 1000)
    assert "-10.01 mm" in caplog.text
    assert section.details["y_start_corrected_mm"] == pytest.approx(-10.01)
    np.testing.assert_array_equal(section.read(0, 0, 30, 0, 40), pixels[:, 0])
    write_minc(tmp_path / "pm3002o.mnc", pixels, "zspace,yspace,xspace", start=-9.99)
    assert open_section(tmp_path / "pm3002o.mnc").translation_um[0] == pytest.approx(-9990.0)


def test_minc_with_a_scale_per_slice_is_refused(tmp_path: Path) -> None:
    write_minc(tmp_path / "v.mnc", values((2, 30, 40)), "zspace,yspace,xspace", image_max=[255.0, 200.0])
    with pytest.raises(InputError, match="scales each slice differently"):
        open_section(tmp_path / "v.mnc")


def test_hdf5_that_is_no_minc_is_said(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((4, 4), np.uint8)
    with pytest.raises(InputError, match="not MINC2"):
        open_section(tmp_path / "a.h5")


# --- NIfTI --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_volume_with_units_and_position(tmp_path: Path, suffix: str) -> None:
    pixels = values((5, 30, 40), np.uint16)
    affine = np.diag([0.02, 0.03, 0.04, 1.0])
    affine[:3, 3] = (1.0, 2.0, 3.0)
    image: Any = nibabel.Nifti1Image(pixels.T, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / f"v{suffix}")
    section = open_section(tmp_path / f"v{suffix}")
    assert (section.kind, section.shape) == ("nifti", (5, 30, 40))
    assert section.voxel_size_um == pytest.approx((40.0, 30.0, 20.0))
    assert section.translation_um == pytest.approx((3000.0, 2000.0, 1000.0))
    assert section.resident_bytes == (pixels.nbytes if suffix == ".nii.gz" else 0)
    np.testing.assert_array_equal(section.read(3, 5, 30, 7, 40), pixels[3, 5:, 7:])


def test_nifti_without_unit_stays_unknown(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values((30, 40)), np.eye(4)), tmp_path / "v.nii")
    section = open_section(tmp_path / "v.nii")
    assert (section.shape, section.is_volume) == ((1, 40, 30), False)
    assert section.voxel_size_um == (None, None, None)


def test_nifti_that_rescales_is_refused(tmp_path: Path) -> None:
    image: Any = nibabel.Nifti1Image(values((30, 40)), np.eye(4))
    image.header.set_slope_inter(2.0, 5.0)
    nibabel.save(image, tmp_path / "v.nii")
    raw = bytearray((tmp_path / "v.nii").read_bytes())
    raw[112:120] = np.array([2.0, 5.0], "<f4").tobytes()
    (tmp_path / "v.nii").write_bytes(raw)
    with pytest.raises(InputError, match="rescales"):
        open_section(tmp_path / "v.nii")


@pytest.mark.parametrize(("module", "name"), [("nibabel", "v.nii"), ("h5py", "v.mnc")])
def test_a_missing_extra_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    if name == "v.nii":
        nibabel.save(nibabel.Nifti1Image(values((30, 40)), np.eye(4)), tmp_path / name)
    else:
        write_minc(tmp_path / name, values((2, 30, 40)), "zspace,yspace,xspace")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"needs {module}: pip install '\S+\[formats\]'"):
        open_section(tmp_path / name)


# --- order of folders and odd names -------------------------------------------------------------


def test_files_of_one_name_in_folders_are_ordered_by_the_folders(tmp_path: Path) -> None:
    for number in (10, 2, 1, 33, 4):
        folder = tmp_path / "gd" / f"section{number}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(folder / "img.png")
    section = open_section(str(tmp_path / "gd" / "*" / "img.png"))
    assert [int(section.read(z, 0, 1, 0, 1)[0, 0]) for z in range(5)] == [1, 2, 4, 10, 33]
    assert (section.details["first"], section.details["last"]) == ("section1/img.png", "section33/img.png")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "gd" / "section4" / "img.png")
    with pytest.raises(InputError, match=r"section1/img\.png is .* and .*section4/img\.png is "):
        open_section(str(tmp_path / "gd" / "*" / "img.png"))


def test_digits_that_are_no_numbers_do_not_crash_the_order(tmp_path: Path) -> None:
    names = ["1²2.png", "1²10.png", "1³.png", "٣.png", "Ⅳ.png", "½.png", "①.png"]
    for name in names:
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / name)
    assert open_section(tmp_path).depth == len(names)
    ordered = sorted(map(Path, names), key=stack_reader.natural_key)
    assert ordered.index(Path("1²2.png")) < ordered.index(Path("1²10.png"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)))
def test_any_names_have_one_order_whatever_the_listing(names: list[str]) -> None:
    paths = [Path("a") / name for name in names]
    ordered, listed = sorted(paths, key=stack_reader.natural_key), paths[::-1]
    assert sorted(listed, key=stack_reader.natural_key) == ordered
