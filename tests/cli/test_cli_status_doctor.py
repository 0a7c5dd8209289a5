"""`status` and `doctor` say what is, `--log-format json` is JSON throughout, and a stored command holds no key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigrestore.cli.log import use_format
from bigrestore.core.urls import shown_arguments, without_secrets
from bigrestore.report.of_run import RunReport
from bigrestore.run.profile import kept as profiles_module
from bigrestore.run.state.lock import sole_writer
from bigrestore.run.view import doctor as doctor_module
from bigrestore.run.view.doctor import Finding
from bigrestore.run.view.status import run_status

Call = Callable[..., int]


def run(call: Call, folder: Path, *more: object) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (500, 600), dtype=np.uint8)).save(
        folder / "a.png"
    )
    common = (
        "--method",
        "rational",
        "--no-report",
        "--progress",
        "none",
        "--block-size",
        480,
        "--threads",
        1,
    )
    assert call("run", folder / "a.png", folder / "o.ome.zarr", *common, *more) == 0
    return folder / "o.ome.zarr"


def test_status_of_a_run(tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    output = run(call, tmp_path)
    capsys.readouterr()

    def look() -> dict[str, Any]:
        assert call("status", output, "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    found = look()
    assert (found["state"], found["total"], found["done"] + found["empty"], found["failed"]) == (
        "finished",
        4,
        4,
        0,
    )
    assert call("status", output) == 0
    assert "4 of 4 (100%)" in capsys.readouterr().out

    beside = tmp_path / "o.ome.zarr.bigrestore"
    record = sorted((beside / "journal").glob("*.json"))[0]
    (beside / "run.json").unlink()
    record.unlink()
    found = look()
    assert (found["state"], found["done"] + found["empty"]) == ("stopped", 3)
    assert found["seconds_left"] is None
    with sole_writer(beside, output):
        found = look()
    assert found["state"] == "running"
    assert "process" in found["holder"]


def test_status_of_a_region_counts_its_blocks(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run(call, tmp_path, "--roi", "470:500,100:600")
    capsys.readouterr()
    assert call("status", output, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == found["done"] + found["empty"] == 2


def test_status_where_no_run_was(tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", tmp_path / "nothing.ome.zarr") == 3
    assert "no run of bigrestore was begun" in capsys.readouterr().err


def test_status_of_a_run_that_is_starting(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment it is called, while it still looks at its input, until its plan is stored."""
    seen: list[dict[str, Any]] = []

    def looking(section: Any, z: int, method: Any) -> Any:
        seen.append(run_status(tmp_path / "o.ome.zarr").to_json())
        return made(section, z, method)

    made = profiles_module.profile_section
    monkeypatch.setattr(profiles_module, "profile_section", looking)
    run(call, tmp_path)
    assert (seen[0]["state"], seen[0]["total"], seen[0]["way_out"]) == ("starting", None, "")
    assert "process" in seen[0]["holder"]


