"""A foreseen error shows one sentence: alone in a notebook, behind the caller's own line in plain Python."""

from __future__ import annotations

import errno
import inspect
import json
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
from tests.warm_python import WarmPython

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


SHOW = """
import json, sys
for script in json.loads(sys.argv[1]):
    try:
        exec(compile(script, "<string>", "exec"), {"__name__": "__main__"})
    except Exception as error:
        error.__traceback__ = error.__traceback__.tb_next  # without the line above
        sys.excepthook(type(error), error, error.__traceback__)
    print("end of a script", file=sys.stderr, flush=True)
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, warm_python: WarmPython) -> tuple[dict[str, str], Path]:
    """Give what each call writes to stderr, and the folder where they were called."""
    folder = tmp_path_factory.mktemp("calls")
    scripts = json.dumps([f"import bigrestore\nbigrestore.{call}\n" for call in CALLS.values()])
    process = warm_python.start(SHOW, scripts, cwd=folder, env={})
    _, said = process.communicate()
    return dict(zip(CALLS, said.split("end of a script\n")[:-1], strict=True)), folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_plain_python_shows_the_callers_line_and_one_sentence(
    name: str, shown: tuple[dict[str, str], Path]
) -> None:
    written = shown[0][name]
    lines = written.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert sum(line.startswith("  File ") for line in lines) == 2, written
    assert lines[-1].startswith("bigrestore.errors.")
    assert "During handling" not in written
    assert "direct cause" not in written
    assert list(shown[1].iterdir()) == []


@pytest.mark.slow
def test_a_program_ends_with_the_callers_line_and_one_sentence(tmp_path: Path) -> None:
    script = f"import bigrestore\nbigrestore.{CALLS['restore']}\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert sum(line.startswith("  File ") for line in lines) == 2, done.stderr
    assert lines[-1].startswith("bigrestore.errors.")


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
def test_restoring_imports_no_array_library_of_its_own(warm_python: WarmPython) -> None:
    script = (
        "import sys, numpy, bigrestore\n"
        "bigrestore.restore(numpy.full((9, 9), 7, 'uint8'), method='rational', progress='none')\n"
        "print([name for name in ('xarray', 'IPython', 'bigrestore.report') if name in sys.modules])\n"
    )
    done = subprocess.run([warm_python.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr
