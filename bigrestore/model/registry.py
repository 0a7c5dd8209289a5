"""The methods by name: one literal dict, so that adding a method is one function and one line.

A factory imports its method when it is called: asking for an interpolation loads no network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bigrestore.errors import UsageError
from bigrestore.model.method import Method
from bigrestore.settings import RunSettings

DEFAULT_MODEL = "tiny"
"""Shipped model that `--method network` takes where no `--model` is given; its scale is the run's."""


def _network(settings: RunSettings) -> Method:
    from bigrestore.model.nets.checkpoint import shipped_models
    from bigrestore.model.network import load_network

    if settings.model is None and f"{DEFAULT_MODEL}-x{settings.scale}" not in shipped_models():
        raise UsageError(
            f"--scale is {settings.scale}, and no network for it is shipped; give --model FILE, or --method rational or "
            "catmull-rom."
        )
    return load_network(
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


def _rational(settings: RunSettings) -> Method:
    from bigrestore.model.interpolate import InterpolateMethod

    _refuse_network_flags(settings)
    return InterpolateMethod("rational", settings.scale)


def _catmull_rom(settings: RunSettings) -> Method:
    from bigrestore.model.interpolate import InterpolateMethod

    _refuse_network_flags(settings)
    return InterpolateMethod("catmull-rom", settings.scale)


METHODS: dict[str, Callable[[RunSettings], Method]] = {
    "network": _network,
    "rational": _rational,
    "catmull-rom": _catmull_rom,
}


def create_method(settings: RunSettings) -> Method:
    """Make the method that the settings name.

    Raises
    ------
    UsageError
        Where there is no such method, or a flag means nothing to it.
    ModelError, InputMissingError
        Where its model cannot be loaded.
    """
    if settings.method not in METHODS:
        raise UsageError(f"--method is {settings.method!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[settings.method](settings)


def _refuse_network_flags(settings: RunSettings) -> None:
    """Say that a flag of the network was given to a method that would ignore it."""
    for name in ("model", "kernel", "blur", "noise"):
        if getattr(settings, name) is not None:
            raise UsageError(f"--{name} means nothing to --method {settings.method}; leave it out.")
    for name in ("realness_map", "maps"):
        if getattr(settings, name):
            raise UsageError(
                f"--{name.replace('_', '-')} needs a network, and --method {settings.method} is none; leave it out."
            )
    if settings.realness:
        raise UsageError(
            f"--realness needs a network, --method {settings.method} adds nothing; leave it out."
        )
    if settings.device not in ("auto", "cpu"):
        raise UsageError(f"--method {settings.method} runs on the CPU; leave --device {settings.device} out.")
    if settings.precision not in ("auto", "fp32"):
        raise UsageError(
            f"--method {settings.method} computes in fp32; leave --precision {settings.precision} out."
        )
