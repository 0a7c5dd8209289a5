"""Drawing degradations from a recipe.

Each number comes from one `numpy.random.Generator`, in a fixed order, so the seed fixes everything. Only parameters
are drawn here; `bigrestore.degradation.scanner` (patches) and `bigrestore.degradation.section` (whole sections) apply
the same `Degradation` to pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bigrestore.core.kernels import (
    Kernel,
    compose,
    defocus,
    delta,
    fold_downsampling,
    gaussian,
    generalised_gaussian,
    kernel_size,
    motion,
    plateau,
    thickness,
)
from bigrestore.degradation.degradation import (
    Banding,
    Damage,
    Degradation,
    Illumination,
    Lines,
    Noise,
    Resampling,
    SecondPass,
    Sharpening,
    Stain,
    Storage,
    Wave,
    psi_targets,
)
from bigrestore.degradation.learned.learned_recipe import LEARNED_SUFFIX, LearnedRecipe, load_learned
from bigrestore.degradation.schema import Recipe
from bigrestore.degradation.tables import NoiseTable, Range, SecondPassTable, StorageTable

__all__ = [
    "AnyRecipe",
    "Degradation",
    "Range",
    "Recipe",
    "draw_blur",
    "draw_degradations",
    "load_recipe",
    "psi_targets",
]

SECOND_KERNEL_SIZE = 7
"""Side of the second pass's kernel in input pixels."""

_WHOLE_LENGTH_PX = 1e6

Blur = tuple[Kernel, dict[str, float], float]

AnyRecipe = Recipe | LearnedRecipe
"""What `draw_degradations` draws from."""


def load_recipe(name_or_path: str, scale: int) -> AnyRecipe:
    """Read a recipe: a shipped one by name, a TOML file, or a file of `bigrestore train degradation`.

    Raises
    ------
    InputMissingError, UsageError
        As `Recipe.load`.
    ModelError
        A learned recipe is damaged, or of another scale.
    """
    if name_or_path.endswith(LEARNED_SUFFIX):
        return load_learned(name_or_path, scale)
    return Recipe.load(name_or_path)


def draw_degradations(recipe: AnyRecipe, scale: int, n: int, rng: np.random.Generator) -> list[Degradation]:
    """Draw `n` degradations.

    Parameters
    ----------
    recipe : Recipe or LearnedRecipe
        What may happen and how often, or what was learned from pairs.
    scale : int
        1, 2 or 4.
    n : int
        How many; degradation i does not depend on `n`.
    rng : numpy.random.Generator
        The only source of chance.

    Raises
    ------
    UsageError
        If the scale is not 1, 2 or 4.
    """
    kernel_size(scale)
    if isinstance(recipe, LearnedRecipe):
        return [recipe.draw(scale, rng) for _ in range(n)]
    return [_draw_one(recipe, scale, rng) for _ in range(n)]


def _happens(probability: float, rng: np.random.Generator) -> bool:
    return bool(rng.random() < probability)


def _choose(weights: dict[str, float], rng: np.random.Generator) -> str:
    """Draw a key with the probability of its weight."""
    names = list(weights)
    edges = np.cumsum([weights[name] for name in names])
    return names[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(names) - 1)]


