"""What a trained network adds to the fitted blur of a learned degradation."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
import torch
from torch import Tensor

from bigrestore.model.nets.parts.learned_degradation import SYN_REACH_PX, SynNet


@attrs.frozen(eq=False)
class Synthesis:
    """A network and the code that it is told.

    Attributes
    ----------
    network : SynNet
    code : Tensor, (64,)
        Of unit norm.
    """

    network: SynNet
    code: Tensor

    @property
    def reach_px(self) -> int:
        """Degraded pixels around one that its value depends on."""
        return SYN_REACH_PX

    def added(self, clean: Tensor) -> Tensor:
        """Return what is added to the blurred image, (h, w), of a clean one, (scale * h, scale * w)."""
        with torch.no_grad():
            made: Tensor = self.network.to(clean.device)(clean[None, None], self.code[None].to(clean.device))
            return made[0, 0]

    def describe(self) -> dict[str, Any]:
        """Return what identifies it, JSON-able."""
        digest = hashlib.blake2b(self.code.cpu().numpy().tobytes(), digest_size=16)
        for tensor in self.network.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        return {"blake2b": digest.hexdigest()}
