"""The methods by name: those of the table, and the entry points of other packages.

Outside of this package a method is a module with a `MethodFactory` and an entry point of the group `bigrestore.methods`,
loaded only when its name is asked for, or all are listed.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.words import either
from bigrestore.errors import BigrestoreError, UsageError
from bigrestore.model.method import Method, MethodFactory, require_method
from bigrestore.model.methods.table import METHOD_FLAGS, METHODS
from bigrestore.model.options import read_options
from bigrestore.settings import RunSettings
from bigrestore.settings.values import FILLED, SCALES, UNLIKELY_MAP

METHOD_GROUP = "bigrestore.methods"
"""Entry points of other packages: name of the method to a `MethodFactory`."""


_kept: ContextVar[list[tuple[RunSettings, Method]] | None] = ContextVar("kept methods", default=None)


@contextlib.contextmanager
def method_kept() -> Iterator[None]:
    """Let `create_method` return the last method again for equal settings: many inputs load a model once."""
    token = _kept.set([])
    try:
        yield
    finally:
        _kept.reset(token)


def create_method(settings: RunSettings) -> Method:
    """Make the method named by the settings, or return the last one inside `method_kept`.

    Raises
    ------
    BigrestoreError
        As of `_make_method`.
    """
    kept = _kept.get()
    if kept and kept[0][0] == settings:
        return kept[0][1]
    method = _make_method(settings)
    if kept is not None:
        kept[:] = [(settings, method)]
    return method


def _make_method(settings: RunSettings) -> Method:
    """Make the method named by the settings.

    Raises
    ------
    UsageError
        There is no such method, its package is broken, or a flag or an option means nothing to it.
    ModelError, InputMissingError
        Its model cannot be loaded.
    """
    name, factory = settings.method, find_factory(settings.method)
    _refuse_unheeded(settings, factory)
    options = read_options(factory.options, settings.options, name)
    if settings.scale not in factory.scales:
        scales = either(factory.scales)
        raise UsageError(
            f"--scale is {settings.scale}, and --method {name} restores at {scales}; change one."
        )
    try:
        method = factory.create(settings, **options)
    except BigrestoreError:
        raise
    except Exception as error:
        if name in METHODS:
            raise
        raise UsageError(
            f"The method {name!r} cannot be made ({_in_words(error)}); ask the package that brings it."
        ) from error
    if name not in METHODS:
        require_method(method, f"The method {name!r}")
        if method.scale != settings.scale:
            raise UsageError(
                f"--scale is {settings.scale}, but the method {name!r} has the scale {method.scale}."
            )
    return method


def _method_points() -> EntryPoints:
    """Return the entry points of methods.

    A run asks for them several times, and each search opens every package that is installed: 30 ms. So it is made again
    only where a folder of packages has changed.
    """
    return _points_on(tuple((folder, _changed(folder)) for folder in sys.path))


@functools.lru_cache(maxsize=1)
def _points_on(folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    return entry_points(group=METHOD_GROUP)


def _changed(folder: str) -> int:
    """Return when a folder of modules was changed, in nanoseconds; 0 where there is none."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def find_factory(name: str) -> MethodFactory:
    """Return the factory of a method; an entry point is loaded.

    Raises
    ------
    UsageError
        There is none, there are two, or its package is broken.
    """
    points = _method_points()
    named = [point for point in points if point.name == name]
    if name in METHODS:
        if named:
            raise _collision(named[0])
        return METHODS[name]
    if not named:
        known = dict.fromkeys([*METHODS, *sorted(point.name for point in points)])
        raise UsageError(f"--method is {name!r}; choose {either(known)}.")
    if len(named) > 1:
        packages = " and ".join(sorted(map(_package, named)))
        raise UsageError(f"The method {name!r} is brought by {packages}; uninstall all but one of them.")
    return _load_factory(named[0])


@attrs.frozen
class ListedMethod:
    """A method as `bigrestore models methods` lists it.

    Attributes
    ----------
    name : str
    package : str
        Name and version of its package.
    factory : MethodFactory or None
        None if it cannot be loaded.
    problem : str
        The sentence if it cannot be loaded.
    """

    name: str
    package: str
    factory: MethodFactory | None
    problem: str = ""


def list_methods() -> Iterator[ListedMethod]:
    """Yield the built-in methods, then those of other packages by name; loads every entry point."""
    for name, factory in METHODS.items():
        yield ListedMethod(name, "bigrestore", factory)
    for point in sorted(_method_points(), key=lambda point: point.name):
        try:
            if point.name in METHODS:
                raise _collision(point)
            yield ListedMethod(point.name, _package(point), find_factory(point.name))
        except UsageError as error:
            yield ListedMethod(point.name, _package(point), None, str(error))


