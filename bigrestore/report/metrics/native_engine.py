"""The engine without extra dependencies: NIQE, BRISQUE and PIQE from the papers, in float64.

The three share the images and the fields of a tile, so they are computed together. The same tile gives the same
bytes in whatever thread, order or company it is scored: there is no state, and no sum is divided among threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import UsageError
from bigrestore.report.metrics.columns import COLUMNS, NATIVE_METRICS, names_of
from bigrestore.report.metrics.judges.engine import JUDGES
from bigrestore.report.metrics.nss.fields import TileFields
from bigrestore.report.metrics.nss.niqe_model import NiqeModel, live_niqe_model, load_niqe_model
from bigrestore.report.metrics.nss.workspace import Workspace

REVISION = 1
"""Counted up when a change of the code changes scores; reports of different revisions are not compared."""


class _OfThread(threading.local):
    """One workspace for every scoring thread."""

    def __init__(self) -> None:
        self.workspace = Workspace()

    def __reduce__(self) -> tuple[type[_OfThread], tuple[()]]:
        """Send the engine to another process without its scratch space."""
        return (_OfThread, ())


@attrs.frozen(eq=False)
class NativeEngine:
    """NIQE, BRISQUE and PIQE, computed here.

    Attributes
    ----------
    metrics : tuple of str
        Those wanted, in the order of the columns.
    niqe_model : NiqeModel
        What NIQE compares with.
    """

    metrics: tuple[str, ...] = NATIVE_METRICS
    niqe_model: NiqeModel = attrs.field(factory=live_niqe_model)
    _of_thread: _OfThread = attrs.field(factory=_OfThread, init=False, repr=False)

    @classmethod
    def create(cls, metrics: Sequence[str], niqe_model: Path | None) -> NativeEngine:
        """Make one by the names of the metrics.

        Parameters
        ----------
        metrics : sequence of str
            Of `NATIVE_METRICS`.
        niqe_model : Path, optional
            File of a fitted model.

        Returns
        -------
        NativeEngine
            The engine.

        Raises
        ------
        UsageError
            If a metric is not one of its own.
        ModelError
            If the model cannot be read.
        """
        for metric in metrics:
            if metric not in NATIVE_METRICS:
                raise UsageError(
                    f"the native engine has no metric {metric!r}, only {', '.join((*NATIVE_METRICS, *JUDGES))}; for others "
                    "choose the engine pyiqa"
                )
        model = live_niqe_model() if niqe_model is None else load_niqe_model(niqe_model)
        return cls(tuple(metrics), model)

    @property
    def name(self) -> str:
        """The engine's name in reports."""
        return "native"

    def score(self, tile: NDArray[np.float32]) -> dict[str, float]:
        """Score one tile.

        Parameters
        ----------
        tile : ndarray of float32, (height, width)
            Grey values, 0..1 of the value range.

        Returns
        -------
        dict of str to float
            One value per metric; NaN where it cannot say: a tile that is too small, of one value, or not finite.
        """
        if tile.ndim != 2 or tile.size == 0 or not np.isfinite([tile.min(), tile.max()]).all():
            return dict.fromkeys(self.metrics, float("nan"))
        fields = TileFields(tile, self._of_thread.workspace)
        if fields.darkest == fields.brightest:
            return dict.fromkeys(self.metrics, float("nan"))
        values = {
            name: measure(fields, self.niqe_model)
            for name in names_of("score")
            if name in self.metrics and (measure := COLUMNS[name].measure)
        }
        return {metric: values[metric] for metric in self.metrics}

    def describe(self) -> dict[str, Any]:
        """Name, revision and hashes of the parameters of the metrics in use."""
        facts: dict[str, Any] = {"name": self.name, "revision": REVISION, "metrics": list(self.metrics)}
        facts["parameters"] = {
            name: parameters(self.niqe_model)
            for name in NATIVE_METRICS
            if name in self.metrics and (parameters := COLUMNS[name].parameters)
        }
        return facts
