"""Behind a URL nothing is replaced or removed but what a run sent, and nothing is written where a run reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from bucket_toys import (
    BESIDE,
    URL,
    content,
    empty,
    everything,
    files_of,
    names,
    put,
    run,
    small_section,
    tags,
    upload,
)
from engine_toys import save_zarr

from bigrestore.core import retry
from bigrestore.errors import OutputError, OutputExistsError
from bigrestore.run.output.remote import RemoteOutput
from bigrestore.run.output.remote_manifest import Manifest, Sent
from bigrestore.run.output.remote_places import meeting
from bigrestore.run.stop import StopFlag
from bigrestore.settings import RunSettings

pytestmark = pytest.mark.filterwarnings("default")  # the libraries behind s3 warn of themselves
OUT = "deep/out.ome.zarr"
ADDED = [
    f"{OUT}/labels/cells/zarr.json",
    f"{OUT}/notes.txt",
    f"{OUT}/0/c/0/9",
    f"{OUT}/2024/photos.txt",
    f"{OUT}.bigrestore/notes.txt",
    f"{OUT}.bigrestore/report/figure.png",
    OUT,
]


@pytest.fixture(autouse=True)
def emptied(bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", (0.01, 0.01))
    empty(bucket)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_zarr(tmp_path / "in.zarr", small_section())


def raw(tmp_path: Path) -> Path:
    """Write an OME-Zarr image whose objects have the names that a run's have."""
    group = zarr.create_group(tmp_path / "raw")
    group.create_array("0", data=small_section(), chunks=(300, 300))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [image]}})
    return tmp_path / "raw"


def refused(bucket: dict[str, Any], call: Callable[[], Any], said: str) -> None:
    before = tags(bucket)
    with pytest.raises(OutputError, match=said) as info:
        call()
    assert info.value.exit_code == 4
    assert tags(bucket) == before, "nothing is touched"


OTHERS: dict[str, list[str]] = {
    "an image": [f"{OUT}/zarr.json", f"{OUT}/0/zarr.json", f"{OUT}/0/c/0/0"],
    "shards without metadata": [f"{OUT}/0/c/0/0"],
    "labels": [f"{OUT}/labels/cells/zarr.json"],
    "an object of that name": [OUT],
    "notes beside it": [f"{OUT}.bigrestore/notes.txt"],
    "an account of a run": [f"{OUT}.bigrestore/run.json", f"{OUT}/zarr.json"],
}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("stage", ["none", "of this URL", "of another URL", "of a path"])
def test_what_no_run_sent_is_never_touched(
    source: Path, tmp_path: Path, bucket: dict[str, Any], others: str, stage: str
) -> None:
    folder = tmp_path / "stage"
    begun = {
        "of this URL": URL,
        "of another URL": "s3://brain/mine/out.ome.zarr",
        "of a path": folder / "out.ome.zarr",
    }
    if stage != "none":
        folder_asked = {} if stage == "of a path" else {"stage": folder}
        run(source, begun[stage], bucket, **folder_asked)
        empty(bucket)
    for name in OTHERS[others]:
        put(bucket, name)
    for settings in ({"resume": True}, {"overwrite": True}, {}):
        refused(
            bucket, lambda s=settings: run(source, URL, bucket, stage=folder, **s), "choose another output"
        )  # type: ignore[misc]


@pytest.mark.parametrize("added", ADDED)
def test_what_was_added_to_an_own_output_stays(
    source: Path, tmp_path: Path, bucket: dict[str, Any], added: str
) -> None:
    run(source, URL, bucket, stage=tmp_path / "one")
    put(bucket, added)
    before = tags(bucket)
    assert run(source, URL, bucket, stage=tmp_path / "one", resume=True).blocks_restored == 0
    assert tags(bucket) == before, "there is nothing to do"
    other = tmp_path / "two"
    for settings in ({"overwrite": True}, {"resume": True}, {}):
        refused(bucket, lambda s=settings: run(source, URL, bucket, stage=other, **s), "sent by no run")  # type: ignore[misc]
    bucket["client"].delete_object(Bucket="brain", Key=f"{OUT}/0/c/1/0")
    refused(bucket, lambda: run(source, URL, bucket, stage=tmp_path / "one", resume=True), "sent by no run")
    bucket["client"].delete_object(Bucket="brain", Key=added)
    run(source, URL, bucket, stage=tmp_path / "one", resume=True)
    assert {name: body for name, body in everything(bucket).items() if name not in BESIDE} == files_of(
        tmp_path / "one/out.ome.zarr"
    )


