"""Guards the weights and their average against single bad steps."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor, nn

from bigrestore.errors import DivergedError, UsageError
from bigrestore.training.loop.ema import WeightAverage
from bigrestore.training.loop.guard import GuardSettings, StepGuard, Verdict

WARY = GuardSettings(window=60, minimum=20, snapshot_every=5)


class Toy:
    """A linear model on noisy data, with its optimiser, guard and average, stepped as the loop steps them."""

    def __init__(self, settings: GuardSettings = WARY, rate: float = 1e-2) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(8, 1)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)
        self.guard = StepGuard(self.net.parameters(), self.optimiser, settings)
        self.average = WeightAverage(self.net.parameters(), 0.9)
        self.step = 0

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.net.parameters()]).clone()

    def loss(self) -> Tensor:
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(self.step))
        y = x.sum(1, keepdim=True) + 0.3 * torch.randn(
            64, 1, generator=torch.Generator().manual_seed(-self.step)
        )
        return ((self.net(x) - y) ** 2).mean()

    def make(self, *, factor: float = 1.0, gradient: float | None = None, offset: float = 0.0) -> Verdict:
        loss = self.loss() * factor + offset
        hooks = [
            p.register_hook(lambda g: g if gradient is None else torch.full_like(g, gradient))
            for p in self.net.parameters()
        ]
        self.average.hold()
        self.guard.follow(self.step, loss)
        for hook in hooks:
            hook.remove()
        self.step += 1
        verdict = self.guard.settle()
        assert verdict is not None
        if verdict is Verdict.GO:
            self.average.update()
        elif verdict is Verdict.RESTORE:
            self.guard.restore()
        return verdict

    def settle(self, steps: int = 400) -> None:
        for _ in range(steps):
            self.make()


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e4])
def test_a_bad_batch_moves_neither_weights_nor_average(factor: float) -> None:
    toy = Toy()
    toy.settle()
    before, average = toy.weights(), [t.clone() for t in toy.average.state_dict()["average"]]
    assert toy.make(factor=factor) is Verdict.SKIP
    assert torch.equal(toy.weights(), before)
    assert all(map(torch.equal, toy.average.state_dict()["average"], average))
    assert toy.make() is Verdict.GO
    assert toy.guard.skipped == 1
    assert toy.guard.restored == 0


@pytest.mark.parametrize("gradient", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_not_followed(gradient: float) -> None:
    toy = Toy()
    toy.settle()
    before = toy.weights()
    toy.make(gradient=gradient)
    assert torch.equal(toy.weights(), before)
    toy.make()
    assert torch.isfinite(toy.weights()).all()


def test_a_garbage_gradient_moves_the_weights_no_further_than_a_usual_one() -> None:
    def move(*, guarded: bool) -> float:
        toy = Toy() if guarded else Toy(attrs.evolve(WARY, clip_factor=1e9))
        toy.settle()
        before = toy.weights()
        toy.make(gradient=1e4)
        for _ in range(3):  # The momentum carries a garbage gradient on.
            toy.make()
        return float((toy.weights() - before).norm())

    usual = Toy()
    usual.settle()
    before = usual.weights()
    for _ in range(4):
        usual.make()
    normal = float((usual.weights() - before).norm())
    assert move(guarded=True) < 4 * normal
    assert move(guarded=False) > 2 * move(guarded=True)


def test_clipping_follows_the_usual_norm_and_not_a_fixed_one() -> None:
    toy = Toy()
    toy.settle()
    usual = toy.guard.limit
    assert usual < 1
    for _ in range(3):
        toy.make(gradient=1e6)
    assert toy.guard.limit < 3 * usual, "outliers must not teach the guard that they are usual"
    clipped = toy.guard.clipped
    toy.make(gradient=100.0)
    assert toy.guard.clipped == clipped + 1


def test_thrown_weights_go_back_with_the_optimiser() -> None:
    toy = Toy()
    toy.settle()
    sound = toy.weights()
    average = [t.clone() for t in toy.average.state_dict()["average"]]
    with torch.no_grad():
        toy.net.weight.add_(50)
    verdicts = [toy.make() for _ in range(3)]
    assert verdicts == [Verdict.SKIP, Verdict.RESTORE, Verdict.GO]
    assert float((toy.weights() - sound).abs().max()) < 0.1
    now = toy.average.state_dict()["average"]
    assert max(float((a - b).abs().max()) for a, b in zip(now, average, strict=True)) < 0.1
    moments = [state["exp_avg"] for state in toy.optimiser.state.values()]
    assert all(torch.isfinite(m).all() and float(m.abs().max()) < 10 for m in moments)


def test_weights_that_are_not_numbers_go_back() -> None:
    toy = Toy()
    toy.settle()
    with torch.no_grad():
        toy.net.weight.fill_(float("nan"))
    verdicts = [toy.make() for _ in range(7)]
    assert Verdict.RESTORE in verdicts
    assert torch.isfinite(toy.weights()).all()
    assert all(torch.isfinite(t).all() for t in toy.average.state_dict()["average"])


def test_a_lasting_change_of_the_loss_is_learnt_and_not_undone_for_ever() -> None:
    toy = Toy()
    toy.settle()
    verdicts = [toy.make(offset=100.0) for _ in range(30)]
    assert verdicts[:3] == [Verdict.SKIP, Verdict.RESTORE, Verdict.GO]
    assert set(verdicts[2:]) == {Verdict.GO}


def test_a_training_that_cannot_be_saved_ends_in_a_sentence() -> None:
    toy = Toy()
    toy.settle(100)

    def go_on() -> None:
        for _ in range(200):
            toy.make(factor=float("nan"))

    with pytest.raises(DivergedError, match="lower the rate"):
        go_on()


def test_an_even_loss_is_no_trap() -> None:
    toy = Toy()
    for step in range(100):
        assert toy.guard.judge(step, 1.0, 1.0) is Verdict.GO
    assert toy.guard.judge(100, 1.05, 1.0) is Verdict.GO
    assert toy.guard.judge(101, 5.0, 1.0) is Verdict.SKIP


def test_negative_losses_are_judged_too() -> None:
    toy = Toy()
    for step in range(100):
        assert toy.guard.judge(step, -3 + 0.1 * math.sin(step), 1.0) is Verdict.GO
    assert toy.guard.judge(100, 3.0, 1.0) is Verdict.SKIP


def test_what_the_guard_knows_survives_a_checkpoint() -> None:
    toy, other = Toy(), Toy()
    toy.settle()
    toy.make(factor=1e6)
    other.guard.load_state_dict(toy.guard.state_dict())
    assert other.guard.state_dict() == toy.guard.state_dict()
    assert other.guard.judge(500, 1e6, 1.0) is Verdict.RESTORE
    assert other.guard.restore() is False, (
        "the snapshot is not in the checkpoint: the average takes its place"
    )


def test_average_warms_up_and_forgets_the_start() -> None:
    parameter = nn.Parameter(torch.full((3,), 1000.0))
    average = WeightAverage([parameter], 0.999)
    with torch.no_grad():
        parameter.fill_(1.0)
    average.hold()
    for _ in range(200):
        average.update()
    with average.applied():
        assert float(parameter.detach()[0]) == pytest.approx(1.0, abs=0.01)
    assert float(parameter.detach()[0]) == 1.0


def test_average_is_put_in_and_taken_out_again_even_after_an_error() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    average = WeightAverage([parameter], 0.5)
    with torch.no_grad():
        parameter.fill_(1.0)
    average.hold()
    average.update()

    def fail_within() -> None:
        with average.applied():
            assert 0 < float(parameter.detach()[0]) <= 1
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail_within()
    assert torch.equal(parameter.detach(), torch.ones(3))


def test_a_share_of_the_start_stays_in_what_is_exported_also_after_a_resume() -> None:
    parameter = nn.Parameter(torch.full((3,), 8.0))
    average = WeightAverage([parameter], 0.0, start_share=0.25)
    with torch.no_grad():
        parameter.fill_(4.0)
    average.hold()
    average.update()
    resumed = WeightAverage([parameter], 0.0, start_share=0.25)
    resumed.load_state_dict(average.state_dict())
    for one in (average, resumed):
        with one.applied():
            assert parameter.detach().tolist() == [5.0] * 3
        assert parameter.detach().tolist() == [4.0] * 3
        one.copy_to_parameters()
        assert parameter.detach().tolist() == [4.0] * 3, "a restored step goes on from the average itself"


def test_average_of_another_network_is_refused() -> None:
    one, other = WeightAverage([torch.zeros(3)]), WeightAverage([torch.zeros(4)])
    with pytest.raises(UsageError, match="preset"):
        other.load_state_dict(one.state_dict())
    with pytest.raises(UsageError, match="decay"):
        WeightAverage([torch.zeros(3)], 1.0)
    with pytest.raises(UsageError, match="share of the first weights"):
        WeightAverage([torch.zeros(3)], start_share=1.0)


def test_states_of_former_versions_are_loaded() -> None:
    """Trainings of hours wait in checkpoints: the keys of average and guard stay."""
    average = WeightAverage([torch.zeros(3)])
    average.load_state_dict({"updates": 4, "average": [torch.tensor([1.0, 2.0, 3.0])]})
    average.hold()
    average.update()
    assert average.updates == 5
    assert torch.allclose(average.state_dict()["average"][0], torch.tensor([1.0, 2.0, 3.0]) * 5 / 14)
    former = {
        "losses": [0.5, 0.4],
        "norms": [1.0],
        "restore_steps": [7],
        "bad_in_a_row": 2,
        "suspect": True,
        "skipped": 5,
        "restored": 1,
        "clipped": 3,
        "rate_factor": 0.5,
    }
    guard = Toy().guard
    guard.load_state_dict(former)
    assert guard.state_dict() == former
    assert guard.rate_factor == 0.5
    assert guard.skipped == 5
