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

from bigrestore.report.images import Overview
from bigrestore.report.metrics.columns import COLUMNS
from bigrestore.report.page import figures
from bigrestore.report.page.build import build_page, packed, safe_json
from bigrestore.report.page.data import ReportData, decimals_for
from bigrestore.report.page.figures import edges_of, plots, shares
from bigrestore.report.page.pictures import (
    CHANGES,
    VALUES,
    choose,
    encode_within,
    scale_bar,
    viewer,
    views,
)
from bigrestore.report.shown import LOSSLESS, encode_webp, number, percent, signed
from bigrestore.report.table.content import Report
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tables import plain

PATCH = np.zeros((96, 96), np.uint8)
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028.tif'


@pytest.fixture
def real_plots() -> None:
    """Ask for the figures themselves; elsewhere a stand-in saves half of the time of a page."""


@pytest.fixture(autouse=True)
def plots_of_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_plots" not in request.fixturenames:
        monkeypatch.setattr(figures, "_svg", lambda *_: "<svg></svg>")


def page_of(report: Report) -> str:
    """Return the page of a report."""
    summary = plain(summarise(report.tiles, lower_better=report.facts.get("lower_better")))
    return build_page(report, summary, plain(report.facts))


def material_of(report: Report) -> ReportData:
    """Return what the parts of the page draw from."""
    return ReportData(report, plain(summarise(report.tiles)), plain(report.facts))


