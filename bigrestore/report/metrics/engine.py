"""The scoring engines: the native one, and the field's library behind an adapter.

An engine takes one tile and gives one number per metric, or NaN. It holds no state from
tile to tile, and its numbers do not depend on the order, the batch or the number of threads. It
states its versions and the hashes of its parameters: scores of different engines or parameters are never
compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bigrestore.errors import UsageError
from bigrestore.report.metrics.columns import COLUMNS, NATIVE_METRICS
from bigrestore.report.metrics.judges.engine import JudgeSettings, split_judges, with_judges
from bigrestore.report.metrics.native_engine import NativeEngine
from bigrestore.report.metrics.score_engine import ScoreEngine


def create_engine(
    name: str = "native",
    metrics: Sequence[str] | None = None,
    niqe_model: Path | None = None,
    judging: JudgeSettings | None = None,
) -> ScoreEngine:
    """Make a scoring engine.

    Parameters
    ----------
    name : {"native", "pyiqa"}
        The engine.
    metrics : sequence of str, optional
        Names; None: brisque, niqe and piqe. `pyiqa` takes any metric of its list without a
        reference, and `NAME=FILE` for one with its weights in a file. Judges (`judges.engine.JUDGES`) go with both.
    niqe_model : Path, optional
        Model of NIQE, from `fit-niqe`; None: LIVE's model of photographs.
    judging : JudgeSettings, optional
        What judges are told; None: of an image alone.

    Returns
    -------
    ScoreEngine
        The engine, ready; nothing is ever downloaded.

    Raises
    ------
    UsageError
        If the engine or a metric is unknown, is named twice or is not installed, or if `niqe_model` is given
        without the metric niqe.
    InputMissingError
        If the NIQE model or a named file of weights does not exist.
    ModelError
        If a file of weights is damaged or foreign, or would have to be downloaded; the sentence says where to put it.
    """
    chosen = tuple(NATIVE_METRICS if metrics is None else metrics)
    columns = [metric.partition("=")[0] for metric in chosen]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise UsageError(f"the metric {twice[0]!r} is named twice; name every metric once")
    if not columns:
        raise UsageError(f"no metric is named; name one or several, for example {','.join(NATIVE_METRICS)}")
    if niqe_model is not None and "niqe" not in columns:
        raise UsageError(
            f"the NIQE model {niqe_model} is given, but niqe is not among the metrics {','.join(columns)}; add it"
        )
    own, judges = split_judges(chosen)
    if name not in ("native", "pyiqa"):
        raise UsageError(f"there is no scoring engine {name!r}; choose native or pyiqa")
    engine: ScoreEngine
    if name == "native" or not own:
        engine = NativeEngine.create(own, niqe_model)
    else:
        from bigrestore.report.metrics.pyiqa_engine import create_pyiqa_engine

        engine = create_pyiqa_engine(own, niqe_model)
    return with_judges(engine, judges, judging or JudgeSettings())


def lower_better(metric: str) -> bool:
    """Say whether a lower value of a metric means a better image.

    Parameters
    ----------
    metric : str
        Name of a column.

    Returns
    -------
    bool
        True for brisque, niqe and piqe; for others as pyiqa says.

    Raises
    ------
    UsageError
        If nobody knows the metric, or pyiqa is not installed to ask.
    """
    if metric in COLUMNS:
        return COLUMNS[metric].direction == "lower"
    from bigrestore.report.metrics.pyiqa_engine import pyiqa_lower_better

    return pyiqa_lower_better(metric)
