"""Guards the training data: range, chance, weights, the tissue rule, and the held-out sections."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputError, InputMissingError, OutputError, UsageError
from bigrestore.training.data.images import (
    GreyImage,
    find_images,
    load_images,
    pack,
    read_grey,
    split_by_section,
)
from bigrestore.training.data.patches import PatchSource, remap_curve, step_generator, step_rng
from bigrestore.training.data.windows import GreyLevels, WindowRule, area_downscale, cell_maps, window_origins

CORTEX, MOUSE, NISSL = "human_cortex_cellbody_inm1", "brain_section_dab_mouse", "brain_nissl_rat"


def tissue(height: int = 192, width: int = 256, seed: int = 0, level: float = 0.6) -> NDArray[Any]:
    """Sharp texture around a grey level, uint8, of power falling by some 9 dB."""
    white = np.random.default_rng(seed).standard_normal((height, width))
    texture = gaussian(white, 0.5)
    return np.clip(255 * (level + 0.12 * texture / texture.std()), 0, 255).astype(np.uint8)


def gaussian(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Blur in the Fourier domain."""
    frequencies = np.add.outer(np.fft.fftfreq(image.shape[0]) ** 2, np.fft.fftfreq(image.shape[1]) ** 2)
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2 * (np.pi * sigma) ** 2 * frequencies)).real


def images(*groups: str, count: int = 2) -> list[GreyImage]:
    return [
        GreyImage(f"{group}__{i}.png", tissue(seed=17 * i + len(group)))
        for group in groups
        for i in range(count)
    ]


def test_patches_are_grey_values_of_the_asked_shape() -> None:
    patches = PatchSource(images(CORTEX), 64).draw(5, np.random.default_rng(0))
    assert patches.shape == (5, 1, 64, 64)
    assert patches.dtype == torch.float32
    assert 0 <= float(patches.min()) < float(patches.max()) <= 1


def test_a_step_depends_on_seed_and_step_only() -> None:
    source, again = PatchSource(images(CORTEX, MOUSE), 64), PatchSource(images(CORTEX, MOUSE), 64)
    source.draw(4, step_rng(1, 6))
    assert torch.equal(source.draw(4, step_rng(1, 7)), again.draw(4, step_rng(1, 7)))
    assert not torch.equal(source.draw(4, step_rng(1, 7)), source.draw(4, step_rng(1, 8)))
    assert not torch.equal(source.draw(4, step_rng(1, 7)), source.draw(4, step_rng(2, 7)))
    assert step_rng(1, 2).random() != step_rng(2, 1).random()
    assert step_rng(1, 2).random() != step_rng(1, 2, stream=3).random()
    one, other = step_generator(1, 2), step_generator(1, 2)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))


def test_unaugmented_patches_are_windows_of_the_image() -> None:
    image = images(CORTEX, count=1)[0]
    source = PatchSource([image], 64, augment=False, scale_weights={1.0: 1.0})
    windows = np.lib.stride_tricks.sliding_window_view(image.pixels, (64, 64))[::7, ::7]
    for patch in source.draw(3, np.random.default_rng(0)):
        grey = np.rint(patch[0].numpy() * 255).astype(np.uint8)
        assert (windows == grey).all((2, 3)).any()


def test_every_symmetry_is_drawn() -> None:
    ramp = np.add.outer(2 * np.arange(64), np.arange(64)).astype(np.uint8)
    rule = WindowRule(tissue=0, contrast=0, fall_db=99, flat_db=-99)
    source = PatchSource(
        [GreyImage("a.png", ramp)], 64, scale_weights={1.0: 1.0}, rule=rule, remap_probability=0
    )
    corners = {
        tuple(np.rint(255 * p[0].numpy()[[0, 0, -1], [0, -1, 0]]).astype(int))
        for p in source.draw(200, np.random.default_rng(0))
    }
    assert len(corners) == 8


