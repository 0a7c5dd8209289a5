"""Scoring existing images: one image, a pair of before and after, or either beside a reference.

It is the road of a run with nothing written but the report: tiles of the same grid, the same rows, the same page.
Images are read strip by strip, so memory depends on the number of workers and not on the image.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, Unpack

import attrs
import numpy as np
import pyarrow as pa

from bigrestore.core.files import expand_home, require_path
from bigrestore.core.geometry import Box
from bigrestore.core.host.resources import available_cpus, give_threads_back, one_thread_per_tile
from bigrestore.core.urls import is_remote
from bigrestore.errors import CheckFailedError, InputError, UnreadableSectionError
from bigrestore.io.conventions.provenance import provenance_of
from bigrestore.io.section import Section
from bigrestore.report.checks import (
    ImagePaths,
    check_placement,
    check_reference,
    find_scale,
    open_images,
    refuse_degraded_reference,
    tile_side,
)
from bigrestore.report.folder import settle_folder
from bigrestore.report.images import Images, ImageToScore, open_maps, score_places, tissue_seen
from bigrestore.report.metrics.judges.engine import JudgeSettings
from bigrestore.report.metrics.same_tissue import require_same_tissue
from bigrestore.report.of_run import sampling_fact, versions
from bigrestore.report.pool import ScorePool
from bigrestore.report.rows import Columns, extend, score_rows, to_columns, to_table
from bigrestore.report.sink import known_values
from bigrestore.report.table.condition import Condition, condition_values
from bigrestore.report.table.grid import ScoreTile, TileGrid, draw_sample
from bigrestore.report.table.tiles import FAILED, EngineSpec, TileRow, engine_columns, missing_rows
from bigrestore.run.output.place import check_place, require_folder_name
from bigrestore.run.profile.section_profile import find_background, profile_section
from bigrestore.run.stop import listen
from bigrestore.run.view.progress import Progress, make_progress, phase_shown
from bigrestore.run.view.summary import ReportResult
from bigrestore.settings import RunSettings, ScoreKeywords, ScoreSettings

log = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class ScoreSummary:
    """What a scoring came to.

    Attributes
    ----------
    summary : dict
        As in `summary.json`: tiles and reasons, figures, changes, provenance.
    tiles : pyarrow.Table
        One row per tile.
    folder : Path or None
        Of the report; None without one.
    metrics : tuple of str
        Of the engine.
    check : str
        Why `fail_if` failed; "" if it passed or was not given.
    """

    summary: dict[str, Any]
    tiles: pa.Table
    folder: Path | None
    metrics: tuple[str, ...]
    check: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """Return the summary as names and values for people."""
        folder = "" if self.folder is None else str(self.folder)
        failures = self.summary["facts"].get("failures", [])
        return ReportResult(folder, score_rows(self.summary), failures).lines()

    def raise_if_failed(self) -> None:
        """Raise CheckFailedError if `fail_if` is true, or could not be checked."""
        if self.check:
            raise CheckFailedError(f"{self.summary['facts']['image']}: {self.check}.")


def score(
    image: ImagePaths,
    output: str | Path | None = None,
    *,
    before: ImagePaths | None = None,
    reference: ImagePaths | None = None,
    **settings: Unpack[ScoreKeywords],
) -> ScoreSummary:
    """Score an image, tile by tile.

    Parameters
    ----------
    image : str, Path or list of them
        A section or volume in any format that `open_section` reads.
    output : str or Path, optional
        Folder of the report; None: none is written.
    before : str, Path or list of them, optional
        What the image was made of, at its own scale or 2 or 4 times smaller; it is compared on the image's grid.
    reference : str, Path or list of them, optional
        A clean image on the image's grid, for PSNR, SSIM and MS-SSIM.
    **settings
        The flags of `bigrestore score` with underscores (see `bigrestore.settings.ScoreSettings`); `progress` is
        "tqdm" unless given.

    Returns
    -------
    ScoreSummary

    Raises
    ------
    CheckFailedError
        Where `fail_if` is true; the report is written.
    BigrestoreError
        Of the kind of what is wrong, each one sentence.

    Examples
    --------
    >>> import bigrestore
    >>> bigrestore.score("restored.ome.zarr", before="section.ome.zarr").summary["metrics"]  # doctest: +SKIP
    """
    resolved = ScoreSettings.from_mapping({"progress": "tqdm"} | settings, "score()")
    summary = execute_score(image, output, resolved, before=before, reference=reference)
    summary.raise_if_failed()
    return summary


def execute_score(
    image: ImagePaths,
    output: str | Path | None,
    settings: ScoreSettings,
    *,
    before: ImagePaths | None = None,
    reference: ImagePaths | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score an image by settings; see `score`, which also raises for a true condition."""
    image, output, before, reference = map(expand_home, (image, output, before, reference))
    if output is not None:
        require_path(output, "The output")
        require_folder_name(Path(output), "-o", "the files of a report")
    shown = progress or make_progress(settings.progress, settings.log_format)
    condition = None if settings.fail_if is None else Condition.parse(settings.fail_if)
    with listen("The scoring", "no report was written, start it again"):
        with phase_shown(shown, "start-up"):
            images = _comparable_images(image, before, reference, settings)
            folder = (
                None if output is None else _settled_folder(Path(output), image, before, reference, settings)
            )
        judging = JudgeSettings(
            images.scale,
            before is not None,
            reference is not None,
            settings.likelihood_model,
            settings.ranking_model,
            settings.lpips_backbone,
        )
        spec = EngineSpec(settings.engine, settings.metrics, settings.niqe_model, judging)
        pool = ScorePool(spec, settings.threads or available_cpus())
        threads_before = one_thread_per_tile()
        try:
            work = _Scoring(images, settings, condition, pool, shown)
            return work.run(folder)
        finally:
            pool.close()
            give_threads_back(threads_before)


