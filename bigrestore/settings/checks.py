"""Checks of single values: each refusal is one sentence with the flag, its value and the remedy.

A check runs while the flag's name is still known: an absurd number is answered at once instead of by a stack of
frames an hour later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from bigrestore.core.sizes import BLOCK_PX, CHUNK_PX, SCORE_STEP_PX, SCORE_TILE_PX
from bigrestore.core.words import either, shown
from bigrestore.errors import UsageError
from bigrestore.settings.option import flag
from bigrestore.settings.values import (
    AUTO_MAP,
    CLUSTERS,
    FULL,
    LEAST_RADIUS_PX,
    MAPS,
    MOST_SHARPENING,
    RUN_JUDGES,
    blur_of,
    is_number,
    is_pair,
    is_whole,
    parse_shard,
    sharpening_of,
)

DEVICE = re.compile(r"auto|cpu|mps|cuda(:(0|[1-9]\d{0,3}))?")
SCHEDULER = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://\S+")

LARGEST_NOISE = 64
"""Standard deviation of the noise that a user may state, of 255."""

LARGEST_SEED = 2**31 - 1

RECIPE = "the name of a recipe, a TOML file or a file of train degradation"

FieldCheck = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def refuse(attribute: attrs.Attribute[Any], value: object, remedy: str) -> None:
    """Raise the sentence with flag, value and remedy."""
    raise UsageError(f"{flag(attribute)} is {shown(value)}; {remedy}.")


def _refuse_exactly(attribute: attrs.Attribute[Any], value: object, remedy: str) -> None:
    """Refuse a value where only whole numbers or words are taken: 2.0 is shown as such, because 2 may be right."""
    if isinstance(value, float):
        raise UsageError(f"{flag(attribute)} is {value}; {remedy}.")
    refuse(attribute, value, remedy)


@attrs.frozen
class OneOf:
    """A check for a choice."""

    choices: tuple[Any, ...]

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Refuse all but the choices."""
        if type(value) is not type(self.choices[0]) or value not in self.choices:
            _refuse_exactly(attribute, value, f"choose {either(self.choices)}")


def one_of(choices: tuple[Any, ...]) -> OneOf:
    """Return a check for a choice."""
    return OneOf(choices)


def whole_number(smallest: int, largest: int, unit: str = "", *, optional: bool = True) -> FieldCheck:
    """Return a check for whole numbers of a range, or None if optional."""
    counted = f" of {unit}" if unit else ""

    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not (is_whole(value) and smallest <= value <= largest):
            remedy = f"it takes a whole number{counted} from {smallest} to {largest}"
            _refuse_exactly(attribute, value, remedy)

    return check


seed_check = whole_number(0, LARGEST_SEED, optional=False)


