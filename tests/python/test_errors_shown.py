"""A foreseen error shows one sentence: alone in a notebook, behind the caller's own line in plain Python."""

from __future__ import annotations

import errno
import inspect
import logging
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import bigrestore
from bigrestore import errors
from bigrestore.errors import BigrestoreError, InputError, InputMissingError, OutputError

CALLS = {
    "restore": 'restore("missing.tif", "out.ome.zarr")',
    "score": 'score("missing.tif")',
    "degrade": 'degrade("missing.tif", "pairs", count=1)',
    "open_section": 'open_section("missing.tif")',
    "load_model": 'load_model("missing.safetensors")',
    "a wrong flag": 'restore("missing.tif", "out.ome.zarr", scale=3)',
    "no output": 'restore("missing.tif")',
    "an array": "restore(__import__('numpy').zeros((0, 3), 'uint8'))",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_plain_python_shows_the_callers_line_and_one_sentence(name: str, tmp_path: Path) -> None:
    script = f"import bigrestore\nbigrestore.{CALLS[name]}\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert sum(line.startswith("  File ") for line in lines) == 2, done.stderr
    assert lines[-1].startswith("bigrestore.errors.")
    assert "During handling" not in done.stderr
    assert "direct cause" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @errors.without_frames
    def broken() -> None:
        def inside() -> None:
            raise ZeroDivisionError("oops")

        inside()

    with pytest.raises(ZeroDivisionError) as info:
        broken()
    assert "inside" in [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]


def test_the_debug_log_has_the_error_in_full(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "bigrestore"), pytest.raises(InputMissingError) as info:
        bigrestore.open_section("missing.tif")
    frames = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
    assert "open_input" not in frames
    assert "open_input" in caplog.text


KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BigrestoreError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_notebook_shows_each_error_as_its_sentence(kind: type[BigrestoreError]) -> None:
    error = kind("section.tif does not exist; check the path.")
    if isinstance(error, OSError):
        error.errno = errno.ENOENT
    assert error._render_traceback_() == [f"{kind.__name__}: section.tif does not exist; check the path."]


def test_ipython_shows_the_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    shell.run_cell("import bigrestore; bigrestore.restore('missing.tif', 'out.ome.zarr')")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == "InputMissingError: missing.tif does not exist; check the path."


@pytest.mark.parametrize("name", ["degrade", "load_model", "open_section", "restore", "score"])
def test_a_public_function_is_itself_however_it_is_reached(name: str) -> None:
    function: Any = getattr(bigrestore, name)
    assert function is getattr(bigrestore, name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert (function.__module__, function.__name__) == ("bigrestore", name)
    assert function.__doc__
    assert inspect.signature(function) == inspect.signature(inspect.unwrap(function))


def test_errors_of_the_public_functions_are_caught_as_before(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bigrestore.restore(tmp_path / "missing.tif", tmp_path / "out.ome.zarr")
    (tmp_path / "bad.tif").write_bytes(b"II*\0garbage")
    with pytest.raises(InputError):
        bigrestore.open_section(tmp_path / "bad.tif")
    Image.new("L", (9, 9)).save(tmp_path / "good.png")
    with pytest.raises(OutputError):
        bigrestore.restore(tmp_path / "good.png", tmp_path / "good.png" / "out.ome.zarr")


def test_importing_loads_nothing() -> None:
    script = (
        "import sys, bigrestore\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in "
        "('bigrestore', 'numpy', 'torch', 'zarr', 'dask', 'xarray', 'IPython', 'logging')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "['bigrestore', 'bigrestore._version']"


@pytest.mark.slow
def test_restoring_imports_no_array_library_of_its_own(tmp_path: Path) -> None:
    script = (
        "import sys, numpy, bigrestore\n"
        "bigrestore.restore(numpy.full((9, 9), 7, 'uint8'), method='rational', progress='none')\n"
        "print([name for name in ('xarray', 'IPython', 'bigrestore.report') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr
