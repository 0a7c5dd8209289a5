"""What the help says of options, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer
from typer.testing import CliRunner

from bigrestore.cli.app import app
from bigrestore.cli.from_settings import NAMES, completion
from bigrestore.settings.checks import OneOf
from bigrestore.settings.option import OPTION_KEY, words_offered
from bigrestore.settings.run import RunSettings

MAIN: Any = typer.main.get_command(app)
ROOT = Path(__file__).parents[2]

NAMED_BY_CONTENT = {
    *("Restoration", "Tiles and hardware", "Input", "Output", "Workers and job arrays"),
    *("Report, progress and log", "Scores and tiles", "Images to compare with"),
}


def commands(group: Any = MAIN, before: str = "") -> Iterator[tuple[str, Any]]:
    yield before.strip(), group
    for name, one in getattr(group, "commands", {}).items():
        yield from commands(one, f"{before}{name} ")


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_a_flag_has_no_type_in_the_help(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "100"}).output
    assert "--help" in shown
    assert "bool" not in shown


def test_panels_are_named_by_what_they_hold() -> None:
    panels = {
        parameter.rich_help_panel
        for _, one in commands()
        for parameter in getattr(one, "params", ())
        if getattr(parameter, "rich_help_panel", None)
    }
    assert panels == NAMED_BY_CONTENT


def test_a_paragraph_of_the_help_is_broken_by_the_terminal_alone() -> None:
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert "5 finished with failed blocks, 6 --fail-if is true, 75 stopped by a signal" in shown


def completed(words: str) -> list[str]:
    """Return what bash is offered for the last word."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_BIGRESTORE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "import sys; sys.argv = ['bigrestore']; from bigrestore.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bigrestore ver", ["verify"]),
        ("bigrestore run --precision ", ["auto", "fp32", "bf16", "fp16"]),
        ("bigrestore run --no-l", ["--no-lock"]),
        ("bigrestore train po", ["polish"]),
    ],
)
def test_a_shell_completes_commands_flags_and_values(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


@pytest.mark.parametrize("field", attrs.fields(RunSettings), ids=lambda field: field.name)
def test_every_choice_of_a_run_is_offered(field: Any) -> None:
    if OPTION_KEY not in field.metadata or not isinstance(field.validator, OneOf):
        return
    complete = completion(field.name, words_offered(field))
    assert complete is not None
    assert complete("") == list(map(str, field.validator.choices))


@pytest.mark.parametrize(
    ("name", "known"),
    [("model", "tiny-x1"), ("recipe", "bigbrain"), ("method", "catmull-rom"), ("name", "tiny-x2")],
)
def test_names_of_models_recipes_and_methods_are_offered(name: str, known: str) -> None:
    complete = completion(name, ())
    assert complete is not None
    assert known in complete("")
    assert complete(known[:3])
    assert complete("nothing/such") == [], "the shell offers files then"
    assert set(NAMES) == {"model", "name", "start", "recipe", "method"}


def test_the_last_name_of_a_list_is_completed() -> None:
    complete = completion("maps", ("residual", "invented", "uncertainty"))
    assert complete is not None
    assert complete("residual,i") == ["residual,invented"]
    assert completion("input", ()) is None, "files are the shell's"


def test_the_names_of_models_are_looked_up_without_loading_one() -> None:
    script = (
        "import sys\nfrom bigrestore.cli.from_settings import NAMES\n"
        "print([NAMES[name]() != [] for name in NAMES], [name for name in ('torch', 'zarr') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("[True, True, True, True, True] []"), done.stdout + done.stderr
