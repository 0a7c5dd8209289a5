"""Whether and where a run may write, and the judgement of an existing output.

Only a run's own files are removed: a mistyped path is the most expensive flag there is. A store is known as ours by its
attribute, a TIFF by its annotation, and both by the plan in the folder beside them; the files in them by their names
(`owned`). Where there is anything else, nothing is removed. All is decided before anything is created or removed, so a
refused run leaves everything as it was.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import zarr

from bigrestore.core.files import expand_home, remove_strays, require_path
from bigrestore.core.regular import read_text
from bigrestore.errors import OutputError, OutputExistsError, UsageError, output_error
from bigrestore.io.access.tree_store import open_node
from bigrestore.io.access.trees import LocalTree, ZipTree
from bigrestore.io.formats.table import is_zarr
from bigrestore.io.section import Section
from bigrestore.io.store.ome_zarr import create_group, create_level, create_store, mark_unfinished, open_level
from bigrestore.io.store.store_spec import ARRAY_FILES, GROUP_FILES, MAPS_GROUP, OME_GROUP
from bigrestore.io.verify.faults import DECODE_ERRORS
from bigrestore.io.verify.metadata import STORE_FILES, level_as_planned, read_metadata
from bigrestore.run.output.owned import PLAN, Outline, remove_named, strangers
from bigrestore.run.plan import Plan
from bigrestore.run.state.checksums import is_unchanged
from bigrestore.run.state.journal import Journal, sidecar
from bigrestore.run.tile.maps import Image, images

TIFF_NAMES = (".tif", ".tiff")

GROUP_METADATA = ("zarr.json", ".zgroup", ".zattrs")

BIGTIFF = b"II+\0"
"""How a TIFF begins that a run writes."""


def output_path(output: str | os.PathLike[str]) -> Path:
    """Return the final place of an output: links are followed, for store and journal alike.

    Raises
    ------
    UsageError
        Where it is no path.
    OutputError
        Where it names a folder by `.`, `..` or `/`, or a link leads nowhere.
    """
    require_path(output, "The output")
    path = Path(expand_home(output))
    if "\0" in str(path):
        raise UsageError("The output has a zero character in its name; give a path without.")
    if path.name in ("", ".."):
        raise OutputError(
            f"The output {str(output) or '.'!r} names a folder and no image; name a store in it, such as "
            f"{path / 'restored.ome.zarr'}."
        )
    try:
        place = path.resolve() if path.is_symlink() else path
        sidecar(place).is_dir()  # its name is longer, and may be too long
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise output_error(path, error) from error
        raise _leads_nowhere(path) from error
    except RuntimeError as error:  # what Python says of a loop of links
        raise _leads_nowhere(path) from error
    return place


FILE_ENDINGS = frozenset(
    """
    .html .htm .json .csv .parquet .xlsx .txt .pdf .svg .png .jpg .jpeg .bmp .gif .webp .tif .tiff .zarr .zip .ozx .npy .npz
    .nii .mnc .toml .safetensors
    """.split()
)
"""Endings of files and stores: what is named so is not meant as a folder."""


def require_folder_name(folder: Path, flag: str, holds: str) -> None:
    """Refuse the name of a file for a folder that is to be made; `flag` and what it `holds` are for the sentence."""
    if folder.suffix.lower() in FILE_ENDINGS and not folder.is_dir():
        raise UsageError(
            f"{flag} is {folder}, the name of a file, and {holds} are written into a folder; name one, such as "
            f"{folder.with_suffix('')}."
        )


def _leads_nowhere(path: Path) -> OutputError:
    return OutputError(f"The output {path} is a link that leads nowhere; remove it or name another.")


def check_place(
    output: Path, sources: list[Path], others: Mapping[str, Sequence[Path]] | None = None
) -> None:
    """Refuse an output that is, lies in, or holds an input of the run, or lies in a store.

    Parameters
    ----------
    output : Path
        What is to be written; the folder beside it counts as well.
    sources : list of Path
        The files or folders of the input.
    others : mapping, optional
        What else is read, by what it is called in the message: mask, kernel, model, configuration.

    Raises
    ------
    OutputError
        Naming the two.
    """
    try:
        place = output.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, by the version of Python
        raise OutputError(
            f"The output {output} lies behind a link that leads in a circle; remove the link, or name another output."
        ) from error
    store = next((parent for parent in place.parents if is_zarr(parent)), None)
    inside = [path for path in sources if place.is_relative_to(path.resolve())]
    if store is not None and not inside:
        raise OutputError(f"The output {output} lies inside the Zarr store {store}; choose a place outside.")
    for what, paths in {"input": sources, **(others or {})}.items():
        for path in paths:
            source = path.resolve()
            if _same(place, source) or _same(sidecar(place), source):
                raise OutputError(f"The output {output} is the {what} {path} itself; choose another output.")
            if place.is_relative_to(source):
                raise OutputError(
                    f"The output {output} lies inside the {what} {path}; choose a place outside."
                )
            if source.is_relative_to(place) or source.is_relative_to(sidecar(place)):
                raise OutputError(
                    f"The {what} {path} lies inside the output {output}; choose another output."
                )


def _same(one: Path, other: Path) -> bool:
    """Tell whether two resolved paths are one file, by name or by the file system's numbers."""
    try:
        return one == other or one.samefile(other)
    except OSError:
        return False


