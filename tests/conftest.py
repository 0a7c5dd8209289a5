"""What tests of every room need: the logger as it was before, and the command line called in this process, and a bucket."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bigrestore.cli import app as app_module
from tests.warm_python import WarmPython

SLOW_FILES = frozenset(
    """
    test_adaptation test_arrays test_backbone_stage test_bench_twin test_bigbrain_spectrum test_bridge_stage
    test_cli_run test_current_folder test_disk_and_damage test_faults_of_blocks test_gpu_errors test_host_reads
    test_given_blur test_input_changes test_invented_detail test_judge_stages
    test_killed_while_writing test_latent_runs test_learned_realness test_lost_streams test_maps
    test_learned_recipe test_method_package test_names_of_files test_network_run test_nothing_of_others test_notebook
    test_objective_stage test_pairs_and_command test_prior test_train_all test_triage
    test_other_systems test_prior_stage test_profile_figure test_readme test_realness_map
    test_remote_changes test_remote_input test_remote_others test_remote_output
    test_remote_trust test_report_page test_report_state test_resume test_results
    test_run_behaviour test_run_report test_score_command test_sharpened test_signals_in_every_phase
    test_sinks test_slow_servers test_stages test_stop_of_a_program test_tiled_equals_whole test_tiles_of_methods
    test_train_command test_unlikely_map test_whole_section
    test_verify_and_resume test_view_command test_view_in_browser test_without_locks test_workers
    """.split()
)
"""Tests of whole commands, trainings and processes; `make test-fast` leaves them out."""


COLLECTED_AT = gc.get_threshold()


def not_synced(handle: int) -> None:
    """Do not wait for the disk: no test cuts the power, and the wait takes a tenth of a small run."""


async def in_this_thread(function: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
    """Stand in for `asyncio.to_thread`: of chunks as small as those of tests, a thread takes longer than the decoding."""
    return function(*args, **named)


def pytest_sessionstart() -> None:
    os.fsync = not_synced
    asyncio.to_thread = in_this_thread
    # Until all is imported, which would be looked through nine times; dask would keep `gc.disable`.
    gc.set_threshold(0)


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported lives to the end
    gc.set_threshold(*COLLECTED_AT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """Give what starts Python at little cost."""
    server = WarmPython()
    yield server
    server.close()


@pytest.fixture
def warm_children(monkeypatch: pytest.MonkeyPatch, warm_python: WarmPython) -> None:
    """Let the processes that a run starts be forked off the warm one."""
    monkeypatch.setattr(sys, "executable", warm_python.executable)


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, Any]]:
    """Give a client of an S3 server on this machine, with an empty bucket `brain`, and the options that reach it."""
    pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    serving = pytest.importorskip("werkzeug.serving")
    serving.WSGIRequestHandler.disable_nagle_algorithm = True  # or a body waits until its headers have come
    backends = pytest.importorskip("moto.backends")
    folders = list(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: folders  # or they are listed anew for every request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "sesame"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="brain")
    yield {"client": client, "options": {"key": "key", "secret": "sesame", "endpoint_url": endpoint}}
    client.close()
    server.stop()