def _comparable_images(
    image: ImagePaths, before: ImagePaths | None, reference: ImagePaths | None, settings: ScoreSettings
) -> Images:
    """Open the images and refuse incomparable ones."""
    main, former, truth = open_images(image, before, reference, settings)
    scale = 1
    if former is not None:
        scale = find_scale(main, former)
        if not settings.any_placement:
            check_placement(main, former, scale)
    if truth is not None:
        check_reference(main, truth)
        if not settings.any_placement:
            check_placement(main, truth, 1)
    side = tile_side(main, settings)
    if truth is not None:
        refuse_degraded_reference(main, former, truth)
    if not settings.force:
        for other, by, flag in ((former, scale, "--before"), (truth, 1, "--reference")):
            if other is not None:
                require_same_tissue(main, other, by, flag)
    sources = [None if section is None else ImageToScore(section) for section in (former, truth)]
    maps = open_maps(Path(main.source), main)
    law = (
        _noise_law(former, scale) if former is not None and "likelihood" in (settings.metrics or ()) else None
    )
    return Images(ImageToScore(main), sources[0], sources[1], scale, side, maps, law)


def _noise_law(section: Section, scale: int) -> Callable[[int], tuple[float, float]]:
    """Return what reads the noise of a section, as a run by the shipped network does."""
    from bigrestore.model.registry import create_method

    method = create_method(RunSettings(scale=scale, realness=0, device="cpu"))

    @cache
    def read(z: int) -> tuple[float, float]:
        return profile_section(section, z, method).noise_law

    return read


def _opens(section: Section, folder: Path) -> dict[str, Any] | None:
    """Return what a viewer opens: the image, from the folder of the report; None for several files."""
    if is_remote(section.source):
        path = section.source
    elif Path(section.source).exists():
        path = os.path.relpath(Path(section.source).resolve(), folder.resolve())
    else:
        return None
    return {
        "path": path,
        "ome_zarr": section.kind == "ome-zarr" and not path.lower().endswith((".zip", ".ozx")),
    }


def _settled_folder(
    folder: Path,
    image: ImagePaths,
    before: ImagePaths | None,
    reference: ImagePaths | None,
    settings: ScoreSettings,
) -> Path:
    """Refuse a folder inside an input or a store, an unwritable one, and one with files not to be replaced."""
    check_place(folder, [])
    for given in (image, before, reference):
        if given is not None:
            paths = given if isinstance(given, list) else [given]
            there = [Path(path) for path in paths if Path(path).exists()]
            for path in (path for path in there if path.is_dir()):
                check_place(folder, [path])
    settle_folder(folder, overwrite=settings.overwrite)
    return folder


