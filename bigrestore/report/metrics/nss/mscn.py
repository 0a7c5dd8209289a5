"""The locally normalised image (MSCN) behind NIQE, BRISQUE and PIQE, and the half-size image.

Subtracting the local mean and dividing by the local contrast leaves, in an undistorted photograph, values close to a
Gaussian; blur, noise and blocking change their distribution. The three scores measure this change in three ways, so
the field is computed once per tile and shared.

Nearly all the time of scoring goes into these filters. They are separable, symmetric (taps are added in
pairs before they are multiplied) and run on strips of rows small enough for the processor's cache, in float64
and without threads inside a sum: the bytes are the same on every machine.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.nss.workspace import Workspace

Field = NDArray[np.float64]
Edge = Literal["replicate", "zero"]

RADIUS_PX = 3
MSCN_SIGMA_PX = 7.0 / 6.0
"""The 7 x 7 Gaussian window of the papers; it is cut at three pixels and normalised to sum one."""

CONTRAST_FLOOR = 1.0
"""Added to the local contrast, in grey levels of 0..255, so that flat areas do not divide by zero."""

FILTER_STRIP_ROWS = 32  # the float64 rows of a strip stay in the cache
_TAP_BITS = 26
FINEST_LEVEL = 2.0**-18
"""Sums over an area of one level are exact if the level is a whole multiple of this (8 + 18 + 26 < 53 bits)."""


def _mscn_taps() -> NDArray[np.float64]:
    """Taps at distance 0 to 3 along one axis, whole multiples of 2^-26 with a sum of exactly one.

    So no sum over a flat area rounds, if its level is a whole multiple of 2^-18: the field is exactly zero
    there, on every processor. With taps that sum to one but for round-off, flat areas hold noise of
    1e-15 whose sign decides on which side of zero they are counted; published implementations differ by 10
    points of BRISQUE on flat images for no other reason. The rounding moves the taps by 1e-8.
    """
    offsets = np.arange(RADIUS_PX + 1, dtype=np.float64)
    taps = np.exp(-(offsets**2) / (2.0 * MSCN_SIGMA_PX**2))
    taps = np.rint(taps / (taps[0] + 2.0 * taps[1:].sum()) * 2.0**_TAP_BITS) / 2.0**_TAP_BITS
    taps[0] = 1.0 - 2.0 * taps[1:].sum()
    return np.asarray(taps)


TAPS = _mscn_taps()
_ROW_TAPS = np.concatenate([TAPS[:0:-1], TAPS])


def normalised(
    image: Field,
    edge: Edge = "replicate",
    *,
    out: Field | None = None,
    contrast: Field | None = None,
    workspace: Workspace | None = None,
) -> Field:
    """Subtract the local mean and divide by the local contrast.

    (I - mu) / (sigma + 1) with mu and sigma under a 7 x 7 Gaussian window of sigma 7/6: equations 1 to 3 of
    Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE
    Transactions on Image Processing 21 (2012).

    Parameters
    ----------
    image : ndarray of float64, (height, width)
        Grey levels, 0..255.
    edge : "replicate" or "zero"
        What lies outside the image: its border pixels (NIQE, PIQE), or nothing (BRISQUE).
    out, contrast : ndarray of float64, (height, width), optional
        Take the field and sigma where they are given.
    workspace : Workspace, optional
        Scratch space that outlives the call.

    Returns
    -------
    ndarray of float64, (height, width)
        The field; about zero mean and unit variance in a photograph, exactly zero where the window is flat.
    """
    height, width = image.shape
    workspace = workspace or Workspace()
    out = np.empty((height, width)) if out is None else out
    wide = width + 2 * RADIUS_PX
    wide += -wide % 8  # whole cache lines of float64: sums over aligned rows run twice as fast
    for top in range(0, height, FILTER_STRIP_ROWS):
        rows = min(FILTER_STRIP_ROWS, height - top)
        powers = workspace.take("mscn powers", (2, rows + 2 * RADIUS_PX, wide))
        sums = workspace.take("mscn sums", (2, rows, wide))
        work = workspace.take("mscn work", (2, rows, wide))
        _take_rows(image, top - RADIUS_PX, edge, powers[0])
        np.multiply(powers[0], powers[0], out=powers[1])
        _filter_columns(powers, sums, work)
        _filter_rows(sums, work)
        _divide(powers[0], work, sums[0])
        out[top : top + rows] = sums[0, :, :width]
        if contrast is not None:
            contrast[top : top + rows] = work[1, :, :width] - CONTRAST_FLOOR
    return out


def zero_edged(image: Field, field: Field, *, out: Field | None = None) -> Field:
    """Make the field with zeros around the image from the one with replicated borders.

    The two differ only in a frame of three pixels, so only the frame is computed anew.

    Parameters
    ----------
    image : ndarray of float64, (height, width)
        The image.
    field : ndarray of float64, (height, width)
        Its field with `edge="replicate"`.
    out : ndarray of float64, (height, width), optional
        Takes the result; may be `field` itself.

    Returns
    -------
    ndarray of float64, (height, width)
        What `normalised(image, "zero")` would give.
    """
    frame, reach = RADIUS_PX, 2 * RADIUS_PX
    if min(image.shape) <= reach:
        return normalised(image, "zero", out=out)
    framed = np.empty_like(field) if out is None else out
    if framed is not field:
        np.copyto(framed, field)
    # One call for all four sides: they are laid one below the other with zeros between, columns as rows, which
    # the symmetric window does not notice.
    height, width = image.shape
    sides = np.zeros((4, reach + frame, max(height, width)))
    sides[0, :reach, :width], sides[1, :reach, :width] = image[:reach], image[-reach:]
    sides[2, :reach, :height], sides[3, :reach, :height] = image[:, :reach].T, image[:, -reach:].T
    done = normalised(sides.reshape(-1, sides.shape[2]), "zero").reshape(sides.shape)
    framed[:frame], framed[-frame:] = done[0, :frame, :width], done[1, reach - frame : reach, :width]
    framed[:, :frame] = done[2, :frame, :height].T
    framed[:, -frame:] = done[3, reach - frame : reach, :height].T
    return framed


def _take_rows(image: Field, top: int, edge: Edge, out: Field) -> None:
    """Copy rows from `top` on with a margin all around; `top` may be negative and the end beyond the image.

    Columns of `out` beyond the right margin are filled like it, and never read.
    """
    (height, width), r = image.shape, RADIUS_PX
    above, below = max(0, -top), max(0, top + out.shape[0] - height)
    last, right = out.shape[0] - below, r + width
    out[above:last, r:right] = image[top + above : top + last]
    if edge == "zero":
        out[:above], out[last:], out[:, :r], out[:, right:] = 0.0, 0.0, 0.0, 0.0
        return
    out[:above, r:right], out[last:, r:right] = image[0], image[-1]
    out[:, :r], out[:, right:] = out[:, r : r + 1], out[:, right - 1 : right]


def _filter_columns(powers: Field, out: Field, work: Field) -> None:
    """Filter down the columns of both powers; `work` is scratch space of the shape of `out`."""
    rows = out.shape[1]
    np.multiply(powers[:, RADIUS_PX : RADIUS_PX + rows], TAPS[0], out=out)
    for distance in range(1, RADIUS_PX + 1):
        before, after = RADIUS_PX - distance, RADIUS_PX + distance
        np.add(powers[:, before : before + rows], powers[:, after : after + rows], out=work)
        work *= TAPS[distance]
        out += work


def _filter_rows(sums: Field, out: Field) -> None:
    """Filter along the rows; only the first columns of the result are of use, six at the end are not.

    Each power is one long line, filtered with seven taps in a single call; only unread columns mix two rows.
    """
    for source, target in zip(sums, out, strict=True):
        line = target.reshape(-1)
        line[: 1 - _ROW_TAPS.size] = np.correlate(source.reshape(-1), _ROW_TAPS)
        line[1 - _ROW_TAPS.size :] = 0.0


def _divide(image: Field, means: Field, out: Field) -> None:
    """Turn the means of both powers into the field; the second mean becomes the divisor.

    All arrays are taken as lines once more. Calls on parts of rows cost more in starting than in adding.
    """
    mean, spread = means
    centre = (image.shape[1] + 1) * RADIUS_PX
    np.multiply(mean, mean, out=out)
    spread -= out
    np.abs(spread, out=spread)
    np.sqrt(spread, out=spread)
    spread += CONTRAST_FLOOR
    line = out.reshape(-1)
    np.subtract(image.reshape(-1)[centre : centre + line.size], mean.reshape(-1), out=line)
    out /= spread


# Cubic convolution with a = -1/2, stretched by two for a reduction by two (antialiasing), at the distances
# 1/2, 3/2, 5/2, 7/2 input pixels of the eight neighbours; the values are exact binary fractions.
_HALVING = np.array([0.8671875, 0.2265625, -0.0703125, -0.0234375]) / 2.0
_HALVING_ROW = np.concatenate([_HALVING[::-1], _HALVING])


def half_size(image: Field, *, out: Field | None = None, workspace: Workspace | None = None) -> Field:
    """Reduce an image by two as the papers' code did.

    Cubic convolution (Keys 1981, a = -1/2) with the kernel stretched by two, and the image mirrored at its
    borders: MATLAB's `imresize(image, 0.5)`, as in the training of the shipped parameters.

    Parameters
    ----------
    image : ndarray of float64, (height, width)
        Any levels, 4 pixels or more each way.
    out : ndarray of float64, (ceil(height / 2), ceil(width / 2)), optional
        Takes the result.
    workspace : Workspace, optional
        Scratch space that outlives the call.

    Returns
    -------
    ndarray of float64, (ceil(height / 2), ceil(width / 2))
        The reduced image; not rounded, not clipped.
    """
    height, width = (-(-side // 2) for side in image.shape)
    workspace = workspace or Workspace()
    out = np.empty((height, width)) if out is None else out
    for top in range(0, height, FILTER_STRIP_ROWS):
        rows = min(FILTER_STRIP_ROWS, height - top)
        shorter = workspace.take("half sums", (rows, image.shape[1]))
        _halve_columns(_split_rows(image, top - 2, rows + 4, workspace), shorter, workspace)
        line = workspace.take("half line", (rows, image.shape[1] + 8))
        line[:, 3:-5] = shorter
        line[:, :3], line[:, -5:-1], line[:, -1] = shorter[:, 2::-1], shorter[:, :-5:-1], 0.0
        # Every other sum is thrown away; one call that makes them all is still the fastest.
        sums = np.correlate(line.reshape(-1), _HALVING_ROW)
        out[top : top + rows] = np.resize(sums, line.shape)[:, : 2 * width : 2]
    return out


def _split_rows(image: Field, top: int, pairs: int, workspace: Workspace) -> Field:
    """Copy the even and the odd rows of some pairs, mirrored outside: (2, pairs, width)."""
    height = image.shape[0]
    split = workspace.take("half rows", (2, pairs, image.shape[1]))
    if top >= 0 and 2 * (top + pairs) <= height:
        split[0], split[1] = (
            image[2 * top : 2 * (top + pairs) : 2],
            image[2 * top + 1 : 2 * (top + pairs) : 2],
        )
        return split
    places = np.arange(2 * top, 2 * (top + pairs))
    places = np.where(places < 0, -1 - places, places)
    places = np.where(places >= height, np.maximum(2 * height - 1 - places, 0), places)
    split[0], split[1] = image[places[::2]], image[places[1::2]]
    return split


def _halve_columns(split: Field, out: Field, workspace: Workspace) -> None:
    """Filter down the columns; row i of `out` lies between the even and the odd row of pair i + 2."""
    rows = out.shape[0]
    even, odd = split
    work = workspace.take("half work", out.shape)
    np.add(even[2 : 2 + rows], odd[2 : 2 + rows], out=out)
    out *= _HALVING[0]
    for distance in range(1, 4):
        # Neighbours at an odd distance are the odd row of a pair before and the even row of one behind.
        before, behind = (odd, even) if distance % 2 else (even, odd)
        step = (distance + 1) // 2
        np.add(before[2 - step : 2 - step + rows], behind[2 + step : 2 + step + rows], out=work)
        work *= _HALVING[distance]
        out += work
