"""Processes share a run on a file system that has no locks, or whose locks exclude nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from engine_toys import save_zarr

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>

static int answer(void)
{
#ifdef REFUSE
    errno = ENOLCK;
    return -1;
#else
    return 0;
#endif
}

static int control(const char *name, int file, int command, void *argument)
{
    switch (command) {
    case F_SETLK: case F_SETLKW: case F_OFD_SETLK: case F_OFD_SETLKW:
        return answer();
    default:
        return ((int (*)(int, int, void *))dlsym(RTLD_NEXT, name))(file, command, argument);
    }
}

#define CONTROL(name) \
    int name(int file, int command, ...) \
    { \
        va_list rest; \
        va_start(rest, command); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        return control(#name, file, command, argument); \
    }

CONTROL(fcntl)
CONTROL(fcntl64)
int flock(int file, int operation) { (void)file; (void)operation; return answer(); }
int lockf(int file, int command, off_t length) { (void)file; (void)command; (void)length; return answer(); }
"""

PROCESSES = """
import errno, fcntl, json, os, pathlib, signal, sys, time
from bigrestore.run.execute import execute
from bigrestore.model.methods import interpolate  # once, and not in each of the processes
from bigrestore.run.state import claims
from bigrestore.run.state.journal import Journal
from bigrestore.settings import RunSettings

source, output, calm, log, refuses = sys.argv[1:]
SETTINGS = dict(method="rational", scale=2, block_size=480, tile_size=480, threads=1, progress="none", report=False)

claims.PAUSE_SECONDS = 0.02, 0.1

def locks_exclude_nobody():
    with open(log, "a") as one, open(log, "a") as other:
        for call in (fcntl.flock, fcntl.lockf):
            try:
                call(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
                call(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                refused = False
            except OSError as error:
                refused = error.errno == errno.ENOLCK
            assert refused == (refuses == "True")

def say(what, name):
    with open(log, "a") as file:
        file.write(json.dumps([what, name, os.getpid()]) + "\\n")

def said():
    return [json.loads(line) for line in pathlib.Path(log).read_text().splitlines()]

def part():
    begin, complete = Journal.begin, Journal.complete

    def begins(self, name, files):
        begin(self, name, files)
        say("begin", name)
        while len({who for what, _, who in said() if what == "begin"}) < 3:  # none ends before all have begun
            time.sleep(0.01)

    def completes(self, record):
        time.sleep(0.1)
        complete(self, record)
        say("complete", record.name)

    Journal.begin, Journal.complete = begins, completes
    execute(source, output, RunSettings(**SETTINGS, shard="1/1")).raise_if_failed()

def forked(work):
    if (pid := os.fork()):
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)

def in_progress(pid):
    names = [name for what, name, who in said() if who == pid and what == "begin"]
    return set(names) - {name for what, name, _ in said() if what == "complete"}

locks_exclude_nobody()
assert os.waitpid(forked(lambda: execute(source, output, RunSettings(**SETTINGS, init_only=True))), 0)[1] == 0
pids = [forked(part) for _ in range(3)]
victim, deadline = pids[1], time.monotonic() + 60
while not (in_progress(victim) and sum(what == "complete" for what, _, _ in said()) >= 3):
    assert time.monotonic() < deadline
    time.sleep(0.005)
os.kill(victim, signal.SIGKILL)
codes = [os.waitpid(pid, 0)[1] for pid in pids]
execute(source, output, RunSettings(**SETTINGS, finalize=True)).raise_if_failed()
execute(source, calm, RunSettings(**SETTINGS)).raise_if_failed()
print(json.dumps({"victim": victim, "codes": codes, "said": said()}))
"""


def every_byte(store: Path) -> dict[str, bytes]:
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
@pytest.mark.parametrize("refuses", [True, False])
def test_three_processes_share_sixteen_blocks_without_locks_and_one_is_killed(
    tmp_path: Path, tissue: np.ndarray, refuses: bool
) -> None:
    (tmp_path / "shim.c").write_text(SHIM)
    shim, log = tmp_path / "shim.so", tmp_path / "log"
    options = ["-DREFUSE"] if refuses else []
    subprocess.run(["cc", "-shared", "-fPIC", *options, "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    log.touch()
    source = save_zarr(tmp_path / "in.zarr", np.tile(tissue, (3, 3))[:960, :960])
    out, calm = tmp_path / "out.zarr", tmp_path / "calm.zarr"
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES, source, out, calm, log, str(refuses)],
        env=os.environ | {"LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["codes"] == [0, 9, 0]
    begun, completed = Counter(), Counter()
    of_victim = set()
    for what, name, pid in told["said"]:
        (begun if what == "begin" else completed)[name] += 1
        if pid == told["victim"] and what == "begin":
            of_victim.add(name)
    assert len(begun) == 16
    assert set(completed.values()) == {1}
    assert {name for name, count in begun.items() if count > 1} <= of_victim
    assert max(begun.values()) == 2, "what the victim had in progress was begun again"
    assert every_byte(out) == every_byte(calm)
