"""The stages of training by name: one literal table, without torch, for the command line.

Adding a stage is its module and one row here. The module has a `StageBuilder`: its plan, and the function that builds it
(see `bigrestore.training.stages.assembly`).
"""

from __future__ import annotations

from typing import Literal

import attrs

GeneratorNeed = Literal["none", "new", "trained"]


@attrs.frozen
class StageRow:
    """One stage.

    Attributes
    ----------
    name : str
        Of the command and of the record in the model.
    help : str
        For the command line.
    needs : str, optional
        Stage to be trained before; None: a new model will do.
    builder : str
        `module:NAME` of its `StageBuilder`, in `bigrestore.training.stages`.
    rate : float
        Highest learning rate by default.
    generator : {"none", "new", "trained"}
        Whether its model has a generator, possibly a new one.
    takes_recipe, takes_prior, takes_start : bool
        Whether `--recipe`, `--prior` and `--start` mean something to it.
    grows : bool
        Whether it may start from a model of a smaller scale, by `--start`.
    undoes : tuple of str
        Stages to be trained again after this one.
    part : str, optional
        Kind of the part it trains (`bigrestore.model.nets.parts.part`); None: the restorer.
    scales : tuple of int
        Its scales.
    recipe : str
        Its degradations by default.
    """

    name: str
    help: str
    needs: str | None
    builder: str
    rate: float
    generator: GeneratorNeed = "none"
    takes_recipe: bool = True
    takes_prior: bool = False
    takes_start: bool = True
    grows: bool = False
    undoes: tuple[str, ...] = ()
    part: str | None = None
    scales: tuple[int, ...] = (1, 2, 4)
    recipe: str = "default"

    @property
    def left_out(self) -> tuple[str, ...]:
        """Options of a training without meaning for it."""
        takes = {
            "recipe": self.takes_recipe,
            "prior": self.takes_prior,
            "start": self.takes_start,
            "preset": self.part is None,
            "arch": self.part == "backbone",
            "fusion": self.name == "bridge",
            "features": self.name == "resolver",
            "model": self.name == "objective",
            "lpips_backbone": self.name == "objective",
            "scale": len(self.scales) > 1,
        }
        return tuple(name for name, taken in takes.items() if not taken)


_JOINED = ("bridge", "polish")
"""Stages that join a U-Net and a prior: a new one of either is not joined to the other."""

STAGE_ROWS = (
    StageRow(
        "estimator",
        "Stage 0: learn to read blur and noise off windows of tissue.",
        needs=None,
        builder="estimator:ESTIMATOR",
        rate=1e-3,
    ),
    StageRow(
        "fidelity",
        "Stage 1: learn to undo a known degradation; starts from a model with a trained estimator.",
        needs="estimator",
        builder="fidelity:FIDELITY",
        rate=8e-4,
        grows=True,
        undoes=_JOINED,
    ),
    StageRow(
        "prior",
        "Stage 2: learn what tissue looks like, as a GAN on clean windows; starts from a model with fidelity.",
        needs="fidelity",
        builder="prior:PRIOR",
        rate=2e-3,
        generator="new",
        takes_recipe=False,
        takes_prior=True,
        undoes=_JOINED,
    ),
    StageRow(
        "bridge",
        "Stage 3: let the prior say what the data say; starts from a model with a trained prior.",
        needs="prior",
        builder="bridge:BRIDGE",
        rate=5e-4,
        generator="trained",
        takes_prior=True,
    ),
    StageRow(
        "polish",
        "Stage 4: all that lies between data and prior, and the prior, at a small rate; starts from a bridged model.",
        needs="bridge",
        builder="bridge:BRIDGE",
        rate=1e-4,
        generator="trained",
    ),
    StageRow(
        "denoiser",
        "A part for --method drunet: learn to take known noise out of tissue.",
        needs=None,
        builder="parts.denoiser:DENOISER",
        rate=1e-3,
        part="denoiser",
        scales=(1,),
        recipe="noise",
    ),
    StageRow(
        "unrolled",
        "A part for --method usrnet: learn to undo a told blur by rounds of data step and denoiser.",
        needs=None,
        builder="parts.unrolled:UNROLLED",
        rate=1e-3,
        grows=True,
        part="unrolled",
    ),
    StageRow(
        "resolver",
        "A part for --method srrunet: learn to undo enlargements; starts from a denoiser.",
        needs="denoiser",
        builder="parts.resolver:RESOLVER",
        rate=2e-4,
        takes_recipe=False,
        part="resolver",
        scales=(1,),
    ),
    StageRow(
        "backbone",
        "A part for --method backbone: learn to restore blind by an architecture of the field.",
        needs=None,
        builder="parts.backbone:BACKBONE",
        rate=8e-4,
        part="backbone",
        scales=(1, 2),
    ),
    StageRow(
        "likelihood",
        "A judge for --metrics likelihood and --maps unlikely: learn how likely an input is, given its restoration.",
        needs=None,
        builder="parts.likelihood:LIKELIHOOD",
        rate=2e-3,
        part="likelihood",
    ),
    StageRow(
        "ranking",
        "A judge for --metrics rankiqa: learn to order distortions of tissue.",
        needs=None,
        builder="parts.ranking:RANKING",
        rate=1e-3,
        takes_recipe=False,
        part="ranking",
        scales=(1,),
    ),
    StageRow(
        "objective",
        "A part for --realness-map auto: learn how much of the prior's detail each place bears.",
        needs=None,
        builder="parts.objective:OBJECTIVE",
        rate=1e-3,
        takes_start=False,
        part="objective",
    ),
    StageRow(
        "degradation",
        "A recipe learned from pairs of a degraded and a clean image of one place, for --recipe.",
        needs=None,
        builder="parts.degradation:DEGRADATION",
        rate=1e-3,
        takes_recipe=False,
        takes_start=False,
        part="degradation",
    ),
)

STAGES: dict[str, StageRow] = {row.name: row for row in STAGE_ROWS}
"""Those of restorers in the order in which they are trained, then those of parts."""
