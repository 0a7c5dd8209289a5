"""`profile` of a volume: a line for each section, with what clean tissue under its blur and noise gains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from prior_toys import model_file
from scipy.ndimage import gaussian_filter

from bigrestore.run.profile.expected import expected_gain, read_gains
from bigrestore.run.profile.triage import HEADER

TABLE = {
    "sigma_input_px": [0.5, 1.0, 2.0],
    "noise_levels": [1.0, 3.0, 5.0],
    "gain_db": [
        [[1, 0.1], [2, 0.2], [4, 0.4]],
        [[3, 0.1], [4, 0.2], [6, 0.4]],
        [[5, 0.3], [6, 0.4], [8, 0.6]],
    ],
}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory, tissue: np.ndarray) -> Path:
    """Return five sections: as they are, blurred, noisy, without tissue, and one whose chunk is damaged."""
    sharp = np.ascontiguousarray(tissue[:300, :300]).astype(float)
    chance = np.random.default_rng(0)
    sections = [
        sharp,
        gaussian_filter(sharp, 1.5),
        sharp + chance.normal(0, 9, sharp.shape),
        0 * sharp + 240,
        sharp,
    ]
    path = tmp_path_factory.mktemp("volume") / "in.zarr"
    pixels = np.clip(np.rint(sections), 0, 255).astype(np.uint8)
    zarr.create_array(path, data=pixels, chunks=(1, 300, 300))
    (path / "c" / "4" / "0" / "0").write_bytes(b"no chunk")
    return path


def test_every_section_has_a_line(
    volume: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("profile", volume, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["z"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[1]["sigma_px"] > lines[0]["sigma_px"] + 0.5
    assert lines[2]["noise"] > lines[0]["noise"] + 4
    assert lines[3]["sigma_px"] is None
    assert "no tissue" in lines[3]["says"]
    assert lines[4]["says"].startswith("cannot be read")
    blurred = expected_gain(read_gains("tiny-x1") or {}, lines[1]["sigma_px"], lines[1]["noise"])
    assert blurred == pytest.approx((lines[1]["gain_db"], lines[1]["gain_spread_db"]), abs=1e-3)


def test_people_get_columns_and_every_so_many(
    volume: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("profile", volume, "--every", 2, "--model", model_file(tmp_path, with_prior=False)) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == HEADER
    assert [line.split()[0] for line in lines] == ["0", "2", "4"]
    assert lines[0].index("sharp" if "sharp" in lines[0] else "blurred") == HEADER.index("in words")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("-o", "lines.json"), "takes the profile of one section"),
        (("--every", 2, "--z", 1), "leave it out here"),
        (("--every", 0), "whole number"),
        (("--every", 2, "--neighbours"), "leave it out here"),
    ],
)
def test_what_goes_with_one_section_only_is_refused(
    volume: Path,
    flags: tuple[object, ...],
    says: str,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("profile", volume, *flags) == 2
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("sigma", "noise", "wanted"),
    [
        (0.5, 1, (1, 0.1)),
        (1.5, 4, (6, 0.4)),
        (0.75, 2, (2.5, 0.15)),
        (9, 9, (8, 0.6)),
        (0.1, 5, (4, 0.4)),
        (0.1, 2, None),
    ],
)
def test_a_table_is_read_between_its_cells_and_held_at_its_ends(
    sigma: float, noise: float, wanted: tuple[float, float] | None
) -> None:
    assert expected_gain(TABLE, sigma, noise) == (wanted if wanted is None else pytest.approx(wanted))


def test_models_without_a_table_expect_nothing() -> None:
    assert read_gains("../nothing") is None
