"""Restoring from Python: as `bigrestore run`, with a progress bar for notebooks.

Here the run and its report meet: the run takes any sinks, and the report is one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from bigrestore.model.method import Method
from bigrestore.model.registry import settings_for
from bigrestore.run.output.remote import execute_to
from bigrestore.run.prepared import Inputs
from bigrestore.run.sinks import Sink
from bigrestore.run.view.summary import RunSummary
from bigrestore.settings import RunKeywords, RunSettings


def restore(
    inputs: Inputs,
    output: str | Path,
    *,
    method: str | Method | None = None,
    sinks: Sequence[Sink] = (),
    **settings: Unpack[RunKeywords],
) -> RunSummary:
    """Restore a section or volume.

    Parameters
    ----------
    inputs : str, Path or list of them
        A file, a store, a folder or pattern of section files, or the files.
    output : str or Path
        An OME-Zarr store, or an OME-TIFF where it ends in .tif or .tiff; an s3 URL is copied to in the end.
    method : str or Method, optional
        A name, as `bigrestore models methods` lists them, with its options as `options={...}`; or an object of the
        protocol `bigrestore.model.method.Method`, without workers. None: the network.
    sinks : sequence of Sink
        Objects to follow the run besides the report; see `bigrestore.run.sinks.Sink`.
    **settings
        The flags of `bigrestore run` with underscores (see `bigrestore.settings.RunSettings`); `progress` is
        "tqdm" unless given.

    Returns
    -------
    RunSummary
        Blocks, seconds per phase, tile, redundancy, device, precision.

    Raises
    ------
    BlocksFailedError
        Where blocks failed; the rest is written.
    BigrestoreError
        Of the kind of what is wrong, each one sentence.

    Examples
    --------
    >>> import bigrestore
    >>> bigrestore.restore("section.ome.zarr", "restored.ome.zarr", scale=2)  # doctest: +SKIP
    """
    named = {"method": method} if isinstance(method, str) else {}
    resolved = RunSettings.from_mapping({"progress": "tqdm", **settings, **named}, "restore()")
    own = None if method is None or isinstance(method, str) else method
    if own is not None:
        resolved = settings_for(own, resolved, set(settings))
    summary = execute_to(inputs, output, resolved, method=own, sinks=[*report_sinks(resolved), *sinks])
    summary.raise_if_failed()
    return summary


def report_sinks(settings: RunSettings) -> list[Sink]:
    """Return the report as the only sink of a run; no sink under --no-report.

    Raises
    ------
    UsageError
        Where `--fail-if` cannot be read.
    """
    if not settings.report:
        return []
    from bigrestore.report.sink import ReportSink

    return [ReportSink(settings)]
