"""Guards masks that were refused for the type their program writes, or whose labels a change of type turns."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputError
from bigrestore.io.drawn_inputs import open_mask
from bigrestore.io.open_section import open_section
from bigrestore.run.tile.mask import UserMask

DRAWN = np.zeros((40, 50), bool)
DRAWN[5:31, 7:] = True


def read(path: Path) -> NDArray[Any]:
    """Read the whole of a mask."""
    mask = open_mask(path)
    assert (mask.dtype, mask.channels) == (np.dtype(np.uint8), 1)
    return mask.read(0, 0, mask.height, 0, mask.width)


def save_png(path: Path) -> None:
    Image.fromarray(DRAWN).save(path)


def save_tiff(path: Path, **options: Any) -> None:
    tifffile.imwrite(path, DRAWN, **options)


@pytest.mark.parametrize("name", ["a.png", "raw.tif", "deflate.tif", "group4.tif", "pillow.tif", "a.zarr"])
def test_a_mask_of_one_bit_per_pixel_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.png":
        save_png(path)
    elif name in ("group4.tif", "pillow.tif"):  # white is zero in the first, black in the second
        Image.fromarray(DRAWN).save(path, compression=None if name == "pillow.tif" else "group4")
    elif name == "a.zarr":
        zarr.create_array(path, data=DRAWN, chunks=(16, 16))
    else:
        save_tiff(path, compression="deflate" if name == "deflate.tif" else None)
    np.testing.assert_array_equal(read(path), DRAWN.astype(np.uint8))
    with pytest.raises(InputError, match="mask"):
        open_section(path)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64", ">i2", ">u4"]
)
@pytest.mark.parametrize("kind", ["zarr", "tif"])
def test_labels_keep_their_meaning_in_every_integer_type(tmp_path: Path, dtype: str, kind: str) -> None:
    info = np.iinfo(dtype)
    drawn = np.array([[0, 1, 2, 3], [info.max, info.min, min(256, info.max), min(258, info.max)]], dtype)
    wanted = np.array([[0, 1, 2, 1], [1, int(info.min != 0), 1, 1]])
    path = tmp_path / f"a.{kind}"
    if kind == "zarr":
        native: Any = drawn.astype(drawn.dtype.newbyteorder("="))
        zarr.create_array(path, data=native)
    else:
        tifffile.imwrite(path, drawn, byteorder=">" if dtype[0] == ">" else "<")
    np.testing.assert_array_equal(read(path), wanted)


def test_a_nifti_mask_of_int16_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(DRAWN.T.astype(np.int16), np.eye(4)), tmp_path / "m.nii")
    np.testing.assert_array_equal(read(tmp_path / "m.nii"), DRAWN)


def test_a_folder_of_masks_is_a_volume(tmp_path: Path) -> None:
    for z in range(3):
        Image.fromarray(DRAWN if z == 1 else ~DRAWN).save(tmp_path / f"m{z}.png")
    mask = open_mask(tmp_path)
    assert mask.shape == (3, 40, 50)
    np.testing.assert_array_equal(mask.read(1, 0, 40, 0, 50), DRAWN)
    assert mask.fingerprint() == open_mask(tmp_path).fingerprint()


def test_what_is_no_mask_is_said(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "f", data=np.ones((9, 9), np.float32))
    with pytest.raises(InputError, match=r"float32 values.*convert it to uint8\.$"):
        open_mask(tmp_path / "f")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="3 channels"):
        open_mask(tmp_path / "c.png")


def test_a_run_takes_a_mask_of_one_bit(tmp_path: Path) -> None:
    save_png(tmp_path / "m.png")
    mask = UserMask.open(str(tmp_path / "m.png"), (1, 40, 50), Fraction(1))
    np.testing.assert_array_equal(mask.section.read(0, 0, 40, 0, 50), DRAWN)
