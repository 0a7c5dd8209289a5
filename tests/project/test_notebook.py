"""The notebook runs from its first cell to its last, shows its results, and holds the outputs of such a run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.warm_python import WarmPython

NOTEBOOK = Path(__file__).parents[2] / "examples" / "restore.ipynb"
MOST_BYTES = 300_000

CELLS = [
    cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
]

RUN = """
import ast, json, sys
namespace = {}
for source, fails in json.load(sys.stdin):
    *body, last = ast.parse(source).body
    shown = None
    try:
        exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        else:
            exec(compile(ast.Module([last], []), "cell", "exec"), namespace)
    except Exception as error:
        if not fails:
            raise
        print(*error._render_traceback_())
    if hasattr(shown, "_repr_html_"):
        assert shown._repr_html_().startswith("<")
"""
"""A kernel in small: it runs cells in one namespace and shows what their last line gives."""


def may_fail(cell: dict[str, Any]) -> bool:
    return "raises-exception" in cell["metadata"].get("tags", [])


def test_the_cells_run_one_after_the_other(tmp_path: Path, warm_python: WarmPython) -> None:
    cells = [("".join(cell["source"]), may_fail(cell)) for cell in CELLS]
    done = subprocess.run(
        [warm_python.executable, "-c", RUN],
        input=json.dumps(cells),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "InputMissingError: missing.tif does not exist; check the path."
    before, after = (float(line.split()[1]) for line in done.stdout.splitlines()[:2])
    assert after > before + 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_stored_outputs_are_those_of_a_run() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    for cell in CELLS:
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert ("error" in kinds) == may_fail(cell)
    shown = [output.get("data", {}) for cell in CELLS for output in cell["outputs"]]
    assert sum("image/png" in data for data in shown) >= 2
    pages = ["".join(data["text/html"]) for data in shown if "text/html" in data]
    assert (
        sum(all(name in page for name in ("BRISQUE", "NIQE", "PIQE", "before", "after")) for page in pages)
        >= 2
    )


def test_the_notebook_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    for folder in ("/home/", "/root/", "/tmp/", "/work/", "/Users/"):
        assert folder not in text
