"""The blocks of backbones are what their papers say, by loops; a new backbone is the interpolation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.errors import ModelError
from bigrestore.model.nets.backbones.attention import WindowAttention, join_windows, split_windows
from bigrestore.model.nets.backbones.convolutional import ConvolutionalBlock, FourierBranch
from bigrestore.model.nets.backbones.hat import ChannelAttentionBranch, CrossBlock, HybridBlock, HybridGroup
from bigrestore.model.nets.backbones.uformer import LeFF, LeWinBlock, Uformer
from bigrestore.model.nets.parts.backbone import BODIES, BackboneNet
from bigrestore.model.nets.parts.part import load_part, make_network, save_part
from bigrestore.settings.presets import BACKBONES

NANO: dict[str, dict[str, Any]] = {
    "uformer": {"channels": 4, "depths": [1, 2, 2], "head_channels": 4, "side": 4, "modulators": True},
    "rft": {"channels": [4, 8], "blocks": 1, "fourier": True},
    "hat": {"channels": 8, "heads": 2, "groups": 1, "depth": 2, "side": 4},
    "unet": {"channels": [4, 8], "blocks": 1, "fourier": False},
}
CASES = [(arch, scale) for arch, row in BACKBONES.items() for scale in row.scales]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


PIXELS = ((0, 0), (1, 6), (3, 3), (5, 11), (7, 4), (7, 11))
"""Corners, the seams of windows, and a middle, of 8 x 12."""


def attended(attention: WindowAttention, x: Tensor, y: int, column: int) -> Tensor:
    """Return what `WindowAttention` makes of a pixel of (H, W, C), key by key and head by head."""
    height, width, channels = x.shape
    side, shift, key_side = attention.side, attention.shift, attention.key_side
    depth, span, lead = channels // attention.heads, side + key_side - 1, (key_side - side) // 2

    def token(row: int, place: int) -> Tensor:
        """Return query, key and value of a place of the rolled map, with the modulator of its window."""
        pixel = x[(row + shift) % height, (place + shift) % width]
        if attention.modulator is not None:
            pixel = pixel + attention.modulator[row % side, place % side]
        return attention.first(pixel)

    row, place = (y - shift) % height, (column - shift) % width
    query = token(row, place)[:channels].view(attention.heads, depth)
    top, left = row - row % side - lead, place - place % side - lead
    logits, values = [], []
    for ky in range(top, top + key_side):
        for kx in range(left, left + key_side):
            beyond = not (0 <= ky < height and 0 <= kx < width)
            far = abs((ky + shift) % height - y) >= side or abs((kx + shift) % width - column) >= side
            if shift and far:  # the roll brought it here from the other border of the map
                continue
            keys, seen = ((1 - beyond) * token(ky, kx)[channels:]).view(2, attention.heads, depth)
            number = (row - ky + key_side - 1 - lead) * span + place - kx + key_side - 1 - lead
            logits.append((query * keys).sum(dim=1) / math.sqrt(depth) + attention.bias[number])
            values.append(seen)
    weights = torch.stack(logits).softmax(dim=0)
    return attention.last((weights[..., None] * torch.stack(values)).sum(dim=0).flatten())


@pytest.mark.parametrize(
    "options",
    [{}, {"modulated": True}, {"shift": 2}, {"shift": 2, "modulated": True}, {"key_side": 6}],
    ids=str,
)
def test_attention_is_that_of_loops(options: dict[str, Any]) -> None:
    attention = WindowAttention(6, 2, 4, **options)
    torch.nn.init.normal_(attention.bias)
    if attention.modulator is not None:
        torch.nn.init.normal_(attention.modulator)
    x = torch.randn(1, 8, 12, 6)
    with torch.no_grad():
        made = attention(x)[0]
        for y, column in PIXELS:
            wanted = attended(attention, x[0], y, column)
            torch.testing.assert_close(made[y, column], wanted, rtol=1e-4, atol=1e-5)


def test_images_of_a_batch_do_not_meet() -> None:
    attention, x = WindowAttention(4, 2, 4, shift=2), torch.randn(3, 8, 8, 4)
    with torch.no_grad():
        each = torch.cat([attention(image[None]) for image in x])
        torch.testing.assert_close(attention(x), each)


def test_windows_are_cut_and_joined() -> None:
    x = torch.randn(2, 8, 12, 3)
    windows = split_windows(x, 4)
    assert torch.equal(windows[4].view(4, 4, 3), x[0, 4:8, 4:8]), "the second of the second row"
    assert torch.equal(join_windows(windows, 4, 8, 12), x)


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (7, 12)])
def test_the_fourier_branch_is_that_of_dense_transforms(size: tuple[int, int]) -> None:
    branch, x = FourierBranch(2), torch.randn(1, 2, *size)
    rows, columns = (
        torch.exp(-2j * math.pi * torch.outer(torch.arange(n), torch.arange(n)).to(torch.complex64) / n)
        / math.sqrt(n)
        for n in size
    )
    spectrum = rows @ x.to(torch.complex64) @ columns
    stacked = torch.cat([spectrum.real, spectrum.imag], dim=1)
    mixed = torch.zeros_like(stacked)
    with torch.no_grad():
        first, last = (layer.weight[:, :, 0, 0] for layer in (branch.first, branch.last))
        for y in range(size[0]):
            for column in range(size[1] // 2 + 1):
                hidden = (first @ stacked[0, :, y, column] + branch.first.bias).clamp_min(0)
                mixed[0, :, y, column] = last @ hidden + branch.last.bias
        half = torch.complex(*mixed.chunk(2, dim=1))
        # The other half is the conjugate of this one, and the zero column (and the last, if even) their own.
        own = range(1, (size[1] + 1) // 2)
        full = half.clone()
        for column in own:
            mirrored = half[..., column].conj().roll(-1, dims=2).flip(2)
            full[..., size[1] - column] = mirrored
        for column in {0, size[1] // 2} - set(own):
            mirrored = half[..., column].conj().roll(-1, dims=2).flip(2)
            full[..., column] = (half[..., column] + mirrored) / 2
        wanted = (rows.conj() @ full @ columns.conj()).real
        torch.testing.assert_close(branch(x), wanted, rtol=1e-4, atol=1e-5)


def test_a_fourier_branch_sees_the_whole_window() -> None:
    branch, x = FourierBranch(1), torch.randn(1, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(branch(x)[0, 0, 3, 4], x)
    assert float((gradient.abs() > 1e-8).float().mean()) > 0.99


def test_blocks_are_sums_of_their_parts() -> None:
    x = torch.randn(1, 8, 8, 6)
    planes = x.permute(0, 3, 1, 2)
    lewin, hybrid, cross = (
        LeWinBlock(6, 2, 4, 2, modulated=False),
        HybridBlock(6, 2, 4, 0),
        CrossBlock(6, 2, 4),
    )
    group, convolutional = HybridGroup(6, 2, 4, 1), ConvolutionalBlock(6, fourier=True)
    with torch.no_grad():
        h = x + lewin.attention(lewin.before(x))
        assert torch.equal(lewin(x), h + lewin.leff(lewin.between(h)))
        n = hybrid.before(x)
        h = x + hybrid.attention(n) + 0.01 * hybrid.branch(n)
        assert torch.equal(hybrid(x), h + hybrid.perceptron(hybrid.between(h)))
        assert cross.attention.key_side == 6
        h = group.last(group.cross(group.blocks(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert torch.equal(group(x), x + h)
        assert convolutional.fourier is not None
        h = convolutional.last(convolutional.first(planes).clamp_min(0)) + convolutional.fourier(planes)
        torch.testing.assert_close(convolutional(planes), planes + h)


def test_channel_attention_weighs_by_means_of_the_whole_input() -> None:
    branch, x = ChannelAttentionBranch(48), torch.randn(2, 6, 5, 48)
    with torch.no_grad():
        h = branch.last(F.gelu(branch.first(x.permute(0, 3, 1, 2))))
        for image in range(2):
            means = torch.stack([h[image, channel].mean() for channel in range(48)])
            weights = torch.sigmoid(branch.excite(branch.squeeze(means).clamp_min(0)))
            wanted = (h[image] * weights[:, None, None]).permute(1, 2, 0)
            torch.testing.assert_close(branch(x)[image], wanted)


def test_the_perceptron_of_a_window_looks_one_pixel_beyond() -> None:
    leff, x = LeFF(4), torch.randn(1, 9, 9, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(leff(x)[0, 4, 4].sum(), x)
    seen = (gradient.abs().sum(dim=3)[0] > 0).nonzero()
    assert seen.min(dim=0).values.tolist() == [3, 3]
    assert seen.max(dim=0).values.tolist() == [5, 5]


def test_modulators_are_of_the_decoder_and_an_option() -> None:
    with_, without = (
        [
            name
            for name, _ in Uformer(**{**NANO["uformer"], "modulators": on}).named_parameters()
            if "modul" in name
        ]
        for on in (True, False)
    )
    assert without == []
    assert with_
    assert all(name.startswith("decoder") for name in with_)


@pytest.mark.parametrize(("arch", "scale"), CASES)
def test_a_new_backbone_is_the_interpolation(arch: str, scale: int) -> None:
    x = torch.rand(2, 1, 16, 16)
    made = BackboneNet(arch, scale, **NANO[arch])(x)
    assert torch.equal(made, x if scale == 1 else catmull_rom(x, scale))


@pytest.mark.parametrize(("arch", "scale"), CASES)
def test_all_of_a_backbone_learns(arch: str, scale: int) -> None:
    net = BackboneNet(arch, scale, **NANO[arch])
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    for name, bias in net.named_parameters():
        if name.endswith("squeeze.bias"):  # its single unit is dead at the start for most draws
            torch.nn.init.ones_(bias)
    y = net(torch.rand(2, 1, 16, 16))
    assert y.shape == (2, 1, 16 * scale, 16 * scale)
    (y * torch.randn_like(y)).sum().backward()
    still = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


@pytest.mark.parametrize(
    ("arch", "millions"), [("uformer", 0.98), ("rft", 0.59), ("hat", 0.47), ("unet", 0.55)]
)
def test_the_sizes_are_those_of_the_documentation(arch: str, millions: float) -> None:
    row = BACKBONES[arch]
    count = sum(weight.numel() for weight in BackboneNet(arch, row.scales[0], **row.sizes).parameters())
    assert round(count / 1e6, 2) == millions


def test_every_architecture_has_a_body() -> None:
    assert set(BODIES) == set(BACKBONES)


@pytest.mark.parametrize("arch", list(NANO))
def test_a_backbone_comes_back_as_it_was(tmp_path: Path, arch: str) -> None:
    scale = BACKBONES[arch].scales[-1]
    sizes = {"arch": arch, **NANO[arch], "scale": scale}
    net = make_network("backbone", sizes)
    facts = {"sizes": sizes, "halo_px": 96, "alignment_px": 96, "window_px": 128}
    save_part(tmp_path / "b.safetensors", net, "backbone", scale, facts)
    part = load_part("backbone", scale, tmp_path / "b.safetensors")
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(part.network.state_dict()[name], weight.half().float())


@pytest.mark.parametrize(
    "sizes", [{"arch": "swinir"}, {"arch": "rft", "depth": 3}, {"arch": "hat", "blocks": 1}]
)
def test_an_unknown_architecture_is_a_sentence(sizes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"This version knows no backbone of .*; update bigrestore"):
        make_network("backbone", {"scale": 2, **sizes})
