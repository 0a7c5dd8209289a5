"""Kill one run 25 times by SIGKILL at random moments, go on with it each time, and compare with a run left alone.

    python tests/faults/kills.py [--kills 25] [--seed N] [--side 1600]

A moment is a random number of milliseconds after a random number of further blocks was finished, or after the start of
the process, so that start-up, blocks, pyramid and metadata are all hit, on any machine. Shown are the files that differ
in the end (0), blocks lost (0), and blocks that were finished before a kill and done again after it (0). Ends with
1 where one of them is not 0.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from survival import different, digest, ended, forked, make_input, records, run, say, wait


def kill_somewhere(pid: int, output: Path, chance: random.Random) -> int | None:
    """Kill a process at a random moment; return its exit code where it ended before, else None."""
    before, seconds = len(records(output)), chance.uniform(0.0, 0.12)
    blocks = chance.choice((0, 0, 1, 1, 2, 3))
    early = chance.random() < 0.25
    while not early and len(records(output)) < before + max(1, blocks):
        if (code := ended(pid)) is not None:
            return code
        time.sleep(0.002)
    time.sleep(seconds * (3 if early else 1))
    if (code := ended(pid)) is not None:
        return code
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def trial(folder: Path, kills: int, seed: int, side_px: int) -> tuple[int, int]:
    """Kill and go on; return how many things are wrong, and how often it was killed before all was done."""
    chance = random.Random(seed)
    source = make_input(folder / "in.zarr", side_px)
    calm, output = folder / "calm.ome.zarr", folder / "killed.ome.zarr"
    assert wait(forked(lambda: run(source, calm))) == 0
    done: dict[str, int] = {}
    killed, again = 0, 0
    while True:
        resume = Path(f"{output}.bigrestore").exists()
        pid = forked(lambda resume=resume: run(source, output, resume=resume))  # type: ignore[misc]
        code = kill_somewhere(pid, output, chance) if killed < kills else wait(pid)
        now = records(output)
        again += sum(name in done and done[name] != now.get(name) for name in done)
        done = now
        if code is None:
            killed += 1
            continue
        if code != 0:
            say(f"  a run that was not killed ended with {code}")
            return 1, killed
        if killed >= kills or len(done) == len(records(calm)):
            break
    wrong = different(digest(calm), digest(output))
    lost = len(records(calm)) - len(done)
    say(
        f"  {len(done)} blocks, {killed} kills: {len(wrong)} files differ, {lost} blocks lost, "
        f"{again} finished blocks done again"
    )
    for name in wrong[:5]:
        say(f"    differs: {name}")
    return len(wrong) + lost + again, killed


def main() -> int:
    """Try it, over several runs where one is finished before it was killed often enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", type=int, default=1920)
    options = parser.parse_args()
    say(f"{options.kills} SIGKILLs, seed {options.seed}:")
    bad, left = 0, options.kills
    while left > 0 and not bad:
        with tempfile.TemporaryDirectory() as folder:
            bad, killed = trial(Path(folder), left, options.seed + options.kills - left, options.side)
        left -= killed
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
