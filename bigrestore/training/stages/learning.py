"""Learn a degradation from pairs: the fit that is always made, and a network beside it if it is asked for.

The file is a recipe as soon as the fit is there; a training of the network replaces it in the end.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import attrs

from bigrestore.degradation.recipe import Recipe
from bigrestore.errors import OutputExistsError, output_error
from bigrestore.model.nets.checkpoint import read_weights
from bigrestore.model.nets.parts.learned_degradation import LearnedDegradation
from bigrestore.settings.train import StageOptions
from bigrestore.training.fitting.fit import PairsFit, fit_windows
from bigrestore.training.fitting.real_pairs import open_pairs, register_pairs
from bigrestore.training.loop.schedule import TrainResult
from bigrestore.training.stages.card import sources_of, write_card
from bigrestore.training.stages.parts.degradation import DEGRADATION, PairsMaterial, save_fit
from bigrestore.training.stages.stage import train_stage

log = logging.getLogger(__name__)

LEARNED_STAGE = "degradation"
RECIPE_BESIDE = "default"
"""What half of the twins of the network are degraded by."""


@attrs.frozen(eq=False)
class Learned:
    """A learned degradation.

    Attributes
    ----------
    fit : PairsFit
    trained : TrainResult or None
        None for the fit alone.
    """

    fit: PairsFit
    trained: TrainResult | None


def learn_degradation(
    pairs: Path | None,
    sections: tuple[str | None, str | None],
    output: Path,
    options: StageOptions,
    *,
    network: bool,
) -> Learned:
    """Learn a degradation and write it.

    Parameters
    ----------
    pairs : Path, optional
        Folder with `lq/` and `hq/`; or
    sections : (str or None, str or None)
        a degraded and a clean section.
    output : Path
        File to write, .safetensors.
    options : StageOptions
        Scale, and what the training of the network takes.
    network : bool
        Whether a network is trained beside the fit.

    Raises
    ------
    UsageError, InputError
        See `bigrestore.training.fitting.real_pairs`.
    OutputExistsError
        There is another kind of file, or a trained network that a fit would replace.
    """
    _require_output(output, network=network, resume=options.resume)
    opened = open_pairs(pairs, *sections, options.scale)
    where = str(pairs) if pairs is not None else f"{sections[0]} and {sections[1]}"
    fit = fit_windows(register_pairs(opened, options.scale, where), options.scale)
    sources = None if pairs is None else sources_of(pairs)
    if not network or not output.exists():
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(output.parent, error) from error
        save_fit(output, LearnedDegradation(len(fit.fits), fit.kernels.shape[-1], fit.scale), fit)
        write_card(output, read_weights(output)[0], sources)
    if not network:
        return Learned(fit, None)
    recipe = Recipe.load(RECIPE_BESIDE)
    digest = hashlib.sha256(fit.kernels.tobytes()).hexdigest()[
        :8
    ]  # other pairs of the same name have another
    material = PairsMaterial(
        f"{Path(where).name} ({digest})", [], [], recipe, RECIPE_BESIDE, sources=sources, fit=fit
    )
    sizes = {"windows": len(fit.fits), "kernel_px": fit.kernels.shape[-1], "network": True}
    plan = attrs.evolve(DEGRADATION.plan, sizes=sizes, from_output=False)
    return Learned(fit, train_stage(LEARNED_STAGE, material, output, options, plan))


def _require_output(output: Path, *, network: bool, resume: bool) -> None:
    """Refuse to replace a file that is no fit."""
    if not output.is_file():
        return
    info = read_weights(output)[0]
    if info.get("kind") != LEARNED_STAGE:
        raise OutputExistsError(
            f"{output} is a model of another kind; choose another name for the learned degradation."
        )
    if info["sizes"].get("network") and not (network and resume):
        what = "training" if network else "fit"
        raise OutputExistsError(
            f"{output} holds a trained network, which a new {what} would replace; choose another name, or remove it."
        )
