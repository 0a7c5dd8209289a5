"""What a method is told: the widest blur is its own, the estimator is loaded for what nobody stated, and words are true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bigrestore.core.kernels import equivalent_sigma, gaussian
from bigrestore.errors import UsageError
from bigrestore.model import knowledge
from bigrestore.model.method import TileBatch
from bigrestore.model.nets import checkpoint
from bigrestore.model.registry import create_method
from bigrestore.run.profile.words import sentence
from bigrestore.settings import RunSettings

FREE = ("wiener", "gddec", "dpir", "nonblind")
WIDEST = {1: 5.0, 2: 3.5, 4: 2.25}
"""Input pixels, of the methods that learned no kernels."""


def told(method: str, sigma: float, scale: int = 1, noise: float | None = 2.0, **more: Any) -> Any:
    return create_method(
        RunSettings(method=method, blur=(sigma, sigma, 0.0), noise=noise, scale=scale, **more)
    )


@pytest.fixture
def windows(tissue: np.ndarray) -> np.ndarray:
    return np.stack([tissue[:128, :128], tissue[128:256, 128:256]])


@pytest.mark.parametrize("method", FREE)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_method_that_learned_no_kernels_takes_a_wide_blur(method: str, scale: int) -> None:
    kernel = told(method, WIDEST[scale], scale).knowledge.kernel
    assert float(equivalent_sigma(kernel)) == pytest.approx(WIDEST[scale] * scale, rel=0.02)
    with pytest.raises(UsageError, match=f"--blur is 6 .*--method {method} undoes at x{scale} at most"):
        told(method, 6.0, scale)


def test_a_network_takes_the_widest_of_its_training(part: Callable[[str, int], Path]) -> None:
    for more in ({"method": "network"}, {"method": "usrnet", "model": str(part("unrolled", 1))}):
        with pytest.raises(UsageError, match=r"models for x1 are trained on at most 2\.5; give 2\.5 or less"):
            create_method(RunSettings(blur=(2.6, 2.6, 0.0), **more))


def test_a_wide_blur_is_undone_as_stated(tissue: np.ndarray) -> None:
    clean = tissue[:256, :256]
    given = gaussian_filter(clean, 4.0)
    errors = []
    for sigma in (2.5, 4.0):
        method = told("wiener", sigma, noise=0.5)
        statistics = method.analyse(given[None, :128, :128])
        made = method.restore(TileBatch(given[None], None, np.zeros((1, 2), np.int64), 0), statistics).pixels
        errors.append(float(np.square((made[0] - clean)[32:-32, 32:-32]).mean()))
    assert errors[1] < 0.8 * errors[0]


def test_a_wide_kernel_of_a_file_keeps_its_width_or_is_refused(tmp_path: Path, windows: np.ndarray) -> None:
    np.save(tmp_path / "k.npy", gaussian(41, 4.0))
    settings: dict[str, Any] = {"kernel": str(tmp_path / "k.npy"), "noise": 1.0}
    kernel = create_method(RunSettings(method="wiener", **settings)).analyse(windows).kernel
    assert float(equivalent_sigma(kernel)) == pytest.approx(4.0, rel=0.02)
    with pytest.raises(UsageError, match="--kernel is 41 x 41 pixels and does not fit into 21 x 21"):
        create_method(RunSettings(method="network", **settings))


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"method": "wiener", "blur": (1.0, 1.0, 0.0), "noise": 2.0}, False),
        ({"method": "dpir", "blur": (1.0, 1.0, 0.0), "noise": 2.0}, False),
        ({"method": "drunet", "noise": 2.0}, False),
        ({"method": "median"}, False),
        ({"method": "wiener", "blur": (1.0, 1.0, 0.0)}, True),
        ({"method": "wiener", "noise": 2.0}, True),
        ({"method": "drunet"}, True),
        ({"method": "nonblind", "blur": (1.0, 1.0, 0.0), "noise": 2.0}, True),
    ],
    ids=str,
)
def test_the_estimator_is_loaded_alone_and_only_where_it_is_asked(
    settings: dict[str, Any], asked: bool, windows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(path: Path) -> Any:
        read.append(path.stem)
        return reader(path)

    reader = checkpoint.read_checkpoint
    monkeypatch.setattr(checkpoint, "read_checkpoint", noted)
    monkeypatch.setattr(checkpoint, "Restorer", None)
    monkeypatch.setattr("bigrestore.model.methods.nonblind.AUTO_STEPS", 1)
    method = create_method(RunSettings(**settings))
    identity = method.describe()
    method.analyse(windows[:1])
    assert bool(read) == asked
    assert ("estimator" in identity) == asked
    if asked:
        assert identity["estimator"].startswith("tiny-x1, sha256 ")
        loaded = checkpoint.load_estimator("tiny-x1").state_dict()
        assert identity["estimator"].endswith(checkpoint.hash_tensors(loaded)[:12])


def test_another_estimator_is_another_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    identities = []
    for seed in (0, 1):
        other = checkpoint.load_estimator("tiny-x1")
        other.mean += seed
        monkeypatch.setattr(knowledge, "load_estimator", lambda *_, other=other: other)
        identities.append(create_method(RunSettings(method="wiener")).describe()["estimator"])
    assert identities[0] != identities[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "median"}, ""),
        (
            {"method": "drunet", "noise": 3.0},
            "noise 3 of 255 as told: the method reads no blur and takes none out",
        ),
        (
            {"method": "wiener", "blur": (1.0, 1.0, 0.0), "noise": 3.0},
            "blurred by 1 px as told, noise 3 of 255 as told: a run restores it",
        ),
    ],
    ids=str,
)
def test_the_log_says_nothing_that_was_not_read(
    settings: dict[str, Any], said: str, windows: np.ndarray
) -> None:
    assert sentence(create_method(RunSettings(**settings)).analyse(windows), 1) == said


@pytest.mark.parametrize("method", ["drunet", "srrunet"])
def test_what_leaves_the_blur_alone_names_none(
    method: str, part: Callable[[str, int], Path], windows: np.ndarray
) -> None:
    model = {} if method == "drunet" else {"model": str(part("resolver", 1))}
    statistics = create_method(RunSettings(method=method, **model)).analyse(windows)
    assert not {"sigma_px", "sigma_error_px"} & statistics.details.keys()
    assert "undoes" not in sentence(statistics, 1)
