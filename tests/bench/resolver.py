"""The resolver: is a start from the denoiser worth more than three times the training from nothing?

    python -m tests.bench.resolver [--minutes 5] [--folder DIR] [--data IMAGES] [--page]

One resolver goes on from the shipped denoiser for as many minutes of one core, and another begins from nothing for three
times as many, at the rate of a denoiser's own training. Both are trained and judged by the same features, the denoiser's.
The distance is that of the learned map of realness (`bigrestore.training.stages.parts.perceptual`), no training here has
seen it; LPIPS would ask for a backbone that cannot ship. --page writes the table into docs/methods.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from bigrestore.model.nets.parts.drunet import DRUNet, factor_map
from bigrestore.model.nets.parts.part import find_part, load_part, make_network, save_part
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages.parts import resolver
from bigrestore.training.stages.parts.perceptual import texture_distance
from tests.bench.clock import train_or_go_on
from tests.bench.material import data_folder, validation_images
from tests.bench.metrics import RESULTS, markdown_row, write_page
from tests.bench.restorers import unit

LONGER = 3
RATE_FROM_NOTHING, RATE_GOING_ON = 1e-3, 2e-4
FACTOR = 2
WHOLE_PX = 16
"""Sides of images are cut to whole pixels of the network's last grid, at half the size too."""
HEADER = ("resolver", "CPU minutes", "steps", "held-out loss", "PSNR dB", "SSIM", "distance")


def trained(name: str, minutes: float, options: argparse.Namespace) -> Path:
    """Train a resolver from the denoiser or from nothing, unless it was trained before; return its file."""
    path: Path = options.folder / f"{name.replace(' ', '-')}-{minutes:g}min.safetensors"
    if path.is_file():
        return path
    shipped = load_part("denoiser", 1, None, "--start")
    loaded = shipped.network
    assert isinstance(loaded, DRUNet)
    begun = name != "from nothing"
    start = find_part("denoiser", 1, None, "--start")
    if not begun:
        torch.manual_seed(options.seed)
        start = options.folder / "untrained.safetensors"
        facts = {key: shipped.info[key] for key in ("sizes", "halo_px", "alignment_px")}
        options.folder.mkdir(parents=True, exist_ok=True)
        save_part(start, make_network("denoiser", facts["sizes"]), "denoiser", 1, facts)
    asked = StageOptions(
        minutes=minutes,
        start=start,
        rate=RATE_GOING_ON if begun else RATE_FROM_NOTHING,
        threads=1,
        seed=options.seed,
    )
    with mock.patch.object(resolver, "Features", lambda _, own=resolver.Features: own(loaded)):
        return train_or_go_on("resolver", options.data, path, asked)


@torch.no_grad()
def row_of(name: str, path: Path) -> str:
    """Judge a resolver on its held-out windows, and on the validation images reduced and enlarged by 2."""
    part = load_part("resolver", 1, path)
    record = part.info["training"]["resolver"]
    facts = (
        f"{record['seconds'] / 60:.0f}",
        f"{record['steps']:,}",
        f"{record['figures']['held_out_loss']:.3f}",
    )
    return markdown_row((name, *facts, *_judged(part.network)))


def _judged(network: torch.nn.Module | None) -> tuple[str, str, str]:
    """Return PSNR, SSIM and distance in the mean of the images; without a network those of the enlarged ones."""
    figures = []
    for image in validation_images(256):
        height, width = (side - side % WHOLE_PX for side in image.pixels.shape)
        clean = torch.from_numpy(unit(image.pixels[:height, :width]))[None, None]
        small = torch.nn.functional.avg_pool2d(clean, FACTOR)
        enlarged = torch.nn.functional.interpolate(small, clean.shape[-2:], mode="bicubic").clamp(0, 1)
        made: Tensor = enlarged
        if network is not None:
            told = torch.full((1, 1, 1, 1), float(FACTOR))
            made = network(enlarged, factor_map(enlarged, told)).clamp(0, 1)
        psnr = -10 * (made - clean).square().mean().log10()
        ssim = resolver._similarity(made, clean)
        figures.append((float(psnr), ssim, float(texture_distance(made, clean).mean())))
    psnr_db, ssim, distance = torch.tensor(figures).mean(0).tolist()
    return f"{psnr_db:.2f}", f"{ssim:.4f}", f"{distance:.4f}"


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.resolver", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=RESULTS / "resolver")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help="write the table into docs/methods.md")
    options = parser.parse_args()
    options.data = options.data or data_folder() / "train"
    torch.set_num_threads(1)
    lines = [markdown_row(HEADER), markdown_row(["---"] * len(HEADER))]
    lines.append(markdown_row(("enlarged by cubic interpolation", "", "", "", *_judged(None))))
    for name, minutes in (("from the denoiser", options.minutes), ("from nothing", LONGER * options.minutes)):
        lines.append(row_of(name, trained(name, minutes, options)))
        print("\n".join(lines), flush=True)
    if options.page:
        write_page("methods.md", "resolver", "\n".join(lines))


if __name__ == "__main__":
    main()
