"""An output that cannot be written is a sentence and exit code 4, whatever the operating system says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bigrestore.errors import (
    BigrestoreError,
    DiskFullError,
    InputError,
    OutputError,
    OutputExistsError,
    StoppedError,
    output_error,
)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_remedy(number: int) -> None:
    error = output_error(Path("out.zarr"), OSError(number, os.strerror(number), "out.zarr/0/c/0/0.partial"))
    assert isinstance(error, DiskFullError)
    assert error.errno == number
    assert error.exit_code == 4
    assert str(error) == (
        "out.zarr cannot be written, because there is no space left on its disk; free space and start again; "
        "continue a run by --resume."
    )


@pytest.mark.parametrize("path", ["out.zarr/0", Path("out.ome.tif"), "pairs/lq/000000.png"])
def test_a_file_above_the_limit_of_the_shell_is_named_with_the_remedy(path: str | Path) -> None:
    error = output_error(path, OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    assert type(error) is OutputError
    assert error.errno == errno.EFBIG
    assert str(error) == (
        f"{path} cannot be written, because it is larger than a file may be here; raise the limit of the shell "
        "(ulimit -f) or choose another disk, and start again; continue a run by --resume."
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENAMETOOLONG])
def test_other_errors_of_writing_say_what_the_system_says(number: int) -> None:
    error = output_error("out.zarr", OSError(number, os.strerror(number)))
    assert type(error) is OutputError
    assert error.errno == number
    assert str(error).startswith("out.zarr ")
    assert os.strerror(number) in str(error)
    assert str(error).endswith(".")


def test_a_name_that_is_too_long_asks_for_a_shorter_one() -> None:
    error = output_error("out.zarr", OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
    assert str(error).endswith("; choose a shorter name for the output.")


def test_an_error_without_number_or_text_is_still_a_sentence() -> None:
    assert "OSError" in str(output_error("out.zarr", OSError()))
    assert "broken pipe of some kind" in str(output_error("out.zarr", OSError("broken pipe\nof some kind")))


def test_a_sentence_that_is_already_there_is_kept() -> None:
    first = OutputExistsError("out.zarr exists.")
    assert output_error("elsewhere", first) is first


@pytest.mark.parametrize("other", [StoppedError("Stop."), InputError("Bad.")])
def test_a_signal_or_a_bad_input_is_not_taken_for_an_unwritable_place(other: BigrestoreError) -> None:
    assert isinstance(other, OSError)
    with pytest.raises(type(other)) as raised:
        output_error("elsewhere", other)
    assert raised.value is other
