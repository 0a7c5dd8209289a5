"""A killed training loses minutes and nothing else."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.errors import InputError, OutputError, OutputExistsError, UsageError
from bigrestore.training.data.patches import step_generator
from bigrestore.training.loop import loop
from bigrestore.training.loop.guard import GuardSettings
from bigrestore.training.loop.loop import train
from bigrestore.training.loop.resume import list_checkpoints, load_checkpoint, save_checkpoint
from bigrestore.training.loop.schedule import LoopSettings


class ToyStage:
    """Learns a fixed linear map; can raise a signal, or give a bad batch, at chosen steps."""

    name = "toy"

    def __init__(self, *, stop_at: int = -1, bad_at: tuple[int, ...] = (), bad: float = float("nan")) -> None:
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        self.stop_at, self.bad_at, self.bad = stop_at, bad_at, bad
        self.seen: list[int] = []
        self.validated: list[float] = []

    def modules(self) -> nn.Module:
        return self.net

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        self.seen.append(step)
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        loss = self._loss(step_generator(3, step))
        if step in self.bad_at:
            loss = loss * self.bad
        # The global state counts too: a stage may use dropout.
        return {"loss": loss + 0 * torch.rand(()), "half": loss / 2}

    def _loss(self, generator: torch.Generator) -> Tensor:
        x = torch.randn(32, 4, generator=generator)
        return ((self.net(x)[:, 0] - x.sum(1)) ** 2).mean()

    def validate(self) -> dict[str, float]:
        figure = float(self._loss(torch.Generator().manual_seed(0)))
        self.validated.append(figure)
        return {"error": figure}

    def sheet(self) -> NDArray[Any] | None:
        return np.zeros((8, 8), np.uint8)

    def state(self) -> dict[str, Any]:
        return {"note": "toy"}

    def load_state(self, state: dict[str, Any]) -> None:
        assert state["note"] == "toy"

    def export(self, path: Path) -> None:
        torch.save(self.net.state_dict(), path)


def settings(directory: Path, **changes: Any) -> LoopSettings:
    values: dict[str, Any] = {"steps": 120, "rate": 1e-2, "log_every": 5, "warmup_steps": 10} | changes
    return LoopSettings(directory=directory, **values)


def weights(stage: ToyStage) -> Tensor:
    return torch.cat([p.detach().flatten() for p in stage.net.parameters()])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_resumed_training_ends_in_the_same_bits(tmp_path: Path) -> None:
    straight = ToyStage()
    result = train(straight, settings(tmp_path / "a"), tmp_path / "a.pt")
    assert (result.status, result.steps) == ("done", 120)

    first = ToyStage(stop_at=47)
    stopped = train(first, settings(tmp_path / "b"), tmp_path / "b.pt")
    assert (stopped.status, stopped.steps) == ("stopped", 48)
    assert not (tmp_path / "b.pt").exists()
    second = ToyStage()
    resumed = train(second, settings(tmp_path / "b", resume=True), tmp_path / "b.pt")

    assert resumed.status == "done"
    assert second.seen == list(range(48, 120))
    assert torch.equal(weights(second), weights(straight))
    one, other = torch.load(tmp_path / "a.pt"), torch.load(tmp_path / "b.pt")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.figures == result.figures
    assert not torch.equal(one["0.weight"], straight.net[0].weight), "the average is shipped, not the weights"


def test_finished_training_resumes_to_itself(tmp_path: Path) -> None:
    done = train(ToyStage(), settings(tmp_path), tmp_path / "m.pt")
    again = ToyStage()
    result = train(again, settings(tmp_path, resume=True), tmp_path / "m2.pt")
    assert again.seen == []
    assert (result.status, result.figures) == ("done", done.figures)
    assert (tmp_path / "m2.pt").exists()


def test_no_step_is_twice_in_the_log(tmp_path: Path) -> None:
    train(ToyStage(stop_at=47), settings(tmp_path))
    # The rows of a killed training reach beyond its last checkpoint, and the last one may be torn.
    with (tmp_path / "log.csv").open("a") as stream:
        stream.write("49,1,1,1,1,1,0,0,0\n54,1,1,1,1,1,0,0,0\n59,1.")
    train(ToyStage(), settings(tmp_path, resume=True))
    steps = [int(row["step"]) for row in rows(tmp_path / "log.csv")]
    assert steps == list(range(4, 120, 5))
    assert float(rows(tmp_path / "log.csv")[-1]["loss"]) < float(rows(tmp_path / "log.csv")[0]["loss"])
    assert [int(row["step"]) for row in rows(tmp_path / "validation.csv")] == [120]


def test_checkpoint_at_every_interval_and_two_kept(tmp_path: Path) -> None:
    stage = ToyStage()
    train(stage, settings(tmp_path, checkpoint_s=1e-9, steps=10))
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "checkpoint-000000009.pt",
        "checkpoint-000000010.pt",
    ]
    assert len(stage.validated) == 10
    assert (tmp_path / "sheets" / "step-000000010.png").is_file()
    assert not list(tmp_path.glob("*.partial"))


def test_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path, caplog: Any) -> None:
    train(ToyStage(stop_at=20), settings(tmp_path, checkpoint_s=1e-9))
    older, newest = list_checkpoints(tmp_path)
    whole = newest.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", _flip(whole)):
        newest.write_bytes(damage)
        saved = load_checkpoint(tmp_path)
        assert saved is not None
        assert saved["step"] == 20
    assert "is damaged" in caplog.text
    straight, resumed = ToyStage(), ToyStage()
    train(straight, settings(tmp_path / "straight"))
    train(resumed, settings(tmp_path, resume=True))
    assert resumed.seen[0] == 20
    assert torch.equal(weights(straight), weights(resumed))
    older = list_checkpoints(tmp_path)
    for path in older:
        path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="can be read"):
        load_checkpoint(tmp_path)


def _flip(data: bytes) -> bytes:
    """Flip a bit in the middle of the largest tensor."""
    spot = data.index(b"PK", len(data) // 3) - 40
    return data[:spot] + bytes([data[spot] ^ 1]) + data[spot + 1 :]


def test_unwritable_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another"):
        save_checkpoint(tmp_path / "file", 3, {})
    with pytest.raises(OutputError, match="choose another"):
        train(ToyStage(), settings(tmp_path / "file"))


def test_training_is_not_overwritten(tmp_path: Path) -> None:
    train(ToyStage(stop_at=5), settings(tmp_path))
    with pytest.raises(OutputExistsError, match="--resume"):
        train(ToyStage(), settings(tmp_path))


def test_resume_under_other_settings_names_them(tmp_path: Path) -> None:
    train(ToyStage(stop_at=5), settings(tmp_path, facts={"preset": "tiny"}))
    with pytest.raises(UsageError, match=r"preset was tiny, now base; rate was 0\.01, now 0\.02"):
        train(ToyStage(), settings(tmp_path, facts={"preset": "base"}, rate=2e-2, resume=True))
    train(ToyStage(), settings(tmp_path, facts={"preset": "tiny"}, resume=True, log_every=50, checkpoint_s=7))


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    stage = ToyStage()
    train(stage, settings(tmp_path, resume=True))
    assert stage.seen[0] == 0


def test_minutes_already_spent_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    class Slow(ToyStage):
        rates: list[float]

        def step(self, step: int, progress: float) -> dict[str, Tensor]:
            self.progress = progress
            now[0] += 1.0
            return super().step(step, progress)

    first = Slow(stop_at=19)
    assert train(first, settings(tmp_path, steps=None, minutes=1)).elapsed_s == 20
    now[0] += 5000  # The machine was off: that is not training time.
    second = Slow()
    result = train(second, settings(tmp_path, steps=None, minutes=1, resume=True))
    assert (result.status, result.steps, result.elapsed_s) == ("done", 60, 60)
    assert second.progress == pytest.approx(59 / 60)


def test_rate_warms_up_and_ends_at_the_last_rate(tmp_path: Path) -> None:
    plan = settings(tmp_path, steps=1000, rate=1e-3, warmup_steps=100)
    rates = [plan.rate_at(step, plan.progress(step, 0)) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-5, rel=0.01)
    assert max(rates) == pytest.approx(1e-3, rel=0.03)
    assert int(np.argmax(rates)) in range(98, 101)
    assert rates[500] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-3)
    assert rates[1000] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": None}, {"minutes": 3.0}, {"steps": 0}, {"rate": -1.0}, {"rate": float("nan")}, {"seed": -1}],
)
def test_absurd_settings_are_sentences(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give"):
        settings(tmp_path, **wrong)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_bad_batches_leave_no_trace(tmp_path: Path, bad: float) -> None:
    """A training with bad batches ends like one without those steps."""
    plan = settings(tmp_path, steps=150, guard=GuardSettings(minimum=20))
    stage = ToyStage(bad_at=(60, 90), bad=bad)
    result = train(stage, plan)
    clean = train(ToyStage(), attrs.evolve(plan, directory=tmp_path / "clean"))
    assert (result.skipped, result.restored) == (2, 0)
    assert all(torch.isfinite(p).all() for p in stage.net.parameters())
    assert result.figures["error"] < 1.5 * clean.figures["error"] + 1e-3


def test_thrown_weights_are_put_back(tmp_path: Path) -> None:
    class Thrown(ToyStage):
        def step(self, step: int, progress: float) -> dict[str, Tensor]:
            if step == 100:  # As if the step before had gone wild.
                with torch.no_grad():
                    self.net[2].weight.mul_(300)
            return super().step(step, progress)

    plan = settings(tmp_path, steps=150, guard=GuardSettings(minimum=20, snapshot_every=10))
    result = train(Thrown(), plan)
    clean = train(ToyStage(), attrs.evolve(plan, directory=tmp_path / "clean"))
    assert result.restored == 1
    assert result.figures["error"] < 2 * clean.figures["error"] + 1e-3


def test_training_needs_neither_zarr_nor_dask() -> None:
    code = (
        "import sys, bigrestore.training.loop.loop, bigrestore.training.data.patches;"
        "import bigrestore.training.stages.losses, bigrestore.training.loop.sheet;"
        "assert not {'zarr', 'dask', 'scipy', 'matplotlib', 'tensorboard'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_coherent_step_moves_a_wide_filter_no_further_than_a_narrow_one(tmp_path: Path) -> None:
    wide, narrow, bias = (nn.Parameter(torch.zeros(*shape)) for shape in ((4, 128, 3, 3), (4, 10), (4,)))
    named = {"wide": wide, "narrow": narrow, "bias": bias}
    limited = settings(tmp_path, fan_in_limit=150, rate_factors={"n*": 0.5, "narrow": 9.0})
    groups = loop._groups_by_factor(named, limited)
    factors = {id(p): group["rate_factor"] for group in groups for p in group["params"]}
    assert factors[id(wide)] == pytest.approx(150 / 1152)
    assert factors[id(bias)] == 1.0
    assert factors[id(narrow)] == 0.5, "the first pattern that fits counts"
    assert [group["rate_factor"] for group in loop._groups_by_factor(named, settings(tmp_path))] == [1.0]
