"""The restorer as a whole: untrained it interpolates, and tiles leave no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.errors import UsageError
from bigrestore.model.nets import guards
from bigrestore.model.nets.halo import TOLERANCE, probe_halo
from bigrestore.model.nets.restorer import Conditions, Restorer
from bigrestore.model.nets.wiener import wiener_filters
from bigrestore.settings.presets import PRESETS, get_preset

ORIGIN = torch.zeros(1, 2, dtype=torch.int64)


def kernel_of(scale: int) -> Tensor:
    """Return the kernel of plain area downsampling."""
    size = 41 if scale == 4 else 21
    start = size // 2 - (scale - 1) // 2
    kernel = torch.zeros(size, size)
    kernel[start : start + scale, start : start + scale] = 1 / scale**2
    return kernel


def conditions(scale: int, **changes: object) -> Conditions:
    settings: dict[str, object] = {"noise_gain": 0.0, "read_noise": 0.01} | changes
    return Conditions(kernel_of(scale), torch.zeros(24), **settings)  # type: ignore[arg-type]


def filters_of(scale: int) -> Tensor:
    return wiener_filters(kernel_of(scale)[None], torch.tensor([0.01]), scale)


def trained_like(scale: int, *, with_prior: bool = False, seed: int = 0) -> Restorer:
    """Return a nano restorer without zeros in its zero-initialised convolutions."""
    torch.manual_seed(seed)
    model = Restorer(get_preset("nano"), scale, with_prior=with_prior).eval()
    with torch.no_grad():
        for parameter in model.unet.parameters():
            if not bool(parameter.any()):
                parameter.normal_(0, 0.05)
    return model


def scene(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, height // 8, width // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(
        coarse, size=(height, width), mode="bilinear", align_corners=False
    )
    return (0.2 + 0.6 * smooth + 0.05 * torch.randn(1, 1, height, width, generator=generator)).clamp(
        0.02, 0.98
    )


@pytest.mark.parametrize("preset", ["nano", "tiny"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_untrained_network_is_catmull_rom(preset: str, scale: int) -> None:
    model = Restorer(get_preset(preset), scale).eval()
    x = scene(64, 48)
    with torch.inference_mode():
        y = model(x, torch.ones_like(x), conditions(scale, lock=False), ORIGIN)
    torch.testing.assert_close(y, catmull_rom(x, scale).clamp(0, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("preset", ["small", "base"])
def test_larger_presets_build_and_keep_their_alignment(preset: str) -> None:
    model = Restorer(get_preset(preset), 2, with_prior=True).eval()
    side = model.alignment_px * 2
    x = scene(side, side)
    with torch.inference_mode():
        y = model(x, torch.ones_like(x), conditions(2, lock=False), ORIGIN)
    assert y.shape == (1, 1, 2 * side, 2 * side)


def test_sizes_are_those_of_the_table() -> None:
    parameters = {
        name: sum(p.numel() for p in Restorer(preset, 1).unet.parameters())
        for name, preset in PRESETS.items()
        if name != "large"
    }
    assert 0.1e6 < parameters["nano"] < 0.3e6
    assert 1.6e6 < parameters["tiny"] < 1.9e6
    assert parameters["tiny"] < parameters["small"] < 3e6 < parameters["base"] < 17e6


def test_unknown_preset_and_scale_are_refused() -> None:
    with pytest.raises(UsageError, match="nano, tiny"):
        get_preset("huge")
    with pytest.raises(UsageError, match="scale 1, 2 or 4"):
        Restorer(get_preset("nano"), 3)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("realness", [0.0, 0.7])
def test_a_tile_with_its_halo_equals_the_whole(scale: int, realness: float) -> None:
    model = trained_like(scale, with_prior=realness > 0)
    # Modulated convolutions of an untrained prior are strong; what is tested is the geometry.
    where = conditions(scale, realness=realness, seed=5, z=2)
    x = scene(416, 416)
    valid = torch.ones_like(x)
    with torch.inference_mode():
        whole = model(x, valid, where, ORIGIN)
        y0, x0, side, halo = 192, 176, 48, 176
        read_y, read_x = y0 - halo, x0 - halo
        window = x[..., read_y : y0 + side + halo, read_x : x0 + side + halo]
        origin = torch.tensor([[read_y, read_x]])
        tile = model(window, torch.ones_like(window), where, origin)
    cut = slice(halo * scale, (halo + side) * scale)
    expected = whole[..., y0 * scale : (y0 + side) * scale, x0 * scale : (x0 + side) * scale]
    assert float((tile[..., cut, cut] - expected).abs().max()) < 1e-4


def test_an_origin_off_the_alignment_is_seen() -> None:
    """The test above would pass for a network without strides; here phase matters."""
    model = trained_like(1)
    x = scene(256, 256)
    with torch.inference_mode():
        whole = model(x, torch.ones_like(x), conditions(1), ORIGIN)
        shifted = x[..., 8:, 8:][..., :240, :240]
        tile = model(shifted, torch.ones_like(shifted), conditions(1), ORIGIN)
    assert float((tile[..., 100:140, 100:140] - whole[..., 108:148, 108:148]).abs().max()) > 1e-4


def test_realness_zero_ignores_the_seed_and_never_runs_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained_like(1, with_prior=True)
    x = scene(64, 64)
    with torch.inference_mode():
        first = model(x, torch.ones_like(x), conditions(1, seed=1), ORIGIN)
        monkeypatch.setattr(model, "detail", None)
        second = model(x, torch.ones_like(x), conditions(1, seed=2), ORIGIN)
    assert torch.equal(first, second)


def test_realness_moves_the_output_and_needs_a_prior() -> None:
    model = trained_like(1, with_prior=True)
    x = scene(64, 64)
    with torch.inference_mode():
        outputs = [
            model(x, torch.ones_like(x), conditions(1, realness=r, lock=False), ORIGIN)
            for r in (0.0, 0.5, 1.0)
        ]
    distance = [float((y - outputs[0]).abs().mean()) for y in outputs]
    assert 0 == distance[0] < distance[1] < distance[2]
    with pytest.raises(UsageError, match="no prior"):
        trained_like(1)(x, torch.ones_like(x), conditions(1, realness=0.5), ORIGIN)


def test_realness_is_lowered_where_the_input_does_not_support_it() -> None:
    model = trained_like(1, with_prior=True)
    x = scene(256, 256)
    x[..., :, 128:] = 0.7 + 0.01 * torch.randn(256, 128, generator=torch.Generator().manual_seed(3))
    valid = torch.ones_like(x)
    valid[..., 20:40, 20:40] = 0
    with torch.inference_mode():
        made = model.restore(x, valid, conditions(1, realness=1.0, lock=False), ORIGIN, both=True)
        none = model(x, valid, conditions(1, lock=False), ORIGIN)
        blank = model.restore(
            x, valid, conditions(1, realness=1.0, lock=False), ORIGIN, share=torch.zeros_like(x)
        )
    assert torch.equal(made.fidelity, none)
    assert torch.equal(blank.y, none)
    invented = (made.y - made.fidelity).abs()
    assert not bool(invented[..., 20:40, 20:40].any())
    assert not bool(invented[..., 176:].any())
    assert float(invented[..., 60:, :100].mean()) > 0


@pytest.mark.parametrize("realness", [0.0, 1.0])
def test_damage_that_is_marked_is_not_looked_at(realness: float) -> None:
    model = trained_like(1, with_prior=True)
    x = scene(96, 96)
    valid = torch.ones_like(x)
    valid[..., 40:56, 40:56] = 0
    spoilt = torch.where(valid == 1, x, torch.zeros_like(x))
    with torch.inference_mode():
        one = model(x, valid, conditions(1, realness=realness), ORIGIN)
        two = model(spoilt, valid, conditions(1, realness=realness), ORIGIN)
    outside = valid == 1
    torch.testing.assert_close(one[outside], two[outside], atol=1e-6, rtol=0)


def test_the_code_steers_the_network() -> None:
    model = trained_like(1)
    x = scene(64, 64)
    with torch.inference_mode():
        _, unknown, _ = model.fidelity(x, torch.ones_like(x), torch.zeros(1, 24), filters_of(1))
        _, told, _ = model.fidelity(x, torch.ones_like(x), torch.ones(1, 24), filters_of(1))
    assert float((unknown - told).abs().max()) > 1e-4


def test_gradients_reach_every_weight_of_the_fidelity_path() -> None:
    model = trained_like(2)
    x = scene(64, 64)
    _, y, out = model.fidelity(x, torch.ones_like(x), torch.randn(1, 24), filters_of(2))
    (y.square().mean() + out.log_scale.mean()).backward()
    without = [name for name, p in model.unet.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert without == []


def test_bf16_stays_within_a_grey_level() -> None:
    model = trained_like(1)
    x = scene(96, 96)
    with torch.inference_mode():
        exact = model(x, torch.ones_like(x), conditions(1), ORIGIN)
        half = model(x, torch.ones_like(x), conditions(1), ORIGIN, torch.bfloat16)
    assert half.dtype == torch.float32
    assert float((exact - half).abs().max()) < 2 / 255


def test_the_halo_probe_finds_the_reach_it_needs() -> None:
    model = trained_like(1)
    tissue = torch.cat([scene(416, 416, 1), scene(416, 416, 2)])
    halo, errors = probe_halo(
        lambda image: model(image, torch.ones_like(image), conditions(1), ORIGIN),
        tissue,
        model.alignment_px,
        1,
    )
    assert halo % model.alignment_px == 0
    assert errors[halo] < TOLERANCE < errors[halo - model.alignment_px]
    assert errors[0] > 100 * TOLERANCE


def test_the_output_falls_back_if_the_lock_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output with the prior to the one without, and that one to the interpolation."""
    model, x = trained_like(1, with_prior=True), scene(128, 96)

    def restored(realness: float) -> Tensor:
        with torch.inference_mode():
            return model(x, torch.ones_like(x), conditions(1, realness=realness), ORIGIN)

    plain = restored(0.0)

    def failing_with_the_prior(y: Tensor, *rest: object) -> Tensor:
        return y.clamp(0, 1) if float(y.mean()) > 2 else plain

    monkeypatch.setattr(guards, "lock_and_clip", lambda y, *rest: (y + 0.2).clamp(0, 1))
    torch.testing.assert_close(restored(0.0), x)
    monkeypatch.setattr(guards, "lock_and_clip", failing_with_the_prior)
    monkeypatch.setattr(model, "_trust", lambda *given: torch.ones_like(x))
    monkeypatch.setattr(model, "detail", lambda *given: torch.full_like(x, 5.0))
    torch.testing.assert_close(restored(1.0), restored(0.0))
    assert float((restored(1.0) - x).abs().max()) > 1 / 255
