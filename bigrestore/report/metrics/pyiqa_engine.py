"""The field's library, pyiqa, behind the interface of an engine.

It checks the native engine, and adds further metrics. It is an extra: its licence forbids commercial use, and it
brings gigabytes. Its NIQE and BRISQUE get the native engine's parameters as files, because it would fetch them
otherwise. Nothing is ever downloaded: missing weights are named with their expected place. A file of weights named by
the user (`musiq=weights.pth`) is unpickled by pyiqa, so it must come from a trusted source.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import inspect
import io
import logging
import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.host.installed import install_command
from bigrestore.core.regular import is_regular
from bigrestore.core.torchvision import import_torchvision
from bigrestore.errors import InputMissingError, ModelError, UsageError
from bigrestore.report.metrics.nss.niqe_model import NiqeModel, live_niqe_model, load_niqe_model
from bigrestore.report.metrics.nss.parameters import live_parameters, sha256_of
from bigrestore.report.metrics.offline import WouldDownloadError, no_downloads

_LIVE = ("brisque", "niqe")
_DOUBLE = (*_LIVE, "piqe")
"""Metrics that read one channel and are computed in float64, as in the native engine."""

_OF_SETS = ("fid", "sfid", "fid_dinov2", "inception_score")
_TRIAL_PX = 480

log = logging.getLogger(__name__)
_import_lock = threading.Lock()


@attrs.frozen(eq=False)
class PyiqaEngine:
    """Metrics of pyiqa, on the processor.

    Attributes
    ----------
    metrics : tuple of str
        In the order of the columns.
    models : mapping of str to callable
        pyiqa's metric for each of them.
    parameters : mapping of str to dict
        What each was given: name and hash.
    """

    metrics: tuple[str, ...]
    models: Mapping[str, Any]
    parameters: Mapping[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """The engine's name in reports."""
        return "pyiqa"

    def score(self, tile: NDArray[np.float32]) -> dict[str, float]:
        """Score one tile.

        Parameters
        ----------
        tile : ndarray of float32, (height, width)
            Grey values, 0..1 of the value range; NIQE, BRISQUE and PIQE get them as float64, others as three
            equal channels of float32.

        Returns
        -------
        dict of str to float
            One value per metric; NaN where it cannot say.
        """
        if tile.ndim != 2 or tile.size == 0 or not np.isfinite(tile).all() or tile.min() == tile.max():
            return dict.fromkeys(self.metrics, float("nan"))
        return {metric: self._one(metric, tile) for metric in self.metrics}

    def describe(self) -> dict[str, Any]:
        """Name, versions and hashes of the parameters of the metrics in use."""
        versions = {package: metadata.version(package) for package in ("pyiqa", "torch")}
        return {
            "name": self.name,
            "versions": versions,
            "metrics": list(self.metrics),
            "parameters": {metric: dict(facts) for metric, facts in self.parameters.items()},
        }

    def _one(self, metric: str, tile: NDArray[np.float32]) -> float:
        import torch

        try:
            return _evaluate(metric, self.models[metric], tile)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, IndexError, RuntimeError, ValueError, ZeroDivisionError) as error:
            # These are how pyiqa's metrics say that an image is too small or too flat for them.
            log.debug("pyiqa's %s says nothing of a tile of %s: %s", metric, tile.shape, error)
            return float("nan")


def create_pyiqa_engine(metrics: Sequence[str], niqe_model: Path | None = None) -> PyiqaEngine:
    """Make the adapter.

    Parameters
    ----------
    metrics : sequence of str
        Names from pyiqa's list, of those that need no reference; `NAME=FILE` names the file of the weights.
    niqe_model : Path, optional
        Model for the metric niqe, from `fit-niqe`.

    Returns
    -------
    PyiqaEngine
        The engine; every metric has scored a trial tile.

    Raises
    ------
    UsageError
        If pyiqa, or a package that a metric needs, is not installed, or a metric is unknown or not of this kind.
    ModelError
        If weights are missing or cannot be used.
    """
    configurations = _import_pyiqa()
    model = live_niqe_model() if niqe_model is None else load_niqe_model(niqe_model)
    models, parameters = {}, {}
    for item in metrics:
        metric, _, file = item.partition("=")
        _check_kind(metric, configurations)
        models[metric], parameters[metric] = _create(metric, Path(file) if file else None, model)
    return PyiqaEngine(tuple(models), models, parameters)


