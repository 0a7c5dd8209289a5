"""The maps beside the image: the images of one store, and the meaning of each.

A map is an OME-Zarr image of its own, `maps/NAME` in the store, of the same grid, blocks, shards and pyramid as the
restored image, so writing, resuming, building and checking treat both alike. Its values are float32 in grey levels,
0..1 of the input's range, rounded to the 65536th part of it: finer noise does not compress.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np

from bigrestore.core.pixels import Floats
from bigrestore.errors import UsageError
from bigrestore.io.store.store_spec import MAPS_GROUP, StoreSpec
from bigrestore.model.method import GivesMaps, Method
from bigrestore.run.output.owned import Outline
from bigrestore.run.plan import Plan
from bigrestore.settings import RunSettings
from bigrestore.settings.values import AUTO_MAP, FILLED, REALNESS_FACTOR

SHOWS = {
    "residual": "|x - D(y)|: how far the restored image, degraded again, is from the input; nearest input pixel",
    "invented": "|y - y0|: how far the image is from the one at realness 0, that is what the prior brought in",
    "uncertainty": "scale of the Laplace distribution of the error that the network expects of itself",
    "realness": "what the prior's detail was multiplied with: realness, the trust of the place, and a map of realness",
    "unlikely": "z: by how many standard deviations the input around a pixel is less likely, given the restored image, than "
    "a trained likelihood expects; above 5 the input contradicts it",
    FILLED: "1 where damage was filled from neighbouring sections, without detail",
}
"""What each map shows, for the store's provenance."""

STEPS = 65536
"""Values are multiples of one part in so many."""


@attrs.frozen
class Image:
    """One of the images of a store.

    Attributes
    ----------
    name : str
        Of the map; empty for the restored image itself.
    path : Path
        Its group.
    spec : StoreSpec
        What it holds.
    """

    name: str
    path: Path
    spec: StoreSpec


def images(store: Path, plan: Plan) -> list[Image]:
    """Return the images of a run's store: its maps, then the restored image, finished last."""
    spec = attrs.evolve(plan.spec, dtype=np.dtype(np.float32), channels=1) if plan.maps else plan.spec
    maps = [Image(name, store / MAPS_GROUP / name, spec) for name in plan.maps]
    return [*maps, Image("", store, plan.spec)]


def outline_of(plan: Plan) -> Outline:
    """Return the outline of a run's store."""
    root = Path()
    paths = {image.path.as_posix() if image.name else "": image.spec for image in images(root, plan)}
    return Outline.of_specs(paths)


def require_maps(settings: RunSettings, method: Method) -> None:
    """Refuse maps, or a map of realness, beyond the method's abilities.

    Raises
    ------
    UsageError
        Naming them.
    """
    given = method.map_names if isinstance(method, GivesMaps) else ()
    model = method.describe().get("model")
    who = f"the model {model}" if model else f"the method {method.name}"
    if settings.realness_map is not None and "invented" not in given:
        raise UsageError(f"{who} has no prior, so --realness-map means nothing to it; leave it out.")
    if settings.realness_map == AUTO_MAP and settings.realness != 0 and "objective" not in method.describe():
        raise UsageError(
            f"{who} was made without a head of objectives, so --realness-map auto means nothing to it; leave it out."
        )
    missing = [name for name in settings.maps if name not in given and name != FILLED]
    if not missing:
        return
    if missing[0] in ("invented", REALNESS_FACTOR) and "residual" in given:
        raise UsageError(f"{who} has no prior, so it gives no map `{missing[0]}`; leave it out of --maps.")
    raise UsageError(f"{who} gives no map `{missing[0]}`; leave --maps out, or choose a network.")


def rounded(values: Floats) -> Floats:
    """Return the values of a map as they are stored."""
    return np.asarray(np.rint(values * np.float32(STEPS)) / np.float32(STEPS), np.float32)


def described(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the provenance of the maps, by name; empty without maps."""
    return {name: {"path": f"{MAPS_GROUP}/{name}", "shows": SHOWS[name]} for name in plan.maps}
