"""The page without a browser: what is in the file, what must never be, and the arithmetic of its parts."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from report_material import make_report

from bigrestore.report.page import build_page
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.embed import LOSSLESS, encode_webp, encode_within, quantised, safe_json
from bigrestore.report.page.figures.axes import round_ticks, tick_text
from bigrestore.report.page.figures.colours import DIVERGING, SEQUENTIAL, paint
from bigrestore.report.page.figures.heatmaps import MapGrid, heatmaps
from bigrestore.report.page.figures.histograms import edges_of, histograms, shares
from bigrestore.report.page.figures.pictures import choose
from bigrestore.report.page.markup import decimals_for, number, percent, signed
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tables import plain
from bigrestore.report.table.write import Report

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028.tif'


def page_of(report: Report) -> str:
    """Return the page of a report."""
    summary = plain(summarise(report.tiles, lower_better=report.facts.get("lower_better")))
    facts = plain(report.facts)
    return build_page(report.tiles, summary, facts, report.thumbnails, report.thumbnail_px, report.pictures)


def material_of(report: Report) -> ReportData:
    """Return what the parts of the page draw from."""
    summary, facts = plain(summarise(report.tiles)), plain(report.facts)
    return ReportData.of(
        report.tiles, summary, facts, report.thumbnails, report.thumbnail_px, report.pictures
    )


class Outline(HTMLParser):
    """Checks that what is opened is closed, and collects what a browser could fetch or run."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "data", "action", "srcset", "poster"):
                self.addresses.append(value or "")
            if name == "id":
                self.identifiers.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


KINDS: dict[str, dict[str, Any]] = {
    "pair": {"rows": 4, "columns": 5},
    "ten tiles": {"rows": 2, "columns": 5},
    "single": {"rows": 4, "columns": 5, "pair": False},
    "reference": {"rows": 4, "columns": 5, "reference": True},
    "volume": {"rows": 4, "columns": 5, "sections": 7},
}


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_whole_and_asks_for_nothing(kind: str) -> None:
    page = page_of(make_report(**KINDS[kind]))
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    assert not re.search(r"url\((?!data:|#)", page.split("</style>")[0])
    assert len(outline.identifiers) == len(set(outline.identifiers))
    assert "{{" not in page
    assert not re.search(r"\b(nan|NaN|None|inf|null|undefined)\b", outline.text)
    assert outline.tags.count("script") == 2


@pytest.mark.parametrize("fact", ["image", "before", "reference", "method", "model", "sampling"])
def test_names_from_outside_are_text_wherever_they_stand(fact: str) -> None:
    page = page_of(make_report(rows=3, columns=4, facts={fact: EVIL}))
    outline = Outline()
    outline.feed(page)
    assert outline.tags.count("script") == 2
    assert outline.handlers == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page or fact in ("image", "before", "reference")
    assert "<script>alert" not in page
    assert "onerror=alert(2)>" not in page


def test_metric_and_reason_names_are_text_too() -> None:
    report = make_report(rows=4, columns=5, pair=False)
    reasons = ["<b>&" if reason else "" for reason in report.tiles.column("reason").to_pylist()]
    place = report.tiles.schema.get_field_index("reason")
    tiles = report.tiles.set_column(place, "reason", pa.array(reasons))
    tiles = tiles.append_column("<i>x</i>", tiles.column("niqe"))
    page = page_of(attrs.evolve(report, tiles=tiles))
    assert "<b>&" not in page
    assert "<i>x" not in page
    Outline().feed(page)


def test_data_for_the_script_cannot_end_its_element() -> None:
    text = safe_json({"names": ["</script><script>", "<!--", "\u2028&"]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"names": ["</script><script>", "<!--", "\u2028&"]}


def test_policy_names_the_script_that_is_there() -> None:
    import hashlib

    page = page_of(make_report(rows=3, columns=4))
    script = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    )


def test_a_page_of_no_valid_tile_says_so() -> None:
    report = make_report(rows=3, columns=4)
    table = report.tiles.to_pydict()
    for name, values in table.items():
        if name.startswith("reason"):
            table[name] = ["blank"] * len(values)
        elif name not in ("z", "row", "column", "y", "x", "height", "width", "tissue"):
            table[name] = [math.nan] * len(values)
    page = page_of(attrs.evolve(report, tiles=pa.table(table)))
    assert "No tile could be scored" in page
    assert "12 blank" in page
    Outline().feed(page)