def source_paths(inputs: str | Path | Sequence[str | Path], section: Section) -> list[Path]:
    """Return the paths of an input: the one given, or the files of a pattern."""
    given = expand_home([inputs] if isinstance(inputs, str | Path) else list(inputs))
    named = [Path(path) for path in given if Path(path).exists()]
    return named or [file for file in section.files if isinstance(file, Path)]


@attrs.frozen
class Standing:
    """What is at the place of an output before a run.

    Attributes
    ----------
    exists : bool
        Whether there is an output, or the journal of an unfinished one.
    begun : bool
        Whether a run stored its plan there, and can be resumed.
    foreign : str
        Evidence of another owner, so nothing there is touched; empty without any.
    added : str
        A foreign file in the output of a run, or beside it, so neither is removed; empty without any.
    """

    exists: bool
    begun: bool
    foreign: str
    added: str

    @property
    def obstacle(self) -> str:
        """The obstacle to clearing the place; empty without one."""
        return self.foreign or self.added


def look_at(output: Path, journal: Journal, *, resuming: bool = False) -> Standing:
    """Judge the place of an output; nothing is written or removed.

    With `resuming` nothing is to be removed, so added files are not looked for.
    """
    begun = journal.begun
    there = output.exists() or output.is_symlink()
    if journal.foreign:
        return Standing(there, False, f"{journal.root} is no journal of a run", "")
    foreign = _foreign(output, journal) if there else ""
    added = ""
    if not foreign and not (resuming and begun):
        added = _added(output, journal.outline) or _besides(journal.added)
    return Standing(there or begun or journal.plan_damaged, begun, foreign, added)


def settle_existing(
    output: Path, journal: Journal, *, resume: bool, overwrite: bool, same_settings: bool = True
) -> bool:
    """Decide on an existing output: resumed, to be removed, or refused. Nothing is removed yet.

    Parameters
    ----------
    output, journal : Path, Journal
        The place, and the folder beside it.
    resume, overwrite : bool
        What was asked for.
    same_settings : bool
        Whether the run there may be resumed; only then named as a remedy.

    Returns
    -------
    bool
        True to resume the existing run.

    Raises
    ------
    OutputExistsError
        Where it exists and neither was asked for, or there is nothing to resume by.
    OutputError
        Where it is not a run's to remove, or the place cannot be written.
    """
    existing = look_at(output, journal, resuming=resume)
    if not existing.exists and not existing.obstacle:
        require_writable(output)
        return False
    if resume and existing.begun and not existing.foreign:
        return True
    if existing.foreign or (existing.added and (overwrite or not existing.exists)):
        wanted = " and is not removed" if overwrite else ""
        kind = OutputError if overwrite else OutputExistsError
        raise kind(f"{existing.obstacle}{wanted}; move it away, or choose another output.")
    if overwrite:
        return False
    if resume and journal.plan_damaged:
        raise OutputExistsError(
            f"The plan of the run, {journal.root / PLAN}, is damaged, so that nothing can go on by it; start anew with "
            "--overwrite, or choose another output."
        )
    if resume:
        raise OutputExistsError(
            f"The output {output} exists, but {journal.root} has no plan to resume it by; choose another output "
            "or start anew with --overwrite."
        )
    ways = ["go on with it by --resume"] if existing.begun and same_settings else []
    ways += [] if existing.added else ["replace it by --overwrite"]
    unfinished = "" if output.exists() else " as an unfinished run"
    other = "" if same_settings or not existing.begun else " and was begun under other settings"
    raise OutputExistsError(
        f"The output {output} exists{unfinished}{other}; {', '.join([*ways, 'or choose another output'])}."
    )


