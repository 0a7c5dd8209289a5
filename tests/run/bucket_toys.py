"""A bucket of an S3 server on this machine as the tests of remote outputs use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bigrestore.api import report_sinks
from bigrestore.run.output.remote import execute_to
from bigrestore.settings import RunSettings

URL = "s3://brain/deep/out.ome.zarr"
BESIDE = {"deep/out.ome.zarr.bigrestore/run.json", "deep/out.ome.zarr.bigrestore/copied.json"}


def names(bucket: dict[str, Any]) -> list[str]:
    listed = bucket["client"].list_objects_v2(Bucket="brain").get("Contents", [])
    return [entry["Key"] for entry in listed]


def content(bucket: dict[str, Any], name: str) -> bytes:
    body: bytes = bucket["client"].get_object(Bucket="brain", Key=name)["Body"].read()
    return body


def everything(bucket: dict[str, Any]) -> dict[str, bytes]:
    return {name: content(bucket, name) for name in names(bucket)}


def tags(bucket: dict[str, Any]) -> dict[str, str]:
    """Return the checksum of every object, by one request."""
    listed = bucket["client"].list_objects_v2(Bucket="brain").get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in listed}


def put(bucket: dict[str, Any], name: str, body: bytes = b"years of work") -> None:
    bucket["client"].put_object(Bucket="brain", Key=name, Body=body)


def empty(bucket: dict[str, Any]) -> None:
    for name in names(bucket):
        bucket["client"].delete_object(Bucket="brain", Key=name)


def upload(bucket: dict[str, Any], folder: Path, name: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            put(bucket, f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def small_section() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 255, (600, 520), dtype=np.uint8)


def run(source: Path | str, output: str | Path, bucket: dict[str, Any], **settings: Any) -> Any:
    asked = {"method": "catmull-rom", "block_size": 480, "mask": "none", "progress": "none", "threads": 1}
    asked |= {"report": False, "storage_options": bucket["options"]} | settings
    resolved = RunSettings(**asked)
    return execute_to(source, output, resolved, sinks=report_sinks(resolved))


def files_of(stage: Path) -> dict[str, bytes]:
    return {
        f"deep/{path.relative_to(stage.parent).as_posix()}": path.read_bytes()
        for path in stage.rglob("*")
        if path.is_file()
    }
