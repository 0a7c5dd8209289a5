"""Windows on an absolute lattice: what makes any function of an image tile-exact.

Some methods see all of what they are given: they iterate on it, pool over it, take its Fourier transform, or know one
size only. Cut into tiles they would depend on the cut. So they get square windows instead: window k of an axis begins at
pixel k * step of the section, always, and neighbours are cross-faded over their overlap by ramps that sum to one. A
pixel of the result then depends on its place in the section alone.

With `alignment_px` and `halo_px` both the step, the tiles of the engine begin on the lattice, and every window that
touches a core lies in the box that is read. Beyond the far edge of a section the last pixel repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import all_valid
from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.told import ToldMethod
from bigrestore.model.nets.guards import Seen, guarded
from bigrestore.model.nets.wiener import fill_damage


@attrs.frozen
class WindowLattice:
    """Windows of one side on one step, input pixels; the step is at least half the side.

    Attributes
    ----------
    side_px : int
        Side of a window.
    step_px : int
        From one window to the next.
    """

    side_px: int
    step_px: int

    def places(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """Yield the (y, x) of the windows of a tile, whose sides are multiples of the step, row by row."""
        for y in range(0, height, self.step_px):
            for x in range(0, width, self.step_px):
                yield y, x

    def weights(self, start: int, length: int, scale: int) -> Tensor:
        """Return the weights of the window at `start` of an axis of a tile, (side * scale,), float32.

        The later of two windows has (i + 1/2) / overlap at the i-th pixel of their overlap, and the earlier one minus
        this. The first window of a tile has no earlier one, and the last no later one.
        """
        overlap = (self.side_px - self.step_px) * scale
        weights = torch.ones(self.side_px * scale)
        if not overlap:
            return weights
        rise = (torch.arange(overlap) + 0.5) / overlap
        if start > 0:
            weights[:overlap] = rise
        if start + self.step_px < length:
            weights[-overlap:] = 1 - rise
        return weights


class WindowedMethod(ToldMethod):
    """A method that restores one window at a time, its guards included.

    Parameters
    ----------
    lattice : WindowLattice
        The windows.
    name, scale, knowledge, lock, device, options
        As in `ToldMethod`.
    """

    def __init__(
        self,
        name: str,
        scale: int,
        knowledge: Knowledge,
        lattice: WindowLattice,
        *,
        lock: bool,
        device: torch.device | None,
        options: dict[str, Any],
    ) -> None:
        step = lattice.step_px
        options = {"window_px": lattice.side_px, **options}
        super().__init__(
            name, scale, knowledge, halo_px=step, alignment_px=step, lock=lock, device=device, options=options
        )
        self.lattice = lattice

    def restored(self, seen: Seen) -> Tensor:
        """Return the restored tiles, window by window."""

        def restore(images: Tensor, y: int, x: int, tile: int) -> Tensor:
            valid = images[:, 1:]
            whole = all_valid(
                valid, None
            )  # of this window: beyond the tile there may be pixels that it did not see
            pixels = fill_damage(images[:, :1], valid, whole)
            base = pixels if self.scale == 1 else catmull_rom(pixels, self.scale).clamp(0, 1)
            first_y, first_x = seen.origins[tile] if seen.origins else (0, 0)
            origins = ((first_y + y, first_x + x),)
            window = attrs.evolve(seen, x=pixels, valid=valid, base=base, whole=whole, origins=origins)
            return guarded(self.solve(window), lambda: base, window, lock=self.lock)

        both = torch.cat([seen.x, seen.valid], dim=1)
        # One by one: the last digits of a convolution depend on the size of the batch.
        tiles = [
            by_windows(both[tile : tile + 1], self.lattice, self.scale, partial(restore, tile=tile))
            for tile in range(len(both))
        ]
        return torch.cat(tiles)


def by_windows(
    images: Tensor, lattice: WindowLattice, scale: int, restore: Callable[[Tensor, int, int], Tensor]
) -> Tensor:
    """Restore tiles window by window.

    Parameters
    ----------
    images : Tensor, (N, C, H, W)
        Tiles that begin on the lattice; H and W are multiples of its step.
    lattice : WindowLattice
        The windows.
    scale : int
        Output pixels per input pixel.
    restore : callable
        Makes a window, (N, C, side, side), and its (y, x) in the tile, to (N, 1, side * scale, side * scale).

    Returns
    -------
    Tensor, (N, 1, H * scale, W * scale)
    """
    height, width = images.shape[-2:]
    side, overlap = lattice.side_px, lattice.side_px - lattice.step_px
    padded = F.pad(images, (0, overlap, 0, overlap), mode="replicate")
    made = images.new_zeros(len(images), 1, (height + overlap) * scale, (width + overlap) * scale)
    for y, x in lattice.places(height, width):
        window = restore(padded[..., y : y + side, x : x + side], y, x)
        fade_y, fade_x = (
            lattice.weights(start, length, scale).to(window) for start, length in ((y, height), (x, width))
        )
        place = made[..., y * scale : (y + side) * scale, x * scale : (x + side) * scale]
        place += window * fade_x * fade_y[:, None]
    return made[..., : height * scale, : width * scale]
