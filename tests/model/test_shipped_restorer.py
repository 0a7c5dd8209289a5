"""The shipped network on real tissue that a scanner's program was at: a slight unsharp mask and JPEG 2000 it must bear.

A strong mask it does not bear (docs/methods_compared.md, "Beyond the training").
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.bench.beyond import Change, sharpened, through_jpeg2000
from tests.bench.material import CASES, validation_images
from tests.bench.metrics import psnr, to_bytes
from tests.bench.restorers import restore_whole, unit, windows_of

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
    gains = []
    for image in validation_images(192):
        pair = CASES[case].apply(image)
        scan = program(pair.degraded)
        made = to_bytes(restore_whole(method, unit(scan), method.analyse(windows_of(unit(scan)))))
        gains.append(psnr(made, pair.clean) - psnr(scan, pair.clean))
    assert np.mean(gains) > 0
    assert min(gains) > -0.5
