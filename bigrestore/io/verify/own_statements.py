"""What a store of bigrestore says of itself, compared with what is in it: levels, maps, provenance.

A run numbers the levels from 0, names its maps in the provenance, and notes the size of its input. So a level or map that
is not named, or another size, shows also where the plan of the run does not lie beside the store.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import zarr

from bigrestore.io.formats.ome_metadata import Multiscale
from bigrestore.io.formats.zarr import map_axes
from bigrestore.io.levels import Wanted
from bigrestore.io.store.store_spec import MAPS_GROUP
from bigrestore.io.verify.faults import DECODE_ERRORS, Fault
from bigrestore.settings.values import MAPS


def maps_stated(provenance: object) -> list[str]:
    """List the maps that the provenance of a run names."""
    stated = provenance.get(MAPS_GROUP) if isinstance(provenance, Mapping) else None
    return [name for name in MAPS if isinstance(stated, Mapping) and name in stated]


def own_faults(root: zarr.Group, provenance: object, multiscale: Multiscale) -> Iterator[Fault]:
    """Yield what a store of bigrestore says otherwise than it is.

    Parameters
    ----------
    root : zarr.Group
        Of the store.
    provenance : object
        Its attribute `bigrestore`.
    multiscale : Multiscale
        What its multiscales metadata say.
    """
    listed = [dataset.path for dataset in multiscale.datasets]
    levels = map(str, itertools.count())
    for name in itertools.takewhile(lambda name: name in listed or _holds(root, name), levels):
        if name not in listed:
            yield Fault(
                "level.unlisted", name, "a level that multiscales lists", f"levels {', '.join(listed)}"
            )
    named = maps_stated(provenance)
    for name in MAPS:
        place = f"{MAPS_GROUP}/{name}"
        if name not in named and _holds(root, place):
            yield Fault("map.unlisted", place, "a map that the provenance names", "one that it does not")
    if isinstance(provenance, Mapping) and listed[0] == "0":
        yield from _provenance_faults(root, provenance, multiscale)


def _holds(group: zarr.Group, place: str) -> bool:
    """Tell whether a group holds an array or a group of a name."""
    try:
        return place in group
    except DECODE_ERRORS:
        return False


def _provenance_faults(
    root: zarr.Group, provenance: Mapping[str, Any], multiscale: Multiscale
) -> Iterator[Fault]:
    """Yield a version of OME-Zarr, or a size of the input, that the image does not have."""
    plan, made_of, method, settings = (
        section if isinstance(section := provenance.get(name), Mapping) else {}
        for name in ("plan", "input", "method", "settings")
    )
    fmt = plan.get("format", multiscale.version)
    if fmt != multiscale.version:
        yield Fault("provenance.disagrees", "bigrestore plan.format", multiscale.version, str(fmt))
    scale, shape = method.get("scale"), made_of.get("shape")
    if not isinstance(scale, int) or not isinstance(shape, list) or settings.get("roi") is not None:
        return
    try:
        array = root["0"]
        assert isinstance(array, zarr.Array)
        actual = map_axes(multiscale.axes, array.shape, array.dtype, "level 0", Wanted()).zyx
        stated = (shape[0], shape[1] * scale, shape[2] * scale)
    except DECODE_ERRORS:  # a level that cannot be opened is a fault of its own
        return
    if actual != stated:
        place = "bigrestore input.shape and method.scale"
        yield Fault("provenance.disagrees", place, " x ".join(map(str, actual)), " x ".join(map(str, stated)))
