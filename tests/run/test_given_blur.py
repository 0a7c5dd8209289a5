"""Blur and noise by hand, through a run: in plan and provenance, refused when resumed otherwise, and obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import level0, save_zarr
from prior_toys import model_file, nano

from bigrestore.api import restore
from bigrestore.core.kernels import equivalent_sigma, gaussian
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.model.nets.checkpoint import save_model

QUIET: dict[str, Any] = {
    "progress": "none",
    "threads": 1,
    "report": False,
    "precision": "fp32",
    "mask": "none",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("model"), with_prior=False)


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:192, :192]))


def facts_of(output: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return fingerprint, provenance and the profile of section 0."""
    beside = Path(f"{output}.bigrestore")
    plan = json.loads((beside / "plan.json").read_text())["fingerprint"]
    provenance = json.loads((output / "zarr.json").read_text())["attributes"]["bigrestore"]
    return plan, provenance, json.loads((beside / "profiles/z00000.json").read_text())


def test_what_was_given_is_obeyed_and_stored(tmp_path: Path, source: Path, model: Path) -> None:
    out = tmp_path / "out.zarr"
    restore(source, out, model=model, blur=0.6, noise=3, **QUIET)
    plan, provenance, profile = facts_of(out)
    assert (plan["settings.blur"], plan["settings.noise"]) == ([0.6, 0.6, 0.0], 3)
    assert (provenance["settings"]["blur"], provenance["method"]["noise"]) == (
        [0.6, 0.6, 0.0],
        "given, 3 of 255",
    )
    assert equivalent_sigma(np.asarray(profile["kernel"])) == pytest.approx(0.6, abs=1e-3)
    assert (profile["noise_gain"], profile["read_noise"]) == pytest.approx((0.0, 3 / 255))
    assert profile["details"]["given"] == "blur, noise"
    plain = tmp_path / "plain.zarr"
    restore(source, plain, model=model, **QUIET)
    plan, provenance, profile = facts_of(plain)
    assert not any(name.endswith((".blur", ".noise")) for name in plan)
    assert not {"blur", "noise"} & (provenance["settings"].keys() | provenance["method"].keys())
    assert not np.array_equal(level0(out), level0(plain))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"blur": 0.7, "noise": 3}, "--blur (0.6,0.6,0.0 then, 0.7,0.7,0.0 now);"),
        ({"noise": 3}, "--blur (0.6,0.6,0.0 then, none now);"),
        ({"blur": 0.6, "noise": 2}, "--noise (3 then, 2 now);"),
        ({"blur": 0.6}, "--noise (3 then, none now);"),
    ],
)
def test_a_run_goes_on_only_with_the_same_blur_and_noise(
    tmp_path: Path, source: Path, model: Path, now: dict[str, Any], words: str
) -> None:
    out = tmp_path / "out.zarr"
    restore(source, out, model=model, blur=0.6, noise=3, init_only=True, **QUIET)
    with pytest.raises(OutputExistsError) as info:
        restore(source, out, model=model, resume=True, **QUIET, **now)
    assert f"was begun otherwise: {words}" in str(info.value)
    assert restore(source, out, model=model, blur="0.6", noise=3.0, resume=True, **QUIET).blocks_done == 1


@pytest.mark.usefixtures("warm_children")
def test_workers_are_told_the_same(tmp_path: Path, source: Path, model: Path) -> None:
    found = []
    for name, workers in (("one", None), ("two", 2)):
        restore(source, tmp_path / name, model=model, blur=(0.8, 0.5, 30), noise=2, workers=workers, **QUIET)
        found.append(level0(tmp_path / name))
    np.testing.assert_array_equal(*found)


def test_a_blur_beyond_the_training_is_refused_before_anything_is_made(
    tmp_path: Path, source: Path, model: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"--blur is 2.6 in input pixels, but models for x1 are trained on at most 2.5"
    ):
        restore(source, tmp_path / "out.zarr", model=model, blur=2.6, **QUIET)
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--blur", "-1"), "--blur is '-1'"),
        (("--blur", "soft"), "--blur is 'soft'"),
        (("--blur", "0.5,0.4"), "SIGMA,SIGMA_Y,ANGLE"),
        (("--blur", "9"), "trained on at most 2.5"),
        (("--blur", "0.1", "--scale", "2"), "give 0.25 or more, or 0"),
        (("--blur", "0.5", "--kernel", "KERNEL"), "--blur and --kernel"),
        (("--blur", "0.5", "--method", "rational"), "--blur means nothing to --method rational"),
        (("--noise", "3", "--method", "catmull-rom"), "--noise means nothing to --method catmull-rom"),
        (("--noise", "-2"), "--noise is -2"),
        (("--noise", "100"), "from 0 to 64"),
        (("--noise", "nan"), "--noise is nan"),
        (("--noise", "loud"), "--noise"),
    ],
)
@pytest.mark.parametrize("command", ["run", "profile"])
def test_flags_that_cannot_be_are_a_sentence_and_two(
    tmp_path: Path,
    source: Path,
    model: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    command: str,
    flags: tuple[str, ...],
    word: str,
) -> None:
    np.save(tmp_path / "k.npy", gaussian(9, 0.8))
    given = [str(tmp_path / "k.npy") if flag == "KERNEL" else flag for flag in flags]
    if "--scale" in flags:
        model = tmp_path / "double.safetensors"
        save_model(model, nano(2, with_prior=False), {"halo_px": 96})
    given += [] if "--method" in flags else ["--model", str(model)]
    out = [tmp_path / "o.zarr"] if command == "run" else ["-o", tmp_path / "o.json"]
    assert call(command, source, *out, *given) == 2
    said = capsys.readouterr().err
    assert word in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("o.*"))