def test_groups_are_drawn_by_their_weights() -> None:
    many = images(CORTEX, count=1) + images(MOUSE, count=6)
    source = PatchSource(many, 64, group_weights={CORTEX: 3.0, MOUSE: 1.0})
    assert source.groups == pytest.approx({CORTEX: 0.75, MOUSE: 0.25})
    flat = [GreyImage(f"{CORTEX}__0.png", tissue(level=0.3)), GreyImage(f"{MOUSE}__0.png", tissue(level=0.8))]
    source = PatchSource(flat, 64, group_weights={CORTEX: 3.0, MOUSE: 1.0}, augment=False)
    dark = (source.draw(400, np.random.default_rng(0)).mean((1, 2, 3)) < 0.55).float().mean()
    assert float(dark) == pytest.approx(0.75, abs=0.08)
    assert CORTEX not in PatchSource(many, 64, group_weights={CORTEX: 0.0}).groups


def test_a_group_may_have_scales_of_its_own() -> None:
    big = [GreyImage(f"{NISSL}__0.png", tissue(400, 400))]
    source = PatchSource(big, 64, group_scale_weights={NISSL: {0.5: 1.0, 0.35: 1.0}})
    factors = Counter(level.factor for level in source._levels)
    assert set(factors) == {0.5, 0.35}


def test_a_handful_of_windows_is_drawn_less() -> None:
    many = [*images(MOUSE, count=4), GreyImage(f"{CORTEX}__0.png", tissue(70, 70))]
    source = PatchSource(many, 64, group_weights={CORTEX: 1.0, MOUSE: 1.0}, scale_weights={1.0: 1.0})
    assert 0 < source.groups[CORTEX] < 0.05


def test_empty_background_is_not_drawn() -> None:
    section = np.full((300, 400), 255, np.uint8)
    section[50:250, 30:200] = tissue(200, 170)
    source = PatchSource([GreyImage("section.png", section)], 64, augment=False)
    for patch in source.draw(200, np.random.default_rng(0)):
        assert float((patch < 0.97).float().mean()) > 0.4
    with pytest.raises(InputError, match="sharp tissue"):
        PatchSource([GreyImage("white.png", np.full((200, 200), 255, np.uint8))], 64)


def test_windows_obey_the_tissue_rule_at_their_origins() -> None:
    section = np.full((210, 210), 255, np.uint8)
    section[:, :105] = tissue(210, 105)
    maps = cell_maps(section)
    origins = window_origins(maps, (210, 210), 70, WindowRule())
    assert (origins % 7 == 0).all()
    assert origins.min() == 0
    # Half of a window that starts in column 70 is tissue; one further on has less.
    assert origins[:, 1].max() == 70
    assert origins[:, 0].max() == 140


def test_blurred_windows_are_not_drawn() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 400))
    sharp, soft = (gaussian(noise, sigma) for sigma in (0.7, 2.5))
    # The soft half has as much contrast as the sharp one: only its spectrum gives it away.
    halves = [np.clip(150 + 25 * half / half.std(), 0, 255).astype(np.uint8) for half in (sharp, soft)]
    both = np.concatenate(halves, axis=1)
    maps = cell_maps(both)
    origins = window_origins(maps, both.shape, 63, WindowRule(tissue=0))
    assert len(origins) > 100
    assert origins[:, 1].max() < 400


def test_a_smaller_image_than_the_patch_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"window of 512 pixels.*192 pixels on its short side"):
        PatchSource(images(CORTEX), 512)


