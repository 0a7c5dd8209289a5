"""The end of a command says what its page says, in numbers that mean something."""

from __future__ import annotations

import html
import re
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pytest
from report_material import make_report

from bigrestore.report.page.build import build_page
from bigrestore.report.page.data import ReportData, SummaryData
from bigrestore.report.page.words import LIMITS, sentences
from bigrestore.report.rows import score_rows
from bigrestore.report.table.content import Report
from bigrestore.report.table.statistics import summarise

READ = [{"z": 0, "says": "blurred by 1.2 px, noise 4 of 255", "sharp": False, "sigma_input_px": 1.2}]


def with_columns(report: Report, **columns: Any) -> Report:
    table = report.tiles.to_pydict() | columns
    return attrs.evolve(report, tiles=pa.table(table))


def summary_of(report: Report) -> dict[str, Any]:
    return summarise(report.tiles, resamples=200) | {"facts": report.facts}


def said(report: Report) -> list[tuple[str, str]]:
    return score_rows(summary_of(report))


@pytest.fixture(scope="module")
def report() -> Report:
    return make_report(rows=4, columns=5, facts={"read": READ})


def test_every_sentence_of_the_end_stands_on_the_page(report: Report) -> None:
    summary = summary_of(report)
    page = html.unescape(build_page(report, summary, report.facts))
    texts = [sentence.text for sentence in sentences(SummaryData(summary, report.facts))]
    assert len(texts) >= 3
    for text in texts:
        assert text in page
    rows = said(report)
    assert dict(rows)["verdict"] in page
    assert ("scores", LIMITS) in rows
    assert LIMITS in page


def test_what_was_read_and_done_come_before_the_scores_and_what_they_mean_after(report: Report) -> None:
    names = [name for name, _ in said(report)]
    assert names[:4] == ["score tiles", "read", "done", "verdict"]
    assert {"NIQE", "BRISQUE", "PIQE"} == set(names[4:7])
    assert names[-1] == "scores"
    assert dict(said(report))["read"] == READ[0]["says"]
    assert dict(said(report))["done"] == "restored at the same size by the model tiny-x1"


def test_the_summary_alone_gives_the_numbers_of_the_page(report: Report) -> None:
    summary = summary_of(report)
    alone, whole = SummaryData(summary, report.facts), ReportData(report, summary, report.facts)
    assert [column.name for column in alone.columns] == [column.name for column in whole.columns]
    assert [column.name for column in alone.twins] == [column.name for column in whole.twins]
    for column in alone.columns:
        assert alone.decimals[column.name] == whole.decimals[column.name]


@pytest.mark.parametrize(("name", "digits"), [("NIQE", 2), ("BRISQUE", 1), ("PIQE", 1)])
def test_numbers_are_rounded_to_what_they_mean(report: Report, name: str, digits: int) -> None:
    numbers = re.findall(r"\d+\.(\d+)", dict(said(report))[name])
    assert len(numbers) >= 3
    assert {len(number) for number in numbers} == {digits}


@pytest.mark.parametrize(
    ("piqe", "noise", "explained"), [(5, -0.01, True), (5, 0.01, False), (-5, -0.01, False)]
)
def test_a_rise_of_piqe_after_denoising_is_explained_below_it(
    report: Report, piqe: float, noise: float, explained: bool
) -> None:
    table = report.tiles.to_pydict()
    moved = {
        name: [value + step for value in table[f"{name}_before"]]
        for name, step in (("piqe", piqe), ("noise", noise))
    }
    lines = [text for name, text in said(with_columns(report, **moved)) if name == "PIQE"]
    assert len(lines) == 1 + explained
    if explained:
        assert lines[1].startswith("PIQE rose while the noise fell.")


@pytest.mark.parametrize(
    ("residual", "words"), [(0.8, "they agree with it"), (2.0, "do not trust"), (np.nan, "")]
)
def test_the_residual_is_said_in_words_or_not_at_all(report: Report, residual: float, words: str) -> None:
    rows = said(with_columns(report, residual=[residual] * report.tiles.num_rows))
    lines = [text for _, text in rows if "Degraded again" in text]
    assert len(lines) == bool(words)
    assert all(words in line for line in lines)
    assert not any("median -" in text or text.endswith(" -") for _, text in rows)


def test_an_image_alone_has_values_and_no_change() -> None:
    rows = said(make_report(rows=3, columns=4, pair=False))
    lines = dict(rows)
    assert lines["verdict"] == "One image, scored"
    assert "(lower is better); half of the tiles from" in lines["NIQE"]
    assert "Noise" in lines
    assert "change" not in lines["NIQE"]


@pytest.mark.parametrize("size", [(2, 2), (2, 3)])
def test_few_tiles_keep_their_change_without_an_interval(size: tuple[int, int]) -> None:
    lines = dict(said(make_report(rows=size[0], columns=size[1])))
    assert "too few tiles to say: change per tile " in lines["BRISQUE"]
    assert "[" not in lines["BRISQUE"]
    assert lines["verdict"] == "Too few tiles for a verdict"


@pytest.mark.parametrize(
    ("name", "label"), [("noise", "Noise"), ("shading", "Shading"), ("clipped", "Clipped")]
)
def test_a_rise_is_said_once(report: Report, name: str, label: str) -> None:
    table = report.tiles.to_pydict()
    before = table.get(f"{name}_before") or [0.01] * report.tiles.num_rows
    moved = {f"{name}_before": before, name: [value + 0.05 for value in before]}
    rows = said(with_columns(report, **moved))
    rises = [text for _, text in rows if re.search(rf"{label} rose|{label.lower()} rose", text)]
    assert len(rises) == 1
    assert rises[0].startswith(f"{label} rose: ")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("residual", "no noise was read or stated to compare with"),
        ("invented", "they have no fine detail"),
        ("seam", "no two restorations overlap in them"),
    ],
)
def test_the_page_says_why_tiles_have_no_value(report: Report, name: str, why: str) -> None:
    lacking = with_columns(report, **{name: [np.nan] * 6 + [1.0] * (report.tiles.num_rows - 6)})
    page = html.unescape(build_page(lacking, summary_of(lacking), lacking.facts))
    assert f"3 valid tiles without a value: {why}." in page, "of the first six tiles three are valid"