def pyiqa_lower_better(metric: str) -> bool:
    """Return pyiqa's direction of a metric.

    Parameters
    ----------
    metric : str
        Name from pyiqa's list.

    Returns
    -------
    bool
        Whether lower is better.

    Raises
    ------
    UsageError
        If pyiqa is not installed or does not know the metric.
    """
    configurations = _import_pyiqa()
    _check_known(metric, configurations)
    return bool(configurations[metric].get("lower_better", False))


def _import_pyiqa() -> Mapping[str, Mapping[str, Any]]:
    """Import pyiqa and return its list of metrics."""
    with _import_lock, contextlib.redirect_stdout(io.StringIO()):
        try:
            import_torchvision()
            with no_downloads():
                module = importlib.import_module("pyiqa.default_model_configs")
        except ModuleNotFoundError as error:
            missing = "pyiqa" if (error.name or "").split(".")[0] in ("pyiqa", "torchvision") else error.name
            raise UsageError(
                f"the engine pyiqa needs the package {missing}, which is not installed; install it with: "
                f"{install_command('iqa')} (its licence is for non-commercial use only)"
            ) from error
    logging.getLogger("pyiqa").setLevel(logging.WARNING)
    configurations: Mapping[str, Mapping[str, Any]] = module.DEFAULT_CONFIGS
    return configurations


