"""Kill a run before each of its changes to the disk, go on with it, and compare with a run left alone.

    python tests/faults/every_event.py [--step 12] [--only WORD]

A change is a file that is opened for writing, renamed or removed, or a folder that is made or removed, as Python's audit
events tell; before the n-th of them the process kills itself. Then the same command is given with `--resume` (an
`--overwrite` that was killed is given again), and the output must be, byte by byte, that of a run that was left alone. In
the store and beside it lie files of somebody else, which must still be there. `--step 1` tries every change, a larger
one every so-manieth, from another one on in each case. Ends with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from survival import different, digest, forked, make_input, run, say, wait

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
MINE = "labels/mine.txt", "0/notes.txt", "2024/photos.txt"
BESIDE = "notes.txt", "journal/mine.json", "profiles/mine/a", "mine.partial"


def die_before(count: int, folder: Path) -> None:
    """Have this process kill itself before its n-th change below a folder."""
    left, root = [count], str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(path, str) and isinstance(flags, int) and flags & WRITING):
                return
        elif event not in CHANGES:
            return
        if str(arguments[0]).startswith(root):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


RESUME, OVERWRITE = {"resume": True}, {"overwrite": True}


@attrs.frozen
class Case:
    """A kind of run: the name of its output, its settings, and whether it replaces a former one.

    `before` are the steps that are done before it, `killed` is the one that is killed, and `remedies` are tried in turn.
    """

    name: str
    output: str
    settings: dict[str, Any]
    former: dict[str, Any] | None = None
    before: tuple[dict[str, Any], ...] = ()
    killed: dict[str, Any] = attrs.field(factory=dict)
    remedies: tuple[dict[str, Any], ...] = (RESUME,)


INIT, PART, LAST = {"init_only": True}, {"shard": "1/1"}, {"finalize": True}

CASES = [
    Case("store", "out.ome.zarr", {}),
    Case("store 0.4", "out.ome.zarr", {"format": "0.4"}),
    Case("TIFF", "out.ome.tif", {}),
    Case("zip file", "out.ome.zarr.zip", {}),
    Case("report", "out.ome.zarr", {"report": True, "scale": 1, "roi": (None, (0, 480), (0, 480))}),
    Case("overwrite", "out.ome.zarr", {}, {"scale": 1}, killed=OVERWRITE, remedies=(OVERWRITE,)),
    Case("overwrite a TIFF", "out.ome.tif", {}, {"scale": 1}, killed=OVERWRITE, remedies=(OVERWRITE,)),
    Case("first step", "out.ome.zarr", {}, killed=INIT, remedies=(RESUME, OVERWRITE)),
    Case("part", "out.ome.zarr", {}, before=(INIT,), killed=PART, remedies=(RESUME, OVERWRITE)),
    Case("last step", "out.ome.zarr.zip", {}, None, (INIT, PART), LAST, (LAST, RESUME, OVERWRITE)),
    Case("anew", "out.ome.zarr.zip", {}, remedies=(OVERWRITE,)),
]


def put_mine(output: Path) -> dict[Path, str]:
    """Put files of somebody else into an output and beside it."""
    beside = Path(f"{output}.bigrestore")
    places = [beside / name for name in BESIDE]
    if any((output / name).is_file() for name in ("zarr.json", ".zattrs")):  # without, it is nobody's
        places += [output / name for name in MINE]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"years of work: {place.name}")
    return {place: place.read_text() for place in places}


def one(case: Case, source: Path, folder: Path, at: int, wanted: dict[str, str]) -> tuple[bool, str]:
    """Kill before the n-th change and go on; return whether there was one, and what is wrong."""
    folder.mkdir()
    output, remedy = folder / case.output, case.remedies[at % len(case.remedies)]
    if case.former is not None and (code := wait(forked(lambda: run(source, output, **case.former)))):
        return True, f"the former run ended with {code}"
    for step in case.before:
        if code := wait(forked(lambda step=step: run(source, output, **case.settings, **step))):  # type: ignore[misc]
            return True, f"a step before ended with {code}"

    def work() -> int:
        die_before(at, folder)
        return run(source, output, **case.settings, **case.killed)

    code = wait(forked(work))
    if code == 0:
        return False, ""
    if code != -signal.SIGKILL:
        return True, f"it ended with {code} before it was killed"
    begun = Path(f"{output}.bigrestore/plan.json").exists()
    mine = put_mine(output) if begun and remedy != OVERWRITE else {}
    code = wait(forked(lambda: run(source, output, **case.settings, **remedy)))
    if code:
        return True, f"{remedy} ended with {code}"
    gone = [place for place, text in mine.items() if not place.is_file() or place.read_text() != text]
    if gone:
        return True, f"{gone[0]} is gone"
    made = digest(output) if output.is_dir() else {"": str(hash(output.read_bytes()))}
    kept = {name for name in made if output / name in mine}
    wrong = different(wanted, {name: value for name, value in made.items() if name not in kept})
    strays = [path.name for path in folder.rglob("*.partial") if path not in mine]
    return True, f"{wrong[0]} differs" if wrong else f"{strays[0]} is left" if strays else ""


def every(case: Case, source: Path, folder: Path, step: int, first: int) -> tuple[int, int]:
    """Try the changes of one case; return how many were tried, and how many went wrong."""
    calm = folder / "calm" / case.output
    calm.parent.mkdir(parents=True)
    assert wait(forked(lambda: run(source, calm, **case.settings))) == 0
    wanted = digest(calm) if calm.is_dir() else {"": str(hash(calm.read_bytes()))}
    tried, bad, at = 0, 0, first
    while True:
        there, wrong = one(case, source, folder / f"{at}", at, wanted)
        if not there:
            return tried, bad
        tried += 1
        if wrong:
            bad += 1
            say(f"    WRONG before change {at}: {wrong}")
        at += step


def main() -> int:
    """Try all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--step", type=int, default=12)
    parser.add_argument("--only", default="", help="cases whose names have this in them")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        source = make_input(Path(name) / "in.zarr", 480)
        chosen: list[Case] = [case for case in CASES if options.only in case.name]
        for index, case in enumerate(chosen):
            started = time.monotonic()
            attempt: Callable[..., tuple[int, int]] = every
            tried, wrong = attempt(
                case, source, Path(name) / f"{index}", options.step, 1 + index % options.step
            )
            bad += wrong
            say(f"  {case.name}: {tried} kills, {wrong} went wrong ({time.monotonic() - started:.0f} s)")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
