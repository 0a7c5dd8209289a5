"""The network as a method: statistics once per section, devices and precision by name, kernels by hand."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from bigrestore.core.kernels import equivalent_sigma, fold_downsampling, gaussian
from bigrestore.core.stated_blur import placed_kernel, read_kernel
from bigrestore.errors import InputError, InputMissingError, UsageError
from bigrestore.model import device, network
from bigrestore.model.device import choose_device, choose_precision
from bigrestore.model.method import TileBatch
from bigrestore.model.nets.checkpoint import Model, save_model
from bigrestore.model.nets.reading import estimator
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.network import NetworkMethod, load_network
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from bigrestore.settings.presets import get_preset


def make(scale: int = 1, *, with_prior: bool = False, **options: object) -> NetworkMethod:
    torch.manual_seed(0)
    restorer = Restorer(get_preset("nano"), scale, with_prior=with_prior).eval()
    restorer.basis.fit(torch.rand(50, 21, 21))
    info = {"halo_px": 96, "sha256": "0" * 64, "preset": "nano"} | (
        {"halo_prior_px": 96} if with_prior else {}
    )
    return NetworkMethod(Model(restorer, "nano", info), **options)  # type: ignore[arg-type]


def windows(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 128, 128), np.float32)


def test_statistics_are_those_of_the_estimator_and_do_not_depend_on_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = make()
    together = method.analyse(windows(40))
    monkeypatch.setattr(estimator, "WINDOWS_AT_ONCE", 7)
    apart = method.analyse(windows(40))
    np.testing.assert_allclose(together.psi, apart.psi, atol=1e-4)
    assert together.kernel.sum() == pytest.approx(1, abs=1e-4)
    assert together.details["windows"] == 40
    assert together.psi[16] == 1


def test_without_a_window_the_code_is_unknown() -> None:
    statistics = make().analyse(windows(0))
    assert not statistics.psi.any()
    assert statistics.kernel.shape == (21, 21)


def test_a_given_kernel_replaces_the_estimate() -> None:
    kernel = gaussian(9, 1.2)
    for count in (0, 3):
        statistics = make(kernel=kernel).analyse(windows(count))
        assert equivalent_sigma(statistics.kernel) == pytest.approx(equivalent_sigma(kernel), abs=1e-3)


def test_given_noise_replaces_the_estimate_and_the_rest_is_still_read() -> None:
    read, told = (
        make().analyse(windows(3)),
        make(read_noise=3 / 255, kernel=gaussian(21, 2.0)).analyse(windows(3)),
    )
    assert (told.noise_gain, told.read_noise) == pytest.approx((0.0, 3 / 255))
    assert told.details["jpeg_quality"] == read.details["jpeg_quality"]
    assert told.details["given"] == "blur, noise"
    assert "given" not in read.details
    np.testing.assert_array_equal(told.psi[12:], read.psi[12:])
    assert np.abs(told.psi[:10] - read.psi[:10]).max() > 0.01, "the kernel is told"
    assert np.abs(told.psi[10:12] - read.psi[10:12]).min() > 0.01, "the noise is told"
    unseen = make(read_noise=3 / 255).analyse(windows(0))
    assert (unseen.read_noise, unseen.details["given"]) == (3 / 255, "noise")


@pytest.mark.parametrize("scale", [1, 2])
def test_a_kernel_beside_its_place_moves_no_output(scale: int, caplog: pytest.LogCaptureFixture) -> None:
    kernel = gaussian(21, 1.2) if scale == 1 else fold_downsampling(gaussian(21, 1.2), "area", 2)
    beside = shift(np.pad(kernel, 2), (0.4, -0.7), order=5)
    made, moved = (make(scale, kernel=np.clip(each, 0, None)) for each in (kernel, beside))
    assert "off its place by +0.40 rows and -0.70 columns" in caplog.text
    found = [restored(method, 3) for method in (made, moved)]
    unmoved = make(scale, kernel=kernel)
    unmoved.knowledge.kernel = (beside / beside.sum())[2:-2, 2:-2]
    assert np.abs(found[0] - found[1]).max() < 5e-4
    assert np.abs(found[0] - restored(unmoved, 3)).max() > 5e-3, "what was moved is seen"


def restored(method: NetworkMethod, windows_seen: int) -> np.ndarray:
    """Restore one tile of blurred noise, whose own noise is known to be small."""
    known = attrs.evolve(method.analyse(windows(windows_seen)), noise_gain=0.0, read_noise=1 / 255)
    x = gaussian_filter(np.random.default_rng(1).random((1, 128, 128), np.float32), (0, 0.8, 0.8))
    return method.restore(TileBatch(x, None, np.zeros((1, 2), np.int64), 0), known).pixels


@pytest.mark.parametrize(
    ("sigma", "windows_seen", "adds"), [(0.8, 3, True), (5.0, 3, False), (0.8, 0, False)]
)
def test_a_section_unlike_the_training_data_gets_no_detail_and_says_so(
    sigma: float, windows_seen: int, adds: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = gaussian(21, sigma)
    plain, real = (make(with_prior=True, kernel=kernel, realness=share, precision="fp32") for share in (0, 1))
    assert np.array_equal(restored(plain, windows_seen), restored(real, windows_seen)) is not adds
    said = "realness is lowered from 1 to" in caplog.text
    assert said is (sigma == 5.0)


def test_the_network_is_told_no_wider_kernel_than_it_was_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    wide = make(kernel=gaussian(21, 5.0)).analyse(windows(3))
    assert wide.details["sigma_px"] == pytest.approx(equivalent_sigma(gaussian(21, 5.0)), abs=1e-3)
    assert equivalent_sigma(wide.kernel) == pytest.approx(2.5, abs=0.1)
    assert "sharpened as if it were by that" in caplog.text
    assert "realness" not in caplog.text
    at_most = make(kernel=gaussian(21, 2.5)).analyse(windows(3))
    np.testing.assert_allclose(wide.psi, at_most.psi, atol=0.15)


def test_the_halo_holds_what_realness_looks_at() -> None:
    assert make(with_prior=True, realness=0.0).halo_px == 96
    assert make(with_prior=True, realness=0.1).halo_px == 112


def test_the_less_of_the_prior_the_smaller_the_halo() -> None:
    """Errors of 1e-3, 2e-5 and 5e-6 at realness 1, where half a step of 16 bits, 7.6e-6, is let pass."""
    errors = {"96": 1e-3, "112": 2e-5, "128": 5e-6}
    info = {"halo_px": 80, "halo_prior_px": 128, "halo_prior_errors": errors}
    model = Model(Restorer(get_preset("nano"), 1, with_prior=True), "nano", info)
    assert [model.halo_for(share) for share in (0.0, 0.005, 0.3, 1.0)] == [80, 96, 112, 128]
    wide = Model(model.restorer, "nano", info | {"halo_px": 112})
    assert wide.halo_for(0.005) == 112


def test_restoring_gives_pixels_and_the_residual_on_its_lattice() -> None:
    method = make(2)
    statistics = method.analyse(windows(2))
    x = np.random.default_rng(1).random((2, 64, 48), np.float32)
    batch = TileBatch(x, np.ones((2, 64, 48), bool), np.array([[0, 0], [64, 48]]), 0)
    result = method.restore(batch, statistics)
    assert result.pixels.shape == (2, 128, 96)
    assert result.pixels.dtype == np.float32
    assert (result.pixels.min(), result.pixels.max()) >= (0, 0)
    again = torch.from_numpy(result.pixels)[:, None]
    expected = x[:, ::4, ::4] - redegrade(again, torch.from_numpy(statistics.kernel), 2, 4)[:, 0].numpy()
    assert result.residual is not None
    np.testing.assert_allclose(result.residual, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_map_of_the_residual_degrades_once_and_leaves_the_statistic(
    scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, steps = make(scale), list[tuple[int, ...]]()
    statistics = method.analyse(windows(2))
    x = np.random.default_rng(1).random((1, 64, 48), np.float32)
    batch = TileBatch(x, None, np.zeros((1, 2), np.int64), 0)
    plain = method.restore(batch, statistics)

    def noting(y: torch.Tensor, kernel: torch.Tensor, *sizes: int) -> torch.Tensor:
        steps.append(sizes)
        return redegrade(y, kernel, *sizes)

    monkeypatch.setattr(network, "redegrade", noting)
    mapped = method.restore(attrs.evolve(batch, maps=("residual",)), statistics)
    assert steps == [(scale, 1)]
    assert plain.residual is not None
    assert mapped.residual is not None
    np.testing.assert_allclose(mapped.residual, plain.residual, atol=1e-6)
    np.testing.assert_allclose(
        mapped.maps["residual"][:, :: 4 * scale, :: 4 * scale], abs(plain.residual), atol=1e-6
    )


def test_a_description_identifies_the_run() -> None:
    told = make(precision="fp32").describe()
    assert told["sha256"] == "0" * 64
    assert (told["halo_px"], told["alignment_px"], told["precision"]) == (96, 16, "fp32")


def test_another_kernel_is_another_run() -> None:
    said = {str(make(kernel=gaussian(9, sigma)).describe()["kernel"]) for sigma in (1.2, 1.2, 1.3)}
    assert len(said) == 2
    assert make().describe()["kernel"] == "estimated"
    assert "noise" not in make().describe()
    assert [make(read_noise=level / 255).describe()["noise"] for level in (0, 3)] == [
        "given, 0 of 255",
        "given, 3 of 255",
    ]


def test_a_scale_without_a_shipped_network_names_the_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigrestore.model.nets.checkpoint.shipped_models", dict)
    with pytest.raises(UsageError, match=r"--scale is 4, .* --method rational or catmull-rom"):
        create_method(RunSettings(scale=4))


def test_realness_is_refused_without_a_prior_and_out_of_range() -> None:
    with pytest.raises(UsageError, match="no prior"):
        make(realness=0.5)
    for absurd in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=r"0\.\.1"):
            make(realness=absurd)


def test_devices_that_are_not_there_are_refused() -> None:
    cpu = choose_device("cpu")
    assert cpu.type == "cpu"
    for name in ("abacus", "cuda:99", "xla"):
        with pytest.raises(UsageError, match="device"):
            choose_device(name)
    with pytest.raises(UsageError, match="precision"):
        choose_precision("fp8", cpu)
    with pytest.raises(UsageError, match="GPUs"):
        choose_precision("fp16", cpu)


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for able, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(device, "cpu_computes_bf16", lambda able=able: able)
        assert choose_precision("auto", cpu) == expected
    assert choose_precision("bf16", cpu) == "bf16"


def test_kernels_are_read_and_checked(tmp_path: Path) -> None:
    kernel = gaussian(21, 1.5)
    np.save(tmp_path / "k.npy", 3 * kernel)
    np.savetxt(tmp_path / "k.txt", kernel)
    for name in ("k.npy", "k.txt"):
        np.testing.assert_allclose(read_kernel(tmp_path / name), kernel, atol=1e-6)
    with pytest.raises(InputMissingError, match=r"absent\.npy"):
        read_kernel(tmp_path / "absent.npy")
    for name, array in (("even", np.ones((4, 4))), ("flat", np.ones(9)), ("nan", np.full((3, 3), np.nan))):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(InputError, match=f"{name}.npy"):
            read_kernel(tmp_path / f"{name}.npy")
    (tmp_path / "words.txt").write_text("not a kernel")
    with pytest.raises(InputError, match=r"words\.txt"):
        read_kernel(tmp_path / "words.txt")


def test_kernels_are_fitted_to_the_network() -> None:
    assert placed_kernel(gaussian(9, 1.0), 1, 21).shape == (21, 21)
    cropped = placed_kernel(gaussian(41, 1.5), 1, 21)
    assert cropped.shape == (21, 21)
    assert cropped.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UsageError, match="21 x 21"):
        placed_kernel(gaussian(41, 8.0), 1, 21)


@pytest.mark.parametrize("stages", [("estimator",), ("estimator", "fidelity"), ()])
def test_a_model_whose_unet_was_not_trained_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stages: tuple[str, ...]
) -> None:
    made = make()
    info = {"halo_px": 96, "training": {stage: {"steps": 3} for stage in stages}}
    save_model(tmp_path / "mine.safetensors", made.model.restorer, info)
    load_network(
        tmp_path / "mine.safetensors",
        scale=1,
        realness=None,
        device="cpu",
        precision="fp32",
        seed=0,
        lock=True,
        kernel=None,
    )
    said = [record.getMessage().split(",")[0] for record in caplog.records if record.levelname == "WARNING"]
    untrained = "The model mine reads blur and noise and has no trained U-Net to take them out: its output is the input"
    assert said == ([untrained] if stages == ("estimator",) else [])