class _Scoring:
    """One scoring: its images, its workers, and its results."""

    def __init__(
        self,
        images: Images,
        settings: ScoreSettings,
        condition: Condition | None,
        pool: ScorePool,
        progress: Progress,
    ) -> None:
        self._images, self._settings, self._pool, self._progress = images, settings, pool, progress
        self._pair, self._truth = images.before is not None, images.reference is not None
        self._names = engine_columns(pool.engine, pair=self._pair, reference=self._truth)
        self._known: dict[int, tuple[float | None, float]] = {}
        self._unread: dict[int, InputError] = {}
        self._condition = condition
        if condition is not None:
            condition.require(known_values(self._names))

    def run(self, folder: Path | None) -> ScoreSummary:
        """Score, summarise and write."""
        section = self._images.image.section
        box = Box(0, section.height, 0, section.width)
        grid = TileGrid(0, section.depth, box, self._images.tile_px)
        columns = self._scored(self._images, grid, self._names)
        self._require_valid(columns)
        facts = self._facts(grid)
        if self._images.scale > 1:
            facts["before_native"] = self._native()
        with phase_shown(self._progress, "report"):
            summary, table = self._reported(columns, facts, folder)
        check = ""
        if self._condition is not None:
            check = self._condition.failure(condition_values(summary)) or ""
        return ScoreSummary(summary, table, folder, self._pool.engine.metrics, check)

    def _reported(
        self, columns: Columns, facts: dict[str, Any], folder: Path | None
    ) -> tuple[dict[str, Any], pa.Table]:
        """Return summary and table, and write the report if wanted."""
        from bigrestore.report.table.content import Report
        from bigrestore.report.table.statistics import summarise
        from bigrestore.report.table.write import write_report

        table = to_table(columns)
        if folder is None:
            summary = summarise(table, lower_better=facts["lower_better"])
            return summary | {"facts": facts}, table
        facts["opens"] = _opens(self._images.image.section, folder)
        report = Report(table, facts, self._images.picture, self._images.overview)
        return write_report(report, folder, csv=self._settings.csv), table

    def _scored(self, images: Images, grid: TileGrid, names: list[str], phase: str = "scores") -> Columns:
        """Return the rows of all tiles of a grid, or of the sample."""
        columns: Columns = {name: [] for name in names}
        places = self._places(images, grid)
        done = 0

        def taken(group: list[ScoreTile], future: Future[list[TileRow]]) -> None:
            nonlocal done
            extend(columns, to_columns(self._rows_of(future, group, names), names))
            done += len(group)
            self._progress.advance(done, sum(place.box.pixels for place in group))

        with phase_shown(self._progress, phase):
            self._progress.start(phase, len(places))
            score_places(images, places, self._background, self._pool, taken)
        return columns

    def _rows_of(
        self, future: Future[list[TileRow]], places: list[ScoreTile], names: list[str]
    ) -> list[TileRow]:
        """Return the rows of a strip; rows of failed tiles where it cannot be read, with one warning for a section."""
        error = future.exception()
        if not isinstance(error, InputError):
            return future.result()
        if places[0].z not in self._unread:
            log.warning("Tiles of section %d cannot be scored: %s", places[0].z, error)
            self._unread[places[0].z] = error
        return missing_rows(places, names)

    def _places(self, images: Images, grid: TileGrid) -> list[ScoreTile]:
        """Return the tiles: all of them, or a sample stratified over sections and tissue."""
        settings = self._settings
        places = [place for z in range(grid.z0, grid.z1) for place in grid.places(z)]
        if settings.sample is None:
            return places
        whole = [place for place in places if grid.whole(place)]
        source = images.before or images.image
        shares = [
            tissue_seen(source, [p for p in whole if p.z == z], self._background_or_none(z), images.scale, z)
            for z in range(grid.z0, grid.z1)
        ]
        drawn = draw_sample(whole, np.concatenate(shares), settings.sample, settings.seed)
        log.info("%d of %d tiles are scored, a sample stratified over tissue.", len(drawn), len(places))
        return drawn

    def _native(self) -> dict[str, Any]:
        """Return the summary of the input's scores on its own grid."""
        from bigrestore.report.table.statistics import summarise

        source = self._images.before
        assert source is not None
        box = Box(0, source.section.height, 0, source.section.width)
        grid = TileGrid(0, source.section.depth, box, self._images.tile_px)
        images = Images(source, tile_px=self._images.tile_px)
        names = engine_columns(self._pool.engine, pair=False, reference=False)
        return summarise(to_table(self._scored(images, grid, names, "input")), resamples=1)

    def _require_valid(self, columns: Columns) -> None:
        """Refuse to report on nothing."""
        reasons = columns["reason"]
        if "" in reasons:
            return
        if set(reasons) == {FAILED}:
            raise next(iter(self._unread.values()))
        counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "no tile at all"
        source = self._images.image.section.source
        raise InputError(
            f"No tile of {source} can be scored ({listed}); give an image with tissue that fills whole tiles, a smaller "
            "--tile-size, or the right --input-range."
        )

    def _facts(self, grid: TileGrid) -> dict[str, Any]:
        """Return the provenance; no time and no host."""
        from bigrestore.report.metrics.engine import lower_better

        images, settings, engine = self._images, self._settings, self._pool.engine
        section, made = images.image.section, provenance_of(images.image.section.details)
        method = made.get("method") or {}
        facts: dict[str, Any] = {
            "image": section.source,
            "before": images.before and images.before.section.source,
            "reference": images.reference and images.reference.section.source,
            "engine": engine.describe(),
            "tile_px": images.tile_px,
            "value_range": list(section.value_range),
            "dtype": section.dtype.name,
            "scale": images.scale,
            "voxel_size_um": list(section.voxel_size_um),
            "sampling": sampling_fact(settings.sample, grid.count, settings.seed),
            "method": method or None,
            "model": method.get("model"),
            "versions": versions(),
            "lower_better": {name: lower_better(name) for name in engine.metrics},
            "sections": [0, section.depth],
            "thumbnail_z": section.depth // 2,
        }
        if self._unread:
            facts["failures"] = [f"section {z}: {error}".rstrip(".") for z, error in self._unread.items()]
        for name, source in (("before", images.before), ("reference", images.reference)):
            if source is not None and source.section.value_range != section.value_range:
                facts[f"value_range_{name}"] = list(source.section.value_range)
        return facts

    def _background(self, z: int) -> tuple[float | None, float]:
        """Return level and noise of the background of a section, from the input if given."""
        if z not in self._known:
            source = self._images.before or self._images.image
            self._known = {z: find_background(source.section, z)}  # sections come one after the other
        return self._known[z]

    def _background_or_none(self, z: int) -> tuple[float | None, float]:
        """Return the background of a section, none where nothing of the section can be read."""
        try:
            return self._background(z)
        except UnreadableSectionError:
            return None, 0.0
