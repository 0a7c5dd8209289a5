"""What is given to Python in place of a path or a sink is refused in one sentence that names its type."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bigrestore
from bigrestore.errors import UsageError
from bigrestore.run.sinks import Sink

QUICK: dict[str, Any] = {"method": "rational", "progress": "none"}

GREY = np.full((64, 48), 200, np.uint8)


@pytest.mark.parametrize(
    "given", [GREY, [GREY, GREY], 3, b"section.png"], ids=lambda given: type(given).__name__
)
@pytest.mark.parametrize("call", ["open_section", "score", "degrade", "load_model", "before", "reference"])
def test_what_is_no_path_is_refused_with_its_type(tmp_path: Path, call: str, given: Any) -> None:
    file = tmp_path / "section.png"
    Image.fromarray(GREY).save(file)
    calls: dict[str, Callable[[], object]] = {
        "open_section": lambda: bigrestore.open_section(given),
        "score": lambda: bigrestore.score(given, progress="none"),
        "degrade": lambda: bigrestore.degrade(given, tmp_path / "pairs", count=1, progress="none"),
        "load_model": lambda: bigrestore.load_model(given),
        "before": lambda: bigrestore.score(file, before=given, progress="none"),
        "reference": lambda: bigrestore.score(file, reference=given, progress="none"),
    }
    item = given[0] if isinstance(given, list) and call != "load_model" else given
    with pytest.raises(UsageError, match=f"is of the type {type(item).__name__}; give a path"):
        calls[call]()


@pytest.mark.parametrize("given", [GREY, 5, b"out"], ids=lambda given: type(given).__name__)
def test_an_output_that_is_no_path_is_refused_with_its_type(tmp_path: Path, given: Any) -> None:
    file = tmp_path / "section.png"
    Image.fromarray(GREY).save(file)
    for call in (
        lambda: bigrestore.restore(file, given, **QUICK),
        lambda: bigrestore.score(file, given, progress="none"),
        lambda: bigrestore.degrade(file, given, count=1, progress="none"),
    ):
        with pytest.raises(
            UsageError, match=f"The output is of the type {type(given).__name__}; give a path"
        ):
            call()


def test_a_path_of_another_class_is_opened(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "section.png")
    with os.scandir(tmp_path) as entries:
        assert bigrestore.open_section(next(entries)).shape[-2:] == GREY.shape  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sinks", "says"),
    [
        (Sink(), "sinks is of the type Sink; give a list"),
        ([Sink], "A sink is the class Sink; give an object"),
        ([Sink(), 3], "A sink is of the type int"),
    ],
)
def test_what_is_no_list_of_sinks_is_refused(sinks: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        bigrestore.restore(GREY, sinks=sinks, **QUICK)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_black_array_is_restored_without_a_word_of_temporary_files(
    dtype: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert not bigrestore.restore(np.zeros((64, 48), dtype), **QUICK).any()
    assert "array.zarr" not in caplog.text
