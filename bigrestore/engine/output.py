"""Whether and where a run may write, and what an output that exists is taken for.

Nothing is removed that no run can have made: overwriting takes an image store or a TIFF and refuses anything
else, because a mistyped path is the most expensive flag there is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bigrestore.engine.journal import Journal, sidecar
from bigrestore.engine.plan import Plan
from bigrestore.errors import InputError, OutputError, OutputExistsError
from bigrestore.io.ome_zarr import create_store, mark_unfinished, open_level
from bigrestore.io.section import Section

STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def check_place(output: Path, sources: list[Path]) -> None:
    """Refuse an output inside an input or an input inside the output.

    Raises
    ------
    OutputError
        Naming the two.
    """
    place = output.resolve()
    for source in (path.resolve() for path in sources):
        if place == source or place.is_relative_to(source):
            raise OutputError(f"The output {output} lies inside the input {source}; choose a place outside.")
        if source.is_relative_to(place) or source.is_relative_to(sidecar(place)):
            raise OutputError(f"The input {source} lies inside the output {output}; choose another output.")


def source_paths(inputs: str | Path | list[str | Path], section: Section) -> list[Path]:
    """Return what of the file system belongs to the input: the path given, or the files of a pattern."""
    given = inputs if isinstance(inputs, list) else [inputs]
    named = [Path(path) for path in given if Path(path).exists()]
    return named or list(section.files)


def settle_existing(output: Path, journal: Journal, *, resume: bool, overwrite: bool) -> bool:
    """Decide what an existing output is: gone on with, removed, or refused.

    Returns
    -------
    bool
        True where the run goes on with what is there.

    Raises
    ------
    OutputExistsError
        Where it exists and neither was asked for, or there is nothing to resume by.
    OutputError
        Where it is not a run's to remove.
    """
    begun = journal.read("plan.json") is not None
    if not output.exists() and not output.is_symlink() and not journal.root.exists():
        return False
    if overwrite:
        _remove(output)
        journal.remove()
        return False
    if resume and begun:
        return True
    if resume and not output.exists():
        return False
    if resume:
        raise OutputExistsError(
            f"The output {output} exists, but {journal.root} has no plan to resume it by; choose another output "
            "or start anew with --overwrite."
        )
    raise OutputExistsError(
        f"The output {output} exists{'' if output.exists() else ' as an unfinished run'}; go on with it by "
        "--resume, replace it by --overwrite, or choose another."
    )


def prepare_store(store: Path, plan: Plan, *, going_on: bool) -> None:
    """Create the store, or take the metadata off one that is gone on with, so that it does not look whole."""
    if going_on and store.exists():
        try:
            open_level(store, 0)
        except InputError:
            _remove(store)
        else:
            mark_unfinished(store)
            return
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The output {store} cannot be written ({error.strerror or error}); choose a place where you may."
        ) from error
    create_store(store, plan.spec)


def _remove(path: Path) -> None:
    """Remove an image store or a TIFF, and nothing else."""
    if not path.exists():
        return
    if path.is_dir() and (not any(path.iterdir()) or any((path / name).exists() for name in STORE_FILES)):
        shutil.rmtree(path)
    elif path.is_file() and path.suffix.lower() in (".tif", ".tiff"):
        path.unlink()
    else:
        raise OutputError(
            f"{path} is neither an image store nor a TIFF and is not removed; move it away, or choose another output."
        )
