"""What would be wrong in a summary without anyone noticing: signs, counts, intervals that are too narrow."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bigrestore.report.metrics.columns import find_columns
from bigrestore.report.table.bootstrap import _draws, _Ranked, block_side, lattices, median_intervals
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tables import plain


def make_tiles(
    rows: int = 6, columns: int = 7, sections: int = 1, pair: bool = True, **figures: Any
) -> dict[str, Any]:
    """Return a table of valid tiles; figures are arrays, one value per tile."""
    z, row, column = (part.ravel() for part in np.mgrid[:sections, :rows, :columns])
    table = {"z": z, "row": row, "column": column, "y": row * 96, "x": column * 96}
    table |= {"height": np.full(z.size, 96), "width": np.full(z.size, 96), "tissue": np.ones(z.size)}
    table["reason"] = np.full(z.size, "", object)
    if pair:
        table["reason_before"] = np.full(z.size, "", object)
    return table | figures


def test_before_and_after_are_not_swapped() -> None:
    before = np.linspace(5, 9, 42)
    found = summarise(make_tiles(niqe=before - 1.5, niqe_before=before, psnr=before + 2, psnr_before=before))
    niqe, psnr = found["metrics"]["niqe"]["change"], found["metrics"]["psnr"]["change"]
    assert niqe["median_before"] == pytest.approx(7)
    assert niqe["median_after"] == pytest.approx(5.5)
    assert niqe["median"] == pytest.approx(-1.5)
    assert niqe["share_improved"] == 1
    assert niqe["share_worse"] == 0
    assert psnr["median"] == pytest.approx(2)
    assert psnr["share_improved"] == 1


@pytest.mark.parametrize(
    ("name", "before", "after", "improved"),
    [
        ("niqe", 5.0, 4.0, 1.0),
        ("ssim", 0.5, 0.4, 0.0),
        ("sharpness", 0.1, 0.2, 1.0),
        ("mean", 0.5, 0.4, None),
        ("musiq", 50.0, 60.0, 1.0),
        ("unheard_of", 50.0, 60.0, None),
        ("piqe", 20.0, 20.0, 0.0),
    ],
)
def test_each_figure_improves_in_its_own_direction(
    name: str, before: float, after: float, improved: float | None
) -> None:
    table = make_tiles(**{name: np.full(42, after), f"{name}_before": np.full(42, before)})
    change = summarise(table, lower_better={"musiq": False})["metrics"][name]["change"]
    assert change["share_improved"] == improved


def test_invalid_tiles_and_missing_values_are_counted_and_never_averaged() -> None:
    before, after = np.full(42, 6.0), np.full(42, 5.0)
    table = make_tiles(niqe=after, niqe_before=before)
    table["reason"][:4] = ["blank", "flat", "blank", "small"]
    table["reason_before"][3:6] = "background"
    after[:4], before[3:6], after[10] = math.nan, math.nan, math.nan
    found = summarise(table)
    assert found["tiles"] == {
        "total": 42,
        "valid": 38,
        "invalid": {"blank": 2, "flat": 1, "small": 1},
        "valid_before": 39,
        "invalid_before": {"background": 3},
        "valid_in_both": 36,
    }
    niqe = found["metrics"]["niqe"]
    assert (niqe["image"]["count"], niqe["image"]["missing"]) == (37, 1)
    assert (niqe["change"]["count"], niqe["change"]["missing"]) == (35, 1)
    assert niqe["change"]["median"] == -1


def test_a_tile_that_is_invalid_in_one_image_is_not_compared_even_if_it_has_numbers() -> None:
    table = make_tiles(niqe=np.full(42, 5.0), niqe_before=np.full(42, 6.0))
    table["reason_before"][0] = "blank"
    table["niqe_before"][0] = 1e6
    assert summarise(table)["metrics"]["niqe"]["change"]["count"] == 41


def test_an_empty_table_and_a_table_without_a_valid_tile_give_a_summary() -> None:
    names = [*make_tiles(), "niqe", "niqe_before"]
    empty = summarise({name: [] for name in names})
    assert empty["tiles"]["total"] == 0
    assert empty["metrics"]["niqe"]["change"]["median"] is None
    table = make_tiles(niqe=np.full(42, math.nan), niqe_before=np.full(42, math.nan))
    table["reason"][:] = "background"
    found = summarise(table)
    assert found["metrics"]["niqe"]["image"]["median"] is None
    assert found["metrics"]["niqe"]["change"] == {
        "count": 0, "missing": 0, "median_before": None, "median_after": None, "median": None, "low": None, "high": None,
        "verdict": "few", "share_improved": None, "share_worse": None, "wilcoxon_p": None, "wilcoxon_p_holm": None,
    }  # fmt: skip


def test_tiles_that_overlap_count_by_their_own_area_in_an_interval() -> None:
    table = make_tiles(3, 3, niqe=np.arange(9.0), niqe_before=np.arange(9.0) + 1 + np.arange(9) % 2)
    found = summarise(table)
    assert found["bootstrap"]["worth_tiles"] == 9
    assert found["metrics"]["niqe"]["change"]["low"] is not None
    for shift, worth in ((20, (268 / 96) ** 2), (92, (196 / 96) ** 2)):
        moved = table | {name: table[name] - np.where(table[name] == 192, shift, 0) for name in ("y", "x")}
        summary = summarise(moved)
        change = summary["metrics"]["niqe"]["change"]
        assert summary["bootstrap"]["worth_tiles"] == pytest.approx(worth, abs=1e-3)
        assert (change["low"] is None) == (change["wilcoxon_p"] is None) == (worth < 6)
        assert change["median"] == found["metrics"]["niqe"]["change"]["median"]


def test_few_distinct_squares_make_an_interval_wider() -> None:
    values = {"it": np.random.default_rng(0).normal(0, 1, 36)}
    place = np.mgrid[:1, :6, :6].reshape(3, -1)
    whole, half = (median_intervals(values, lattices(*place), distinct=share)["it"] for share in (1.0, 0.5))
    assert whole is not None
    assert half is not None
    assert half[0] < whole[0] < whole[1] < half[1]


def test_too_few_tiles_have_no_interval() -> None:
    table = make_tiles(1, 5, niqe=np.arange(5.0), niqe_before=np.arange(5.0) + 1)
    change = summarise(table)["metrics"]["niqe"]["change"]
    assert change["low"] is None
    assert change["wilcoxon_p"] is None
    assert change["median"] == -1


def test_infinite_psnr_is_a_value_that_json_cannot_hold() -> None:
    table = make_tiles(psnr=np.full(42, math.inf), psnr_before=np.full(42, 30.0))
    found = summarise(table)
    assert found["metrics"]["psnr"]["image"] | {"median": None} == found["metrics"]["psnr"]["image"]
    json.dumps(plain(found), allow_nan=False)


def test_single_image_has_quantiles_and_no_change() -> None:
    found = summarise(make_tiles(pair=False, niqe=np.arange(42.0)))
    assert found["pair"] is False
    assert "change" not in found["metrics"]["niqe"]
    assert found["metrics"]["niqe"]["image"]["median"] == 20.5
    assert (found["metrics"]["niqe"]["image"]["min"], found["metrics"]["niqe"]["image"]["max"]) == (0, 41)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    random = np.random.default_rng(3)
    table = make_tiles(niqe=random.normal(5, 1, 42), niqe_before=random.normal(6, 1, 42))
    first, again, other = (summarise(table, seed=seed)["metrics"]["niqe"]["change"] for seed in (1, 1, 2))
    assert first == again
    assert (first["low"], first["high"]) != (other["low"], other["high"])
    assert first["low"] < first["median"] < first["high"]


def test_the_interval_does_not_depend_on_the_order_of_the_rows() -> None:
    random = np.random.default_rng(5)
    table = make_tiles(sections=2, niqe=random.normal(5, 1, 84), niqe_before=random.normal(6, 1, 84))
    order = random.permutation(84)
    shuffled = {name: values[order] for name, values in table.items()}
    one, two = (summarise(each)["metrics"]["niqe"]["change"] for each in (table, shuffled))
    assert (one["low"], one["high"]) == (two["low"], two["high"])


def test_holm_multiplies_by_the_number_of_figures_and_never_falls() -> None:
    random = np.random.default_rng(8)
    figures = {}
    for index, name in enumerate(("niqe", "brisque", "piqe", "noise")):
        before = random.normal(10, 1, 42)
        figures |= {name: before - 0.15 * index + random.normal(0, 0.5, 42), f"{name}_before": before}
    metrics = summarise(make_tiles(**figures))["metrics"]
    pairs = sorted((m["change"]["wilcoxon_p"], m["change"]["wilcoxon_p_holm"]) for m in metrics.values())
    expected, largest = [], 0.0
    for place, (p, _) in enumerate(pairs):
        largest = max(largest, min(1.0, p * (4 - place)))
        expected.append(largest)
    assert [holm for _, holm in pairs] == pytest.approx(expected)
    assert all(holm >= p for p, holm in pairs)


def test_nothing_changed_is_no_evidence() -> None:
    table = make_tiles(niqe=np.full(42, 5.0), niqe_before=np.full(42, 5.0))
    change = summarise(table)["metrics"]["niqe"]["change"]
    assert change["wilcoxon_p"] == 1
    assert (change["low"], change["high"]) == (0, 0)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 14),
    share=st.floats(0.3, 1.0),
    seed=st.integers(0, 999),
)
def test_medians_of_redrawings_are_the_medians_of_the_tiles_written_out(
    rows: int, columns: int, share: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    z, row, column = (part.ravel() for part in np.mgrid[:2, :rows, :columns])
    there = random.random(z.size) < share
    there[0] = True
    values = random.normal(size=int(there.sum())).round(1)
    values[random.random(values.size) < 0.1] = math.nan
    for counts in _draws(lattices(z[there], row[there], column[there]), 12, random):
        medians = _Ranked(values).medians(counts) if np.isfinite(values).any() else []
        for index, median in enumerate(medians):
            written = np.repeat(values, counts[:, index])
            written = written[np.isfinite(written)]
            assert (math.isnan(median) and not written.size) or median == np.median(written)


def test_redrawings_hold_whole_squares_of_neighbours() -> None:
    row, column = (part.ravel() for part in np.mgrid[:8, :8])
    (lattice,) = lattices(np.zeros(64, np.int64), row, column)
    assert lattice.side == 5
    assert lattice.square == (4, 4)
    counts = next(_draws([lattice], 50, np.random.default_rng(0)))
    assert (counts.sum(axis=0) == 64).all()
    once = counts[:, 0].reshape(8, 8) > 0
    squares = np.stack([np.roll(once, (-y, -x), (0, 1)) for y in range(4) for x in range(4)]).all(axis=0)
    covered = np.stack([np.roll(squares, (y, x), (0, 1)) for y in range(4) for x in range(4)]).any(axis=0)
    np.testing.assert_array_equal(covered, once)


def test_a_sparse_sample_is_drawn_in_larger_squares() -> None:
    assert block_side(100, 100) == 5
    assert block_side(100, 900) == 15


def test_alike_neighbours_widen_the_interval_as_much_as_they_should() -> None:
    """Over smooth fields the interval holds the true median about as often as it says; tile by tile it does not."""
    row, column = (part.ravel() for part in np.mgrid[:24, :24])
    flat = np.zeros(row.size, np.int64)
    held = {"blocks": 0, "singly": 0}
    for seed in range(50):
        random = np.random.default_rng(seed)
        field = ndimage.gaussian_filter(random.normal(size=(40, 40)), 1.2)[8:32, 8:32].ravel()
        for name, sections in (
            ("blocks", lattices(flat, row, column)),
            ("singly", lattices(np.arange(row.size), flat, flat)),
        ):
            if name == "singly":  # every tile its own: the plain bootstrap
                drawn = random.choice(field, (100, field.size))
                low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
            else:
                interval = median_intervals({"m": field}, sections, resamples=100, seed=seed)["m"]
                assert interval is not None
                low, high = interval
            held[name] += low <= 0 <= high
    assert held["singly"] < 32 < 43 <= held["blocks"]


def test_brightness_jumps_are_marked_and_small_steps_are_not() -> None:
    random = np.random.default_rng(2)
    grey = 0.5 + np.cumsum(random.normal(0, 0.003, 30))
    grey[12:] += 0.06
    table = make_tiles(2, 3, 30, pair=False, mean=np.repeat(grey, 6))
    found = summarise(table)
    (jump,) = found["grey_jumps"]["image"]["marked"]
    assert (jump["from_z"], jump["z"]) == (11, 12)
    assert jump["jump"] == pytest.approx(0.06, abs=0.01)
    assert [entry["z"] for entry in found["sections"]] == list(range(30))


def test_a_stack_that_jumps_everywhere_is_marked_everywhere() -> None:
    grey = 0.5 + 0.06 * (np.arange(20) % 2)
    jumps = summarise(make_tiles(2, 3, 20, pair=False, mean=np.repeat(grey, 6)))["grey_jumps"]["image"]
    assert len(jumps["marked"]) == 19
    assert jumps["typical"] == pytest.approx(0.06)


def test_a_section_without_a_valid_tile_has_no_grey_and_makes_no_jump() -> None:
    table = make_tiles(2, 3, 5, pair=False, mean=np.repeat([0.5, 0.5, 0.0, 0.5, 0.5], 6))
    table["reason"][table["z"] == 2] = "blank"
    found = summarise(table)
    assert found["sections"][2]["grey"] is None
    assert found["sections"][2]["valid"] == 0
    assert found["grey_jumps"]["image"]["marked"] == []


def test_columns_are_in_reading_order_and_twins_are_no_figures_of_their_own() -> None:
    names = [
        "z",
        "row",
        "tissue",
        "reason",
        "seam",
        "noise",
        "noise_before",
        "ssim",
        "clipiqa",
        "niqe",
        "niqe_before",
    ]
    assert [column.name for column in find_columns(names)] == ["niqe", "clipiqa", "ssim", "noise", "seam"]


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_a_volume_of_few_tiles_a_section_has_an_interval_with_a_width(rows: int, columns: int) -> None:
    """A square that holds a whole section draws the same tiles again and again, and says that nothing varies."""
    sections = 8
    change = np.random.default_rng(0).normal(-2, 1, rows * columns * sections)
    table = make_tiles(rows, columns, sections, niqe=5 + change, niqe_before=np.full(change.size, 5.0))
    low, high = (summarise(table)["metrics"]["niqe"]["change"][end] for end in ("low", "high"))
    assert low < np.median(change) - 0.1
    assert high > np.median(change) + 0.1
