"""Would torch.compile make the U-Net faster on a processor? Its convolutions, frozen, against the package's own.

    python -m tests.bench.compiled [--scale 1] [--side 1024] [--rounds 9]

Inductor compiles everything between the folded input and the heads, in bf16 with frozen weights; folding and unfolding
stay outside, because inductor of torch 2.13 cannot compile those. Both are run in turn on one thread; the ratio is the
median of the rounds, of processor time. 1.3 was asked for on whole runs, of which this is the most that can be gained.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.convolution import SLOPE
from bigrestore.model.nets.unet import UNet


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


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compiled", description=__doc__)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--side", type=int, default=1024, help="of the tile, input pixels")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    import torch._inductor.config as inductor

    inductor.freezing = True
    unet = load_model(f"tiny-x{asked.scale}").restorer.unet.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    side = asked.side // unet.unshuffle
    folded = torch.rand(1, unet.stem.in_channels, side, side).bfloat16()
    folded = folded.contiguous(memory_format=torch.channels_last)
    halved = copy.deepcopy(unet).bfloat16()
    compiled = torch.compile(lambda image, code: body(halved, image, code), dynamic=False)
    with torch.no_grad():
        embedding = F.leaky_relu(unet.embed(torch.rand(1, 24)), SLOPE)

        def own() -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                return body(unet, folded, embedding)

        def other() -> object:
            return compiled(folded, embedding.bfloat16())

        warm_up = time.perf_counter()
        own(), other()
        print(f"warm-up {time.perf_counter() - warm_up:.0f} s")
        ratios = [seconds_of(own) / seconds_of(other) for _ in range(asked.rounds)]
    print(f"x{asked.scale}: compiled {statistics.median(ratios):.2f} times as fast")


if __name__ == "__main__":
    main()
