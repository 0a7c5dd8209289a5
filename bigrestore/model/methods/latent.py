"""Search in the prior's latent space, as a method for looking at a region.

What it shows is plausible tissue that the input allows, and not what was there: another start gives another image. So it
is limited to a region, gives the map `invented` unless other maps are asked for, and its provenance says what it is. It
takes a hundred gradients of the generator for what the network does in one pass.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.host.arithmetic import repeatable_convolutions
from bigrestore.errors import UsageError
from bigrestore.model.method import SectionStatistics, TileBatch, TileResult
from bigrestore.model.methods.windows import WindowedMethod, WindowLattice
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.part import TrainedPart
from bigrestore.model.nets.parts.pixelcnn import PixelCNN
from bigrestore.model.nets.prior.search import PriorSearch, Search, Searched
from bigrestore.model.nets.restorer import Conditions
from bigrestore.model.network import NetworkMethod

LATENT_LATTICE = WindowLattice(256, 192)
SCOPE = (
    "a search in the prior's latent space: it invents plausible detail that the input allows, is slow, and is for looking "
    "at a region, not for measuring"
)
"""What the method is for, as log, provenance and report say it."""
STEP_SECONDS, LIKELIHOOD_SECONDS = 0.12, 1.0
"""Of a step in a window at x1 on one core, and of the likelihood in it."""

PULSE = Search(start="random", space="z", mmd=0.0, downscale=8)
MMD = Search()
SEARCHES = {"mmd": MMD, "pulse": PULSE}


class LatentMethod(WindowedMethod):
    """The search.

    Parameters
    ----------
    network : NetworkMethod
        At realness 0, with a prior; it reads the section, and the map `invented` is the distance to its image.
    search : Search
        How the codes are searched.
    likelihood : TrainedPart, optional
        Of the scale of the network; needed where the search weighs it.
    lattice : WindowLattice
        The windows; their step is a multiple of the prior's alignment.

    Raises
    ------
    UsageError
        The model has no prior.
    """

    map_names = ("residual", "invented")

    def __init__(
        self,
        network: NetworkMethod,
        search: Search,
        likelihood: TrainedPart | None = None,
        lattice: WindowLattice = LATENT_LATTICE,
    ) -> None:
        restorer, likely = network.model.restorer, None
        if restorer.prior is None:
            raise UsageError(
                f"--method latent searches in a prior, and the model {network.model.name} has none; choose a model with one."
            )
        said = network.describe()
        options = {name: said[name] for name in ("model", "sha256", "preset", "seed")}
        options |= {"search": attrs.asdict(search), "scope": SCOPE}
        if likelihood is not None:
            assert isinstance(likelihood.network, PixelCNN)
            options["likelihood"], likely = likelihood.identity, likelihood.network.to(network.device)
        super().__init__(
            "latent",
            network.scale,
            network.knowledge,
            lattice,
            lock=network.lock,
            device=network.device,
            options=options,
        )
        # Of the network, whose image a map compares with; both look no further then.
        self.halo_px = lattice.step_px * -(-network.halo_px // lattice.step_px)
        self.network, self._restorer = network, restorer.requires_grad_(False)
        self.search = PriorSearch(restorer.prior, search, network.seed, likely)
        weighs = search.likelihood > 0
        # Of the one window that is at work at a time, on the smallest tile, and of the network.
        self.bytes_per_px = (5000 if weighs else 900) * self.scale**2 + network.bytes_per_px
        seconds = search.steps * (STEP_SECONDS * self.scale**2 + LIKELIHOOD_SECONDS * weighs)
        self.px_per_second = lattice.step_px**2 / seconds * (1.0 if self.device.type == "cpu" else 30.0)

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Read a section as the network does."""
        return self.network.analyse(windows)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Search in the windows of tiles; `invented` is the distance to the image of the network at realness 0."""
        asked = tuple(name for name in batch.maps if name != "invented")
        result = super().restore(attrs.evolve(batch, maps=asked), statistics)
        if "invented" not in batch.maps:
            return result
        plain = self.network.restore(attrs.evolve(batch, maps=()), statistics).pixels
        return attrs.evolve(result, maps={**result.maps, "invented": np.abs(result.pixels - plain)})

    def solve(self, seen: Seen) -> Tensor:
        """Return the image of a search in one window."""
        return self.searched(seen).image

    def searched(self, seen: Seen) -> Searched:
        """Search in one window; return the codes, too."""
        with repeatable_convolutions():
            return self.search.run(seen, self._read(seen))

    def _read(self, seen: Seen) -> Tensor | None:
        """Return the codes that the network reads off a window, of z, where the search starts from them."""
        if self.search.search.start != "read":
            return None
        restorer, psi = self._restorer, seen.psi
        assert restorer.latent_head is not None
        assert psi is not None
        conditions = restorer.completed(Conditions(seen.kernel, psi, seen.noise_gain, seen.read_noise))
        assert conditions.filters is not None
        out = restorer.fidelity(seen.x, seen.valid, psi[None], conditions.filters, whole=seen.whole)[2]
        codes: Tensor = restorer.latent_head(out.features[0])
        return codes


def search_of(preset: str, **options: Any) -> Search:
    """Return a search from the values of its options; "preset", and an mmd of -1, leave a value to the preset.

    Raises
    ------
    UsageError
        The mean is asked for as a start in z, where it has no direction.
    """
    base, changes = SEARCHES[preset], dict(options)
    objective, noise = changes.pop("objective"), changes.pop("noise")
    changes = {name: value for name, value in changes.items() if value != "preset"}
    if changes.get("mmd", 0) < 0:
        del changes["mmd"]
    if objective != "preset":
        changes["downscale"] = 0 if objective == "l2" else int(objective.partition(":")[2])
    search = attrs.evolve(base, **changes, noise=noise == "hashed")
    if search.space == "z" and search.start == "mean":
        raise UsageError(
            "--set space is z and start is mean, but the mean of z is zero; give --set start=random or start=read, or "
            "--set space=w."
        )
    return search
