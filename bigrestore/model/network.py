"""The network as a method of the engine: devices, precision and the statistics of a section.

One object serves all threads of a process. On a GPU every thread has its own stream and its own pinned
buffers, so that the copies of one tile overlap the computation of another.
"""

from __future__ import annotations

import logging
import math
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import repeat_pixels
from bigrestore.errors import UsageError
from bigrestore.model.device import DTYPES, choose_device, choose_precision
from bigrestore.model.knowledge import Knowledge, SectionReading, stated_kernel
from bigrestore.model.method import PSI_SIZE, RESIDUAL_STEP_PX, SectionStatistics, TileBatch, TileResult
from bigrestore.model.nets import prior_gate
from bigrestore.model.nets.checkpoint import Model, load_model
from bigrestore.model.nets.code import compose_psi
from bigrestore.model.nets.parts.objective import ObjectiveHead
from bigrestore.model.nets.parts.part import TrainedPart, load_part
from bigrestore.model.nets.redegrade import KERNEL_PX, redegrade
from bigrestore.model.nets.restorer import Conditions, Restored
from bigrestore.settings.values import REALNESS_FACTOR, StatedBlur

log = logging.getLogger(__name__)

SECTIONS_KEPT = 8
"""Sections whose filters are kept on the device: blocks of few sections are at work at once."""

CLEARLY_UNLIKE = 0.9
"""A section whose likeness is below gets a warning: its realness is another one than was asked for."""

LOCK_REACH_PX = 44
"""Input pixels that the low-frequency lock reaches beyond what it corrects."""


