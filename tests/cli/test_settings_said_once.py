"""An option is one field of a settings class: commands, keywords and TOML names follow from it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import pytest
import typer
from typer.testing import CliRunner

import bigrestore
from bigrestore.cli.app import app
from bigrestore.cli.from_settings import Command, Fields, GivenFlags, Part, command
from bigrestore.degradation.schema import Recipe
from bigrestore.errors import UsageError
from bigrestore.settings import (
    DegradeKeywords,
    DegradeSettings,
    RunKeywords,
    RunSettings,
    ScoreKeywords,
    ScoreSettings,
)
from bigrestore.settings.checks import one_of, yes_or_no
from bigrestore.settings.option import argument, option, option_of
from bigrestore.settings.reading import Settings
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages.table import STAGES

ROOT = Path(__file__).resolve().parents[2]
MAIN: Any = typer.main.get_command(app)


@attrs.frozen(kw_only=True)
class ToySettings(Settings):
    speed: int = attrs.field(
        default=3, validator=one_of((1, 3)), metadata=option("How fast [m/s].", metavar="M/S", panel="How")
    )
    sure: bool = attrs.field(
        default=True, validator=yes_or_no, metadata=option("Be sure.", "--sure/--unsure")
    )
    loud: bool = attrs.field(default=False, validator=yes_or_no, metadata=option("Be loud."))


@attrs.frozen(kw_only=True)
class ToyArguments:
    place: Path = attrs.field(metadata=argument("Where to.", "PLACE"))
    brief: bool = attrs.field(default=False, metadata=option("Say little.", "-b", "--brief"))


@pytest.fixture
def toy() -> tuple[typer.Typer, list[tuple[ToyArguments, GivenFlags]]]:
    calls: list[tuple[ToyArguments, GivenFlags]] = []

    @command(lambda: Fields(ToyArguments, Part(ToySettings, defaults={"speed": 1})))
    def go(asked: ToyArguments, given: GivenFlags) -> None:
        """Go there."""
        calls.append((asked, given))

    toy_app = typer.Typer(add_completion=False)
    toy_app.command()(go)
    return toy_app, calls


def test_a_command_reads_what_its_fields_say(toy: tuple[typer.Typer, list[Any]]) -> None:
    toy_app, calls = toy
    run = CliRunner()
    assert run.invoke(toy_app, ["home"]).exit_code == 0
    assert run.invoke(toy_app, ["home", "--speed", "3", "--unsure", "--loud", "-b"]).exit_code == 0
    assert calls == [
        (ToyArguments(place=Path("home")), {"speed": 1}),
        (ToyArguments(place=Path("home"), brief=True), {"speed": 3, "sure": False, "loud": True}),
    ]
    assert run.invoke(toy_app, []).exit_code == 2
    assert run.invoke(toy_app, ["home", "--speed", "fast"]).exit_code == 2
    assert run.invoke(toy_app, ["home", "--quick"]).exit_code == 2


def test_the_help_of_a_command_is_that_of_its_fields(toy: tuple[typer.Typer, list[Any]]) -> None:
    shown = " ".join(CliRunner().invoke(toy[0], ["--help"]).output.split())
    for words in (
        "Go there.",
        "PLACE",
        "How fast [m/s]. [1]",
        "M/S",
        "Be sure. [sure]",
        "--unsure",
        "Say little.",
    ):
        assert words in shown
    assert "Be loud. [" not in shown


def commands(group: Any = MAIN, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{name} ")
        else:
            yield before + name, one


@pytest.mark.parametrize(("name", "one"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_is_made_of_settings(name: str, one: Any) -> None:
    fields = one.source.load()
    declared = [
        field
        for kind in (*(p.settings for p in fields.parts), fields.arguments)
        for field in attrs.fields(kind)
    ]
    helps = {(field.name, option_of(field).help) for field in declared if field.metadata}
    for parameter in one.params:
        assert (parameter.name, parameter.help.replace("\\[", "[").split("  [")[0]) in helps
    with one.make_context(name, ["--help"], resilient_parsing=True) as context:
        assert one.get_help(context) is not None


@pytest.mark.parametrize(
    ("name", "settings"), [("run", RunSettings), ("score", ScoreSettings), ("degrade", DegradeSettings)]
)
def test_every_field_is_an_option_of_its_command(name: str, settings: type[attrs.AttrsInstance]) -> None:
    fields = {field.name for field in attrs.fields(settings)}
    offered = {parameter.name for parameter in MAIN.commands[name].params}
    assert fields <= offered
    beside = {field.name for field in attrs.fields(MAIN.commands[name].source.load().arguments)}
    assert offered - fields == beside


def test_the_train_commands_offer_what_their_stage_uses() -> None:
    fields = {field.name for field in attrs.fields(StageOptions)}
    for stage, about in STAGES.items():
        offered = {parameter.name for parameter in MAIN.commands["train"].commands[stage].params}
        assert fields - offered == set(about.left_out)
        assert "seed" in offered


@pytest.mark.parametrize(
    ("settings", "keywords"),
    [(RunSettings, RunKeywords), (ScoreSettings, ScoreKeywords), (DegradeSettings, DegradeKeywords)],
)
def test_keywords_have_the_names_and_types_of_the_settings(settings: Any, keywords: Any) -> None:
    names = {"Recipe": Recipe}
    stated = get_type_hints(keywords, localns=names)
    kept = get_type_hints(settings, localns=names)
    fields = {field.name: field for field in attrs.fields(settings)}
    alone = (
        {"method"} if settings is RunSettings else set()
    )  # a parameter of `restore`, which takes an object, too
    assert stated.keys() == fields.keys() - alone
    for name in stated:
        field = fields[name]
        hints = get_type_hints(field.converter) if field.converter else {}
        taken = hints.get("value", object)
        if taken is object:
            assert stated[name] == kept[name], name
            continue
        # What the converter takes; None only where the setting may be None, and what else the field may hold.
        expected = set(get_args(taken)) - {type(None)} | {
            kind for kind in (type(None), Recipe) if kind in get_args(kept[name])
        }
        assert set(get_args(stated[name])) == expected, name


@pytest.mark.parametrize(
    ("call", "source", "meant"),
    [
        (lambda: bigrestore.restore("a", "b", scael=2), "restore()", "scale"),  # type: ignore[call-overload]
        (lambda: bigrestore.score("a", metric="niqe"), "score()", "metrics"),  # type: ignore[call-arg]
        (lambda: bigrestore.degrade("a", "b", cuont=2), "degrade()", "count"),  # type: ignore[call-arg]
    ],
)
def test_an_unknown_keyword_is_refused_with_the_one_that_was_meant(
    call: Any, source: str, meant: str
) -> None:
    with pytest.raises(UsageError) as info:
        call()
    sentence = str(info.value)
    assert sentence.startswith(f"{source} has no setting ")
    assert f"(did you mean {meant!r}?); the settings are " in sentence
    assert sentence.endswith(".")


def test_an_unknown_name_in_a_configuration_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("tile-siz = 480\n")
    with pytest.raises(UsageError, match=r"has no setting 'tile_siz' \(did you mean 'tile_size'\?\)"):
        RunSettings.resolve({}, config)
    config.write_text("qqq = 1\n")
    with pytest.raises(UsageError, match=r"has no setting 'qqq'; the settings are batch_size, "):
        RunSettings.resolve({}, config)


def test_settings_import_nothing_heavy() -> None:
    script = (
        "import sys, importlib, pkgutil, bigrestore.settings as s\n"
        "for module in pkgutil.iter_modules(s.__path__):\n"
        "    importlib.import_module('bigrestore.settings.' + module.name)\n"
        "s.RunSettings(scale=2, roi='0:5,0:5')\n"
        "print([name for name in ('torch', 'numpy', 'zarr', 'dask', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_of_all_commands_loads_the_settings_of_none() -> None:
    script = (
        "import sys\nsys.argv = ['bigrestore', '--help']\nfrom bigrestore.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('run', 'score', 'train', 'looking') if 'bigrestore.settings.' + name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def test_a_command_is_named_and_explained_by_its_function() -> None:
    run: Command[Any] = MAIN.commands["run"].source
    assert run.__name__ == "run"
    assert (run.__doc__ or "").startswith("Restore INPUT into OUTPUT")