def test_a_single_image_is_not_told_of_before_and_after() -> None:
    facts = {"voxel_size_um": [None, None, None], "value_range": [0.0, 255.0]}
    single = page_of(make_report(rows=4, columns=5, pair=False, facts=facts))
    pair = page_of(make_report(rows=4, columns=5, facts={"voxel_size_um": [None, 10, 10]}))
    for words, there in (("Before and after share", "unknown × 10 × 10"), ("Swipe", "0 to 255")):
        assert words in pair
        assert words not in single
        assert there in pair
    assert "<dd>unknown</dd>" in single
    assert "0 to 255," in single


def test_value_ranges_are_said_to_be_the_same_only_where_they_are() -> None:
    facts = {"value_range": [0.0, 255.0], "value_range_before": [0.0, 65535.0]}
    page = page_of(make_report(rows=4, columns=5, facts=facts))
    assert "<dd>0 to 255, the same for every tile</dd>" in page
    assert "<dt>Value range before</dt><dd>0 to 65535</dd>" in page
    assert "0 to 255, the same for every tile and image" in page_of(make_report(rows=4, columns=5))


def test_thirty_thousand_tiles_stay_a_page() -> None:
    report = make_report(rows=10, columns=12)
    table = {name: np.asarray(values) for name, values in report.tiles.to_pydict().items()}
    times = 250
    large = {name: np.tile(values, times) for name, values in table.items()}
    block = np.repeat(np.arange(times), table["z"].size)
    large["row"], large["column"] = large["row"] + 10 * (block // 25), large["column"] + 12 * (block % 25)
    large["y"], large["x"] = large["row"] * 96, large["column"] * 96
    random = np.random.default_rng(0)
    large["niqe"] = large["niqe"] + random.normal(0, 0.3, block.size)
    picture = np.zeros((500, 1200), np.uint8)
    thumbnails = {"image": picture, "before": picture}

    def pictures(z: int, y: int, x: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, None]:
        tile = random.integers(0, 255, (480, 480), np.uint8)
        return tile, tile, None

    page = page_of(
        attrs.evolve(
            report, tiles=pa.table(large), thumbnails=thumbnails, thumbnail_px=24.0, pictures=pictures
        )
    )
    assert block.size == 30_000
    assert len(page) < 15_000_000
    assert page.count("<tr>") < 600
    assert "The 100 worst by change of NIQE, of" in page


def test_verdict_says_the_change_and_what_it_cannot_say() -> None:
    page = page_of(make_report())
    assert '<p class="headline">Better by NIQE, BRISQUE and PIQE</p>' in page
    assert "lower is better, trained on photographs, use for the same field before and after" in page


@pytest.mark.parametrize(
    ("shift", "headline"),
    [(-1.0, "Better by NIQE"), (1.0, "Worse by NIQE"), (0.0, "No clear change by NIQE")],
)
def test_headline_follows_the_interval(shift: float, headline: str) -> None:
    report = make_report(rows=8, columns=9)
    table = report.tiles.to_pydict()
    noise = np.random.default_rng(1).normal(0, 0.1, len(table["niqe"]))
    table["niqe"] = [before + shift + step for before, step in zip(table["niqe_before"], noise, strict=True)]
    keep = [name for name in table if not name.startswith(("brisque", "piqe"))]
    page = page_of(attrs.evolve(report, tiles=pa.table({name: table[name] for name in keep})))
    assert f'<p class="headline">{headline}</p>' in page


def test_smoothing_that_scores_reward_is_called_smoothing() -> None:
    report = make_report(rows=8, columns=9)
    table = report.tiles.to_pydict()
    table["sharpness"] = [value * 0.5 for value in table["sharpness_before"]]
    assert "the image was smoothed" in page_of(attrs.evolve(report, tiles=pa.table(table)))


def test_figures_are_shown_in_percent_and_stored_as_fractions() -> None:
    report = make_report(rows=8, columns=9)
    summary = summarise(report.tiles)
    shown = material_of(report)
    noise = summary["metrics"]["noise"]["change"]
    assert 0 < noise["median_before"] < 0.1
    assert shown.summary["metrics"]["noise"]["change"]["median_before"] == pytest.approx(
        100 * noise["median_before"]
    )
    assert shown.summary["metrics"]["noise"]["change"]["share_improved"] == noise["share_improved"]
    assert shown.summary["metrics"]["noise"]["change"]["count"] == noise["count"]
    np.testing.assert_allclose(shown.table["noise"], 100 * report.tiles.column("noise").to_numpy())


def test_heat_map_puts_each_tile_over_its_place() -> None:
    material = material_of(make_report(rows=5, columns=6, tile_px=96))
    grid = MapGrid.of(material)
    values = np.where(material.table["row"] * 6 + material.table["column"] == 14, 1.0, math.nan)
    element = grid.image(values, SEQUENTIAL)
    place = {
        name: float(re.search(rf'{name}="([-\d.]+)"', element)[1]) for name in ("x", "y", "width", "height")
    }
    content = base64.b64decode(re.search(r"base64,([^\"]+)", element)[1])
    cells = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert cells.shape == (5, 6, 4)
    ((row, column),) = np.argwhere(cells[..., 3])
    middle_y = place["y"] + (row + 0.5) * place["height"] / 5
    middle_x = place["x"] + (column + 0.5) * place["width"] / 6
    assert (middle_y * material.thumbnail_px, middle_x * material.thumbnail_px) == (2.5 * 96, 2.5 * 96)


def test_heat_map_of_a_region_starts_at_its_first_pixel() -> None:
    report = make_report(rows=5, columns=6, facts={"origin_px": [96, 192]})
    table = report.tiles.to_pydict()
    keep = [
        i
        for i, (row, column) in enumerate(zip(table["row"], table["column"], strict=True))
        if row > 0 and column > 1
    ]
    grid = MapGrid.of(material_of(attrs.evolve(report, tiles=report.tiles.take(keep))))
    assert (grid.x, grid.y, grid.shape) == (0.0, 0.0, (4, 4))


def test_hatching_covers_exactly_the_tiles_without_a_score() -> None:
    material = material_of(make_report(rows=6, columns=7))
    grid = MapGrid.of(material)
    path = grid.outline(~material.valid)
    area = sum(float(wide) * float(high) for wide, high in re.findall(r"h([\d.]+)v([\d.]+)h", path))
    assert area == pytest.approx((~material.valid).sum() * grid.pitch**2)


def test_best_median_and_worst_are_what_they_are_called() -> None:
    material = material_of(make_report(rows=8, columns=9))
    gain = material.table["niqe_before"] - material.table["niqe"]
    picked = {choice.rank: choice.tile for choice in choose(material) if "NIQE" in choice.scores}
    assert picked["Best"] == np.nanargmax(gain)
    assert picked["Worst"] == np.nanargmin(gain)
    assert gain[picked["Median"]] == pytest.approx(np.nanmedian(gain), abs=0.02)


def test_pictures_are_stored_without_loss_where_they_fit_and_within_the_budget_else() -> None:
    tile = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    (exact,), quality = encode_within([tile], 10**6)
    assert quality == LOSSLESS
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(exact)).convert("L")), tile)
    squeezed, quality = encode_within([tile] * 6, 6 * len(encode_webp(tile, 60)))
    assert quality <= 60
    assert sum(map(len, squeezed)) <= 6 * len(encode_webp(tile, 60))


