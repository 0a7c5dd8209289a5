"""The table of methods: each is its module in this folder and one row here.

Outside of this package a method is a module with a `MethodFactory` and an entry point of the group `bigrestore.methods`
(see `bigrestore.model.registry`). A factory imports its method when it is called: asking for an interpolation loads no
network, and listing the methods loads none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from bigrestore.errors import UsageError
from bigrestore.model.method import Method, MethodFactory
from bigrestore.model.options import MethodOption
from bigrestore.settings import RunSettings
from bigrestore.settings.values import AUTO_MAP

if TYPE_CHECKING:
    from bigrestore.model.knowledge import Knowledge
    from bigrestore.model.nets.parts.part import TrainedPart

DEFAULT_MODEL = "tiny"
"""Shipped model that `--method network` takes where no `--model` is given; its scale is the run's."""

METHOD_FLAGS = (
    *("model", "kernel", "blur", "noise", "realness_map", "maps"),
    *("realness", "device", "precision"),
)
"""Settings that a method states in `MethodFactory.flags`, or refuses."""


def _network(settings: RunSettings) -> Method:
    from bigrestore.model.nets.checkpoint import shipped_models
    from bigrestore.model.network import load_network, load_objective

    if settings.model is None and f"{DEFAULT_MODEL}-x{settings.scale}" not in shipped_models():
        raise UsageError(
            f"--scale is {settings.scale}, and no network for it is shipped; give --model FILE, or --method rational or "
            "catmull-rom."
        )
    network = load_network(
        settings.model or DEFAULT_MODEL,
        scale=settings.scale,
        realness=settings.realness,
        device=settings.device,
        precision=settings.precision,
        seed=settings.seed,
        lock=settings.lock,
        kernel=Path(settings.kernel) if settings.kernel else None,
        blur=settings.blur,
        noise=settings.noise,
    )
    if settings.realness_map == AUTO_MAP and network.realness > 0:
        network.follow(load_objective(network.model, settings.objective_model))
    return network


def _rational(settings: RunSettings) -> Method:
    from bigrestore.model.methods.interpolate import InterpolateMethod

    return InterpolateMethod("rational", settings.scale)


def _catmull_rom(settings: RunSettings) -> Method:
    from bigrestore.model.methods.interpolate import InterpolateMethod

    return InterpolateMethod("catmull-rom", settings.scale)


def _wiener(settings: RunSettings, boldness: float) -> Method:
    from bigrestore.model.methods.linear import WienerMethod

    return WienerMethod(settings.scale, _knowledge(settings), boldness=boldness, lock=settings.lock)


def _usrnet(settings: RunSettings) -> Method:
    from bigrestore.model.methods.unrolled import USRNetMethod

    return USRNetMethod(**_with_part("unrolled", settings.scale, settings))


def _dpir(settings: RunSettings, rounds: int) -> Method:
    from bigrestore.model.methods.unrolled import DPIRMethod

    return DPIRMethod(**_with_part("denoiser", 1, settings), rounds=rounds)


def _drunet(settings: RunSettings) -> Method:
    from bigrestore.model.methods.drunet import DRUNetMethod

    return DRUNetMethod(**_with_part("denoiser", 1, settings))


def _srrunet(settings: RunSettings, factor: float) -> Method:
    from bigrestore.model.methods.drunet import SRRUNetMethod

    return SRRUNetMethod(**_with_part("resolver", 1, settings), factor=factor)


def _backbone(settings: RunSettings) -> Method:
    from bigrestore.model.methods.backbone import BackboneMethod

    return BackboneMethod(**_with_part("backbone", settings.scale, settings))


def _with_part(kind: str, scale: int, settings: RunSettings) -> dict[str, Any]:
    """Return what every method with a trained part takes: the part for a scale, what it is told, lock and device."""
    from bigrestore.model.device import choose_device
    from bigrestore.model.nets.parts.part import load_part

    part, device = load_part(kind, scale, settings.model), choose_device(settings.device)
    return {"part": part, "knowledge": _knowledge(settings), "lock": settings.lock, "device": device}


def _gddec(settings: RunSettings, **options: Any) -> Method:
    from bigrestore.model.device import choose_device
    from bigrestore.model.methods.gddec import GDDecMethod, descent_of

    descent = descent_of(
        options["preset"], options["loss"], options["rate"], options["steps"], options["filter"]
    )
    device = choose_device(settings.device)
    return GDDecMethod(settings.scale, _knowledge(settings), descent, lock=settings.lock, device=device)