def above_zero(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a number above 0, or None."""
    if value is not None and not (is_number(value) and value > 0):
        refuse(attribute, value, "it takes a number above 0")


def yes_or_no(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take true and false only."""
    if not isinstance(value, bool):
        refuse(attribute, value, "it takes true or false, without quotation marks")


def text(takes: str, *, optional: bool = False) -> FieldCheck:
    """Return a check for words, or None if optional."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            refuse(attribute, value, f"it takes {takes}")

    return check


def check_device(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the name of a device."""
    if not (isinstance(value, str) and DEVICE.fullmatch(value)):
        refuse(attribute, value, "choose auto, cpu, cuda, cuda:N for the GPU number N, or mps")


def check_realness(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a number from 0 to 1, or None."""
    if value is not None and not (is_number(value) and 0.0 <= value <= 1.0):
        refuse(attribute, value, "it takes a number from 0 (nothing invented) to 1")


def check_realness_map(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take a file or `auto`, or None; not both."""
    text("auto or one file", optional=True)(_, attribute, value)
    if isinstance(value, str) and value != AUTO_MAP and AUTO_MAP in map(str.strip, value.split(",")):
        refuse(attribute, value, "it takes auto or one file, not both: give one of them")


def check_maps(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take names of maps."""
    if not isinstance(value, tuple) or not all(name in MAPS for name in value):
        refuse(attribute, value, f"choose {either(MAPS)}, or several with commas between them")


def check_run_judges(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take names of scores that a run may take beside the others."""
    if not isinstance(value, tuple) or not all(name in RUN_JUDGES for name in value):
        lpips = isinstance(value, tuple) and "lpips" in value
        needs = "lpips needs a clean image, see `bigrestore score --reference`; " if lpips else ""
        refuse(attribute, value, f"{needs}it takes {' or '.join(RUN_JUDGES)}")


def check_blur(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take two sigmas and an angle as `to_blur` makes them, or None."""
    if value is not None and blur_of(value) is None:
        refuse(
            attribute,
            value,
            "it takes SIGMA or SIGMA,SIGMA_Y,ANGLE: input pixels, none negative (0: no blur), and degrees",
        )


def check_sharpening(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take an amount and a radius as `to_sharpening` makes them, or None."""
    if value is not None and sharpening_of(value) is None:
        most, widest = MOST_SHARPENING
        refuse(
            attribute,
            value,
            f"it takes AMOUNT,RADIUS: 0 to {most:g} (0: not sharpened), and {LEAST_RADIUS_PX:g} to {widest:g} input pixels",
        )


def check_noise(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a standard deviation in levels of 255, or None."""
    if value is not None and not (is_number(value) and 0 <= value <= LARGEST_NOISE):
        refuse(
            attribute,
            value,
            f"it takes the standard deviation of the noise in levels of 255, from 0 to {LARGEST_NOISE}",
        )


def check_block(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take the side of a block: a multiple of the chunk."""
    good = is_whole(value) and CHUNK_PX <= value <= 32 * CHUNK_PX and value % CHUNK_PX == 0
    if not good:
        refuse(attribute, value, f"it takes a multiple of {CHUNK_PX} output pixels, such as {BLOCK_PX}")


def check_overlap(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take an even number of pixels, or None."""
    if value is None:
        return
    if not (is_whole(value) and 0 <= value <= BLOCK_PX and value % 2 == 0):
        refuse(attribute, value, f"it takes an even number of output pixels from 0 to {BLOCK_PX}")


def check_value_range(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take two rising numbers, `full`, or None."""
    if value is None or (isinstance(value, str) and value == FULL):
        return
    good = isinstance(value, tuple) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1]
    if not good:
        refuse(
            attribute,
            value,
            "it takes two numbers, the value of black and the larger value of white, or full for the range of the type",
        )


def check_voxels(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a size per axis, each above zero or unknown, or None."""
    if value is None:
        return
    good = isinstance(value, tuple) and len(value) == 3
    if not good or not all(v is None or (is_number(v) and v > 0) for v in value):
        given = tuple(v for v in value if v is not None) if isinstance(value, tuple) else value
        refuse(attribute, given, "it takes one, two (y,x) or three (z,y,x) positive sizes in micrometres")


def check_roi(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take three ranges of pixels, the first of them or all None."""
    if value is None:
        return
    good = isinstance(value, tuple) and len(value) == 3 and all(map(is_pixel_range, value[1:]))
    if not good or not (value[0] is None or is_pixel_range(value[0])):
        given = value[1:] if isinstance(value, tuple) and value[:1] == (None,) else value
        refuse(
            attribute,
            given,
            "it takes y0:y1,x0:x1 (or z0:z1,y0:y1,x0:x1) in output pixels, each start below its stop and none "
            "negative",
        )


def is_pixel_range(value: Any) -> bool:
    """Return whether a value is a start and a larger stop, neither negative."""
    return is_pair(value) and 0 <= value[0] < value[1]


def check_cluster(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the name of a batch system, or None."""
    if value is not None and value not in CLUSTERS:
        refuse(attribute, value, f"choose {either(CLUSTERS)}")


def check_scheduler(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the address of a scheduler, or None."""
    if value is not None and not (isinstance(value, str) and SCHEDULER.fullmatch(value)):
        refuse(attribute, value, "it takes the address of a dask scheduler, such as tcp://host:8786")


def check_shard(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take a part of a run, or None."""
    if value is not None:
        parse_shard(value)


def check_method_options(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take a table of names and single values, or None; the method checks them."""
    valid = isinstance(value, dict) and all(
        isinstance(name, str) and name and isinstance(item, bool | int | float | str)
        for name, item in value.items()
    )
    if value is not None and not valid:
        refuse(attribute, value, "it takes NAME=VALUE, an option of the method and one value")


def check_options(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take a table named by texts, or None."""
    if value is not None and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise UsageError(f"{flag(attribute)} is no JSON object; give names and values.")


def check_fail_if(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a condition on scores, or None."""
    text("a condition such as niqe.median > niqe_before.median", optional=True)(_, attribute, value)


def check_score_tile(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take the side of a score tile, or None to have it chosen."""
    if value is None:
        return
    largest = 100 * SCORE_STEP_PX
    if not is_whole(value) or not SCORE_STEP_PX <= value <= largest or value % SCORE_STEP_PX:
        step = f"a multiple of {SCORE_STEP_PX} pixels from {SCORE_STEP_PX} to {largest}"
        refuse(attribute, value, f"it takes {step}, such as {SCORE_TILE_PX}")


def check_recipe(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the name or the file of a recipe; an object must be one (`bigrestore.degradation.api`)."""
    if isinstance(value, str):
        text(RECIPE)(_, attribute, value)


def check_names(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take names of metrics, or None."""
    if value is None:
        return
    if not isinstance(value, tuple) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        refuse(attribute, value, "it takes names of metrics, such as brisque,niqe")
