"""The package keeps its shape: folders that are read at a glance, short argument lists, plain sentences, a short way.

Each bound is a figure of the package as a whole; the figure is in the message of a failure.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import bigrestore
from bigrestore.cli.app import app
from bigrestore.model.nets.unet import UNet

PACKAGE = Path(bigrestore.__file__).parent
RELATIVE_WORDS = re.compile(r"\b(that|which|what|where|whose)\b")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def nodes() -> tuple[list[Documented], list[str]]:
    """Return what may have a docstring, and the names of all variables that are assigned: one walk over the package."""
    documented, assigned = list[Documented](), list[str]()
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                assigned += [node.id] if isinstance(node.ctx, ast.Store) else []
            elif isinstance(node, Documented):
                documented.append(node)
    return documented, assigned


def imports(tree: ast.Module, files: dict[str, Path]) -> Iterator[Path]:
    """Yield the files of the package that a module imports anywhere, also in functions and for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if name in files:
                    yield files[name]


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(("bigrestore", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in modules()
    }
    sorter = TopologicalSorter({path: set(imports(tree, files)) for path, tree in modules().items()})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(str(path.relative_to(PACKAGE)) for path in reversed(error.args[1])))


def defined_names(tree: ast.Module) -> set[str]:
    """Return the functions, classes and values that a module defines at its top level."""
    names = set()
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(statement.name)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("__")}


def sentences() -> list[str]:
    """Return the sentences of all docstrings, without their numpydoc sections."""
    docs = (ast.get_docstring(node) or "" for node in nodes()[0])
    texts = (re.split(r"\n\w+\n-{3,}", doc)[0] for doc in docs)
    return [part for text in texts for part in re.split(r"(?<=[.!?])\s+", text) if part]


def test_a_folder_holds_a_dozen_files() -> None:
    counts = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in modules())
    (fullest, most), mean = counts.most_common(1)[0], counts.total() / len(counts)
    assert most <= 14, f"{fullest} holds {most} files"
    assert mean <= 9.2, f"{mean:.1f} files a folder"


def test_no_function_takes_many_arguments() -> None:
    functions = [node for node in nodes()[0] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    most, name = max(
        (len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]), node.name)
        for node in functions
    )
    assert most <= 15, f"{name} takes {most}"


def test_a_name_is_defined_in_one_module() -> None:
    homes = defaultdict(list)
    for path, tree in modules().items():
        for name in defined_names(tree):
            homes[name].append(path.relative_to(PACKAGE).as_posix())
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    twice.pop("log", None)  # each module's logger
    assert len(twice) <= 10, f"{len(twice)} names are defined twice: {twice}"


def test_docstrings_are_plain_sentences() -> None:
    said = sentences()
    share = sum(bool(RELATIVE_WORDS.search(sentence)) for sentence in said) / len(said)
    assert len(said) > 2000
    assert share <= 0.20, f"{share:.0%} of the sentences have that, which, what, where or whose"


def test_a_variable_is_named_after_what_it_holds() -> None:
    count = nodes()[1].count("found")
    assert count <= 5, f"{count} variables are named found"


def test_few_frames_lie_between_the_command_and_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = np.random.default_rng(0).integers(90, 160, (64, 64), np.uint8)
    Image.fromarray(grey).save(tmp_path / "in.png")
    ways, forward = [], UNet.forward

    def own_frames(frame: FrameType | None) -> Iterator[str]:
        while frame is not None:
            if PACKAGE in Path(frame.f_code.co_filename).parents:
                yield frame.f_code.co_qualname
            frame = frame.f_back

    def noting(*args: object) -> object:
        waiting = sys._current_frames()[threading.main_thread().ident or 0]
        ways.append([*own_frames(sys._getframe(1)), *own_frames(waiting)])
        return forward(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(UNet, "forward", noting)
    arguments = ["run", str(tmp_path / "in.png"), str(tmp_path / "out.zarr"), "--no-report", "--quiet"]
    assert CliRunner().invoke(app, [*arguments, "--device", "cpu", "--threads", "1"]).exit_code == 0
    way = ways[0][: ways[0].index("run")]
    assert len(way) <= 10, " < ".join(way)
