"""Synthetic pairs from a clean section: patches by count, or the whole section through the engine.

Both draw from the same recipe and apply the same steps. Patch number i has a seed of its own, made from the command's
seed and i, independent of the number of patches. Nothing in the folder depends on the time, the machine or the number
of threads: the same command writes the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from bigrestore._version import __version__
from bigrestore.core.files import expand_home, require_path
from bigrestore.core.pixels import to_grey
from bigrestore.degradation.degradation import Degradation, Stain
from bigrestore.degradation.folder import PATCH_FOLDERS, STORE_NAME, PairsFolder
from bigrestore.degradation.given import Given
from bigrestore.degradation.learned.learned_recipe import LearnedRecipe
from bigrestore.degradation.pairs import Pair, write_pairs
from bigrestore.degradation.recipe import AnyRecipe, draw_degradations, load_recipe
from bigrestore.degradation.scanner import degrade_batch, margin_px
from bigrestore.degradation.schema import Recipe
from bigrestore.degradation.section import SectionDegrader
from bigrestore.errors import DiskFullError, OutputError, UsageError, output_error
from bigrestore.settings import DegradeKeywords, DegradeSettings, RunSettings
from bigrestore.settings.checks import RECIPE, refuse

if TYPE_CHECKING:
    from bigrestore.io.section import Section
    from bigrestore.run.view.progress import Progress

logger = logging.getLogger(__name__)

MIN_CONTRAST = 0.02
"""Standard deviation, 0..1; a window below it counts as empty glass."""

TRIES = 20
"""Windows looked at for one patch before an empty one is accepted."""

WHOLE_TILE_PX = {1: 960, 2: 960, 4: 480}
"""Side of a tile of a whole section in degraded pixels, by scale."""

Input = str | Path | Sequence[str | Path]


def degrade(
    input: Input,
    outdir: str | Path,
    *,
    on_pair: Callable[[int, int], None] | None = None,
    shown: Progress | None = None,
    **settings: Unpack[DegradeKeywords],
) -> Path:
    """Make synthetic pairs of degraded and clean images.

    Parameters
    ----------
    input : path, glob or sequence of paths
        A clean section or volume, in any format of `open_section`; RGB counts by its luma.
    outdir : path
        Folder to be made: `lq/` and `hq/` with one PNG per patch, or `lq.ome.zarr` for a whole section,
        and `pairs.parquet`.
    on_pair : callable, optional
        Called with (patches done, patches in all) after each patch.
    shown : Progress, optional
        Of a whole section, in place of the one named by `progress`.
    **settings
        The flags of `bigrestore degrade` with underscores (see `bigrestore.settings.DegradeSettings`), and `patch_px`
        for `--patch-size`; exactly one of `count` and `whole`. `progress` is "tqdm" unless given.

    Returns
    -------
    Path
        The table `pairs.parquet`; it is written last.

    Raises
    ------
    UsageError
        If arguments do not go together, or the section is smaller than a patch.
    InputError
        If the input or the recipe cannot be read.
    OutputExistsError
        If `outdir` holds something and `overwrite` is not given, or was begun under other settings.
    OutputError
        If `outdir` cannot be written, or `overwrite` would replace files of others.
    """
    from bigrestore.io.conventions.range_check import check_range_used
    from bigrestore.io.open_section import open_section
    from bigrestore.run.output.place import check_place, require_folder_name, source_paths

    resolved = DegradeSettings.from_mapping({"progress": "tqdm", **settings}, "degrade()")
    given = Given(blur=resolved.blur, noise=resolved.noise)
    given.kernel(resolved.scale)  # refused here, before anything is opened
    asked = resolved.recipe
    recipe = load_recipe(asked, resolved.scale) if isinstance(asked, str) else asked
    if not isinstance(recipe, Recipe | LearnedRecipe):
        refuse(attrs.fields(DegradeSettings).recipe, recipe, f"it takes {RECIPE}")
    require_path(outdir, "The output")
    require_folder_name(Path(expand_home(outdir)), "OUTDIR", "pairs")
    section = open_section(
        input, level=resolved.level, series=resolved.series, input_range=resolved.input_range
    )
    check_range_used(section, resolved.input_range, profiled=resolved.whole)
    if not resolved.whole:
        _check_size(section, resolved.scale, resolved.patch_px)
    input, folder = expand_home(input), Path(expand_home(outdir))
    check_place(folder, source_paths(input, section))
    request = _request(section, recipe, given, resolved)
    place = PairsFolder(folder, request)
    if place.settle(overwrite=resolved.overwrite, resume=resolved.resume):
        logger.info("%s is finished already", folder)
        return place.table
    if resolved.count is None:
        pairs = _degrade_whole(input, section, folder, recipe, given, resolved, shown)
    else:
        pairs = _patches(section, folder, recipe, given, resolved, resolved.count, on_pair)
    try:
        write_pairs(folder, pairs, request)
    except OSError as error:
        raise _output_refusal(place.table, error, whole=resolved.whole) from error
    place.finish()
    logger.debug("%d pair(s) at x%d in %s", len(pairs), resolved.scale, folder)
    return place.table


def _request(section: Section, recipe: AnyRecipe, given: Given, settings: DegradeSettings) -> dict[str, Any]:
    """Return all that makes the pairs: recipe and settings, the input's pixels and this program."""
    seen = section.fingerprint()
    sampled = hashlib.blake2b("".join(seen["windows_blake2b"]).encode(), digest_size=16).hexdigest()
    counted = {} if settings.whole else {"count": settings.count, "patch_px": settings.patch_px}
    return {
        "version": __version__,
        "recipe": recipe.to_dict(),
        "seed": settings.seed,
        "scale": settings.scale,
        "whole": settings.whole,
        **given.facts(),
        **counted,
        "level": section.level,
        "value_range": [float(value) for value in section.value_range],
        "input": {"shape": seen["shape"], "dtype": seen["dtype"], "pixels": sampled},
    }


