"""The protocol of restoration methods, also for methods of other packages.

The engine knows nothing of networks. It cuts tiles by the scale, halo and alignment of a method, hands them over with
the statistics of their section, and keeps the core of each result. A method never estimates anything from a tile:
otherwise the result would depend on the tiling.

A method is one object with

- `name`, `scale`, `halo_px`, `alignment_px`, `exact`: its tiling,
- `describe()`: its identity in plans and provenance, JSON-able,
- `analyse(windows)`: the statistics of a section, once a section,
- `restore(batch, statistics)`: the work, called by several threads.

`StatesCost` and `GivesMaps` are optional. A `MethodFactory` makes a method by name; see `bigrestore.model.registry`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import UsageError
from bigrestore.model.options import MethodOption

PSI_SIZE = 24
"""Numbers in a degradation code (see `bigrestore.model.nets.code`)."""

RESIDUAL_STEP_PX = 4
"""Step of the lattice, in input pixels, on which `TileResult.residual` is sampled: a statistic needs no more."""

WINDOW_PX = 128
"""Side of the square windows, in input pixels, that `Method.analyse` takes."""


@attrs.frozen(eq=False)
class SectionStatistics:
    """The facts of one section, known before its first tile is restored.

    Attributes
    ----------
    kernel : ndarray, (k, k), float32
        Blur kernel on the output grid; non-negative, sums to one. Re-degrading is `nn.redegrade.redegrade`.
    psi : ndarray, (24,), float32
        Degradation code, an input of the network.
    noise_gain, read_noise : float
        The noise has standard deviation sqrt(noise_gain * x + read_noise**2) for x in 0..1.
    details : dict
        JSON-able facts for the log, the plan and the provenance (equivalent sigma, windows used, ...).
    """

    kernel: NDArray[np.float32]
    psi: NDArray[np.float32]
    noise_gain: float
    read_noise: float
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class TileBatch:
    """Tiles of one size, cut from one section.

    Attributes
    ----------
    pixels : ndarray, (n, h, w), float32
        Grey values, 0..1 of the storage range.
    valid : ndarray, (n, h, w), bool, or None
        False on damage, by the user's mask: never looked at; None: all valid.
    origins : ndarray, (n, 2), int64
        Absolute input (y, x) of each tile's first pixel; multiples of the alignment.
    z : int
        Index of the section in its volume.
    realness : ndarray, (n, h, w), float32, or None
        Factor on the method's realness at each pixel, 0..1; None: 1 everywhere.
    maps : tuple of str
        Names of the wanted maps, all of them given by the method (`GivesMaps`).
    """

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    origins: NDArray[np.int64]
    z: int
    realness: NDArray[np.float32] | None = None
    maps: tuple[str, ...] = ()


@attrs.frozen(eq=False)
class TileResult:
    """The restored tiles of a `TileBatch`.

    Attributes
    ----------
    pixels : ndarray, (n, h * scale, w * scale), float32
        Restored grey values, clipped to 0..1.
    residual : ndarray, (n, ceil(h / 4), ceil(w / 4)), float32, or None
        x - degrade(y) at every `RESIDUAL_STEP_PX`-th input pixel of both axes, if the method can tell.
    maps : dict of str to ndarray, (n, h * scale, w * scale), float32
        The maps asked for by the batch, in the units of `pixels`, none negative.
    """

    pixels: NDArray[np.float32]
    residual: NDArray[np.float32] | None = None
    maps: dict[str, NDArray[np.float32]] = attrs.field(factory=dict)


class Method(Protocol):
    """A restoration method, or any other map of tiles to tiles of one fixed scale."""

    @property
    def name(self) -> str:
        """Its name in the registry and on the command line."""
        ...

    @property
    def scale(self) -> int | Fraction:
        """Output pixels per input pixel: 1, 2 or 4; `Fraction(1, s)` for a degradation by s."""
        ...

    @property
    def halo_px(self) -> int:
        """Context on each side of a core, in input pixels, a multiple of `alignment_px`.

        It makes a tile equal to the whole section (`exact`) or is enough for cross-fading (not `exact`).
        """
        ...

    @property
    def alignment_px(self) -> int:
        """Tile origins and sizes are multiples of this, in absolute input pixels."""
        ...

    @property
    def exact(self) -> bool:
        """True if tiled equals whole; otherwise the engine cross-fades overlapping tiles."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the identity of the method, JSON-able: name, scale, model, sha256, options."""
        ...

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Return the statistics of a section from its sampled windows, (n, 128, 128), 0..1; n may be 0."""
        ...

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Restore tiles; thread-safe: several threads call it at once on one object."""
        ...


