"""The folder of the pairs: the files of a call of `degrade`, its request, and its state.

A name proves nothing: people call their own images `lq/` and `hq/`, too. So a call first writes its request and its
names into `degrade.begun.json`, and the table `pairs.parquet` repeats both once the folder is complete. Only names in
one of the two files are ever removed, and a resuming call is compared with the request. The first file goes when the
table is there, so the folder depends on nothing but the command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from bigrestore.core.files import remove_tree, write_json
from bigrestore.core.regular import read_text
from bigrestore.degradation.pairs import TABLE_NAME, read_facts
from bigrestore.errors import InputError, OutputError, OutputExistsError, output_error

if TYPE_CHECKING:
    from bigrestore.run.state.journal import Journal

BEGUN_NAME = "degrade.begun.json"
"""What was asked for, while the folder is not complete."""

STORE_NAME = "lq.ome.zarr"
"""The degraded whole section."""

GIVEN = frozenset({"blur", "noise"})
"""Optional settings of a request, absent by default."""

PATCH_FOLDERS = ("lq", "hq")
_SIDECAR_NAME = STORE_NAME + ".bigrestore"
_PATCH = re.compile(r"\d{6,}\.png")
_NAMED = 4
"""Most settings named in a refusal; it counts the others."""


@attrs.frozen
class PairsFolder:
    """The output folder of a call of `degrade`.

    Attributes
    ----------
    root : Path
        The folder.
    request : mapping
        What the call was asked for, JSON-able; `whole` says whether a store or patches are made.
    """

    root: Path
    request: Mapping[str, Any]

    @property
    def table(self) -> Path:
        """The table of a complete folder."""
        return self.root / TABLE_NAME

    def settle(self, *, overwrite: bool, resume: bool) -> bool:
        """Decide about existing files, and record the request.

        Returns
        -------
        bool
            True for a folder already complete.

        Raises
        ------
        OutputExistsError
            The folder is not empty, and neither flag was given; or it was begun under other settings.
        OutputError
            What would be replaced was not made by `degrade`, or the folder cannot be written.
        """
        if self.root.exists() and not self.root.is_dir():
            raise OutputExistsError(f"The output {self.root} is a file; give a folder.")
        try:
            if resume and self._goes_on():
                return self.table.is_file()
            self._start(overwrite)
        except OSError as error:
            raise output_error(self.root, error) from error
        return False

    def finish(self) -> None:
        """Remove the files of an unfinished folder: the engine's journal, full of times, and the request.

        A journal with files of others beside it stays.
        """
        from bigrestore.run.state.journal import Journal

        try:
            strays = self._strays()
            journal = Journal(self.root / STORE_NAME)
            if journal.root.is_dir() and not (journal.foreign or journal.added):
                _remove_journal(journal)
            for path in (self.root / BEGUN_NAME, *strays):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def _strays(self) -> list[Path]:
        """List the temporary files of killed calls."""
        return [path for name in (BEGUN_NAME, TABLE_NAME) for path in self.root.glob(f"{name}.*.partial")]

    def _goes_on(self) -> bool:
        """Compare the request with the existing folder; return False for a fresh one."""
        facts = read_facts(self.table)
        if facts is not None:
            require_same_request(facts, self.request, self.root)
            self.finish()  # a call may have been killed between the table and the end
            return True
        begun, by_the_engine = self._begun(), _begun_by_the_engine(self.root)
        if begun is not None:
            request = begun["request"]
            if by_the_engine:  # it compares the pixels on its own, and knows a repaired input
                pixels = self.request["input"]["pixels"]
                request = request | {"input": {**request.get("input", {}), "pixels": pixels}}
            require_same_request(request, self.request, self.root)
            return True
        return by_the_engine

    def _start(self, overwrite: bool) -> None:
        """Make the folder, remove the files of a former call on `overwrite`, and record the request."""
        made = self._made()
        if self.root.is_dir() and set(self.root.iterdir()) - set(self._strays()) and not overwrite:
            whole = " go on with it by --resume," if _SIDECAR_NAME in made else ""
            raise OutputExistsError(
                f"The folder {self.root} is not empty;{whole} give another, or replace by --overwrite what a former "
                "call made in it."
            )
        self._refuse_foreign(made)
        self.root.mkdir(parents=True, exist_ok=True)
        owned = _owned(bool(self.request["whole"]))
        self._record(owned | made)  # before the first file goes, so that a kill leaves nobody's files
        self.table.unlink(missing_ok=True)
        if made & {STORE_NAME, _SIDECAR_NAME}:
            _settle_store(self.root, remove=True)
        for name in sorted(made - {TABLE_NAME, BEGUN_NAME, STORE_NAME, _SIDECAR_NAME}):
            remove_tree(self.root / name)
        self._record(owned)

    def _record(self, owned: Iterable[str]) -> None:
        """Write the request and the names owned by the call."""
        write_json(self.root / BEGUN_NAME, {"request": dict(self.request), "owns": sorted(owned)})

    def _begun(self) -> dict[str, Any] | None:
        """Return the record of `_record`, or None."""
        try:
            record = json.loads(read_text(self.root / BEGUN_NAME))
        except (FileNotFoundError, NotADirectoryError, InputError, ValueError):
            return None
        kinds = {"request": dict, "owns": list}
        if not isinstance(record, dict) or not all(isinstance(record.get(k), v) for k, v in kinds.items()):
            return None
        return record

    def _made(self) -> set[str]:
        """Return the names in the folder from a former call."""
        made: set[str] = set()
        facts, begun = read_facts(self.table), self._begun()
        if facts is not None:
            made |= _owned(bool(facts["whole"])) | {TABLE_NAME}
        if begun is not None:
            made |= {BEGUN_NAME} | (set(begun["owns"]) & (_owned(True) | _owned(False)))
        if _begun_by_the_engine(self.root):
            made |= {STORE_NAME, _SIDECAR_NAME}
        return {name for name in made if (self.root / name).exists()}

    def _refuse_foreign(self, made: set[str]) -> None:
        """Refuse to replace files of others, by name or inside a folder of patches."""
        names = {TABLE_NAME, BEGUN_NAME} | _owned(True) | _owned(False)
        foreign = [self.root / name for name in sorted(names - made) if (self.root / name).exists()]
        foreign += [self.root / name for name in sorted(names) if (self.root / name).is_symlink()]
        for name in sorted(made & set(PATCH_FOLDERS)):
            foreign += sorted(p for p in (self.root / name).iterdir() if not _PATCH.fullmatch(p.name))
        if made & {STORE_NAME, _SIDECAR_NAME}:
            _settle_store(self.root, remove=False)
        if foreign:
            raise OutputError(
                f"{foreign[0]} was not made by degrade and is not removed; move it away, or give another folder."
            )


def require_same_request(begun: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse to resume pairs begun under other settings.

    Settings known to only one of the two are ignored, because the folder may be of another version; the optional ones
    of `GIVEN` are not.

    Raises
    ------
    OutputExistsError
        Naming the differing settings, with both values.
    """
    shared = ((begun.keys() & wanted.keys()) | GIVEN) - {"version"}
    then, now = (_dotted({name: facts[name] for name in shared & facts.keys()}) for facts in (begun, wanted))
    differing = sorted(
        name for name in then.keys() | now.keys() if then.get(name, "not set") != now.get(name, "not set")
    )
    if not differing:
        return
    if "recipe.name" in differing:
        differing = [name for name in differing if name == "recipe.name" or not name.startswith("recipe.")]
    shown = [
        "the pixels of the input"
        if name == "input.pixels"
        else f"{name} was {then.get(name, 'not set')}, now {now.get(name, 'not set')}"
        for name in differing[:_NAMED]
    ]
    more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
    raise OutputExistsError(
        f"The pairs in {folder} were begun under other settings ({'; '.join(shown)}{more}); go on with those, give "
        "another folder, or start anew with --overwrite."
    )