def _nonblind(settings: RunSettings, **options: Any) -> Method:
    from bigrestore.model.device import choose_device
    from bigrestore.model.methods.gddec import read_smoothing
    from bigrestore.model.methods.nonblind import NonBlindMethod

    return NonBlindMethod(
        settings.scale,
        _knowledge(settings),
        denoiser=_chain_part("denoiser", options) if options["denoise"] else None,
        resolver=_chain_part("resolver", options) if options["resolve"] else None,
        factor=options["factor"],
        deconvolve=options["deconvolve"],
        smoothing=read_smoothing(options["filter"]),
        lock=settings.lock,
        device=choose_device(settings.device),
    )


def _chain_part(kind: str, options: dict[str, Any]) -> TrainedPart:
    from bigrestore.model.nets.parts.part import load_part

    return load_part(kind, 1, options[kind] or None, option=f"--set {kind}=FILE")


def _latent(settings: RunSettings, **options: Any) -> Method:
    from bigrestore.model.methods.latent import LatentMethod, search_of
    from bigrestore.model.nets.parts.part import load_part
    from bigrestore.model.network import load_network

    file = options.pop("likelihood_model")
    search = search_of(**options)
    if file and not search.likelihood:
        raise UsageError(
            f"--set likelihood_model is {file}, and the weight of the likelihood is 0; give --set likelihood=1, or leave "
            "it out."
        )
    part = None
    if search.likelihood:
        part = load_part("likelihood", settings.scale, file or None, option="--set likelihood_model=FILE")
    network = load_network(
        settings.model or DEFAULT_MODEL,
        scale=settings.scale,
        realness=0.0,
        device=settings.device,
        precision="fp32",
        seed=settings.seed,
        lock=settings.lock,
        kernel=Path(settings.kernel) if settings.kernel else None,
        blur=settings.blur,
        noise=settings.noise,
    )
    return LatentMethod(network, search, part)


def _median_filter(settings: RunSettings, side: int) -> Method:
    from bigrestore.model.methods.linear import MedianMethod

    return MedianMethod(side)


def _external(settings: RunSettings) -> Method:
    from bigrestore.model.device import choose_device
    from bigrestore.model.methods.external import ExternalMethod
    from bigrestore.model.nets.foreign.load import FOREIGN_SUFFIXES, load_foreign

    if settings.model is None:
        *most, last = FOREIGN_SUFFIXES
        raise UsageError(
            f"--method external runs a network of another project; name its file by --model ({', '.join(most)} or {last})."
        )
    device = choose_device(settings.device)
    network = load_foreign(settings.model, settings.scale, device, settings.precision)
    return ExternalMethod(network, _knowledge(settings), lock=settings.lock, device=device)


def _knowledge(settings: RunSettings) -> Knowledge:
    """Return what a method is told of each section: the user's kernel and noise, else those that the estimator reads."""
    from bigrestore.model.knowledge import (
        Knowledge,
        StoredEstimator,
        stated_kernel,
        trained_limit,
        wide_limit,
    )

    method, scale = settings.method, settings.scale
    limit = trained_limit(scale) if method in TRAINED_ON_KERNELS else wide_limit(method, scale)
    kernel = stated_kernel(Path(settings.kernel) if settings.kernel else None, settings.blur, scale, limit)
    noise = None if settings.noise is None else settings.noise / 255
    return Knowledge(StoredEstimator(DEFAULT_MODEL, scale), scale, kernel, noise, limit)


TRAINED_ON_KERNELS = frozenset({"usrnet"})
"""Methods told a blur whose network has seen kernels: theirs are the widest."""

TOLD_FLAGS = ("kernel", "blur", "noise", "maps")
"""Settings that every method heeds that is told blur and noise."""