def _check_size(section: Section, scale: int, patch_px: int) -> None:
    side = scale * patch_px + 2 * margin_px(scale)
    if min(section.height, section.width) < side:
        raise UsageError(
            f"{section.source} has {section.height} x {section.width} px, but a patch of {patch_px} px at "
            f"x{scale} needs {side} px with its margin; give a smaller --patch-size or a larger section."
        )


def _patches(
    section: Section,
    folder: Path,
    recipe: AnyRecipe,
    given: Given,
    settings: DegradeSettings,
    count: int,
    on_pair: Callable[[int, int], None] | None,
) -> list[Pair]:
    """Degrade patches one by one; each is reproducible alone."""
    scale = settings.scale
    if section.channels == 3:
        logger.info("%s is in colour: its luma is degraded", section.source)
    try:
        for name in PATCH_FOLDERS:
            (folder / name).mkdir()
    except OSError as error:
        raise _output_refusal(folder / name, error, whole=False) from error
    digits = max(6, len(str(count - 1)))
    pairs, empty = [], 0
    for index in range(count):
        rng = np.random.default_rng([settings.seed, index])
        (drawn,) = draw_degradations(recipe, scale, 1, rng)
        degradation = given.replace(drawn)
        margin, side = margin_px(scale), scale * settings.patch_px
        z, y, x, clean = _clean_window(section, side, margin, rng)
        empty += _is_empty(clean, margin)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        batch = torch.from_numpy(clean)[None, None]
        degraded, _, target = degrade_batch(batch, [degradation], scale, generator)
        name = f"{index:0{digits}d}.png"
        _save(folder / "lq" / name, degraded[0, 0].numpy(), section.dtype)
        _save(folder / "hq" / name, target[0, 0].numpy(), section.dtype)
        pairs.append(
            Pair(
                f"lq/{name}", f"hq/{name}", z, y + margin, x + margin, side, side, settings.seed, degradation
            )
        )
        if on_pair is not None:
            on_pair(index + 1, count)
    if empty:
        logger.warning(
            "%d of %d patches show nothing but flat grey: none of %d windows that were looked at for each had tissue; "
            "give a section with more of it, or --input-range if its grey values are dark.",
            empty,
            count,
            TRIES,
        )
    return pairs


