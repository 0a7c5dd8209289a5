"""README.md is read by people in a hurry: its commands, flags and code must exist and run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import typer
from PIL import Image

from bigrestore.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- tested -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


def blocks(language: str, *, tested: bool = False) -> list[str]:
    return [text for mark, name, text in BLOCK.findall(README) if name == language and (mark or not tested)]


def commands() -> list[list[str]]:
    lines = [line for text in blocks("bash") for line in text.splitlines() if line.startswith("bigrestore ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        words_of_name = 2 if " ".join(rest[:2]) in command.commands else 1
        name = " ".join(rest[:words_of_name])
        assert name in command.commands, f"there is no command {name!r}"
        command, rest = command.commands[name], rest[words_of_name:]
    return command, rest


def options_of(command: click.Command) -> set[str]:
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


def every_flag() -> set[str]:
    def walk(command: click.Command) -> Iterator[str]:
        yield from options_of(command)
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    return set(walk(typer.main.get_command(app))) | {"--help"}


def test_the_two_commands_come_first() -> None:
    assert [line.split("#")[0].strip() for line in blocks("bash")[0].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_there_are_commands_to_check() -> None:
    assert {words[0] for words in commands()} >= {
        "run",
        "score",
        "info",
        "verify",
        "profile",
        "degrade",
        "train",
        "models",
    }


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_is_understood(words: list[str]) -> None:
    command, rest = resolve(words)
    command.make_context("bigrestore", rest, resilient_parsing=False)


def test_flags_in_the_text_exist() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)) - {"--readme", "--index-url"}
    assert named <= every_flag()


def test_make_targets_in_the_text_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", README, flags=re.MULTILINE))
    assert {"demo", "test", "bench", "wheel"} <= named <= targets


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    y, x = np.mgrid[:192, :160]
    Image.fromarray((128 + 100 * np.sin(y / 9) * np.cos(x / 7)).astype(np.uint8)).save(
        tmp_path / "section.png"
    )
    return tmp_path


def test_shell_block_runs(workplace: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    (script,) = blocks("bash", tested=True)
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=workplace, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (workplace / "enlarged.ome.zarr" / "zarr.json").is_file()
    assert (workplace / "region.ome.tif").is_file()


def test_python_block_runs(workplace: Path) -> None:
    script = "\n".join(blocks("python", tested=True))
    done = subprocess.run([sys.executable, "-c", script], cwd=workplace, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (workplace / "from_python.ome.zarr" / "zarr.json").is_file()


def test_exit_codes_are_those_of_the_errors() -> None:
    from bigrestore import errors

    table = README.split("## Exit codes")[1].split("##")[0]
    stated = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert stated == {kind.exit_code for kind in kinds if issubclass(kind, errors.BigrestoreError)} | {0, 130}