def test_status_names_the_next_step_of_a_run_in_parts(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, state, way_out in (
        (("--init-only",), "waiting", "--shard I/N"),
        (("--shard", "1/2"), "waiting", "--shard I/N"),
        (("--shard", "2/2"), "waiting", "finish it by --finalize"),
        (("--finalize",), "finished", ""),
    ):
        output = run(call, tmp_path, *step)
        assert ("rate" in capsys.readouterr().out) == ("--shard" in step), "a rate of no pixels says nothing"
        found = run_status(output)
        assert found.state == state
        assert way_out in found.way_out


def test_status_of_a_run_that_was_killed_before_its_report(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(RunReport, "finish", killed)
    with pytest.raises(Killed):
        run(call, tmp_path, "--report")
    found = run_status(tmp_path / "o.ome.zarr")
    assert found.state == "finished"
    assert "report is not made; make it by --resume" in found.way_out


@pytest.mark.parametrize("url", ["s3://bucket/o.ome.zarr", "http://127.0.0.1:9/o.ome.zarr?sig=1"])
@pytest.mark.parametrize("command", ["status", "verify"])
def test_what_looks_at_the_disk_names_the_stage_of_a_url(
    call: Call, capsys: pytest.CaptureFixture[str], command: str, url: str
) -> None:
    assert call(command, url) == 2
    said = capsys.readouterr().err
    assert f"{url.split('?')[0]} is a URL" in said
    assert "--stage" in said
    assert "STAGE/o.ome.zarr" in said


def test_verify_names_what_mends_it(tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    output = run(call, tmp_path, "--report")
    beside, shard = tmp_path / "o.ome.zarr.bigrestore", output / "0/c/0/0"
    page, whole, seen = beside / "report/report.html", shard.read_bytes(), shard.stat()
    kept = page.read_bytes()
    page.write_text("x")
    assert call("verify", output) == 6
    said = capsys.readouterr()
    assert f"report.altered  {page}" in said.out
    assert said.err.endswith("mend the run by --resume --report.\n")
    page.write_bytes(kept)
    assert call("verify", output) == 0

    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    os.utime(shard, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    capsys.readouterr()
    assert call("verify", output) == 6
    assert capsys.readouterr().err.endswith("mend the run by --resume --check-all.\n")
    with sole_writer(beside, output):
        assert call("verify", output) == 6
    assert "verify it again when that has ended" in capsys.readouterr().err
    run(call, tmp_path, "--report", "--resume", "--check-all")
    assert call("verify", output) == 0

    packed = tmp_path / "foreign.zarr.zip"
    packed.write_bytes(b"PK\x03\x04 and no more")
    capsys.readouterr()
    assert call("verify", packed) == 6
    assert capsys.readouterr().err.endswith("copy or write it again.\n")


def test_doctor_finds_this_machine_well(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor", "--folder", tmp_path, "--json") == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    for name in ("libraries", "processors", "memory", "device", "models", "write speed", "locks", "one tile"):
        assert found[name]["verdict"] in ("ok", "hint"), found[name]
    assert "verified" in found["one tile"]["value"]
    assert list(tmp_path.iterdir()) == [], "it left something behind"


def test_doctor_ends_with_6_where_a_run_would_fail(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_module, "_one_tile", lambda: Finding("one tile", "fault", "the model is gone"))
    monkeypatch.setattr(
        doctor_module, "_write_speed", lambda _: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    assert call("doctor", "--folder", tmp_path) == 6
    said = capsys.readouterr()
    assert "fault" in said.out
    assert "2 check(s) failed" in said.err
    assert call("doctor", "--folder", tmp_path / "none") == 2


def test_a_json_log_is_json_throughout(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "b.png")
    for arguments, code in (
        (("--log-format", "json", "info", tmp_path / "a.png"), 3),
        (
            (
                "--log-format",
                "json",
                "run",
                tmp_path / "b.png",
                tmp_path / "o.ome.zarr",
                "--method",
                "rational",
            ),
            0,
        ),
        (("--log-format", "json", "bogus"), 2),
        (("run", tmp_path / "a.png", tmp_path / "p.ome.zarr", "--log-format", "json"), 3),
    ):
        use_format(None)  # as in a process of its own
        assert call(*arguments) == code
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert lines
        assert all({"time"} <= set(line) for line in lines)
        if code:
            assert (lines[-1]["level"], lines[-1]["exit_code"]) == ("error", code)
    assert call("--log-format", "xml", "info", tmp_path / "b.png") == 2


def test_no_key_is_stored(tmp_path: Path, call: Call) -> None:
    output = run(call, tmp_path, "--storage-options", '{"key": "sesame"}')
    for path in [*output.rglob("*"), *(tmp_path / "o.ome.zarr.bigrestore").rglob("*")]:
        if path.is_file():
            assert b"sesame" not in path.read_bytes(), path


def test_what_is_shown_of_urls_and_commands() -> None:
    url = "https://joe:hunter2@host.org/a/b.zarr?X-Amz-Signature=abc#d"
    assert without_secrets(f"see {url} and s3://b/c") == "see https://host.org/a/b.zarr and s3://b/c"
    shown = shown_arguments(
        ["bigrestore", "run", url, "o", "--storage-options", "{1}", "--storage-options={2}", "-v"]
    )
    assert shown == [
        "bigrestore", "run", "https://host.org/a/b.zarr", "o", "--storage-options", "...", "--storage-options=...", "-v",
    ]  # fmt: skip
