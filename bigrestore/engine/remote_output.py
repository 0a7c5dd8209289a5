"""An output behind a URL: the run is made on a disk and copied there once it is whole.

What a run needs of its output (locks, renames, files that are read back and repaired) an object store does not
give, and a store that grows there for days would look whole to whoever opens it. So blocks, journal and report lie in a
folder, the stage, where a run is gone on with as any other; then the files go to the URL, the metadata of the maps and
of the root last, so that a copy that was broken off does not open. A copy that is begun again sends only what is not
there yet. The stage is kept: it is the user's to remove.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

from bigrestore.engine.journal import sidecar
from bigrestore.engine.noted import STORE_FILES
from bigrestore.engine.prepared import Inputs
from bigrestore.engine.retry import persist
from bigrestore.engine.run import execute
from bigrestore.engine.signals import StopFlag, listen
from bigrestore.engine.summary import RunSummary
from bigrestore.errors import InputError, OutputError, OutputExistsError, UsageError
from bigrestore.flags import MAPS
from bigrestore.io.places import RemoteFile, place_of
from bigrestore.io.remote_requests import request_errors, short
from bigrestore.io.store_spec import MAPS_GROUP
from bigrestore.settings import RunSettings
from bigrestore.urls import is_remote, without_secrets

log = logging.getLogger(__name__)

BESIDE = ("run.json", "report")
"""What of the folder beside an output is copied, too."""

Found = TypeVar("Found")


def execute_to(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    guarded: Mapping[str, Path] | None = None,
) -> RunSummary:
    """Run as `execute` does; where the output is a URL, in the stage, and copy what is whole.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.
    """
    if not is_remote(output):
        return execute(inputs, local_output(output, settings), settings, guarded=guarded)
    target = RemoteOutput.at(str(output), settings)
    target.require_room(settings)
    summary = execute(inputs, target.stage, settings, guarded=guarded)
    if settings.init_only or settings.shard or summary.failed:
        log.info("%s is not whole yet, and %s is not written.", target.stage, target.url)
        return summary
    with listen() as flag:
        sent, kept = target.send(flag)
    log.info("%s: %d file(s) copied, %d were there.", target.url, sent, kept)
    return attrs.evolve(summary, copied_to=target.url)


def local_output(output: str | Path, settings: RunSettings) -> str | Path:
    """Return where a run writes: the output itself, or the stage of a URL.

    Raises
    ------
    BigrestoreError
        Where the URL is none that is written, or a stage is given to an output that needs none.
    """
    if is_remote(output):
        return RemoteOutput.at(str(output), settings).stage
    if settings.stage is not None:
        raise UsageError(
            f"--stage is {settings.stage}, but the output {output} is a path and is written at once; leave it out."
        )
    return output


@attrs.frozen
class RemoteOutput:
    """A place that is written behind a URL.

    Attributes
    ----------
    url : str
        Without what is secret.
    stage : Path
        Where the output is made.
    """

    url: str
    stage: Path
    _path: str
    _system: Any = attrs.field(eq=False, repr=False)

    @classmethod
    def at(cls, url: str, settings: RunSettings) -> RemoteOutput:
        """Return the place that a URL names; nobody is asked yet.

        Raises
        ------
        OutputError
            Where it is no place that can be written, or what reaches it is not installed.
        """
        shown = without_secrets(url).rstrip("/")
        try:
            place = place_of(url, settings.storage_options)
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

    def require_room(self, settings: RunSettings) -> None:
        """Refuse a place where something is that this run may not replace.

        Raises
        ------
        OutputExistsError, OutputError
            With the way out.
        """
        there = self._listing(self._path)
        if not there or (settings.goes_on and sidecar(self.stage).is_dir()):
            return
        if not self._is_ours(there):
            raise OutputExistsError(
                f"{self.url} holds something that no run of this program made; choose another output."
            )
        if not settings.overwrite:
            raise OutputExistsError(
                f"{self.url} exists; replace it by --overwrite, or choose another output."
            )

    def send(self, flag: StopFlag) -> tuple[int, int]:
        """Copy what is not there yet, and remove what is there and belongs to a former output.

        Returns
        -------
        sent, kept : int
            Files that were copied, and that were there already.

        Raises
        ------
        OutputError
            Where the place refuses, or does not hold afterwards what was sent.
        """
        there = self._listing(self._path) | self._listing(f"{self._path}.bigrestore")
        files = dict(self._files())
        wrong = [name for name, file in files.items() if not _same(file, there.get(name))]
        former = [name for name in there if name not in files]
        roots = [name for name in files if name in self._roots()]
        if set(wrong) - set(roots) or former:
            for name in [
                name for name in reversed(roots) if name in there
            ]:  # until all is there none must open
                self._try(lambda name=name: self._system.rm_file(name), name)
            wrong = [*(name for name in wrong if name not in roots), *roots]
        for name in former:
            self._try(lambda name=name: self._system.rm_file(name), name)
        for name in wrong:
            flag.raise_if_set(f"copy the rest to {self.url} by --resume")
            self._try(lambda name=name: self._system.put_file(str(files[name]), name), name)
        self._check(files)
        return len(wrong), len(files) - len(wrong)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield the files of the output by what they are called at the URL, metadata of the maps and of the root last."""
        if self.stage.is_file():
            yield self._path, self.stage
        else:
            found = sorted(path for path in self.stage.rglob("*") if path.is_file())
            maps = self.stage / MAPS_GROUP
            for path in sorted(
                found, key=lambda path: (path.parent == self.stage, path.parent.parent == maps)
            ):
                yield f"{self._path}/{path.relative_to(self.stage).as_posix()}", path
        beside = sidecar(self.stage)
        for name in BESIDE:
            for path in sorted([beside / name, *(beside / name).rglob("*")]):
                if path.is_file():
                    yield f"{self._path}.bigrestore/{path.relative_to(beside).as_posix()}", path

    def _roots(self) -> set[str]:
        """Return the files without which neither the image nor a map of it opens."""
        images = [self._path, *(f"{self._path}/{MAPS_GROUP}/{name}" for name in MAPS)]
        return {self._path, *(f"{image}/{name}" for image in images for name in STORE_FILES)}

    def _is_ours(self, there: Mapping[str, dict[str, Any]]) -> bool:
        """Tell whether what is there has the attribute of a run, or is one file beside which a run's record lies."""
        for name in ("zarr.json", ".zattrs"):
            path = f"{self._path}/{name}"
            if path in there:
                try:
                    found = json.loads(self._try(lambda path=path: self._system.cat_file(path), path))
                except ValueError:
                    return False
                said = (
                    found.get("attributes", {}) if name == "zarr.json" and isinstance(found, dict) else found
                )
                return isinstance(said, dict) and "bigrestore" in said
        return f"{self._path}.bigrestore/run.json" in self._listing(f"{self._path}.bigrestore")

    def _listing(self, path: str) -> dict[str, dict[str, Any]]:
        """Return what is at a path, and in it, by its whole name."""
        self._system.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._try(lambda: self._system.find(path, detail=True), path)
        return found

    def _check(self, files: Mapping[str, Path]) -> None:
        """Compare what is there with what was sent."""
        there = self._listing(self._path) | self._listing(f"{self._path}.bigrestore")
        for name, file in files.items():
            size = there.get(name, {}).get("size")
            if size != file.stat().st_size:
                raise OutputError(
                    f"{self.url} holds {size or 0} of {file.stat().st_size} bytes of {name}; copy it again by --resume."
                )

    def _try(self, request: Any, name: str) -> Any:
        """Ask the server, again where it may be back; its errors become sentences without secrets."""
        try:
            return persist(request, name)
        except request_errors() as error:
            made = (
                f", and go on by --resume: what was made lies in {self.stage}" if self.stage.exists() else ""
            )
            raise OutputError(
                f"{self.url} cannot be written ({short(error)}); check the URL, the network and --storage-options{made}."
            ) from None  # what the libraries say further holds the request, and so the key


def _same(file: Path, there: Mapping[str, Any] | None) -> bool:
    """Tell whether a file is there as it is here: of its size, and of its MD5 where the place says one as its ETag."""
    if there is None or there.get("size") != file.stat().st_size:
        return False
    with file.open("rb") as stream:
        return str(there.get("ETag", "")).strip('"') == hashlib.file_digest(stream, "md5").hexdigest()
