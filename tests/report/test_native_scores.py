"""The native engine: the numbers of one real image, the same bytes everywhere, and NaN where nothing can be said."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputMissingError, UsageError
from bigrestore.report.metrics.columns import NATIVE_METRICS
from bigrestore.report.metrics.engine import create_engine, lower_better
from bigrestore.report.metrics.nss.fields import TileFields
from bigrestore.report.metrics.nss.parameters import live_parameters
from bigrestore.report.metrics.score_engine import ScoreEngine

Tile = NDArray[np.float32]

PYIQA_NOISY = {"brisque": 21.2859, "niqe": 3.28944, "piqe": 14.2585}


@pytest.fixture(scope="module")
def histology() -> Tile:
    """512 x 512 pixels of real tissue, grey, 0..1."""
    grey = Image.fromarray(skimage.data.immunohistochemistry()).convert("L")
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def engine() -> ScoreEngine:
    return create_engine()


def noise(shape: tuple[int, int] = (480, 480), seed: int = 0) -> Tile:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def blurred(image: NDArray[Any]) -> Tile:
    image = image.copy()
    for axis in (0, 1, 0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image


def test_scores_of_real_tissue_are_pinned(engine: ScoreEngine, histology: Tile) -> None:
    # pyiqa 0.1.16 says 21.8418, 3.3061 and 17.9061. Some 8-bit neighbourhoods here are exactly flat; there its
    # round-off decides on the sign of nothing, and here the field is exactly zero.
    scores = engine.score(histology)
    assert scores["brisque"] == pytest.approx(22.0276, abs=1e-3)
    assert scores["niqe"] == pytest.approx(3.36003, abs=1e-4)
    assert scores["piqe"] == pytest.approx(17.9061, abs=1e-3)


def test_scores_of_tissue_without_flat_areas_are_those_of_pyiqa(engine: ScoreEngine, histology: Tile) -> None:
    # A little noise leaves nothing flat. The numbers on the right are those of pyiqa 0.1.16 in float64.
    tile = np.clip(histology[:480, :480] + np.float32(0.01) * (noise() - np.float32(0.5)), 0, 1)
    scores = engine.score(tile)
    assert scores["brisque"] == pytest.approx(PYIQA_NOISY["brisque"], abs=5e-3)
    assert scores["niqe"] == pytest.approx(PYIQA_NOISY["niqe"], abs=1e-3)
    assert scores["piqe"] == pytest.approx(PYIQA_NOISY["piqe"], abs=1e-2)


def test_worse_images_score_worse(engine: ScoreEngine, histology: Tile) -> None:
    tile = histology[:480, :480]
    good = engine.score(tile)
    for worse in (np.clip(tile + 0.3 * (noise() - 0.5), 0, 1).astype(np.float32), blurred(blurred(tile))):
        bad = engine.score(worse)
        assert bad["brisque"] > good["brisque"] + 10
        assert bad["niqe"] > good["niqe"] + 1


def test_the_bytes_do_not_depend_on_company_order_or_threads(histology: Tile) -> None:
    tiles = [histology[y : y + 288, x : x + 288] for y in (0, 100, 224) for x in (0, 224)] + [
        noise(),
        noise((96, 200)),
    ]
    alone = [create_engine().score(np.ascontiguousarray(tile)) for tile in tiles]
    shared = create_engine()
    assert [shared.score(tile) for tile in reversed(tiles)] == alone[::-1]
    found = {}

    def work(start: int) -> None:
        for turn in range(len(tiles)):
            place = (start + turn) % len(tiles)
            found[start, place] = shared.score(tiles[place])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 * len(tiles)
    assert all(scores == alone[place] for (_, place), scores in found.items())


@pytest.mark.parametrize("metric", NATIVE_METRICS)
def test_a_score_alone_is_the_score_among_others(engine: ScoreEngine, histology: Tile, metric: str) -> None:
    tile = histology[:480, :480]
    alone = create_engine(metrics=[metric])
    assert alone.metrics == (metric,)
    assert alone.score(tile)[metric] == pytest.approx(engine.score(tile)[metric], rel=1e-9)


def test_sixteen_bits_are_not_rounded_but_for_niqe(engine: ScoreEngine, histology: Tile) -> None:
    tile = blurred(histology[:480, :480])
    rounded = (np.rint(tile.astype(np.float64) * 255) / 255).astype(np.float32)
    fine, coarse = engine.score(tile), engine.score(rounded)
    assert fine["niqe"] == coarse["niqe"]
    assert fine["brisque"] != coarse["brisque"]


def test_the_common_tile_makes_each_image_and_field_once(
    histology: Tile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("normalised", "half_size", "neighbour_sums"):
        import bigrestore.report.metrics.nss.fields as module

        original = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda *a, _o=original, _n=name, **k: (calls.append((_n, a[0].shape)), _o(*a, **k))[1],
        )
    tile = histology[:480, :480].copy()
    tile[0, 0] = 1.0  # white somewhere, so that PIQE's stretch changes nothing
    create_engine().score(tile)
    full, half = (480, 480), (240, 240)
    assert sorted(calls) == sorted(
        [
            ("normalised", full),
            ("normalised", half),
            ("half_size", full),
            ("neighbour_sums", full),
            ("neighbour_sums", half),
        ]
    )


def test_an_image_is_not_taken_for_another_that_had_its_place_in_memory() -> None:
    fields = TileFields(noise((96, 96)))
    results = []
    for seed in range(20):
        image = np.rint(noise((96, 96), seed).astype(np.float64) * 255)
        results.append(float(np.abs(fields.field(image)).sum()))
        del image
    assert len(set(results)) == 20


@pytest.mark.parametrize(
    ("tile", "known"),
    [
        (np.zeros((480, 480), np.float32), ()),
        (np.ones((480, 480), np.float32), ()),
        (np.full((480, 480), 0.5, np.float32), ()),
        (np.full((480, 480), np.nan, np.float32), ()),
        (np.where(noise() < 0.001, np.nan, noise()).astype(np.float32), ()),
        (np.where(noise() < 0.001, np.inf, noise()).astype(np.float32), ()),
        (np.zeros((0, 0), np.float32), ()),
        (np.zeros((1, 1), np.float32), ()),
        (noise((3, 480)), ()),
        (noise((15, 15)), ()),
        (noise((17, 31)), ("brisque", "piqe")),
        (noise((95, 95)), ("brisque", "piqe")),
        (noise((96, 96)), ("brisque", "piqe")),
        (noise((96, 192)), ("brisque", "niqe", "piqe")),
        (noise((3, 4, 5)), ()),
        (-noise((480, 480)), ("brisque", "niqe")),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_scored_is_nan_and_raises_nothing(
    engine: ScoreEngine, tile: Tile, known: tuple[str, ...]
) -> None:
    scores = engine.score(tile)
    assert list(scores) == list(NATIVE_METRICS)
    assert {name for name, value in scores.items() if np.isfinite(value)} == set(known)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("share", [0.5, 0.99, 0.9999])
def test_saturated_tiles_score_or_say_nan_without_a_warning(
    engine: ScoreEngine, histology: Tile, share: float
) -> None:
    tile = histology[:480, :480].copy()
    tile[:, : int(480 * share)] = 1.0
    scores = engine.score(tile)
    assert all(np.isnan(value) or -200 < value < 1e6 for value in scores.values())
    one = np.full((480, 480), 0.5, np.float32)
    one[200, 200] = 0.6
    assert np.isnan(engine.score(one)["niqe"])


@pytest.mark.parametrize("shape", [(512, 512), (500, 481), (97, 193), (480, 960)])
def test_sizes_that_are_no_multiples_are_scored(engine: ScoreEngine, shape: tuple[int, int]) -> None:
    assert np.isfinite(list(engine.score(blurred(noise(shape))).values())).all()


def test_niqe_reads_whole_blocks_from_the_upper_left(engine: ScoreEngine, histology: Tile) -> None:
    assert (
        engine.score(histology)["niqe"] == engine.score(np.ascontiguousarray(histology[:480, :480]))["niqe"]
    )


def test_the_tile_is_not_changed_and_may_be_read_only_or_a_view(engine: ScoreEngine, histology: Tile) -> None:
    tile = histology[10:490, 20:500].copy()
    expected = engine.score(tile)
    view = histology[10:490, 20:500]
    kept = histology.copy()
    tile.setflags(write=False)
    assert engine.score(tile) == expected
    assert engine.score(view) == expected
    assert (histology == kept).all()


def test_an_engine_goes_to_another_process(engine: ScoreEngine, histology: Tile) -> None:
    tile = histology[:192, :192]
    copy = pickle.loads(pickle.dumps(engine))
    assert copy.score(tile) == engine.score(tile)
    assert copy.describe() == engine.describe()


def test_the_description_names_what_must_be_equal_for_scores_to_be_compared(engine: ScoreEngine) -> None:
    facts = engine.describe()
    assert facts["name"] == "native"
    assert facts["metrics"] == list(NATIVE_METRICS)
    assert {name: part["name"] for name, part in facts["parameters"].items()} == {
        "brisque": "LIVE",
        "niqe": "LIVE",
    }
    assert all(len(part["sha256"]) == 64 for part in facts["parameters"].values())
    assert "niqe" not in create_engine(metrics=["piqe"]).describe()["parameters"]


def test_the_shipped_parameters_are_those_of_live() -> None:
    live = live_parameters()
    assert live["brisque_vectors"].shape == (774, 36)
    assert float(live["brisque_gamma"]) == 0.05
    assert float(live["brisque_offset"]) == 153.591
    assert live["niqe_mean"][:2] == pytest.approx([2.6013137, 0.9057027], abs=1e-6)
    facts = create_engine().describe()["parameters"]
    assert facts["niqe"]["sha256"].startswith("9cde00ea3025da37")
    assert facts["brisque"]["sha256"].startswith("d50dc6c17508618f")
    with pytest.raises(ValueError, match="read-only"):
        live["niqe_mean"][0] = 0.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "matlab"}, "no scoring engine 'matlab'; choose native or pyiqa"),
        (
            {"metrics": ["musiq"]},
            "no metric 'musiq', only brisque, niqe, piqe, likelihood.*; for others choose the engine pyiqa",
        ),
        ({"metrics": ["niqe", "niqe"]}, "'niqe' is named twice"),
        ({"metrics": []}, "no metric is named"),
        ({"metrics": ["piqe"], "niqe_model": "x.npz"}, "niqe is not among the metrics piqe"),
    ],
)
def test_wrong_engines_and_metrics_are_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        create_engine(**options)


def test_a_missing_niqe_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"there is no NIQE model .*nowhere\.npz"):
        create_engine(niqe_model=tmp_path / "nowhere.npz")


def test_lower_is_better_for_all_three() -> None:
    assert [lower_better(metric) for metric in NATIVE_METRICS] == [True, True, True]
    assert not lower_better("psnr")


@pytest.mark.slow
def test_a_tile_costs_less_than_the_target_with_room_for_a_busy_machine(
    engine: ScoreEngine, histology: Tile
) -> None:
    tile = np.ascontiguousarray(histology[:480, :480])
    engine.score(tile)
    seconds = []
    for _ in range(15):
        start = time.thread_time()
        engine.score(tile)
        seconds.append(time.thread_time() - start)
    # The target is 0.1 s per megapixel; machines differ, so only a change of kind fails here.
    assert min(seconds) / 0.2304 < 0.3
