"""NIQE's model and its file: mean and covariance of the block features of good images.

The one shipped is LIVE's, of photographs. One fitted to good histology answers the question that a histologist
asks. Its scores are on another scale than LIVE's, so the hash of the model goes into every report.

The file is a .npz of plain arrays and one JSON text. Nothing is unpickled; the hash over the numbers is checked on
loading.
"""

from __future__ import annotations

import functools
import json
import zipfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.files import whole_file
from bigrestore.core.regular import is_regular, open_regular
from bigrestore.errors import InputMissingError, ModelError
from bigrestore.report.metrics.nss.parameters import live_parameters, sha256_of

FEATURES = 36
FORMAT = "bigrestore-niqe/1"


@attrs.frozen(eq=False)
class NiqeModel:
    """Mean and covariance of the features of good blocks.

    Attributes
    ----------
    mean : ndarray of float64, (36,)
        18 features at full size, 18 at half size.
    covariance : ndarray of float64, (36, 36)
        Of the same.
    name : str
        What to call it in a report.
    facts : dict
        JSON-able, of the fit: `blocks`, `blocks_seen`, `images`, `sharp_share`.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    name: str
    facts: dict[str, Any] = attrs.field(factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of the numbers."""
        return sha256_of(self.mean, self.covariance)


@functools.cache
def live_niqe_model() -> NiqeModel:
    """Give LIVE's model, fitted to 125 photographs."""
    live = live_parameters()
    return NiqeModel(live["niqe_mean"], live["niqe_covariance"], "LIVE")


def save_niqe_model(path: Path, model: NiqeModel) -> None:
    """Write a model; the file appears under its name only when it is whole. The same model makes the same bytes.

    Parameters
    ----------
    path : Path
        File to write, `.npz`.
    model : NiqeModel
        The model.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    head = {"format": FORMAT, "name": model.name, "sha256": model.sha256, "facts": model.facts}
    with whole_file(path, follow=True) as partial, partial.open("wb") as stream:
        np.savez(
            stream,
            mean=model.mean,
            covariance=model.covariance,
            bigrestore=np.array(json.dumps(head, sort_keys=True)),
        )


def load_niqe_model(path: Path) -> NiqeModel:
    """Read a model written by `save_niqe_model`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    NiqeModel
        The model.

    Raises
    ------
    InputMissingError
        If there is no such file.
    ModelError
        If it is damaged or no such model.
    """
    if not is_regular(path):
        raise InputMissingError(
            f"there is no NIQE model {path}; `bigrestore score fit-niqe GOOD... -o MODEL.npz` makes one"
        )
    try:
        # The file is opened here: numpy forgets to close one that turns out not to be an archive.
        with (
            open_regular(path) as stream,
            zipfile.ZipFile(stream),
            np.load(stream, allow_pickle=False) as stored,
        ):
            arrays = {name: stored[name] for name in ("mean", "covariance", "bigrestore")}
        head = json.loads(str(arrays["bigrestore"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is not a NIQE model of bigrestore; `bigrestore score fit-niqe GOOD... -o MODEL.npz` makes one"
        ) from error
    return _checked(path, arrays["mean"], arrays["covariance"], head)


def _checked(path: Path, mean: NDArray[Any], covariance: NDArray[Any], head: Any) -> NiqeModel:
    stated = head.get("format") if isinstance(head, dict) else None
    if stated != FORMAT:
        raise ModelError(f"{path} has the format {stated!r}, but this version reads {FORMAT!r}")
    shapes_fit = mean.shape == (FEATURES,) and covariance.shape == (FEATURES, FEATURES)
    if not shapes_fit or mean.dtype != np.float64 or covariance.dtype != np.float64:
        raise ModelError(
            f"{path} holds a mean of shape {mean.shape} and a covariance of shape {covariance.shape}, but NIQE needs"
            f" ({FEATURES},) and ({FEATURES}, {FEATURES}) as float64"
        )
    model = NiqeModel(mean, covariance, str(head.get("name", path.stem)), dict(head.get("facts", {})))
    finite = np.isfinite(mean).all() and np.isfinite(covariance).all()
    if not finite or head.get("sha256") != model.sha256:
        raise ModelError(f"{path} is damaged: its numbers do not have the hash that it names; fit it again")
    return model
