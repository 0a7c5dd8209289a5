"""An output behind a URL: the run is made on a disk and copied there once it is whole.

An object store has no locks, renames or repairs of files in place, all needed by a run; and a store growing there for
days would look whole to any reader. So blocks, journal and report lie in a folder, the stage, resumed as any other
output; then the files go to the URL, the metadata of the maps and of the root last, so a broken copy does not open. A
repeated copy sends only missing files. The stage is kept: it is the user's to remove.

The list of the files goes ahead (`remote_manifest`). What lies at the URL and is on no list is somebody else's: then
nothing is touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from bigrestore.core.retry import retry_transient, transient
from bigrestore.core.urls import error_line, is_remote, without_secrets
from bigrestore.errors import InputError, OutputError, OutputExistsError, Result, UsageError
from bigrestore.io.access.places import RemoteFile, input_path
from bigrestore.io.access.remote_requests import request_errors
from bigrestore.io.access.request_time import (
    LISTING_SECONDS,
    REQUEST_SECONDS,
    TooSlowError,
    in_time,
    seconds_for,
)
from bigrestore.io.store.store_spec import MAPS_GROUP, OME_GROUP
from bigrestore.io.verify.metadata import STORE_FILES
from bigrestore.model.method import Method
from bigrestore.run.execute import BEGUN, COMPARING, NOT_BEGUN, execute
from bigrestore.run.output.owned import REPORT_FILES
from bigrestore.run.output.remote_manifest import MANIFEST, Manifest, Sent, etag_of
from bigrestore.run.output.remote_places import meeting
from bigrestore.run.prepared import Destination, Inputs
from bigrestore.run.sinks import Sink
from bigrestore.run.state.journal import Journal, sidecar
from bigrestore.run.stop import StopFlag, listen
from bigrestore.run.view.progress import NoProgress, Progress, phase_shown
from bigrestore.run.view.summary import RunSummary
from bigrestore.settings import RunSettings
from bigrestore.settings.values import MAPS

log = logging.getLogger(__name__)

BESIDE = ("run.json", *(f"report/{name}" for name in REPORT_FILES))
"""What of the folder beside an output is copied, too."""

AWAY = "move it away, or choose another output"

Listing = dict[str, dict[str, Any]]
"""Objects by their whole names, with what the store says of each."""


def execute_to(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    progress: Progress | None = None,
    guarded: Mapping[str, Path] | None = None,
    sinks: Sequence[Sink] = (),
) -> RunSummary:
    """Run as `execute` does; for a URL in its stage, and copy the whole output.

    Raises
    ------
    BigrestoreError
        By its kind.
    """
    with listen(remedy=COMPARING if settings.goes_on else NOT_BEGUN) as flag:
        place, destination = settle_output(inputs, output, settings)
        flag.remedy = BEGUN
        summary = execute(
            inputs,
            place,
            settings,
            method=method,
            progress=progress,
            guarded=guarded,
            destination=destination,
            sinks=sinks,
        )
        if destination is None:
            return summary
        target = RemoteOutput.at(str(output), settings)
        if settings.init_only or settings.shard or summary.failed:
            log.info("%s is not whole yet, and %s is not written.", target.stage, target.url)
            return summary
        flag.remedy = f"copy the rest to {target.url} by --resume"
        with phase_shown(progress or NoProgress(), "copy"):
            sent, kept = target.send(flag)
    log.info("%s: %d file(s) copied, %d were there.", target.url, sent, kept)
    return attrs.evolve(summary, copied_to=target.url)


def settle_output(
    inputs: Inputs, output: str | Path, settings: RunSettings
) -> tuple[str | Path, Destination | None]:
    """Return the place of a run, the output itself or the stage of a URL, and the target of its copy.

    Raises
    ------
    BigrestoreError
        For a URL not writable, read as well, or holding files not to be replaced; or for a stage without a URL.
    """
    if is_remote(output):
        target = RemoteOutput.at(str(output), settings)
        target.refuse_inputs(inputs, settings)
        return target.stage, Destination(target.url, target.settle(settings))
    if settings.stage is not None:
        raise UsageError(
            f"--stage is {settings.stage}, but the output {output} is a path and is written at once; leave it out."
        )
    return output, None


@attrs.frozen
class RemoteOutput:
    """An output behind a URL.

    Attributes
    ----------
    url : str
        Without secrets.
    stage : Path
        Where the output is made.
    """

    url: str
    stage: Path
    _path: str
    _system: Any = attrs.field(eq=False, repr=False)

    @classmethod
    def at(cls, url: str, settings: RunSettings) -> RemoteOutput:
        """Return the place of a URL; no server is asked yet.

        Raises
        ------
        OutputError
            For a place beyond writing, or a missing package.
        """
        shown = without_secrets(url).rstrip("/")
        try:
            place = input_path(url, settings.storage_options)
        except InputError as error:
            raise OutputError(
                str(error).replace("no place that is read", "no place that is written")
            ) from error
        assert isinstance(place, RemoteFile)
        if urlsplit(url).scheme.lower() in ("http", "https"):
            raise OutputError(f"{shown} is on a web server, which takes no files; give a path, or an s3 URL.")
        if not place.name or place.path.count("/") < 1:
            raise OutputError(
                f"{shown} names no image; name a store in it, such as {shown}/restored.ome.zarr."
            )
        return cls(shown, Path(settings.stage or ".") / place.name, place.path, place._system)

    def refuse_inputs(self, inputs: Inputs, settings: RunSettings) -> None:
        """Refuse a place at, in or around an input of the run.

        Raises
        ------
        OutputError
            Naming the two.
        """
        given = [inputs] if isinstance(inputs, str | Path) else inputs
        read: list[tuple[str, object]] = [("input", item) for item in given]
        read += [("mask", settings.mask), ("realness map", settings.realness_map)]
        options = (
            self._system.storage_options if settings.storage_options is None else settings.storage_options
        )
        conflict = meeting(self.url, read, dict(options))
        if conflict is not None:
            what, url = conflict
            raise OutputError(
                f"The output {self.url} is the {what} {url}, lies in it or holds it; choose another output."
            )

    def settle(self, settings: RunSettings) -> str:
        """Refuse a place with files this run may not replace.

        Returns
        -------
        str
            Name of the run behind the output to be replaced; empty without one.

        Raises
        ------
        OutputExistsError, OutputError
            With the way out.
        """
        there = self._there()
        if not there:
            return ""
        manifest = self._manifest(there)
        plan = Journal(self.stage).plan or {}
        if settings.goes_on and manifest.run == plan.get("run"):
            return str(plan.get("replaces", ""))  # what is left to do decides whether anything is in its way
        self._refuse_others(manifest, there)
        if settings.goes_on and manifest.run == plan.get("replaces"):
            return manifest.run
        if not settings.overwrite:
            raise OutputExistsError(
                f"{self.url} exists; replace it by --overwrite, or choose another output."
            )
        return manifest.run

    def send(self, flag: StopFlag) -> tuple[int, int]:
        """Copy the missing files, and remove those of a former output.

        Returns
        -------
        sent, kept : int
            Files copied, and files already there.

        Raises
        ------
        OutputExistsError
            For an object sent by no run of this program.
        OutputError
            For a refusing server, or a target different from the files sent.
        """
        there, plan = self._there(), Journal(self.stage).plan or {}
        before = self._manifest(there) if there else Manifest("", {})
        if there and before.run not in (plan.get("run"), plan.get("replaces")):
            raise OutputExistsError(
                f"{self.url} was written by another run meanwhile; choose another output."
            )
        files = dict(self._files())
        notes = {name: Sent.of(file) for name, file in files.items()}
        known = before.files if before.run == plan.get("run") else {}
        todo = [name for name, note in notes.items() if not _is_there(note, known.get(name), there.get(name))]
        former = [name for name in there if name not in notes and before.names(name)]
        edited = [name for name in todo if name in there and not before.knows(name, there[name])]
        if set(todo) == set(edited) and not former and all(name.endswith(STORE_FILES) for name in edited):
            return 0, len(notes)  # metadata that somebody edited stay as they are
        self._refuse_others(before, there)
        after = Manifest(str(plan["run"]), notes, {**before.former, **before.files})
        self._send(after, files, todo, former, flag)
        return len(todo), len(notes) - len(todo)

    def _send(
        self,
        manifest: Manifest,
        files: Mapping[str, Path],
        todo: list[str],
        former: list[str],
        flag: StopFlag,
    ) -> None:
        """Put the list, remove the root metadata, remove, put, and complete the list."""
        self._put_manifest(manifest)
        roots = [name for name in files if name in self._roots()]
        if set(todo) - set(roots) or former:
            for name in reversed(roots):  # until all is there none must open
                if name in manifest.former:
                    self._remove(name)
            todo = [*(name for name in todo if name not in roots), *roots]
        for name in former:
            self._remove(name)
        for name in todo:
            flag.raise_if_set(f"copy the rest to {self.url} by --resume")
            put = partial(self._system.put_file, str(files[name]), name)
            self._try(put, name, seconds_for(manifest.files[name].size))
        there = self._there()
        self._check(files, there)
        if self._manifest(there).run != manifest.run:
            raise OutputError(
                f"{self.url} is written by another run as well; let one of them end, and verify it."
            )
        sent = {name: attrs.evolve(note, etag=etag_of(there[name])) for name, note in manifest.files.items()}
        self._put_manifest(Manifest(manifest.run, sent))

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield the files of the output by their names at the URL, metadata of the maps and of the root last."""
        if self.stage.is_file():
            yield self._path, self.stage
        else:
            outline, maps = Journal(self.stage).outline, self.stage / MAPS_GROUP
            paths = [
                path
                for path in self.stage.rglob("*")
                if outline.is_file(path.relative_to(self.stage).as_posix()) and _is_plain(path)
            ]
            for path in sorted(
                paths,
                key=lambda path: (path.parent == self.stage, maps in (path.parent, path.parent.parent), path),
            ):
                yield f"{self._path}/{path.relative_to(self.stage).as_posix()}", path
        for name in BESIDE:
            path = sidecar(self.stage) / name
            if _is_plain(path):
                yield f"{self._path}.bigrestore/{name}", path

    def _roots(self) -> set[str]:
        """Return the files needed to open the image, a map of it, or all maps."""
        maps = f"{self._path}/{MAPS_GROUP}"
        groups = [self._path, maps, f"{maps}/{OME_GROUP}", *(f"{maps}/{name}" for name in MAPS)]
        return {self._path, *(f"{group}/{name}" for group in groups for name in STORE_FILES)}

    def _refuse_others(self, manifest: Manifest, there: Listing) -> None:
        """Refuse a place with an unlisted object, or one changed since it was sent."""
        for name, facts in sorted(there.items()):
            if name != self._manifest_name and not manifest.knows(name, facts):
                what = (
                    "is not as a run sent it"
                    if manifest.names(name)
                    else "was sent by no run of this program"
                )
                raise OutputExistsError(f"{self._shown(name)} {what}, and nothing there is touched; {AWAY}.")

    def _manifest(self, there: Listing) -> Manifest:
        """Return the list of a run's objects; without one, everything there is foreign."""
        if self._manifest_name in there:
            text = self._try(lambda: self._system.cat_file(self._manifest_name), self._manifest_name)
            manifest = Manifest.parse(bytes(text))
            if manifest is not None:
                return manifest
        raise OutputExistsError(
            f"{self.url} holds something that no run of this program made, or without its list "
            f"({self._shown(self._manifest_name)}), such as {self._shown(min(there))}; {AWAY}."
        )

    def _put_manifest(self, manifest: Manifest) -> None:
        name = self._manifest_name
        self._try(lambda: self._system.pipe_file(name, manifest.text()), name)

    def _remove(self, name: str) -> None:
        def remove() -> None:
            try:
                self._system.rm_file(name)
            except FileNotFoundError:
                log.debug("%s is gone already.", name)

        self._try(remove, name)

    @property
    def _manifest_name(self) -> str:
        return f"{self._path}.bigrestore/{MANIFEST}"

    def _shown(self, name: str) -> str:
        """Return the URL of an object."""
        return self.url + name.removeprefix(self._path)

    def _there(self) -> Listing:
        """Return the objects at the place, in it and beside it."""
        objects: Listing = {}
        for path in (self._path, f"{self._path}.bigrestore"):
            objects |= self._try(partial(self._listing, path), path, LISTING_SECONDS)
        return objects

    def _listing(self, path: str) -> Listing:
        """Return the objects at a path, and in it: an object store may have both."""
        self._system.invalidate_cache()
        objects: Listing = self._system.find(path, detail=True)
        self._system.invalidate_cache()
        try:
            own = self._system.info(path)
        except FileNotFoundError:
            return objects
        return objects | ({path: own} if own["type"] == "file" else {})

    def _check(self, files: Mapping[str, Path], there: Listing) -> None:
        """Compare the target with the files sent."""
        for name, file in files.items():
            size = there.get(name, {}).get("size")
            if size != file.stat().st_size:
                raise OutputError(
                    f"{self.url} holds {size or 0} of {file.stat().st_size} bytes of {name}; copy it again by --resume."
                )

    def _try(self, request: Callable[[], Result], name: str, seconds: float = REQUEST_SECONDS) -> Result:
        """Ask the server, again after a transient error; its errors become sentences without secrets."""
        try:
            return retry_transient(lambda: in_time(request, seconds), name, again=_may_succeed)
        except request_errors() as error:
            made = (
                f", and go on by --resume: what was made lies in {self.stage}" if self.stage.exists() else ""
            )
            raise OutputError(
                f"{self.url} cannot be written ({error_line(error)}); check the URL, the network and "
                f"--storage-options{made}."
            ) from None  # what the libraries say further holds the request, and so the key


def _may_succeed(error: Exception) -> bool:
    """Tell whether the same request may succeed a moment later."""
    return transient(error) and not isinstance(error, TooSlowError)


def _is_there(note: Sent, sent: Sent | None, there: Mapping[str, Any] | None) -> bool:
    """Tell whether an object is as its file; `sent` is the note of the run that sent it."""
    if there is None:
        return False
    same = sent is not None and (sent.size, sent.md5) == (note.size, note.md5)
    return note.is_at(there) or (same and sent is not None and sent.is_at(there))


def _is_plain(path: Path) -> bool:
    """Tell whether a path is a file, and not a link to one."""
    return path.is_file() and not path.is_symlink()
