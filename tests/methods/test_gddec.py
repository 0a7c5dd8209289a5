"""Gradient descent undoes a blur, stops at the noise, and its published setting is what it was."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data, restoration
from skimage.metrics import structural_similarity as judged

from bigrestore.core.kernels import gaussian, motion
from bigrestore.errors import UsageError
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.method import SectionStatistics, TileBatch
from bigrestore.model.methods.gddec import PUBLISHED, Descent, GDDecMethod, structural_similarity
from bigrestore.model.methods.recursive import recursive_filter
from bigrestore.model.nets.reading.estimator import DegradationEstimator
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings

KNOWLEDGE = Knowledge(DegradationEstimator(), 1)
ORIGIN = np.zeros((1, 2), np.int64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square((a - b)[16:-16, 16:-16]).mean()))


def blurred(clean: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return redegrade(torch.from_numpy(clean)[None, None], torch.from_numpy(kernel), 1)[0, 0].numpy()


def restored(method: GDDecMethod, given: np.ndarray, kernel: np.ndarray, noise: float) -> np.ndarray:
    known = SectionStatistics(kernel, np.zeros(24, np.float32), 0.0, noise / 255)
    windows = np.stack([given[:128, :128], given[-128:, -128:]])
    if method.descent.steps is None:
        steps = int(np.median([method._steps_for(window, known) for window in windows]))
        known = attrs.evolve(known, details={"steps": steps})
    return method.restore(TileBatch(given[None], None, ORIGIN, 0), known).pixels[0]


def test_the_published_setting_restores_a_photograph_of_motion() -> None:
    clean = (np.asarray(data.camera(), np.float32) / 255)[100:292, 150:342]
    kernel = motion(21, 11, 0.5)
    given = blurred(clean, kernel)
    method = GDDecMethod(1, KNOWLEDGE, attrs.evolve(PUBLISHED, steps=40, smoothing=None), lock=False)
    peer = restoration.richardson_lucy(given, kernel[::-1, ::-1], num_iter=50)
    made = psnr(restored(method, given, kernel, 0.0), clean)
    assert made > psnr(peer, clean) + 2
    assert made > psnr(given, clean) + 5


@pytest.mark.parametrize(("sigma", "noise"), [(1.3, 2.0), (1.3, 8.0), (0.6, 1.0), (0.0, 2.0), (1.3, 0.3)])
def test_the_default_loses_nothing_on_tissue(tissue: np.ndarray, sigma: float, noise: float) -> None:
    clean = tissue[64:256, 64:256]
    kernel = gaussian(21, max(sigma, 0.1))
    grain = np.random.default_rng(1).normal(0, noise / 255, clean.shape).astype(np.float32)
    given = blurred(clean, kernel) + grain
    made = restored(GDDecMethod(1, KNOWLEDGE, Descent()), given, kernel, noise)
    assert psnr(made, clean) >= psnr(given, clean)


def test_the_published_setting_is_not_for_noisy_tissue(tissue: np.ndarray) -> None:
    clean, kernel = tissue[64:256, 64:256], gaussian(21, 1.3)
    given = blurred(clean, kernel) + np.random.default_rng(1).normal(0, 2 / 255, clean.shape).astype(
        np.float32
    )
    method = GDDecMethod(1, KNOWLEDGE, attrs.evolve(PUBLISHED, steps=40, smoothing=None))
    assert psnr(restored(method, given, kernel, 2.0), clean) < psnr(given, clean) - 3


def test_the_last_step_is_one_number_for_the_section(tissue: np.ndarray) -> None:
    given = gaussian_filter(tissue[:256, :256], 1.0)
    windows = np.stack([given[:128, :128], given[128:, 128:]])
    statistics = create_method(RunSettings(method="gddec", blur=(1.0, 1.0, 0.0), noise=1.0)).analyse(windows)
    assert 1 <= statistics.details["steps"] <= 60


def test_structural_similarity_is_that_of_scikit_image(tissue: np.ndarray) -> None:
    a, b = tissue[:96, :96], gaussian_filter(tissue[:96, :96], 1.0)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, wanted = judged(a, b, full=True, **options)
    made = structural_similarity(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None])[
        0, 0
    ].numpy()
    np.testing.assert_allclose(made[8:-8, 8:-8], wanted[8:-8, 8:-8], atol=2e-4)


def test_the_recursive_filter_keeps_constants_and_edges_and_takes_noise() -> None:
    flat = torch.full((1, 1, 32, 48), 0.4)
    torch.testing.assert_close(recursive_filter(flat, 60.0, 0.5), flat)
    step = flat.clone()
    step[..., 24:] = 0.9
    kept = recursive_filter(step, 3.0, 0.05)
    assert float(kept[..., 24:].mean() - kept[..., :24].mean()) > 0.95 * 0.5
    grain = 0.01 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    smooth = recursive_filter(flat.new_full((1, 1, 64, 64), 0.4) + grain, 3.0, 0.05)
    assert float((smooth - 0.4).std()) < 0.5 * float(grain.std())


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "ten", "a whole number from 1 to 5000"),
        ("filter", "60", "S,R with numbers above 0"),
        ("rate", "-1", "a number from 0 to 1"),
        ("loss", "vgg", "l1, l2, ssim or preset"),
    ],
)
def test_a_wrong_option_is_a_sentence(option: str, value: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"--set {option} is .*{words}"):
        create_method(RunSettings(method="gddec", options={option: value}))


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="has no option 'stepz'; choose preset, loss, rate, steps or filter"):
        create_method(RunSettings(method="gddec", options={"stepz": "2"}))
