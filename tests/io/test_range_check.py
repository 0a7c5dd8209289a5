"""An image that does not use the range it is taken to have is refused with the range that it likely has."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from skimage import data

import bigrestore
from bigrestore.errors import InputError, UsageError
from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.io.open_section import open_section

RUN = ("--method", "catmull-rom", "--no-report", "--progress", "none", "--mask", "none")
Pixels = np.ndarray[Any, Any]


def grey(side: int = 300) -> Pixels:
    """Real tissue, 0..1."""
    tissue: Pixels = np.asarray(data.immunohistochemistry()).mean(axis=2)[:side, :side] / 255
    return tissue


def save(path: Path, pixels: Pixels) -> Path:
    zarr.save_array(path, pixels)
    return path


def bits_used(bits: int, pixels: Pixels | None = None) -> Pixels:
    return np.rint((grey() if pixels is None else pixels) * (2**bits - 1)).astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_the_bits_of_a_camera_are_named(
    tmp_path: Path, bits: int, call: Callable[..., int], capfd: Any
) -> None:
    source, out = save(tmp_path / "in.zarr", bits_used(bits)), tmp_path / "out.ome.zarr"
    assert call("run", source, out, *RUN) == 3
    said = capfd.readouterr().err
    assert f"--input-range 0 {2**bits - 1}, or --input-range full" in said
    assert not out.exists()
    assert not Path(f"{out}.bigrestore").exists()
    assert call("run", source, out, *RUN, "--dry-run") == 3
    assert call("run", source, out, *RUN, "--input-range", 0, 2**bits - 1) == 0
    np.testing.assert_array_equal(zarr.open_array(out / "0", mode="r")[:], bits_used(bits))


@pytest.mark.parametrize("spelled", [("--input-range", "full"), ("--input-range=full",)])
def test_a_dark_image_is_restored_where_that_is_said(
    tmp_path: Path, spelled: tuple[str, ...], call: Callable[..., int]
) -> None:
    source, out = save(tmp_path / "in.zarr", bits_used(12)), tmp_path / "out.ome.zarr"
    assert call("run", source, out, *RUN, *spelled) == 0
    np.testing.assert_array_equal(zarr.open_array(out / "0", mode="r")[:], bits_used(12))
    plan = json.loads(Path(f"{out}.bigrestore/plan.json").read_text())
    assert plan["fingerprint"]["settings.input_range"] == "full"
    assert plan["fingerprint"]["input.value_range"] == [0, 65535]


def test_python_and_a_configuration_say_the_same(tmp_path: Path, call: Callable[..., int]) -> None:
    source = save(tmp_path / "in.zarr", bits_used(10))
    asked = {"method": "catmull-rom", "report": False, "progress": "none"}
    with pytest.raises(InputError, match="--input-range 0 1023"):
        bigrestore.restore(source, tmp_path / "a.zarr", **asked)
    assert bigrestore.restore(source, tmp_path / "b.zarr", input_range="full", **asked).blocks_done == 1
    (tmp_path / "run.toml").write_text('input_range = "full"\n')
    assert call("run", source, tmp_path / "c.zarr", *RUN, "--config", tmp_path / "run.toml") == 0


def drawn(kind: str, tmp_path: Path) -> Path:
    """Store 12 bits in every way that has 16."""
    pixels = bits_used(12)
    path = tmp_path / f"in.{kind.split()[0]}"
    if kind == "png":
        Image.fromarray(pixels).save(path)
    elif kind == "tif":
        tifffile.imwrite(path, pixels, tile=(64, 64))
    elif kind == "tif of rgb":
        tifffile.imwrite(path, np.stack([pixels] * 3, axis=-1), photometric="rgb")
    elif kind == "zarr volume":
        save(path, np.stack([pixels // 16, pixels // 8, pixels]))
    else:
        save(path, pixels.astype(">u2") if "swapped" in kind else pixels)
    return path


@pytest.mark.parametrize("kind", ["png", "tif", "tif of rgb", "zarr", "zarr swapped", "zarr volume"])
def test_every_format_is_looked_at(tmp_path: Path, kind: str) -> None:
    section = open_section(drawn(kind, tmp_path))
    with pytest.raises(InputError, match="--input-range 0 4095"):
        check_range_used(section, None)
    check_range_used(section, "full")


def test_bits_that_the_file_states_are_believed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", bits_used(9), bitspersample=12, photometric="minisblack")
    section = open_section(tmp_path / "a.tif")
    assert section.value_range == (0, 4095)
    check_range_used(section, None)
    assert open_section(tmp_path / "a.tif", input_range="full").value_range == (0, 65535)


def test_other_commands_refuse_the_same(tmp_path: Path, call: Callable[..., int], capfd: Any) -> None:
    dark, good = save(tmp_path / "dark.zarr", bits_used(10)), save(tmp_path / "good.zarr", bits_used(16))
    for words in (
        ("profile", dark, "--method", "catmull-rom"),
        ("score", dark, "-o", tmp_path / "s", "--tile-size", 96),
        ("score", "fit-niqe", dark, "-o", tmp_path / "m.npz"),
        ("degrade", dark, tmp_path / "pairs", "--whole", "--seed", 1),
    ):
        code = call(*words)
        said = capfd.readouterr().err
        assert code == 3, words
        assert "range 0 1023" in said, words
    assert call("profile", dark, "--method", "catmull-rom", "--input-range", "full") == 0
    assert call("score", good, "--before", dark, "-o", tmp_path / "s", "--tile-size", 96) == 3
    assert "--before-range 0 1023" in capfd.readouterr().err


@pytest.mark.parametrize("shift", [2, 4, 6, 8])
def test_values_aligned_to_the_left_are_taken_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shift: int
) -> None:
    pixels = (bits_used(16 - shift) << shift).astype(np.uint16)
    check_range_used(open_section(save(tmp_path / "a.zarr", pixels)), None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"uses {16 - shift} of 16 bits" in caplog.text


@pytest.mark.parametrize(
    "what", ["16 bits", "8 bits times 257", "blank", "8 bits", "two values", "one bright field"]
)
def test_images_that_use_their_range_meet_no_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    dark = bits_used(10, grey(512))
    bright = np.pad(dark, [(0, 3000), (0, 3000)])
    bright[700:1100, 900:1200] = 60000  # between the windows that are sampled
    pixels = {
        "16 bits": bits_used(16),
        "8 bits times 257": (np.rint(grey() * 255) * 257).astype(np.uint16),
        "blank": np.zeros((300, 300), np.uint16),
        "8 bits": (grey() * 40).astype(np.uint8),
        "two values": np.where(grey() > 0.5, 65280, 0).astype(np.uint16),
        "one bright field": bright,
    }[what]
    section = open_section(save(tmp_path / "a.zarr", pixels))
    caplog.clear()  # a blank array has no chunk, which is said when it is opened
    check_range_used(section, None)
    assert not caplog.records


def test_half_of_the_range_is_worth_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_range_used(open_section(save(tmp_path / "a.zarr", bits_used(15))), None)
    assert "if white is less, give it by --input-range" in caplog.text


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_floats_far_below_white_are_refused_too(tmp_path: Path, bits: int) -> None:
    section = open_section(save(tmp_path / "a.zarr", (bits_used(bits) / 65535).astype(np.float32)))
    with pytest.raises(InputError, match="--input-range LO HI"):
        check_range_used(section, None)
    check_range_used(section, "full")
    check_range_used(open_section(save(tmp_path / "b.zarr", grey().astype(np.float32))), None)


def test_values_beyond_the_stated_range_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "a.zarr", bits_used(12))
    for stated, words in (((0.0, 1023.0), 1), ((0.0, 4095.0), 0), ((2000.0, 4095.0), 1)):
        caplog.clear()
        check_range_used(open_section(path, input_range=stated), stated)
        assert len(caplog.records) == words
        assert not words or "beyond --input-range" in caplog.text


@pytest.mark.parametrize("command", ["run", "run --dry-run", "profile", "degrade --whole"])
def test_a_range_that_cuts_off_tissue_is_warned_of_with_the_share(
    tmp_path: Path, command: str, call: Callable[..., int], capfd: Any
) -> None:
    pixels = np.full((1280, 1280), 240, np.uint8)  # tissue where no sampled window lies
    pixels[256:512, 256:512] = np.rint(grey(256) * 255)
    clipped = 100 * float((pixels[256:512, 256:512] > 190).mean())
    source, (name, *flags) = save(tmp_path / "in.zarr", pixels), command.split()
    rest = {"run": [tmp_path / "out.ome.zarr", *RUN], "profile": ["--method", "catmull-rom"]}
    output = rest.get(name, [tmp_path / "pairs", "--seed", 1, "--progress", "none"])
    assert call(name, source, *output, *flags, "--input-range", 0, 190) == 0
    said = re.findall(r"Section 0: ([\d.]+) % of the pixels of its tissue lie beyond", capfd.readouterr().err)
    assert len(said) == 1, "once"
    assert float(said[0]) == pytest.approx(clipped, abs=8)
    assert call("profile", source, "--method", "catmull-rom", "--input-range", 0, 255) == 0
    assert "lie beyond" not in capfd.readouterr().err


def test_what_a_range_cuts_off_of_a_background_alone_is_not_warned_of(
    tmp_path: Path, call: Callable[..., int], capfd: Any
) -> None:
    pixels = np.full((1280, 1280), 240, np.uint8)
    pixels[256:640, 256:640] = np.rint(grey(384) * 200)
    source = save(tmp_path / "in.zarr", pixels)
    assert call("run", source, tmp_path / "out.ome.zarr", *RUN, "--input-range", 0, 230) == 0
    assert "lie beyond" not in capfd.readouterr().err


@pytest.mark.parametrize("stated", [(0, 20), (60000, 65535), (70000, 80000)])
@pytest.mark.parametrize("kind", ["grey", "volume", "colour"])
def test_a_range_that_leaves_nothing_is_refused(
    tmp_path: Path, stated: tuple[int, int], kind: str, call: Callable[..., int], capfd: Any
) -> None:
    pixels = 1000 + bits_used(12, grey(200))
    if kind == "volume":
        pixels = np.stack([pixels] * 3)
    path = save(tmp_path / "in.zarr", pixels)
    if kind == "colour":
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, np.stack([pixels] * 3, axis=-1), photometric="rgb")
    for words in (
        ("run", path, tmp_path / "out.ome.zarr", *RUN, "--input-range", *stated),
        ("profile", path, "--method", "catmull-rom", "--input-range", *stated),
        ("score", path, "-o", tmp_path / "s", "--tile-size", 96, "--input-range", *stated),
    ):
        assert call(*words) == 3
        assert "not one in a thousand lies within --input-range" in capfd.readouterr().err
    assert not (tmp_path / "out.ome.zarr").exists()


def test_sections_that_are_blank_do_not_refuse_the_range_of_a_volume(tmp_path: Path) -> None:
    volume = np.zeros((5, 200, 200), np.uint16)
    volume[3] = 1000 + bits_used(12, grey(200))
    section = open_section(save(tmp_path / "in.zarr", volume), input_range=(1000, 5200))
    check_range_used(section, (1000, 5200))


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "uint32", "int64", "uint64", "float64", "float16"]
)
def test_other_types_are_told_what_to_convert(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(
        InputError, match=f"holds {dtype} pixels.*convert it to (uint8|uint16|float32)"
    ) as info:
        open_section(save(tmp_path / "a.zarr", (grey(40) * 100).astype(dtype)))
    if dtype in ("int16", "int32", "uint32"):
        assert "--input-range LO HI" in str(info.value)


@pytest.mark.parametrize("words", [("0", "x"), ("5", "1"), ("full", "1"), ("nan", "1"), ("-inf", "inf")])
def test_ranges_that_are_none_are_refused(
    words: tuple[str, str], tmp_path: Path, call: Callable[..., int]
) -> None:
    source = save(tmp_path / "in.zarr", bits_used(16))
    assert call("run", source, tmp_path / "out.zarr", *RUN, "--input-range", *words) == 2
    with pytest.raises(UsageError, match="or full for the range of the type"):
        bigrestore.restore(source, tmp_path / "out.zarr", input_range="most")