def _check_known(metric: str, configurations: Mapping[str, Any]) -> None:
    if metric not in configurations:
        near = difflib.get_close_matches(metric, configurations, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "pyiqa.list_models() lists those it has"
        raise UsageError(f"pyiqa {metadata.version('pyiqa')} has no metric {metric!r}; {hint}")


def _check_kind(metric: str, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    _check_known(metric, configurations)
    if metric in _OF_SETS:
        raise UsageError(f"the metric {metric!r} rates a set of images and not a tile; choose another one")
    if configurations[metric].get("metric_mode") != "NR":
        raise UsageError(
            f"the metric {metric!r} compares with a reference, which tiles alone do not have; choose another one, or"
            " give --reference for PSNR, SSIM and MS-SSIM"
        )


def _create(metric: str, file: Path | None, niqe_model: NiqeModel) -> tuple[Any, dict[str, Any]]:
    """Make one of pyiqa's metrics and score a trial tile, to report missing files early."""
    with tempfile.TemporaryDirectory() as folder, no_downloads(), contextlib.redirect_stdout(io.StringIO()):
        options, facts = _options(metric, file, niqe_model, Path(folder))
        try:
            pyiqa = importlib.import_module("pyiqa")
            with _named_downloads():
                model = pyiqa.create_metric(metric, device="cpu", **options)
                _evaluate(metric, model, _trial_tile())
        except WouldDownloadError as error:
            raise ModelError(_missing_weights(metric, error)) from error
        except ModuleNotFoundError as error:
            raise UsageError(
                f"pyiqa's metric {metric!r} needs the package {error.name!r}, which is not installed; install pyiqa with"
                f" all it needs: {install_command('iqa')}"
            ) from error
        except Exception as error:  # a hundred networks of others fail in ways nobody can list
            given = f" with the weights {file}" if file else ""
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"pyiqa cannot use its metric {metric!r}{given}: {lines[0]}") from error
    return model, facts


def _options(
    metric: str, file: Path | None, niqe_model: NiqeModel, folder: Path
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the weights of a metric: (options for pyiqa, facts for reports)."""
    if file is not None:
        if not is_regular(file):
            raise InputMissingError(
                f"there are no weights {file} for the metric {metric!r}; give the path of a file"
            )
        if not _takes_file(metric):
            raise UsageError(
                f"pyiqa's metric {metric!r} takes no file of weights; name it without {f'={file}'!r}"
            )
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return {"pretrained_model_path": str(file)}, {"name": file.name, "sha256": digest}
    if metric == "niqe":
        facts = {"name": niqe_model.name, "sha256": niqe_model.sha256, **niqe_model.facts}
        return {"pretrained_model_path": str(_write_niqe(folder, niqe_model))}, facts
    if metric == "brisque":
        live = live_parameters()
        parts = [live[key] for key in sorted(live) if key.startswith("brisque_")]
        return {"pretrained_model_path": str(_write_brisque(folder))}, {
            "name": "LIVE",
            "sha256": sha256_of(*parts),
        }
    return {}, {"name": "pyiqa"}


def _takes_file(metric: str) -> bool:
    """Whether the network of a metric has the option for a file of weights."""
    archs = importlib.import_module("pyiqa.archs")
    registry = importlib.import_module("pyiqa.utils.registry").ARCH_REGISTRY
    kind = importlib.import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS[metric]["metric_opts"][
        "type"
    ]
    if kind not in registry:
        archs._lazy_import_arch(kind)
    return kind in registry and "pretrained_model_path" in inspect.signature(registry.get(kind)).parameters


def _write_niqe(folder: Path, model: NiqeModel) -> Path:
    from scipy.io import savemat

    path = folder / "niqe.mat"
    savemat(path, {"mu_prisparam": model.mean[np.newaxis], "cov_prisparam": model.covariance})
    return path


def _write_brisque(folder: Path) -> Path:
    import torch

    live = live_parameters()
    path = folder / "brisque.pt"
    weights, vectors = (
        torch.from_numpy(live[name].copy()) for name in ("brisque_weights", "brisque_vectors")
    )
    torch.save((weights, vectors), path)
    return path


@contextlib.contextmanager
def _named_downloads() -> Any:
    """Let pyiqa's own downloader name the missing file and its expected place."""
    from unittest import mock

    import torch

    # pyiqa imported the function by name, so the guard's replacement in torch.hub does not reach it.
    with mock.patch("pyiqa.utils.download_util.download_url_to_file", torch.hub.download_url_to_file):
        yield


def _missing_weights(metric: str, error: WouldDownloadError) -> str:
    # A file in another folder is part of the network, for which pyiqa has no option.
    own = error.target is None or error.target.parent.name == "pyiqa"
    named = f"or name the file: {metric}=FILE" if own and _takes_file(metric) else ""
    if error.target is None:
        way = named.removeprefix("or ") or "put what it needs into its cache on a machine with a network"
        return f"pyiqa's metric {metric!r} would download from {error.source}, which bigrestore never does; {way}"
    way = f"get it elsewhere and put it at {error.target}" + (f", {named}" if named else "")
    return f"pyiqa's metric {metric!r} needs {error.source}, and bigrestore downloads nothing; {way}"


def _trial_tile() -> NDArray[np.float32]:
    """Make a tile of smoothed noise, valid for every metric."""
    noise = np.random.default_rng(0).random((_TRIAL_PX // 4, _TRIAL_PX // 4), dtype=np.float32)
    smooth = np.kron(noise, np.ones((4, 4), dtype=np.float32))
    return (0.7 * smooth + 0.3 * np.random.default_rng(1).random(smooth.shape, dtype=np.float32)).astype(
        np.float32
    )


def _evaluate(metric: str, model: Any, tile: NDArray[np.float32]) -> float:
    import torch

    if metric in _DOUBLE:
        pixels = torch.from_numpy(tile.astype(np.float64))[None, None]
    else:
        pixels = torch.from_numpy(np.clip(tile, 0.0, 1.0).astype(np.float32))[None, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        value = float(torch.as_tensor(model(pixels)).reshape(-1)[0])
    return value if math.isfinite(value) else float("nan")
