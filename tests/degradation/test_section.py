"""A seam in a degraded section teaches a network to look for seams: tiled must equal whole, bit for bit."""

from __future__ import annotations

from fractions import Fraction

import attrs
import numpy as np
import pytest
import torch

from bigrestore.core.geometry import Grid
from bigrestore.core.kernels import fold_downsampling, gaussian, kernel_size
from bigrestore.degradation.degradation import (
    Banding,
    Damage,
    Degradation,
    Illumination,
    Lines,
    Noise,
    Resampling,
    SecondPass,
    Sharpening,
    Storage,
    Wave,
    nothing,
)
from bigrestore.degradation.recipe import Recipe, draw_degradations
from bigrestore.degradation.section import SectionDegrader, correlate_exactly
from bigrestore.model.method import TileBatch
from bigrestore.model.nets.redegrade import redegrade


def everything(scale: int) -> Degradation:
    """Return a degradation of all steps."""
    kernel = gaussian(kernel_size(scale), 1.8 * scale**0.5, 0.9, 0.4)
    return Degradation(
        scale=scale,
        kernel=fold_downsampling(kernel, "bicubic", scale) if scale > 1 else kernel,
        kind="anisotropic",
        illumination=Illumination(0.08, 300.0, 0.7, 0.3),
        lines=Lines(0.4, 0.9, 0.01),
        banding=Banding(0.04, 13.0, 0.5, 1),
        damage=(
            Damage("fold", 0.3, 0.4, 0.6, 1e6, 3.0, 0.7),
            Damage("dust", 0.7, 0.5, 0.0, 2.0, 6.0, 0.1),
            Damage("stripe", 0.5, 0.5, 0.0, 1e6, 1.5, 0.9),
        ),
        noise=Noise(1e-3, 3 / 255, 0.4),
        storage=Storage(8, 70, (3, 1)),
        second=SecondPass(gaussian(7, 0.6), Noise(1e-4, 1 / 255, 0.3), Storage(8, 85)),
        scan_factor=2,
        resampling=Resampling(
            ("linear", "cubic"),
            (0.4, -0.7),
            (Wave(1.1, 310.0, 0.3, 1.0), Wave(1.2, 400.0, 2.0, 0.1)),
            (Wave(1.0, 350.0, 4.0, 2.0), Wave(1.2, 330.0, 5.0, 0.7)),
        ),
    )


def run(clean: np.ndarray, degrader: SectionDegrader, tile_px: int, z: int = 0) -> np.ndarray:
    """Work like the engine: cut aligned tiles with clipped halos, replicate the far edge, keep the cores."""
    grid = Grid.build(
        (1, *clean.shape),
        scale=degrader.scale,
        alignment_px=degrader.alignment_px,
        halo_px=degrader.halo_px,
        block_px=480,
        tile_px=tile_px,
    )
    out = np.full(grid.shape[1:], np.nan, np.float32)
    statistics = degrader.analyse(np.zeros((0, 128, 128), np.float32))
    for block in grid.blocks():
        for tile in grid.tiles(block.box):
            read = tile.read
            pixels = clean[read.y0 : read.y1, read.x0 : read.x1]
            far = ((0, tile.padded_height - read.height), (0, tile.padded_width - read.width))
            batch = TileBatch(np.pad(pixels, far, mode="edge")[None], None, np.array([[read.y0, read.x0]]), z)
            made = degrader.restore(batch, statistics).pixels[0]
            y0, x0 = read.y0 // degrader.degradation.scale, read.x0 // degrader.degradation.scale
            keep = tile.keep
            out[keep.y0 : keep.y1, keep.x0 : keep.x1] = made[
                keep.y0 - y0 : keep.y1 - y0, keep.x0 - x0 : keep.x1 - x0
            ]
    return out


def section(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width), dtype=np.float32)


def section_of(scale: int) -> np.ndarray:
    """Return a section of many tiles, of which none sees all others."""
    height, width = (131, 115) if scale == 4 else (203, 187)
    return section(height * scale + 1, width * scale)


@pytest.mark.parametrize(("scale", "tile_px"), [(1, 64), (1, 136), (2, 40), (4, 32)])
def test_tiled_equals_whole_to_the_bit(scale: int, tile_px: int) -> None:
    clean = section_of(scale)
    degrader = SectionDegrader(everything(scale), *clean.shape, seed=5)
    whole = run(clean, degrader, 480)
    assert whole.shape == (-(-clean.shape[0] // scale), clean.shape[1] // scale)
    assert np.array_equal(run(clean, degrader, tile_px), whole)


@pytest.mark.parametrize(("scale", "tile_px"), [(1, 64), (2, 40), (4, 32)])
@pytest.mark.parametrize("where", ["first", "second", "both"])
def test_noise_that_grows_with_the_contrast_has_no_seam(scale: int, tile_px: int, where: str) -> None:
    clean = section_of(scale)
    drawn = everything(scale)
    noise = attrs.evolve(drawn.noise, contrast_gain=0.8)
    second = SecondPass(gaussian(7, 2.0), Noise(contrast_gain=1.5), Storage())
    drawn = {
        "first": attrs.evolve(nothing(scale), kernel=drawn.kernel, noise=Noise(contrast_gain=1.5)),
        "second": attrs.evolve(nothing(scale), second=second),
        "both": attrs.evolve(drawn, noise=noise, second=second),
    }[where]
    degrader = SectionDegrader(drawn, *clean.shape, seed=5)
    assert np.array_equal(run(clean, degrader, tile_px), run(clean, degrader, 480))


@pytest.mark.parametrize(("scale", "tile_px"), [(1, 64), (2, 40), (4, 32)])
def test_an_unsharp_mask_has_no_seam(scale: int, tile_px: int) -> None:
    clean = section_of(scale)
    drawn = attrs.evolve(everything(scale), sharpening=Sharpening(1.2, 2.5))
    noise = attrs.evolve(drawn.noise, contrast_gain=0.8)
    for each in (drawn, attrs.evolve(drawn, noise=noise, second=None)):
        degrader = SectionDegrader(each, *clean.shape, seed=5)
        assert np.array_equal(run(clean, degrader, tile_px), run(clean, degrader, 480))


@pytest.mark.parametrize("contrast_gain", [0.3, 1.0, 3.0])
def test_noise_grows_with_the_contrast_and_flat_places_stay(contrast_gain: float) -> None:
    """Squares of one pixel, faint on one side: their contrast is known."""
    checks = np.indices((128, 256)).sum(0) % 2 - 0.5
    strength = np.repeat([0.0, 0.02, 0.04, 0.08], 64)
    clean = (0.5 + strength * checks).astype(np.float32)
    drawn = attrs.evolve(nothing(), noise=Noise(contrast_gain=contrast_gain))
    added = run(clean, SectionDegrader(drawn, *clean.shape, seed=2), 480) - clean
    found = [float(part[:, 8:-8].std()) for part in np.split(added, 4, axis=1)]
    assert found[0] == 0
    assert found[1:] == pytest.approx([contrast_gain * s / 2 for s in (0.02, 0.04, 0.08)], rel=0.05)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_whatever_is_drawn_has_no_seam(scale: int) -> None:
    clean = section(150 * scale, 130 * scale)
    for index, drawn in enumerate(
        draw_degradations(Recipe.load("default"), scale, 6, np.random.default_rng(scale))
    ):
        degrader = SectionDegrader(drawn, *clean.shape, seed=index)
        assert np.array_equal(run(clean, degrader, 48), run(clean, degrader, 480))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_blur_is_the_operator_that_restoration_inverts(scale: int) -> None:
    clean = section(40 * scale, 48 * scale)
    kernel = everything(scale).kernel
    ours = correlate_exactly(torch.from_numpy(clean), kernel, scale)
    expected = redegrade(torch.from_numpy(clean)[None, None], torch.from_numpy(kernel), scale)[0, 0]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0.0)


def test_nothing_done_is_nothing_changed() -> None:
    clean = section(64, 64)
    assert np.array_equal(run(clean, SectionDegrader(nothing(), 64, 64, seed=0), 32), clean)


def test_another_section_or_seed_has_other_noise_and_the_same_blur() -> None:
    plan = attrs.evolve(nothing(), noise=Noise(1e-3, 2 / 255, 0.3), lines=Lines(0.3, 0.8, 0.0))
    clean = section(96, 96)
    first = run(clean, SectionDegrader(plan, 96, 96, seed=1), 96)
    assert np.array_equal(first, run(clean, SectionDegrader(plan, 96, 96, seed=1), 32))
    assert not np.array_equal(first, run(clean, SectionDegrader(plan, 96, 96, seed=2), 96))
    assert not np.array_equal(first, run(clean, SectionDegrader(plan, 96, 96, seed=1), 96, z=1))


def test_the_noise_of_a_section_has_the_variance_of_the_model() -> None:
    plan = attrs.evolve(nothing(), noise=Noise(1e-3, 3 / 255, 0.4))
    made = run(np.full((400, 400), 0.6, np.float32), SectionDegrader(plan, 400, 400, seed=1), 400)
    assert made.var() == pytest.approx(1e-3 * 0.6 + (3 / 255) ** 2, rel=0.03)


def test_the_halo_covers_the_contrast_of_both_passes() -> None:
    second = SecondPass(gaussian(7, 0.6), Noise(), Storage())
    plain = Degradation(1, gaussian(23, 1.0), second=second)
    by_contrast = Noise(contrast_gain=1.0)
    first = attrs.evolve(plain, noise=by_contrast)
    last = attrs.evolve(plain, second=attrs.evolve(second, noise=by_contrast))
    masked = attrs.evolve(plain, sharpening=Sharpening(1.0, 2.0))
    halos = [SectionDegrader(each, 99, 99, seed=0).halo_px for each in (plain, first, last, masked)]
    # 11 px of the first kernel, 6 of its contrast, and in blocks of 8 px 3 of the second kernel, or 9 with its contrast;
    # 7 of an unsharp mask.
    reaches = (11 + 8, 11 + 6 + 8, 11 + 16, 11 + 7 + 8)
    assert halos == [-(-reach // 8) * 8 for reach in reaches]
    assert halos[0] < min(halos[1:])


def test_the_halo_covers_every_step_on_whole_jpeg_blocks() -> None:
    plain = SectionDegrader(nothing(), 100, 100, seed=0)
    assert plain.scale == Fraction(1, 1)
    assert (plain.alignment_px, plain.halo_px) == (8, 16)
    full = SectionDegrader(everything(4), 400, 400, seed=0)
    assert full.alignment_px == 32
    assert full.halo_px % 32 == 0
    assert full.halo_px >= 4 * (8 + 2) + 22
