"""Put files, folders and links of others into outputs, under names much like a run's own, and see that they stay.

    python tests/faults/others.py [--seconds 60] [--seed N]

An output is made, things are put into it and beside it at random, some of it is damaged, and a run goes on with it or is
told to overwrite it. It may refuse (exit code 4) or do its work; but what others put there, and what their links name,
must be as it was, and an output that is gone on with must be, byte by byte, what it was. Ends with 1 where something is
wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from survival import digest, make_input, run, say

from bigrestore.run.output.owned import beside_names
from bigrestore.run.state.journal import Journal

SETTINGS = {"roi": (None, (0, 520), (0, 490)), "report": False}


def mutated(name: str, chance: random.Random) -> str:
    """Return a name that looks like one of a run's."""
    parts = name.split("/")
    at = chance.randrange(len(parts))
    kind = chance.randrange(7)
    if kind == 0:
        parts[at] = str(chance.choice([7, 12, 2024, "00", "01", "-1", "c", "O"]))
    elif kind == 1:
        parts[at] += chance.choice(
            [".txt", ".json", ".partial", "~", ".0123456789abcdef.partial", ".1-0.partial"]
        )
    elif kind == 2:
        parts = [*parts[: at + 1], chance.choice(["notes.txt", "0", "zarr.json", "mine"])]
    elif kind == 3:
        parts[at] = parts[at].upper() + "x"
    elif kind == 4:
        parts = [*parts[:at], chance.choice(["labels", "maps", "8", "c", "scores"]), *parts[at:]]
    elif kind == 5:
        parts[at] = chance.choice(
            [".zattrs", ".DS_Store", "._zarr.json", ".nfs0001", "lock2", "plan.json.bak"]
        )
    else:
        parts = [
            chance.choice(["notes.txt", "a/b/c", "journal/z00000.json", "profiles/z1.json", "report/a.html"])
        ]
    return "/".join(parts)


class Attempt:
    """An output with things of others in it."""

    def __init__(self, calm: Path, folder: Path, chance: random.Random) -> None:
        self.output, self.victim, self._chance = folder / calm.name, folder / "victim", chance
        shutil.copytree(calm.parent, folder)
        (self.victim / "c/0").mkdir(parents=True)
        for name in ("0", "1", "zarr.json", "plan.json", "c/0/0", "c/0/1", "z00000-y0000-x0000.json"):
            (self.victim / name).write_text(f"years of work: {name}")
        self.beside = Path(f"{self.output}.bigrestore")
        self.put: dict[Path, str] = {}
        self.harmed = False

    def plant(self) -> None:
        """Put one thing there."""
        chance = self._chance
        root = chance.choice([self.output, self.beside])
        names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*"))]
        name = mutated(chance.choice(names), chance)
        outline = Journal(self.output).outline
        is_file, is_folder = (
            (outline.is_file, outline.is_folder) if root == self.output else beside_names(outline)
        )
        place = root / name
        if is_file(name) or is_folder(name) or place.exists() or place.is_symlink():
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return
        if any(parent.is_symlink() for parent in place.parents):
            return
        kind = chance.randrange(4)
        if kind == 0:
            place.symlink_to(self.victim / chance.choice(["0", "c", "nothing"]))
        elif kind == 1:
            place.hardlink_to(self.victim / "1")
        else:
            place.write_text(f"years of work: {name}")
        self.put[place] = self.state(place)

    def link(self) -> None:
        """Put a link, or a second name of a file, in the place of any folder or file of the run."""
        places = [path for root in (self.output, self.beside) for path in sorted(root.rglob("*"))]
        place = self._chance.choice([*places, self.beside / "lock", self.beside / "scores"])
        if any(place == put or place in (*put.parents, *put.resolve().parents) for put in self.put):
            return
        if any(parent.is_symlink() for parent in place.parents):
            return
        is_folder = place.name == "scores" or (place.is_dir() and not place.is_symlink())
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
        if is_folder:
            place.symlink_to(self.victim)
        elif self._chance.random() < 0.5:
            place.symlink_to(self.victim / "plan.json")
        else:
            place.hardlink_to(self.victim / "plan.json")

    def damage(self) -> None:
        """Remove or cut off one file of the run."""
        own = [path for path in sorted(self.output.rglob("*")) if path.is_file() and path not in self.put]
        path = self._chance.choice(own)
        if path.is_symlink() or any(parent.is_symlink() for parent in path.parents):
            return
        if self._chance.random() < 0.5:
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)

    @staticmethod
    def state(place: Path) -> str:
        """Return what is at a place, in words."""
        if place.is_symlink():
            return f"link to {place.readlink()}"
        return place.read_text() if place.is_file() else "nothing"

    def lost(self) -> list[Path]:
        """Return what others put there that is no longer as it was."""
        return [place for place, text in self.put.items() if self.state(place) != text]


def attempt(calm: Path, source: Path, folder: Path, chance: random.Random) -> str:
    """Try once; return what is wrong."""
    trial = Attempt(calm, folder, chance)
    for _ in range(chance.randrange(1, 4)):
        trial.plant()
    linked = chance.random() < 0.25
    if linked:
        trial.link()
    if chance.random() < 0.7:
        trial.damage()
    overwrite = chance.random() < 0.5
    victims = digest(trial.victim)
    wanted = digest(calm)
    code = run(source, trial.output, **SETTINGS, **({"overwrite": True} if overwrite else {"resume": True}))
    what = f"{'overwriting' if overwrite else 'resuming'} among {[str(path) for path in trial.put]}"
    if trial.lost():
        return f"{what}: {trial.lost()[0]} is lost (exit code {code})"
    if digest(trial.victim) != victims:
        return f"{what}: what a link names was changed (exit code {code})"
    if code not in (0, 4):
        return f"{what}: exit code {code}"
    if overwrite and code == 0 and trial.put:
        return f"{what}: was not refused"
    if code == 0:
        made = {
            name: value
            for name, value in digest(trial.output).items()
            if trial.output / name not in trial.put
        }
        made = {name: value for name, value in made.items() if name in wanted or not under(name, trial)}
        if {name: made.get(name) for name in wanted} != wanted:
            return f"{what}: the output is another"
    elif not overwrite and not linked and not foreign_root(trial):
        return f"{what}: was refused, though nothing was in its way"
    return ""


def under(name: str, trial: Attempt) -> bool:
    """Tell whether a file lies behind something that others put there."""
    return any(place in (trial.output / name).parents for place in trial.put)


def foreign_root(trial: Attempt) -> bool:
    """Tell whether the root's metadata are gone or damaged while something was added: it is nobody's then."""
    try:
        return not json.loads((trial.output / "zarr.json").read_text())
    except (OSError, ValueError):
        return True


def main() -> int:
    """Try until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("bigrestore").setLevel(logging.CRITICAL)
    bad, tried, until = 0, 0, time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as name:
        source = make_input(Path(name) / "in.zarr", 480)
        calm = Path(name) / "calm/out.ome.zarr"
        assert run(source, calm, **SETTINGS) == 0
        while time.monotonic() < until:
            seed = options.seed * 100_000 + tried
            folder = Path(name) / str(tried)
            wrong = attempt(calm, source, folder, random.Random(seed))
            tried += 1
            bad += bool(wrong)
            if wrong:
                say(f"  WRONG with seed {seed}: {wrong}")
            shutil.rmtree(folder)
    say(f"  {tried} outputs with things of others in them, {bad} went wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
