"""Calls of the Python interface for the type checker: right keywords are taken, wrong ones refused.

`make types` reads this file and nobody runs it. Under mypy --strict an `ignore` that ignores nothing is an error, so
every line that has one must be refused, for the reason stated.
"""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import bigrestore
from bigrestore.degradation.schema import Recipe
from bigrestore.results import Restored, RestoreSummary

grey: NDArray[np.uint8] = np.zeros((64, 64), np.uint8)
assert_type(bigrestore.restore("a", "b"), RestoreSummary)
assert_type(bigrestore.restore(grey, scale=2, voxel_size_um=1.5), NDArray[np.uint8])
assert_type(bigrestore.restore(grey, details=True, maps="residual"), Restored[NDArray[np.uint8]])
assert_type(bigrestore.restore(grey, maps=["residual"]).maps["residual"], NDArray[np.uint8])
assert_type(bigrestore.restore(grey, details=True).scores["niqe"].change, float)

bigrestore.restore("a", "b", scale=2)
bigrestore.restore(
    "a", "b", roi="0:5,0:5", blur=0.5, maps=["residual"], input_range="full", voxel_size=(1, 2)
)
bigrestore.degrade("a", "b", count=2, recipe=Recipe.load("optics"), patch_px=32, on_pair=print)
bigrestore.score("a", before="b", metrics="niqe", tile_size=96)

bigrestore.restore("a", "b", scael=2)  # type: ignore[call-overload]
bigrestore.restore("a", "b", scale="two")  # type: ignore[call-overload]
bigrestore.restore("a", "b", roi=5)  # type: ignore[call-overload]
bigrestore.degrade("a", "b", cuont=2)  # type: ignore[call-arg]
bigrestore.score("a", metric="niqe")  # type: ignore[call-arg]
bigrestore.restore("a")  # type: ignore[call-overload]
bigrestore.restore(grey, resume=True)  # type: ignore[call-overload]
bigrestore.restore(grey, scael=2)  # type: ignore[call-overload]
bigrestore.restore(grey, "b")  # type: ignore[call-overload]
print(bigrestore.restore(grey).image)  # type: ignore[attr-defined]
print(bigrestore.restore(grey, details=True).picture)  # type: ignore[attr-defined]
