"""How well images are restored: PSNR and SSIM on val/, do no harm, and the estimated blur.

Every case of the table is degraded by `tests.bench.material`, restored blind, and compared with the clean
original beside the classical methods that know the kernel. Checkpoints of a training under way
can be compared in one call, quickly on the middle of each image:

    python -m tests.bench.quality --model runs/a.safetensors runs/b.safetensors --crop 512 --cases a,c
    python -m tests.bench.quality --classical
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tests.bench import classical, material
from tests.bench.classical import best_richardson_lucy, best_wiener, catmull_rom_twice
from tests.bench.material import (
    CASES,
    MARGIN_PX,
    Case,
    Pair,
    ValidationImage,
    gaussian,
    sigma_of,
    validation_images,
)
from tests.bench.metrics import RESULTS, Figure, figure_table, psnr, ssim, table, to_bytes, write_json
from tests.bench.models import default_model, load_method
from tests.bench.restorers import Candidate, from_method, from_run

GAIN_TARGETS_DB = {"a": 2.9, "b": 3.2, "c": 2.0, "d": 6.1, "x2": 1.6}
HARM_MEAN_TARGET, HARM_TARGET = 0.4, 0.7
ESTIMATOR_TARGET = 0.15
ESTIMATOR_SIGMAS = (0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5)
ESTIMATOR_NOISES = (1.0, 3.0)
ALL_CASES = (*CASES, "harm", "estimator")


def judge_case(candidate: Candidate, case: Case, images: Sequence[ValidationImage]) -> dict[str, Any]:
    """Return gains in PSNR and SSIM of the candidate over the case's reference, image by image."""
    rows = []
    for image in images:
        pair = case.apply(image)
        reference = reference_of(pair, case)
        restored = to_bytes(candidate.restore(pair.degraded))
        rows.append(
            {
                "image": image.name,
                "psnr_reference": psnr(reference, pair.clean),
                "psnr": psnr(restored, pair.clean),
                "ssim_reference": ssim(reference, pair.clean),
                "ssim": ssim(restored, pair.clean),
            }
        )
    return {"case": case.key, **summary(rows), "images": rows}


def judge_classical(case: Case, images: Sequence[ValidationImage]) -> dict[str, dict[str, Any]]:
    """Return the same for Richardson-Lucy and Wiener with the true kernel and their best setting.

    They are slow and never change, so what was found is kept under a key made of the images and of the code.
    """
    digest = hashlib.blake2b(digest_size=8)
    for module in (classical, material):
        digest.update(Path(str(module.__file__)).read_bytes())
    for image in images:
        digest.update(image.pixels.tobytes())
    kept = RESULTS / "classical" / f"{case.key}-{digest.hexdigest()}.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(_judge_classical(case, images)))
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text())
    return found


def _judge_classical(case: Case, images: Sequence[ValidationImage]) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[dict[str, Any]]] = {"richardson-lucy": [], "wiener": []}
    for image in images:
        pair = case.apply(image)
        before = {"psnr_reference": psnr(pair.degraded, pair.clean), "image": image.name}
        before["ssim_reference"] = ssim(pair.degraded, pair.clean)
        for name, (restored, setting) in (
            ("richardson-lucy", best_richardson_lucy(pair)),
            ("wiener", best_wiener(pair)),
        ):
            after = {
                "psnr": psnr(restored, pair.clean),
                "ssim": ssim(restored, pair.clean),
                "setting": setting,
            }
            rows[name].append(before | after)
    return {name: {"case": case.key, **summary(found), "images": found} for name, found in rows.items()}


