"""`view` in a browser: Neuroglancer draws the pixels of the output, of its input and of its maps, each in its place."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
import zarr
from chromium import Page, browser, find_chromium
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from tests.warm_python import WarmPython

CHROMIUM = find_chromium()
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE_S = 90.0
SIDE = 120
"""Pixels that are compared, around the middle of a panel: nothing is drawn over them."""

pytestmark = [
    pytest.mark.viewer,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium"),
    pytest.mark.skipif(
        find_spec("neuroglancer") is None, reason="there is no neuroglancer; it is the extra `view`"
    ),
]
PANELS = """JSON.stringify([...document.querySelectorAll('.neuroglancer-rendered-data-panel')].map(one => {
  const place = one.getBoundingClientRect();
  return [place.x + one.clientLeft, place.y + one.clientTop, one.clientWidth, one.clientHeight];
}))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path_factory.mktemp("profile"), *SOFTWARE_WEBGL) as page:
        yield page


@pytest.fixture
def view(warm_python: WarmPython) -> Iterator[Callable[..., str]]:
    """Give a function that starts the command and returns the address that it prints; all are ended."""
    started = []

    def start(*arguments: object) -> str:
        command = [warm_python.executable, "-m", "bigrestore", "view", *map(str, arguments), "--no-browser"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


def tissue(height: int, width: int) -> NDArray[np.uint8]:
    """Return coloured tissue of any size."""
    image = np.asarray(data.immunohistochemistry())
    return np.ascontiguousarray(np.tile(image, (-(-height // 512), -(-width // 512), 1))[:height, :width])


def save(path: Path, pixels: NDArray[Any], white: float, stated: dict[str, Any], **facts: Any) -> None:
    spec = StoreSpec((1, *pixels.shape[:2]), pixels.dtype, 3 if pixels.ndim == 3 else 1, **facts)
    create_store(path, spec)
    write_block(open_level(path, 0), 0, 0, 0, pixels)
    build_pyramid(path, spec)
    finish_store(path, spec, (0.0, white), stated, name="section", channel="restored")


def show(tab: Page, address: str, middle: tuple[int, int], names: list[str], picture: Path) -> dict[str, Any]:
    """Open a page, look at a place at one pixel of the output for each of the screen, and return what is drawn."""
    tab.open(address, width=1400, height=900)
    wait(tab, names)
    panels = dict(zip(names, json.loads(tab.value(PANELS)), strict=True))
    with urlopen(f"{address}state.json") as answer:
        state = json.load(answer)
    drawn = {}
    for name, (left, top, width, height) in panels.items():
        # The middle of pixel 0 is at 0; the edges of pixels are put on those of the screen's.
        at = [middle[1] - 0.5 + width % 2 / 2, middle[0] - 0.5 + height % 2 / 2]
        moved = state | {"position": at, "crossSectionScale": 1, "showScaleBar": False}
        tab.value(f"location.hash = '#!' + '{quote(json.dumps(moved))}'")
        time.sleep(0.3)
        wait(tab, names)
        tab.picture(picture)
        screen = np.asarray(Image.open(picture).convert("RGB"))
        x, y = (int(edge + 0.5) + side // 2 - SIDE // 2 for edge, side in ((left, width), (top, height)))
        drawn[name] = screen[y : y + SIDE, x : x + SIDE].astype(int)
    return drawn


def wait(tab: Page, names: list[str]) -> None:
    """Wait until all that is to be drawn is there."""
    ready = f"window.viewer && viewer.layerManager.managedLayers.length === {len(names)} && viewer.isReady()"
    end = time.monotonic() + PATIENCE_S
    while not tab.value(f"Boolean({ready})"):
        assert time.monotonic() < end, "the page is not drawn"
        time.sleep(0.1)
    time.sleep(0.3)
    assert tab.value(f"Boolean({ready})")


def around(pixels: NDArray[Any], middle: tuple[int, int]) -> NDArray[Any]:
    y, x = (at - SIDE // 2 for at in middle)
    part = pixels[y : y + SIDE, x : x + SIDE].astype(int)
    return part if part.ndim == 3 else np.repeat(part[..., np.newaxis], 3, axis=2)


def test_colour_the_input_and_maps_are_drawn_pixel_by_pixel(
    tmp_path: Path, tab: Page, view: Callable[..., str]
) -> None:
    output, source = tmp_path / "o.ome.zarr", tmp_path / "i.png"
    colour = tissue(700, 900)
    stated = {
        "method": {"scale": 2},
        "settings": {"roi": None, "level": 0},
        "maps": {"residual": "", "uncertainty": ""},
    }
    save(output, colour, 255.0, stated)
    zarr.create_group(output / "maps")
    maps = {
        "residual": colour[..., 0].astype(np.float32) / 2550,
        "uncertainty": colour[..., 1].astype(np.float32) / 255,
    }
    for name, pixels in maps.items():
        save(output / "maps" / name, pixels, 0.1 if name == "residual" else 0.5, {"map": name})
    small = tissue(350, 450)[::-1]
    Image.fromarray(small).save(source)
    address = view(output, "--before", source)
    names = ["before", "after", *maps]
    middle = (402, 476)
    drawn = show(tab, address, middle, names, tmp_path / "page.png")
    np.testing.assert_array_equal(drawn["after"], around(colour, middle))
    np.testing.assert_array_equal(drawn["before"], around(small.repeat(2, 0).repeat(2, 1), middle))
    for name, white in (("residual", 0.1), ("uncertainty", 0.5)):
        wanted = np.rint(np.clip(maps[name] / white, 0, 1) * 255)
        assert np.abs(drawn[name] - around(wanted, middle)).max() <= 1
    assert all(request.startswith(f"http://{address.split('/')[2]}/") for request in tab.requests())
    assert tab.value("document.title").startswith("o")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_is_drawn_from_black_to_white_of_the_output(
    tmp_path: Path, tab: Page, view: Callable[..., str], dtype: Any
) -> None:
    output = tmp_path / "o.ome.zarr"
    grey = tissue(600, 640)[..., 1]
    white = {"uint8": 255, "uint16": 4080, "float32": 1}[np.dtype(dtype).name]
    pixels = (grey.astype(np.float64) * white / 255).astype(dtype)
    save(
        output,
        pixels,
        white,
        {},
        voxel_size_um=(None, 2.5, 2.5),
        translation_um=(None, 30.0, -7.5),
        fmt="0.4",
    )
    drawn = show(tab, view(output), (312 + 12, 300 - 3), ["after"], tmp_path / "page.png")
    # The place is counted from the origin of the axes, and the first pixel lies at its translation.
    assert np.abs(drawn["after"] - around(grey, (312, 300))).max() <= 1
