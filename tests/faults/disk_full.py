"""Fill up the disk under a run, make space, and go on: the store must be what it would have been.

    python tests/faults/disk_full.py

A tmpfs of 64 MiB is mounted for it, which needs the right to mount; where that is missing it is said, and nothing is
tried. The run must end with 4 or 5, and `--resume` complete it without doing a finished block again. Ends with 1 where
something is wrong.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from survival import different, digest, forked, make_input, records, run, say, wait


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[bool]:
    """Mount a tmpfs while the context lasts; give False where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "bigrestore-test", str(folder)]
    allowed = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def attempt(folder: Path, source: Path, wanted: dict[str, str], workers: int) -> str:
    """Run into a full disk and go on; return what is wrong."""
    disk = folder / f"disk-{workers}"
    with tmpfs(disk, "64m") as allowed:
        if not allowed:
            say("  no tmpfs may be mounted here; not tried")
            return ""
        output, ballast = disk / "out.ome.zarr", disk / "ballast"
        half = sum((folder / "calm.ome.zarr" / name).stat().st_size for name in wanted) // 2
        free = 64 << 20
        ballast.write_bytes(bytes(free - half - (256 << 10)))
        code = wait(forked(lambda: run(source, output, workers=workers)))
        if code not in (4, 5):
            return f"the run on a full disk ended with {code}"
        done = records(output)
        ballast.unlink()
        code = wait(forked(lambda: run(source, output, workers=workers, resume=True)))
        if code:
            return f"with space again it ended with {code}"
        again = [name for name in done if records(output).get(name) != done[name]]
        if again:
            return f"{len(again)} blocks were done again that were done"
        say(f"  {len(done)} of {len(records(output))} blocks were done when the disk was full")
        wrong = different(wanted, digest(output))
        return f"{len(wrong)} files differ, first {wrong[0]}" if wrong else ""


def main() -> int:
    """Try it by one process and by two workers."""
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_input(folder / "in.zarr", 1920)
        assert wait(forked(lambda: run(source, folder / "calm.ome.zarr"))) == 0
        wanted = digest(folder / "calm.ome.zarr")
        for workers in (1, 2):
            started = time.monotonic()
            wrong = attempt(folder, source, wanted, workers)
            bad += bool(wrong)
            say(f"  {workers} worker(s): {wrong or 'the same bytes'} ({time.monotonic() - started:.0f} s)")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
