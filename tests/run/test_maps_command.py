"""Maps and realness maps on the command line: flags, TOML, exit codes, and images that other programs understand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_toys import save_zarr
from PIL import Image
from prior_toys import model_file

Call = Callable[..., int]


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(np.ascontiguousarray(tissue[:96, :128])).save(path)
    return path


def test_a_run_with_maps_from_toml_is_verified_and_described(
    tmp_path: Path, source: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaozarrs

    drawn = tmp_path / "map.png"
    Image.fromarray(np.full((96, 128), 128, np.uint8)).save(drawn)
    config, out = tmp_path / "run.toml", tmp_path / "out.ome.zarr"
    config.write_text(
        f'model = "{model_file(tmp_path)}"\nrealness-map = "{drawn}"\nmaps = ["invented", "residual"]\nprogress = "none"\n'
    )
    assert call("run", source, out, "--config", config, "--no-report", "--voxel-size", 2, "-q") == 0
    assert call("verify", out) == 0
    capsys.readouterr()
    assert call("info", out, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["maps"] == ["invented", "residual"]
    assert facts["bigrestore"]["method"]["realness"] == 1.0
    assert call("status", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["maps"] == ["residual", "invented"]
    for place in (out, out / "maps/invented", out / "maps/residual"):
        yaozarrs.validate_zarr_store(str(place))


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--maps", "blobs"], 2, "--maps is"),
        (["--maps", "residual", "--method", "rational"], 2, "leave it out"),
        (["--maps", "invented", "--model", "BARE"], 2, "has no prior"),
        (["--realness-map", "MAP", "--model", "BARE"], 2, "has no prior"),
        (["--realness-map", "MAP", "--method", "catmull-rom"], 2, "--realness-map needs a network"),
        (["--realness-map", "MAP", "--realness", "0"], 2, "--realness is 0"),
        (["--realness-map", "SMALL", "--model", "PRIOR"], 3, "(1, 10, 10) (z, y, x), the input (1, 96, 128)"),
        (["--realness-map", "absent.png", "--model", "PRIOR"], 3, "absent.png"),
        (["--maps", "residual", "--format", "ome-tiff"], 2, "out.ome.tif has no place for"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_leaves_nothing(
    tmp_path: Path,
    source: Path,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    code: int,
    said: str,
) -> None:
    made = {
        "BARE": lambda: model_file(tmp_path, with_prior=False),
        "PRIOR": lambda: model_file(tmp_path),
        "MAP": lambda: save_zarr(tmp_path / "map.zarr", np.full((96, 128), 255, np.uint8)),
        "SMALL": lambda: save_zarr(tmp_path / "small.zarr", np.full((10, 10), 255, np.uint8)),
    }
    words = [str(made[word]()) if word in made else word for word in flags]
    out = tmp_path / ("out.ome.tif" if "ome-tiff" in words else "out.ome.zarr")
    assert call("run", source, out, *words) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("out*"))
