"""A short selection of what `corpus.py` tries at length: hostile inputs end in one sentence, and nothing is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bad_inputs import BESIDE, CORPUS, INFO, MODEL, Bad
from fuzz_readers import good_files, one_file

import bigrestore
from bigrestore.errors import BigrestoreError
from bigrestore.io.open_section import open_section

PACKAGE = Path(bigrestore.__file__).parent

SLOW = {"png_bomb", "nifti_gzip_bomb", "tiff_deflate_bomb", "zip_with_a_bomb_for_a_chunk", "tiff_xml_bomb"}
SELECTED = [
    bad
    for bad in CORPUS
    if bad.name not in SLOW
    and (bad.command == INFO or bad.name.startswith(("zarr", "zip", "device", "named")))
    and 0 not in bad.codes
]


def read_whole(source: Path | str) -> None:
    section = open_section(source)
    section.read(0, 0, section.height, 0, section.width)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("bad", SELECTED, ids=lambda bad: bad.name)
def test_a_bad_input_is_refused_in_a_sentence(bad: Bad, tmp_path: Path) -> None:
    source = bad.make(tmp_path)
    before = {str(path) for path in tmp_path.rglob("*")}
    with pytest.raises(BigrestoreError) as error:
        read_whole(source)
    assert error.value.exit_code == 3
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
    assert {str(path) for path in tmp_path.rglob("*")} == before, "opening it left something behind"


@pytest.mark.parametrize("bad", [bad for bad in CORPUS if bad.command == MODEL], ids=lambda bad: bad.name)
def test_a_bad_model_is_refused_in_a_sentence(
    bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    import torch

    from bigrestore.model.nets.foreign.load import load_foreign

    monkeypatch.chdir(tmp_path)
    model = Path(bad.make(tmp_path))
    with pytest.raises(BigrestoreError) as error:
        load_foreign(model, 1, torch.device("cpu"), "auto")
    assert error.value.exit_code == 3
    assert re.fullmatch(r"[^\n]+\.", str(error.value))
    assert {path.name for path in tmp_path.iterdir()} == {BESIDE, model.name}, "nothing was run"


def test_there_are_enough_of_them() -> None:
    names = [bad.name for bad in CORPUS]
    assert len(names) == len(set(names)) >= 100


@pytest.mark.parametrize("place", [0.02, 0.31, 0.64, 0.97])
def test_damaged_files_are_read_or_refused(place: float, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "work").mkdir()
    for path in good_files(tmp_path / "good"):
        for value in (0, 7, 255):
            one_file(path, tmp_path / "work")([(place, value, 4), (1 - place, value, 1)])


@pytest.mark.parametrize(
    ("what", "allowed"),
    [
        # Between a process and the child that it started, through a pipe that nobody else holds.
        (
            r"pickle\.loads?\b|Unpickler\b|cloudpickle|\bdill\b|shelve|marshal",
            {"report/pool.py", "report/worker.py"},
        ),
        (r"(?<![\w.])(eval|exec)\(", set()),
        (r"shell\s*=\s*True|os\.system|os\.popen", set()),
        (r"torch\.load\((?!.*weights_only=True)", set()),
        (r"yaml\.load\(|allow_pickle\s*=\s*True|numpy\.load\(.*pickle", set()),
        (r"tempfile\.mktemp\(", set()),
        (r"verify\s*=\s*False", set()),
    ],
)
def test_the_package_runs_nothing_that_it_reads(what: str, allowed: Any) -> None:
    """A model, a store or a recipe is data: no pickle, no eval, no shell, no passing file that others can make."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(what, line.split("#")[0])
    }
    assert found <= allowed, found