@runtime_checkable
class StatesCost(Protocol):
    """The optional costs of a method: the engine chooses the tile size by them, before it ran one."""

    @property
    def bytes_per_px(self) -> int:
        """Peak memory of one tile at work, in bytes per input pixel of the tile, halo included."""
        ...

    @property
    def px_per_second(self) -> float:
        """Input pixels per second of one tile at work on this device, roughly; stated, never timed."""
        ...


@runtime_checkable
class GivesMaps(Protocol):
    """The optional maps of a method: of its changes to the pixels."""

    @property
    def map_names(self) -> tuple[str, ...]:
        """The names of its maps, of `bigrestore.settings.values.MAPS`; only a method with a prior gives `invented`."""
        ...


@attrs.frozen
class MethodFactory:
    """How a method is made, its options and its limits: a row of the table of methods.

    Attributes
    ----------
    create : callable
        `create(settings, **options)`: takes the `RunSettings` and every option, returns the method.
    summary : str
        One sentence for `bigrestore models methods`.
    options : tuple of MethodOption
        Options of `--set`.
    scales : tuple of int
        Its scales, of 1, 2 and 4.
    flags : tuple of str
        Settings of `run` heeded by it, of `bigrestore.model.methods.table.METHOD_FLAGS`; others are refused.
    maps : tuple of str
        Maps given by it (`GivesMaps`).
    speed : str
        Input megapixels per second on one core of a CPU, for people who choose; empty: unknown.
    default_maps : tuple of str
        Maps written where the user names none, and the output has a place for them.
    most_mpx : float, optional
        Largest region of a run, output megapixels; the user has to name it then. None: no limit.
    """

    create: Callable[..., Method]
    summary: str
    options: tuple[MethodOption, ...] = ()
    scales: tuple[int, ...] = (1, 2, 4)
    flags: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    speed: str = ""
    default_maps: tuple[str, ...] = ()
    most_mpx: float | None = None

    @property
    def needs_network(self) -> bool:
        """Whether it loads a model."""
        return "model" in self.flags


METHOD_ATTRIBUTES = (
    *("name", "scale", "halo_px", "alignment_px", "exact"),
    *("describe", "analyse", "restore"),
)


def require_method(candidate: object, label: str) -> None:
    """Refuse an object without the protocol `Method`.

    Parameters
    ----------
    candidate : object
        Handed in by a user or another package.
    label : str
        Its subject in the sentence, such as "The method 'unsharp'".

    Raises
    ------
    UsageError
        An attribute is missing, the halo is no multiple of the alignment, or the facts are not JSON-able.
    """
    missing = [name for name in METHOD_ATTRIBUTES if not hasattr(candidate, name)]
    if missing:
        raise UsageError(
            f"{label} is of the type {type(candidate).__name__} and has no {', '.join(missing)}; give a method's name, or "
            "an object as bigrestore.model.method.Method describes it."
        )
    method: Any = candidate
    sizes = method.halo_px, method.alignment_px
    if (
        not all(isinstance(size, int) for size in sizes)
        or sizes[1] < 1
        or sizes[0] < 0
        or sizes[0] % sizes[1]
    ):
        raise UsageError(
            f"{label} has a halo of {sizes[0]} and an alignment of {sizes[1]} input pixels; the halo must be a multiple of "
            "the alignment, both whole numbers."
        )
    try:
        json.dumps(method.describe())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{label} describes itself by facts that JSON does not know ({error}); use numbers, texts and lists."
        ) from error
