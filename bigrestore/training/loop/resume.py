"""Training checkpoints, for resuming a killed training.

A checkpoint appears under its name only when complete: it is written beside, flushed to the disk and renamed. The
last two are kept. Loading takes the newest with valid checksums, so a disk with a false flush costs two minutes and
not the training. Checkpoints hold tensors, numbers, strings, lists and dictionaries only, and nothing else is
unpickled.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bigrestore.core.files import sync_folder
from bigrestore.errors import DiskFullError, InputError, OutputError, OutputExistsError, UsageError

log = logging.getLogger(__name__)

KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{9})\.pt")


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints in a directory, oldest first."""
    paths = [path for path in directory.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: path.name)


def refuse_existing(directory: Path) -> None:
    """Refuse to begin over an existing training.

    Raises
    ------
    OutputExistsError
        There are checkpoints in the directory.
    """
    if list_checkpoints(directory):
        raise OutputExistsError(
            f"{directory} holds a training already; pass --resume to go on with it, or remove it."
        )


def save_checkpoint(directory: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a step whole or not at all, and drop all but the last two.

    Raises
    ------
    OutputError
        The directory cannot be written to, or the disk is full; the checkpoints before it are untouched.
    """
    path = directory / f"checkpoint-{step:09d}.pt"
    partial = path.with_name(path.name + ".partial")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for stray in directory.glob("checkpoint-*.pt.partial"):
            stray.unlink()  # of a process that was killed while it wrote
        with partial.open("xb") as stream:  # never through a link
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(directory)
        for old in list_checkpoints(directory)[:-KEPT]:
            old.unlink()
    except (OSError, RuntimeError) as error:
        if partial.is_file():
            partial.unlink()
        raise _checkpoint_error(path, error) from error
    return path


def _checkpoint_error(path: Path, error: OSError | RuntimeError) -> OutputError:
    """Return the error for an unwritable checkpoint: the reason, and the checkpoint to resume from."""
    # torch tells of its own container only; what the operating system said is the context of that.
    cause = error if isinstance(error, OSError) else error.__context__
    reason = str(error).partition("\n")[0]
    full = False
    if isinstance(cause, OSError):
        reason = cause.strerror or reason
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
    kept = list_checkpoints(path.parent) if path.parent.is_dir() else []
    if kept:
        step = int(kept[-1].stem.partition("-")[2])
        rest = f"the one of step {step} is kept: {'free some space' if full else 'mend that'} and go on with --resume"
    else:
        rest = "there is none before it: free some space or choose another place"
    kind = DiskFullError if full else OutputError
    return kind(f"The training checkpoint {path} cannot be written ({reason}); {rest}.")


def load_checkpoint(directory: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read the newest whole checkpoint of a directory.

    Returns
    -------
    dict or None
        The state given to `save_checkpoint`; None without any checkpoint.

    Raises
    ------
    InputError
        There are checkpoints, and none of them can be read.
    """
    paths = list_checkpoints(directory)
    for path in reversed(paths):
        try:
            with zipfile.ZipFile(path) as container:
                broken = container.testzip()
            if broken is None:
                state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
                return state
            fault = f"checksum of {broken} does not agree"
        except (
            OSError,
            RuntimeError,
            EOFError,
            KeyError,
            zipfile.BadZipFile,
            pickle.UnpicklingError,
        ) as error:
            fault = str(error).partition("\n")[0]
        log.warning("the checkpoint %s is damaged (%s); trying the one before it", path, fault)
    if paths:
        raise InputError(
            f"None of the {len(paths)} training checkpoint(s) in {directory} can be read; remove them "
            "to start again."
        )
    return None


def check_settings(saved: Mapping[str, Any], wanted: Mapping[str, Any], directory: Path) -> None:
    """Refuse to resume a training under other settings.

    Raises
    ------
    UsageError
        Some settings differ; the sentence names each with both values.
    """
    differing = [
        f"{name} was {saved.get(name, 'not set')}, now {wanted.get(name, 'not set')}"
        for name in sorted(set(saved) | set(wanted))
        if saved.get(name) != wanted.get(name)
    ]
    if differing:
        raise UsageError(
            f"The training in {directory} was started with other settings ({'; '.join(differing)}); resume "
            "with the same settings, or train into another place."
        )
