"""The map `unlikely`: where the input contradicts the restored image, of any method, the same for every cut into tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from engine_toys import Fir, go, level0, save_zarr

from bigrestore.core.geometry import Box
from bigrestore.errors import InputMissingError, OutputExistsError, UsageError
from bigrestore.model.likelihood import Likelihood, WithUnlikely
from bigrestore.model.method import SectionStatistics, TileBatch, TileResult
from bigrestore.run.tile.unlikely import PLACE_PX, block_unlikely, total_unlikely
from bigrestore.settings import RunSettings
from tests.judge_toys import likelihood_file

CELL = (100, 300)
"""Row and column of a cell that is not in the input."""


class Inventing(Fir):
    """The input itself, with a dark cell at one place."""

    def one(self, x: np.ndarray) -> np.ndarray:
        return x.repeat(int(self.scale), 0).repeat(int(self.scale), 1)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        result, scale = super().restore(batch, statistics), int(self.scale)
        for pixels, origin in zip(result.pixels, batch.origins, strict=True):
            y, x = (np.arange(size) + scale * first for size, first in zip(pixels.shape, origin, strict=True))
            away = (y[:, None] - scale * CELL[0]) ** 2 + (x - scale * CELL[1]) ** 2
            pixels -= 0.25 * np.exp(-away / (18 * scale**2)).astype(np.float32)
        return result


def unlikely(output: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(output / "maps/unlikely/0", mode="r")[:])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tissue: np.ndarray) -> Path:
    return save_zarr(
        tmp_path_factory.mktemp("unlikely") / "in.zarr", np.ascontiguousarray(tissue[:192, :400])
    )


@pytest.mark.parametrize("scale", [1, 2])
def test_an_invented_cell_is_marked_and_named(tmp_path: Path, source: Path, scale: int) -> None:
    model, out = likelihood_file(tmp_path, scale), tmp_path / "out.zarr"
    options = {"maps": "unlikely", "likelihood_model": model, "scale": scale, "report": True}
    summary = go(source, out, Inventing(scale), **options, score_tile_size=192)
    assert summary.maps == ("unlikely",)
    z = unlikely(out)
    assert z.shape == level0(out).shape
    y, x = np.unravel_index(z.argmax(), z.shape)
    assert abs(y - scale * CELL[0]) <= 12 * scale
    assert abs(x - scale * CELL[1]) <= 12 * scale
    assert z.max() > 5
    assert (z > 5).mean() < 0.02
    facts = json.loads((tmp_path / "out.zarr.bigrestore/report/summary.json").read_text())["facts"][
        "unlikely"
    ]
    assert facts["pixels"] == z.size
    assert facts["above"] == np.count_nonzero(z > 5)
    assert facts["places"][0] == {"unlikely": pytest.approx(float(z.max()), abs=1e-3), "z": 0, "y": y, "x": x}
    page = (tmp_path / "out.zarr.bigrestore/report/report.html").read_text()
    assert f"worst at y {y}, x {x}" in page
    provenance = json.loads((out / "zarr.json").read_text())["attributes"]["bigrestore"]
    assert provenance["maps"]["unlikely"]["path"] == "maps/unlikely"


@pytest.mark.parametrize("scale", [1, 2])
def test_the_map_does_not_depend_on_tiles_blocks_and_batches(
    tmp_path: Path, source: Path, scale: int
) -> None:
    model = likelihood_file(tmp_path, scale)
    asked: dict[str, Any] = {"maps": "unlikely", "likelihood_model": model, "scale": scale}
    cuts = [
        {"tile_size": 960, "block_size": 960},
        {"tile_size": 64},
        {"tile_size": 96, "batch_size": 3, "threads": 1},
    ]
    maps, images = [], []
    for index, cut in enumerate(cuts):
        go(source, tmp_path / f"{index}.zarr", Inventing(scale), **asked, **cut)
        maps.append(unlikely(tmp_path / f"{index}.zarr"))
        images.append(level0(tmp_path / f"{index}.zarr"))
    for index in (1, 2):
        np.testing.assert_allclose(maps[index], maps[0], atol=2e-3, rtol=1e-4)
        np.testing.assert_array_equal(images[index], images[0])


def test_the_image_is_that_of_a_run_without_the_map(tmp_path: Path, source: Path) -> None:
    asked = {"maps": "unlikely", "likelihood_model": likelihood_file(tmp_path)}
    go(source, tmp_path / "with.zarr", "rational", **asked)
    go(source, tmp_path / "without.zarr", "rational")
    np.testing.assert_array_equal(level0(tmp_path / "with.zarr"), level0(tmp_path / "without.zarr"))
    assert not (unlikely(tmp_path / "with.zarr") > 5).any(), "the input itself is likely"


def test_a_resumed_run_names_the_same_places_and_another_model_is_another_run(
    tmp_path: Path, source: Path
) -> None:
    out, model = tmp_path / "out.zarr", likelihood_file(tmp_path)
    asked: dict[str, Any] = {
        "maps": "unlikely",
        "likelihood_model": model,
        "report": True,
        "score_tile_size": 192,
    }
    go(source, out, Inventing(), **asked)
    report = tmp_path / "out.zarr.bigrestore/report"
    before = (report / "summary.json").read_bytes()
    (report / "summary.json").unlink()
    method = Inventing()
    go(source, out, method, **asked, resume=True)
    assert method.calls == 0
    assert (report / "summary.json").read_bytes() == before
    asked["likelihood_model"] = likelihood_file(tmp_path, seed=1)
    with pytest.raises(OutputExistsError, match="likelihood"):
        go(source, out, Inventing(), **asked, resume=True)


def test_damage_is_not_looked_at(tmp_path: Path) -> None:
    judge = Likelihood.load(1, likelihood_file(tmp_path))
    pixels = np.full((1, 60, 60), 0.7, np.float32)
    valid = np.ones(pixels.shape, np.bool_)
    torn = pixels.copy()
    torn[:, 20:30, 20:30], valid[:, 20:30, 20:30] = 0, False
    assert judge.unlikely(torn, None, pixels).max() > 5
    seen, whole = (judge.unlikely(image, valid, pixels) for image in (torn, pixels))
    np.testing.assert_array_equal(seen, whole)
    assert seen.max() < 5


def test_a_method_keeps_its_own_facts_and_maps(tmp_path: Path) -> None:
    class Mapping(Fir):
        map_names = ("residual",)

        def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
            assert batch.maps == ("residual",)
            result = super().restore(batch, statistics)
            return TileResult(result.pixels, maps={"residual": result.pixels})

    method = WithUnlikely(Mapping(), Likelihood.load(1, likelihood_file(tmp_path)))
    assert method.map_names == ("residual", "unlikely")
    assert method.describe()["name"] == "fir"
    assert len(method.describe()["likelihood"]["sha256"]) == 64
    assert method.halo_px >= Fir.halo_px + method.likelihood.reach_px
    assert method.halo_px % method.alignment_px == 0
    statistics = method.analyse(np.zeros((0, 128, 128), np.float32))
    batch = TileBatch(
        np.zeros((2, 40, 40), np.float32), None, np.zeros((2, 2), np.int64), 0, None, method.map_names
    )
    assert {name: each.shape for name, each in method.restore(batch, statistics).maps.items()} == {
        "residual": (2, 40, 40),
        "unlikely": (2, 40, 40),
    }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"likelihood_model": "l.safetensors"},
            "nothing asks for it; give --judges likelihood or --maps unlikely",
        ),
        ({"judges": "likelihood", "report": False}, "--judges likelihood are scores of the report"),
        ({"judges": "lpips"}, "--judges is .*lpips needs a clean image"),
        ({"judges": "niqe"}, "--judges is .*it takes likelihood"),
        ({"judges": 5}, "--judges is 5"),
    ],
)
def test_settings_of_judges_that_mean_nothing_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        RunSettings(**settings)


def test_a_file_that_is_no_likelihood_is_refused_before_anything_is_written(
    tmp_path: Path, source: Path
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(InputMissingError, match=r"no model file .*nowhere\.safetensors"):
        go(source, out, Fir(), maps="unlikely", likelihood_model=tmp_path / "nowhere.safetensors")
    with pytest.raises(UsageError, match=r"denoiser-x1, a denoiser, and a likelihood is asked for"):
        go(source, out, Fir(), maps="unlikely", likelihood_model="denoiser-x1")
    with pytest.raises(UsageError, match="made for scale 2"):
        go(source, out, Fir(), maps="unlikely", likelihood_model=likelihood_file(tmp_path, 2))
    with pytest.raises(UsageError, match="made for scale 2"):
        go(
            source,
            out,
            Fir(),
            judges="likelihood",
            report=True,
            likelihood_model=likelihood_file(tmp_path, 2),
        )
    assert not list(tmp_path.glob("out*"))


def test_places_are_the_largest_and_lie_apart() -> None:
    values = np.zeros((100, 130), np.float32)
    values[10, 31], values[11, 33], values[90, 120], values[50, 50] = 9, 8, 7, 4
    said = block_unlikely(values, values > 0, Box(1000, 1100, 2000, 2130), 3)
    assert said == {"pixels": 4, "above": 3, "places": [[9, 3, 1010, 2031], [7, 3, 1090, 2120]]}
    other = {"pixels": 6, "above": 2, "places": [[8.5, 3, 1000, 2000], [6.0, 4, 1010, 2031]]}
    total = total_unlikely([said, other])
    assert (total["pixels"], total["above"]) == (10, 5)
    assert [place["unlikely"] for place in total["places"]] == [9, 7, 6.0], "8.5 lies beside 9"
    many = (
        np.full((PLACE_PX * 12, PLACE_PX), 6, np.float32)
        + np.arange(PLACE_PX * 12, dtype=np.float32)[:, None]
    )
    assert len(block_unlikely(many, None, Box(0, *many.shape[:1], 0, many.shape[1]), 0)["places"]) == 10
    assert total_unlikely([])["places"] == []
