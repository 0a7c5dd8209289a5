"""The shipped network on real tissue that a scanner's program was at: a slight unsharp mask and JPEG 2000 it must bear.

A strong mask it does not bear unless it is stated (docs/methods_compared.md, "Beyond the training").
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from bigrestore.model.registry import create_method
from bigrestore.model.sharpening import without_sharpening
from bigrestore.settings import RunSettings
from tests.bench.beyond import HALO_SIGMA_PX, Change, Trial, gains_of, sharpened, through_jpeg2000
from tests.bench.material import validation_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("BIGRESTORE_DATA"), reason="BIGRESTORE_DATA is not set"),
]

PROGRAMS = {
    "a slight unsharp mask": partial(sharpened, strength=0.4),
    "JPEG 2000": partial(through_jpeg2000, ratio=12),
}


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_scan_that_a_program_changed_gets_no_worse(program: Change, case: str) -> None:
    method = create_method(RunSettings(realness=0.0))
    gains = gains_of(method, Trial("", case, after=program), case, validation_images(192))
    assert np.mean(gains) > 0
    assert min(gains) > -0.5


@pytest.mark.parametrize("case", ["a", "b"])
def test_a_strongly_sharpened_scan_is_restored_once_the_mask_is_stated(case: str) -> None:
    """Unstated, the network loses 1.7 dB on b."""
    method = without_sharpening(create_method(RunSettings(realness=0.0)), (0.8, HALO_SIGMA_PX))
    strong = Trial("", case, after=partial(sharpened, strength=0.8))
    gains = gains_of(method, strong, case, validation_images(192))
    assert np.mean(gains) > 1.5
    assert min(gains) > 0
