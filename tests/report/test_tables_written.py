"""The files for machines: what is lost or half written would be found out years later."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from report_material import make_report

from bigrestore.errors import InputError, OutputError
from bigrestore.report.table.content import Report
from bigrestore.report.table.tables import plain, read_tiles, write_atomically, write_tiles
from bigrestore.report.table.write import write_report


@pytest.fixture(scope="module")
def report() -> Report:
    return make_report(rows=4, columns=5)


def test_a_report_is_four_files_and_nothing_else(report: Report, tmp_path: Path) -> None:
    summary = write_report(report, tmp_path / "new" / "folder", csv=True)
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["report.html", "summary.json", "tiles.csv", "tiles.parquet"]
    assert json.loads((tmp_path / "new" / "folder" / "summary.json").read_text()) == summary


def test_csv_is_written_only_when_asked_for(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    assert not (tmp_path / "tiles.csv").exists()


def test_parquet_gives_back_every_value_and_the_facts(report: Report, tmp_path: Path) -> None:
    write_tiles(tmp_path, report.tiles, report.facts, csv=True)
    table, facts = read_tiles(tmp_path / "tiles.parquet")
    assert facts == plain(report.facts)
    assert table.column_names == report.tiles.column_names
    for name in table.column_names:
        one, two = (each.column(name).to_numpy(zero_copy_only=False) for each in (table, report.tiles))
        np.testing.assert_array_equal(one, two)
    assert math.isnan(table.column("niqe")[0].as_py())
    assert pyarrow.csv.read_csv(tmp_path / "tiles.csv").num_rows == table.num_rows


def test_summary_holds_null_and_no_nan(report: Report, tmp_path: Path) -> None:
    write_report(attrs_with(report, unheard=math.nan), tmp_path)
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["facts"]["unheard"] is None


def test_the_same_tiles_give_the_same_bytes(report: Report, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(report, tmp_path / name, csv=True)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"summary.json cannot be written, because there is no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]


def test_a_folder_that_is_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="choose another place"):
        write_atomically(tmp_path / "taken" / "summary.json", b"")


def test_foreign_and_damaged_parquet_is_refused(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(InputError, match="is no table of scored tiles"):
        read_tiles(tmp_path / "foreign.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_tiles(tmp_path / "damaged.parquet")


def test_plain_makes_json_of_what_people_put_into_facts(tmp_path: Path) -> None:
    facts = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": (1, None),
        "d": tmp_path,
        "e": {"f": math.inf},
        5: {2, 1},
    }
    assert plain(facts) == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": [1, None],
        "d": str(tmp_path),
        "e": {"f": None},
        "5": [1, 2],
    }


def attrs_with(report: Report, **facts: Any) -> Report:
    return attrs.evolve(report, facts=report.facts | facts)