def _draw_one(recipe: Recipe, scale: int, rng: np.random.Generator) -> Degradation:
    if recipe.mix:
        names = {str(i): part.weight for i, part in enumerate(recipe.mix)}
        return _draw_one(recipe.mix[int(_choose(names, rng))].recipe, scale, rng)
    size = kernel_size(scale)
    filter_name = _choose(recipe.downsampling.kinds, rng) if scale > 1 else "none"
    if _happens(recipe.identity_probability, rng):
        kernel = delta(size) if scale == 1 else fold_downsampling(delta(size), filter_name, scale)
        return Degradation(scale=scale, kernel=kernel, downsampling=filter_name, identity=True)
    kind, kernel, parameters, thickness_px = _draw_optics(recipe, scale, rng)
    if scale > 1:
        kernel = fold_downsampling(kernel, filter_name, scale)
    return Degradation(
        scale=scale,
        kernel=kernel,
        kind=kind,
        blur=parameters,
        downsampling=filter_name,
        thickness_px=thickness_px,
        stain=_draw_stain(recipe, rng),
        illumination=_draw_illumination(recipe, rng),
        lines=_draw_lines(recipe, rng),
        banding=_draw_banding(recipe, rng),
        damage=_draw_damage(recipe, rng),
        noise=_draw_noise(recipe.noise, rng),
        storage=_draw_storage(recipe.storage, rng),
        second=_draw_second(recipe.second_pass, rng),
        scan_factor=int(_choose(recipe.scanning.factors, rng)),
        resampling=_draw_resampling(recipe, rng),
        sharpening=_draw_sharpening(recipe, rng),
    )


def _draw_optics(
    recipe: Recipe, scale: int, rng: np.random.Generator
) -> tuple[str, Kernel, dict[str, float], float]:
    """Draw the optical blur: kind, kernel on the output grid, parameters, thickness in pixels."""
    size = kernel_size(scale)
    if not _happens(recipe.blur.probability, rng):
        return "none", delta(size), {}, 0.0
    kind = _choose(recipe.blur.kinds, rng)
    kernel, parameters, thickness_px = draw_blur(kind, recipe, scale, rng)
    if _happens(recipe.blur.compose_probability, rng):
        others = {name: weight for name, weight in recipe.blur.kinds.items() if name != kind and weight > 0.0}
        if others:
            second = _choose(others, rng)
            other, more, depth = draw_blur(second, recipe, scale, rng)
            kernel = compose(kernel, other)
            parameters |= {f"{second}_{name}": value for name, value in more.items()}
            thickness_px = max(thickness_px, depth)
    return kind, kernel, parameters, thickness_px


