"""The state of a run, told from the files beside its output: running, finished or killed.

Nothing is asked of the run itself, perhaps on another machine: the journal has a record for each block, the plan their
number, and the times of the records their rate. Nothing is written or locked for longer than a look takes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.host.command import RESUME, repeated
from bigrestore.errors import InputError, InputMissingError
from bigrestore.run.output.owned import PLAN
from bigrestore.run.output.place import output_path
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import writer
from bigrestore.run.view.progress import about_text

RECENT = 100
"""Records from whose times the rate is taken."""

FINALIZE = "--finalize"

MOST_LISTED = 20
"""Failed blocks that are listed by name."""


@attrs.frozen
class RunStatus:
    """The state of a run.

    Attributes
    ----------
    output : str
        The output.
    state : str
        `finished`, `failed` (finished but for failed blocks), `running`, or `stopped`; `starting` before a run has
        stored its plan, and `waiting` for parts of a run nobody works on.
    holder : str
        Its writer, if known.
    total : int or None
        Blocks of the run; None for an unreadable plan.
    done, empty, failed, in_hand : int
        Blocks restored, wholly background, failed, and in progress.
    seconds_left : float or None
        At the rate of the last records; None if unknown or nothing runs.
    blocks_per_hour : float or None
        That rate.
    last_record_s : float or None
        Seconds since the last block was recorded.
    maps : list of str
        Maps written beside the image.
    reasons : dict
        Why blocks failed, by their names; the first of them.
    way_out : str
        The next step; empty without one.
    command : str
        The command that takes it; empty if there is none, or none is known.
    """

    output: str
    state: str
    holder: str
    total: int | None
    done: int
    empty: int
    failed: int
    in_hand: int
    seconds_left: float | None
    blocks_per_hour: float | None
    last_record_s: float | None
    maps: list[str]
    reasons: dict[str, str]
    way_out: str
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return the state as a JSON document."""
        return attrs.asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the state as names and values for people."""
        known = self.done + self.empty
        total = "?" if self.total is None else str(self.total)
        percent = f" ({_percent(known, self.total)})" if self.total else ""
        rows = [
            ("output", self.output),
            ("state", f"{self.state}{f', by {self.holder}' if self.holder else ''}"),
            ("blocks", f"{known} of {total}{percent}: {self.done} restored, {self.empty} background"),
            ("failed", str(self.failed)),
            *([("at work", str(self.in_hand))] if self.state == "running" else []),
        ]
        if self.maps:
            rows.append(("maps", ", ".join(self.maps)))
        if self.blocks_per_hour is not None:
            rows.append(("rate", f"{self.blocks_per_hour:.3g} blocks per hour"))
        if self.state == "running":
            left = "not known yet" if self.seconds_left is None else f"about {about_text(self.seconds_left)}"
            rows.append(("time left", left))
        if self.last_record_s is not None:
            rows.append(("last block", f"{about_text(self.last_record_s)} ago"))
        rows += [(f"  {name}", reason) for name, reason in self.reasons.items()]
        rows += [("next step", self.way_out)] if self.way_out else []
        return rows + ([("command", self.command)] if self.command else [])


def _percent(done: int, total: int) -> str:
    """Return a share in whole percents, 100 only for all."""
    return f"{100 * done // total}%"


def run_status(output: str | Path) -> RunStatus:
    """Look at a run.

    Parameters
    ----------
    output : str or Path
        What the run was told to write.

    Raises
    ------
    InputMissingError
        When no run was begun there.
    InputError
        When what lies there may not be read, or is damaged.
    """
    place = output_path(output)
    journal = Journal(place)
    try:
        if journal.plan_damaged:
            raise InputError(
                f"{journal.root / PLAN} is damaged, so that nothing is known of its run; start it anew with --overwrite."
            )
        status = _look(place, journal)
        if journal.begun or status.state == "starting":
            return status
    except PermissionError as error:
        raise InputError(
            f"{journal.root} may not be read ({error.strerror}); change its permissions."
        ) from error
    raise InputMissingError(
        f"no run of bigrestore was begun at {place}: {journal.root} has no plan; check the path, or ask again where one "
        "was started within the last minute and still opens its input."
    )


def _look(place: Path, journal: Journal) -> RunStatus:
    plan = journal.plan or {}
    run = journal.read("run.json") or {}
    records = list(journal.records())
    failed = [record for record in records if record.status == "failed"]
    by_status = {name: sum(r.status == name for r in records) for name in ("done", "empty", "failed")}
    running, who = writer(journal.root)
    in_hand = len(journal.markers())
    rate, since = _rate(journal)
    total = plan.get("blocks")
    left = None if total is None else max(0, total - len(records))
    if running:
        state = "running" if plan else "starting"
    elif run.get("finished"):
        state = "finished"
    elif run and by_status["failed"]:
        state = "failed"
    else:
        state = "waiting" if plan.get("in_parts") else "stopped"
    all_done = total == by_status["done"] + by_status["empty"]
    lacks_report = bool(run.get("scored")) and not (journal.root / "report.json").exists()
    remedy = _remedy(state, all_done, lacks_report)
    flag = FINALIZE if FINALIZE in remedy else RESUME
    return RunStatus(
        output=str(place),
        state=state,
        holder=who if running else "",
        total=total,
        **by_status,
        in_hand=in_hand if running else 0,
        seconds_left=left / rate if running and rate and left is not None else None,
        blocks_per_hour=rate * 3600 if rate else None,
        last_record_s=since,
        maps=list(plan.get("fingerprint", {}).get("settings.maps") or []),
        reasons={record.name: record.reason for record in failed[:MOST_LISTED]},
        way_out=remedy,
        command=repeated(plan.get("command") or {}, flag) if remedy else "",
    )


def _remedy(state: str, all_done: bool, lacks_report: bool) -> str:
    """Return the next step for a run nobody works on."""
    if state == "waiting":
        parts = "do its blocks by --shard I/N of the same command, or all that are left by --resume"
        return f"finish it by {FINALIZE}" if all_done else parts
    if state == "finished":
        return "its report is not made; make it by --resume" if lacks_report else ""
    return {"stopped": "go on with it by --resume", "failed": "mend them by --resume"}.get(state, "")


def _rate(journal: Journal) -> tuple[float | None, float | None]:
    """Return blocks per second by the times of the last records, and how long ago the last was."""
    stamps = (journal.record_time(path.stem) for path in journal.record_files())
    times = sorted(stamp / 1e9 for stamp in stamps if stamp)
    if not times:
        return None, None
    recent = times[-RECENT:]
    span = recent[-1] - recent[0]
    rate = (len(recent) - 1) / span if span > 0 else None
    return rate, max(0.0, time.time() - times[-1])