@pytest.mark.parametrize("harm", ["shard", "level metadata", "root metadata", "manifest", "manifest gone"])
def test_what_somebody_replaced_is_somebody_elses(
    source: Path, tmp_path: Path, bucket: dict[str, Any], harm: str
) -> None:
    run(source, URL, bucket, stage=tmp_path / "one")
    places = {
        "shard": f"{OUT}/0/c/0/0",
        "level metadata": f"{OUT}/0/zarr.json",
        "root metadata": f"{OUT}/zarr.json",
    }
    if harm == "manifest gone":
        bucket["client"].delete_object(Bucket="brain", Key=f"{OUT}.bigrestore/copied.json")
    else:
        name = places.get(harm, f"{OUT}.bigrestore/copied.json")
        put(bucket, name, content(bucket, name).replace(b'"run"', b'"ran"') + b" ")
    for settings in ({"overwrite": True}, {"resume": True}, {}):
        refused(
            bucket, lambda s=settings: run(source, URL, bucket, stage=tmp_path / "two", **s), "choose another"
        )  # type: ignore[misc]
    if "metadata" in harm:
        before = tags(bucket)
        run(source, URL, bucket, stage=tmp_path / "one", resume=True)
        assert tags(bucket) == before, "metadata that were edited stay as they are"
    else:
        refused(
            bucket, lambda: run(source, URL, bucket, stage=tmp_path / "one", resume=True), "choose another"
        )


