"""Make the pictures of the README from a real run on `section.png`: `strip.png` and `report.jpg`.

    python examples/pictures.py [--model FILE] [--realness R]

The strip shows a part of the section, twice enlarged: as it was read, restored, and the detail that the prior
brought in (`--maps invented`), in orange over the restored grey levels. The other picture is the first screen of the
report of the same run, as a headless Chromium shows it. Run it again when a shipped model or the report changes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import bigrestore

Grey = NDArray[np.uint8]
Float = NDArray[np.float32]

FOLDER = Path(__file__).parent
FIRST_YX, SIDE_PX = (250, 190), 200
ENLARGED = 2
BAR_PX = 50
LEAST_OVERLAY = 4 / 255
"""Invented detail that is drawn in full orange where there is no more than that, of 0..1."""
ORANGE = (255, 96, 0)
GAP_PX, CAPTION_PX, FONT_PX = 12, 38, 20
WINDOW_PX = (1300, 800)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
JPEG = {"quality": 90, "subsampling": 0, "optimize": True}
"""As PNG the picture of the report would have half a megabyte."""


def restore(folder: Path, model: str, flags: list[str]) -> None:
    """Restore the sample in a folder, with its report, and its map of invented detail where the model gives one."""
    shutil.copy(FOLDER / "section.png", folder)
    command = [
        sys.executable,
        "-m",
        "bigrestore",
        "run",
        "section.png",
        "restored.ome.zarr",
        "--model",
        model,
    ]
    maps = ["--maps", "invented"] if "halo_prior_px" in bigrestore.load_model(model).info else []
    subprocess.run([*command, *maps, *flags], cwd=folder, check=True)


def read_part(store: Path) -> NDArray[Any]:
    """Return the shown part of an image."""
    rows, columns = (slice(first, first + SIDE_PX) for first in FIRST_YX)
    return np.asarray(bigrestore.open_section(store).data[0, rows, columns])


def overlay(restored: Grey, invented: Float) -> Grey:
    """Return restored grey levels, (h, w, 3), with invented detail over them in orange."""
    grey = np.asarray(Image.fromarray(restored).convert("L").convert("RGB"), np.float32)
    opacity = (invented / max(LEAST_OVERLAY, invented.max()))[..., None]
    return np.rint(grey * (1 - opacity) + np.asarray(ORANGE, np.float32) * opacity).astype(np.uint8)


def strip(folder: Path) -> Image.Image:
    """Return input, restored and invented side by side, with captions and a scale bar."""
    source, restored = (read_part(folder / name) for name in ("section.png", "restored.ome.zarr"))
    store = folder / "restored.ome.zarr" / "maps" / "invented"
    invented = read_part(store) if store.is_dir() else np.zeros(source.shape[:2], np.float32)
    said = (
        f"up to {255 * invented.max():.0f} of 255 (full orange)" if invented.any() else "nothing (realness 0)"
    )
    panels = {"input": source, "restored": restored, f"invented: {said}": overlay(restored, invented)}

    side = SIDE_PX * ENLARGED
    picture = Image.new("RGB", (3 * side + 2 * GAP_PX, side + CAPTION_PX), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_PX)
    for place, (caption, pixels) in enumerate(panels.items()):
        left = place * (side + GAP_PX)
        picture.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (left, 0))
        draw.text((left, side + 8), caption, fill="black", font=font)
    bar = BAR_PX * ENLARGED
    draw.rectangle((14, side - 54, 14 + bar + 12, side - 12), fill="black")
    draw.rectangle((20, side - 22, 20 + bar, side - 18), fill="white")
    draw.text((20 + bar // 2, side - 24), f"{BAR_PX} px", fill="white", font=font, anchor="mb")
    return picture


def first_screen(page: Path, folder: Path) -> Image.Image:
    """Return what a browser shows of a page without scrolling."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(
            f"There is none of {', '.join(BROWSERS)}; install Chromium (apt-get install chromium)."
        )
    shot = folder / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={shot}"]
    size = "--window-size={},{}".format(*WINDOW_PX)
    subprocess.run([browser, *flags, size, page.resolve().as_uri()], check=True, capture_output=True)
    return Image.open(shot).convert("RGB")


def main() -> None:
    """Restore the sample and write both pictures beside this script."""
    parser = argparse.ArgumentParser(description="Make the pictures of the README.")
    parser.add_argument("--model", default="tiny-x1", help="checkpoint, or name of a shipped model")
    parser.add_argument("--realness", help="default: the model's own")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pictures go")
    options = parser.parse_args()
    flags = ["--realness", options.realness] if options.realness else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        restore(folder, options.model, flags)
        strip(folder).save(options.folder / "strip.png", optimize=True)
        page = folder / "restored.ome.zarr.bigrestore" / "report" / "report.html"
        first_screen(page, folder).save(options.folder / "report.jpg", **JPEG)
    for picture in ("strip.png", "report.jpg"):
        print(f"{picture}: {(options.folder / picture).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
