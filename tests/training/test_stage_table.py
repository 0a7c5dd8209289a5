"""The table of stages names modules that build, an order that can be trained, and the options that the commands have."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from bigrestore.cli.app import app
from bigrestore.training.stages.assembly import StageBuilder, StagePlan, _builder, stage_plan
from bigrestore.training.stages.table import STAGES


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_builder_with_its_plan(name: str) -> None:
    assert isinstance(stage_plan(name), StagePlan)
    assert isinstance(_builder(name), StageBuilder)


def test_a_stage_needs_one_that_comes_before_it() -> None:
    names = [name for name, row in STAGES.items() if row.part is None]
    assert STAGES[names[0]].needs is None
    for before, name in itertools.pairwise(names):
        assert STAGES[name].needs == before
        assert all(names.index(undone) > names.index(name) for undone in STAGES[name].undoes)


@pytest.mark.parametrize("name", STAGES)
def test_the_command_of_a_stage_has_its_rate_its_help_and_its_options(name: str) -> None:
    train = typer.main.get_command(app).get_command(None, "train")  # type: ignore[attr-defined,arg-type]
    assert list(train.commands) == list(STAGES)
    command, row = train.commands[name], STAGES[name]
    options = {parameter.name: parameter for parameter in command.params}
    _, given = command.source.load().read({"data": Path("images"), "output": Path("m.safetensors")})
    assert given["rate"] == row.rate
    assert f"[{row.rate:g}]" in options["rate"].help.replace("\\", "")
    assert command.help == row.help
    assert ("recipe" in options, "prior" in options) == (row.takes_recipe, row.takes_prior)
    assert ("preset" in options, "scale" in options) == (row.part is None, row.scales != (1,))


def test_the_table_loads_no_torch() -> None:
    code = "import sys, bigrestore.training.stages.table; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
