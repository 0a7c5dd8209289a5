"""A condition is read, never run; what it asks for exists, and a value that is none does not pass it."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigrestore.errors import UsageError
from bigrestore.report.table.condition import LONGEST, Condition, condition_values
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tiles import column_names

VALUES = {"niqe.median": 4.0, "niqe_before.median": 5.0, "psnr.min": 24.0, "valid.share": 0.75}


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("niqe.median > niqe_before.median", False),
        ("niqe.median < niqe_before.median", True),
        ("psnr.min < 25 and valid.share > 0.5", True),
        ("psnr.min < 20 or valid.share <= 0.75", True),
        ("not psnr.min < 25", False),
        ("3 < niqe.median <= 4.0", True),
        ("niqe.median - niqe_before.median > -0.5", False),
        ("psnr.min / 2 == 12 and psnr.min * 2 != 12 + 1", True),
        ("(psnr.min < 20 or psnr.min > 23) and not (valid.share < 0.5)", True),
        ("psnr.min / 0 > 1", False),
    ],
)
def test_conditions_mean_what_they_say(text: str, fails: bool) -> None:
    condition = Condition.parse(text)
    condition.require(VALUES)
    found = condition.failure(VALUES)
    assert (found is not None) == fails
    if found:
        assert text in found
        assert all(name in found for name in condition.names)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') > 1",
        "niqe.median.__class__() > 1",
        "niqe['median'] > 1",
        "[niqe.median for _ in ()] > 1",
        "(lambda: 1)() > 0",
        "'text' > 1",
        "niqe.median if 1 else 2",
        "niqe.median",
        "1",
        "niqe.median and psnr.min",
        "(1 < 2) < 3",
        "(1 < 2) + 3 > 1",
        "-(1 < 2)",
        "niqe.median in (1, 2)",
        "niqe.median ** 9999 > 1",
        "niqe.median := 3",
        "True",
        "",
        "niqe.median >",
        "(" * 300 + "1" + ")" * 300,
        "1 < 2 or " * LONGEST,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-if"):
        Condition.parse(text)


@given(st.text(max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert Condition.parse(text).text == text


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"niqe\.mode.*median of niqe"):
        Condition.parse("niqe.mode > 3").require(VALUES)


def test_a_value_that_is_no_number_does_not_pass() -> None:
    for text in ("niqe.median > 9", "niqe.median < 9", "not niqe.median > 9"):
        found = Condition.parse(text).failure({"niqe.median": math.nan})
        assert found is not None
        assert "not a number" in found


def test_the_names_are_those_of_the_table_before_it_is_filled() -> None:
    names = column_names(("niqe", "piqe"), pair=True, reference=True)
    empty = condition_values(summarise({name: [] for name in names}, resamples=1))
    rng = np.random.default_rng(0)
    filled = {name: rng.uniform(0, 1, 40) for name in names}
    filled |= {name: np.arange(40) for name in ("z", "row", "column", "y", "x", "height", "width")}
    filled |= {name: np.array([""] * 40, object) for name in ("reason", "reason_before")}
    filled["z"] = np.zeros(40)
    found = condition_values(summarise(filled, resamples=10))
    assert set(found) == set(empty)
    assert found["niqe.median"] == pytest.approx(np.median(filled["niqe"]))
    assert found["niqe_before.max"] == pytest.approx(filled["niqe_before"].max())
    assert found["valid.share"] == 1.0
    assert math.isnan(empty["valid.share"])
