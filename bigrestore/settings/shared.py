"""Options of several commands: type, default, conversion and check said once, in the words of each command.

Each function returns the field of an attrs class.
"""

from __future__ import annotations

from typing import Any

import attrs

from bigrestore.settings.checks import (
    check_fail_if,
    check_options,
    check_value_range,
    check_voxels,
    one_of,
    seed_check,
    text,
    whole_number,
)
from bigrestore.settings.option import SAYS, option
from bigrestore.settings.values import LOG_FORMATS, to_options, to_path_text, to_plain, to_range, to_voxels


def seed_field(help: str, panel: str | None = None) -> Any:
    """Return the field of `--seed`."""
    metadata = option(help, panel=panel)
    return attrs.field(default=0, converter=to_plain, validator=seed_check, metadata=metadata)


def level_field(help: str, panel: str | None = None) -> Any:
    """Return the field of `--level`."""
    levels = whole_number(0, 32, "pyramid levels", optional=False)
    return attrs.field(default=0, converter=to_plain, validator=levels, metadata=option(help, panel=panel))


def likelihood_model_field(panel: str) -> Any:
    """Return the field of `--likelihood-model`."""
    return _part_field("Model of train likelihood.", panel)


def ranking_model_field(panel: str) -> Any:
    """Return the field of `--ranking-model`."""
    return _part_field("Model of train ranking.", panel)


def objective_model_field(panel: str) -> Any:
    """Return the field of `--objective-model`."""
    return _part_field("Model of train objective, for --realness-map auto.", panel)


def _part_field(help: str, panel: str) -> Any:
    return attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a file", optional=True),
        metadata=option(help, metavar="FILE", panel=panel, default="the shipped one"),
    )


def series_field(panel: str | None = None, file: str = "a file", default: str = "the largest") -> Any:
    """Return the field of `--series` or one like it: the image to read of `file`, which holds several."""
    return attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(0, 1_000_000),
        metadata=option(
            f"Image of {file} that holds several, as `bigrestore info` numbers them.",
            metavar="N",
            panel=panel,
            default=default,
        ),
    )


def channel_field(panel: str | None = None) -> Any:
    """Return the field of `--channel`."""
    return attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(0, 1_000_000),
        metadata=option(
            "Channel to read of several, from 0.", metavar="N", panel=panel, default="the only one, or RGB"
        ),
    )


def range_field(help: str, panel: str | None = None) -> Any:
    """Return the field of the values of black and white, such as `--input-range`."""
    metadata = option(help, metavar="LO HI|full", panel=panel, reads=tuple[str, str])
    return attrs.field(default=None, converter=to_range, validator=check_value_range, metadata=metadata)


def voxel_size_field(help: str, panel: str) -> Any:
    """Return the field of `--voxel-size`."""
    metadata = option(help, panel=panel)
    return attrs.field(default=None, converter=to_voxels, validator=check_voxels, metadata=metadata)


def storage_options_field(panel: str) -> Any:
    """Return the field of `--storage-options`, which holds keys and is not shown."""
    metadata = option("JSON object, or @FILE: keys and endpoints of a URL.", metavar="JSON", panel=panel)
    return attrs.field(
        default=None, converter=to_options, validator=check_options, repr=False, metadata=metadata
    )


def threads_field(help: str, panel: str, default: str) -> Any:
    """Return the field of `--threads`; `default` are the words for their number where none is given."""
    metadata = option(help, panel=panel, default=default)
    return attrs.field(
        default=None, converter=to_plain, validator=whole_number(1, 4096, "threads"), metadata=metadata
    )


def fail_if_field() -> Any:
    """Return the field of `--fail-if`."""
    words = "Exit 6 where true, e.g. 'niqe.median > niqe_before.median'."
    return attrs.field(
        default=None, validator=check_fail_if, metadata=option(words, metavar="EXPR", panel=SAYS)
    )


def log_format_field() -> Any:
    """Return the field of `--log-format`."""
    return attrs.field(
        default="text", validator=one_of(LOG_FORMATS), metadata=option("text or json.", panel=SAYS)
    )
