"""Within a tile the host waits for no device: nothing is read, and nothing copied in a way that waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from test_restorer import scene, trained_like
from torch import Tensor

from bigrestore.core.host.waiting import all_valid
from bigrestore.model import network
from bigrestore.model.method import PSI_SIZE, SectionStatistics, TileBatch
from bigrestore.model.nets import guards, restorer
from bigrestore.model.nets.checkpoint import Model
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.restorer import Conditions, Restorer
from bigrestore.model.network import NetworkMethod
from tests.waits import Literals, Waits

SIDE = 64


def conditions_of(net: Restorer, realness: float) -> Conditions:
    """Return the conditions of a section, on the device without storage, as they are kept for its tiles."""
    kernel = torch.zeros(41 if net.scale == 4 else 21, 41 if net.scale == 4 else 21)
    kernel[len(kernel) // 2, len(kernel) // 2] = 1
    made = net.completed(Conditions(kernel, torch.ones(PSI_SIZE), 1e-4, 0.01, realness))
    assert made.filters is not None
    ratios = None if made.ratios is None else (made.ratios[0].to("meta"), made.ratios[1].to("meta"))
    on_device = {"kernel": kernel, "psi": made.psi, "filters": made.filters}
    return attrs.evolve(made, ratios=ratios, **{name: value.to("meta") for name, value in on_device.items()})


@pytest.mark.parametrize(
    ("scale", "realness", "whole"), [(1, 0.0, True), (2, 0.0, False), (1, 0.6, False), (2, 0.6, True)]
)
def test_a_tile_on_a_device_is_restored_without_a_wait(
    scale: int, realness: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # refuses this device
    net = trained_like(scale, with_prior=True)
    conditions = conditions_of(net, realness)
    net = net.to("meta")  # whoever reads a tensor without storage gets an error
    x, share = torch.empty(2, 1, SIDE, SIDE, device="meta"), torch.empty(2, 1, SIDE, SIDE, device="meta")
    origins = torch.zeros(2, 2, dtype=torch.int64)
    once: dict[str, Any] = {"both": True, "whole": whole}
    with torch.inference_mode():
        net.restore(
            x, torch.ones_like(x), conditions, origins, torch.float32, share, **once
        )  # fills the tables
        with Waits() as waits, Literals() as literals:
            made = net.restore(x, torch.ones_like(x), conditions, origins, torch.float32, share, **once)
    assert waits.seen == literals.seen == []
    assert made.y.shape == made.fidelity.shape == (2, 1, SIDE * scale, SIDE * scale)


def method(realness: float, **options: Any) -> NetworkMethod:
    info = {"halo_px": 96, "halo_prior_px": 96, "sha256": "0" * 64, "preset": "nano"}
    return NetworkMethod(Model(trained_like(1, with_prior=True), "nano", info), realness=realness, **options)


def statistics_of(count: int) -> Iterator[SectionStatistics]:
    """Yield the statistics of so many sections."""
    for number in range(count):
        kernel = np.zeros((21, 21), np.float32)
        kernel[10, 10], kernel[10, 11] = 1 - 0.01 * number, 0.01 * number
        yield SectionStatistics(kernel, np.ones(PSI_SIZE, np.float32), 1e-4, 0.01, {"likeness": 1.0})


def tile(kind: str) -> TileBatch:
    """Return a tile of a kind: plain, damaged, without any damage under a mask, or under a map of realness."""
    pixels = scene(SIDE, SIDE)[:, 0].numpy().astype(np.float32)
    if kind in ("flat", "dark"):
        pixels = np.full_like(pixels, 0.8 if kind == "flat" else 0.0)
    valid = np.ones(pixels.shape, np.bool_) if kind in ("damaged", "sound") else None
    if valid is not None and kind == "damaged":
        valid[:, 20:30, 20:40] = False
    realness = None
    if kind in ("unreal", "half"):
        realness = np.full(pixels.shape, 0.5 * (kind == "half"), np.float32)
    return TileBatch(pixels, valid, np.zeros((1, 2), np.int64), 0, realness, ("residual", "invented"))


@pytest.mark.parametrize(
    ("kind", "realness", "lock"),
    [
        ("plain", 0.0, True),
        ("damaged", 0.0, True),
        ("plain", 0.6, True),
        ("flat", 0.6, True),
        ("dark", 0.6, False),
        ("damaged", 0.6, True),
        ("sound", 0.6, True),
        ("half", 0.6, False),
    ],
)
def test_a_device_that_is_not_read_gives_the_same_bytes(
    kind: str, realness: float, lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring, (statistics,), batch = method(realness, lock=lock), statistics_of(1), tile(kind)
    read = restoring.restore(batch, statistics)
    for module in (guards, restorer):
        monkeypatch.setattr(module, "readable", lambda _: False)
    with Waits() as waits:
        unread = restoring.restore(batch, statistics)
    assert waits.seen == []
    np.testing.assert_array_equal(unread.pixels, read.pixels)
    for name in ("residual", "invented"):
        np.testing.assert_array_equal(unread.maps[name], read.maps[name])


@pytest.mark.parametrize("kind", ["plain", "damaged", "half"])
def test_a_tile_is_copied_out_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[set[str]] = []
    download = NetworkMethod._download

    def counting(self: NetworkMethod, images: dict[str, Tensor]) -> Any:
        copies.append(set(images))
        return download(self, images)

    monkeypatch.setattr(NetworkMethod, "_download", counting)
    (statistics,) = statistics_of(1)
    method(0.6).restore(tile(kind), statistics)
    assert copies == [{"y", "lattice", "residual", "invented"}]


def test_a_section_is_prepared_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return call

    for name in ("wiener_filters", "expected_ratios"):
        monkeypatch.setattr(restorer, name, counted(name, getattr(restorer, name)))
    monkeypatch.setattr(network, "SECTIONS_KEPT", 2)
    restoring, (first, second, third) = method(0.6), statistics_of(3)
    for statistics in (first, first, second, attrs.evolve(first), second):
        restoring.restore(tile("plain"), statistics)
    assert sorted(calls) == ["expected_ratios"] * 2 + ["wiener_filters"] * 2
    restoring.restore(tile("plain"), third)
    assert len(restoring._sections) == 2
    restoring.restore(tile("plain"), second)
    assert len(calls) == 6, "the one used last is kept"
    restoring.restore(tile("plain"), first)
    assert len(calls) == 8


def test_no_realness_in_a_tile_runs_no_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "forward", lambda *_: pytest.fail("the prior ran"))
    (statistics,) = statistics_of(1)
    method(0.6).restore(tile("unreal"), statistics)


def test_what_is_known_is_not_looked_at() -> None:
    unseen = torch.ones(1, 1, 8, 8, device="meta")
    assert all_valid(unseen, True)
    assert not all_valid(unseen, False)
    assert not all_valid(unseen, None), "a look would wait"
    assert all_valid(torch.ones(1, 1, 8, 8), None)
    assert not all_valid(torch.zeros(1, 1, 8, 8), None)


def test_the_buffer_of_the_largest_tile_serves_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    made, empty = [], torch.empty

    def counted(count: int, *, pin_memory: bool, **options: Any) -> Tensor:
        assert pin_memory
        made.append(count)
        return empty(count, **options)  # without a GPU no memory can be locked

    restoring = method(0.0)
    monkeypatch.setattr(torch, "empty", counted)
    for shape in ((1, 8, 8), (1, 4, 8), (2, 8, 8), (1, 8, 8)):
        assert restoring._pinned("y", shape).shape == shape
    assert made == [64, 128]