def reference_of(pair: Pair, case: Case) -> NDArray[np.uint8]:
    """Return what the restored image is compared with: the input, enlarged by Catmull-Rom at x2."""
    return catmull_rom_twice(pair.degraded) if case.scale == 2 else pair.degraded


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean gain in dB and whether SSIM rose on every image."""
    gains = [row["psnr"] - row["psnr_reference"] for row in rows]
    return {
        "gain_db": float(np.mean(gains)),
        "ssim_gain": float(np.mean([row["ssim"] - row["ssim_reference"] for row in rows])),
        "ssim_higher_on_all": all(row["ssim"] > row["ssim_reference"] for row in rows),
    }


def judge_harm(candidate: Candidate, images: Sequence[ValidationImage]) -> dict[str, Any]:
    """Return how far undegraded images are changed: RMS in grey levels of 8 bits, per image and the mean."""
    changes = {}
    for image in images:
        clean = image.pixels[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        difference = to_bytes(candidate.restore(clean)).astype(np.float64) - clean
        changes[image.name] = float(np.sqrt(np.mean(difference**2)))
    return {
        "rms_mean": float(np.mean(list(changes.values()))),
        "rms_worst": max(changes.values()),
        "rms": changes,
    }


def judge_estimator(candidate: Candidate, images: Sequence[ValidationImage]) -> dict[str, Any]:
    """Return the relative error of the estimated sigma over blurs of 0.8 to 2.5 px and two noises."""
    assert candidate.analyse is not None
    rows = []
    for image in images:
        for sigma in ESTIMATOR_SIGMAS:
            for noise in ESTIMATOR_NOISES:
                case = Case(f"estimator {sigma} {noise}", "", partial(gaussian, sigma, sigma), noise)
                pair = case.apply(image)
                found = sigma_of(candidate.analyse(pair.degraded).kernel)
                rows.append({"image": image.name, "sigma": sigma, "noise": noise, "found": found})
    errors = [abs(row["found"] - row["sigma"]) / row["sigma"] for row in rows]
    return {"median_error": float(np.median(errors)), "worst_error": max(errors), "estimates": rows}


def judge(candidate: Candidate, keys: Sequence[str], images: Sequence[ValidationImage]) -> dict[str, Any]:
    """Return every figure of one candidate that its scale allows."""
    started = time.perf_counter()
    results: dict[str, Any] = {"candidate": candidate.name, "scale": candidate.scale, "cases": {}}
    for key in keys:
        if key in CASES and CASES[key].scale == candidate.scale:
            results["cases"][key] = judge_case(candidate, CASES[key], images)
    if "harm" in keys and candidate.scale == 1:
        results["harm"] = judge_harm(candidate, images)
    if "estimator" in keys and candidate.scale == 1 and candidate.analyse is not None:
        results["estimator"] = judge_estimator(candidate, images)
    results["seconds"] = time.perf_counter() - started
    return results


def figures(results: dict[str, Any], opponents: dict[str, dict[str, Any]] | None = None) -> list[Figure]:
    """Return the bench lines of one candidate; `opponents` maps a case to the opponents' results."""
    lines = []
    for key, found in results["cases"].items():
        target = GAIN_TARGETS_DB[key]
        gain = found["gain_db"]
        over = "Catmull-Rom" if CASES[key].scale == 2 else "input"
        lines.append(
            Figure(
                f"PSNR over {over}, {CASES[key].title}", f">= +{target} dB", f"{gain:+.2f} dB", gain >= target
            )
        )
        raised = found["ssim_higher_on_all"]
        measured = f"{found['ssim_gain']:+.4f} mean"
        lines.append(Figure(f"  SSIM ({key})", "higher on every image", measured, raised))
        for name, opponent in (opponents or {}).get(key, {}).items():
            beaten = gain > opponent["gain_db"]
            text = f"{gain:+.2f} against {opponent['gain_db']:+.2f} dB"
            lines.append(Figure(f"  against {name} told the kernel ({key})", "beaten", text, beaten))
    if "harm" in results:
        mean, worst = results["harm"]["rms_mean"], results["harm"]["rms_worst"]
        met = mean <= HARM_MEAN_TARGET and worst <= HARM_TARGET
        target, text = (
            f"<= {HARM_MEAN_TARGET} mean, {HARM_TARGET} worst",
            f"{mean:.2f} mean, {worst:.2f} worst",
        )
        lines.append(Figure("undegraded image changed by, RMS of 255", target, text, met))
    if "estimator" in results:
        error = results["estimator"]["median_error"]
        met = error <= ESTIMATOR_TARGET
        lines.append(Figure("estimated sigma, median error", "<= 15 %", f"{100 * error:.1f} %", met))
    return lines


def overview(all_results: Sequence[dict[str, Any]], keys: Sequence[str]) -> str:
    """Return one row per candidate: the gain of every case, harm and estimator."""
    shown = [key for key in keys if any(key in result["cases"] for result in all_results)]
    rows = []
    for result in all_results:
        row = [result["candidate"]]
        for key in shown:
            found = result["cases"].get(key)
            mark = "" if found is None or found["ssim_higher_on_all"] else "*"
            row.append("-" if found is None else f"{found['gain_db']:+.2f}{mark}")
        harm, estimator = result.get("harm"), result.get("estimator")
        row.append("-" if harm is None else f"{harm['rms_mean']:.2f}/{harm['rms_worst']:.2f}")
        row.append("-" if estimator is None else f"{100 * estimator['median_error']:.1f}%")
        row.append(f"{result['seconds']:.0f}")
        rows.append(row)
    return table(("candidate", *shown, "harm mean/worst", "sigma", "s"), rows) + (
        "\ngains in dB of PSNR; * marks an image whose SSIM did not rise"
    )


def per_image(results: dict[str, Any]) -> str:
    """Return the gains of one candidate image by image."""
    rows = [
        (
            key,
            row["image"],
            f"{row['psnr_reference']:.2f}",
            f"{row['psnr']:.2f}",
            f"{row['psnr'] - row['psnr_reference']:+.2f}",
            f"{row['ssim_reference']:.4f}",
            f"{row['ssim']:.4f}",
        )
        for key, found in results["cases"].items()
        for row in found["images"]
    ]
    rows += [
        ("harm", name, "", "", f"{rms:.2f}", "", "")
        for name, rms in results.get("harm", {}).get("rms", {}).items()
    ]
    return table(("case", "image", "PSNR in", "PSNR out", "gain", "SSIM in", "SSIM out"), rows)


