"""The page in a browser: it loads from disk in silence, sorts, answers, and fits on a phone."""

from __future__ import annotations

import io
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from chromium import Page, browser, find_chromium
from PIL import Image
from report_material import make_report

from bigrestore.report.table.content import Report
from bigrestore.report.table.write import write_report

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium")

EVIL = "<script>document.title='owned'</script>\"><img src=x onerror=alert(1)>.tif"
PAIR: dict[str, Any] = {"rows": 12, "columns": 15, "tile_px": 48, "reference": True}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the pages that are looked at."""
    folder = tmp_path_factory.mktemp("pages")
    kinds: dict[str, dict[str, Any]] = {
        "pair": PAIR | {"facts": {"image": EVIL, "model": EVIL}},
        "single": {"rows": 3, "columns": 4, "pair": False},
        "region": {"rows": 5, "columns": 6, "tile_px": 48, "facts": {"origin_px": [48, 96]}},
        "volume": {"rows": 5, "columns": 6, "sections": 20, "tile_px": 48, "maps": ("residual", "invented")},
    }
    for name, kind in kinds.items():
        report = make_report(**kind)
        changed = {"volume": with_plain_parts, "region": without_border}.get(name, lambda same: same)
        write_report(changed(report), folder / name)
    return {name: folder / name / "report.html" for name in kinds}


def with_plain_parts(report: Report) -> Report:
    """Return a volume with a blank section, a figure of one number in every tile, and one that moved in one tile alone."""
    table = report.tiles.to_pydict()
    for column in ("reason", "reason_before"):
        table[column] = ["blank" if z == 3 else was for z, was in zip(table["z"], table[column], strict=True)]
    for column in ("clipped", "clipped_before"):
        table[column] = [0.0 if value == value else value for value in table[column]]
    table["noise"] = table["noise_before"].copy()
    table["noise"][next(i for i, value in enumerate(table["noise"]) if value == value)] += 0.02
    return attrs.evolve(report, tiles=pa.table(table))


def without_border(report: Report) -> Report:
    """Return the part of a section from its second row and third column on."""
    places = zip(report.tiles["row"].to_pylist(), report.tiles["column"].to_pylist(), strict=True)
    return attrs.evolve(
        report,
        tiles=report.tiles.take([i for i, (row, column) in enumerate(places) if row > 0 and column > 1]),
    )


def rectangle(tab: Page, selector: str) -> list[float]:
    """Return where an element is on the page: x, y, width and height."""
    tab.value(f"var found = document.querySelector('{selector}').getBoundingClientRect()")
    return list(tab.value("[found.x, found.y + scrollY, found.width, found.height]"))


@pytest.mark.parametrize("name", ["pair", "single", "volume"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_loads_in_silence_and_fits_on_a_phone(
    tab: Page, pages: dict[str, Path], name: str, dark: bool
) -> None:
    tab.open(pages[name], width=360, height=740, dark=dark)
    assert tab.complaints() == []
    assert tab.requests() == [pages[name].resolve().as_uri()]
    assert tab.value("document.documentElement.scrollWidth") <= 360
    paper = tab.value("getComputedStyle(document.documentElement).backgroundColor")
    lightness = sum(int(part) for part in paper.removeprefix("rgb(").rstrip(")").split(","))
    assert lightness < 150 if dark else lightness > 700
    assert tab.value("document.documentElement.classList.contains('scripted')")


@pytest.mark.parametrize("name", ["pair", "single"])
def test_figures_of_a_tile_are_read_on_a_phone(tab: Page, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name], width=360, height=740, dark=True)
    parts = "[...document.querySelectorAll('.cards span, .score')]"
    assert tab.value(f"Math.max(...{parts}.map(each => each.getBoundingClientRect().right))") <= 360
    assert tab.value("document.querySelector('.first figure').getBoundingClientRect().right") <= 360
    assert tab.value("document.querySelector('.headline').getBoundingClientRect().bottom") < 740


def test_the_first_screen_has_picture_verdict_and_scores(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"], width=1280, height=900)
    for selector, count in ((".first .compare img", 2), (".headline", 1), (".score", 5)):
        bottoms = (
            f"[...document.querySelectorAll('{selector}')].map(each => each.getBoundingClientRect().bottom)"
        )
        found = tab.value(bottoms)
        assert len(found) == count
        assert max(found) <= 900, selector
    bar = "document.querySelector('.first .scale').offsetWidth / document.querySelector('.first .compare').offsetWidth"
    assert 0.1 <= tab.value(bar) <= 0.25
    assert tab.value("document.querySelector('.first .scale').textContent") == "1 mm"


def test_the_slider_answers_to_the_keyboard_the_pointer_and_a_finger(
    tab: Page, pages: dict[str, Path]
) -> None:
    tab.open(pages["pair"])
    split = "document.querySelector('.first .compare').style.getPropertyValue('--split')"
    tab.value("document.querySelector('.first .compare input').focus()")
    tab.key("ArrowRight", 39)
    assert tab.value(split) == "50.5%"
    tab.key("Home", 36)
    assert tab.value(split) == "0%"
    x, y, wide, high = rectangle(tab, ".first .compare")
    tab.click(x + 0.75 * wide, y + high / 2)
    assert 70 < float(tab.value(split).rstrip("%")) < 80
    for kind, at in (("touchStart", 0.75), ("touchMove", 0.5), ("touchMove", 0.25), ("touchEnd", 0.25)):
        points = [] if kind == "touchEnd" else [{"x": x + at * wide, "y": y + high / 2}]
        tab.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert 20 < float(tab.value(split).rstrip("%")) < 30
    shown = "getComputedStyle(document.querySelectorAll('.first .compare img')[1]).clipPath"
    assert tab.value(shown).startswith("inset(0px 0px 0px 2")


def test_a_table_wider_than_the_screen_says_so(tab: Page, pages: dict[str, Path]) -> None:
    said = "getComputedStyle(document.getElementById('scores-caption'), '::after').content"
    frame = "document.getElementById('scores').parentElement"
    for width, wider in ((360, True), (1280, False)):
        tab.open(pages["pair"], width=width, height=740)
        tab.value("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        assert tab.value(f"{frame}.scrollWidth > {frame}.clientWidth") == wider
        assert ("sideways" in tab.value(said)) == wider


def test_names_are_shown_as_they_are_and_do_nothing(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"])
    assert tab.value("document.querySelector('h1').textContent").startswith("Scores of ")
    assert EVIL in tab.value("document.querySelector('main').textContent")
    assert tab.value("document.title") != "owned"
    assert tab.value("document.scripts.length") == 2


def choose(tab: Page, control: str, value: object) -> None:
    """Set a control as a hand would."""
    tab.value(
        f"(c => {{ c.value = '{value}'; c.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        f"(document.getElementById('{control}'))"
    )


PAINTED = """[...document.querySelectorAll('#panels canvas')].map(canvas => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const at = (y, x) => [...pixels.slice(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 4)];
  return [canvas.width, canvas.height, at(ROW * 48 + 24, COLUMN * 48 + 24), at(ROW * 48 + 24, COLUMN * 48 + 27)] })"""


def test_heat_maps_are_there_and_the_switch_shows_another(
    tab: Page, pages: dict[str, Path], tmp_path: Path
) -> None:
    tab.open(pages["pair"])
    assert tab.value(
        "[...document.querySelectorAll('#panels figcaption')].map(c => c.textContent.split(':')[0])"
    ) == [
        "Before",
        "After",
        "Change",
    ]
    assert tab.value("document.getElementById('meaning').textContent").startswith("NIQE: ")
    choose(tab, "layer", "tile:1")
    assert tab.value("document.getElementById('meaning').textContent").startswith("BRISQUE: ")
    box = rectangle(tab, "#panels .map")
    tab.picture(tmp_path / "map.png", top=box[1], height=box[3])
    shown = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    shown = shown[:, int(box[0]) : int(box[0] + box[2])]
    coloured = np.ptp(shown, axis=2) > 40
    assert 0.2 < coloured.mean() < 0.95


@pytest.mark.parametrize(("row", "column"), [(5, 7), (3, 4), (8, 9)])
def test_heat_map_puts_each_tile_over_its_place(
    tab: Page, pages: dict[str, Path], row: int, column: int
) -> None:
    tab.open(pages["pair"])
    tiles = make_report(**PAIR).tiles.to_pydict()
    places = list(zip(tiles["row"], tiles["column"], strict=True))
    painted = tab.value(PAINTED.replace("ROW", str(row)).replace("COLUMN", str(column)))
    width, height = 15 * 48 - 24, 12 * 48 - 16
    assert [each[:2] for each in painted] == [[width, height]] * 3
    before, after, change = (np.array(each[2]) for each in painted)
    assert all(colour[3] == 255 for colour in (before, after, change)), "each lies over its tile"
    values = np.array([tiles[name][places.index((row, column))] for name in ("niqe_before", "niqe")])
    light = [colour[:3] @ (0.299, 0.587, 0.114) for colour in (before, after)]
    assert np.sign(np.diff(values)) == np.sign(np.diff(light)), "viridis is lighter where the value is larger"
    assert change[2] > change[0], "it became better, so it is blue"


@pytest.mark.parametrize(("row", "column"), [(1, 2), (2, 4), (3, 3)])
def test_heat_map_of_a_region_starts_at_its_first_pixel(
    tab: Page, pages: dict[str, Path], row: int, column: int
) -> None:
    tab.open(pages["region"])
    painted = tab.value(PAINTED.replace("ROW", str(row - 1)).replace("COLUMN", str(column - 2)))
    assert all(each[2][3] for each in painted)
    x = rectangle(tab, "#panels .map")[0]
    size = tab.value("document.querySelector('#panels .map').offsetWidth") / painted[0][0]
    tab.value("document.querySelector('#panels .map').scrollIntoView({block: 'start', behavior: 'instant'})")
    top = tab.value("document.querySelector('#panels .map').getBoundingClientRect().y")
    tab.move(x + size * ((column - 2) * 48 + 24), top + size * ((row - 1) * 48 + 24))
    assert tab.value("document.getElementById('tip').innerText").startswith(f"row {row}, column {column} ")


def test_hatching_covers_exactly_the_tiles_without_a_score(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"])
    tiles = make_report(**PAIR).tiles.to_pydict()
    reasons = {
        (row, column): bool(after or before)
        for row, column, after, before in zip(
            *(tiles[name] for name in ("row", "column", "reason", "reason_before")), strict=True
        )
    }
    hatched = tab.value(
        """(canvas => { const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const found = [];
        for (let row = 0; row < 11; row++) for (let column = 0; column < 14; column++) {
          let clear = 0;
          for (let y = 4; y < 44; y++) for (let x = 4; x < 44; x++)
            clear += pixels[4 * ((row * 48 + y) * canvas.width + column * 48 + x) + 3] === 0;
          if (clear > 400) found.push([row, column]);
        }
        return found })(document.querySelectorAll('#panels canvas')[2])"""
    )
    inside = {place for place, invalid in reasons.items() if invalid and place[0] < 11 and place[1] < 14}
    assert {tuple(place) for place in hatched} == inside
    assert len(inside) > 20


def test_every_section_can_be_chosen_and_one_without_a_score_says_so(
    tab: Page, pages: dict[str, Path]
) -> None:
    tab.open(pages["volume"])
    says = "document.getElementById('says').textContent"
    assert tab.value("document.getElementById('section').max") == "19"
    assert tab.value(says).startswith("z = 10: ")
    pictures = set()
    for z in range(20):
        choose(tab, "section", z)
        assert tab.value(says).startswith(f"z = {z}: ")
        assert ("no tile has a score" in tab.value(says)) == (z == 3)
        pictures.add(tab.value("document.querySelector('#panels img').src"))
    assert len(pictures) == 20
    choose(tab, "section", 3)
    assert tab.value(says) == "z = 3: no tile has a score (30 blank)"
    assert "no value here" in tab.value("document.getElementById('panels').textContent")
    tab.value("document.getElementById('section').focus()")
    tab.key("ArrowRight", 39)
    assert tab.value(says).startswith("z = 4: ")
    assert tab.complaints() == []


@pytest.mark.parametrize("name", ["residual", "invented"])
def test_maps_of_pixels_lie_over_the_section(tab: Page, pages: dict[str, Path], name: str) -> None:
    tab.open(pages["volume"])
    choose(tab, "layer", f"map:{name}")
    tab.value("Promise.all([...document.querySelectorAll('#panels img')].map(each => each.decode()))")
    sizes = tab.value(
        "[...document.querySelectorAll('#panels img')].map(e => [e.naturalWidth, e.offsetWidth, e.className])"
    )
    assert [size[2] for size in sizes] == ["", "heat"]
    assert sizes[0][:2] == sizes[1][:2]
    assert "% of the range" in tab.value("document.querySelector('.bar').textContent")
    first = tab.value("document.querySelector('#panels .heat').src")
    choose(tab, "section", 0)
    assert tab.value("document.querySelector('#panels .heat').src") != first
    choose(tab, "strength", 30)
    assert tab.value("getComputedStyle(document.querySelector('#panels .heat')).opacity") == "0.3"


def test_scales_hold_for_all_sections_and_one_number_has_none(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["volume"])
    labels = tab.value("[...document.querySelectorAll('#layer option')].map(each => each.textContent)")
    bars = "[...document.querySelectorAll('.bar')].map(bar => bar.textContent)"
    scales = []
    for z in (0, 10):
        choose(tab, "section", z)
        scales.append(tab.value(bars))
    assert scales[0] == scales[1]
    assert len(scales[0]) == 3
    assert scales[0][0] == scales[0][1], "before and after share one"
    assert scales[0][0].startswith("≤ ")
    assert "worse +" in scales[0][2]
    assert "better −" in scales[0][2]
    choose(tab, "layer", f"tile:{labels.index('Clipped')}")
    assert tab.value(bars) == []
    assert tab.value("document.getElementById('panels').textContent").count(": 0.00 in every tile") == 3
    choose(tab, "layer", f"tile:{labels.index('Noise')}")
    assert "worse +2.00" in tab.value(bars)[2], "a change in one tile alone has a scale"
    choose(tab, "layer", f"tile:{labels.index('Grey drift')}")
    assert tab.value("document.querySelectorAll('#panels figure').length") == 1, "it has no before"


def test_text_figures_and_pictures_need_no_script(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["volume"], script=False)
    root = tab.ask("DOM.getDocument")["root"]["nodeId"]

    def count(selector: str) -> int:
        return len(tab.ask("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

    assert count("#tiles tbody tr") == 100
    assert count("#scores tbody tr") == 3
    assert count("svg.plot") > 20
    assert count(".cards img") >= 6
    assert count("#still") == 1
    assert count("html.scripted") == 0
    for picture in tab.ask("DOM.querySelectorAll", nodeId=root, selector=".first .compare img")["nodeIds"]:
        assert tab.ask("DOM.getBoxModel", nodeId=picture)["model"]["width"] > 200, "side by side"
    assert tab.complaints() == []


CAPTURED = """(() => { window.saved = []; URL.createObjectURL = (blob) => { saved.push(blob); return 'data:,'; };
  HTMLAnchorElement.prototype.click = function () { saved.push(this.download); }; })()"""


def saved_text(tab: Page) -> tuple[str, str]:
    """Return name and text of what was saved last."""
    answer = tab.ask(
        "Runtime.evaluate", expression="saved.at(-2).text()", awaitPromise=True, returnByValue=True
    )
    return tab.value("saved.at(-1)"), answer["result"]["value"]


def test_the_table_is_saved_with_every_tile_and_value(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"])
    tab.value(CAPTURED)
    tab.value("document.getElementById('csv').click()")
    name, text = saved_text(tab)
    assert name == "tiles.csv"
    found = pyarrow.csv.read_csv(io.BytesIO(text.encode()))
    tiles = make_report(**PAIR).tiles
    assert set(found.column_names) == set(tiles.column_names)
    for column in tiles.column_names:
        one, other = found.column(column).to_pylist(), tiles.column(column).to_pylist()
        if column.startswith("reason"):
            assert one == other
        else:
            np.testing.assert_allclose(
                [math.nan if v is None else v for v in one], other, rtol=6e-7, err_msg=column
            )


@pytest.mark.parametrize("index", [0, 3, -1])
def test_a_figure_is_saved_as_an_svg_of_its_own(tab: Page, pages: dict[str, Path], index: int) -> None:
    tab.open(pages["volume"])
    tab.value(CAPTURED)
    tab.value(f"[...document.querySelectorAll('button[data-figure]')].at({index}).click()")
    name, text = saved_text(tab)
    assert name.endswith(".svg")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text
    assert "#1f6f9f" in text


def test_tables_sort_by_pointer_and_keyboard(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"])
    column = "[...document.querySelectorAll('#scores tbody tr')].map(r => Number(r.cells[1].dataset.v))"
    heading = "document.querySelector('#scores thead').rows[0].cells[1]"
    tab.value(f"{heading}.querySelector('button').click()")
    rising = tab.value(column)
    assert rising == sorted(rising)
    assert tab.value(f"{heading}.ariaSort") == "ascending"
    tab.value(f"{heading}.querySelector('button').focus()")
    tab.key("Enter", 13, "\r")
    assert tab.value(column) == rising[::-1]
    assert tab.value(f"{heading}.ariaSort") == "descending"
    assert tab.value("document.querySelectorAll('#scores th[aria-sort=none]').length") == 7


def test_table_of_tiles_sorts_every_tile_and_shows_the_first(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"])
    assert tab.value("document.querySelectorAll('#tiles tbody tr').length") == 100
    before = tab.value("document.querySelector('#tiles tbody').textContent")
    tab.value("document.querySelectorAll('#tiles thead button')[4].click()")
    rows = tab.value(
        "[...document.querySelectorAll('#tiles tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    shown = [float(row[4]) for row in rows]
    assert len(rows) == 100
    assert shown == sorted(shown)
    assert tab.value("document.querySelector('#tiles tbody').textContent") != before
    tiles = make_report(**PAIR).tiles
    assert shown[0] == round(np.nanmin(tiles.column("niqe").to_numpy()), 2)
    note = tab.value("document.getElementById('tiles-shown').textContent")
    assert note.startswith("The first 100 of ")
    assert note.endswith("sorted by NIQE after, smallest first")


def test_a_tile_under_the_pointer_says_its_values(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["pair"], height=1000)
    assert tab.value("document.getElementById('tip').hidden")
    tab.value("document.querySelector('#panels .map').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y, wide, high = tab.value(
        "(r => [r.x, r.y, r.width, r.height])(document.querySelector('#panels .map').getBoundingClientRect())"
    )
    tab.move(x + wide / 2, y + high / 2)
    tip = tab.value("document.getElementById('tip').innerText")
    assert tip.startswith("row 5, column 7 (y 240, x 336)")
    tiles = make_report(**PAIR).tiles.to_pydict()
    place = next(i for i, at in enumerate(zip(tiles["row"], tiles["column"], strict=True)) if at == (5, 7))
    for value in (tiles["niqe"][place], tiles["niqe_before"][place], 100 * tiles["noise"][place]):
        assert f"{value:.2f}" in tip
    tab.value("document.querySelector('#panels .map').focus()")
    tab.key("ArrowRight", 39)
    assert tab.value("document.getElementById('tip').innerText").startswith("row 5, column 8")
    tab.key("Escape", 27)
    assert tab.value("document.getElementById('tip').hidden")
    tab.move(x + 2, y + 2)
    assert "not scored, background" in tab.value("document.getElementById('tip').innerText")
    assert tab.complaints() == []