def test_histograms_share_bins_and_lose_no_tile() -> None:
    before, after = np.random.default_rng(0).normal(5, 1, 500), np.array([4.0, math.nan, 1e9])
    edges = edges_of([before, after])
    assert edges is not None
    assert edges[-1] < 1e9
    for values in (before, after):
        assert shares(values, edges).sum() == pytest.approx(1)
    assert edges_of([np.array([math.nan])]) is None
    assert np.isfinite(edges_of([np.full(9, 3.0)])).all()


def test_few_tiles_have_none_beyond_the_ends() -> None:
    edges = edges_of([np.array([7.0, 9.0, 12.5])])
    assert edges is not None
    assert (edges[0], edges[-1]) == (7.0, 12.5)


def test_what_is_the_same_in_every_tile_is_a_sentence_and_not_a_scale() -> None:
    report = make_report(rows=4, columns=5)
    table = {name: np.asarray(values) for name, values in report.tiles.to_pydict().items()}
    valid = (table["reason"] == "") & (table["reason_before"] == "")
    for name in ("clipped", "clipped_before"):
        table[name] = np.where(valid, 0.0, math.nan)
    table["drift"] = np.where(valid, np.linspace(-1e-6, 1e-6, valid.size), math.nan)
    table["mean"] = table["mean_before"] + table["drift"]
    table["noise"] = table["noise_before"].copy()
    table["noise"][np.flatnonzero(valid)[0]] += 0.02
    report = attrs.evolve(report, tiles=pa.table(table))
    material = material_of(report)
    maps, spread = heatmaps(material), histograms(material, material.columns)
    panels = {
        column.name: maps.split(f'class="panel panel-{index}"')[1].split('class="panel')[0]
        for index, column in enumerate(material.columns)
    }
    scales = {name: panels[name].count('class="bar"') for name in ("clipped", "drift", "mean", "noise")}
    assert scales == {"clipped": 0, "drift": 0, "mean": 2, "noise": 3}
    assert panels["clipped"].count("0.00 in every tile</small>") == 3
    assert "Clipped</strong>" in spread
    assert "0.00 in every tile, before and after" in spread
    assert spread.count("0.00 in every tile") == 2
    assert "+2.00" in panels["noise"], "a change in one tile alone has a scale"
    rows = [row for row in page_of(report).split("<tr>") if ">Clipped</span>" in row]
    assert len(rows) == 1
    assert "0 %" not in rows[0], "none improved, and none became worse"


