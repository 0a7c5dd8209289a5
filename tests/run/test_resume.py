"""A run that was stopped goes on where it stopped, and only as the same run."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from engine_toys import Fir, go, level0, save_zarr

from bigrestore.core.files import read_sealed, write_sealed
from bigrestore.errors import OutputExistsError, StoppedError
from bigrestore.model.method import TileBatch
from bigrestore.run.state import fingerprint as fingerprint_module
from bigrestore.run.state.checks import remedy, verify_output
from bigrestore.run.state.checksums import file_state
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.records import BlockRecord

TILES_PER_BLOCK = 9
BLOCK = "z00000-y0000-x0000"


def stop_at(call: int, number: int = signal.SIGTERM) -> Fir:
    def hook(count: int, _: TileBatch) -> None:
        if count == call:
            os.kill(os.getpid(), number)
            time.sleep(0.3)  # the main thread takes the signal meanwhile

    return Fir(hook=hook)


def journal(output: Path) -> list[str]:
    return sorted(path.name for path in (output.parent / f"{output.name}.bigrestore/journal").iterdir())


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :960]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_abandons_the_block_in_hand_and_resume_does_only_the_rest(
    tmp_path: Path, source: Path, number: int
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(StoppedError, match="--resume") as info:
        go(source, out, stop_at(TILES_PER_BLOCK + 4, number), threads=1)
    assert info.value.exit_code == 75
    assert journal(out) == ["z00000-y0000-x0000.json"], "no marker and no record of the block in hand"
    assert not (out / "0/c/0/1").exists(), "no shard of the block in hand"
    assert "ome" not in json.loads((out / "zarr.json").read_text())["attributes"], "it must not look whole"
    method = Fir()
    summary = go(source, out, method, threads=1, resume=True)
    assert (summary.blocks_restored, method.calls) == (1, TILES_PER_BLOCK)
    go(source, tmp_path / "fresh.zarr", Fir(), threads=1)
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "fresh.zarr"))


def test_a_signal_while_the_pyramid_is_built_leaves_a_store_that_does_not_look_whole(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.run import finalize

    def build(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(finalize, "build_pyramid", build)
        with pytest.raises(StoppedError, match="--resume"):
            go(source, out, Fir())
    assert "ome" not in json.loads((out / "zarr.json").read_text())["attributes"]
    method = Fir()
    assert go(source, out, method, resume=True).blocks_done == 2
    assert method.calls == 0
    assert "ome" in json.loads((out / "zarr.json").read_text())["attributes"]


def test_ctrl_c_is_a_keyboard_interrupt(tmp_path: Path, source: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        go(source, tmp_path / "out.zarr", stop_at(2, signal.SIGINT), threads=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_what_is_finished_does_nothing(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    method = Fir()
    summary = go(source, out, method, resume=True)
    assert (method.calls, summary.blocks_done, summary.blocks_restored) == (0, 2, 0)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


@pytest.mark.parametrize("harm", ["marker", "truncated", "deleted", "torn record"])
def test_a_block_that_is_not_whole_is_done_again(tmp_path: Path, source: Path, harm: str) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    wanted = level0(out)
    shard, records = out / "0/c/0/1", Path(f"{out}.bigrestore/journal")
    if harm == "marker":
        (records / "z00000-y0000-x0001.inflight").touch()
    elif harm == "truncated":
        shard.write_bytes(shard.read_bytes()[:-10])
    elif harm == "deleted":
        shard.unlink()
    else:
        (records / "z00000-y0000-x0001.json").write_text('{"name": "z0')
    method = Fir()
    summary = go(source, out, method, resume=True)
    assert (summary.blocks_restored, method.calls) == (1, TILES_PER_BLOCK)
    np.testing.assert_array_equal(level0(out), wanted)


def test_resume_under_other_settings_names_what_differs(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, method="rational", scale=2)
    for change, name in (({"scale": 4}, "--scale"), ({"tile_size": 96}, "--tile-size")):
        with pytest.raises(OutputExistsError, match=name):
            go(source, out, **({"method": "rational", "scale": 2, "resume": True} | change))
    with pytest.raises(OutputExistsError, match="--method"):
        go(source, out, method="catmull-rom", scale=2, resume=True)


@pytest.mark.parametrize("library", ["numpy", "torch", "zarr"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_resumed_under_another_library_and_verifies_still(
    tmp_path: Path, source: Path, library: str, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, installed = tmp_path / "out.zarr", fingerprint_module.version
    go(source, out, Fir(), init_only=not finished)
    monkeypatch.setattr(
        fingerprint_module, "version", lambda name: "99.1" if name == library else installed(name)
    )
    words = rf"begun otherwise: the version of {library} \({re.escape(installed(library))} then, 99\.1 now\);"
    with pytest.raises(OutputExistsError, match=words):
        go(source, out, Fir(), resume=True)
    if finished:
        assert verify_output(out).faults == []
        (out / "0/c/0/0").unlink()
        said = remedy(out, verify_output(out).faults)
        assert said == f"mend the run by --resume, under {library} {installed(library)}"


def test_a_plan_that_names_no_library_is_resumed(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir(), init_only=True)
    plan = read_sealed(Path(f"{out}.bigrestore/plan.json"))
    assert plan is not None
    plan["fingerprint"] = {
        name: fact for name, fact in plan["fingerprint"].items() if not name.startswith("libraries.")
    }
    write_sealed(Path(f"{out}.bigrestore/plan.json"), plan)
    assert go(source, out, Fir(), resume=True).blocks_restored > 0


def test_resume_notices_another_input(tmp_path: Path, source: Path, tissue: np.ndarray) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    import zarr

    zarr.open_array(source, mode="r+")[0, 0] = 7
    with pytest.raises(OutputExistsError, match="input"):
        go(source, out, Fir(), resume=True)


def test_resume_takes_the_stored_tile_and_batch(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(StoppedError):
        go(source, out, stop_at(2), tile_size=96, batch_size=2)
    assert go(source, out, Fir(), tile_size=None, batch_size=None, resume=True).tile_px == 96


def test_resume_without_a_run_begins_one(tmp_path: Path, source: Path) -> None:
    assert go(source, tmp_path / "out.zarr", Fir(), resume=True).blocks_done == 2


def test_resume_of_a_foreign_store_is_refused(tmp_path: Path, source: Path, tissue: np.ndarray) -> None:
    save_zarr(tmp_path / "out.zarr", tissue)
    with pytest.raises(OutputExistsError, match="no run of this program made"):
        go(source, tmp_path / "out.zarr", Fir(), resume=True)


def test_begin_drops_record_and_shards_before_anything_is_written(tmp_path: Path) -> None:
    book = Journal(tmp_path / "out.zarr")
    book.create()
    shard = tmp_path / "shard"
    shard.write_bytes(b"12345")
    book.complete(BlockRecord(BLOCK, "done", {"shard": file_state(shard)}))
    assert book.intact(BLOCK, tmp_path) is not None
    book.lock(BLOCK)
    book.begin(BLOCK, [shard])
    assert not shard.exists()
    assert book.record(BLOCK) is None
    assert journal(tmp_path / "out.zarr") == [f"{BLOCK}.inflight"]
    book.complete(BlockRecord(BLOCK, "failed", reason="no"))
    assert book.intact(BLOCK, tmp_path) is None
    assert [record.name for record in book.records()] == [BLOCK]