def classical_overview(found: dict[str, dict[str, Any]]) -> str:
    """Return the gains of the classical methods case by case."""
    rows = [
        (key, name, f"{result['gain_db']:+.2f}", " ".join(f"{row['setting']:g}" for row in result["images"]))
        for key, opponents in found.items()
        for name, result in opponents.items()
    ]
    return table(("case", "method, told the kernel", "gain dB", "best setting of each image"), rows)


def measure(
    model_x1: str | None = None,
    model_x2: str | None = None,
    crop_px: int | None = None,
    device: str = "cpu",
) -> list[Figure]:
    """Return the figures of this module, restored by whole runs, with every image printed and written.

    Gains are those of realness 0; what realness costs of them has a module of its own. That nothing sharp is harmed is
    measured at the realness that the model states as well.
    """
    images = validation_images(crop_px)
    opponents = {key: judge_classical(CASES[key], images) for key in CASES if CASES[key].scale == 1}
    print(classical_overview(opponents), end="\n\n")
    lines, results = [], []
    for scale, model in ((1, model_x1), (2, model_x2)):
        name = model or default_model(scale)
        method = load_method(name, scale=scale, realness=0.0, device=device, precision="auto")
        results.append(judge(from_run(f"{name} x{scale}", method), ALL_CASES, images))
        print(per_image(results[-1]), end="\n\n")
        lines += figures(results[-1], opponents)
        usual = load_method(name, scale=scale, device=device, precision="auto")
        stated = float(str(usual.describe()["realness"]))
        if scale == 1 and stated:
            found = judge(from_run(f"{name} x{scale}, realness {stated:g}", usual), ("harm",), images)
            results.append(found)
            lines += [
                attrs.evolve(line, name=f"  {line.name}, at realness {stated:g}") for line in figures(found)
            ]
    write_json("quality", {"candidates": results, "classical": opponents, "crop": crop_px})
    return lines


def candidates(options: argparse.Namespace) -> list[Candidate]:
    """Return what the command line asks to be judged."""
    found = []
    for name in options.model:
        method = load_method(
            name,
            scale=options.scale,
            realness=options.realness,
            device=options.device,
            precision=options.precision,
        )
        title = Path(name).stem if name.endswith(".safetensors") else name
        make = from_run if options.through_run else from_method
        found.append(make(f"{title} (run)" if options.through_run else title, method))
    return found


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality", description=__doc__.split("\n")[0])
    parser.add_argument("--model", nargs="*", default=[], help="model files or names; several are compared")
    parser.add_argument("--scale", type=int, default=None, help="scale of a model that is given by name")
    parser.add_argument("--cases", default=",".join(ALL_CASES), help="which figures (default: all)")
    parser.add_argument(
        "--crop", type=int, default=None, help="only the middle CROP x CROP pixels of each image"
    )
    parser.add_argument("--realness", type=float, default=0.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument("--classical", action="store_true", help="also Richardson-Lucy and Wiener")
    parser.add_argument(
        "--through-run", action="store_true", help="restore files by the whole run, not by the bare network"
    )
    parser.add_argument("--images", action="store_true", help="print every image, not only means")
    options = parser.parse_args()
    options.keys = [key.strip() for key in options.cases.split(",") if key.strip()]
    unknown = set(options.keys) - set(ALL_CASES)
    if unknown:
        parser.error(f"unknown cases {', '.join(sorted(unknown))}; there are {', '.join(ALL_CASES)}")
    if not options.model and not options.classical:
        parser.error("name a --model, or ask for --classical")
    return options


def main() -> None:
    """Judge every candidate and print the tables."""
    options = arguments()
    import torch

    torch.set_num_threads(options.threads)
    images = validation_images(options.crop)
    opponents: dict[str, dict[str, Any]] = {}
    if options.classical:
        one = [key for key in options.keys if key in CASES and CASES[key].scale == 1]
        opponents = {key: judge_classical(CASES[key], images) for key in one}
        print(classical_overview(opponents), end="\n\n")
    results = []
    for candidate in candidates(options):
        results.append(judge(candidate, options.keys, images))
        print(f"## {candidate.name}\n{figure_table(figures(results[-1], opponents))}\n", flush=True)
        if options.images:
            print(per_image(results[-1]), end="\n\n")
    if results:
        print(overview(results, options.keys))
    path = write_json("quality", {"candidates": results, "classical": opponents, "crop": options.crop})
    print(f"written: {path}")


if __name__ == "__main__":
    main()
