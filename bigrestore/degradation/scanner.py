"""Degrading a batch of patches on their device.

Training draws new degradations for every step, so this is written for speed: all patches of a batch go through each
step together, and a step of some patches runs on those alone. Chance comes from one `torch.Generator`. The order of
the steps is nature's: stain, blur and sampling by the lens and the camera, light and lines of the scanner, damage of
the glass, noise, sharpening, registration, storage, and sometimes a second, weaker pass. Light is applied on the input
grid: it changes so slowly as to pass the blur unchanged, and the input grid is up to sixteen times smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import sent
from bigrestore.core.kernels import kernel_size
from bigrestore.degradation import steps
from bigrestore.degradation.degradation import Degradation, Noise, Storage
from bigrestore.degradation.jpeg import JPEG_BLOCK_PX, jpeg_round_trip
from bigrestore.errors import UsageError

FRAME_PX = 8
"""Context around a patch, in input pixels, for the steps after the blur: line shifts, JPEG, second kernel."""

_HIDDEN = 0.05


def margin_px(scale: int) -> int:
    """Return the margin, in output pixels, on each side of a clean patch: 18, 26, 52 at x1, x2, x4."""
    return kernel_size(scale) // 2 + scale * FRAME_PX


def degrade_batch(
    clean: Tensor, degradations: Sequence[Degradation], scale: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Degrade clean patches.

    Parameters
    ----------
    clean : Tensor, (N, 1, scale * h + 2 m, scale * w + 2 m), float32
        Clean grey values 0..1 with a margin m = `margin_px(scale)` of real image around each patch.
    degradations : sequence of Degradation, (N,)
        What happens to each patch.
    scale : int
        1, 2 or 4, as in the degradations.
    generator : torch.Generator
        The only source of chance; on the device of `clean`.

    Returns
    -------
    degraded : Tensor, (N, 1, h, w)
        Degraded patches, 0..1.
    valid : Tensor, (N, 1, h, w)
        1 for visible tissue, 0 for hidden tissue.
    target : Tensor, (N, 1, scale * h, scale * w)
        The clean patches without margin, stained like the degraded ones, never sharpened.

    Raises
    ------
    UsageError
        If the shapes, the number of degradations and the scale do not go together.
    """
    margin = margin_px(scale)
    height, width = ((side - 2 * margin) // scale for side in clean.shape[-2:])
    _check_batch(clean, degradations, scale)
    stained = _stain(clean[:, 0], degradations)
    target = stained[:, margin:-margin, margin:-margin]
    seen = _displace(stained, degradations, scale)
    work = _blur_and_sample(seen, degradations, scale, height + 2 * FRAME_PX, width + 2 * FRAME_PX)
    work = _synthesise(work, seen, degradations, scale)
    work = _light_and_lines(work, degradations, generator)
    work, valid = _damage(work, degradations)
    work = _add_noise(work, [d.scan_noise for d in degradations], generator)
    work = _sharpen(work, degradations)
    work = _register(work, degradations)
    work = _store_batch(work, [d.storage for d in degradations])
    work = _second_pass(work, degradations, generator)
    inner = (slice(None), slice(FRAME_PX, FRAME_PX + height), slice(FRAME_PX, FRAME_PX + width))
    return work[inner][:, None].contiguous(), valid[inner][:, None].contiguous(), target[:, None].contiguous()


def _check_batch(clean: Tensor, degradations: Sequence[Degradation], scale: int) -> None:
    margin = margin_px(scale)
    if clean.ndim != 4 or clean.shape[1] != 1:
        raise UsageError(f"Clean patches have the shape {tuple(clean.shape)}; give (N, 1, H, W).")
    if clean.shape[0] != len(degradations):
        raise UsageError(
            f"There are {clean.shape[0]} patches but {len(degradations)} degradations; give one each."
        )
    if any((side - 2 * margin) % scale or side - 2 * margin < scale for side in clean.shape[-2:]):
        raise UsageError(
            f"Clean patches of {tuple(clean.shape[-2:])} px do not fit: at x{scale} a side is a multiple of "
            f"{scale} plus a margin of {margin} px on both sides."
        )
    other = {d.scale for d in degradations} - {scale}
    if other:
        raise UsageError(
            f"A degradation was drawn for x{min(other)} but x{scale} is asked for; draw it anew."
        )


def _subset(values: Tensor, chosen: list[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the chosen patches of a batch; no copies if all or none are chosen."""
    if not chosen:
        return values
    if len(chosen) == values.shape[0]:
        return change(values)
    index = sent(chosen, values.device)
    return values.index_copy(0, index, change(values[index]))


def _column(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers, one per patch, in the shape (N, 1, 1)."""
    return sent(numbers, like.device, like.dtype)[:, None, None]


def _stain(clean: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    slopes = [d.stain.gain * d.stain.density for d in degradations]
    gains = [d.stain.gain for d in degradations]
    if all(gain == slope == 1.0 for gain, slope in zip(gains, slopes, strict=True)):
        return clean
    slope = _column(slopes, clean)
    return torch.addcmul(_column(gains, clean) - slope, clean, slope).clamp_(0.0, 1.0)


def _blur_and_sample(
    images: Tensor, degradations: Sequence[Degradation], scale: int, height: int, width: int
) -> Tensor:
    """Correlate each patch with its kernel at every `scale`-th pixel; a single tap only picks pixels."""
    start = (scale - 1) // 2
    middle = kernel_size(scale) // 2
    picked = images[:, start + middle :: scale, start + middle :: scale][:, :height, :width]
    blurred = [i for i, d in enumerate(degradations) if np.count_nonzero(d.kernel) > 1]
    if not blurred:
        return picked
    index = sent(blurred, images.device)
    everything = len(blurred) == len(degradations)
    # One grouped convolution for all, its kernels cut to the widest of them.
    kernels = np.stack([degradations[i].kernel for i in blurred])
    reach = int(np.abs(np.argwhere(kernels != 0.0)[:, 1:] - middle).max())
    inner = slice(middle - reach, middle + reach + 1)
    weights = sent(np.ascontiguousarray(kernels[:, None, inner, inner]), images.device, images.dtype)
    first = start + middle - reach
    source = (images if everything else images[index])[None, :, first:, first:]
    result = F.conv2d(source, weights, stride=scale, groups=len(blurred))[0, :, :height, :width]
    return result if everything else picked.index_copy(0, index, result)


def _synthesise(images: Tensor, clean: Tensor, degradations: Sequence[Degradation], scale: int) -> Tensor:
    """Add what networks learned from pairs add; a frame of 8 px holds their reach."""
    if all(d.synthesis is None for d in degradations):
        return images
    first = kernel_size(scale) // 2
    rows, columns = (slice(first, first + scale * side) for side in images.shape[-2:])
    return torch.stack(
        [
            image if d.synthesis is None else image + d.synthesis.added(hidden[rows, columns])
            for image, hidden, d in zip(images, clean, degradations, strict=True)
        ]
    )


def _frame_positions(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, dtype=torch.float64, device=device) - FRAME_PX


def _displace(clean: Tensor, degradations: Sequence[Degradation], scale: int) -> Tensor:
    """Move tissue to its place in the scan; the registration brings it back."""
    if all(d.resampling is None for d in degradations):
        return clean
    margin = margin_px(scale)
    ys, xs = (
        (torch.arange(side, dtype=torch.float64, device=clean.device) - margin + 0.5) / scale - 0.5
        for side in clean.shape[-2:]
    )
    seen = []
    for image, degradation in zip(clean, degradations, strict=True):
        if degradation.resampling is not None:
            _, (along_y, along_x) = steps.registration_shifts(degradation.resampling, ys, xs)
            image = steps.displaced(image, (along_y * scale, along_x * scale))
        seen.append(image)
    return torch.stack(seen)


def _register(images: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """Resample scans into register with the clean images."""
    if all(d.resampling is None for d in degradations):
        return images
    ys, xs = (_frame_positions(side, images.device) for side in images.shape[-2:])
    brought = []
    for image, degradation in zip(images, degradations, strict=True):
        if degradation.resampling is not None:
            shift, _ = steps.registration_shifts(degradation.resampling, ys, xs)
            image = steps.registered(image, shift, degradation.resampling.orders)
        brought.append(image)
    return torch.stack(brought)


def _light_and_lines(
    images: Tensor, degradations: Sequence[Degradation], generator: torch.Generator
) -> Tensor:
    """Apply uneven light, line jitter, row gain and banding."""
    ys, xs = (_frame_positions(side, images.device) for side in images.shape[-2:])
    images = images.clone()
    for image, degradation in zip(images, degradations, strict=True):
        if degradation.illumination is not None:
            image *= steps.light(degradation.illumination, ys, xs)
    chosen = [i for i, d in enumerate(degradations) if d.lines is not None]
    images = _subset(images, chosen, lambda part: _lines(part, [degradations[i] for i in chosen], generator))
    for image, degradation in zip(images, degradations, strict=True):
        if degradation.banding is not None:
            along_y = degradation.banding.axis == 0
            profile = steps.bands(degradation.banding, ys if along_y else xs)
            image *= profile[:, None] if along_y else profile[None, :]
    return images


def _lines(images: Tensor, degradations: Sequence[Degradation], generator: torch.Generator) -> Tensor:
    lines = [d.lines for d in degradations if d.lines is not None]
    rows = images.shape[-2] + steps.MEMORY_ROWS - 1
    white = torch.randn(2 * len(lines), rows, generator=generator, device=images.device)
    memory = sent([line.memory for line in lines], images.device)
    process = steps.line_process(white, memory.repeat(2))
    shifts, gains = process[: len(lines)], process[len(lines) :]
    shifts = shifts * sent([line.jitter_px for line in lines], images.device)[:, None]
    gains = gains * sent([line.row_gain for line in lines], images.device)[:, None] + 1.0
    padded = F.pad(images[:, None], (2, 2, 0, 0), mode="replicate")[:, 0]
    shifted: Tensor = steps.shift_rows(padded, shifts) * gains[..., None]
    return shifted


def _damage(images: Tensor, degradations: Sequence[Degradation]) -> tuple[Tensor, Tensor]:
    """Hide tissue; return the images and the validity of each pixel."""
    valid = torch.ones_like(images)
    height, width = (side - 2 * FRAME_PX for side in images.shape[-2:])
    ys, xs = (_frame_positions(side, images.device).float() for side in images.shape[-2:])
    for n, degradation in enumerate(degradations):
        for damage in degradation.damage:
            images[n], cover = steps.damaged(images[n], damage, ys - damage.y * height, xs - damage.x * width)
            valid[n] *= cover <= _HIDDEN
    return images, valid


def _add_noise(images: Tensor, noises: Sequence[Noise], generator: torch.Generator) -> Tensor:
    chosen = [i for i, noise in enumerate(noises) if not noise.silent]

    def add(part: Tensor) -> Tensor:
        n, height, width = part.shape
        white = torch.randn(n, height, width, generator=generator, device=part.device)
        rough = torch.randn(n, height + 4, width + 4, generator=generator, device=part.device)
        share, gain, read, contrast_gain = (
            _column([getattr(noises[i], name) for i in chosen], part)
            for name in ("correlated_share", "gain", "read", "contrast_gain")
        )
        field = steps.noise_field(white, steps.smooth_noise(rough), share)
        asked = any(noises[i].contrast_gain > 0.0 for i in chosen)
        contrast = contrast_gain * steps.local_contrast(part) if asked else None
        return steps.noisy(part, field, gain, read, contrast)

    return _subset(images, chosen, add)


def _sharpen(images: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """Apply unsharp masks."""
    chosen = [i for i, d in enumerate(degradations) if d.sharpening is not None]
    masks = [mask for d in degradations if (mask := d.sharpening) is not None]
    return _subset(images, chosen, lambda part: steps.sharpened(part, masks))


def _store_batch(images: Tensor, storages: Sequence[Storage]) -> Tensor:
    """Round to 8 bits and compress."""
    eight = [i for i, storage in enumerate(storages) if storage.bit_depth == 8]
    images = _subset(images, eight, lambda part: steps.eight_bits(part.clamp(0.0, 1.0)))
    packed = [i for i, storage in enumerate(storages) if storage.jpeg_quality > 0]
    return _subset(images, packed, lambda part: _jpeg(part, [storages[i] for i in packed]))


def _jpeg(images: Tensor, storages: Sequence[Storage]) -> Tensor:
    """Compress each patch on a lattice of its own phase, its border replicated to whole blocks."""
    height, width = images.shape[-2:]
    rows, columns = (
        -(-(side + JPEG_BLOCK_PX - 1) // JPEG_BLOCK_PX) * JPEG_BLOCK_PX for side in (height, width)
    )
    padded = torch.stack(
        [
            F.pad(image[None], (left, columns - width - left, top, rows - height - top), mode="replicate")[0]
            for image, (top, left) in zip(images, (s.jpeg_phase for s in storages), strict=True)
        ]
    )
    stored = jpeg_round_trip(padded, [storage.jpeg_quality for storage in storages])
    return torch.stack(
        [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(stored, (s.jpeg_phase for s in storages), strict=True)
        ]
    )


def _second_pass(images: Tensor, degradations: Sequence[Degradation], generator: torch.Generator) -> Tensor:
    chosen = [i for i, d in enumerate(degradations) if d.second is not None]
    if not chosen:
        return images
    passes = [second for d in degradations if (second := d.second) is not None]
    kernels = sent(np.stack([second.kernel for second in passes]), images.device, images.dtype)

    def again(part: Tensor) -> Tensor:
        reach = kernels.shape[-1] // 2
        padded = F.pad(part[None], (reach,) * 4, mode="replicate")
        blurred = F.conv2d(padded, kernels[:, None], groups=len(passes))[0]
        noisy = _add_noise(blurred, [second.noise for second in passes], generator)
        return _store_batch(noisy, [second.storage for second in passes])

    return _subset(images, chosen, again)
