"""The search in the prior's latent space: its losses, what it finds again, its windows, and the options that are refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bigrestore.core.kernels import gaussian
from bigrestore.errors import UsageError
from bigrestore.model.method import TileBatch
from bigrestore.model.methods.latent import MMD, SEARCHES, LatentMethod, search_of
from bigrestore.model.methods.windows import WindowLattice
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.part import load_part
from bigrestore.model.nets.parts.pixelcnn import PixelCNN
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.prior.noise import hashed_normal
from bigrestore.model.nets.prior.search import (
    KERNEL_WIDTH,
    PriorSearch,
    Search,
    Searched,
    geocross,
    mean_similarity,
)
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.network import load_network
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.judge_toys import likelihood_file
from tests.run.prior_toys import model_file

SIDE = 64
NOISE = 2 / 255
ORIGIN = np.zeros((1, 2), np.int64)


@cache
def prior() -> Generator:
    restorer = load_model("tiny", 1).restorer.requires_grad_(False)
    assert restorer.prior is not None
    return restorer.prior


def seen(x: Tensor, kernel: Tensor | None = None, **facts: Any) -> Seen:
    blur = torch.from_numpy(gaussian(21, 1.3)) if kernel is None else kernel
    return Seen(x, torch.ones_like(x), x, blur, 0.0, NOISE, 1, origins=((0, 0),), **facts)


def degraded(tissue: np.ndarray) -> Tensor:
    """Return real tissue of 64 px, blurred and noisy."""
    soft = gaussian_filter(tissue[100 : 100 + SIDE, 100 : 100 + SIDE], 1.3)
    noise = NOISE * hashed_normal(7, 0, 0, 0, 0, SIDE, SIDE)
    return torch.from_numpy(soft)[None, None] + noise


def misfit(result: Searched) -> float:
    return float(result.residual.square().mean())


def discrepancy(search: PriorSearch, result: Searched) -> float:
    """Return 512 d^2 of all codes."""
    return KERNEL_WIDTH * float(search.discrepancy(result.codes.permute(0, 2, 3, 1).flatten(0, 2)))


def test_the_discrepancy_is_that_of_equation_7_and_so_is_its_gradient() -> None:
    chance = torch.Generator().manual_seed(0)
    w, v = (9.8 * torch.randn(count, 5, generator=chance, dtype=torch.float64) for count in (4, 6))

    def loops(a: Tensor, b: Tensor) -> float:
        return float(np.mean([np.exp(-np.linalg.norm(one - two) / 512) for one in a for two in b]))

    def squared(codes: Tensor) -> Tensor:
        return mean_similarity(codes, codes) + mean_similarity(v, v) - 2 * mean_similarity(codes, v)

    assert float(squared(w)) == pytest.approx(loops(w, w) + loops(v, v) - 2 * loops(w, v), abs=1e-12)
    codes = w.clone().requires_grad_(True)
    squared(codes).backward()  # type: ignore[no-untyped-call]
    assert codes.grad is not None
    for at in ((0, 0), (1, 3), (3, 4)):
        step = torch.zeros_like(w)
        step[at] = 1e-4
        slope = float(squared(w + step) - squared(w - step)) / 2e-4
        assert float(codes.grad[at]) == pytest.approx(slope, rel=1e-5)


def test_samples_are_near_samples_and_others_are_not() -> None:
    search, other = PriorSearch(prior(), Search(), 0), PriorSearch(prior(), Search(), 1)
    assert KERNEL_WIDTH * float(search.discrepancy(search.samples)) == pytest.approx(0, abs=2e-3)
    assert KERNEL_WIDTH * float(search.discrepancy(other.samples)) < 0.06
    assert KERNEL_WIDTH * float(search.discrepancy(-search.samples)) > 1
    assert KERNEL_WIDTH * float(search.discrepancy(search.mean.expand(256, -1))) > 1
    assert float(search.mean.norm()) == pytest.approx(float(search.samples.norm(dim=1).mean()), rel=1e-3)


def test_layers_of_a_place_are_held_together_by_their_angles() -> None:
    fields = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    squares = []
    for a in fields.permute(0, 2, 3, 1):
        for b in fields.permute(0, 2, 3, 1):
            apart, along = (a - b).norm(dim=-1), (a + b).norm(dim=-1)
            squares.append(float((2 * torch.atan2(apart, along)).square().mean()))
    assert float(geocross(fields)) == pytest.approx(512 / 8 * np.mean(squares), rel=1e-4)
    assert float(geocross(fields[:1].expand(3, -1, -1, -1))) == pytest.approx(0, abs=1e-5)


def test_the_rate_rises_falls_and_fades_out() -> None:
    rates = [Search(steps=100).rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[45] == pytest.approx(0.4)
    assert rates[89] < 0.06
    assert 0 < rates[99] < 0.01


@pytest.mark.parametrize(("start", "space"), [("mean", "w"), ("random", "w"), ("random", "z")])
def test_codes_stay_on_their_sphere(tissue: np.ndarray, start: Any, space: Any) -> None:
    search = PriorSearch(prior(), Search(steps=3, start=start, space=space), 0)
    scene = seen(degraded(tissue))
    radii, codes = list[Tensor](), list[Tensor]()

    class Noting(torch.optim.Adam):
        def zero_grad(self, set_to_none: bool = True) -> None:
            codes.append(self.param_groups[0]["params"][0].detach().clone())
            radii.append(codes[-1].norm(dim=1))
            super().zero_grad(set_to_none)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Noting)
        search.run(scene)
        free = PriorSearch(prior(), attrs.evolve(search.search, spherical=False), 0)
        free.run(scene)
    assert float((radii[2] / radii[0] - 1).abs().max()) < 1e-5
    assert float((codes[2] - codes[0]).abs().max()) > 0.01
    assert float((radii[5] / radii[3] - 1).abs().max()) > 1e-4


def test_an_image_of_the_generator_is_found_again(tissue: np.ndarray) -> None:
    search = PriorSearch(prior(), Search(steps=60), 0)
    flat = torch.full((1, 1, SIDE, SIDE), 0.7)
    wanted = search.samples[:8, :, None, None].expand(-1, -1, SIDE // 16, SIDE // 16)
    made = flat + search._detail(wanted.contiguous(), seen(flat))
    blurred = redegrade(made, seen(flat).kernel, 1)
    noise = NOISE * hashed_normal(3, 0, 0, 0, 0, SIDE, SIDE)
    result = search.run(seen(blurred + noise))
    apart, before = (
        float((redegrade(image, seen(flat).kernel, 1) - blurred).square().mean()) / NOISE**2
        for image in (result.image, flat)
    )
    assert apart < 1, "one deviation of the noise"
    assert before > 2, "there is something to find"


def test_the_discrepancy_brings_codes_to_the_samples_and_keeps_the_fit(tissue: np.ndarray) -> None:
    on, off = (PriorSearch(prior(), Search(steps=30, start="random", mmd=weight), 0) for weight in (3.0, 0.0))
    scene = seen(degraded(0.3 + 0.5 * tissue))
    with_it, without = on.run(scene), off.run(scene)
    assert discrepancy(on, with_it) < discrepancy(off, without) / 3
    assert misfit(with_it) < 1.2 * misfit(without)


def test_the_likelihood_is_weighed(tissue: np.ndarray, tmp_path: Path) -> None:
    net = load_part("likelihood", 1, likelihood_file(tmp_path)).network
    assert isinstance(net, PixelCNN)
    scene, bits = seen(degraded(tissue)), []
    for weight in (0.0, 30.0):
        search = PriorSearch(prior(), Search(steps=15, likelihood=weight), 0, net)
        with torch.no_grad():
            levels = (scene.x * 255).round()
            bits.append(float(net(levels, search.run(scene).image).bits(levels).mean()))
    assert bits[1] < bits[0]


def test_averaged_cells_leave_the_pixels_alone(tissue: np.ndarray) -> None:
    scene = seen(degraded(tissue))
    fine, coarse = (
        PriorSearch(prior(), Search(steps=25, mmd=0.0, downscale=cell), 0).run(scene) for cell in (0, 8)
    )
    assert misfit(coarse) > 1.5 * misfit(fine)
    cells = torch.nn.functional.avg_pool2d(coarse.residual, 8)
    assert float(cells.square().mean()) < 0.2 * misfit(coarse)


def toy(tmp_path: Path, scale: int = 1, **options: Any) -> LatentMethod:
    """Return a search of two steps in a small network of random weights, in windows of 64 px."""
    network = load_network(
        model_file(tmp_path) if scale == 1 else "tiny",
        scale=scale,
        realness=0.0,
        device="cpu",
        precision="fp32",
        seed=5,
        lock=True,
        kernel=None,
        blur=(0.8, 0.8, 0.0),
        noise=2.0,
    )
    search = attrs.evolve(Search(steps=2, start="random", noise=True), **options)
    return LatentMethod(network, search, None, WindowLattice(64, 48))


def image_of(method: LatentMethod, pixels: np.ndarray, y: int = 0, x: int = 0, **batch: Any) -> np.ndarray:
    known = method.analyse(np.stack([pixels[:128, :128]]))
    origin = np.array([[y, x]], np.int64)
    tiles = TileBatch(np.ascontiguousarray(pixels)[None], batch.pop("valid", None), origin, 0, **batch)
    return method.restore(tiles, known).pixels[0]


def test_a_window_depends_on_its_absolute_place_alone(tmp_path: Path, tissue: np.ndarray) -> None:
    method = toy(tmp_path)
    known = method.analyse(tissue[None, :128, :128])

    def restored(y: int, x: int, height: int, width: int) -> np.ndarray:
        tile = np.ascontiguousarray(tissue[y : y + height, x : x + width])[None]
        batch = TileBatch(tile, None, np.array([[y, x]], np.int64), 0)
        return method.restore(batch, known).pixels[0]

    whole = restored(0, 0, 240, 240)
    part = restored(48, 96, 144, 144)
    np.testing.assert_array_equal(part[48:96, 48:96], whole[96:144, 144:192])
    moved = method.restore(
        TileBatch(np.ascontiguousarray(tissue[48:192, 96:240])[None], None, np.array([[96, 96]]), 0), known
    ).pixels[0]
    assert np.abs(moved[48:96, 48:96] - part[48:96, 48:96]).max() > 1e-4, "its chance is of another place"


@pytest.mark.parametrize("start", ["mean", "random", "read"])
def test_every_start_is_another_image(tmp_path: Path, tissue: np.ndarray, start: Any) -> None:
    images = [
        image_of(toy(tmp_path, start=one, noise=False), tissue[:96, :96])
        for one in ("mean", "random", "read")
    ]
    own = image_of(toy(tmp_path, start=start, noise=False), tissue[:96, :96])
    assert [float(np.abs(own - other).max()) > 1e-5 for other in images].count(False) == 1


def test_a_section_may_be_enlarged(tmp_path: Path, tissue: np.ndarray) -> None:
    made = image_of(toy(tmp_path, 2, steps=1), tissue[:48, :96])
    assert made.shape == (96, 192)
    means = [float(image.mean()) for image in (made, tissue[:48, :96])]
    assert means[0] == pytest.approx(means[1], abs=0.01)


def test_damage_is_not_looked_at(tmp_path: Path, tissue: np.ndarray) -> None:
    method, valid = toy(tmp_path), np.ones((1, 96, 96), np.bool_)
    valid[:, 30:50, 30:50] = False
    other = tissue[:96, :96].copy()
    other[30:50, 30:50] = 0.0
    known = method.analyse(tissue[None, :128, :128])
    images = [
        method.restore(TileBatch(np.ascontiguousarray(pixels)[None], valid, ORIGIN, 0), known).pixels
        for pixels in (tissue[:96, :96], other)
    ]
    np.testing.assert_array_equal(*images)


def test_invented_is_the_distance_to_the_network(tmp_path: Path, tissue: np.ndarray) -> None:
    method = toy(tmp_path)
    known = method.analyse(tissue[None, :128, :128])
    batch = TileBatch(np.ascontiguousarray(tissue[:96, :96])[None], None, ORIGIN, 0, maps=("invented",))
    result = method.restore(batch, known)
    plain = method.network.restore(attrs.evolve(batch, maps=()), known).pixels
    np.testing.assert_allclose(result.maps["invented"], np.abs(result.pixels - plain), atol=1e-6)
    assert result.maps["invented"].mean() > 1e-4


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "0", "a whole number from 1 to 5000"),
        ("rate", "0", "a number above 0, 10 at most"),
        ("start", "best", "mean, random, read or preset"),
        ("mmd", "-2", "a number from 0 to 1000, or -1"),
        ("cross", "many", "a number from 0 to 1000"),
        ("likelihood", "nan", "a number from 0 to 1000"),
        ("objective", "downscale:3", "l2, downscale:F with F of 2, 4, 8, 16 or 32, or preset"),
        ("space", "x", "w, z or preset"),
        ("noise", "on", "off or hashed"),
        ("preset", "thesis", "mmd or pulse"),
    ],
)
def test_a_wrong_option_is_a_sentence(option: str, value: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"--set {option} is .*{words}"):
        create_method(RunSettings(method="latent", options={option: value}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"options": {"likelihood": 1}},
            "A trained likelihood for scale 1 is needed.* by --set likelihood_model=FILE",
        ),
        ({"options": {"likelihood_model": "x.safetensors"}}, "the weight of the likelihood is 0"),
        ({"options": {"space": "z"}}, "the mean of z is zero"),
        ({"scale": 4}, "--method latent restores at 1 or 2"),
        ({"realness": 0.5}, "--realness means nothing to --method latent"),
        ({"precision": "bf16"}, "--method latent computes in fp32"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr("bigrestore.model.nets.parts.part.shipped_parts", dict)
    with pytest.raises(UsageError, match=words):
        create_method(RunSettings(method="latent", **settings))


def test_a_model_without_a_prior_is_refused(tmp_path: Path) -> None:
    path = model_file(tmp_path, with_prior=False)
    with pytest.raises(UsageError, match="searches in a prior, and the model nano has none"):
        create_method(RunSettings(method="latent", model=str(path)))


def test_presets_are_what_they_are_named_after() -> None:
    default = {"start": "preset", "mmd": -1.0, "objective": "preset", "space": "preset", "noise": "off"}
    assert search_of("mmd", **default) == MMD == Search()
    pulse = search_of("pulse", **default)
    assert pulse == SEARCHES["pulse"]
    assert (pulse.start, pulse.space, pulse.mmd, pulse.downscale) == ("random", "z", 0.0, 8)
    assert search_of("pulse", **(default | {"mmd": 3.0, "objective": "l2"})) == Search(
        start="random", space="z"
    )