class NetworkMethod:
    """The restorer behind the engine's protocol (`bigrestore.model.method.Method`).

    Parameters
    ----------
    model : Model
        A loaded checkpoint.
    realness : float, optional
        Share of the prior's detail, 0..1; above 0 the model must have a prior. None: what the model states.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    precision : str
        "auto", "fp32", "bf16" or "fp16".
    seed : int
        Key of the prior's noise.
    lock : bool
        Whether the guards that compare with the input act.
    kernel : ndarray, (k, k), optional
        Blur kernel on the output grid, odd k, that replaces the estimated one; it is moved to where kernels stand.
    read_noise : float, optional
        Standard deviation of the noise, 0..1, that replaces the estimated one.
    """

    name = "network"
    exact = True

    def __init__(
        self,
        model: Model,
        *,
        realness: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        seed: int = 0,
        lock: bool = True,
        kernel: NDArray[np.float32] | None = None,
        read_noise: float | None = None,
    ) -> None:
        if realness is None:
            realness = model.realness
        if not 0 <= realness <= 1:
            raise UsageError(f"realness must lie in 0..1, not {realness}")
        if realness > 0 and model.restorer.prior is None:
            raise UsageError(
                f"the model {model.name} has no prior, so --realness must be 0, not {realness}, and --realness-map left out"
            )
        if realness > 0 and "halo_prior_px" not in model.info:
            raise UsageError(
                f"the prior of the model {model.name} is not joined to its U-Net, so --realness must be 0, not {realness}; "
                "run `bigrestore train bridge` on it"
            )
        self.model = model
        self.scale = model.scale
        self.halo_px = model.halo_for(realness)
        if realness > 0:  # a model whose halo was measured under a factor that was 1 all over
            step = model.restorer.alignment_px
            self.halo_px = max(self.halo_px, -(-(prior_gate.GATE_REACH_PX + LOCK_REACH_PX) // step) * step)
        self.alignment_px = model.restorer.alignment_px
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.realness, self.seed, self.lock = realness, seed, lock
        self._net = model.restorer.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.knowledge = Knowledge(self._net.estimator, self.scale, kernel, read_noise)
        self._objective: ObjectiveHead | None = None
        self._followed: TrainedPart | None = None
        self._local, self._one_at_a_time = threading.local(), threading.Lock()
        self._sections: dict[tuple[Any, ...], Conditions] = {}

    def follow(self, objective: TrainedPart) -> None:
        """Lower realness place by place as a head of objectives says, before the first tile is restored."""
        assert isinstance(objective.network, ObjectiveHead)
        self._followed, self._objective = objective, objective.network.to(self.device)
        step = self.alignment_px
        reach_px = prior_gate.GATE_REACH_PX + LOCK_REACH_PX + objective.network.reach_px
        self.halo_px = max(self.halo_px, int(objective.info["halo_px"]), -(-reach_px // step) * step)

    @property
    def bytes_per_px(self) -> int:
        """Peak memory of a tile at work per input pixel: about eleven float32 maps of the first grid.

        Measured on a CPU with some reserve: 180 for nano, 350 for tiny; the prior takes as much again.
        """
        preset = self.model.restorer.preset
        per_px = 45 * preset.channels[0] // preset.unshuffle**2
        return per_px * (2 if self.realness else 1) + 40 * self.scale**2

    @property
    def map_names(self) -> tuple[str, ...]:
        """The maps of the model; `invented` and `realness` need a prior joined to the U-Net."""
        joined = self.model.restorer.prior is not None and "halo_prior_px" in self.model.info
        names = "residual", "invented", "uncertainty", REALNESS_FACTOR
        return names if joined else ("residual", "uncertainty")

    @property
    def px_per_second(self) -> float:
        """Input pixels per second of one tile, roughly: on one core 1.2 million for tiny, by its channels."""
        preset = self.model.restorer.preset
        work = preset.channels[0] ** 2 / preset.unshuffle**2 / 256 * (0.2 + 0.8 * self.scale)
        fast = {"cpu": 1.0}.get(self.device.type, 100.0) * (1.0 if self.precision == "fp32" else 2.5)
        return 1.2e6 / work * fast * (0.5 if self.realness else 1.0)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the method in plans, fingerprints and provenance."""
        return {
            "name": self.name,
            "model": self.model.name,
            "sha256": self.model.sha256,
            "preset": self.model.info["preset"],
            "scale": self.scale,
            "halo_px": self.halo_px,
            "alignment_px": self.alignment_px,
            "realness": self.realness,
            "lock": self.lock,
            "seed": self.seed,
            "device": self.device.type,
            "precision": self.precision,
            **({} if self._followed is None else {"objective": self._followed.identity}),
        } | self.knowledge.describe()

    @torch.inference_mode()
    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Estimate the degradation of a section from its windows, (n, 128, 128), 0..1.

        Without a window (n = 0) the code is the zero vector, which the network knows as "unknown", and the
        kernel the mean of the training kernels. Its detail `likeness`, 0..1, is what realness is multiplied with all
        over the section: 0 where nothing is known of it, and less than 1 where it is unlike the training data. A kernel
        wider than those of the training is narrowed to them, because beyond them the network overshoots: such a section
        is sharpened less than it could be. `sigma_px` is that of the whole blur as read or given, before it is narrowed.
        """
        basis, knowledge = self._net.basis, self.knowledge
        if len(windows) == 0:
            size = KERNEL_PX[self.scale]
            kernel = basis.mean.unflatten(0, (size, size)).cpu().numpy()
            if knowledge.kernel is not None:
                kernel = knowledge.kernel
            psi, read_noise = np.zeros(PSI_SIZE, np.float32), knowledge.read_noise or 0.0
            unread = {"windows": 0, "likeness": 0.0} | knowledge.given
            return SectionStatistics(kernel, psi, 0.0, read_noise, unread)
        reading = knowledge.read(windows)
        if reading.likeness < CLEARLY_UNLIKE:
            self._warn_of(reading)
        known, details = reading.known, reading.details
        return SectionStatistics(
            known.kernel[0].cpu().numpy(),
            compose_psi(basis, known, self.scale)[0].cpu().numpy(),
            details["noise_gain"],
            details["read_noise"],
            details,
        )

    def _warn_of(self, reading: SectionReading) -> None:
        """Warn that a section is blurred more than any image of the training, and what follows."""
        lowered = (
            f", and its realness is lowered from {self.realness:g} to {self.realness * reading.likeness:.2g}"
            if self.realness > 0
            else ""
        )
        log.warning(
            "A section is blurred by sigma %.1f output pixels, more than what models are trained on (%.1f), so it is "
            "sharpened as if it were by that%s.",
            reading.sigma_px,
            prior_gate.SEEN_SIGMA_PX[self.scale],
            lowered,
        )

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Restore tiles of one section; sizes and origins are multiples of the alignment."""
        stream = torch.cuda.stream(self._stream()) if self.device.type == "cuda" else nullcontext()
        with torch.inference_mode(), stream:
            x = self._upload("x", batch.pixels)[:, None]
            whole = batch.valid is None or bool(batch.valid.all())
            if batch.valid is None:
                valid = torch.ones_like(x)
            else:
                valid = self._upload("valid", batch.valid.astype(np.float32))[:, None]
            conditions = attrs.evolve(self._conditions(statistics), z=batch.z)
            share = None
            if batch.realness is not None and not batch.realness.any():
                conditions = attrs.evolve(conditions, realness=0.0)
            elif batch.realness is not None:
                share = self._upload("share", batch.realness)[:, None]
            origins, both = torch.from_numpy(batch.origins), "invented" in batch.maps
            made = self._net.restore(
                x, valid, conditions, origins, DTYPES[self.precision], share, both=both, whole=whole
            )
            # A map shows x - D(y) at every pixel; without one its lattice is enough.
            step = 1 if "residual" in batch.maps else RESIDUAL_STEP_PX
            apart = x[..., ::step, ::step] - redegrade(made.y, conditions.kernel, self.scale, step)
            stride = RESIDUAL_STEP_PX // step
            images = {"y": made.y, "lattice": apart[..., ::stride, ::stride]}
            images |= self._maps(batch.maps, made, apart, valid)
            maps = self._download({name: image[:, 0] for name, image in images.items()})
            return TileResult(maps.pop("y"), maps.pop("lattice"), maps)

    def _conditions(self, statistics: SectionStatistics) -> Conditions:
        """Return what the tiles of a section share, on the device; it is kept for the last sections."""
        likeness = float(statistics.details.get("likeness", 1.0))
        numbers = statistics.noise_gain, statistics.read_noise, likeness
        key = statistics.kernel.tobytes(), statistics.psi.tobytes(), numbers
        with self._one_at_a_time:
            conditions = self._sections.pop(key, None)
            if conditions is None:
                conditions = self._net.completed(
                    Conditions(
                        kernel=torch.from_numpy(statistics.kernel).to(self.device),
                        psi=torch.from_numpy(statistics.psi).to(self.device),
                        noise_gain=statistics.noise_gain,
                        read_noise=statistics.read_noise,
                        realness=self.realness * likeness,
                        lock=self.lock,
                        seed=self.seed,
                        objective=self._objective,
                    )
                )
                if self.device.type == "cuda":
                    self._stream().synchronize()  # the streams of other threads use it, too
            self._sections[key] = conditions  # the last one used stands last
            while len(self._sections) > SECTIONS_KEPT:
                del self._sections[next(iter(self._sections))]
        return conditions

    def _maps(
        self, names: tuple[str, ...], made: Restored, apart: Tensor, valid: Tensor
    ) -> dict[str, Tensor]:
        """Return the maps of these names, (N, 1, H * scale, W * scale) each, none negative; `apart` is x - D(y)."""
        maps = {}
        if "residual" in names:
            maps["residual"] = repeat_pixels(apart.abs() * valid, self.scale)
        if "invented" in names:
            maps["invented"] = (made.y - made.fidelity).abs()
        if "uncertainty" in names:
            maps["uncertainty"] = made.unet.log_scale.exp()
        if REALNESS_FACTOR in names:
            maps[REALNESS_FACTOR] = torch.zeros_like(made.y) if made.factor is None else made.factor
        return maps

    def _stream(self) -> torch.cuda.Stream:
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream: torch.cuda.Stream = self._local.stream
        return stream

    def _pinned(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return this thread's page-locked buffer of a name in a shape; it is as large as the largest one so far."""
        count = math.prod(shape)
        buffer: Tensor | None = getattr(self._local, name, None)
        if buffer is None or buffer.numel() < count:
            buffer = torch.empty(count, dtype=torch.float32, pin_memory=True)
            setattr(self._local, name, buffer)
        return buffer[:count].view(shape)

    def _upload(self, name: str, array: NDArray[np.float32]) -> Tensor:
        if self.device.type != "cuda":
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        staged = self._pinned(f"up_{name}", array.shape)
        staged.numpy()[...] = array
        return staged.to(self.device, non_blocking=True)

    def _download(self, images: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
        """Return images on the host; the only wait for a GPU in a tile."""
        if self.device.type != "cuda":
            return {name: image.float().cpu().numpy() for name, image in images.items()}
        staged = {name: self._pinned(f"down_{name}", tuple(image.shape)) for name, image in images.items()}
        for name, image in images.items():
            staged[name].copy_(image.contiguous(), non_blocking=True)
        self._stream().synchronize()
        return {name: buffer.numpy().copy() for name, buffer in staged.items()}


def load_network(
    model: str | Path,
    *,
    scale: int | None,
    realness: float | None,
    device: str,
    precision: str,
    seed: int,
    lock: bool,
    kernel: Path | None,
    blur: StatedBlur | None = None,
    noise: float | None = None,
) -> NetworkMethod:
    """Load a model by name or path and make it a method.

    The options are those of `NetworkMethod`, but `blur` as in `bigrestore.core.stated_blur.blur_kernel`, in place of a
    kernel, and `noise` of 255.

    Raises
    ------
    UsageError
        Where an option is refused; a blur, for instance, that is wider than those of the training.
    """
    loaded = load_model(model, scale)
    _warn_of_untrained(loaded)
    return NetworkMethod(
        loaded,
        realness=realness,
        device=device,
        precision=precision,
        seed=seed,
        lock=lock,
        kernel=stated_kernel(kernel, blur, loaded.scale),
        read_noise=None if noise is None else noise / 255,
    )


def _warn_of_untrained(model: Model) -> None:
    """Warn of a model from between two trainings, whose output is its input, interpolated."""
    stages = model.info.get("training")
    if isinstance(stages, dict) and "estimator" in stages and "fidelity" not in stages:
        log.warning(
            "The model %s reads blur and noise and has no trained U-Net to take them out: its output is the input, "
            "interpolated; train it on by bigrestore train fidelity --start.",
            model.name,
        )


def load_objective(model: Model, file: str | Path | None) -> TrainedPart:
    """Load the head of objectives of a model: the shipped one of its scale, or a file.

    Raises
    ------
    UsageError
        None is shipped, or it was trained for another model.
    InputMissingError, ModelError
        As of `load_part`.
    """
    part = load_part("objective", model.scale, file, "--objective-model")
    if part.info.get("network") != model.sha256:
        raise UsageError(
            f"The objective {part.name} was trained for the model {part.info.get('model', '?')} of other weights than "
            f"{model.name}; train one by `bigrestore train objective IMAGES --model {model.name} -o FILE` and name it by "
            "--objective-model, or leave --realness-map auto out."
        )
    return part
