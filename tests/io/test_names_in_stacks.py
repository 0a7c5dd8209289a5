"""A volume of files names the file that cannot be read: its number is not the section's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bigrestore.errors import InputError
from bigrestore.io.open_section import open_section

SIDE = 64


def torn_tiff(path: Path, pixels: np.ndarray) -> None:
    """Write a TIFF with a header that is whole and a strip that is not."""
    tifffile.imwrite(path, pixels, compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        start, size = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\x55" * size
    path.write_bytes(content)


def infinite_tiff(path: Path, pixels: np.ndarray) -> None:
    values = (pixels / 255).astype("f4")
    values[3, 4] = np.inf
    tifffile.imwrite(path, values)


def torn_png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    content[60:160] = b"\x55" * 100
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".tif", torn_tiff), (".tif", infinite_tiff), (".png", torn_png)]
)
def test_the_file_is_named(tmp_path: Path, suffix: str, write: Callable[[Path, np.ndarray], None]) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (SIDE, SIDE), dtype=np.uint8)
    for number in (105, 106, 107):
        path = tmp_path / f"pm{number}{suffix}"
        write(path, pixels)
        if number != 106 and write is torn_png:
            Image.fromarray(pixels).save(path)
        elif number != 106:
            tifffile.imwrite(path, pixels if write is torn_tiff else (pixels / 255).astype("f4"))
    section = open_section(tmp_path)
    section.read(0, 0, SIDE, 0, SIDE)
    with pytest.raises(InputError, match=rf"pm106\{suffix}"):
        section.read(1, 0, SIDE, 0, SIDE)
