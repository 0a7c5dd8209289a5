"""What half the bits cost: PSNR on val/ computed in bfloat16 against float32, the same model and images.

python -m tests.bench.precision [--model FILE] [--crop 512] [--cases a,b,c,d,x2]
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.bench.material import CASES, Case, ValidationImage, validation_images
from tests.bench.metrics import Figure, figure_table, psnr, to_bytes, write_json
from tests.bench.models import default_model, load_method
from tests.bench.restorers import restore_whole, unit, windows_of

TARGET_DB = 0.03
CROP_PX = 512


def differences(case: Case, images: list[ValidationImage], model: str, device: str) -> dict[str, float]:
    """Return PSNR in bf16 less PSNR in fp32, by image, from one estimate of the degradation."""
    exact, half = (
        load_method(model, scale=case.scale, device=device, precision=precision)
        for precision in ("fp32", "bf16")
    )
    found = {}
    for image in images:
        pair = case.apply(image)
        values = unit(pair.degraded)
        statistics = exact.analyse(windows_of(values))
        figures = [
            psnr(to_bytes(restore_whole(method, values, statistics)), pair.clean) for method in (exact, half)
        ]
        found[image.name] = figures[1] - figures[0]
    return found


def measure(
    model: str | None = None,
    crop_px: int | None = CROP_PX,
    keys: tuple[str, ...] = tuple(CASES),
    device: str = "cpu",
) -> list[Figure]:
    """Return the figure of this module, and write every image's."""
    images = validation_images(crop_px)
    found = {
        key: differences(CASES[key], images, model or default_model(CASES[key].scale), device) for key in keys
    }
    means = {key: float(np.mean(list(values.values()))) for key, values in found.items()}
    write_json("precision", {"model": model, "crop_px": crop_px, "mean_db": means, "images_db": found})
    worst = max(means, key=lambda key: abs(means[key]))
    text = f"{means[worst]:+.4f} dB (worst case, {worst})"
    return [
        Figure("bf16 against fp32 on val/", f"within {TARGET_DB} dB", text, abs(means[worst]) <= TARGET_DB)
    ]


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.precision")
    parser.add_argument("--model", default=None)
    parser.add_argument("--crop", type=int, default=CROP_PX, help="middle of each image, px; 0: all of it")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    keys = tuple(options.cases.split(","))
    print(figure_table(measure(options.model, options.crop or None, keys, options.device)))


if __name__ == "__main__":
    main()
