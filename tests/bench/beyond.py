"""What is seldom met: scans that were sharpened, or stored by JPEG 2000; tissue on a dark ground, other tones.

    python -m tests.bench.beyond [--crop 256] [--model NAME] [--page]

Cases (a), (b) and (d) of the quality figures go through a program of the scanner on top: an unsharp mask, JPEG 2000, or
both; or the clean image is inverted, as in fluorescence, or darkened by a gamma of 2.2 before. Gains in PSNR over that
input, blind, at realness 0, beside the Wiener filter. --page writes the table into docs/methods_compared.md.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from functools import partial

import attrs
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.bench.material import CASES, Grey, validation_images
from tests.bench.metrics import markdown_row, psnr, to_bytes, write_page
from tests.bench.restorers import restore_whole, unit, windows_of

HALO_SIGMA_PX = 2.0

Change = Callable[[Grey], Grey]
"""What a program makes of an image."""

HEADER = ("what is done", "case", "network, dB", "image by image", "wiener, dB")


def sharpened(image: Grey, strength: float) -> Grey:
    """Return an image under an unsharp mask of 2 px."""
    grey = image.astype(np.float64)
    made = grey + strength * (grey - gaussian_filter(grey, HALO_SIGMA_PX))
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def same(image: Grey) -> Grey:
    """Return an image as it is."""
    return image


def inverted(image: Grey) -> Grey:
    """Return an image with its greys inverted."""
    return 255 - image


def darkened(image: Grey) -> Grey:
    """Return an image under a gamma of 2.2."""
    return np.rint(255 * (image / 255) ** 2.2).astype(np.uint8)


def through_jpeg2000(image: Grey, ratio: float) -> Grey:
    """Return an image as a JPEG 2000 file of a ratio gives it back."""
    file = io.BytesIO()
    Image.fromarray(image).save(
        file, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True
    )
    return np.asarray(Image.open(file))


@attrs.frozen
class Trial:
    """What is done to the clean image and to the degraded one, in which cases."""

    name: str
    cases: str
    before: Change = same
    after: Change = same


TRIALS = (
    Trial("nothing", "abd"),
    Trial("JPEG 2000, 8 : 1", "ab", after=partial(through_jpeg2000, ratio=8)),
    Trial("JPEG 2000, 12 : 1", "ab", after=partial(through_jpeg2000, ratio=12)),
    Trial("JPEG 2000, 20 : 1", "ab", after=partial(through_jpeg2000, ratio=20)),
    Trial("unsharp mask of 0.4", "ab", after=partial(sharpened, strength=0.4)),
    Trial("unsharp mask of 0.8", "ab", after=partial(sharpened, strength=0.8)),
    Trial(
        "unsharp mask of 0.8, JPEG 2000, 12 : 1",
        "ab",
        after=lambda x: through_jpeg2000(sharpened(x, 0.8), 12),
    ),
    Trial("greys inverted", "abd", before=inverted),
    Trial("gamma of 2.2", "abd", before=darkened),
)


def measure(crop_px: int, model: str) -> str:
    """Return the table."""
    settings = {"network": RunSettings(model=model, realness=0.0), "wiener": RunSettings(method="wiener")}
    methods = {name: create_method(asked) for name, asked in settings.items()}
    images = validation_images(crop_px)
    lines = [markdown_row(HEADER), markdown_row(["---"] * len(HEADER))]
    for trial in TRIALS:
        for key in trial.cases:
            gains: dict[str, list[float]] = {name: [] for name in methods}
            for image in images:
                pair = CASES[key].apply(attrs.evolve(image, pixels=trial.before(image.pixels)))
                stored = trial.after(pair.degraded)
                for name, method in methods.items():
                    known = method.analyse(windows_of(unit(stored)))
                    made = to_bytes(restore_whole(method, unit(stored), known))
                    gains[name].append(psnr(made, pair.clean) - psnr(stored, pair.clean))
            each = ", ".join(f"{gain:+.1f}" for gain in gains["network"])
            network, wiener = (f"{np.mean(gain):+.2f}" for gain in gains.values())
            lines.append(markdown_row((trial.name, key, network, each, wiener)))
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.beyond", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--crop", type=int, default=256, help="side of the middle of each image, pixels")
    parser.add_argument("--model", default="tiny-x1")
    parser.add_argument("--page", action="store_true", help="write the table into docs/methods_compared.md")
    options = parser.parse_args()
    text = measure(options.crop, options.model)
    if options.page:
        write_page("methods_compared.md", "beyond", text)


if __name__ == "__main__":
    main()
