"""The summary of a run, printed by the command line and returned by the Python API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from bigrestore.errors import BigrestoreError, BlocksFailedError, CheckFailedError, InputError
from bigrestore.run.view.progress import rate_text, spent_text


@attrs.frozen
class ReportResult:
    """What became of the report.

    Attributes
    ----------
    folder : str
        Of the report; "" without one.
    rows : list of (str, str)
        Names and values for people.
    failures : list of str
        What could not be scored or written, one sentence each.
    check : str
        Why `--fail-if` failed; "" if it passed or was not given.
    error : BigrestoreError or None
        Why the report is missing; None otherwise.
    """

    folder: str = ""
    rows: list[tuple[str, str]] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    check: str = ""
    error: BigrestoreError | None = None

    def lines(self) -> list[tuple[str, str]]:
        """Return the result as names and values for people."""
        rows = list(self.rows)
        if self.folder:
            rows.append(("report", f"{self.folder}/report.html"))
        shown = [("not scored", sentence) for sentence in self.failures[:5]]
        more = len(self.failures) - len(shown)
        return rows + shown + ([("not scored", f"and {more} more like these")] if more else [])


@attrs.frozen
class RunSummary:
    """What a run did.

    Attributes
    ----------
    output : Path
        What was written.
    blocks_done, blocks_empty : int
        Blocks with restored pixels, and wholly background ones.
    blocks_restored : int
        Blocks of this run; the others were done before.
    failed : dict
        Reason by name of each failed block, left at the fill value.
    seconds : dict
        Wall time of the phases `start-up`, `profile`, `blocks`, `finalize` and `report`.
    megapixels : float
        Output megapixels written by this run.
    redundancy : float
        Pixels computed for each pixel kept.
    tile_px : int
        Largest side of a tile's core, in output pixels.
    threads, workers : int
        Tiles in flight of each worker, and workers.
    device, precision : str
        What the method computed on and in.
    input_failed : bool
        Whether every failure is the input's.
    maps : tuple of str
        Maps written beside the image.
    part : str
        Which part of a run it was, such as "shard 2/3"; "" for a whole run.
    report : ReportResult
        The scores.
    copied_to : str
        URL of the output's copy; "" without one.
    damaged_px, filled_px : int
        Damaged input pixels under --neighbours, and how many of them were filled.
    """

    output: Path
    blocks_done: int
    blocks_empty: int
    blocks_restored: int
    failed: dict[str, str]
    seconds: dict[str, float]
    megapixels: float
    redundancy: float
    tile_px: int
    threads: int
    device: str
    precision: str
    input_failed: bool = False
    workers: int = 1
    maps: tuple[str, ...] = ()
    part: str = ""
    report: ReportResult = attrs.field(factory=ReportResult)
    copied_to: str = ""
    damaged_px: int = 0
    filled_px: int = 0

    @property
    def blocks_failed(self) -> int:
        """Blocks left at the fill value."""
        return len(self.failed)

    @property
    def mpx_per_second(self) -> float:
        """Output megapixels per second of the blocks phase."""
        return self.megapixels / self.seconds["blocks"] if self.seconds.get("blocks") else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON document."""
        return attrs.asdict(self, filter=lambda field, _: field.name != "error") | {
            "output": str(self.output),
            "mpx_per_second": round(self.mpx_per_second, 3),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the summary as names and values for people."""
        phases = ", ".join(f"{name} {spent_text(seconds)}" for name, seconds in self.seconds.items())
        whole = self.blocks_restored == self.blocks_done + self.blocks_empty + self.blocks_failed
        rows = [("part", self.part)] if self.part else []
        rows += [
            ("output", str(self.output)),
            (
                "blocks",
                f"{self.blocks_done} restored, {self.blocks_empty} background, {self.blocks_failed} failed"
                + ("" if whole else f"; {self.blocks_restored} of them in this run"),
            ),
            ("time", f"{spent_text(sum(self.seconds.values()))}: {phases}"),
            *([("rate", f"{rate_text(self.mpx_per_second)} of output")] if self.megapixels else []),
        ]
        if self.maps:
            rows.append(("maps", f"{', '.join(self.maps)} in {self.output}/maps"))
        if self.damaged_px:
            share = self.filled_px / self.damaged_px
            rows.append(("damage", f"{share:.0%} of {self.damaged_px} px filled from neighbouring sections"))
        rows += [("copied to", self.copied_to)] if self.copied_to else []
        rows += self.report.lines()
        return rows + [("failed", f"{name}: {reason}") for name, reason in self.failed.items()]

    def raise_if_failed(self) -> None:
        """Raise for failed blocks, else for the check asked for, else for a missing report.

        Raises
        ------
        InputError
            Where no block could be done and the input is to blame for all.
        BlocksFailedError
            Where some failed; the message lists them.
        CheckFailedError
            Where `--fail-if` is true.
        BigrestoreError
            Why the report is missing: an OutputError for an unwritable one. The output is.
        """
        if not self.failed:
            if self.report.check:
                raise CheckFailedError(f"{self.output}: {self.report.check}.")
            if self.report.error is not None:
                raise self.report.error
            return
        if self.input_failed and not self.blocks_done and not self.blocks_empty:
            raise InputError(next(iter(self.failed.values())) + ".")
        shown = [f"{name} ({reason})" for name, reason in list(self.failed.items())[:5]]
        more = f" and {len(self.failed) - 5} more" if len(self.failed) > 5 else ""
        raise BlocksFailedError(
            f"{len(self.failed)} block(s) of {self.output} failed and hold the fill value: {'; '.join(shown)}{more}; "
            "correct the cause and start again with --resume."
        )
