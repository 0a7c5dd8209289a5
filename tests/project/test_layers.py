"""No import runs back up between the rooms of the package, as pyproject.toml lays them out."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path, package: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a copy of the configuration; `package` is the folder that holds bigrestore."""
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(package)!r}); {LINT}",
        "--no-cache",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_no_import_runs_back_up() -> None:
    pytest.importorskip("importlinter")
    ran = lint(ROOT, ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 kept, 0 broken" in ran.stdout


def test_an_import_that_runs_back_up_is_noticed(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    stated = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(stated)
    package = tmp_path / "bigrestore"
    contract = tomllib.loads(stated)["tool"]["importlinter"]["contracts"][0]
    for layer in (name for line in contract["layers"] for name in line.strip("()").split(" | ")):
        (package / layer).mkdir(parents=True)
        (package / layer / "__init__.py").write_text("")
    for room in ("adaptation", "stages", "fitting", "data", "loop"):
        (package / "training" / room).mkdir()
        (package / "training" / room / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "io" / "__init__.py").write_text("import bigrestore.run\n")
    ran = lint(tmp_path, tmp_path)
    assert ran.returncode == 1
    assert "bigrestore.io is not allowed to import bigrestore.run" in ran.stdout
