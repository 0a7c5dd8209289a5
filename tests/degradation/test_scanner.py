"""The batch of patches: does the degraded image agree with its `Degradation`?"""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, gaussian_filter

from bigrestore.core.kernels import equivalent_sigma, gaussian
from bigrestore.degradation import steps
from bigrestore.degradation.degradation import (
    Banding,
    Damage,
    Degradation,
    Illumination,
    Lines,
    Noise,
    SecondPass,
    Sharpening,
    Stain,
    Storage,
    nothing,
    psi_targets,
)
from bigrestore.degradation.jpeg import jpeg_round_trip
from bigrestore.degradation.recipe import Recipe, draw_degradations
from bigrestore.degradation.scanner import degrade_batch, margin_px
from bigrestore.errors import UsageError
from bigrestore.model.nets.redegrade import redegrade

SIDE = 48


def clean_patches(n: int, scale: int, side: int = SIDE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    full = side * scale + 2 * margin_px(scale)
    return torch.rand(n, 1, full, full, generator=generator)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blur_only(degradation: Degradation) -> Degradation:
    return Degradation(scale=degradation.scale, kernel=degradation.kernel)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_blur_is_the_operator_that_restoration_inverts(scale: int) -> None:
    drawn = [
        blur_only(d) for d in draw_degradations(Recipe.load("default"), scale, 12, np.random.default_rng(3))
    ]
    clean = clean_patches(12, scale)
    degraded, valid, target = degrade_batch(clean, drawn, scale, generator())
    frame = margin_px(scale) // scale
    expected = redegrade(clean, psi_targets(drawn)["kernel"], scale)
    shift = margin_px(scale) % scale
    assert shift == 0
    torch.testing.assert_close(degraded, expected[..., frame : frame + SIDE, frame : frame + SIDE])
    assert target.shape == (12, 1, scale * SIDE, scale * SIDE)
    assert valid.min() == 1.0


def test_identity_is_identity() -> None:
    clean = clean_patches(2, 1)
    before = clean.clone()
    degraded, valid, target = degrade_batch(clean, [nothing(), nothing()], 1, generator())
    assert torch.equal(degraded, target)
    assert torch.equal(target, clean[..., 18:-18, 18:-18])
    assert torch.equal(clean, before)
    assert valid.min() == 1.0


def test_identity_downsampled_is_the_area_mean() -> None:
    clean = clean_patches(1, 2)
    degraded, _, target = degrade_batch(clean, [nothing(2)], 2, generator())
    torch.testing.assert_close(degraded, torch.nn.functional.avg_pool2d(target, 2))


def test_a_seed_says_everything() -> None:
    drawn = draw_degradations(Recipe.load("default"), 1, 16, np.random.default_rng(7))
    again = draw_degradations(Recipe.load("default"), 1, 16, np.random.default_rng(7))
    assert [d.to_dict() for d in drawn] == [d.to_dict() for d in again]
    clean = clean_patches(16, 1)
    first, second, other = (degrade_batch(clean, drawn, 1, generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("gain", "read", "share"), [(4e-3, 0.0, 0.0), (1e-3, 4 / 255, 0.0), (2e-3, 2 / 255, 0.5)]
)
@pytest.mark.parametrize("level", [0.2, 0.7])
def test_noise_has_the_variance_of_the_model(gain: float, read: float, share: float, level: float) -> None:
    clean = torch.full((4, 1, 236, 236), level)
    drawn = [attrs.evolve(nothing(), noise=Noise(gain, read, share))] * 4
    degraded, _, _ = degrade_batch(clean, drawn, 1, generator(5))
    assert float(degraded.var()) == pytest.approx(gain * level + read**2, rel=0.03)
    assert float(degraded.mean()) == pytest.approx(level, abs=1e-3)
    centred = degraded - degraded.mean()
    neighbour = (centred[..., 1:] * centred[..., :-1]).mean() / centred.square().mean()
    assert float(neighbour) == pytest.approx(0.8 * share, abs=0.03)  # binomial taps: 56 / 70


def test_eight_bits_are_multiples_of_a_grey_level() -> None:
    drawn = [attrs.evolve(nothing(), storage=Storage(bit_depth=8))]
    degraded, _, target = degrade_batch(clean_patches(1, 1), drawn, 1, generator())
    assert torch.equal(degraded * 255, torch.round(degraded * 255))
    assert float((degraded - target).abs().max()) <= 0.5 / 255 + 1e-6


def test_a_patch_lies_anywhere_on_the_jpeg_lattice() -> None:
    clean = clean_patches(1, 1)
    drawn = [attrs.evolve(nothing(), storage=Storage(8, 50, (3, 6)))]
    degraded, _, target = degrade_batch(clean, drawn, 1, generator())
    # The patch's frame is 8 px, so the first whole block inside the patch begins where the phase ends.
    block = target[0, :, 8 - 3 : 16 - 3, 8 - 6 : 16 - 6]
    stored = jpeg_round_trip(block, [50])
    assert torch.equal(degraded[0, :, 8 - 3 : 16 - 3, 8 - 6 : 16 - 6], stored)


def test_stain_changes_both_sides_alike() -> None:
    drawn = [attrs.evolve(nothing(), stain=Stain(gain=0.9, density=0.5))]
    clean = clean_patches(1, 1)
    degraded, _, target = degrade_batch(clean, drawn, 1, generator())
    torch.testing.assert_close(target, 0.9 * (1 - 0.5 * (1 - clean[..., 18:-18, 18:-18])))
    assert torch.equal(degraded, target)


@pytest.mark.parametrize(
    "step",
    [
        {"illumination": Illumination(0.08, 300.0, 0.7, 0.1)},
        {"lines": Lines(0.3, 0.8, 0.01)},
        {"banding": Banding(0.04, 11.0, 0.2, 1)},
        {"damage": (Damage("dust", 0.5, 0.5, 0.0, 1.0, 4.0, 0.1),)},
        {"noise": Noise(1e-3, 0.01)},
        {"storage": Storage(8, 60, (3, 5))},
        {"second": SecondPass(gaussian(7, 0.5), Noise(), Storage())},
    ],
    ids=lambda step: next(iter(step)),
)
def test_what_the_scanner_does_leaves_the_target_alone(step: dict[str, object]) -> None:
    clean = clean_patches(2, 1)
    drawn = [attrs.evolve(nothing(), **step), nothing()]
    degraded, _, target = degrade_batch(clean, drawn, 1, generator())
    assert torch.equal(target, clean[..., 18:-18, 18:-18])
    assert not torch.equal(degraded[0], target[0])
    assert torch.equal(degraded[1], target[1]), "a step of one patch must not touch another"


def test_line_jitter_shifts_rows_by_its_standard_deviation() -> None:
    ramp = (torch.arange(400 + 36) / 436.0).expand(4, 1, 436, 436)
    drawn = [attrs.evolve(nothing(), lines=Lines(0.3, 0.7, 0.0))] * 4
    degraded, _, target = degrade_batch(ramp.contiguous(), drawn, 1, generator(2))
    shifts = (degraded - target)[:, 0] * 436
    assert float(shifts.std(dim=-1).max()) < 1e-2, "a row moves as one"
    rows = shifts.mean(dim=-1)
    assert float(rows.std()) == pytest.approx(0.3, rel=0.1)
    lagged = (rows[:, 1:] * rows[:, :-1]).mean() / rows.square().mean()
    assert float(lagged) == pytest.approx(0.7, abs=0.1)


def test_row_gain_has_its_standard_deviation() -> None:
    flat = torch.full((4, 1, 436, 436), 0.5)
    drawn = [attrs.evolve(nothing(), lines=Lines(0.0, 0.5, 0.02))] * 4
    degraded, _, _ = degrade_batch(flat, drawn, 1, generator(2))
    assert float(degraded[..., 0].std()) == pytest.approx(0.01, rel=0.1)


def test_banding_runs_along_its_axis_with_its_amplitude() -> None:
    flat = torch.full((1, 1, 236, 236), 0.5)
    for axis in (0, 1):
        drawn = [attrs.evolve(nothing(), banding=Banding(0.04, 10.0, 0.0, axis))]
        degraded = degrade_batch(flat, drawn, 1, generator())[0][0, 0]
        along = degraded.mean(dim=1 - axis)
        assert float(along.max()) == pytest.approx(0.5 * (1 + 0.04 * np.sin(0.4 * np.pi)), abs=1e-4)
        assert float(degraded.std(dim=1 - axis).max()) < 1e-6


@pytest.mark.parametrize("kind", ["stripe", "scratch", "dust", "fold"])
def test_damage_is_announced_in_the_mask(kind: str) -> None:
    clean = clean_patches(1, 1)
    drawn = [attrs.evolve(nothing(), damage=(Damage(kind, 0.5, 0.4, 0.5, 12.0, 2.0, 0.6),))]
    degraded, valid, target = degrade_batch(clean, drawn, 1, generator())
    changed = (degraded - target).abs() > 0.05
    assert changed.any()
    assert not (changed & (valid > 0)).any()
    assert 0.5 < float(valid.mean()) < 1.0


@pytest.mark.parametrize("sigma_px", [0.0, 1.0, 2.0])
def test_contrast_is_the_strength_of_fine_detail(sigma_px: float) -> None:
    """As SciPy's filters have it; a flat image and a slope have none."""
    image = gaussian_filter(np.random.default_rng(1).random((64, 80)), sigma_px).astype(np.float32)
    taps = np.array([1, 4, 6, 4, 1]) / 16
    apart = np.zeros(9)
    apart[::2] = taps

    def filtered(of: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.asarray(correlate1d(correlate1d(of, by, 0, mode="nearest"), by, 1, mode="nearest"))

    inner = np.s_[6:-6, 6:-6]
    expected = np.sqrt(filtered((image - filtered(image, taps)) ** 2, apart))
    found = steps.local_contrast(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-3, atol=1e-6)
    slope = torch.linspace(0, 1, 64).expand(2, 48, 64)
    assert float(steps.local_contrast(slope)[:, 6:-6, 6:-6].max()) < 1e-6


def test_noise_of_contrast_leaves_flat_patches_and_the_noise_of_the_others() -> None:
    clean = clean_patches(3, 1)
    clean[1] = 0.5
    noises = (Noise(), Noise(contrast_gain=2.0), Noise(0.0, 0.02))
    drawn = [attrs.evolve(nothing(), noise=noise) for noise in noises]
    degraded, _, target = degrade_batch(clean, drawn, 1, generator())
    assert torch.equal(degraded[:2], target[:2])
    assert float((degraded[2] - target[2]).std()) == pytest.approx(0.02, rel=0.1)
    louder = [attrs.evolve(nothing(), noise=Noise(contrast_gain=0.3))] * 3
    degraded, _, target = degrade_batch(0.5 + 0.2 * (clean - 0.5), louder, 1, generator())
    assert float((degraded[0] - target[0]).std()) == pytest.approx(
        0.3 * float(steps.local_contrast(target[0]).square().mean().sqrt()), rel=0.1
    )


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("amount", "radius_px"), [(0.4, 0.8), (1.2, 2.0)])
def test_an_unsharp_mask_adds_what_a_gaussian_takes(scale: int, amount: float, radius_px: float) -> None:
    clean = 0.5 + 0.1 * (clean_patches(3, scale) - 0.5)
    plain = attrs.evolve(nothing(scale), noise=Noise(0.0, 0.01))
    mask = Sharpening(amount, radius_px)
    before, _, _ = degrade_batch(clean, [plain] * 3, scale, generator())
    masked = [plain, attrs.evolve(plain, sharpening=mask), plain]
    after, _, _ = degrade_batch(clean, masked, scale, generator())
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    grey = before[1, 0].numpy()
    wanted = grey + amount * (grey - gaussian_filter(grey, radius_px))
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(after[1, 0].numpy()[inner], wanted[inner], atol=5e-4 * amount)
    assert after[1].std() > before[1].std()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_an_unsharp_mask_is_told_as_a_narrower_kernel_and_more_noise(scale: int) -> None:
    """As the scan shows them: an estimator can read no more."""
    blurred = attrs.evolve(nothing(scale), kernel=gaussian(21 if scale < 4 else 41, 1.4 * scale))
    plain = attrs.evolve(blurred, noise=Noise(0.0, 0.01))
    masked = attrs.evolve(plain, sharpening=Sharpening(0.8, 2.0))
    kernel = masked.effective_kernel
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    assert equivalent_sigma(kernel) < 0.9 * equivalent_sigma(plain.effective_kernel)
    factor = float(np.sqrt((Sharpening(0.8, 2.0).kernel.astype(np.float64) ** 2).sum()))
    assert factor == pytest.approx(1.77, abs=0.01)
    assert masked.effective_noise[1] == pytest.approx(0.01 * factor)


@pytest.mark.parametrize(
    ("factor", "first", "second"), [(1, 0.8, 0.0), (4, 0.8, 0.0), (1, 0.0, 0.5), (2, 0.6, 0.4)]
)
def test_the_noise_by_contrast_of_all_passes(factor: int, first: float, second: float) -> None:
    """The mean of n x n pixels divides it by n, and a second blur averages it."""
    kernel = gaussian(7, 0.6)
    drawn = attrs.evolve(
        nothing(),
        noise=Noise(contrast_gain=first),
        second=SecondPass(kernel, Noise(contrast_gain=second), Storage()),
        scan_factor=factor,
    )
    kept = float((kernel.astype(np.float64) ** 2).sum())
    wanted = np.sqrt((first / factor) ** 2 * kept + second**2)
    assert drawn.effective_contrast_gain == pytest.approx(wanted)
    assert drawn.effective_noise == (0, 0)


def test_two_passes_are_told_as_one_kernel_and_one_noise() -> None:
    second = SecondPass(gaussian(7, 0.6), Noise(1e-4, 1 / 255), Storage())
    for scale in (1, 2, 4):
        drawn = [
            attrs.evolve(blur_only(d), second=attrs.evolve(second, noise=Noise())) for d in _gaussians(scale)
        ]
        clean = clean_patches(len(drawn), scale)
        degraded, _, _ = degrade_batch(clean, drawn, scale, generator())
        frame = margin_px(scale) // scale
        expected = redegrade(clean, psi_targets(drawn)["kernel"], scale)
        torch.testing.assert_close(
            degraded, expected[..., frame : frame + SIDE, frame : frame + SIDE], atol=2e-3, rtol=0.0
        )
    noisy = attrs.evolve(nothing(), noise=Noise(1e-3, 2 / 255), second=second)
    degraded, _, _ = degrade_batch(torch.full((8, 1, 164, 164), 0.5), [noisy] * 8, 1, generator(1))
    gain, read = noisy.effective_noise
    assert float(degraded.var()) == pytest.approx(gain * 0.5 + read**2, rel=0.04)


def _gaussians(scale: int) -> list[Degradation]:
    recipe = Recipe.from_dict({"name": "g", "blur": {"probability": 1.0}})
    return draw_degradations(recipe, scale, 3, np.random.default_rng(1))


def test_psi_targets_have_one_row_per_degradation() -> None:
    drawn = draw_degradations(Recipe.load("default"), 2, 5, np.random.default_rng(0))
    targets = psi_targets(drawn)
    assert targets["kernel"].shape == (5, 21, 21)
    scalars = {name: value for name, value in targets.items() if name != "kernel"}
    assert all(value.shape == (5,) and value.dtype == torch.float32 for value in scalars.values())
    assert set(scalars) == {
        *("noise_gain", "read_noise", "jpeg", "banding", "jitter", "damage", "defocus", "thickness_px"),
    }


def test_a_row_shift_is_exact_for_a_parabola() -> None:
    x = torch.arange(20, dtype=torch.float64)
    shifted = steps.shift_rows(((x - 7) ** 2).expand(1, 3, 20), torch.tensor([[0.0, 0.35, -0.8]]).double())
    inside = x[2:-2]
    for row, shift in enumerate((0.0, 0.35, -0.8)):
        torch.testing.assert_close(shifted[0, row], (inside + shift - 7) ** 2)


@pytest.mark.parametrize(
    ("shape", "count", "scale", "sentence"),
    [
        ((2, 84, 84), 2, 1, "give \\(N, 1, H, W\\)"),
        ((2, 1, 84, 84), 3, 1, "give one each"),
        ((2, 1, 101, 101), 2, 2, "do not fit"),
        ((2, 1, 36, 36), 2, 1, "do not fit"),
        ((2, 1, 152, 152), 2, 4, "drawn for x1"),
    ],
)
def test_a_batch_that_does_not_fit_is_a_sentence(
    shape: tuple[int, ...], count: int, scale: int, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        degrade_batch(
            torch.zeros(shape),
            [nothing(scale if sentence != "drawn for x1" else 1)] * count,
            scale,
            generator(),
        )
