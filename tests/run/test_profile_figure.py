"""The picture of a profile: its curves are the spectra that they are called, and it replaces no file unasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_toys import save_zarr
from PIL import Image
from prior_toys import model_file

from bigrestore.core.kernels import gaussian
from bigrestore.core.stated_blur import blur_kernel
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.run.profile.figure import FIRST, PLOT_RINGS, fall_db, ring_power, tissue_power


def test_white_noise_has_the_power_of_its_variance() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.1, (40, 128, 128)).astype(np.float32)
    assert ring_power(noise)[1:] == pytest.approx([0.01] * (PLOT_RINGS - 1), rel=0.1)


@pytest.mark.parametrize("fall", [11.0, 21.0])
def test_sharp_tissue_falls_as_stated(fall: float) -> None:
    assert fall_db(tissue_power(fall)) == pytest.approx(fall, abs=0.2)


def test_a_kernel_lowers_the_spectrum_by_its_transfer() -> None:
    centres = (np.arange(PLOT_RINGS) + 0.5) / 32
    ratio = tissue_power(15.0, gaussian(21, 0.8)) / tissue_power(15.0)
    expected = np.exp(-4 * np.pi**2 * 0.64 * centres**2)
    seen = slice(0, 12)  # beyond, a sampled Gaussian lets more through
    assert 10 * np.log10(ratio / expected)[seen] == pytest.approx(np.zeros(12), abs=0.3)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_answer_is_the_spectrum_of_tissue_that_was_degraded_so(scale: int) -> None:
    """Random fields with the power of tissue on the output grid, degraded, have the spectrum that is drawn."""
    rng, side = np.random.default_rng(0), 1024 * scale
    frequency = np.fft.fftfreq(side) * scale
    exponent = 15.0 / (10 * np.log10((0.484375**2 + 0.03**2) / (0.140625**2 + 0.03**2)))
    power = (frequency[:, None] ** 2 + frequency**2 + 0.03**2) ** -exponent
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * np.sqrt(power)).real
    sigma = 0.4 if scale == 1 else 0.3  # at x2 much is folded back
    kernel = blur_kernel((sigma, sigma, 0.0), scale, 9.0, "")
    image = redegrade(torch.from_numpy(field)[None, None].float(), torch.from_numpy(kernel), scale)[
        0, 0
    ].numpy()
    windows = image.reshape(8, 128, 8, 128).swapaxes(1, 2).reshape(64, 128, 128)
    found, drawn = ring_power(windows), tissue_power(15.0, kernel, scale)
    difference = 10 * np.log10(found / found[FIRST] / (drawn / drawn[FIRST]))
    assert difference[2:] == pytest.approx(np.zeros(PLOT_RINGS - 2), abs=0.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("model"), with_prior=False)


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:300, :300]))


@pytest.mark.parametrize("name", ["p.png", "p.PNG", "p.svg", "p.pdf"])
def test_a_picture_is_drawn_and_not_replaced_unasked(
    tmp_path: Path,
    source: Path,
    model: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    out = tmp_path / name
    assert call("profile", source, "--model", model, "-o", out) == 0
    assert "in words " in capsys.readouterr().out
    if out.suffix.lower() == ".png":
        grey = np.asarray(Image.open(out).convert("L"))
        assert grey.shape[1] > 1000
        assert 0.01 < (grey < 100).mean() < 0.5, "there are lines and a dark kernel on white"
    else:
        assert out.read_bytes()[:5] in (b"<?xml", b"%PDF-")
    out.write_bytes(b"mine")
    assert call("profile", source, "--model", model, "-o", out) == 4
    assert "give another name, or replace it by --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert call("profile", source, "--model", model, "-o", out, "--overwrite") == 0
    assert out.stat().st_size > 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", name]


def test_the_title_is_name_and_sentence_and_a_volume_names_its_section(
    tmp_path: Path,
    tissue: np.ndarray,
    model: Path,
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    titles: list[str] = []

    def draw(path: Path, *rest: Any) -> None:
        titles.append(rest[-1])
        path.write_bytes(b"drawn")

    monkeypatch.setattr("bigrestore.run.profile.figure.draw_profile", draw)
    source = save_zarr(tmp_path / "in.zarr", np.stack([tissue[:256, :256]] * 2))
    assert call("profile", source, "--model", model, "--blur", "0.5", "-o", tmp_path / "p.png", "--z", 1) == 0
    said = capsys.readouterr().out.splitlines()[0].removeprefix("in words").strip()
    assert titles == [f"in.zarr, section 1\n{said}"]


@pytest.mark.parametrize("method", ["rational", "network"])
def test_names_and_methods_of_any_kind_are_drawn(
    tmp_path: Path, tissue: np.ndarray, model: Path, call: Callable[..., int], method: str
) -> None:
    source = save_zarr(tmp_path / "a$x^$ \\frac{.zarr", np.ascontiguousarray(tissue[:256, :256]))
    flags = ("--model", model) if method == "network" else ("--scale", 2)
    assert call("profile", source, "--method", method, *flags, "-o", tmp_path / "p.png") == 0
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_a_section_without_tissue_has_no_picture(
    tmp_path: Path, model: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.full((300, 300), 250, np.uint8))
    assert call("profile", source, "--model", model, "-o", tmp_path / "p.png") == 3
    assert "in.zarr has no tissue, so there is no spectrum to draw" in capsys.readouterr().err
    assert not (tmp_path / "p.png").exists()
    assert call("profile", source, "--model", model, "-o", tmp_path / "p.json") == 0


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path,
    source: Path,
    model: Path,
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("looked at the section first")

    monkeypatch.setattr("bigrestore.run.profile.section_profile.sample_section", work)
    assert call("profile", source, "--model", model, "-o", tmp_path / "none" / "p.png") == 4
    assert "there is no folder" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    assert call("profile", source, "--model", model, "-o", tmp_path / "p.png") == 4
    assert "is not writable" in capsys.readouterr().err


def test_a_picture_never_takes_the_place_of_the_kernel(
    tmp_path: Path, source: Path, model: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = tmp_path / "kernel.png"
    np.savetxt(kernel, gaussian(9, 0.8))
    flags = ("--model", model, "--kernel", kernel, "-o", kernel, "--overwrite")
    assert call("profile", source, *flags) == 4
    assert "is the kernel" in capsys.readouterr().err
    assert np.loadtxt(kernel).shape == (9, 9)