def remove_former(output: Path, journal: Journal) -> None:
    """Remove a former run's files, once `settle_existing` has allowed it.

    Raises
    ------
    OutputError
        Where it may not be removed.
    """
    existing = look_at(output, journal)
    if existing.obstacle:
        raise OutputError(f"{existing.obstacle} and is not removed; move it away, or choose another output.")
    outline = journal.outline
    try:
        if output.is_dir():
            _mark_unfinished(output, outline)
            remove_named(output, outline.is_file, outline.is_folder)
        else:
            output.unlink(missing_ok=True)
        remove_strays(output)
    except OSError as error:
        raise output_error(output, error) from error
    journal.clear()


def _mark_unfinished(store: Path, outline: Outline) -> None:
    """Mark the images of a store before its removal, so none of them looks whole meanwhile."""
    for path in outline.images:
        if can_be_opened(store / path):
            mark_unfinished(store / path)


def prepare_store(store: Path, plan: Plan, *, resuming: bool) -> None:
    """Create the store with its maps, or mark a resumed one as unfinished, so it does not look whole.

    Damaged metadata of a store are written anew; its shards are kept, and the journal knows the whole ones.

    Raises
    ------
    OutputError
        Where the place cannot be written.
    """
    *maps, image = images(store, plan)
    _prepare_image(image, resuming=resuming)
    _prepare_maps_group(store, plan)
    for image in maps:
        _prepare_image(image, resuming=resuming)


def _prepare_image(image: Image, *, resuming: bool) -> None:
    """Create one image of a store, or mark it as unfinished."""
    try:
        if resuming and image.path.exists():
            refuse_links(image.path, image.path / "0", image.path / "0/c")
            if can_be_opened(image.path):
                if not level_as_planned(image.path, image.spec, 0):
                    create_level(image.path, image.spec, 0, again=True)
                mark_unfinished(image.path)
                return
            for folder, names in ((image.path, GROUP_FILES), (image.path / "0", ARRAY_FILES)):
                for name in names[image.spec.fmt]:
                    (folder / name).unlink(missing_ok=True)
        image.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(image.path, error) from error
    create_store(image.path, image.spec)


