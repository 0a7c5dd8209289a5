"""The demo: spoil a real tissue image in a known way, restore it blind, and show how close it came.

The image is `skimage.data.immunohistochemistry()`, which comes inside the scikit-image wheel and which no
shipped model has seen. It is degraded twice, with NumPy and SciPy only: at the same size (blur and noise), and
at half the size (blur, area downsampling, noise). Both are written as OME-Zarr 0.5, restored by the command that a user
types, and compared with the clean image. Run it by `make demo`; everything lands in demo/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter
from skimage.data import immunohistochemistry
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

Grey = NDArray[np.uint8]

FOLDER = Path("demo")
SIGMA_PX = {1: 1.4, 2: 1.0}
NOISE_GREY_LEVELS = 2.0
ZOOM_YX, ZOOM_PX = (196, 250), 128

console = Console()


def clean_image() -> Grey:
    """Return the tissue image as 8-bit luma, 512 x 512."""
    return np.asarray(Image.fromarray(immunohistochemistry()).convert("L"))


def degrade(clean: Grey, scale: int) -> Grey:
    """Return the image blurred, area-downsampled by `scale`, with noise, in 8 bits."""
    blurred = gaussian_filter(clean.astype(np.float64), SIGMA_PX[scale], mode="reflect")
    height, width = clean.shape[0] // scale, clean.shape[1] // scale
    small = blurred.reshape(height, scale, width, scale).mean(axis=(1, 3))
    noise = np.random.default_rng(scale).normal(0.0, NOISE_GREY_LEVELS, small.shape)
    return np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)


def write_ome_zarr(path: Path, image: Grey) -> None:
    """Write an image as an OME-Zarr 0.5 of one level; its pixel size is not known, so no unit is claimed."""
    shutil.rmtree(path, ignore_errors=True)
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=image, chunks=(128, 128), dimension_names=["y", "x"])
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": path.name.split(".")[0], "axes": axes, "datasets": [dataset]}],
    }


def run(source: Path, target: Path, *flags: str) -> Grey:
    """Restore a store by the command line and return the pixels of its full resolution."""
    words = ["run", str(source), str(target), *flags]
    console.print(f"\n[bold]$ bigrestore {' '.join(words)}[/bold]")
    program = Path(sys.executable).with_name("bigrestore")
    environment = os.environ | {"COLUMNS": str(console.width)}
    code = subprocess.run([str(program), *words, "--overwrite"], env=environment).returncode
    if code:
        raise SystemExit(f"The demo ends here: bigrestore ended with exit code {code}.")
    return np.asarray(zarr.open_array(target / "0", mode="r")[...])


def catmull_rom(image: Grey, scale: int) -> Grey:
    """Return the image enlarged by Pillow's cubic, which is Catmull-Rom; at scale 1 it is the image itself."""
    if scale == 1:
        return image
    size = (image.shape[1] * scale, image.shape[0] * scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def figures(image: Grey, clean: Grey) -> tuple[float, float]:
    """Return PSNR in dB and SSIM against the clean image."""
    similarity = structural_similarity(
        image, clean, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(peak_signal_noise_ratio(clean, image, data_range=255)), float(similarity)


def picture(path: Path, rows: list[tuple[str, list[tuple[str, Grey]]]], clean: Grey) -> None:
    """Draw every row of images whole and zoomed, titled with its figures, and save it."""
    figure, axes = plt.subplots(2 * len(rows), 3, figsize=(12, 8.6 * len(rows)), layout="constrained")
    top, left = ZOOM_YX
    for number, (label, images) in enumerate(rows):
        for column, (title, image) in enumerate(images):
            whole, zoom = axes[2 * number, column], axes[2 * number + 1, column]
            if image is not clean and image.shape == clean.shape:
                title += "\n{:.2f} dB, SSIM {:.4f}".format(*figures(image, clean))
            factor = clean.shape[0] // image.shape[0]
            y, x, side = top // factor, left // factor, ZOOM_PX // factor
            shown = {"cmap": "gray", "vmin": 0, "vmax": 255}
            whole.imshow(image, interpolation="antialiased", **shown)
            whole.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, color="orange"))
            whole.set_title(title)
            zoom.imshow(image[y : y + side, x : x + side], interpolation="nearest", **shown)
        axes[2 * number, 0].set_ylabel(label)
        axes[2 * number + 1, 0].set_ylabel(f"{label}, zoom")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(clean: Grey, results: dict[int, dict[str, Grey]]) -> None:
    """Print PSNR and SSIM of every image that has the size of the clean one."""
    table = Table(title="against the clean image")
    for name in ("case", "image"):
        table.add_column(name)
    for name in ("PSNR dB", "SSIM"):
        table.add_column(name, justify="right")
    for scale, images in results.items():
        for name, image in images.items():
            if image.shape == clean.shape:
                psnr, ssim = figures(image, clean)
                table.add_row(f"x{scale}", name, f"{psnr:.2f}", f"{ssim:.4f}")
        table.add_section()
    console.print(table)
    console.print(
        "At x1 Catmull-Rom gives the input itself; at x2 the input has no figure, being half as large."
    )


def main() -> None:
    """Degrade, restore, compare, and leave the picture."""
    started = time.perf_counter()
    FOLDER.mkdir(exist_ok=True)
    clean = clean_image()
    results: dict[int, dict[str, Grey]] = {}
    stores = {
        1: ("section.ome.zarr", "restored.ome.zarr"),
        2: ("section_half.ome.zarr", "restored_x2.ome.zarr"),
    }
    for scale, (source, target) in stores.items():
        degraded = degrade(clean, scale)
        write_ome_zarr(FOLDER / source, degraded)
        flags = () if scale == 1 else ("--scale", str(scale))
        restored = run(FOLDER / source, FOLDER / target, *flags)
        results[scale] = {
            "input": degraded,
            "Catmull-Rom": catmull_rom(degraded, scale),
            "restored": restored,
        }
    rows = [
        (f"x{scale}", [("degraded", images["input"]), ("restored", images["restored"]), ("clean", clean)])
        for scale, images in results.items()
    ]
    rows[1][1][0] = ("degraded, enlarged by Catmull-Rom", results[2]["Catmull-Rom"])
    picture(FOLDER / "before_after.png", rows, clean)
    report(clean, results)
    console.print(f"Picture: {FOLDER / 'before_after.png'} ({time.perf_counter() - started:.0f} s in all)")


if __name__ == "__main__":
    main()