def embedded(page: str) -> dict[str, Any]:
    """Return the data for the page's script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def with_columns(report: Report, **columns: Any) -> Report:
    """Return a report with some columns replaced or added."""
    return attrs.evolve(report, tiles=pa.table(report.tiles.to_pydict() | columns))


def unscored(report: Report, *sections: int) -> Report:
    """Return a report in which some sections are blank."""
    table = report.tiles.to_pydict()
    there = [z in sections for z in table["z"]]
    for name, values in table.items():
        if name.startswith("reason"):
            table[name] = ["blank" if blank else reason for blank, reason in zip(there, values, strict=True)]
        elif name not in ("z", "row", "column", "y", "x", "height", "width", "tissue"):
            table[name] = [math.nan if blank else value for blank, value in zip(there, values, strict=True)]
    return attrs.evolve(report, tiles=pa.table(table))


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
            if name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster") and tag != "a":
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
    "volume": {"rows": 4, "columns": 5, "sections": 7, "maps": ("residual", "uncertainty")},
}


@pytest.mark.usefixtures("real_plots")
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


@pytest.mark.parametrize("fact", ["image", "before", "reference", "method", "model", "sampling", "opens"])
def test_names_from_outside_are_text_wherever_they_stand(fact: str) -> None:
    value = {"path": EVIL, "ome_zarr": True} if fact == "opens" else EVIL
    page = page_of(make_report(rows=3, columns=4, facts={fact: value}))
    outline = Outline()
    outline.feed(page)
    assert outline.tags.count("script") == 2
    assert outline.handlers == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page or fact in ("image", "before", "reference")
    assert "<script>alert" not in page
    assert "onerror=alert(2)>" not in page


@pytest.mark.usefixtures("real_plots")
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


@pytest.mark.usefixtures("real_plots")
def test_a_page_of_no_valid_tile_says_so() -> None:
    page = page_of(unscored(make_report(rows=3, columns=4), 0))
    assert "No tile could be scored" in page
    assert "All 12 tiles were left out (12 blank)" in page
    Outline().feed(page)


def test_a_single_image_is_not_told_of_before_and_after() -> None:
    facts = {"voxel_size_um": [None, None, None], "value_range": [0.0, 255.0]}
    single = page_of(make_report(rows=4, columns=5, pair=False, facts=facts))
    pair = page_of(make_report(rows=4, columns=5, facts={"voxel_size_um": [None, 10, 10]}))
    for words, there in (("for before and after", "unknown × 10 × 10"), ("Drag", "0 to 255")):
        assert words in pair
        assert words not in single
        assert there in pair
    assert "<dd>unknown × unknown × unknown</dd>" in single
    assert "0 to 255," in single


def test_value_ranges_are_said_to_be_the_same_only_where_they_are() -> None:
    facts = {"value_range": [0.0, 255.0], "value_range_before": [0.0, 65535.0]}
    page = page_of(make_report(rows=4, columns=5, facts=facts))
    assert "<dd>0 to 255, the same for every tile</dd>" in page
    assert "<dt>value range before</dt><dd>0 to 65535</dd>" in page
    assert "0 to 255, the same for every tile and image" in page_of(make_report(rows=4, columns=5))


@pytest.mark.usefixtures("real_plots")
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

    def pictures(z: int, y: int, x: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, None]:
        tile = random.integers(0, 255, (480, 480), np.uint8)
        return tile, tile, None

    def overviews(z: int, longest_px: int) -> Overview:
        return Overview(random.integers(0, 255, (500, 1200, 3), np.uint8), 24.0)

    page = page_of(attrs.evolve(report, tiles=pa.table(large), pictures=pictures, overviews=overviews))
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
    assert "smoothed" not in page_of(report).split("<main>")[1]
    halved = [value * 0.5 for value in report.tiles.to_pydict()["sharpness_before"]]
    assert "the image was smoothed" in page_of(with_columns(report, sharpness=halved))


@pytest.mark.parametrize(("piqe", "noise", "said"), [(5, -0.01, True), (5, 0.01, False), (-5, -0.01, False)])
def test_a_rise_of_piqe_after_denoising_is_explained_where_it_happens(
    piqe: float, noise: float, said: bool
) -> None:
    report = make_report(rows=4, columns=5)
    table = report.tiles.to_pydict()
    moved = {
        name: [value + step for value in table[f"{name}_before"]]
        for name, step in (("piqe", piqe), ("noise", noise))
    }
    page = page_of(with_columns(report, **moved))
    assert ("PIQE rose while the noise fell" in page) == said
    assert ("noise fell (" in page) == (noise < 0)
    assert ("Noise rose: " in page) == (noise > 0)


def test_what_was_read_and_done_is_said() -> None:
    read = [{"z": 0, "says": "blurred by 1.2 px, noise 4 of 255", "sharp": False, "sigma_input_px": 1.2}]
    page = page_of(make_report(rows=3, columns=4, facts={"read": read}))
    assert "What was read of the input: blurred by 1.2 px, noise 4 of 255." in page
    assert "What was done: restored at the same size by the model tiny-x1." in page
    enlarged = page_of(make_report(rows=3, columns=4, facts={"scale": 2, "model": None}))
    assert (
        "What was done: enlarged 2 times by the method network; before is the input interpolated" in enlarged
    )


def test_figures_are_shown_in_percent_and_stored_as_fractions() -> None:
    report = make_report(rows=8, columns=9)
    shown, noise = material_of(report), COLUMNS["noise"]
    change = summarise(report.tiles)["metrics"]["noise"]["change"]
    assert 0 < change["median_before"] < 0.1
    assert shown.number(noise, change["median_before"]) == f"{100 * change['median_before']:.2f}"
    assert shown.signed(noise, change["median"]) == f"−{-100 * change['median']:.2f}"
    row = next(row for row in page_of(report).split("<tr>") if "Noise<small>" in row)
    assert f'data-v="{change["median_before"]}">{100 * change["median_before"]:.2f}<' in row


def test_maps_lie_over_the_picture_of_their_section() -> None:
    shown, _ = viewer(material_of(make_report(rows=5, columns=6, tile_px=96, facts={"origin_px": [96, 192]})))
    assert shown is not None
    assert (shown["tile"], shown["origin"]) == (96, [96, 192])
    assert (shown["height"], shown["width"]) == (5 * 96 - 32, 6 * 96 - 48)
    assert shown["counts"] == [[30, int(material_of(make_report(rows=5, columns=6)).paired.sum())]]


def test_best_median_and_worst_are_what_they_are_called() -> None:
    material = material_of(make_report(rows=8, columns=9))
    gain = material.table["niqe_before"] - material.table["niqe"]
    picked = {
        role.split()[0]: tile for tile, roles in choose(material).items() for role in roles if "NIQE" in role
    }
    assert picked["best"] == np.nanargmax(gain)
    assert picked["worst"] == np.nanargmin(gain)
    assert gain[picked["median"]] == pytest.approx(np.nanmedian(gain), abs=0.02)


@pytest.mark.parametrize(("tile_px", "side"), [(48, 372), (96, 480), (240, 480)])
def test_the_first_picture_is_the_median_tile_with_what_is_around_it(tile_px: int, side: int) -> None:
    material = material_of(make_report(rows=8, columns=9, tile_px=tile_px))
    first, *others = views(material)[0]
    shown = first["pictures"]
    assert [picture["name"] for picture in shown] == ["Before", "After"]
    assert "median by" in first["roles"]
    expected = min(side, 8 * tile_px - tile_px // 3, 480)
    assert shown[0]["height"] == shown[1]["height"] == expected
    assert all(picture["height"] == tile_px for view in others for picture in view["pictures"])


def test_colour_is_shown_in_colour() -> None:
    report = make_report(rows=3, columns=4)
    rgb = np.zeros((96, 96, 3), np.uint8)
    rgb[..., 0] = 200
    red = attrs.evolve(report, pictures=lambda *_: (rgb, rgb, None), overviews=lambda *_: Overview(rgb, 4.0))
    uris = re.findall(r'src="data:image/webp;base64,([^"]+)"', page_of(red))
    assert len(uris) > 3
    for uri in uris:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB"))
        assert pixels[..., 0].mean() > 150
        assert pixels[..., 1:].max() < 60


@pytest.mark.parametrize(
    ("um", "width", "words", "share"),
    [
        (0.5, 480, "50 µm", 100 / 480),
        (10, 480, "1 mm", 100 / 480),
        (None, 480, "100 px", 100 / 480),
        (1, 96, "20 µm", 20 / 96),
    ],
)
def test_a_scale_bar_is_round_and_at_most_a_quarter_of_the_picture(
    um: float | None, width: int, words: str, share: float
) -> None:
    material = material_of(make_report(rows=3, columns=4, facts={"voxel_size_um": [20, um, um]}))
    assert scale_bar(material, width) == (words, pytest.approx(share))


@pytest.mark.parametrize(
    ("sections", "blank", "said"),
    [(3, (0, 2), "0 and 2"), (3, (1,), "1"), (20, range(15), "10, 11 and 3 more")],
)
def test_sections_without_a_score_are_said_and_never_counted_in(
    sections: int, blank: tuple[int, ...], said: str
) -> None:
    report = make_report(rows=3, columns=3, sections=sections)
    table = report.tiles.to_pydict()
    same = {
        f"clipped{ending}": [0.0 if value == value else value for value in table[f"clipped{ending}"]]
        for ending in ("", "_before")
    }
    page = page_of(unscored(with_columns(report, **same), *blank))
    assert f"No score in {len(blank)} section{'s' * (len(blank) > 1)}: z = " in page
    assert f"{said}." in page
    scored = sections - len(blank)
    assert f"0.00 in {scored} of {sections} sections; the others have no score" in page
    assert "in every section" not in page
    shown = embedded(page)["viewer"]
    assert shown["z"] == list(range(sections)), "each can be chosen"
    assert [count for count, _ in shown["counts"]] == [9] * sections
    assert [z for z, (_, count) in enumerate(shown["counts"]) if not count] == list(blank)


def test_a_section_of_which_no_tile_was_looked_at_can_be_chosen() -> None:
    report = make_report(rows=3, columns=3, sections=2, facts={"sections": [0, 2], "thumbnail_z": 1})
    page = page_of(attrs.evolve(report, tiles=report.tiles.slice(0, 9)))
    shown = embedded(page)["viewer"]
    assert (shown["z"], shown["counts"][1]) == ([0, 1], [0, 0])
    assert "No score in 1 section: z = 1." in page
    assert re.search(r'id="section"[^>]* value="0"', page), "the section with a score is shown first"


@pytest.mark.usefixtures("real_plots")
def test_thousands_of_sections_stay_a_page() -> None:
    report, times, noise = make_report(rows=1, columns=2), 3000, np.random.default_rng(0)
    kept = [
        name for name in report.tiles.column_names if name not in COLUMNS and not name.endswith("_before")
    ]
    table = {name: np.tile(report.tiles.column(name).to_numpy(), times) for name in kept if name != "reason"}
    table |= {
        "z": np.repeat(np.arange(times), 2),
        "reason": [""] * 2 * times,
        "niqe": noise.random(2 * times),
    }
    asked = []

    def overviews(z: int, longest_px: int) -> Overview:
        asked.append(longest_px)
        values = noise.random((longest_px, longest_px), np.float32)
        maps = dict.fromkeys(("residual", "uncertainty"), values)
        return Overview(noise.integers(0, 255, (*values.shape, 3), np.uint8), 4.0, maps)

    large = attrs.evolve(
        report, tiles=pa.table(table), overviews=overviews, pictures=lambda *_: (None, PATCH, None)
    )
    page = build_page(large, plain(summarise(large.tiles, resamples=1)), plain(large.facts))
    assert len(page) < 9_000_000
    shown = embedded(page)["viewer"]
    assert len(shown["z"]) == times
    assert len(shown["pictures"]) == len(shown["maps"]["residual"]["pictures"]) == 257
    assert 0.9 * 6_000_000 / 3 < sum(side**2 for side in asked[1:]) < 6_000_000 / 3
    assert "pictures of 257 of 3000 sections" in page
    assert page.count("<tr>") < 700


@pytest.mark.usefixtures("real_plots")
def test_the_same_run_gives_the_same_bytes_whatever_the_style_of_the_user() -> None:
    import matplotlib as mpl

    report = make_report(rows=4, columns=5, sections=3, maps=("residual",))
    page = page_of(report)
    assert page_of(report) == page
    with mpl.rc_context(
        {"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path", "axes.grid": False}
    ):
        assert page_of(report) == page
    assert mpl.rcParams["svg.hashsalt"] is None
    assert not re.search(r"<dc:date>|Matplotlib v", page)


@pytest.mark.parametrize(
    ("path", "napari", "source"),
    [
        (
            "../../a.ome.zarr",
            "napari ../../a.ome.zarr",
            "zarr%3A%2F%2Fhttp%3A%2F%2F127.0.0.1%3A8000%2Fa.ome.zarr",
        ),
        (
            "../it's here.ome.zarr",
            "napari &#39;../it&#39;&#34;&#39;&#34;&#39;s here.ome.zarr&#39;",
            "it%2527s%2520here.ome.zarr",
        ),
        (
            "s3://bucket/a.ome.zarr",
            "napari s3://bucket/a.ome.zarr",
            "zarr%3A%2F%2Fs3%3A%2F%2Fbucket%2Fa.ome.zarr",
        ),
    ],
)
def test_links_open_the_image_in_viewers(path: str, napari: str, source: str) -> None:
    page = page_of(make_report(rows=3, columns=4, facts={"opens": {"path": path, "ome_zarr": True}}))
    assert f"<code>{napari}</code>" in page
    (address,) = re.findall(r'<a href="([^"]+)"', page)
    assert address.startswith("https://neuroglancer-demo.appspot.com/#!%7B")
    assert source in address
    assert ("http-server" in page) == (not path.startswith("s3://"))
    tiff = page_of(make_report(rows=3, columns=4, facts={"opens": {"path": path, "ome_zarr": False}}))
    assert "<a href" not in tiff
    assert f"<code>{napari}</code>" in tiff


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


@pytest.mark.usefixtures("real_plots")
def test_what_is_the_same_in_every_tile_is_a_sentence_and_not_an_axis() -> None:
    report = make_report(rows=4, columns=5)
    table = {name: np.asarray(values) for name, values in report.tiles.to_pydict().items()}
    valid = (table["reason"] == "") & (table["reason_before"] == "")
    for name in ("clipped", "clipped_before"):
        table[name] = np.where(valid, 0.0, math.nan)
    table["drift"] = np.where(valid, np.linspace(-1e-6, 1e-6, valid.size), math.nan)
    report = with_columns(report, **table)
    spread, _ = plots(material_of(report))
    assert {name: bool(spread[name].svg) for name in ("clipped", "drift", "noise")} == {
        "clipped": False,
        "drift": False,
        "noise": True,
    }
    assert spread["clipped"].note == "0.00 in every tile, before and after"
    assert spread["drift"].note == "0.00 in every tile"
    rows = [row for row in page_of(report).split("<tr>") if ">Clipped<small>" in row]
    assert len(rows) == 1
    assert "0 %" not in rows[0], "none improved, and none became worse"


def test_tiles_can_be_sorted_by_blobs_without_support() -> None:
    report = make_report(rows=4, columns=5)
    blobs = np.where(np.asarray(report.tiles["reason"]) == "", np.arange(20) % 2 * 3.0, math.nan)
    page = page_of(with_columns(report, blobs=blobs + 4, blobs_unsupported=blobs))
    assert '<th scope="col" class="n">Blobs without support</th>' in page
    assert [metric["name"] for metric in embedded(page)["metrics"] if metric["inTable"]][
        -1
    ] == "blobs_unsupported"
    worth = summarise(report.tiles)["tiles"]["valid_in_both"]
    assert worth > 6
    assert f"Of {int(np.nansum((blobs + 4)[material_of(report).paired]))} dark blobs of cell size" in page


def test_colours_run_from_worse_to_better_and_from_dark_to_light() -> None:
    red, _, blue = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in CHANGES]).T
    assert red[0] > blue[0]
    assert blue[-1] > red[-1]
    assert min(red[3], blue[3]) > 230, "white where nothing changed"
    light = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in VALUES]) @ (
        0.299,
        0.587,
        0.114,
    )
    assert (np.diff(light) > 0).all()


def test_packed_values_keep_seven_digits() -> None:
    values = np.array([3.14159265, -2.0, math.nan, math.inf, 88.8, 1.23456789e-5])
    back = np.frombuffer(base64.b64decode(packed(values, "<f4")), "<f4")
    np.testing.assert_allclose(back, values, rtol=1e-7)


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
    three = attrs.evolve(COLUMNS["mean"], digits=-3, factor=1.0)
    sizes = (0.00123, 0.5, 12.0, 5000.0, 0.0)
    assert [decimals_for(three, np.array([size, math.nan])) for size in sizes] == [5, 3, 1, 0, 2]
    assert decimals_for(COLUMNS["niqe"], np.array([1e9])) == 2


@pytest.mark.usefixtures("real_plots")
@pytest.mark.parametrize("name", ["niqe", "sharpness", "mean"])
def test_a_figure_follows_the_colours_of_the_page_and_can_stand_alone(name: str) -> None:
    import xml.etree.ElementTree as ElementTree

    svg = plots(material_of(make_report(rows=4, columns=5)))[0][name].svg
    tree = ElementTree.fromstring(re.sub(r"var\(--\w+, (#\w+)\)", r"\1", svg))
    assert tree.get("role") == "img"
    assert tree.get("aria-label", "").startswith("Histogram of ")
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert len(texts) >= 5, "numbers at both axes"
    assert "var(--before, #b0772a)" in svg
    assert "<metadata>" not in svg
