"""The fingerprint of a run: the facts behind its bytes, and the differences of two runs in words.

A plan's facts, with hashes of model and input, are the run's fingerprint. A run is resumed only under the same one,
and differences are named. The same facts, without those of the machine, are the store's provenance.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import bigrestore
from bigrestore.errors import OutputExistsError
from bigrestore.io.access.versions import UNREADABLE
from bigrestore.io.section import Section
from bigrestore.model.method import Method
from bigrestore.run.plan import Plan
from bigrestore.settings import RunSettings

OF_THE_FILES = ("files", "bytes", "files_blake2b")
"""Facts of an input's files that a copy of it may change; `input_files` judges them."""

KNOWN_BY = ("kind", "shape", "dtype", "level", "windows_blake2b")
"""Facts by which an image is known again in the provenance."""

DESTINATION = "output.destination"
"""Fact of an output that is made in a stage: where it is copied to."""

HARMONY, DETAIL = "harmony.tones", "neighbours.sigma_px"
"""Facts of a volume: the tones of its sections, and what neighbours are smoothed by before they fill damage."""

METHOD_FACTS = ("options", "package")
"""Facts of a named method besides its own; see `bigrestore.model.registry.method_facts`."""

LIBRARIES = ("numpy", "torch", "zarr")
"""Libraries whose versions may show in the bytes of an output."""

version = functools.cache(metadata.version)
"""Version of an installed package, read from its metadata once."""

_PLAN_FLAGS = {
    "tile_px": "--tile-size",
    "overlap_px": "--overlap",
    "block_px": "--block-size",
    "batch_size": "--batch-size",
    "format": "--format",
}


_METHOD_FLAGS = {
    "model": "--model",
    "realness": "--realness",
    "objective": "--objective-model",
    "options": "--set",
    "kernel": "--kernel",
    "noise": "--noise",
    "lock": "--lock",
    "seed": "--seed",
    "scale": "--scale",
    "device": "--device",
    "precision": "--precision",
}

FOLLOWING = ("method.halo_px", "method.alignment_px", "method.estimator", "method.scope")
"""Facts of a method that follow from others."""

OF_OPTIONS = ("descent", "denoise", "resolve", "search")
"""Facts of a method that follow from its options, beside those named alike."""


