"""What tests of every room need: the logger as it was before, and the command line called in this process, and a bucket."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bigrestore.cli import app as app_module


@pytest.fixture(autouse=True)
def no_log_left_behind() -> Iterator[None]:
    yield
    logger = logging.getLogger("bigrestore")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Give a function that runs the command line on some arguments and returns its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["bigrestore", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            app_module.main()
        code = info.value.code
        return code if isinstance(code, int) else 0

    return run


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, Any]]:
    """Give a client of an S3 server on this machine, with an empty bucket `brain`, and the options that reach it."""
    pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "sesame"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="brain")
    yield {"client": client, "options": {"key": "key", "secret": "sesame", "endpoint_url": endpoint}}
    client.close()
    server.stop()