def test_a_stage_is_copied_to_the_place_that_it_was_made_for(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    run(source, tmp_path / "a/out.ome.zarr", bucket)
    refused(bucket, lambda: run(source, URL, bucket, stage=tmp_path / "a", resume=True), "destination")
    run(source, URL, bucket, stage=tmp_path / "b")
    for other in ("s3://brain/out.ome.zarr", "s3://brain/deep/deep/out.ome.zarr"):
        refused(
            bucket,
            lambda url=other: run(source, url, bucket, stage=tmp_path / "b", resume=True),  # type: ignore[misc]
            r"destination \(s3://brain/deep/out\.ome\.zarr then",
        )
    with pytest.raises(OutputExistsError, match="its own place now"):
        run(source, tmp_path / "b/out.ome.zarr", bucket, resume=True)


@pytest.mark.usefixtures("warm_children")
def test_workers_know_where_the_output_goes(source: Path, tmp_path: Path, bucket: dict[str, Any]) -> None:
    assert run(source, URL, bucket, stage=tmp_path, workers=2).blocks_restored == 4
    assert f"{OUT}/zarr.json" in names(bucket)


@pytest.mark.parametrize(
    "spelled",
    [
        "s3://brain/deep/raw.ome.zarr",
        "s3://brain/deep/raw.ome.zarr/",
        "s3://brain/deep//raw.ome.zarr",
        "s3://brain/deep/./raw.ome.zarr",
        "s3://brain/deep/x/../raw.ome.zarr",
        "s3a://brain/deep/raw.ome.zarr",
        "s3://brain/deep/raw%2Eome.zarr",
        "s3://brain/deep/raw.ome.zarr/restored.ome.zarr",
    ],
)
def test_the_input_is_never_the_output(tmp_path: Path, bucket: dict[str, Any], spelled: str) -> None:
    upload(bucket, raw(tmp_path), "deep/raw.ome.zarr")
    for settings in ({"overwrite": True}, {}, {"resume": True}):
        refused(
            bucket,
            lambda s=settings: run(
                "s3://brain/deep/raw.ome.zarr", spelled, bucket, stage=tmp_path / "s", **s
            ),  # type: ignore[misc]
            "choose another output",
        )


def test_a_result_is_not_overwritten_by_what_is_made_of_it(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    run(source, URL, bucket, stage=tmp_path / "one")
    web = bucket["options"]["endpoint_url"] + "/brain/deep/out.ome.zarr"
    for read in (URL, f"{URL}/0", web):
        refused(
            bucket,
            lambda url=read: run(url, URL, bucket, stage=tmp_path / "two", overwrite=True),  # type: ignore[misc]
            "is the input",
        )


@pytest.mark.parametrize(
    ("read", "apart"),
    [
        ("s3://b/a/x.zarr", False),
        ("s3://b/a/x.zarr/0", False),
        ("s3://b/a", False),
        ("s3://b/a/x.zarr.bigrestore/mask.tif", False),
        ("s3://b/a/*", False),
        ("s3://b/a/x.zarr/pm*.png", False),
        ("https://b.s3.eu-west-1.amazonaws.com/a/x.zarr", False),
        ("https://s3.amazonaws.com/b/a/x.zarr", False),
        ("http://minio:9000/b/a/x.zarr", False),
        ("http://b.minio:9000/a/x.zarr", False),
        ("https://joe:secret@minio:9000/b/a/x.zarr?sig=1", False),
        ("s3://b/a/x.zarr2", True),
        ("s3://b/a/y.zarr", True),
        ("s3://c/a/x.zarr", True),
        ("s3://b/a/y*.png", True),
        ("https://example.org/b/a/x.zarr", True),
        ("a/x.zarr", True),
    ],
)
def test_places_are_compared_however_they_are_spelled(read: str, apart: bool) -> None:
    options = {"endpoint_url": "http://minio:9000"}
    there = meeting("s3://b/a/x.zarr", [("input", read)], options)
    assert (there is None) == apart
    assert there is None or ("secret" not in there[1] and there[0] == "input")


def test_mask_and_realness_map_are_not_overwritten_either(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    for flag in ("mask", "realness_map"):
        refused(
            bucket,
            lambda name=flag: run(source, URL, bucket, stage=tmp_path, **{name: f"{URL}/0"}),
            "choose another",  # type: ignore[misc]
        )


@pytest.mark.parametrize("former", [False, True])
def test_a_copy_that_is_broken_off_at_any_request_is_gone_on_with(
    source: Path, tmp_path: Path, bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch, former: bool
) -> None:
    small = {"roi": "0:300,0:300"}
    if former:
        run(source, URL, bucket, stage=tmp_path / "one", scale=2, roi="0:700,0:100")
    before, request, left = everything(bucket), RemoteOutput._try, [0]

    def dies(self: Any, work: Any, name: str, *seconds: float) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt(name)
        return request(self, work, name, *seconds)

    monkeypatch.setattr(RemoteOutput, "send", lambda *_: (0, 0))
    run(source, URL, bucket, stage=tmp_path / "two", overwrite=former, **small)
    monkeypatch.undo()
    target = RemoteOutput.at(URL, RunSettings(stage=tmp_path / "two", storage_options=bucket["options"]))
    for at in range(1, 99, 4):
        empty(bucket)
        for name, body in before.items():
            put(bucket, name, body)
        left[0] = at
        with monkeypatch.context() as patch:
            patch.setattr(RemoteOutput, "_try", dies)
            try:
                target.send(StopFlag())
                break
            except KeyboardInterrupt:
                pass
        broken = everything(bucket)
        put(bucket, f"{OUT}/notes.txt")
        if {name for name in broken if name not in BESIDE} != set(files_of(target.stage)):
            with pytest.raises(OutputExistsError):
                target.send(StopFlag())
            assert everything(bucket) == broken | {f"{OUT}/notes.txt": b"years of work"}
        bucket["client"].delete_object(Bucket="brain", Key=f"{OUT}/notes.txt")
        target.send(StopFlag())
        there = {name: body for name, body in everything(bucket).items() if name not in BESIDE}
        assert there == files_of(target.stage), at
    assert at > 12
    assert run(source, URL, bucket, stage=tmp_path / "two", resume=True, **small).blocks_restored == 0


def test_a_neighbour_whose_name_begins_alike_is_no_part_of_the_output(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    put(bucket, f"{OUT}2/zarr.json")
    put(bucket, f"{OUT}.bigrestore2/notes.txt")
    run(source, URL, bucket, stage=tmp_path / "one")
    run(source, URL, bucket, stage=tmp_path / "two", overwrite=True)
    assert (
        content(bucket, f"{OUT}2/zarr.json")
        == content(bucket, f"{OUT}.bigrestore2/notes.txt")
        == b"years of work"
    )


def test_what_was_added_to_the_stage_or_is_a_link_there_is_not_copied(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    stage = tmp_path / "stage"
    run(source, URL, bucket, stage=stage, init_only=True)
    (tmp_path / "secret").write_text("sesame")
    (stage / "out.ome.zarr/notes.txt").write_text("mine")
    (stage / "out.ome.zarr/labels").symlink_to(tmp_path)
    (stage / "out.ome.zarr/1").mkdir(exist_ok=True)
    (stage / "out.ome.zarr.bigrestore/report").mkdir()
    (stage / "out.ome.zarr.bigrestore/report/summary.json").symlink_to(tmp_path / "secret")
    run(source, URL, bucket, stage=stage, resume=True)
    assert not [name for name in names(bucket) if "notes" in name or "labels" in name or "summary" in name]


def test_a_list_is_read_back_or_is_none() -> None:
    manifest = Manifest("run", {"a": Sent(3, "0" * 32)}, {"b": Sent(4, "1" * 32, "x-2")})
    assert Manifest.parse(manifest.text()) == manifest
    document = json.loads(manifest.text())
    for broken in (b"", b"[]", b"{}", manifest.text()[:-9], json.dumps(document | {"run": "other"}).encode()):
        assert Manifest.parse(broken) is None
    assert manifest.knows("b", {"size": 4, "ETag": '"x-2"'})
    assert not manifest.knows("b", {"size": 4, "ETag": '"x-3"'})
    assert not manifest.knows("c", {"size": 4})
    assert manifest.knows("a", {"size": 3, "ETag": "of an encrypted object"})
    assert not manifest.knows("a", {"size": 5})


def test_sending_asks_for_no_more_where_all_is_there(
    source: Path, tmp_path: Path, bucket: dict[str, Any]
) -> None:
    run(source, URL, bucket, stage=tmp_path)
    target = RemoteOutput.at(URL, RunSettings(stage=tmp_path, storage_options=bucket["options"]))
    before = everything(bucket)
    assert target.send(StopFlag())[0] == 0
    assert everything(bucket) == before