def _owned(whole: bool) -> set[str]:
    """Return the names owned by a call, except the table and the record of the request."""
    return {STORE_NAME, _SIDECAR_NAME} if whole else {*PATCH_FOLDERS}


def _settle_store(root: Path, *, remove: bool) -> None:
    """Refuse a whole section with foreign files in it or beside it, or remove it."""
    from bigrestore.run.output.place import remove_former, settle_existing
    from bigrestore.run.state.journal import Journal

    store = root / STORE_NAME
    journal = Journal(store)
    if remove:
        remove_former(store, journal)
        if journal.root.is_dir():
            _remove_journal(journal)
    else:
        settle_existing(store, journal, resume=False, overwrite=True)


def _remove_journal(journal: Journal) -> None:
    """Remove a journal, its plan last: without it a killed call could not tell the rest from a file of others."""
    from bigrestore.run.state.lock import sole_writer

    with sole_writer(journal.root, journal.root):  # a killed call leaves its lock, which goes with this one
        journal.clear()
    journal.root.rmdir()


def _begun_by_the_engine(root: Path) -> bool:
    """Tell whether the engine's journal in the folder is that of a degradation."""
    from bigrestore.run.state.journal import Journal

    plan = Journal(root / STORE_NAME).plan or {}
    facts = plan.get("fingerprint")
    return isinstance(facts, dict) and facts.get("method.name") == "degrade"


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted names, in JSON's kinds of values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.loads(json.dumps(value))
    return flat
