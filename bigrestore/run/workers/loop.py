"""The loop of every worker: open the run once, claim blocks and do them until all have a record.

It is the same in a process of this machine and in a dask worker of another. Its order is plain JSON. It resolves the
order against the plan beside the output, as a resumed run does, and refuses another input, model or version. The
output is locked by the process behind the order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.host.arithmetic import exact_arithmetic
from bigrestore.errors import OutputExistsError
from bigrestore.run.pipeline import Pipeline, TilesDone
from bigrestore.run.plan import on_cuda
from bigrestore.run.prepared import Destination, Inputs, Prepared, prepare
from bigrestore.run.sinks import make_sink, open_sinks
from bigrestore.run.state.claims import Claims
from bigrestore.run.state.fingerprint import digest
from bigrestore.run.stop import StopFlag
from bigrestore.settings import RunSettings
from bigrestore.settings.values import AUTO_MAP

OF_THE_CALLER = {
    **{"overwrite": False, "resume": True, "init_only": False, "finalize": False, "shard": None},
    **{"workers": None, "scheduler": None, "cluster": None, "progress": "none", "fail_if": None},
    "check_all": False,
}
"""Settings of the calling process alone."""


@attrs.frozen
class Order:
    """The order of a worker, JSON-able.

    Attributes
    ----------
    inputs : str or list of str
        As for `open_section`; paths are absolute, because a worker elsewhere has another working folder.
    output : str
        As the user named it.
    settings : dict
        By name, as `RunSettings.from_mapping` takes them.
    digest : str
        Of the fingerprint of the run.
    claims : dict
        The blocks, of `Claims.to_json`.
    destination : str
        URL of the finished output; empty: it stays.
    sinks : list of str
        Their factories.
    on_gpu : bool
        Whether the method computes on a GPU.
    """

    inputs: str | list[str]
    output: str
    settings: dict[str, Any]
    digest: str
    claims: dict[str, Any]
    destination: str = ""
    sinks: list[str] = attrs.field(factory=list)
    on_gpu: bool = False

    @classmethod
    def of(cls, ready: Prepared, claims: Claims, threads: int | None) -> Order:
        """Return the order for the workers of a run; `threads` are the tiles in flight of each, None: its own choice."""
        settings = attrs.asdict(ready.settings) | OF_THE_CALLER | {"threads": threads}
        words = {"mask": ("auto", "none"), "realness_map": (AUTO_MAP,)}  # also where a file is called so
        for name in ("model", "kernel", "mask", "realness_map", "objective_model", "likelihood_model"):
            if settings[name] is not None and settings[name] not in words.get(name, ()):
                settings[name] = _absolute(settings[name])
        return cls(
            _inputs(ready.inputs),
            str(ready.output.absolute()),
            settings,
            digest(ready.identity),
            claims.to_json(),
            "" if ready.destination is None else ready.destination.url,
            list(ready.sink_factories),
            on_cuda(ready.method),
        )


def work(
    order: Order,
    flag: StopFlag,
    opened: Callable[[], None] = lambda: None,
    tiles_done: TilesDone = lambda *_: None,
    *,
    ends_with_gpu: bool = True,
) -> None:
    """Open a run and do blocks of it; returns when all have a record, or when the flag was set.

    Parameters
    ----------
    order : Order
        The run.
    flag : StopFlag
        Looked at all the time; once set, blocks in progress are abandoned.
    opened : callable
        Called when the run is open.
    tiles_done : callable
        Called with a block at work and how many more of its tiles are restored.
    ends_with_gpu : bool
        As in `Pipeline`.

    Raises
    ------
    GpuLostError
        Where the process is to end by the exit code of that error.
    OutputExistsError
        Where the stored plan is another than the order's.
    BigrestoreError
        Of the kind of what is wrong with input, model or output.
    """
    settings = RunSettings.from_mapping(order.settings, "The order of a worker")
    destination = Destination(order.destination) if order.destination else None
    sinks = [make_sink(factory, settings) for factory in order.sinks]
    ready = prepare(order.inputs, order.output, settings, destination=destination, sinks=sinks)
    if not ready.resuming or digest(ready.identity) != order.digest:
        raise OutputExistsError(
            f"The output {order.output} was begun anew by another run since this worker was called; start the "
            "run again."
        )
    job = ready.job(ready.journal.root / "profiles")
    claims = Claims.from_json(order.claims, ready.journal, ready.plan.grid)
    with (
        exact_arithmetic(deterministic=settings.deterministic),
        open_sinks(sinks, ready, job) as takers,
    ):
        pipeline = Pipeline(job, ready.plan, ready.store, ready.journal, takers, ends_with_gpu=ends_with_gpu)
        opened()
        pipeline.run(claims, flag, lambda *_: None, tiles_done)
        for taker in takers:
            taker.wait(lambda: bool(flag))


def _inputs(inputs: Inputs) -> str | list[str]:
    """Return inputs as absolute paths; an address stays."""
    if isinstance(inputs, str | Path):
        return _absolute(str(inputs), pattern=True)
    return [_absolute(str(item), pattern=True) for item in inputs]


def _absolute(text: str, *, pattern: bool = False) -> str:
    """Return the absolute path of an existing file or a pattern; any other text stays."""
    if "://" in text or not (pattern or Path(text).exists()):
        return text
    return os.path.abspath(text)  # noqa: PTH100 - a pattern is no path, and links are not to be followed