def test_few_windows_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        PatchSource([*images(CORTEX, count=1), GreyImage("flat.png", np.full((99, 99), 9, np.uint8))], 128)
    assert "only" in caplog.text
    assert "1 of the training files have no window" in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"patch_px": 3}, {"remap_probability": 2.0}, {"group_weights": {"a": -1.0}}]
)
def test_absurd_arguments_are_sentences(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give"):
        PatchSource(images(CORTEX), **({"patch_px": 64} | wrong))
    with pytest.raises(UsageError, match="at least one"):
        PatchSource(images(CORTEX), 64).draw(0, np.random.default_rng(0))


@given(st.floats(0.35, 0.99), st.floats(0.05, 0.95), st.floats(195 / 255, 202 / 255))
def test_remap_keeps_order_range_and_hits_its_levels(background: float, share: float, median: float) -> None:
    level = background * share
    knots, values = remap_curve(GreyLevels(background, level, 0.5), median)
    grey = np.linspace(0, 1, 256)
    mapped = np.interp(grey, knots, values)
    assert mapped.min() >= -1e-6
    assert mapped.max() <= 1 + 1e-6
    assert (np.diff(mapped) >= -1e-6).all()
    assert np.interp(level, knots, values) == pytest.approx(median, abs=1e-3)
    if 0.4 <= (1 - median) / (background - level) <= 1.6:
        assert np.interp(background, knots, values) == pytest.approx(1, abs=1e-3)


def test_half_of_the_tissue_gets_the_levels_of_bigbrain_and_electron_microscopy_none() -> None:
    section = np.full((200, 300), 230, np.uint8)
    section[:, :200] = tissue(200, 200, level=0.55)
    source = PatchSource([GreyImage(f"{MOUSE}__0.png", section)], 64, scale_weights={1.0: 1.0})
    tops = source.draw(300, np.random.default_rng(0)).flatten(1)
    medians = tops.median(1).values
    assert 0.3 < float((medians > 0.7).float().mean()) < 0.7
    micrograph = [GreyImage("em_neural__0.png", section[:, :200])]
    medians = PatchSource(micrograph, 64, scale_weights={1.0: 1.0}).draw(100, np.random.default_rng(0))
    assert float(medians.flatten(1).median(1).values.max()) < 0.7


def test_sixteen_bit_images_keep_their_depth() -> None:
    fine = (tissue().astype(np.uint16) * 257 + 3).astype(np.uint16)
    patches = PatchSource([GreyImage("deep.tif", fine)], 64, augment=False).draw(2, np.random.default_rng(0))
    assert float((patches * 255 - (patches * 255).round()).abs().max()) > 0.01
    assert 0 <= float(patches.min()) < float(patches.max()) <= 1


def test_device_and_cpu_give_the_same_patches() -> None:
    from bigrestore.training.data.patches import _finish_on_cpu, _finish_on_device

    crops = [tissue(32, 32, seed=i) for i in range(3)]
    tones = [None, remap_curve(GreyLevels(0.95, 0.6, 0.5), 0.78), None]
    assert torch.equal(_finish_on_cpu(crops, tones), _finish_on_device([*crops], tones, torch.device("cpu")))


@pytest.mark.parametrize("factor", [1.0, 0.75, 0.5, 0.35, 0.25])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_area_downscale_keeps_mean_and_dtype(factor: float, dtype: type) -> None:
    image = tissue(120, 160).astype(dtype)
    small = area_downscale(image, factor)
    assert small.dtype == dtype
    assert small.shape == (round(120 * factor), round(160 * factor))
    assert float(small.mean()) == pytest.approx(float(image.mean()), abs=0.6)


def test_area_downscale_by_half_averages_pairs() -> None:
    image = tissue(40, 60)
    blocks = image.reshape(20, 2, 30, 2).mean((1, 3))
    assert np.abs(area_downscale(image, 0.5) - blocks).max() <= 0.5 + 1e-6


def test_validation_files_are_never_trained_on(tmp_path: Path) -> None:
    for folder in ("train", "val", "train/val"):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(tissue()).save(tmp_path / folder / f"{folder.replace('/', '_')}.png")
    assert [path.name for path in find_images(tmp_path)] == ["train.png"]
    assert [path.name for path in find_images(tmp_path / "train")] == ["train.png"]
    assert [path.name for path in find_images(tmp_path / "val")] == ["val.png"]


def test_sections_are_held_out_whole() -> None:
    many = [GreyImage(f"{MOUSE}__{i:02d}.png", tissue(20, 20)) for i in range(36)]
    pages = [GreyImage("stack__a.tif", tissue(20, 20)) for _ in range(5)]
    training, held = split_by_section(many + pages)
    assert not {i.name for i in training} & {i.name for i in held}
    assert len(training) + len(held) == 41
    assert sum(image.group == MOUSE for image in held) == 3
    assert split_by_section(many + pages)[1][0].name == held[0].name


def test_own_images_without_groups_are_split_too(caplog: pytest.LogCaptureFixture) -> None:
    own = [GreyImage(f"scan{i}.png", tissue(20, 20)) for i in range(4)]
    training, held = split_by_section(own)
    assert len(held) >= 1
    assert len(training) >= 2
    training, held = split_by_section(own[:2])
    assert training == held == own[:2]
    assert "measured on training data" in caplog.text


def test_packed_data_are_the_same_data(tmp_path: Path) -> None:
    for i in range(2):
        Image.fromarray(tissue(seed=i)).save(tmp_path / f"{CORTEX}__{i}.png")
    assert pack(tmp_path, tmp_path / "data.npz") == 2
    packed, loose = PatchSource(tmp_path / "data.npz", 64), PatchSource(sorted(tmp_path.glob("*.png")), 64)
    assert packed.names == loose.names
    assert torch.equal(packed.draw(3, step_rng(0, 1)), loose.draw(3, step_rng(0, 1)))
    (tmp_path / "data.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:5000])
    with pytest.raises(InputError, match="no packed training data"):
        load_images(tmp_path / "data.npz")
    with pytest.raises(OutputError, match="choose another"):
        pack(sorted(tmp_path.glob("*.png")), tmp_path / "nowhere" / "data.npz")


def test_colour_alpha_depth_and_pages_become_grey(tmp_path: Path) -> None:
    red = np.zeros((8, 9, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    assert read_grey(tmp_path / "red.png")[0].tolist() == [[76] * 9] * 8
    clear = np.zeros((8, 9, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert read_grey(tmp_path / "clear.png")[0].min() == 255
    Image.fromarray(red).convert("P").save(tmp_path / "palette.png")
    assert read_grey(tmp_path / "palette.png")[0].tolist() == [[76] * 9] * 8
    stack = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    pages = read_grey(tmp_path / "stack.tif")
    assert [page.dtype for page in pages] == [np.uint16] * 3
    assert pages[1][0, 0] == 72
    tifffile.imwrite(tmp_path / "unit.tif", np.full((8, 9), 0.5, np.float32))
    assert read_grey(tmp_path / "unit.tif")[0].max() == 32768
    tifffile.imwrite(tmp_path / "float.tif", np.full((8, 9), 7.5, np.float32))
    with pytest.raises(InputError, match=r"float within 0\.\.1"):
        read_grey(tmp_path / "float.tif")


def test_missing_empty_and_broken_data_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no image"):
        load_images(tmp_path)
    with pytest.raises(InputError, match="no image"):
        load_images([])
    for name in ("broken.png", "broken.tif", "broken.jpg"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n nothing of the kind")
        with pytest.raises(InputError, match="cannot be read"):
            read_grey(tmp_path / name)
    Image.fromarray(tissue()).save(tmp_path / "torn.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:900])
    with pytest.raises(InputError, match="cannot be read"):
        read_grey(tmp_path / "torn.png")


def test_drawing_a_batch_is_nearly_free() -> None:
    source = PatchSource(images(CORTEX, MOUSE), 128)
    times = []
    for step in range(20):
        start = time.perf_counter()
        source.draw(8, step_rng(0, step))
        times.append(time.perf_counter() - start)
    assert min(times) < 3e-3


@pytest.mark.skipif("BIGRESTORE_DATA" not in os.environ, reason="needs the image data in BIGRESTORE_DATA")
def test_the_real_images_are_drawn_as_meant() -> None:
    root = Path(os.environ["BIGRESTORE_DATA"])
    chosen = sorted((root / "train").glob(f"{CORTEX}*")) + sorted((root / "train").glob(f"{MOUSE}*"))[:13]
    training, held = split_by_section(load_images(chosen))
    assert len(held) == 1
    source = PatchSource(training, 128)
    assert set(source.groups) == {CORTEX, MOUSE}
    assert not set(source.names) & {path.name for path in (root / "val").iterdir()}
    patches = source.draw(64, step_rng(0, 0))
    assert float((patches < 0.97).float().mean((1, 2, 3)).min()) > 0.35
