"""Any input that a run reads can be adapted to, and a large one is sampled block by block."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bigrestore.errors import InputError, UsageError
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.run.profile.section_profile import sample_section
from bigrestore.training.adaptation import sections as adapt_sections
from bigrestore.training.adaptation.reading import inverse_filter
from bigrestore.training.adaptation.sections import choose_blocks, open_slices, read_tissue, spread
from tests.adaptation.conftest import texture


def save(path: Path, pixels: Any) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_numbers_are_spread_evenly() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(5, 1) == [2]


def test_sections_of_volumes_are_named_by_their_index(tmp_path: Path) -> None:
    volume = np.stack([texture(140, 150, seed) for seed in range(60)]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "volume.tif", volume, metadata={"axes": "ZYX"})
    single = save(tmp_path / "one.png", volume[0])
    slices = open_slices([tmp_path / "volume.tif", single])
    assert [one.name for one in slices][-1] == "one.png"
    assert len(slices) == 12 + 1
    assert slices[0].name == "volume.tif z=2"
    assert all(f"z={one.z}" in one.name for one in slices[:-1])


def test_no_section_and_one_that_cannot_be_read_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no section is named"):
        open_slices([])
    whole = save(tmp_path / "a.png", texture(140, 150).astype(np.uint8))
    torn = tmp_path / "b.png"
    torn.write_bytes(whole.read_bytes()[:200])
    for bad, words in ((torn, r"b\.png"), (tmp_path / "nowhere.tif", r"nowhere\.tif")):
        with pytest.raises(InputError, match=words):
            [one.section.read(0, 0, 10, 0, 10) for one in open_slices([whole, bad])]


def test_colour_is_taken_by_its_luma(tmp_path: Path, start_model: Path) -> None:
    grey = texture(260, 260).astype(np.uint8)
    colour = np.stack([grey, 255 - grey, np.full_like(grey, 90)], -1)
    model = load_model(start_model).restorer
    as_luma = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    tissues = [
        read_tissue(open_slices([save(tmp_path / name, pixels)])[0], model, 1)
        for name, pixels in (("colour.png", colour), ("luma.png", as_luma))
    ]
    made = [tissue.blocks[0].astype(int) for tissue in tissues]
    assert made[0].shape == (260, 260)
    reading = tissues[0].reading
    assert reading is not None
    most = (
        0.5 * 257 * float(inverse_filter(reading).abs().sum())
    )  # the luma is rounded by half a level at most
    assert np.abs(made[0] - made[1]).max() <= most + 1


def test_a_stated_range_is_what_black_and_white_are(tmp_path: Path, start_model: Path) -> None:
    values = (texture(260, 260) * 4 + 100).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values)
    model = load_model(start_model).restorer
    one = open_slices([tmp_path / "a.tif"], input_range=(100, 1120))[0]
    block = read_tissue(one, model, 1).blocks[0]
    assert float(block.mean()) / 65535 == pytest.approx(float(texture(260, 260).mean()) / 255, abs=0.01)


def test_a_section_without_tissue_gives_nothing(tmp_path: Path, start_model: Path) -> None:
    white = save(tmp_path / "white.png", np.full((300, 300), 250, np.uint8))
    tissue = read_tissue(open_slices([white])[0], load_model(start_model).restorer, 2)
    assert tissue.reading is None
    assert tissue.blocks == ()


def test_blocks_are_full_of_tissue_and_spread_over_it() -> None:
    tissue = np.zeros((100, 200), bool)
    tissue[:, 100:] = True  # the right half
    tissue[:10, :10] = True
    places = choose_blocks(tissue, 81.92, 8192, 16384, 4)
    assert len(places) == 4
    assert all(x0 >= 8192 for _, _, x0, _ in places)
    assert len({y0 for y0, _, _, _ in places}) > 1
    assert all(y1 - y0 == x1 - x0 == 2048 for y0, y1, x0, x1 in places)
    assert choose_blocks(np.ones((10, 10), bool), 10.0, 100, 100, 5) == [(0, 100, 0, 100)]
    sides = {y1 - y0 for y0, y1, _, _ in choose_blocks(np.ones((30, 30), bool), 100.0, 3000, 3000, 9)}
    assert sides == {1500}


def test_a_large_section_is_taken_in_block_by_block(
    tmp_path: Path, start_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt_sections, "LARGEST_BLOCK_PX", 256)
    side = 3072
    tifffile.imwrite(
        tmp_path / "large.tif", np.tile(texture(768, 768).astype(np.uint8), (4, 4)), tile=(256, 256)
    )
    model = load_model(start_model).restorer
    one = open_slices([tmp_path / "large.tif"])[0]
    sample = sample_section(one.section, 0)
    monkeypatch.setattr(adapt_sections, "sample_section", lambda *_: sample)
    tracemalloc.start()
    tissue = read_tissue(one, model, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [block.shape for block in tissue.blocks] == [(256, 256)] * 3
    assert peak < 4 * side * side, "less than one float for every pixel of the section"
