"""Try every bad input of `bad_inputs` on the command line, each in a process of its own.

    python tests/faults/corpus.py [--jobs 2] [--only WORD] [--seconds 300] [--exec]

Each must end with the exit code that it should have, within ten seconds, with less than 1 GiB of memory, without a
traceback, with one sentence, and leave nothing behind but what it was given. Seconds are those of the processor, since a
busy machine is no fault of the input; what stands still is killed after a minute. Processes are forked off one that has
imported everything, so that a hundred of them take two minutes; `--exec` starts each from nothing. The readers are then
fuzzed for `--seconds`: bytes of good files are changed at random. Ends with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import attrs
from bad_inputs import BESIDE, CORPUS, INPUT, OUTPUT, Bad
from fuzz_readers import fuzz

MOST_BYTES = 1 << 30
MOST_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
ADDRESS_SPACE = 12 << 30
"""A bound for the whole process, so that what goes wrong harms nobody else; what counts is measured."""

IMPORTS = (
    "torch",
    "bigrestore.run.execute",
    "bigrestore.io.verify.store",
    "bigrestore.model.network",
    "h5py",
    "nibabel",
)


@attrs.define
class Attempt:
    """A command at work on a bad input, in a folder of its own."""

    bad: Bad
    folder: Path
    before: set[str]
    pid: int
    started: float
    peak_bytes: int = 0
    seconds: float = 0.0
    code: int | None = None

    @property
    def said(self) -> str:
        """What it printed."""
        return (self.folder / "said").read_text(errors="replace")

    def look(self) -> bool:
        """Note its peak memory; return whether it has ended. What stands still is killed."""
        self.peak_bytes = max(self.peak_bytes, peak_bytes(self.pid))
        if time.monotonic() - self.started > PATIENCE_SECONDS:
            os.kill(self.pid, 9)
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.code, self.seconds = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        return bool(pid)

    def left(self) -> list[str]:
        """Return what it left behind and should not have."""
        found = sorted({str(path) for path in (self.folder / "in").rglob("*")} - self.before)
        beside = [path.name for path in (self.folder / "out").iterdir()]
        return found + [name for name in beside if not name.startswith("out.ome.zarr")]

    def faults(self) -> list[str]:
        """Return what is wrong with how it ended."""
        said, found = self.said, []
        if self.code not in self.bad.codes:
            found.append(f"exit code {self.code} and not {sorted(self.bad.codes)}")
        if self.seconds > MOST_SECONDS:
            found.append(f"took {self.seconds:.1f} s")
        if self.peak_bytes > MOST_BYTES:
            found.append(f"took {self.peak_bytes / 2**20:.0f} MiB")
        if "Traceback" in said or "A bug in bigrestore" in said:
            found.append("a traceback, or a bug")
        if self.code and not re.search(r"^bigrestore: .+[.!?]$", said, re.MULTILINE):
            found.append("no sentence")
        return found + [f"left {name} behind" for name in self.left()[:1]]


def start(bad: Bad, anew: bool) -> Attempt:
    """Build a bad input and start its command; `anew` executes Python afresh."""
    folder = Path(tempfile.mkdtemp(prefix="corpus-"))
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    source = bad.make(folder / "in")
    before = {str(path) for path in (folder / "in").rglob("*")}
    words = {INPUT: str(source), BESIDE: str(folder / "in" / BESIDE)}
    words[OUTPUT] = str(folder / "out" / "out.ome.zarr")
    arguments = [words.get(word, word) for word in bad.command]
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become(arguments, folder / "said", anew)
    return Attempt(bad, folder, before, pid, started)


def become(arguments: list[str], log: Path, anew: bool) -> None:
    """Be the command line, in a process that was forked; does not return."""
    code = 99
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        if anew:
            os.execv(sys.executable, [sys.executable, "-m", "bigrestore", *arguments])
        sys.argv = ["bigrestore", *arguments]
        importlib.import_module("bigrestore.cli.app").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had, 0 where it has ended; the kernel keeps the maximum."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0


def try_all(wanted: list[Bad], jobs: int, anew: bool) -> int:
    """Try bad inputs, some at once; return how many were not answered as they should be."""
    wrong, peak, longest = 0, 0, 0.0
    waiting, running = list(reversed(wanted)), list[Attempt]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(start(waiting.pop(), anew))
        for attempt in [one for one in running if one.look()]:
            running.remove(attempt)
            found = attempt.faults()
            peak, longest = max(peak, attempt.peak_bytes), max(longest, attempt.seconds)
            if found:
                wrong += 1
                print(
                    f"WRONG {attempt.bad.name}: {'; '.join(found)}\n      {attempt.said.strip()[-300:]}",
                    flush=True,
                )
            shutil.rmtree(attempt.folder, ignore_errors=True)
        time.sleep(0.005)
    print(
        f"{len(wanted) - wrong} of {len(wanted)} bad inputs answered as they should be, with {peak / 2**20:.0f} MiB and "
        f"{longest:.1f} s of processor time at most",
        flush=True,
    )
    return wrong


def main() -> int:
    """Try all; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="those with this word in their name")
    parser.add_argument("--seconds", type=float, default=300.0, help="of fuzzing")
    parser.add_argument("--exec", action="store_true", help="start each process from nothing")
    asked = parser.parse_args()
    if not asked.exec:
        for name in IMPORTS:
            importlib.import_module(name)
    wrong = try_all([bad for bad in CORPUS if asked.only in bad.name], asked.jobs, asked.exec)
    escaped = fuzz(asked.seconds) if asked.seconds > 0 else []
    for line in escaped:
        print("WRONG", line)
    return 1 if wrong or escaped else 0


if __name__ == "__main__":
    sys.exit(main())