def test_a_middle_between_whole_numbers_is_none_itself() -> None:
    report = make_report(rows=4, columns=5)
    table = {name: np.asarray(values) for name, values in report.tiles.to_pydict().items()}
    table["blobs_unsupported"] = np.where(
        table["reason"] == "", np.arange(table["z"].size) % 2 * 3.0, math.nan
    )
    page = page_of(attrs.evolve(report, tiles=pa.table(table)))
    assert "<span>0</span><span>1.5</span><span>3</span>" in page
    assert "Blobs <br>without <br>support" in page, "one can sort the tiles by it"


def test_colours_run_from_worse_to_better_and_nothing_is_clear() -> None:
    red, _, blue, alpha = paint(np.array([0.0, 1.0, 0.5, math.nan]), DIVERGING).T
    assert red[0] > blue[0]
    assert blue[1] > red[1]
    assert min(red[2], blue[2]) > 230
    assert list(alpha) == [255, 255, 255, 0]
    light = paint(np.linspace(0, 1, 64), SEQUENTIAL)[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(light) > 0).all()


def test_packed_values_keep_what_the_page_shows() -> None:
    values = np.array([3.14159, -2.0, math.nan, math.inf, 88.8])
    packed = quantised(values)
    codes = np.frombuffer(base64.b64decode(packed["codes"]), "<u2")
    assert (codes[2], codes[3]) == (65535, 65534)
    back = packed["low"] + codes[[0, 1, 4]] / 65533 * (packed["high"] - packed["low"])
    np.testing.assert_allclose(back, values[[0, 1, 4]], atol=1e-3)
    json.dumps(quantised(np.array([math.nan])), allow_nan=False)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(-1.234, 2), "−1.23"),
        (number(-0.001, 2), "0.00"),
        (number(None, 2), "–"),
        (number(math.nan, 2), "–"),
        (number(math.inf, 2), "∞"),
        (number(1234567.0, 0), "1,234,567"),
        (signed(0.5, 1), "+0.5"),
        (signed(0.001, 1), "0.0"),
        (signed(-0.5, 1), "−0.5"),
        (percent(0.001), "<1 %"),
        (percent(0.999), ">99 %"),
        (percent(1.0), "100 %"),
        (percent(None), "–"),
    ],
)
def test_numbers_as_people_write_them(shown: str, text: str) -> None:
    assert shown == text


def test_figures_after_the_point_follow_the_size_of_a_column() -> None:
    assert [decimals_for(-3, size) for size in (0.00123, 0.5, 12.0, 5000.0, 0.0)] == [5, 3, 1, 0, 2]
    assert decimals_for(2, 1e9) == 2


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (4.01, 4.02), (0, 0.0003), (5, 5)])
def test_ticks_are_round_inside_and_told_apart(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert len({tick_text(tick, ticks) for tick in ticks}) == len(ticks) <= 7