def draw_blur(kind: str, recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    """Draw a blur of one kind: kernel on the output grid, its parameters, thickness in output pixels."""
    return _BLURS[kind](recipe, scale, rng)


def _sigma(recipe: Recipe, scale: int) -> Range:
    sigma: Range = getattr(recipe.blur.sigma_px, f"x{scale}")
    return sigma


def _gaussian(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    sigma = _sigma(recipe, scale).draw(rng)
    return gaussian(kernel_size(scale), sigma), {"sigma_px": sigma}, 0.0


def _ellipse(recipe: Recipe, scale: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw two sigmas and the direction of the second."""
    sigma = _sigma(recipe, scale)
    return sigma.draw(rng), sigma.draw(rng), float(rng.uniform(0.0, math.pi))


def _anisotropic(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    sigma_y, sigma_x, angle = _ellipse(recipe, scale, rng)
    parameters = {"sigma_y_px": sigma_y, "sigma_x_px": sigma_x, "angle_rad": angle}
    return gaussian(kernel_size(scale), sigma_y, sigma_x, angle), parameters, 0.0


def _generalised(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    sigma_y, sigma_x, angle = _ellipse(recipe, scale, rng)
    shape = recipe.blur.shape.draw(rng)
    parameters = {"sigma_y_px": sigma_y, "sigma_x_px": sigma_x, "angle_rad": angle, "shape": shape}
    return generalised_gaussian(kernel_size(scale), sigma_y, sigma_x, angle, shape), parameters, 0.0


def _plateau(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    sigma_y, sigma_x, angle = _ellipse(recipe, scale, rng)
    shape = recipe.blur.plateau_shape.draw(rng)
    parameters = {"sigma_y_px": sigma_y, "sigma_x_px": sigma_x, "angle_rad": angle, "shape": shape}
    return plateau(kernel_size(scale), sigma_y, sigma_x, angle, shape), parameters, 0.0


def _defocus(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    radius = recipe.blur.defocus_radius_px.draw(rng)
    return defocus(kernel_size(scale), radius), {"radius_px": radius}, 0.0


def _motion(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    length, angle = recipe.blur.motion_length_px.draw(rng), float(rng.uniform(0.0, math.pi))
    return motion(kernel_size(scale), length, angle), {"length_px": length, "angle_rad": angle}, 0.0


def _thickness(recipe: Recipe, scale: int, rng: np.random.Generator) -> Blur:
    """Draw the physical numbers and turn them into the two disk radii; radii stop at the kernel's edge."""
    table = recipe.thickness
    depth_um, pixel_um = table.thickness_um.draw(rng), table.pixel_um.draw(rng)
    aperture, focus = table.numerical_aperture.draw(rng), table.focus.draw(rng)
    spread = math.tan(math.asin(min(0.99, aperture / table.refractive_index))) * depth_um / pixel_um
    edge = kernel_size(scale) // 2 - 1.0
    below, above = min(focus * spread, edge), min((1.0 - focus) * spread, edge)
    parameters = {
        "thickness_um": depth_um,
        "pixel_um": pixel_um,
        "numerical_aperture": aperture,
        "focus": focus,
        "below_px": below,
        "above_px": above,
    }
    return thickness(kernel_size(scale), below, above), parameters, depth_um / pixel_um


_BLURS: dict[str, Callable[[Recipe, int, np.random.Generator], Blur]] = {
    "gaussian": _gaussian,
    "anisotropic": _anisotropic,
    "generalised": _generalised,
    "plateau": _plateau,
    "defocus": _defocus,
    "motion": _motion,
    "thickness": _thickness,
}


def _draw_stain(recipe: Recipe, rng: np.random.Generator) -> Stain:
    table = recipe.stain
    if not _happens(table.probability, rng):
        return Stain()
    return Stain(gain=table.gain.draw(rng), density=table.density.draw(rng))


def _draw_illumination(recipe: Recipe, rng: np.random.Generator) -> Illumination | None:
    table = recipe.illumination
    if not _happens(table.probability, rng):
        return None
    return Illumination(
        amplitude=table.amplitude.draw(rng),
        period_px=table.period_px.draw(rng),
        angle_rad=float(rng.uniform(0.0, math.pi)),
        phase_rad=float(rng.uniform(0.0, 2.0 * math.pi)),
    )


def _draw_lines(recipe: Recipe, rng: np.random.Generator) -> Lines | None:
    table = recipe.lines
    if not _happens(table.probability, rng):
        return None
    return Lines(
        jitter_px=table.jitter_px.draw(rng), memory=table.memory.draw(rng), row_gain=table.row_gain.draw(rng)
    )


def _draw_banding(recipe: Recipe, rng: np.random.Generator) -> Banding | None:
    table = recipe.banding
    if not _happens(table.probability, rng):
        return None
    return Banding(
        amplitude=table.amplitude.draw(rng),
        period_px=table.period_px.draw(rng),
        phase_rad=float(rng.uniform(0.0, 2.0 * math.pi)),
        axis=int(rng.integers(2)),
    )


def _draw_damage(recipe: Recipe, rng: np.random.Generator) -> tuple[Damage, ...]:
    table = recipe.damage
    if not _happens(table.probability, rng):
        return ()
    return tuple(_draw_capsule(recipe, rng) for _ in range(round(table.count.draw(rng))))


def _draw_capsule(recipe: Recipe, rng: np.random.Generator) -> Damage:
    """Draw one damaged place; unused numbers are drawn as well, to keep the order fixed."""
    kind = _choose(recipe.damage.kinds, rng)
    y, x, angle, level = (float(value) for value in rng.random(4))
    width = recipe.damage.width_px.draw(rng)
    length_px = float(rng.uniform(8.0, 64.0))
    if kind == "stripe":
        return Damage(kind, y, x, round(angle) * math.pi / 2, _WHOLE_LENGTH_PX, width / 2, level)
    if kind == "scratch":
        bright = 0.8 + 0.2 * level
        return Damage(kind, y, x, angle * math.pi, length_px, max(0.5, width / 8), bright)
    if kind == "dust":
        return Damage(kind, y, x, angle * math.pi, width / 4, width / 2, 0.3 * level)
    return Damage(kind, y, x, angle * math.pi, _WHOLE_LENGTH_PX, width / 2 + 1.0, 0.5 + 0.35 * level)


def _draw_noise(table: NoiseTable, rng: np.random.Generator) -> Noise:
    if not _happens(table.probability, rng):
        return Noise()
    return Noise(
        gain=table.gain.draw(rng),
        read=table.read_255.draw(rng) / 255.0,
        correlated_share=table.correlated_share.draw(rng),
        # Not drawn where it is none: a recipe without it draws what it always drew.
        contrast_gain=table.contrast_gain.draw(rng) if table.contrast_gain.high > 0 else 0.0,
    )


def _draw_storage(table: StorageTable, rng: np.random.Generator) -> Storage:
    """Draw how the pixels are stored; a JPEG has 8 bits in any case."""
    eight = _happens(table.eight_bit_probability, rng)
    phase = (int(rng.integers(8)), int(rng.integers(8)))
    if not _happens(table.jpeg_probability, rng):
        return Storage(bit_depth=8 if eight else 0)
    return Storage(bit_depth=8, jpeg_quality=round(table.jpeg_quality.draw(rng)), jpeg_phase=phase)


def _draw_second(table: SecondPassTable, rng: np.random.Generator) -> SecondPass | None:
    if not _happens(table.probability, rng):
        return None
    return SecondPass(
        kernel=gaussian(SECOND_KERNEL_SIZE, table.sigma_px.draw(rng)),
        noise=_draw_noise(table.noise, rng),
        storage=_draw_storage(table.storage, rng),
    )


WAVES = 2
"""Waves of a registration's shift along each axis."""

STEEPEST_PERIOD = 100.0
"""Least period of a wave, in shifts: a steeper shift folds tissue rather than registers it."""


def _draw_resampling(recipe: Recipe, rng: np.random.Generator) -> Resampling | None:
    """Draw the passes of a registration and its shift: two waves along each axis and a constant."""
    table = recipe.resampling
    if not _happens(table.probability, rng):
        return None
    orders = tuple(_choose(table.orders, rng) for _ in range(int(_choose(table.passes, rng))))
    amplitude = table.amplitude_px.draw(rng)
    constant = amplitude / 4
    waves = [_draw_wave(recipe, (amplitude - constant) / WAVES, amplitude, rng) for _ in range(2 * WAVES)]
    offset = (float(rng.uniform(-constant, constant)), float(rng.uniform(-constant, constant)))
    return Resampling(orders, offset, tuple(waves[:WAVES]), tuple(waves[WAVES:]))


def _draw_sharpening(recipe: Recipe, rng: np.random.Generator) -> Sharpening | None:
    """Draw an unsharp mask; a recipe without any draws what it always drew."""
    table = recipe.sharpening
    if table.probability <= 0.0 or not _happens(table.probability, rng):
        return None
    return Sharpening(amount=table.amount.draw(rng), radius_px=table.radius_px.draw(rng))


def _draw_wave(recipe: Recipe, amplitude_px: float, shift_px: float, rng: np.random.Generator) -> Wave:
    """Draw one wave of a shift of `shift_px` at most."""
    return Wave(
        amplitude_px=amplitude_px,
        period_px=max(recipe.resampling.period_px.draw(rng), STEEPEST_PERIOD * shift_px),
        angle_rad=float(rng.uniform(0.0, 2.0 * math.pi)),
        phase_rad=float(rng.uniform(0.0, 2.0 * math.pi)),
    )
