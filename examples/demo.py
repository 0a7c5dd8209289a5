"""The demo: restore the sample; then spoil a real tissue image in a known way, restore it blind, and compare.

The sample is `section.png` beside this script; its run leaves a report. The image is
`skimage.data.immunohistochemistry()`, which comes inside the scikit-image wheel and which no shipped model has seen. It
is degraded in two ways, with NumPy and SciPy only. Noisy: blurred, with noise, at the same size and at half the size.
Soft, as BigBrain's sections are: scanned on a fine grid, averaged by 2 x 2, and registered by two interpolations along
a smooth shift, until no noise is left. All is written as OME-Zarr 0.5, restored by the command that a user types, and
compared with the clean image. Run it by `make demo`; everything lands in demo/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import attrs
import matplotlib
import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from skimage.data import immunohistochemistry
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Grey = NDArray[np.uint8]
Float = NDArray[np.float64]

FOLDER = Path("demo")
SAMPLE = Path(__file__).with_name("section.png")
SIGMA_PX = {1: 1.4, 2: 1.0}
NOISE_GREY_LEVELS = 2.0
SCAN_SIGMA_PX, SCAN_NOISE = 0.7, 1.2
"""Optics and camera of the soft case, on the grid of the clean image."""
SHIFT_PX, SHIFT_PERIOD_PX = 1.5, 110.0
"""Registration of the soft case, on the grid of its averages."""
ZOOM_YX, ZOOM_PX = (196, 250), 128


@attrs.frozen(eq=False)
class Case:
    """One restoration: what is read and written, and what should come out."""

    name: str
    scale: int
    source: str
    target: str
    degraded: Grey
    clean: Grey


console = Console()


def clean_image() -> Grey:
    """Return the tissue image as 8-bit luma, 512 x 512."""
    return np.asarray(Image.fromarray(immunohistochemistry()).convert("L"))


def noisy(clean: Grey, scale: int) -> Grey:
    """Return the image blurred, area-downsampled by `scale`, with noise, in 8 bits."""
    blurred = gaussian_filter(clean.astype(np.float64), SIGMA_PX[scale], mode="reflect")
    small = averaged(blurred, scale)
    noise = np.random.default_rng(scale).normal(0.0, NOISE_GREY_LEVELS, small.shape)
    return eight_bits(small + noise)


def soft(clean: Grey) -> tuple[Grey, Grey, Grey]:
    """Return the image as a pipeline leaves it, at half the size, and the clean one in register, small and large."""
    image = clean.astype(np.float64)
    rows, columns = np.mgrid[: image.shape[0] // 2, : image.shape[1] // 2] * (2 * np.pi / SHIFT_PERIOD_PX)
    shift = [SHIFT_PX * np.sin(rows + 0.5 * columns), SHIFT_PX * np.cos(columns - 0.3 * rows)]
    noise = np.random.default_rng(3).normal(0.0, SCAN_NOISE, image.shape)
    scan = eight_bits(gaussian_filter(image, SCAN_SIGMA_PX, mode="reflect") + noise)
    half = [part / 2 for part in shift]
    low = moved(moved(averaged(scan.astype(np.float64), 2), half, 1), half, 1)
    large = moved(image, [2 * zoom(part, 2, order=1, grid_mode=True, mode="nearest") for part in shift], 5)
    return eight_bits(low), eight_bits(averaged(large, 2)), eight_bits(large)


def averaged(image: Float, scale: int) -> Float:
    """Return means of scale x scale pixels."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    return image.reshape(height, scale, width, scale).mean(axis=(1, 3))


def moved(image: Float, shift: list[Float], order: int) -> Float:
    """Return an image sampled at p + shift(p) by splines of an order."""
    grid = np.mgrid[: image.shape[0], : image.shape[1]]
    return map_coordinates(
        image, [at + part for at, part in zip(grid, shift, strict=True)], order=order, mode="reflect"
    )


def eight_bits(image: Float) -> Grey:
    """Return grey levels rounded to 8 bits."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


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


def picture(path: Path, results: list[tuple[Case, Grey]]) -> None:
    """Draw what was read, enlarged, restored and clean of every case, zoomed, titled with its figures."""
    figure, axes = plt.subplots(len(results), 4, figsize=(16, 4.4 * len(results)), layout="constrained")
    for row, (case, restored) in zip(axes, results, strict=True):
        enlarged = catmull_rom(case.degraded, case.scale)
        images = {
            "degraded": case.degraded,
            "Catmull-Rom": enlarged,
            "restored": restored,
            "clean": case.clean,
        }
        for axis, (title, image) in zip(row, images.items(), strict=True):
            if image is not case.clean and image.shape == case.clean.shape:
                title += "\n{:.2f} dB, SSIM {:.4f}".format(*figures(image, case.clean))
            factor = clean_image().shape[0] // image.shape[0]
            y, x, side = (value // factor for value in (*ZOOM_YX, ZOOM_PX))
            axis.imshow(
                image[y : y + side, x : x + side], cmap="gray", vmin=0, vmax=255, interpolation="nearest"
            )
            axis.set(xticks=[], yticks=[], title=title)
        row[0].set_ylabel(f"{case.name}, x{case.scale}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(results: list[tuple[Case, Grey]]) -> None:
    """Print PSNR and SSIM of every image that has the size of the clean one."""
    table = Table(title="against the clean image")
    for name in ("case", "image"):
        table.add_column(name)
    for name in ("PSNR dB", "SSIM"):
        table.add_column(name, justify="right")
    for case, restored in results:
        enlarged = "input" if case.scale == 1 else "Catmull-Rom"
        for name, image in ((enlarged, catmull_rom(case.degraded, case.scale)), ("restored", restored)):
            psnr, ssim = figures(image, case.clean)
            table.add_row(f"{case.name} x{case.scale}", name, f"{psnr:.2f}", f"{ssim:.4f}")
        table.add_section()
    console.print(table)


def cases() -> list[Case]:
    """Return what the demo restores."""
    clean = clean_image()
    low, small, large = soft(clean)
    return [
        Case("noisy", 1, "section", "restored", noisy(clean, 1), clean),
        Case("noisy", 2, "section_half", "restored_x2", noisy(clean, 2), clean),
        Case("soft", 1, "soft", "soft_restored", low, small),
        Case("soft", 2, "soft", "soft_restored_x2", low, large),
    ]


def main() -> None:
    """Restore the sample with its report; degrade, restore and compare an image, and leave the picture."""
    started = time.perf_counter()
    FOLDER.mkdir(exist_ok=True)
    run(SAMPLE, FOLDER / "sample.ome.zarr")
    results = []
    for case in cases():
        source, target = (FOLDER / f"{name}.ome.zarr" for name in (case.source, case.target))
        write_ome_zarr(source, case.degraded)
        flags = ("--scale", str(case.scale), "--no-report")
        results.append((case, run(source, target, *flags)))
    picture(FOLDER / "before_after.png", results)
    report(results)
    console.print(f"Picture: {FOLDER / 'before_after.png'} ({time.perf_counter() - started:.0f} s in all)")
    page = FOLDER / "sample.ome.zarr.bigrestore" / "report" / "report.html"
    console.print(f"Report of the sample, for a browser: {page}", soft_wrap=True)


if __name__ == "__main__":
    main()
