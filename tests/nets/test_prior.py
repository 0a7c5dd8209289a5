"""The generator: detail belongs to a place, not to a tile."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.model.nets.prior.generator import EXTRA_CHANNELS_MIN, FIRST_SHARE, Generator, PhaseCoupling
from bigrestore.model.nets.prior.latent import LATENT_LAYER, sample_z_field
from bigrestore.model.nets.prior.noise import hashed_normal_fields
from bigrestore.model.nets.unet import LINEAR_GUESSES, UNet
from bigrestore.settings.presets import PRESETS

CHANNELS, LATENT, ALIGNMENT = (8, 12, 16, 20), 12, 16
ZERO = torch.zeros(1, 2, dtype=torch.int64)


def make(scale: int = 1, unshuffle: int = 2, channels: tuple[int, ...] = CHANNELS) -> Generator:
    """Build a small generator as wild as a trained one: noise on, bridges, shares, deltas, coupling away from zero."""
    torch.manual_seed(0)
    generator = Generator(channels, LATENT, scale, unshuffle)
    with torch.no_grad():
        for level in generator.levels:
            level.noise_strength.fill_(0.5)  # type: ignore[union-attr, operator]
            if level.bridge is not None:
                for parameter in level.bridge.second.parameters():  # type: ignore[union-attr]
                    parameter.normal_(std=0.2)
        wild = [generator.deltas, generator.shares, generator.coupling]
        for parameter in [p for module in wild if module is not None for p in module.parameters()]:
            parameter.normal_()
    return generator


def draw_w(generator: Generator, height: int, width: int, origin: Tensor = ZERO) -> Tensor:
    nodes = origin // generator.alignment_px
    with torch.no_grad():
        w_field: Tensor = generator.mapping(sample_z_field(LATENT, height, width, 1, 0, nodes))
    return w_field


def draw_features(
    height: int, width: int, channels: tuple[int, ...] = CHANNELS, count: int = 1
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(count, c, height << level, width << level, generator=generator)
        for level, c in enumerate(reversed(channels))
    ]


def cut(features: list[Tensor], y: int, x: int, height: int, width: int) -> list[Tensor]:
    return [
        f[..., y << level : (y + height) << level, x << level : (x + width) << level]
        for level, f in enumerate(features)
    ]


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(("scale", "unshuffle"), [(1, 2), (2, 2), (4, 2), (1, 1), (2, 1), (4, 1)])
@torch.inference_mode()
def test_tiled_equals_whole(scale: int, unshuffle: int, guided: bool) -> None:
    generator = make(scale, unshuffle)
    step, size, halo = generator.alignment_px, 22, 7
    corner = torch.tensor([[3 * step, 1000 * step]])
    w_field, features = draw_w(generator, size, size, corner), draw_features(size, size)
    whole = generator(w_field, features if guided else None, 5, 2, corner)
    for top, left in [(8, 9), (0, 9), (0, 0), (size - 4, size - 4)]:  # in nodes; halos clipped at the border
        y0, x0 = max(top - halo, 0), max(left - halo, 0)
        y1, x1 = min(top + 4 + halo, size), min(left + 4 + halo, size)
        tile = generator(
            w_field[..., y0:y1, x0:x1],
            cut(features, y0, x0, y1 - y0, x1 - x0) if guided else None,
            5,
            2,
            corner + step * torch.tensor([[y0, x0]]),
        )
        pitch = step * scale
        core = tile[..., (top - y0) * pitch :, (left - x0) * pitch :][..., : 4 * pitch, : 4 * pitch]
        wanted = whole[..., top * pitch :, left * pitch :][..., : 4 * pitch, : 4 * pitch]
        assert (core - wanted).abs().max() < 1e-5
    assert whole.std() > 0.01


@torch.inference_mode()
def test_a_wrong_origin_is_noticed() -> None:
    """The test above would be worth little if the noise did not depend on the origin."""
    generator = make()
    w_field = draw_w(generator, 4, 4)
    here = generator(w_field, None, 0, 0, ZERO)
    there = generator(w_field, None, 0, 0, ZERO + ALIGNMENT)
    assert (here - there).abs().max() > 0.01


@torch.inference_mode()
def test_noise_of_every_level_moves_with_the_origin() -> None:
    for scale in (1, 4):
        generator = make(scale)
        for index in range(len(generator.levels)):
            for other, level in enumerate(generator.levels):
                level.noise_strength.fill_(float(other == index))  # type: ignore[union-attr, operator]
            w_field = draw_w(generator, 1, 1).expand(-1, -1, 16, 16)
            first = generator(w_field, None, 0, 0, ZERO)
            second = generator(w_field, None, 0, 0, ZERO + torch.tensor([[0, 2 * ALIGNMENT]]))
            middle, shift = slice(6 * ALIGNMENT * scale, 9 * ALIGNMENT * scale), 2 * ALIGNMENT * scale
            moved = first[..., middle, middle.start + shift : middle.stop + shift]
            assert (second[..., middle, middle] - moved).abs().max() < 1e-5
            assert (second - first)[..., middle, middle].abs().max() > 1e-3


@torch.inference_mode()
def test_every_level_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[int] = []

    def record(seed: int, z: int, wanted: list[int], *rest: Any) -> Tensor:
        layers.extend(wanted)
        return hashed_normal_fields(seed, z, wanted, *rest)

    monkeypatch.setattr("bigrestore.model.nets.prior.generator.hashed_normal_fields", record)
    generator = make(4)
    generator(draw_w(generator, 2, 2), None, 0, 0, ZERO)
    assert len(set(layers)) == len(layers) == len(generator.levels)
    assert max(layers) < LATENT_LAYER


@torch.inference_mode()
def test_a_batch_is_its_samples_each_at_its_origin() -> None:
    generator = make(2)
    origins = torch.tensor([[0, 0], [64, 32], [16, 4096]])
    w_field, features = draw_w(generator, 3, 4, origins), draw_features(3, 4, count=3)
    together = generator(w_field, features, 9, 1, origins)
    assert together.shape == (3, 1, 96, 128)
    for i in range(3):
        alone = generator(w_field[i : i + 1], [f[i : i + 1] for f in features], 9, 1, origins[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_same_seed_same_bytes_another_seed_or_section_other_detail() -> None:
    generator = make()
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    first = generator(w_field, features, 1, 0, ZERO)
    assert torch.equal(first, generator(w_field, features, 1, 0, ZERO))
    for seed, z in [(2, 0), (1, 1)]:
        assert (first - generator(w_field, features, seed, z, ZERO)).abs().max() > 0.01


@torch.inference_mode()
def test_a_new_generator_has_no_noise() -> None:
    generator = Generator(CHANNELS, LATENT, 1, 2)
    w_field = draw_w(generator, 3, 3)
    assert torch.equal(generator(w_field, None, 1, 0, ZERO), generator(w_field, None, 2, 0, ZERO))


@torch.inference_mode()
def test_noise_that_is_not_realised_is_noise_of_strength_zero() -> None:
    generator = make()
    w_field = draw_w(generator, 3, 3)
    silent = generator(w_field, None, 1, 0, ZERO, realise_noise=False)
    assert (silent - generator(w_field, None, 1, 0, ZERO)).abs().max() > 0.01
    for level in generator.levels:
        level.noise_strength.zero_()  # type: ignore[union-attr, operator]
    assert torch.equal(silent, generator(w_field, None, 1, 0, ZERO))


@torch.inference_mode()
def test_an_untrained_bridge_adds_a_tenth_of_what_the_prior_makes() -> None:
    generator = Generator(CHANNELS, LATENT, 2, 2)
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    alone, guided = generator(w_field, None, 0, 0, ZERO), generator(w_field, features, 0, 0, ZERO)
    torch.testing.assert_close(guided, FIRST_SHARE * alone)


@torch.inference_mode()
def test_a_share_of_nothing_leaves_nothing_of_its_level() -> None:
    generator = make(2)
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    for index, share in enumerate(generator.shares):
        before = generator(w_field, features, 0, 0, ZERO)
        share.weight.zero_()  # type: ignore[union-attr, operator]
        share.bias.fill_(-200.0)  # type: ignore[union-attr, operator]
        assert not torch.equal(generator(w_field, features, 0, 0, ZERO), before), index
    assert bool((generator(w_field, features, 0, 0, ZERO) == 0).all())


@torch.inference_mode()
def test_features_of_every_level_reach_the_detail() -> None:
    generator = make()
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    guided = generator(w_field, features, 0, 0, ZERO)
    for index in range(len(features)):
        altered = list(features)
        altered[index] = -features[index]
        assert (generator(w_field, altered, 0, 0, ZERO) - guided).abs().max() > 1e-4


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_gradients_reach_every_parameter(scale: int) -> None:
    generator = make(scale)
    z_field = sample_z_field(LATENT, 3, 3, 1, 0, ZERO)
    features = [f.requires_grad_() for f in draw_features(3, 3)]
    detail = generator(generator.mapping(z_field), features, 0, 0, ZERO)
    (detail * torch.randn_like(detail)).sum().backward()
    for name, parameter in [
        *generator.named_parameters(),
        *((f"feature {i}", f) for i, f in enumerate(features)),
    ]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


class PlainShuffle(nn.PixelShuffle):
    """A shuffle without any coupling."""

    bridge_bias = torch.zeros(1)

    def forward(self, grey: Tensor, guided: bool) -> Tensor:
        return super().forward(grey)


@pytest.mark.parametrize("scale", [1, 2, 4])
@torch.inference_mode()
def test_a_new_coupling_is_the_plain_shuffle_to_the_bit(scale: int) -> None:
    generator = make(scale)
    assert generator.coupling is not None
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    coupled = generator(w_field, features, 0, 0, ZERO)
    generator.coupling = PhaseCoupling(2)
    fresh = generator(w_field, features, 0, 0, ZERO)
    generator.coupling = PlainShuffle(2)  # type: ignore[assignment]
    plain = generator(w_field, features, 0, 0, ZERO)
    assert torch.equal(fresh, plain)
    assert (coupled - plain).abs().max() > 0.01


@torch.inference_mode()
def test_the_coupling_reaches_one_node_and_one_pixel_further() -> None:
    coupling = make().coupling
    assert coupling is not None
    node = torch.zeros(1, 4, 9, 9)
    node[0, :, 4, 4] = 1
    rows = coupling(node, guided=True)[0, 0].abs().sum(1).nonzero().flatten().tolist()
    assert (rows[0], rows[-1]) == (8 - 3, 9 + 3), "rows 8 and 9 are the node's own"


@torch.inference_mode()
def test_a_generator_without_a_shuffle_has_no_coupling() -> None:
    assert make(2, unshuffle=1).coupling is None


@torch.inference_mode()
def test_the_coupling_can_take_a_checkerboard_away() -> None:
    coupling = PhaseCoupling(2)
    texture, checkerboard = torch.randn(1, 1, 32, 32), torch.tensor([1.0, -1.0, -1.0, 1.0])
    low_pass = torch.tensor([1.0, 2.0, 1.0]) / 4
    coupling.pixels[0, 0] = torch.outer(low_pass, low_pass)
    coupling.pixels[0, 0, 1, 1] -= 1
    coupling.pixels.mul_(3)
    heads = nn.functional.pixel_unshuffle(texture, 2)
    for guided in (False, True):
        with_pattern = coupling(heads + checkerboard[:, None, None], guided)[..., 1:-1, 1:-1]
        torch.testing.assert_close(with_pattern, coupling(heads, guided)[..., 1:-1, 1:-1])


@torch.inference_mode()
def test_a_checkerboard_is_silenced_where_features_guide_and_the_mean_and_stripes_stay() -> None:
    torch.manual_seed(0)
    coupling = PhaseCoupling(2)
    coupling.pixels.normal_()
    coupling.bridge_pixels.normal_()
    board = torch.tensor([1.0, -1.0, -1.0, 1.0]).view(1, 4, 1, 1).expand(-1, -1, 12, 12)
    columns = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1, 1).expand(-1, -1, 12, 12)
    shown = (board, columns, torch.ones_like(board))
    guided, alone = ([coupling(heads, guide)[..., 2:-2, 2:-2] for heads in shown] for guide in (True, False))
    coupling.silence_checkerboard()
    silenced, still = (
        [coupling(heads, guide)[..., 2:-2, 2:-2] for heads in shown] for guide in (True, False)
    )
    assert float(guided[0].abs().max()) > 0.1
    assert float(silenced[0].abs().max()) < 1e-5
    for before, after in zip(guided[1:] + alone, silenced[1:] + still, strict=True):
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_what_the_bridge_changes_of_the_coupling_acts_on_guided_detail_alone() -> None:
    generator = make()
    assert generator.coupling is not None
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    alone, guided = (generator(w_field, shown, 0, 0, ZERO) for shown in (None, features))
    for change in (generator.coupling.bridge_nodes, generator.coupling.bridge_pixels):
        change.add_(torch.randn_like(change))
        assert torch.equal(generator(w_field, None, 0, 0, ZERO), alone)
        assert not torch.equal(generator(w_field, features, 0, 0, ZERO), guided)


def test_a_new_generator_learns_its_noise_and_its_bridges() -> None:
    torch.manual_seed(0)
    generator = Generator(CHANNELS, LATENT, 1, 2)
    detail = generator(draw_w(generator, 3, 3), draw_features(3, 3), 0, 0, ZERO)
    (detail * torch.randn_like(detail)).sum().backward()
    for name, parameter in generator.named_parameters():
        if any(part in name for part in ("noise_strength", "bridge.second", "deltas", "coupling")):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("preset", ["nano", "tiny", "base"])
@pytest.mark.parametrize("scale", [1, 2, 4])
@torch.inference_mode()
def test_every_grid_is_the_unets_and_detail_has_the_amplitude_of_tissue(preset: str, scale: int) -> None:
    torch.manual_seed(0)
    sizes = PRESETS[preset]
    side = 3 * sizes.alignment_px
    generator = Generator(sizes.channels, sizes.latent, scale, sizes.unshuffle)
    assert generator.alignment_px == sizes.alignment_px
    x = torch.rand(1, 1, side, side)
    linear = torch.zeros(1, LINEAR_GUESSES, *(scale * side for side in x.shape[-2:]))
    features = UNet(sizes, scale)(x, torch.ones_like(x), torch.zeros(1, 24), linear).features
    w_field = generator.mapping(sample_z_field(sizes.latent, 3, 3, 1, 0, ZERO))
    guided, detail = generator(w_field, features, 0, 0, ZERO), generator(w_field, None, 0, 0, ZERO)
    assert guided.shape == detail.shape == (1, 1, side * scale, side * scale)
    assert detail.dtype == torch.float32
    assert 0.005 < detail.std() < 0.5  # tissue: 0.02 to 0.15; the draw of the weights alone spreads sixfold


def test_levels_above_the_first_grid_halve_their_channels_down_to_a_floor() -> None:
    def widths(scale: int) -> list[int]:
        generator = Generator((48, 64), LATENT, scale, 1)
        return [level.second.weight.shape[0] for level in generator.levels]  # type: ignore[union-attr]

    assert widths(1) == [64, 48]
    assert widths(2) == [64, 48, 24]
    assert widths(4) == [64, 48, 24, EXTRA_CHANNELS_MIN]


@torch.inference_mode()
def test_mixed_precision_stays_close() -> None:
    generator = make()
    w_field, features = draw_w(generator, 3, 3), draw_features(3, 3)
    exact = generator(w_field, features, 0, 0, ZERO)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = generator(w_field, [f.bfloat16() for f in features], 0, 0, ZERO)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean().sqrt() < 0.03 * exact.std()


def test_an_origin_off_the_alignment_is_refused() -> None:
    generator = make()
    with pytest.raises(UsageError, match="multiples of the alignment of 16 px"):
        generator(draw_w(generator, 2, 2), None, 0, 0, torch.tensor([[0, 8]]))


def test_a_scale_it_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="not 3"):
        Generator(CHANNELS, LATENT, 3, 2)
