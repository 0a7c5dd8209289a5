"""What lies in OUTDIR already: a user's own images survive, and pairs of two settings are never mixed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bigrestore.degradation import api, folder
from bigrestore.degradation.api import degrade
from bigrestore.degradation.schema import Recipe
from bigrestore.degradation.section import SectionDegrader
from bigrestore.errors import BlocksFailedError, DiskFullError, OutputError, OutputExistsError

PLAIN = Recipe.from_dict({"name": "plain", "noise": {"probability": 1.0, "read_255": 4}})


class Killed(BaseException):
    """Ends a call like a SIGKILL: no cleaning up catches it."""


@pytest.fixture
def section(tmp_path: Path) -> Path:
    path = tmp_path / "clean.png"
    noise = np.random.default_rng(0).integers(60, 220, (96, 112)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    return path


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def whole(source: Path, out: Path, **options: Any) -> Path:
    return degrade(source, out, whole=True, progress="none", **({"recipe": PLAIN, "seed": 2} | options))


def patches(source: Path, out: Path, **options: Any) -> Path:
    return degrade(source, out, **({"recipe": PLAIN, "count": 2, "patch_px": 32} | options))


@pytest.mark.parametrize("options", [{"count": 2, "patch_px": 32}, {"whole": True}])
@pytest.mark.parametrize(
    "names", [("lq/mine.png", "hq/000000.png"), ("lq.ome.zarr/zarr.json",), ("pairs.parquet",)]
)
def test_overwrite_leaves_what_degrade_did_not_make(
    section: Path, tmp_path: Path, names: tuple[str, ...], options: dict[str, Any]
) -> None:
    out = tmp_path / "mine"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"a week's work")
    before = digests(out)
    with pytest.raises(OutputError, match="was not made by degrade"):
        degrade(section, out, overwrite=True, progress="none", **options)
    assert digests(out) == before


def test_a_users_own_table_does_not_make_the_images_ours(section: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    (out / "lq").mkdir(parents=True)
    (out / "lq" / "000000.png").write_bytes(b"mine")
    pq.write_table(pa.table({"lq": ["lq/000000.png"]}), out / "pairs.parquet")
    before = digests(out)
    with pytest.raises(OutputError, match="was not made by degrade"):
        patches(section, out, overwrite=True)
    assert digests(out) == before


def test_a_users_file_among_our_patches_survives(section: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    patches(section, out)
    (out / "hq" / "annotated.png").write_bytes(b"mine")
    before = digests(out)
    with pytest.raises(OutputError, match=r"annotated\.png was not made"):
        patches(section, out, overwrite=True)
    assert digests(out) == before


def test_what_a_former_call_made_is_replaced_finished_or_not(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = digests(patches(section, tmp_path / "fresh").parent)
    out = tmp_path / "out"
    whole(section, out)
    honest = api._save

    def dies(path: Path, *rest: Any) -> None:
        if path.name == "000001.png":
            raise Killed
        honest(path, *rest)

    monkeypatch.setattr(api, "_save", dies)
    with pytest.raises(Killed):
        patches(section, out, overwrite=True)
    assert not (out / "pairs.parquet").exists(), "a folder that is not complete has no table"
    monkeypatch.setattr(api, "_save", honest)
    patches(section, out, overwrite=True)
    assert digests(out) == fresh


def test_a_kill_while_the_old_pairs_are_removed_leaves_them_ours(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    patches(section, out)

    def dies(path: Path) -> None:
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(folder, "remove_tree", dies)
        with pytest.raises(Killed):
            whole(section, out, overwrite=True)
    assert not (out / "pairs.parquet").exists()
    whole(section, out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"lq.ome.zarr", "pairs.parquet"}


@pytest.mark.parametrize(
    "where", ["bigrestore.degradation.api.write_pairs", "bigrestore.degradation.folder.PairsFolder.finish"]
)
def test_a_kill_between_the_store_and_the_end_is_resumed(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    fresh = digests(whole(section, tmp_path / "fresh").parent)
    out = tmp_path / "out"

    def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(where, dies)
        with pytest.raises(Killed):
            whole(section, out)
    calls: list[int] = []
    monkeypatch.setattr(SectionDegrader, "restore", lambda *_: calls.append(1))
    whole(section, out, resume=True)
    assert not calls, "the pixels were finished"
    assert digests(out) == fresh


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 3}, "seed was 2, now 3"),
        ({"scale": 2}, "scale was 1, now 2"),
        ({"recipe": "default"}, "recipe.name was plain, now default"),
        (
            {"recipe": Recipe.from_dict({"name": "plain", "noise": {"probability": 0.5, "read_255": 4}})},
            r"recipe.noise.probability was 1.0, now 0.5",
        ),
        ({"input_range": (0.0, 200.0)}, r"value_range was \[0.0, 255.0\], now \[0.0, 200.0\]"),
    ],
)
def test_resume_under_other_settings_names_them_and_changes_nothing(
    section: Path, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    out = tmp_path / "out"
    whole(section, out)
    before = digests(out)
    with pytest.raises(OutputExistsError, match=sentence):
        whole(section, out, resume=True, **change)
    assert digests(out) == before
    assert whole(section, out, resume=True) == out / "pairs.parquet"


def test_resume_with_another_input_is_refused(section: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole(section, out)
    pixels = np.asarray(Image.open(section))
    Image.fromarray(255 - pixels).save(section)
    with pytest.raises(OutputExistsError, match="the pixels of the input"):
        whole(section, out, resume=True)


def test_an_unfinished_section_is_not_resumed_under_another_recipe(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("haunted")

    out = tmp_path / "out"
    with monkeypatch.context() as context:
        context.setattr(SectionDegrader, "restore", breaks)
        with pytest.raises(BlocksFailedError):
            whole(section, out)
    with pytest.raises(OutputExistsError, match=r"recipe\.name was plain, now bigbrain"):
        whole(section, out, resume=True, recipe="bigbrain")
    with pytest.raises(OutputExistsError, match="not empty; go on with it by --resume"):
        whole(section, out)
    begun = out / folder.BEGUN_NAME
    assert json.loads(begun.read_text())["request"]["seed"] == 2
    begun.unlink()  # as versions left it that wrote no such note
    whole(section, out, resume=True)
    assert digests(out) == digests(whole(section, tmp_path / "fresh").parent)


def test_resume_does_not_start_among_other_files(section: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not empty"):
        whole(section, out, resume=True)
    assert digests(out).keys() == {"notes.txt"}


@pytest.mark.parametrize(("make", "way_out"), [(patches, "--overwrite"), (whole, "--resume")])
def test_a_full_disk_is_a_sentence_with_the_way_that_is_open(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, way_out: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(api, "write_pairs", full)
        context.setattr(Image.Image, "save", full)
        with pytest.raises(DiskFullError, match=f"no space left.*{way_out}"):
            make(section, tmp_path / "out")
    make(section, tmp_path / "out", **{way_out[2:]: True})
    assert digests(tmp_path / "out") == digests(make(section, tmp_path / "fresh").parent)


@pytest.mark.parametrize("left", ["lock", "plan.json", "all"])
def test_overwrite_takes_what_a_killed_call_left_of_its_journal(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    out = tmp_path / "out"

    def kill(self: folder.PairsFolder) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(folder.PairsFolder, "finish", kill)
        with pytest.raises(Killed):
            whole(section, out)
    journal = out / "lq.ome.zarr.bigrestore"
    (journal / "lock").write_text("")
    os.utime(journal / "lock", (0, 0))
    for path in sorted(journal.rglob("*"), reverse=True):
        if left != "all" and path.name != left:
            path.rmdir() if path.is_dir() else path.unlink()
    whole(section, out, overwrite=True)
    assert not journal.exists()
    assert digests(out) == digests(whole(section, tmp_path / "fresh").parent)


def test_the_command_prints_a_path_with_brackets_and_how_to_resume(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer
    from typer.testing import CliRunner

    from bigrestore.cli.degrade import degrade_command as command

    monkeypatch.setattr("bigrestore.cli.log.configure_logging", lambda **_: None)
    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "[bold]a[/x]"
    flags = [str(section), str(out), "--count", "1", "--patch-size", "32"]
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 0, result.output
    assert f"in {out}, described by pairs.parquet" in result.stdout

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "degrade", interrupted)
    for mode, way_out in ((["--count", "1"], "--overwrite"), (["--whole"], "--resume")):
        result = CliRunner().invoke(app, [str(section), str(tmp_path / "b"), *mode])
        assert result.exit_code == 130
        assert way_out in result.stderr


@pytest.mark.parametrize("stray", ["degrade.begun.json.71-0a1b.partial", "pairs.parquet.8-ff.partial"])
@pytest.mark.parametrize(
    ("make", "options"),
    [(whole, {}), (whole, {"resume": True}), (patches, {}), (patches, {"overwrite": True})],
)
def test_a_folder_with_a_temporary_file_alone_is_empty(
    section: Path, tmp_path: Path, stray: str, make: Any, options: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / stray).write_bytes(b"{")  # a call was killed at its first write
    make(section, out, **options)
    assert not list(out.glob("*.partial"))
    (out / "pairs.parquet").unlink()
    (out / "mine.partial").write_bytes(b"")
    with pytest.raises(OutputExistsError, match="is not empty"):
        make(section, out)