def _clean_window(
    section: Section, side: int, margin: int, rng: np.random.Generator
) -> tuple[int, int, int, NDArray[np.float32]]:
    """Read a window and the margin around it, with tissue in the window, if one of `TRIES` has; grey values 0..1."""
    whole = side + 2 * margin
    for _ in range(TRIES):
        z = int(rng.integers(section.depth))
        y, x = (int(rng.integers(extent - whole + 1)) for extent in (section.height, section.width))
        pixels = section.read(z, y, y + whole, x, x + whole)
        clean = np.clip(to_grey(pixels, section.value_range), 0.0, 1.0)
        if not _is_empty(clean, margin):
            break
    return z, y, x, clean


def _is_empty(clean: NDArray[np.float32], margin: int) -> bool:
    """Tell whether a window has no tissue within its margin."""
    return float(clean[margin:-margin, margin:-margin].std()) < MIN_CONTRAST


def _save(path: Path, image: NDArray[np.float32], dtype: np.dtype[Any]) -> None:
    """Write a lossless PNG: 8 bits for a section of 8 bits, else 16."""
    from PIL import Image

    levels, kind = (255, np.uint8) if dtype == np.uint8 else (65535, np.uint16)
    try:
        Image.fromarray(np.rint(image.astype(np.float64) * levels).astype(kind)).save(path, optimize=False)
    except OSError as error:
        raise _output_refusal(path, error, whole=False) from error


def _output_refusal(path: Path, error: OSError, *, whole: bool) -> OutputError:
    """Return the error for an unwritable file; patches are not resumed, but made anew."""
    refusal = output_error(path, error)
    if whole or not isinstance(refusal, DiskFullError):
        return refusal
    return DiskFullError(
        f"{path} cannot be written, because there is no space left on its disk; free space and start again with "
        "--overwrite."
    )


def _degrade_whole(
    input: Input,
    section: Section,
    folder: Path,
    recipe: AnyRecipe,
    given: Given,
    settings: DegradeSettings,
    shown: Progress | None,
) -> list[Pair]:
    """Degrade the whole section, or every section of a volume, with one degradation.

    The tile size is fixed, so the store does not depend on the memory of the machine. The engine's journal stays
    until the table is written: a call killed between the two resumes by it.
    """
    from bigrestore.run.execute import execute

    scale, seed = settings.scale, settings.seed
    degradation = given.replace(_for_whole(recipe, scale, seed))
    run = RunSettings(
        method="degrade",
        mask="none",
        tile_size=WHOLE_TILE_PX[scale],
        level=section.level,
        series=settings.series,
        input_range=section.value_range,
        seed=seed,
        resume=settings.resume,
        progress=settings.progress,
        report=False,
    )
    store = folder / STORE_NAME
    degrader = SectionDegrader(degradation, section.height, section.width, seed)
    execute(input, store, run, method=degrader, progress=shown).raise_if_failed()
    return [
        Pair(STORE_NAME, section.source, z, 0, 0, section.height, section.width, seed, degradation)
        for z in range(section.depth)
    ]


def _for_whole(recipe: AnyRecipe, scale: int, seed: int) -> Degradation:
    """Draw the one degradation of a whole section.

    The stain stays, because the clean side is the input; the JPEG lattice begins at the first pixel; and an
    undegraded section, useful among many pairs, would be no use alone.
    """
    (drawn,) = draw_degradations(recipe.always_degrading(), scale, 1, np.random.default_rng([seed]))
    second = drawn.second
    if second is not None:
        second = attrs.evolve(second, storage=attrs.evolve(second.storage, jpeg_phase=(0, 0)))
    storage = attrs.evolve(drawn.storage, jpeg_phase=(0, 0))
    return attrs.evolve(drawn, stain=Stain(), storage=storage, second=second)