def method_facts(settings: RunSettings) -> dict[str, Any]:
    """Return the options of a named method, and its package if it is foreign: part of its identity.

    A method may forget to describe an option; a run must not resume under another value of it.
    """
    if settings.method in METHODS and not METHODS[settings.method].options:
        return {}
    factory = find_factory(settings.method)
    options = read_options(factory.options, settings.options, settings.method)
    facts: dict[str, Any] = {"options": options} if options else {}
    if settings.method not in METHODS:
        (point,) = (point for point in _method_points() if point.name == settings.method)
        facts["package"] = _package(point)
    return facts


def require_region(settings: RunSettings, output_px: int) -> None:
    """Refuse a region that is larger than what a named method is for, or not named.

    Parameters
    ----------
    settings : RunSettings
        What was asked for.
    output_px : int
        Output pixels of the run, of all sections.

    Raises
    ------
    UsageError
        Naming the limit and what was asked for.
    """
    most = find_factory(settings.method).most_mpx
    if most is None or (settings.roi is not None and output_px <= 1e6 * most):
        return
    asked = f"{output_px / 1e6:.3g}" if settings.roi is not None else f"all, {output_px / 1e6:.3g}"
    raise UsageError(
        f"--method {settings.method} searches a region: give --roi y0:y1,x0:x1 of at most {most:g} Mpx (asked: {asked})."
    )


def settings_for(method: object, settings: RunSettings, asked: set[str]) -> RunSettings:
    """Return the settings of a run with a method handed in as an object.

    Parameters
    ----------
    method : object
        As `bigrestore.model.method.Method` describes it.
    settings : RunSettings
        All settings but the method.
    asked : set of str
        Names of the settings given by the caller.

    Raises
    ------
    UsageError
        The object is no method, or a setting means nothing to it.
    """
    require_method(method, "The method")
    unheeded = sorted(asked & {*METHOD_FLAGS, "options"})
    if unheeded:
        raise UsageError(f"{unheeded[0]} means nothing to a method that is handed in; leave it out.")
    name, scale = getattr(method, "name", ""), getattr(method, "scale", 1)
    if scale not in SCALES or ("scale" in asked and scale != settings.scale):
        raise UsageError(
            f"The method {name!r} has the scale {scale}; make it for 1, 2 or 4, and leave scale out."
        )
    return attrs.evolve(settings, method=str(name), scale=int(scale))


def _load_factory(point: EntryPoint) -> MethodFactory:
    """Import the factory of an entry point."""
    try:
        factory = point.load()
    except Exception as error:
        raise UsageError(
            f"The method {point.name!r} of {_package(point)} cannot be loaded ({_in_words(error)}); update or uninstall "
            "that package."
        ) from error
    if not isinstance(factory, MethodFactory):
        raise UsageError(
            f"The method {point.name!r} of {_package(point)} is of the type {type(factory).__name__} and no MethodFactory; "
            "update or uninstall that package."
        )
    return factory


def _collision(point: EntryPoint) -> UsageError:
    return UsageError(
        f"{_package(point)} brings a method {point.name!r}, the name of a built-in one; update or uninstall that package."
    )


def _package(point: EntryPoint) -> str:
    """Return name and version of the package of an entry point."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"


def _in_words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _refuse_unheeded(settings: RunSettings, factory: MethodFactory) -> None:
    """Refuse a flag the method would ignore."""
    method = settings.method
    given = {name: getattr(settings, name) for name in METHOD_FLAGS if name not in factory.flags}
    for name in ("model", "kernel", "blur", "noise"):
        if given.get(name) is not None:
            raise UsageError(f"--{name} means nothing to --method {method}; leave it out.")
    if given.get("maps"):
        given["maps"] = tuple(name for name in settings.maps if name not in (FILLED, UNLIKELY_MAP))
    for name in ("realness_map", "maps"):
        if given.get(name):
            raise UsageError(
                f"--{name.replace('_', '-')} needs a network, and --method {method} is none; leave it out."
            )
    if given.get("realness") and factory.needs_network:
        raise UsageError(f"--realness means nothing to --method {method}; leave it out.")
    if given.get("realness"):
        raise UsageError(f"--realness needs a network, --method {method} adds nothing; leave it out.")
    if given.get("device", "auto") not in ("auto", "cpu"):
        raise UsageError(f"--method {method} runs on the CPU; leave --device {settings.device} out.")
    if given.get("precision", "auto") not in ("auto", "fp32"):
        raise UsageError(f"--method {method} computes in fp32; leave --precision {settings.precision} out.")
