"""Neuroglancer's precomputed volumes: raw, JPEG and PNG chunks, their place, and what is refused."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from bigrestore.errors import InputError, UsageError
from bigrestore.io.open_section import open_section


def write_volume(
    path: Path,
    levels: list[NDArray[Any]],
    *,
    encoding: str = "raw",
    chunk: tuple[int, int, int] = (16, 20, 4),
    offset: tuple[int, int, int] = (0, 0, 0),
    packed: bool = False,
    **stated: Any,
) -> Path:
    """Write a volume from levels of (c, z, y, x), each reduced by two along y and x."""
    scales = []
    for number, pixels in enumerate(levels):
        size, key, factor = pixels.shape[:0:-1], f"{number}_nm", 2**number
        start = (offset[0] // factor, offset[1] // factor, offset[2])
        (path / key).mkdir(parents=True)
        for place in itertools.product(*(range(-(-n // side)) for n, side in zip(size, chunk, strict=True))):
            spans = [
                (at * side, min((at + 1) * side, n)) for at, side, n in zip(place, chunk, size, strict=True)
            ]
            part = pixels[:, slice(*spans[2]), slice(*spans[1]), slice(*spans[0])]
            name = "_".join(f"{a + by}-{b + by}" for (a, b), by in zip(spans, start, strict=True))
            flat = np.ascontiguousarray(np.moveaxis(part, 0, -1)).reshape(-1, part.shape[3], part.shape[0])
            image = flat[..., 0] if part.shape[0] == 1 else flat
            content = {
                "raw": part.tobytes,
                "jpeg": lambda image=image: imagecodecs.jpeg_encode(image, level=100),
                "png": lambda image=image: imagecodecs.png_encode(image),
            }[encoding]()
            file = path / key / (f"{name}.gz" if packed else name)
            file.write_bytes(gzip.compress(content) if packed else content)
        scales.append(
            {
                "key": key,
                "size": list(size),
                "voxel_offset": list(start),
                "chunk_sizes": [list(chunk)],
                "resolution": [2000 * factor, 1000 * factor, 20000],
                "encoding": encoding,
            }
        )
    first = levels[0]
    info = {"type": "image", "data_type": first.dtype.name, "num_channels": len(first), "scales": scales}
    (path / "info").write_text(json.dumps(info | stated))
    return path


def values(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_windows_are_those_of_the_volume(tmp_path: Path, encoding: str, packed: bool, dtype: Any) -> None:
    if encoding == "jpeg" and dtype is not np.uint8:
        pytest.skip("JPEG holds 8 bits")
    if encoding == "png" and dtype is np.float32:
        pytest.skip("PNG holds integers")
    pixels = values(1, 6, 50, 70, dtype=dtype)
    path = write_volume(tmp_path / "v", [pixels], encoding=encoding, packed=packed, offset=(5, 7, 3))
    section = open_section(path, input_range=(0, 255) if dtype is np.float32 else None)
    assert (section.kind, section.shape, section.dtype) == ("precomputed", (6, 50, 70), np.dtype(dtype))
    for z, y0, y1, x0, x1 in ((0, 0, 50, 0, 70), (5, 13, 49, 15, 17), (3, 20, 21, 69, 70)):
        window, wanted = section.read(z, y0, y1, x0, x1), pixels[0, z, y0:y1, x0:x1]
        np.testing.assert_allclose(window.astype(float), wanted, atol=3 if encoding == "jpeg" else 0)


def test_scales_are_levels_at_their_place(tmp_path: Path) -> None:
    levels = [values(1, 2, 40, 60), values(1, 2, 20, 30), values(1, 2, 10, 15)]
    path = write_volume(tmp_path / "v", levels, offset=(8, 4, 10))
    for number in range(3):
        section, factor = open_section(path, level=number), 2**number
        assert section.levels == ((2, 40, 60), (2, 20, 30), (2, 10, 15))
        assert section.voxel_size_um == (20.0, 1.0 * factor, 2.0 * factor)
        assert section.translation_um == (200.0, 4.0 + (factor - 1) / 2, 16.0 + (factor - 1))
        np.testing.assert_array_equal(
            section.read(1, 0, *section.shape[1:2], 0, section.shape[2]), levels[number][0, 1]
        )


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_channels(tmp_path: Path, encoding: str) -> None:
    pixels = values(3, 5, 30, 40)
    path = write_volume(tmp_path / "rgb", [pixels], encoding=encoding)
    section = open_section(path)
    assert section.channels == 3
    np.testing.assert_array_equal(section.read(4, 0, 30, 0, 40), np.moveaxis(pixels[:, 4], 0, -1))
    np.testing.assert_array_equal(open_section(path, channel=1).read(2, 3, 30, 5, 40), pixels[1, 2, 3:, 5:])
    many = write_volume(tmp_path / "many", [values(5, 2, 30, 40)])
    with pytest.raises(InputError, match=r"5 channels of uint8; .* choose one by --channel, from 0 to 4"):
        open_section(many)
    with pytest.raises(UsageError, match=r"--channel is 5, but .*many has 5 channels"):
        open_section(many, channel=5)


def test_a_missing_chunk_is_black_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = values(1, 4, 40, 32) | 1
    path = write_volume(tmp_path / "v", [pixels])
    (path / "0_nm" / "16-32_20-40_0-4").unlink()
    with caplog.at_level(logging.WARNING):
        window = open_section(path).read(0, 0, 40, 0, 32)
    pixels[0, 0, 20:, 16:] = 0
    np.testing.assert_array_equal(window, pixels[0, 0])
    assert len(caplog.records) == 1
    assert "lacks chunks, such as 0_nm/16-32_20-40_0-4; they are black" in caplog.text


def damaged(change: dict[str, Any] | str, **scale: Any) -> Any:
    def write(path: Path) -> None:
        write_volume(path, [values(1, 2, 20, 30)])
        info = json.loads((path / "info").read_text())
        if isinstance(change, dict):
            info |= change
        if scale:
            info["scales"][0] |= scale
        (path / "info").write_text(change if isinstance(change, str) else json.dumps(info))

    return write


BAD = {
    "no scales": (damaged({"scales": []}), "it has no scales"),
    "no size": (damaged({}, size=None), "size is None"),
    "size of words": (damaged({}, size=["a", 1, 1]), "size is"),
    "empty chunks": (damaged({}, chunk_sizes=[]), "chunk_sizes is None"),
    "chunks of no voxels": (damaged({}, chunk_sizes=[[0, 1, 1]]), "a chunk has the size"),
    "no resolution": (damaged({}, resolution=[1, 2]), "the resolution is"),
    "no type": (damaged({"data_type": "fancy"}), "data_type is 'fancy'"),
    "labels": (damaged({"data_type": "uint64"}), "holds uint64 pixels"),
    "no channels": (damaged({"num_channels": 0}), "num_channels is 0"),
    "sharded": (damaged({}, sharding={"@type": "neuroglancer_uint64_sharded_v1"}), "preshift_bits is None"),
    "encoding": (damaged({}, encoding="compressed_segmentation"), "'compressed_segmentation'"),
    "a billion voxels a chunk": (
        damaged({}, size=[9**8] * 3, chunk_sizes=[[9**8] * 3]),
        "which no image has",
    ),
    "a scale of words": (damaged({"scales": ["x"]}), "a scale has no key"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_metadata_are_a_sentence(tmp_path: Path, case: str) -> None:
    write, words = BAD[case]
    write(tmp_path / "v")
    with pytest.raises(InputError, match=words) as info:
        open_section(tmp_path / "v")
    assert str(tmp_path / "v") in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_a_damaged_chunk_is_a_sentence(tmp_path: Path, encoding: str) -> None:
    path = write_volume(tmp_path / "v", [values(1, 2, 20, 16)], encoding=encoding)
    for file in (path / "0_nm").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=r"0_nm/0-16_0-20_0-2"):
        open_section(path).read(0, 0, 20, 0, 16)


def test_a_key_does_not_lead_out_of_the_volume(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "v", [values(1, 2, 20, 16)])
    (path / "0_nm").rename(tmp_path / "outside")
    info = json.loads((path / "info").read_text())
    info["scales"][0]["key"] = "../outside"
    (path / "info").write_text(json.dumps(info))
    with pytest.raises(InputError, match="leads out of the store"):
        open_section(path).read(0, 0, 20, 0, 16)
