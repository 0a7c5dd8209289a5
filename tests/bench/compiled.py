"""Would torch.compile make the U-Net faster on a processor? Its convolutions, frozen, against the package's own.

    python -m tests.bench.compiled [--training] [--scale 1] [--side 1024] [--rounds 9]

Inductor compiles everything between the folded input and the heads, in bf16; folding and unfolding stay outside, because
inductor of torch 2.13 cannot compile those. Weights are frozen in a tile, and --training goes forward and back through a
batch of patches as stage `fidelity` takes them. Both are run in turn on one thread; the ratio is the median of the
rounds, of processor time. It is the most that a whole run or step can gain.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch._inductor.config as inductor
import torch.nn.functional as F
from torch import Tensor

from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.convolution import SLOPE
from bigrestore.model.nets.unet import UNet
from bigrestore.training.stages.fidelity import FIDELITY_BATCH, FIDELITY_PATCH_PX

Call = Callable[[], object]


def body(unet: UNet, folded: Tensor, embedding: Tensor) -> list[Tensor]:
    """Return what the heads make of a folded input."""
    h = unet.stem(folded)
    skips: list[Tensor] = []
    for index, blocks in enumerate(unet.encoder):
        h = unet.down[index - 1](h) if index else h
        for block in blocks:  # type: ignore[attr-defined]
            h = block(h, embedding)
        skips.append(h)
    heads = [unet.grey[-1](h)]
    for index in range(len(unet.decoder) - 1, -1, -1):
        raised = F.interpolate(unet.up[index](h), scale_factor=2, mode="bilinear", align_corners=False)
        h = raised + skips[index]
        for block in unet.decoder[index]:  # type: ignore[attr-defined]
            h = block(h, embedding)
        heads += [unet.grey[index - 1](h)] if index else []
    return [*heads, unet.head(h)]


def seconds_of(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def of_a_tile(unet: UNet, side: int) -> tuple[Call, Call]:
    """Return the package's own and the compiled restoration of a tile."""
    inductor.freezing = True
    folded = torch.rand(1, unet.stem.in_channels, side, side).bfloat16()
    folded = folded.contiguous(memory_format=torch.channels_last)
    halved = copy.deepcopy(unet).bfloat16()
    compiled = torch.compile(lambda image, code: body(halved, image, code), dynamic=False)
    with torch.no_grad():
        embedding = F.leaky_relu(unet.embed(torch.rand(1, 24)), SLOPE)

    @torch.no_grad()
    def own() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return body(unet, folded, embedding)

    @torch.no_grad()
    def other() -> object:
        return compiled(folded, embedding.bfloat16())

    return own, other


def of_a_step(unet: UNet, side: int) -> tuple[Call, Call]:
    """Return the package's own and the compiled way forward and back through a batch."""
    unet.train().requires_grad_(True)
    folded = torch.rand(FIDELITY_BATCH, unet.stem.in_channels, side, side)
    codes = torch.rand(FIDELITY_BATCH, 24)

    def loss(image: Tensor, code: Tensor) -> Tensor:
        made = body(unet, image, F.leaky_relu(unet.embed(code), SLOPE))
        return torch.stack([head.float().square().mean() for head in made]).sum()

    def step(function: Callable[[Tensor, Tensor], Tensor]) -> None:
        unet.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            found = function(folded, codes)
        found.backward()

    compiled = torch.compile(loss, dynamic=False)
    return lambda: step(loss), lambda: step(compiled)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compiled", description=__doc__)
    parser.add_argument("--training", action="store_true", help="a step of training instead of a tile")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument(
        "--side", type=int, default=0, help="input pixels; 0: 1024 for a tile, 96 for a patch"
    )
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    unet = load_model(f"tiny-x{asked.scale}").restorer.unet.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    side = asked.side or (FIDELITY_PATCH_PX if asked.training else 1024)
    own, other = (of_a_step if asked.training else of_a_tile)(unet, side // unet.unshuffle)
    warm_up = time.perf_counter()
    own(), other()
    print(f"warm-up {time.perf_counter() - warm_up:.0f} s")
    ratios = [seconds_of(own) / seconds_of(other) for _ in range(asked.rounds)]
    print(f"x{asked.scale}: compiled {statistics.median(ratios):.2f} times as fast")


if __name__ == "__main__":
    main()