def fingerprint(
    plan: Plan,
    section: Section,
    method: Method,
    settings: RunSettings,
    mask: dict[str, Any] | None,
    realness: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the fingerprint of a run: flat, JSON-able, by names for messages.

    `mask` and `realness` are the fingerprints of the user's mask and realness map, if given.
    """
    groups = {
        "settings": settings.pixel_facts(),
        "method": method.describe(),
        "plan": plan.facts,
        "input": section.fingerprint(),
        "mask": mask or {},
        "realness": realness or {},
    }
    flat = {
        f"{group}.{name}": value
        for group, facts in groups.items()
        for name, value in facts.items()
        if name not in OF_THE_FILES
    }
    plain: dict[str, Any] = json.loads(json.dumps(flat | software(), sort_keys=True))
    return plain


def software() -> dict[str, str]:
    """Return the versions in a fingerprint: of bigrestore and of the libraries."""
    return {"code.version": bigrestore.__version__} | {
        f"libraries.{name}": version(name) for name in LIBRARIES
    }


def other_software(stored: Mapping[str, Any]) -> list[str]:
    """List the versions of a stored fingerprint that are not installed, in words."""
    now = software()
    return [
        f"{'bigrestore' if name == 'code.version' else name.partition('.')[2]} {stored[name]}"
        for name in now
        if name in stored and stored[name] != now[name]
    ]


def digest(facts: dict[str, Any]) -> str:
    """Return a short hash of a fingerprint."""
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def differing(stored: dict[str, Any], now: dict[str, Any], *, left_open: Collection[str] = ()) -> list[str]:
    """List the facts in two fingerprints that differ, without those left open."""
    return sorted(
        name
        for name in stored.keys() | now.keys()
        if not _alike(stored.get(name), now.get(name))
        and name not in left_open
        and (name in stored or not name.startswith("libraries."))  # the first plans do not name them
        and name.split(".")[-1] not in OF_THE_FILES
    )


def _alike(then: Any, now: Any) -> bool:
    """Tell whether two facts are the same; a window is, if it could not be read once."""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return all(UNREADABLE in pair or pair[0] == pair[1] for pair in zip(then, now, strict=True))
    return bool(then == now)


def left_open(settings: RunSettings) -> set[str]:
    """List the facts of the plan left to the machine, or to the resumed run."""
    asked = {"tile_px": settings.tile_size, "overlap_px": settings.overlap, "batch_size": settings.batch_size}
    return {f"plan.{name}" for name, value in asked.items() if value is None}


def require_same_run(stored: dict[str, Any], now: dict[str, Any], output: Path) -> None:
    """Refuse to resume a run of another fingerprint.

    Raises
    ------
    OutputExistsError
        Naming the differences.
    """
    names = differing(stored, now)
    if not names:
        return
    parts = [_difference(name, stored.get(name), now.get(name)) for name in _causes(names, now)]
    parts = list(dict.fromkeys(parts))
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    raise OutputExistsError(
        f"The output {output} was begun otherwise: {', '.join(parts[:4])}{more}; resume it with what it was begun "
        "with, or start anew with --overwrite."
    )


def _causes(names: list[str], now: Mapping[str, Any]) -> list[str]:
    """Return the differences that a user makes by an option, without those that follow from them; all where none is one.

    The model decides on hash, halo and realness, and a setting on the fact of the method that is named alike.
    """
    if "settings.method" in names:
        follow = {name for name in names if name.startswith(("method.", "plan."))}
    else:
        follow = set(FOLLOWING)
        follow |= {"method.model"} if "settings.scale" in names else set()
        if not {"method.model", "method.sha256"}.isdisjoint(names):
            follow |= {"method.realness", "method.preset"}
        follow |= {"method.sha256"} if "method.model" in names else set()
        follow |= {name.replace("settings.", "method.") for name in names if name.startswith("settings.")}
        follow |= {"method.kernel"} if "settings.blur" in names else set()
        follow |= {"method.objective"} if "settings.realness_map" in names else set()
        if "method.options" in names:
            follow |= {f"method.{name}" for name in (*now.get("method.options", ()), *OF_OPTIONS)}
    return [name for name in names if name not in follow] or names


def _difference(name: str, then: Any, now: Any) -> str:
    """Return one difference in words: flags as they are given, and no checksums."""
    if name == DETAIL:
        return "how much neighbouring sections have in common"
    if name == HARMONY:
        return "the brightness of the sections"
    if name == DESTINATION:
        return f"the destination ({then or 'its own place'} then, {now or 'its own place'} now)"
    group, _, fact = name.partition(".")
    flags = {
        "settings": f"--{fact.replace('_', '-')}",
        "plan": _PLAN_FLAGS.get(fact, fact.replace("_", " ")),
        "method": _METHOD_FLAGS.get(fact, f"the method's {fact.replace('_', ' ')}"),
        "input": f"the input's {fact.replace('_', ' ')}",
        "mask": "the mask",
        "realness": "the realness map",
        "code": "the version of bigrestore",
        "libraries": f"the version of {fact}",
    }
    if fact.endswith(("blake2b", "sha256")):
        what = {"method": "the model or its kernel", "input": "the input's pixels", "mask": "the mask"}
        what["realness"] = "the realness map"
        return what.get(group, name)
    if group in ("mask", "realness"):
        return flags[group]
    if name == "method.kernel":  # "estimated", or "given" with the beginning of a checksum
        then, now = (str(value).partition(",")[0] for value in (then, now))
        return f"--kernel ({then} then, {'another' if then == now else now} now)"
    return f"{flags.get(group, name)} ({_as_flag(then)} then, {_as_flag(now)} now)"


def run_provenance(
    plan: Plan, section: Section, method: Method, settings: RunSettings, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the provenance for the store: settings, hashes and versions; no time, place or host.

    Mask and realness map are described as in `identity`, the run's fingerprint.
    """
    seen = section.fingerprint()
    foreign = {name: identity[f"method.{name}"] for name in METHOD_FACTS if f"method.{name}" in identity}
    given = {
        name: facts
        for name in ("mask", "realness")
        if (facts := {fact: identity[f"{name}.{fact}"] for fact in KNOWN_BY if f"{name}.{fact}" in identity})
    }
    return given | {
        "version": bigrestore.__version__,
        "method": method.describe() | foreign,
        "settings": settings.pixel_facts(),
        "plan": plan.facts | {"redundancy": round(plan.grid.work.redundancy, 4)},
        "input": {name: seen[name] for name in KNOWN_BY},
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _as_flag(value: Any) -> str:
    """Return a fact as a flag would give it."""
    if isinstance(value, list) and all(isinstance(item, list) for item in value if item is not None):
        text = ",".join(":".join(map(str, item)) for item in value if item is not None)
    elif isinstance(value, dict):
        text = ",".join(f"{name}={item}" for name, item in value.items())
    elif isinstance(value, list):
        text = ",".join("?" if item is None else f"{item}" for item in value)
    else:
        text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
