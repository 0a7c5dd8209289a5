"""The profiles of a run, each computed once and stored beside the output for all workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bigrestore.core.files import read_sealed, write_sealed
from bigrestore.errors import UnreadableSectionError
from bigrestore.io.access.versions import UNREADABLE, joined, recording_reads
from bigrestore.io.section import Section
from bigrestore.model.method import Method
from bigrestore.run.profile.section_profile import (
    Profile,
    describe,
    profile_section,
    sample_section,
    tissue_words,
    warn_of_clipping,
)
from bigrestore.run.profile.words import sentence

log = logging.getLogger(__name__)

VERSION = "version"
"""Key in a stored profile: the version of the section's files."""

PIXELS = "pixels"
"""Key in a stored profile: the checksum of all pixels read for it."""


class Profiles:
    """The profiles of a run's sections, each computed once and stored beside the output.

    Parameters
    ----------
    section : Section
        The input.
    method : Method
        Analyses the windows.
    folder : Path, optional
        Folder of the stored profiles; None: in memory only.
    known : mapping of int to Profile
        Profiles made before.
    """

    def __init__(
        self, section: Section, method: Method, folder: Path | None, known: Mapping[int, Profile] = {}
    ) -> None:
        self._section, self._method, self._folder = section, method, folder
        self._known: dict[int, Profile] = dict(known)
        self._made_of: dict[int, dict[str, str]] = {}
        self._unreadable: dict[int, UnreadableSectionError] = {}
        self._lock = threading.Lock()
        self.seconds = 0.0

    def of(self, z: int) -> Profile:
        """Return the profile of section z."""
        with self._lock:
            if z not in self._known:
                self._known = {z: self._load_or_make(z)}  # one at a time: blocks come section by section
            return self._known[z]

    def readable(self, sections: range) -> Iterator[tuple[int, Profile]]:
        """Yield index and profile of the sections that can be read; in a volume, warn of each other one, once.

        The blocks of an unreadable section fail when their turn comes, and the other sections are restored.

        Raises
        ------
        InputError
            Floating-point values leave the stated range.
        """
        for z in sections:
            if z in self._unreadable:
                continue
            try:
                profile = self.of(z)
            except UnreadableSectionError as error:
                if len(sections) > 1:
                    log.warning("Section %d cannot be read: %s", z, error)
                self._unreadable[z] = error
            else:
                yield z, profile

    def first_readable(self, sections: range) -> tuple[int, Profile]:
        """Return index and profile of the first section that can be read.

        Raises
        ------
        UnreadableSectionError
            None can be read: that of the first.
        InputError
            Floating-point values leave the stated range.
        """
        for first in self.readable(sections):
            return first
        raise self._unreadable[sections[0]]

    def keep_in(self, folder: Path) -> None:
        """Store profiles in a folder from now on, the known ones at once.

        A first section is profiled before a run creates any folder, so that a refused input leaves nothing behind.

        Raises
        ------
        OutputError
            Where they cannot be written.
        """
        with self._lock:
            self._folder = folder
            for z, profile in self._known.items():
                if read_sealed(self._path(z)) is None:
                    write_sealed(self._path(z), profile.to_json() | self._made_of.get(z, {}))

    def _load_or_make(self, z: int) -> Profile:
        path = None if self._folder is None else self._path(z)
        stored = None if path is None else read_sealed(path)
        if stored is not None:
            return Profile.from_json(stored)
        started = time.perf_counter()
        version = section_version(self._section, z)
        with recording_reads() as reads:
            profile = profile_section(self._section, z, self._method)
        if any(read.pixels == UNREADABLE for read in reads):
            version = ""  # parts are unreadable: the profile stays valid after they are repaired
        made_of = {VERSION: version, PIXELS: joined(read.pixels for read in reads)}
        self.seconds += time.perf_counter() - started
        said = sentence(profile.statistics, int(self._method.scale))
        log.info("Section %d: %s", z, said or tissue_words(profile))
        log.debug("Section %d: %s", z, describe(profile))
        warn_of_clipping(profile, self._section, z)
        self._made_of[z] = made_of
        if path is not None:
            write_sealed(path, profile.to_json() | made_of)
        return profile

    def _path(self, z: int) -> Path:
        assert self._folder is not None
        return self._folder / f"z{z:05d}.json"


def profile_differs(section: Section, z: int, method: Method, stored: dict[str, Any]) -> bool:
    """Tell whether a stored profile belongs to other pixels than the section has now.

    Versions of the files are compared first, then checksums of the pixels. Only if both differ is a profile computed
    anew: equal pixels may give slightly different numbers on another processor.

    Raises
    ------
    InputError
        The section cannot be read any more.
    """
    made_of = {name: stored.get(name, "") for name in (VERSION, PIXELS)}
    if not made_of[VERSION] or made_of[VERSION] == section_version(section, z, fresh=True):
        return False
    with recording_reads() as reads:
        sample_section(section, z)
    if joined(read.pixels for read in reads) == made_of[PIXELS]:
        return False
    return profile_section(section, z, method).to_json() | made_of != stored


def section_version(section: Section, z: int, *, fresh: bool = False) -> str:
    """Return the version of all files behind a section's profile.

    Empty for a store behind a URL: its server would be asked for each chunk.
    """
    if len(section.files) > 1 and not all(isinstance(file, Path) for file in section.files):
        return ""
    return section.version(z, 0, section.height, 0, section.width, fresh=fresh)
