"""The page in a browser: it loads from disk in silence, sorts, answers, and fits on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Page, browser, find_chromium
from PIL import Image
from report_material import make_report

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
        "volume": {"rows": 5, "columns": 6, "sections": 20, "tile_px": 48},
    }
    for name, kind in kinds.items():
        write_report(make_report(**kind), folder / name)
    return {name: folder / name / "report.html" for name in kinds}


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


@pytest.mark.parametrize(("name", "swipes"), [("pair", True), ("single", False)])
def test_figures_of_a_tile_are_read_on_a_phone(
    tab: Page, pages: dict[str, Path], name: str, swipes: bool
) -> None:
    tab.open(pages[name], width=360, height=740, dark=True)
    figures = "document.querySelectorAll('.strip figure:first-child figcaption span')"
    reach = f"Math.max(...[...{figures}].map(each => each.getBoundingClientRect().right))"
    assert tab.value(reach) <= 360
    shown = "(e => e !== null && e.offsetHeight > 0)(document.querySelector('.swipe'))"
    assert tab.value(shown) == swipes
    tab.value("document.getElementById('fit').click()")
    assert tab.value(reach) <= 360
    assert not tab.value(shown)


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
    assert EVIL in tab.value("document.querySelector('.facts').textContent")
    assert tab.value("document.title") != "owned"
    assert tab.value("document.scripts.length") == 2


def test_heat_maps_are_there_and_the_switch_shows_another(
    tab: Page, pages: dict[str, Path], tmp_path: Path
) -> None:
    tab.open(pages["pair"])
    visible = (
        "[...document.querySelectorAll('.panel')].filter(p => p.offsetHeight).map(p => p.className).join()"
    )
    assert tab.value(visible) == "panel panel-0"
    assert tab.value("document.querySelectorAll('.panel-0 image.heat').length") == 3
    tab.value("document.querySelector('label[for=map-1]').click()")
    assert tab.value(visible) == "panel panel-1"
    box = tab.value(
        "(r => [r.x, r.y + scrollY, r.width, r.height])(document.querySelector('.panel-1 .map').getBoundingClientRect())"
    )
    tab.picture(tmp_path / "map.png", top=box[1], height=box[3])
    shown = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    shown = shown[:, int(box[0]) : int(box[0] + box[2])]
    coloured = np.ptp(shown, axis=2) > 40
    assert 0.2 < coloured.mean() < 0.95


def test_switch_and_figures_need_no_script(tab: Page, pages: dict[str, Path]) -> None:
    tab.open(pages["volume"], script=False)
    root = tab.ask("DOM.getDocument")["root"]["nodeId"]

    def count(selector: str) -> int:
        return len(tab.ask("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

    assert count("#tiles tbody tr") == 100
    assert count("#scores tbody tr") == 3
    assert count("svg.plot") > 20
    assert count(".strip img") >= 6
    assert count("html.scripted") == 0
    label = tab.ask("DOM.querySelector", nodeId=root, selector="label[for=map-2]")["nodeId"]
    tab.ask("DOM.scrollIntoViewIfNeeded", nodeId=label)
    box = tab.ask("DOM.getBoxModel", nodeId=label)["model"]["content"]
    tab.click((box[0] + box[2]) / 2, (box[1] + box[5]) / 2)
    panel = tab.ask("DOM.querySelector", nodeId=root, selector=".panel-2")["nodeId"]
    assert tab.ask("DOM.getBoxModel", nodeId=panel)["model"]["height"] > 100
    assert tab.complaints() == []


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
    tab.value(
        "document.querySelector('.panel-0 .map').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    x, y, wide, high = tab.value(
        "(r => [r.x, r.y, r.width, r.height])(document.querySelector('.panel-0 .map').getBoundingClientRect())"
    )
    tab.move(x + wide / 2, y + high / 2)
    tip = tab.value("document.getElementById('tip').innerText")
    assert tip.startswith("row 5, column 7 (y 240, x 336)")
    tiles = make_report(**PAIR).tiles.to_pydict()
    place = next(i for i, at in enumerate(zip(tiles["row"], tiles["column"], strict=True)) if at == (5, 7))
    for value in (tiles["niqe"][place], tiles["niqe_before"][place], 100 * tiles["noise"][place]):
        assert f"{value:.2f}" in tip
    tab.value("document.querySelector('.panel-0 .map').focus()")
    tab.key("ArrowRight", 39)
    assert tab.value("document.getElementById('tip').innerText").startswith("row 5, column 8")
    tab.key("Escape", 27)
    assert tab.value("document.getElementById('tip').hidden")
    tab.move(x + 2, y + 2)
    assert "not scored, background" in tab.value("document.getElementById('tip').innerText")
    assert tab.complaints() == []
