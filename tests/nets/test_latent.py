"""Latent fields: every cell its own code, the same code however the section is cut."""

import pytest
import torch

from bigrestore.model.nets.prior.latent import (
    LatentHead,
    LayerDeltas,
    MappingNetwork,
    pixel_norm,
    sample_z_field,
)

ORIGIN = torch.tensor([[10, 400]])


def test_a_window_of_a_sampled_field_is_the_fields_window() -> None:
    whole = sample_z_field(5, 12, 14, 3, 1, ORIGIN)
    origins = torch.tensor([[13, 402], [10, 400], [17, 409]])
    windows = sample_z_field(5, 5, 4, 3, 1, origins)
    assert windows.shape == (3, 5, 5, 4)
    for window, (y, x) in zip(windows, (origins - ORIGIN).tolist(), strict=True):
        assert torch.equal(window, whole[0, :, y : y + 5, x : x + 4])


@pytest.mark.parametrize("other", [{"seed": 4}, {"z": 2}])
def test_another_seed_or_section_has_other_codes(other: dict[str, int]) -> None:
    names = {"seed": 3, "z": 1}
    first = sample_z_field(4, 64, 64, **names, origin=ORIGIN).flatten()
    second = sample_z_field(4, 64, 64, **(names | other), origin=ORIGIN).flatten()
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.1


def test_a_sampled_field_is_unit_normal_and_smooth_by_one_node() -> None:
    field = sample_z_field(16, 256, 256, 0, 0, ORIGIN)[0].double()
    assert field.mean().item() == pytest.approx(0, abs=0.01)
    assert field.var().item() == pytest.approx(1, abs=0.01)
    assert field.pow(4).mean().item() == pytest.approx(3, abs=0.05)
    for step, expected in [(1, 2 / 3), (2, 1 / 6), (3, 0.0)]:
        assert (field[:, step:] * field[:, :-step]).mean().item() == pytest.approx(expected, abs=0.01)
        assert (field[:, :, step:] * field[:, :, :-step]).mean().item() == pytest.approx(expected, abs=0.01)


def test_channels_of_a_sampled_field_are_independent() -> None:
    field = sample_z_field(8, 128, 128, 0, 0, ORIGIN)[0].flatten(1)
    correlation = torch.corrcoef(field) - torch.eye(8)
    assert correlation.abs().max() < 0.06


def test_the_codes_of_a_tile_are_the_sections_codes() -> None:
    torch.manual_seed(0)
    head, mapping = LatentHead(12, 8), MappingNetwork(8)
    bottleneck = torch.randn(1, 12, 9, 11)
    whole = mapping(head(bottleneck))
    tile = mapping(head(bottleneck[..., 2:7, 3:9]))
    torch.testing.assert_close(tile, whole[..., 2:7, 3:9], rtol=0, atol=1e-5)


def test_w_codes_have_a_mean_square_of_one_in_every_cell() -> None:
    w_field = MappingNetwork(16)(sample_z_field(16, 6, 7, 0, 0, ORIGIN))
    torch.testing.assert_close(w_field.square().mean(dim=1), torch.ones(1, 6, 7), rtol=1e-4, atol=1e-4)


def test_different_z_give_different_w() -> None:
    torch.manual_seed(0)
    w_field = MappingNetwork(64)(torch.randn(2, 64, 16, 16))
    cosine = (w_field[0] * w_field[1]).mean(dim=0)
    assert cosine.abs().mean() < 0.5


def test_the_pixel_norm_of_zero_is_zero() -> None:
    assert torch.equal(pixel_norm(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


def test_the_head_can_learn_from_the_first_step() -> None:
    torch.manual_seed(0)
    head, mapping = LatentHead(12, 8), MappingNetwork(8)
    bottleneck = torch.randn(2, 12, 4, 4, requires_grad=True)
    w_field = mapping(head(bottleneck))
    (w_field * torch.randn_like(w_field)).sum().backward()
    for name, parameter in [*head.named_parameters(), ("bottleneck", bottleneck)]:
        assert parameter.grad is not None, name
        assert 1e-6 < parameter.grad.abs().max() < 1e3, name


def test_latent_codes_stay_float32_in_mixed_precision() -> None:
    torch.manual_seed(0)
    head, mapping, deltas = LatentHead(12, 8), MappingNetwork(8), LayerDeltas(8, 2)
    bottleneck = torch.randn(1, 12, 4, 4).bfloat16()
    plain = deltas(mapping(head(bottleneck.float())))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = deltas(mapping(head(bottleneck)))
    for first, second in zip(plain, mixed, strict=True):
        assert torch.equal(first, second)


def test_layers_start_from_one_code_and_then_lean_by_a_tenth() -> None:
    torch.manual_seed(0)
    deltas, w_field = LayerDeltas(6, 3), torch.randn(2, 6, 4, 5)
    assert all(torch.equal(code, w_field) for code in deltas(w_field))
    torch.nn.init.ones_(deltas.deltas[1].bias)
    codes = deltas(w_field)
    assert torch.equal(codes[0], w_field)
    torch.testing.assert_close(codes[1], w_field + 0.1)