BOLDNESS_OPTION = MethodOption(
    "boldness",
    float,
    1.0,
    "Factor on the noise: 0.1 sharpens most, 10 least.",
    "0.1, 1 or 10",
    lambda value: value in (0.1, 1.0, 10.0),
)
GDDEC_OPTIONS = (
    MethodOption(
        "preset",
        str,
        "tissue",
        "tissue stops at the noise; thesis is the published setting, for images without noise.",
        "tissue or thesis",
        lambda value: value in ("tissue", "thesis"),
    ),
    MethodOption(
        "loss",
        str,
        "preset",
        "Distance of the degraded image to the input.",
        "l1, l2, ssim or preset",
        lambda value: value in ("l1", "l2", "ssim", "preset"),
    ),
    MethodOption(
        "rate",
        float,
        0.0,
        "Largest change of a pixel in a step, of 1; 0: the preset's.",
        "a number from 0 to 1",
        lambda value: 0 <= value <= 1,
    ),
    MethodOption(
        "steps",
        str,
        "preset",
        "Number of steps; auto: until the residual has reached the noise.",
        "a whole number from 1 to 5000, auto or preset",
        lambda value: value in ("auto", "preset") or (value.isdecimal() and 1 <= int(value) <= 5000),
    ),
    MethodOption(
        "filter",
        str,
        "preset",
        "Smoothing within edges afterwards: width in pixels, and the change of grey (of 1) that is an edge.",
        "S,R with numbers above 0, auto, none or preset",
        lambda value: value in ("auto", "none", "preset") or _two_positive(value),
    ),
)


def _two_positive(text: str) -> bool:
    parts = text.split(",")
    try:
        return len(parts) == 2 and all(0 < float(part) < 1e4 for part in parts)
    except ValueError:
        return False


ROUNDS_OPTION = MethodOption(
    "rounds",
    int,
    8,
    "Rounds of data step and denoiser.",
    "a whole number from 1 to 50",
    lambda value: 1 <= value <= 50,
)
FACTOR_OPTION = MethodOption(
    "factor",
    float,
    2.0,
    "By how much the section was enlarged.",
    "a number from 1 to 4",
    lambda value: 1 <= value <= 4,
)
NONBLIND_OPTIONS = (
    MethodOption("denoise", bool, True, "Whether noise is taken away first.", "true or false"),
    MethodOption("deconvolve", bool, True, "Whether the blur is undone.", "true or false"),
    MethodOption(
        "filter",
        str,
        "auto",
        "Smoothing within edges: width in pixels, and the change of grey (of 1) that is an edge.",
        "S,R with numbers above 0, auto or none",
        lambda value: value in ("auto", "none") or _two_positive(value),
    ),
    MethodOption("resolve", bool, False, "Whether a resolver comes last.", "true or false"),
    attrs.evolve(
        FACTOR_OPTION,
        help="By how much the section was enlarged before, for the resolver; the scale of the run comes on top.",
    ),
    MethodOption("denoiser", str, "", "File of the denoiser; empty: the shipped one.", "a file"),
    MethodOption("resolver", str, "", "File of the resolver; empty: the shipped one.", "a file"),
)
LATENT_OPTIONS = (
    MethodOption(
        "preset",
        str,
        "mmd",
        "mmd searches w near samples of the mapping network; pulse is the search of PULSE in z.",
        "mmd or pulse",
        lambda value: value in ("mmd", "pulse"),
    ),
    MethodOption(
        "steps",
        int,
        100,
        "Steps of the search.",
        "a whole number from 1 to 5000",
        lambda value: 1 <= value <= 5000,
    ),
    MethodOption(
        "rate",
        float,
        0.4,
        "Largest rate of Adam; 0.1 where codes leave their sphere.",
        "a number above 0, 10 at most",
        lambda value: 0 < value <= 10,
    ),
    MethodOption(
        "start",
        str,
        "preset",
        "Codes to begin with: the mean, random ones, or what the network reads off the input.",
        "mean, random, read or preset",
        lambda value: value in ("mean", "random", "read", "preset"),
    ),
    MethodOption(
        "mmd",
        float,
        -1.0,
        "Weight of the maximum mean discrepancy of the codes; -1: the preset's, 3 or 0.",
        "a number from 0 to 1000, or -1",
        lambda value: value == -1 or 0 <= value <= 1000,
    ),
    MethodOption(
        "cross",
        float,
        0.05,
        "Weight of the angles between the layers of a place.",
        "a number from 0 to 1000",
        lambda value: 0 <= value <= 1000,
    ),
    MethodOption("spherical", bool, True, "Whether codes stay on their sphere.", "true or false"),
    MethodOption(
        "likelihood",
        float,
        0.0,
        "Weight of the bits of the input given the image; takes ten times as long.",
        "a number from 0 to 1000",
        lambda value: 0 <= value <= 1000,
    ),
    MethodOption(
        "likelihood_model",
        str,
        "",
        "File of `train likelihood`; empty: the shipped one.",
        "a file",
    ),
    MethodOption(
        "objective",
        str,
        "preset",
        "Images compared by pixels in deviations of the noise (l2), or after averaging cells of F pixels.",
        "l2, downscale:F with F of 2, 4, 8, 16 or 32, or preset",
        lambda value: value in ("l2", "preset", *(f"downscale:{cell}" for cell in (2, 4, 8, 16, 32))),
    ),
    MethodOption(
        "space",
        str,
        "preset",
        "Codes behind the mapping network (w) or before it (z).",
        "w, z or preset",
        lambda value: value in ("w", "z", "preset"),
    ),
    MethodOption(
        "noise",
        str,
        "off",
        "The generator's noise: off, or hashed from the places of pixels.",
        "off or hashed",
        lambda value: value in ("off", "hashed"),
    ),
)
SIDE_OPTION = MethodOption(
    "side", int, 3, "Side of the square, pixels.", "3 or 5", lambda value: value in (3, 5)
)

