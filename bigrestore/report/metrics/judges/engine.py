"""An engine with judges: scores by trained networks beside those of the engine itself.

A judge is one class and one row of `JUDGES`. It looks at a tile alone, at a tile and the input behind it, or at a tile and
a clean reference, and its columns stand where the figures of that kind do. Judges are asked for by name, because they cost
more than all else together; none loads torch before that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs
from numpy.typing import NDArray

from bigrestore.core.pixels import Floats
from bigrestore.errors import UsageError

if TYPE_CHECKING:
    from bigrestore.report.metrics.score_engine import ScoreEngine

LooksAt = Literal["image", "before", "reference"]


@attrs.frozen
class JudgeSettings:
    """What judges are told of a scoring; can be sent to another process.

    Attributes
    ----------
    scale : int
        Pixels of the image per pixel of what it was made of.
    before, reference : bool
        Whether there is an image before, and a clean reference.
    likelihood_model : str, optional
        File of a trained likelihood.
    ranking_model : str, optional
        File of a trained ranking.
    lpips_backbone : str, optional
        File of a network for LPIPS.
    """

    scale: int = 1
    before: bool = False
    reference: bool = False
    likelihood_model: str | None = None
    ranking_model: str | None = None
    lpips_backbone: str | None = None


@attrs.frozen(eq=False)
class InputOfTile:
    """What a tile was made of.

    Attributes
    ----------
    pixels : ndarray, (h, w), float32
        The input on its own grid, 0..1.
    origin : (int, int)
        Row and column of the tile's pixel at which it begins.
    scale : int
        Pixels of the tile per pixel of it.
    noise_law : (float, float) or None
        Gain and read noise of its section (see `SectionStatistics`); None: not read.
    """

    pixels: Floats
    origin: tuple[int, int]
    scale: int
    noise_law: tuple[float, float] | None


class Judge(Protocol):
    """One judge; may be called from several threads at once."""

    columns: tuple[str, ...]

    def score(self, tile: Floats, other: Any) -> dict[str, float]:
        """Return its columns for a tile of 0..1; `other` is None, an `InputOfTile`, or the tile of the reference."""

    def describe(self) -> dict[str, Any]:
        """Return what identifies its weights, JSON-able."""


@attrs.frozen
class JudgeRow:
    """A row of the table.

    Attributes
    ----------
    make : str
        `module:function` in this folder; it takes `JudgeSettings` and returns the judge.
    looks_at : {"image", "before", "reference"}
        Beside the tile.
    needs : str
        The sentence where that is missing, or the judge's own file.
    """

    make: str
    looks_at: LooksAt
    needs: str = ""


JUDGES = {
    "likelihood": JudgeRow(
        "likelihood:LikelihoodJudge.create",
        "before",
        "metrics likelihood compares with what the image was made of; give --before",
    ),
    "rankiqa": JudgeRow("rankiqa:RankingJudge.create", "image"),
    "lpips": JudgeRow(
        "lpips:LpipsJudge.create",
        "reference",
        "lpips needs --reference and --lpips-backbone FILE (torchvision's alexnet-owt-7be5be79.pth)",
    ),
}
"""The judges, in the order of their columns."""


@attrs.frozen(eq=False)
class JudgedEngine:
    """An engine and its judges.

    Attributes
    ----------
    engine : ScoreEngine
        Scores tiles alone.
    judges : mapping of str to Judge
        Of `JUDGES`, by name.
    """

    engine: ScoreEngine
    judges: Mapping[str, Judge]

    @property
    def name(self) -> str:
        """That of the engine."""
        return self.engine.name

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns of a tile alone."""
        return (*self.engine.metrics, *self.columns("image"))

    def columns(self, looks_at: LooksAt) -> tuple[str, ...]:
        """Return the columns of the judges that look at something."""
        return tuple(column for judge in self._looking(looks_at) for column in judge.columns)

    def score(self, tile: NDArray[Any]) -> dict[str, float]:
        """Score a tile alone."""
        return self.engine.score(tile) | self.compare("image", tile, None)

    def compare(self, looks_at: LooksAt, tile: Floats, other: Any) -> dict[str, float]:
        """Return the columns of the judges that look at something; see `Judge.score`."""
        values: dict[str, float] = {}
        for judge in self._looking(looks_at):
            values |= judge.score(tile, other)
        return values

    def describe(self) -> dict[str, Any]:
        """Return the facts of the engine and of its judges."""
        return self.engine.describe() | {
            "judges": {name: judge.describe() for name, judge in self.judges.items()}
        }

    def _looking(self, looks_at: LooksAt) -> list[Judge]:
        return [judge for name, judge in self.judges.items() if JUDGES[name].looks_at == looks_at]


def split_judges(metrics: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics of an engine, and the judges among them in the order of the table.

    Raises
    ------
    UsageError
        A judge has a file of weights behind it, as metrics of pyiqa have.
    """
    for metric in metrics:
        name, _, file = metric.partition("=")
        if name in JUDGES and file:
            raise UsageError(f"the metric {metric!r} names a file; give it by the option of {name} instead")
    judges = tuple(name for name in JUDGES if name in metrics)
    return tuple(metric for metric in metrics if metric not in JUDGES), judges


def with_judges(engine: ScoreEngine, names: Sequence[str], settings: JudgeSettings) -> ScoreEngine:
    """Return an engine with judges, or the engine itself without any.

    Raises
    ------
    UsageError
        An image that a judge looks at is missing, or a trained network is not shipped.
    InputMissingError, ModelError
        Its file is missing, damaged or foreign.
    """
    for name in names:
        looks_at = JUDGES[name].looks_at
        if looks_at != "image" and not getattr(settings, looks_at):
            raise UsageError(JUDGES[name].needs)
    return JudgedEngine(engine, {name: _make(name, settings) for name in names}) if names else engine


def compared_columns(engine: ScoreEngine, looks_at: LooksAt) -> tuple[str, ...]:
    """Return the columns of an engine's judges that look at something; none without judges."""
    return engine.columns(looks_at) if isinstance(engine, JudgedEngine) else ()


def _make(name: str, settings: JudgeSettings) -> Judge:
    module, _, path = JUDGES[name].make.partition(":")
    make: Any = import_module(f"bigrestore.report.metrics.judges.{module}")
    for attribute in path.split("."):
        make = getattr(make, attribute)
    judge: Judge = make(settings)
    return judge
