"""The data step is the published one without its periodic image; rounds of it, the denoiser, and the files of parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bigrestore.core.kernels import defocus, fold_downsampling, gaussian
from bigrestore.errors import InputMissingError, ModelError, ModelScaleError, UsageError
from bigrestore.model.nets.checkpoint import find_model, load_model
from bigrestore.model.nets.parts.datastep import data_step, inverse_filters, transposed
from bigrestore.model.nets.parts.drunet import DRUNet, noise_map
from bigrestore.model.nets.parts.part import load_part, make_network, save_part
from bigrestore.model.nets.parts.unrolled import Unrolled, falling_sigmas, unroll
from bigrestore.model.nets.redegrade import KERNEL_PX, redegrade


def kernel_of(scale: int, blur: str = "gaussian") -> Tensor:
    size = KERNEL_PX[scale]
    kernel = gaussian(size, 1.3) if blur == "gaussian" else defocus(size, 2.2)
    return torch.from_numpy(kernel if scale == 1 else fold_downsampling(kernel, "area", scale))[None]


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_transpose_is_the_transpose(scale: int) -> None:
    torch.manual_seed(0)
    kernel, image = kernel_of(scale), torch.rand(1, 1, 64 * scale, 64 * scale)
    samples = torch.zeros(1, 1, 64, 64)
    samples[..., 20:44, 20:44] = torch.rand(24, 24)
    one = (redegrade(image, kernel, scale) * samples).sum()
    other = (image * transposed(samples, kernel, scale)).sum()
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(("blur", "alpha"), [("gaussian", 0.01), ("gaussian", 0.3), ("defocus", 0.1)])
def test_the_data_step_is_that_of_the_fourier_transform_on_a_torus(
    scale: int, blur: str, alpha: float
) -> None:
    """As published: x = F^-1 of (F z' + ...) over a periodic image; compared far from every border."""
    torch.manual_seed(1)
    kernel, side = kernel_of(scale, blur), 128
    z = torch.rand(1, 1, side * scale, side * scale)
    x = torch.zeros(1, 1, side, side)
    x[..., 40:88, 40:88] = torch.rand(48, 48)
    size = kernel.shape[-1]
    offset = (scale - 1) // 2 - size // 2
    long = side * scale
    placed = torch.nn.functional.pad(kernel[0].double(), (0, long - size, 0, long - size)).roll(
        (offset, offset), (0, 1)
    )
    transfer = torch.fft.fft2(placed)
    degraded = torch.fft.ifft2(torch.fft.fft2(z[0, 0].double()) * transfer.conj()).real[::scale, ::scale]
    power = torch.fft.fft2(torch.fft.ifft2(transfer.abs().square()).real[::scale, ::scale]).real
    solved = torch.fft.ifft2(torch.fft.fft2(x[0, 0].double() - degraded) / (power + alpha)).real
    spread = torch.zeros(long, long, dtype=torch.float64)
    spread[::scale, ::scale] = solved
    wanted = z[0, 0] + torch.fft.ifft2(torch.fft.fft2(spread) * transfer).real
    inverse = inverse_filters(kernel, torch.tensor([[alpha]]), scale)[:, 0]
    made = data_step(z, x, torch.ones_like(x), kernel, inverse, scale)[0, 0]
    middle = slice(56 * scale, 72 * scale)
    assert float((made[middle, middle] - wanted[middle, middle]).abs().max()) < 2e-4


def test_damage_is_left_out_of_the_data_step() -> None:
    kernel, x = kernel_of(1), torch.rand(1, 1, 96, 96)
    valid = torch.ones_like(x)
    valid[..., 40:50, 40:50] = 0
    inverse = inverse_filters(kernel, torch.tensor([[0.1]]), 1)[:, 0]
    hidden = torch.where(valid > 0, x, torch.tensor(9.0))
    one, other = (data_step(torch.zeros_like(x), image, valid, kernel, inverse, 1) for image in (x, hidden))
    assert torch.equal(one, other)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_no_round_is_the_interpolation(scale: int) -> None:
    from bigrestore.core.interpolation import catmull_rom

    x = torch.rand(1, 1, 32, 32)
    none = torch.zeros(1, 0)
    made = unroll(DRUNet((8, 8), 1), x, torch.ones_like(x), kernel_of(scale), none, none, scale)
    assert torch.equal(made, x if scale == 1 else catmull_rom(x, scale))


def test_the_noise_of_the_rounds_falls_to_that_of_the_section() -> None:
    sigmas = falling_sigmas(torch.tensor([2 / 255, 0.0]), 6)
    assert bool((sigmas.diff(dim=1) < 0).all())
    assert float(sigmas[0, -1]) == pytest.approx(2 / 255)
    assert float(sigmas[1, -1]) == pytest.approx(0.3 / 255), "rounding alone"


def test_the_unrolled_network_learns_all_of_itself() -> None:
    torch.manual_seed(0)
    net = Unrolled((8, 8), 1, 2, 1)
    torch.nn.init.normal_(net.denoiser.tail.weight, std=0.05)
    x = torch.rand(2, 1, 32, 32)
    y = net(x, torch.ones_like(x), kernel_of(1).expand(2, -1, -1), torch.tensor([1 / 255, 5 / 255]))
    (y * torch.randn_like(y)).sum().backward()
    still = [
        name for name, weight in net.named_parameters() if weight.grad is None or not bool(weight.grad.any())
    ]
    assert set(still) <= {"schedule.0.weight", "schedule.0.bias"}, "behind a layer that starts at zero"


@pytest.mark.parametrize("factor", [0.2, 3.0, 40.0])
def test_the_denoiser_scales_with_its_input(factor: float) -> None:
    torch.manual_seed(0)
    net = DRUNet((8, 16, 16), 1)
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    x, sigma = torch.rand(1, 1, 32, 40), 0.1 * torch.rand(1, 1, 32, 40)
    torch.testing.assert_close(
        net(factor * x, factor * sigma), factor * net(x, sigma), rtol=1e-5, atol=1e-5 * factor
    )


def test_the_noise_map_follows_the_law() -> None:
    x = torch.full((1, 1, 16, 16), 0.5)
    torch.testing.assert_close(noise_map(x, 4e-3, 0.01), torch.full_like(x, (4e-3 * 0.5 + 1e-4) ** 0.5))
    assert float(noise_map(x, 0.0, 0.0).abs().max()) == 0


def test_a_part_comes_back_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"channels": [8, 8], "blocks": 1}
    net = make_network("denoiser", sizes)
    torch.nn.init.normal_(net.tail.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    save_part(
        tmp_path / "d.safetensors", net, "denoiser", 1, {"sizes": sizes, "halo_px": 96, "alignment_px": 8}
    )
    part = load_part("denoiser", 1, tmp_path / "d.safetensors")
    assert part.info["parameters"] == sum(weight.numel() for weight in net.parameters())
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(part.network.state_dict()[name], weight.half().float())


def test_another_file_is_a_sentence(tmp_path: Path, part: Callable[[str, int], Path]) -> None:
    with pytest.raises(UsageError, match="a denoiser, and an unrolled is asked for"):
        load_part("unrolled", 1, part("denoiser", 1))
    with pytest.raises(ModelScaleError, match="is made for scale 2, not for 1"):
        load_part("unrolled", 1, part("unrolled", 2))
    with pytest.raises(InputMissingError, match="no model file"):
        load_part("denoiser", 1, tmp_path / "absent.safetensors")
    with pytest.raises(
        UsageError, match=r"--model is tiny-x1, a restorer, and a denoiser .* `bigrestore train"
    ):
        load_part("denoiser", 1, "tiny-x1")
    with pytest.raises(
        UsageError, match=r"--set resolver is denoiser-x1, a denoiser, and a resolver is asked for"
    ):
        load_part("resolver", 1, "denoiser-x1", option="--set resolver=FILE")
    with pytest.raises(ModelError, match="is a denoiser and no restorer"):
        load_model(part("denoiser", 1))
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(part("denoiser", 1).read_bytes())
    content[-5] ^= 255
    damaged.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="do not match their sha256"):
        load_part("denoiser", 1, damaged)


def test_a_restorer_is_no_part() -> None:
    with pytest.raises(
        UsageError, match="a restorer, and a denoiser is asked for; leave it out for denoiser-x1"
    ):
        load_part("denoiser", 1, find_model("tiny-x1", 1))


def test_numbers_are_float32(part: Callable[[str, int], Path]) -> None:
    network = load_part("denoiser", 1, part("denoiser", 1)).network
    assert all(weight.dtype == torch.float32 for weight in network.parameters())
    assert np.isfinite([float(weight.sum()) for weight in network.parameters()]).all()