METHODS: dict[str, MethodFactory] = {
    "network": MethodFactory(
        _network,
        "Restores by a trained network.",
        flags=METHOD_FLAGS,
        maps=("residual", "invented", "uncertainty", "realness"),
        speed="0.7",
    ),
    "rational": MethodFactory(_rational, "Enlarges along edges; adds no detail.", speed="4"),
    "catmull-rom": MethodFactory(_catmull_rom, "Enlarges by cubic interpolation; adds no detail.", speed="4"),
    "wiener": MethodFactory(
        _wiener,
        "Undoes a known blur by the linear filter of least mean square error.",
        options=(BOLDNESS_OPTION,),
        flags=TOLD_FLAGS,
        maps=("residual",),
        speed="3",
    ),
    "drunet": MethodFactory(
        _drunet,
        "Takes noise away by a denoiser told its strength; leaves the blur.",
        scales=(1,),
        flags=("model", "noise", "maps", "device"),
        maps=("residual",),
        speed="0.3",
    ),
    "usrnet": MethodFactory(
        _usrnet,
        "Undoes a known blur by rounds of data step and denoiser, trained together.",
        flags=("model", *TOLD_FLAGS, "device"),
        maps=("residual",),
        speed="0.1",
    ),
    "dpir": MethodFactory(
        _dpir,
        "Undoes a known blur by rounds of data step and a denoiser trained on noise alone.",
        options=(ROUNDS_OPTION,),
        flags=("model", *TOLD_FLAGS, "device"),
        maps=("residual",),
        speed="0.025",
    ),
    "gddec": MethodFactory(
        _gddec,
        "Undoes a known blur by gradient descent on the image itself.",
        options=GDDEC_OPTIONS,
        flags=(*TOLD_FLAGS, "device"),
        maps=("residual",),
        speed="0.02 to 0.3",
    ),
    "srrunet": MethodFactory(
        _srrunet,
        "Raises the resolution of a section that was enlarged before; its size stays.",
        options=(FACTOR_OPTION,),
        scales=(1,),
        flags=("model", "maps", "device"),
        maps=("residual",),
        speed="0.3",
    ),
    "nonblind": MethodFactory(
        _nonblind,
        "A chain: denoiser, gradient descent, smoothing within edges, and a resolver if asked for.",
        options=NONBLIND_OPTIONS,
        flags=(*TOLD_FLAGS, "device"),
        maps=("residual",),
        speed="0.02 to 0.1",
    ),
    "backbone": MethodFactory(
        _backbone,
        "Restores by an architecture of the field that you trained: Uformer, DeepRFT, HAT or a U-Net.",
        scales=(1, 2),
        flags=("model", *TOLD_FLAGS, "device"),
        maps=("residual",),
        speed="0.01 to 0.2",
    ),
    "external": MethodFactory(
        _external,
        "Runs a network of another project, from its file of weights or ONNX.",
        flags=("model", *TOLD_FLAGS, "device", "precision"),
        maps=("residual",),
    ),
    "latent": MethodFactory(
        _latent,
        "Searches the prior for tissue that the input allows: it invents, is slow, and is for looking at a region.",
        options=LATENT_OPTIONS,
        scales=(1, 2),
        flags=("model", *TOLD_FLAGS, "device"),
        maps=("residual", "invented"),
        speed="0.003",
        default_maps=("invented",),
        most_mpx=4.0,
    ),
    "median": MethodFactory(
        _median_filter,
        "Takes single bright or dark pixels away.",
        options=(SIDE_OPTION,),
        scales=(1,),
        speed="10",
    ),
}
