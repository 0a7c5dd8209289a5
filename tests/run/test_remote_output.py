"""An output in a bucket is the one on the disk, opens only when it is whole, and is never another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket_toys import BESIDE, URL, content, empty, files_of, names, run, small_section
from engine_toys import save_zarr
from prior_toys import model_file

from bigrestore.core import retry
from bigrestore.errors import OutputError, OutputExistsError, StoppedError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.run.output import remote as remote_output
from bigrestore.run.output.remote import RemoteOutput
from bigrestore.settings import RunSettings

pytestmark = pytest.mark.filterwarnings("default")  # the libraries behind s3 warn of themselves


@pytest.fixture(autouse=True)
def emptied(bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", (0.01, 0.01))
    empty(bucket)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_zarr(tmp_path / "in.zarr", small_section())


def test_what_lies_in_the_bucket_is_what_was_made(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    summary = run(source, URL, bucket, stage=tmp_path / "stage")
    assert summary.copied_to == URL
    assert dict(summary.rows())["copied to"] == URL
    made = files_of(tmp_path / "stage" / "out.ome.zarr")
    there = {name: content(bucket, name) for name in names(bucket)}
    assert {name: there[name] for name in made} == made
    assert set(there) - set(made) == BESIDE
    section = open_section(URL, storage_options=bucket["options"])
    np.testing.assert_array_equal(
        section.read(0, 0, 600, 0, 520), open_section(source).read(0, 0, 600, 0, 520)
    )


def test_a_copy_that_was_broken_off_does_not_open_and_is_gone_on_with(
    source: Path, tmp_path: Path, bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tmp_path / "stage"
    sent: list[str] = []
    raise_if_set = remote_output.StopFlag.raise_if_set

    def stop_at_the_third(self: Any, way_out: str) -> None:
        sent.extend(["copy"] if "copy the rest" in way_out else [])
        if len(sent) == 3:
            raise StoppedError(f"stopped; {way_out}")
        raise_if_set(self, way_out)

    target = RemoteOutput.at(URL, RunSettings(stage=stage, storage_options=bucket["options"]))
    with monkeypatch.context() as patch:
        patch.setattr(remote_output.StopFlag, "raise_if_set", stop_at_the_third)
        with pytest.raises(
            StoppedError, match=r"copy the rest to s3://brain/deep/out\.ome\.zarr by --resume"
        ):
            run(source, URL, bucket, stage=stage)
    assert len(names(bucket)) == 3, "the list of all that is to come, and two of it"
    assert "deep/out.ome.zarr/zarr.json" not in names(bucket)
    summary = run(source, URL, bucket, stage=stage, resume=True)
    assert summary.blocks_restored == 0
    assert {name: content(bucket, name) for name in files_of(stage / "out.ome.zarr")} == files_of(
        stage / "out.ome.zarr"
    )
    assert target.send(remote_output.StopFlag())[0] == 0


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_maps_are_copied_and_open_only_when_they_are_whole(
    source: Path, tmp_path: Path, bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fmt: str
) -> None:
    model = str(model_file(tmp_path, with_prior=False))
    asked: dict[str, Any] = {
        "method": "network",
        "model": model,
        "precision": "fp32",
        "roi": (None, (0, 96), (0, 96)),
    }
    asked |= {"maps": "residual,uncertainty", "stage": tmp_path / "stage", "format": fmt}
    sent: list[str] = []
    put = RemoteOutput._try

    def note(self: Any, request: Any, name: str, *seconds: float) -> Any:
        sent.append(name)
        return put(self, request, name, *seconds)

    monkeypatch.setattr(RemoteOutput, "_try", note)
    run(source, URL, bucket, **asked)
    assert open_section(URL, storage_options=bucket["options"]).shape == (1, 96, 96)
    order = [name.removeprefix("brain/deep/out.ome.zarr/") for name in sent if "/out.ome.zarr/" in name]
    metadata = "zarr.json" if fmt == "0.5" else ".zattrs"
    opens = [f"maps/{name}/{metadata}" for name in ("residual", "uncertainty")]
    chunks = [name for name in order if name.split("/")[-1].isdecimal()]
    assert len(chunks) == 6, "two levels of an image and two maps"
    assert max(map(order.index, chunks)) < min(map(order.index, opens)) < order.index(metadata)
    for name in ("residual", "uncertainty"):
        found = open_section(f"{URL}/maps/{name}", storage_options=bucket["options"])
        made = open_section(tmp_path / "stage/out.ome.zarr/maps" / name)
        np.testing.assert_array_equal(found.read(0, 0, 96, 0, 96), made.read(0, 0, 96, 0, 96))

    sent.clear()
    run(source, URL, bucket, **(asked | {"maps": "residual", "seed": 1, "lock": False, "overwrite": True}))
    removed = [name.removeprefix("brain/deep/out.ome.zarr/") for name in sent if "/out.ome.zarr/" in name]
    assert removed.index(metadata) < removed.index(opens[0]), "what is replaced does not open meanwhile"
    there = names(bucket)
    assert f"deep/out.ome.zarr/maps/residual/{metadata}" in there
    assert not [name for name in there if "uncertainty" in name]


def test_an_output_that_is_there_is_replaced_only_when_it_is_asked_for(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    run(source, URL, bucket, stage=tmp_path / "one", scale=2)
    before = set(names(bucket))
    with pytest.raises(OutputExistsError, match=r"out\.ome\.zarr exists; replace it by --overwrite"):
        run(source, URL, bucket, stage=tmp_path / "two")
    assert not (tmp_path / "two").exists()
    run(source, URL, bucket, stage=tmp_path / "two", overwrite=True)
    made = files_of(tmp_path / "two" / "out.ome.zarr")
    assert before > set(made)
    assert set(names(bucket)) - BESIDE == set(made)


def test_what_no_run_made_is_never_replaced(source: Path, tmp_path: Path, bucket: dict[str, Any]) -> None:
    bucket["client"].put_object(Bucket="brain", Key="deep/out.ome.zarr/thesis.txt", Body=b"years of work")
    with pytest.raises(OutputExistsError, match="no run of this program made"):
        run(source, URL, bucket, stage=tmp_path, overwrite=True)
    bucket["client"].put_object(Bucket="brain", Key="deep/out.ome.zarr/zarr.json", Body=b'{"attributes": {}}')
    with pytest.raises(OutputExistsError, match="no run of this program made"):
        run(source, URL, bucket, stage=tmp_path, overwrite=True)
    assert content(bucket, "deep/out.ome.zarr/thesis.txt") == b"years of work"


@pytest.mark.usefixtures("quick_scores")
def test_a_tiff_and_its_report_are_copied(source: Path, tmp_path: Path, bucket: dict[str, Any]) -> None:
    run(source, "s3://brain/deep/out.ome.tif", bucket, stage=tmp_path, report=True)
    assert content(bucket, "deep/out.ome.tif") == (tmp_path / "out.ome.tif").read_bytes()
    report = content(bucket, "deep/out.ome.tif.bigrestore/report/report.html")
    assert report == (tmp_path / "out.ome.tif.bigrestore/report/report.html").read_bytes()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("http://127.0.0.1:9/out.ome.zarr", "takes no files"),
        ("s3://", "names no image"),
        ("s3://brain", "names no image"),
        ("memory://a/out.ome.zarr", "no place that is written"),
    ],
)
def test_places_that_cannot_be_written(
    source: Path, tmp_path: Path, bucket: dict[str, Any], output: str, said: str
) -> None:
    with pytest.raises(OutputError, match=said):
        run(source, output, bucket, stage=tmp_path / "stage")
    assert not (tmp_path / "stage").exists()


def test_a_server_that_refuses_is_named_without_the_key(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    with pytest.raises(OutputError, match=r"s3://nowhere/out\.zarr cannot be written") as raised:
        run(source, "s3://nowhere/out.zarr", bucket, stage=tmp_path / "stage")
    assert "sesame" not in str(raised.value)


def test_a_stage_is_for_urls_only(source: Path, tmp_path: Path, bucket: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave it out"):
        run(source, tmp_path / "out.ome.zarr", bucket, stage=tmp_path)


def test_a_bucket_that_cannot_be_reached_speaks_of_a_stage_only_where_there_is_one(
    source: Path, tmp_path: Path, bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = RemoteOutput.at(URL, RunSettings(stage=tmp_path, storage_options=bucket["options"]))

    def down() -> None:
        raise PermissionError("no such server")

    with pytest.raises(OutputError, match="check the URL") as error:
        target._try(down, "a")
    assert "what was made" not in str(error.value)
    target.stage.mkdir()
    with pytest.raises(OutputError, match="--resume: what was made lies in"):
        target._try(down, "a")