def _prepare_maps_group(store: Path, plan: Plan) -> None:
    """Make the group of the maps, if missing or damaged."""
    group = store / MAPS_GROUP
    refuse_links(group, group / OME_GROUP)
    if not plan.maps or has_metadata(group):
        return
    try:
        for name in GROUP_FILES[plan.spec.fmt]:
            (group / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(group, error) from error
    create_group(group, plan.spec)


def has_metadata(group: Path) -> bool:
    """Tell whether the metadata of a group are whole."""
    there = [name for name in GROUP_METADATA if (group / name).exists()]
    return bool({"zarr.json", ".zgroup"}.intersection(there)) and all(
        read_metadata(group / name) is not None for name in there
    )


def is_as_planned(image: Image) -> bool:
    """Tell whether an image of a store can be opened, and its level 0 has the metadata that a run writes."""
    return can_be_opened(image.path) and level_as_planned(image.path, image.spec, 0)


def can_be_opened(store: Path) -> bool:
    """Tell whether the metadata of the group and of its level 0 are whole."""
    try:
        group = open_node(LocalTree(store))
        open_level(store, 0)
    except DECODE_ERRORS:
        return False
    return isinstance(group, zarr.Group)


def refuse_links(*folders: Path) -> None:
    """Refuse to write behind a link in a store: it may lead to foreign files.

    Raises
    ------
    OutputError
        Naming it.
    """
    for folder in folders:
        if folder.is_symlink():
            raise OutputError(
                f"{folder} is a link, behind which nothing is written; move it away and start again."
            )


def _foreign(output: Path, journal: Journal) -> str:
    """Return the evidence of another owner of an output; empty for a run's own, or an empty folder."""
    if output.is_file():
        begun = journal.begun
        if output.suffix.lower() in TIFF_NAMES and _is_our_tiff(output, unreadable=begun):
            return ""
        if output.suffix.lower() in (".zip", ".ozx") and _is_our_zip(output, unreadable=begun):
            return ""
        kind = "zip file" if output.suffix.lower() in (".zip", ".ozx") else "TIFF"
        return f"{output} is no {kind} that a run of this program made"
    if not output.is_dir():
        return f"{output} is neither an image store nor a TIFF"
    names = {path.name for path in output.iterdir()}
    ours = _is_our_store(output)
    if not names or ours:
        return ""
    # Metadata that are damaged or say nothing are a run's where its plan lies beside, and nothing else is there; those that
    # say something else are where the pixels are the run's.
    if (
        journal.begun
        and not _added(output, journal.outline)
        and (ours is None or _holds_blocks(output, journal))
    ):
        return ""
    kind = "a store" if names.intersection(STORE_FILES) else "a folder"
    return f"{output} is {kind} that no run of this program made"


def _holds_blocks(store: Path, journal: Journal) -> bool:
    """Tell whether a store holds a file of a block as the run wrote it."""
    files = ((store / name, state) for record in journal.records() for name, state in record.files.items())
    return any(is_unchanged(path, state, thorough=True) for path, state in files)


def _added(output: Path, outline: Outline) -> str:
    """Return a foreign file in an output; empty without any."""
    if not output.is_dir():
        return ""
    return _besides(next(strangers(output, outline.is_file, outline.is_folder), None))


def _besides(strange: Path | None) -> str:
    return "" if strange is None else f"{strange.parent} holds {strange.name!r} besides what a run wrote"


def _is_our_store(store: Path) -> bool | None:
    """Tell whether a store has the attribute left by every run; None for damaged or empty metadata."""
    seen = False
    for name in ("zarr.json", ".zattrs", ".zarray"):
        try:
            document = json.loads(read_text(store / name))
        except (OSError, ValueError):
            continue
        if name == ".zarray" or (isinstance(document, dict) and document.get("node_type") == "array"):
            return False
        attributes = (
            document.get("attributes", {}) if isinstance(document, dict) and name == "zarr.json" else document
        )
        if not isinstance(attributes, dict):  # damaged
            continue
        if "bigrestore" in attributes:
            return True
        seen = seen or bool(attributes)
    return False if seen else None


def _is_our_zip(path: Path, *, unreadable: bool) -> bool:
    """Tell whether a zip file holds a store with the attribute left by every run; `unreadable` is one cut off."""
    try:
        return "bigrestore" in open_node(ZipTree(path)).attrs
    except DECODE_ERRORS:
        return unreadable and _starts_with(path, b"PK")


def _is_our_tiff(path: Path, *, unreadable: bool) -> bool:
    """Tell whether a TIFF has the annotation left by every run; `unreadable` answers for a damaged one."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            text = file.ome_metadata or ""
            if unreadable and file.is_bigtiff and "ImageDescription" not in file.pages.first.tags:
                return True  # it lies near the end of what a run writes, and is lost first
    except (OSError, ValueError, IndexError, struct.error):
        return unreadable and _starts_with(path, BIGTIFF)
    return 'Namespace="bigrestore"' in text


def _starts_with(path: Path, head: bytes) -> bool:
    """Tell whether a file begins as one of a run, or is empty."""
    with path.open("rb") as file:
        return head.startswith(file.read(len(head)))


def require_writable(output: Path) -> None:
    """Refuse a place whose nearest existing parent is no folder, or not writable.

    Raises
    ------
    OutputError
        Naming the place and this folder.
    """
    folder = output.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(
            f"The output {output} cannot be written, as {folder} is no folder; choose a place elsewhere."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"The output {output} cannot be written: the folder {folder} is not writable; choose another place."
        )
