"""Restoring from Python: as `bigrestore run`, with a progress bar for notebooks.

Here the run and its report meet: the run takes any sinks, and the report is one of them. Paths are restored into an
output and give a summary, an array gives an array.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from bigrestore.arrays import is_array, restore_array
from bigrestore.errors import UsageError
from bigrestore.model.method import Method
from bigrestore.model.registry import settings_for
from bigrestore.results import AnyArray, Observer, Restored, RestoreSummary
from bigrestore.run.output.remote import execute_to
from bigrestore.run.prepared import Inputs
from bigrestore.run.sinks import Sink
from bigrestore.settings import ArrayKeywords, RunKeywords, RunSettings
from bigrestore.settings.values import NamesInput, VoxelSizeInput

FOR_FILES = RunKeywords.__optional_keys__ - ArrayKeywords.__optional_keys__ - {"maps"}
"""Settings of `run` without a meaning for an array."""


@overload
def restore(
    inputs: Inputs,
    output: str | Path,
    *,
    method: str | Method | None = None,
    sinks: Sequence[Sink] = (),
    voxel_size_um: VoxelSizeInput | None = None,
    **settings: Unpack[RunKeywords],
) -> RestoreSummary: ...


@overload
def restore(
    inputs: AnyArray,
    *,
    method: str | Method | None = None,
    sinks: Sequence[Sink] = (),
    voxel_size_um: VoxelSizeInput | None = None,
    details: Literal[False] = False,
    **settings: Unpack[ArrayKeywords],
) -> AnyArray: ...


@overload
def restore(
    inputs: AnyArray,
    *,
    method: str | Method | None = None,
    sinks: Sequence[Sink] = (),
    voxel_size_um: VoxelSizeInput | None = None,
    details: Literal[True],
    maps: NamesInput = (),
    **settings: Unpack[ArrayKeywords],
) -> Restored[AnyArray]: ...


@overload
def restore(
    inputs: AnyArray,
    *,
    method: str | Method | None = None,
    sinks: Sequence[Sink] = (),
    voxel_size_um: VoxelSizeInput | None = None,
    details: bool = False,
    maps: NamesInput,
    **settings: Unpack[ArrayKeywords],
) -> Restored[AnyArray]: ...


def restore(
    inputs: Any,
    output: str | Path | None = None,
    *,
    method: str | Method | None = None,
    sinks: Sequence[Sink] = (),
    voxel_size_um: VoxelSizeInput | None = None,
    details: bool = False,
    **settings: Any,
) -> Any:
    """Restore a section or volume: from file to file, or an array.

    Parameters
    ----------
    inputs : str, Path or list of them; or numpy.ndarray, dask.array.Array or xarray.DataArray
        A file, a store, a folder or pattern of section files, or the files. Or an array of (y, x), (z, y, x) or
        (y, x, 3), uint8, uint16 or float; every float is restored as float32.
    output : str or Path
        For files: an OME-Zarr store, or an OME-TIFF where it ends in .tif or .tiff; an s3 URL is copied to in the end.
    method : str or Method, optional
        A name, as `bigrestore models methods` lists them, with its options as `options={...}`; or an object of the
        protocol `bigrestore.model.method.Method`, without workers. None: the network.
    sinks : sequence of Sink
        Objects to follow the run besides the report; see `bigrestore.run.sinks.Sink`.
    voxel_size_um : float, (y, x) or (z, y, x), optional
        Micrometres; the same as `voxel_size`.
    details : bool
        For an array: return it in a result with scores and what was read, as `maps` does.
    **settings
        The flags of `bigrestore run` with underscores (see `bigrestore.settings.RunSettings`); `progress` is
        "tqdm" unless given. For an array those of `bigrestore.settings.ArrayKeywords`, and `maps`.

    Returns
    -------
    RestoreSummary
        For files: blocks, seconds per phase, tile, redundancy, device, scores. A notebook shows it before and after.
    array
        For an array: one of its kind, axes and dtype, x `scale`; of xarray with dims, attrs and name, and the coordinates
        of the output's pixels.
    Restored
        For an array with `details` or `maps`: `image`, `maps`, and `summary`.

    Raises
    ------
    BlocksFailedError
        Where blocks failed; the rest of a file is written.
    BigrestoreError
        Of the kind of what is wrong, each one sentence.

    Notes
    -----
    An array goes through a temporary store in the folder that `TMPDIR` names, with the pixels of the same run on a file;
    it takes the bytes of the input and about 1.4 times those of the output there. A dask array is restored at once as well,
    block by block, and what is returned reads lazily from that store; the store is removed with the last array that
    reads from it, or when Python ends. All other temporary files are removed before `restore` returns or raises.

    Examples
    --------
    >>> import bigrestore
    >>> bigrestore.restore("section.ome.zarr", "restored.ome.zarr", scale=2)  # doctest: +SKIP
    >>> image = bigrestore.restore(section)  # doctest: +SKIP
    >>> bigrestore.restore(section, maps="uncertainty").maps["uncertainty"]  # doctest: +SKIP
    """
    of_array = is_array(inputs)
    _check_call(inputs, output, of_array, details, settings)
    _check_sinks(sinks)
    details = details or (of_array and "maps" in settings)
    if voxel_size_um is not None:
        if settings.get("voxel_size") is not None:
            raise UsageError("voxel_size and voxel_size_um are the same; give one of them.")
        settings["voxel_size"] = voxel_size_um
    named = {"method": method} if isinstance(method, str) else {}
    defaults = {"progress": "tqdm"} | ({"report": details} if of_array else {})
    resolved = RunSettings.from_mapping(defaults | settings | named, "restore()")
    own = None if method is None or isinstance(method, str) else method
    if own is not None:
        resolved = settings_for(own, resolved, set(settings))
    followers = [*report_sinks(resolved), *sinks]
    if of_array:
        restored = restore_array(inputs, resolved, method=own, sinks=followers)
        return restored if details else restored.image
    assert output is not None
    seen = Observer()
    summary = execute_to(inputs, output, resolved, method=own, sinks=[*followers, seen])
    summary.raise_if_failed()
    return RestoreSummary.of(summary, seen)


def _check_call(
    inputs: object, output: object, of_array: bool, details: bool, settings: Mapping[str, Any]
) -> None:
    """Refuse arguments that do not go with files, or with an array.

    Raises
    ------
    UsageError
        Naming the argument.
    """
    if not of_array:
        if isinstance(inputs, list | tuple) and any(map(is_array, inputs)):
            raise UsageError(
                f"The input is {len(inputs)} arrays; restore one after the other, or all as a volume by numpy.stack."
            )
        if isinstance(inputs, list | tuple) and any(
            isinstance(item, list | tuple | int | float) for item in inputs
        ):
            raise UsageError(
                "The input is a list of numbers; make it an array by numpy.asarray, or give paths of files."
            )
        if not isinstance(inputs, str | os.PathLike | Sequence):
            raise UsageError(
                f"The input is of the type {type(inputs).__name__}; give a path, or an array of NumPy, dask or xarray."
            )
        if output is None:
            raise UsageError("Files are restored into an output; name one, such as 'restored.ome.zarr'.")
        if details:
            raise UsageError("details is for an array; leave it out, the summary of files has the scores.")
        return
    if output is not None:
        raise UsageError(
            f"The output is {output!r}, but an array is returned as an array; leave it out, or give the path of a file."
        )
    for name in sorted(FOR_FILES & settings.keys()):
        raise UsageError(f"{name} is for files, and the input is an array; leave it out.")
    if settings.get("report") and not details and "maps" not in settings:
        raise UsageError("The report is returned beside the image; give details=True instead of report=True.")


def _check_sinks(sinks: object) -> None:
    """Refuse what is no list of sinks, such as a class of them.

    Raises
    ------
    UsageError
        Naming the type.
    """
    if not isinstance(sinks, list | tuple):
        raise UsageError(f"sinks is of the type {type(sinks).__name__}; give a list of sinks.")
    for sink in sinks:
        if not isinstance(sink, Sink):
            name = (
                f"the class {sink.__name__}"
                if isinstance(sink, type)
                else f"of the type {type(sink).__name__}"
            )
            raise UsageError(f"A sink is {name}; give an object of a subclass of bigrestore.run.sinks.Sink.")


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
