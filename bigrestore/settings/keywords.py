"""The settings as keywords of Python, typed as a caller gives them.

A type checker refuses `restore(..., scael=2)` by these. Names and types follow the settings classes: the field's own
type, or the input type of its converter. A test holds the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from bigrestore.settings.values import (
    BlurInput,
    MethodOptionsInput,
    NamesInput,
    OptionsInput,
    PathInput,
    RangeInput,
    RoiInput,
    SharpeningInput,
    VoxelSizeInput,
)

if TYPE_CHECKING:
    from bigrestore.degradation.schema import Recipe


class ArrayKeywords(TypedDict, total=False):
    """The settings of `run` that hold for an array, but for `method` and `maps`: `restore` states these itself."""

    model: PathInput | None
    options: MethodOptionsInput | None
    scale: int
    realness_map: PathInput | None
    objective_model: PathInput | None
    realness: float | None
    kernel: PathInput | None
    blur: BlurInput | None
    noise: float | None
    sharpened: SharpeningInput | None
    mask: PathInput
    tile_size: int | None
    overlap: int | None
    block_size: int
    batch_size: int | None
    device: str
    precision: str
    voxel_size: VoxelSizeInput | None
    input_range: RangeInput | None
    roi: RoiInput | None
    lock: bool
    deterministic: bool
    workers: int | None
    seed: int
    threads: int | None
    progress: str
    log_format: str
    report: bool
    report_sample: int | None
    score_tile_size: int | None
    judges: NamesInput
    likelihood_model: PathInput | None
    ranking_model: PathInput | None


class RunKeywords(ArrayKeywords, total=False):
    """The settings of `run`, but for `method`: `restore` takes an object there, too."""

    level: int
    series: int | None
    channel: int | None
    storage_options: OptionsInput | None
    format: str
    maps: NamesInput
    stage: PathInput | None
    resume: bool
    overwrite: bool
    check_all: bool
    harmonise: bool
    neighbours: int
    scheduler: str | None
    cluster: str | None
    init_only: bool
    shard: str | None
    finalize: bool
    fail_if: str | None


class TryKeywords(TypedDict, total=False):
    """The settings of `run` that hold for every variant of `try_variants`."""

    model: PathInput | None
    options: MethodOptionsInput | None
    scale: int
    realness_map: PathInput | None
    objective_model: PathInput | None
    kernel: PathInput | None
    noise: float | None
    mask: PathInput
    lock: bool
    seed: int
    input_range: RangeInput | None
    roi: RoiInput | None
    level: int
    series: int | None
    channel: int | None
    storage_options: OptionsInput | None
    device: str
    precision: str
    tile_size: int | None
    threads: int | None


class ScoreKeywords(TypedDict, total=False):
    """The settings of `score`."""

    before_range: RangeInput | None
    reference_range: RangeInput | None
    before_series: int | None
    reference_series: int | None
    any_placement: bool
    force: bool
    engine: str
    metrics: NamesInput | None
    niqe_model: PathInput | None
    likelihood_model: PathInput | None
    ranking_model: PathInput | None
    lpips_backbone: PathInput | None
    tile_size: int | None
    sample: int | None
    seed: int
    level: int
    series: int | None
    voxel_size: VoxelSizeInput | None
    input_range: RangeInput | None
    storage_options: OptionsInput | None
    threads: int | None
    fail_if: str | None
    csv: bool
    overwrite: bool
    progress: str
    log_format: str


class DegradeKeywords(TypedDict, total=False):
    """The settings of `degrade`."""

    scale: int
    count: int | None
    whole: bool
    seed: int
    recipe: PathInput | Recipe
    blur: BlurInput | None
    noise: float | None
    patch_px: int
    level: int
    series: int | None
    input_range: RangeInput | None
    overwrite: bool
    resume: bool
    progress: str
