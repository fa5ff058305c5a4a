"""Volume to volume: the model loaded once, one direction of flow, each step with its inverse beside it."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.configs.uncertainty import Calibration
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.framing import Frame
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.data.volume import Volume
from pet_pipeline.diffusion.multipath import Paths
from pet_pipeline.diffusion.multiview import Progress, Task, ViewDenoiser
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.errors import ModelError, UsageError
from pet_pipeline.inference import sampling_step
from pet_pipeline.inference.cautions import body_cautions, refuse_grid, refuse_unusual
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.inference.framed import Framed, framed
from pet_pipeline.inference.noise_level import InputNoise, input_noise
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.uncertainty import (
    Uncertainty,
    calibrated_deviation,
    calibration_for,
    pooled_deviation,
    signs_of,
    sources_of,
)
from pet_pipeline.inference.unusual import Watch
from pet_pipeline.models import devices, memory, prior_step
from pet_pipeline.models.prior3d import Prior3d
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.models.weights import DESCRIPTION_FILE, ModelFolder, load_folder, network
from pet_pipeline.seeding import derive_seed
from pet_pipeline.types import Float32Array, View
from pet_pipeline.units import Unit

log = logging.getLogger(__name__)

PRIOR = "prior"
"""Role of the one-step 3D network in a model folder; the other roles are names of views."""


@dataclass(frozen=True, eq=False)
class Translation:
    """A translated volume and how it came about.

    Attributes:
        volume: the result on the input's grid, in the input's unit; 0 outside the box around the body.
        frame: where the body was found.
        prior_box: the CNN prior in the body's box on the model grid (x, y, z), in the input's unit.
        normalisation: its parameters, for the record.
        sampler: resolved settings; None where the prior is the result.
        noise: what the denoisers were told of the input's noise; None where they take no noise level.
        uncertainty: how sure it is; None where it was not asked for.
        timing_s: seconds a stage.
        peak_memory_mb: peak resident memory of the process, MB.
        peak_device_memory_mb: peak memory on the GPU, MB; None on the CPU.
        warnings: one line each.
    """

    volume: Volume
    frame: Frame
    prior_box: Float32Array
    normalisation: Mapping[str, float]
    sampler: SamplerSettings | None
    noise: InputNoise | None
    timing_s: Mapping[str, float]
    peak_memory_mb: float
    peak_device_memory_mb: float | None
    warnings: tuple[str, ...] = ()
    uncertainty: Uncertainty | None = None

    @property
    def prior(self) -> Volume:
        """The CNN prior alone, brought onto the input's grid at each call."""
        return self.frame.inverse(self.prior_box, self.volume.unit)


@dataclass
class _Stopwatch:
    """Seconds a stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # kernels run on after the call that started them
        self.seconds[name] = round(time.perf_counter() - start, 3)


@dataclass(frozen=True, eq=False)
class Translator:
    """A loaded model on a device.

    Attributes:
        model: the opened folder.
        compute: device and precision.
        precision_asked: as asked for, `auto` included: part of the provenance.
        prior_network: condition -> first estimate.
        denoisers: view -> network; empty for a model that is a prior alone.
        noise_embedding: whether the denoisers take the input's noise level.
        objective: what the denoisers predict.
        residual: whether that is on x_0 minus the prior.
        multiple: what the sides of a box must be multiples of.
        watch: what tells unusual inputs; None where the model has none.
    """

    model: ModelFolder
    compute: devices.Compute
    precision_asked: str
    prior_network: Prior3d
    denoisers: Mapping[View, UNet25d]
    noise_embedding: bool
    objective: Objective
    residual: bool
    multiple: int
    watch: Watch | None = None

    @classmethod
    def load(
        cls, model: str | Path | ModelFolder = DEFAULT_MODEL, *, device: str = "auto", precision: str = "auto"
    ) -> "Translator":
        """Load a model by name or folder onto a device.

        Raises:
            ModelError: missing, damaged, or without the networks that a translation needs.
            UsageError: a device or precision that is not here.
        """
        folder = model if isinstance(model, ModelFolder) else load_folder(model)
        compute = devices.choose(device, precision)
        memory.keep_freed_memory()
        views = [view for view in View if view.value in folder.description.networks]
        prior = network(folder, PRIOR).to(compute.device)
        networks = {view: network(folder, view.value).to(compute.device) for view in views}
        if not isinstance(prior, Prior3d) or not all(isinstance(one, UNet25d) for one in networks.values()):
            raise ModelError(f"{folder.path}: needed are a prior3d as {PRIOR} and unet25d networks as views")
        denoising = {view: cast(UNet25d, one) for view, one in networks.items()}
        kinds = {(one.settings.residual_on_prior, one.settings.noise_embedding) for one in denoising.values()}
        if len(kinds) > 1:
            raise ModelError(
                f"{folder.path}: the views' networks differ in residual_on_prior or noise_embedding; all must agree"
            )
        residual, noise_embedding = kinds.pop() if kinds else (False, False)
        log.info("%s on %s in %s (%s)", folder.description.name, compute.device, compute.precision, compute.reason)
        return cls(
            model=folder,
            compute=compute,
            precision_asked=precision,
            prior_network=prior,
            denoisers=denoising,
            noise_embedding=noise_embedding,
            objective=Objective.from_settings(folder.description.diffusion, residual_on_prior=residual),
            residual=residual,
            multiple=math.lcm(prior.multiple, *(one.multiple for one in denoising.values())),
            watch=Watch.of(folder),
        )

    def identity(self) -> dict[str, str]:
        """Name, version and checksum; the checksum is of `model.yaml`, which holds those of all weights."""
        description = self.model.description
        checksum = sha256_of(self.model.path / DESCRIPTION_FILE)
        return {"name": description.name, "version": description.version, "sha256": checksum}

    def prior_only(self, options: TranslateOptions) -> bool:
        """Whether the prior is the result: asked for, or all that the model has."""
        return options.prior_only or not self.denoisers

    def sampler(self, options: TranslateOptions) -> SamplerSettings:
        """The resolved sampler.

        Raises:
            UsageError: a view that the model lacks, a noise level that it does not take, a start at a time that it
                was not trained for, an uncertainty where nothing can differ, or an option without effect.
        """
        description = self.model.description
        settings = options.sampler(description.sampler)
        if options.nstd is not None and not self.noise_embedding:
            raise UsageError(f"--nstd {options.nstd:g}: {description.name} takes no noise level; leave it out")
        if self.prior_only(options):
            if options.uncertainty:
                raise UsageError(f"--uncertainty: the prior of {description.name} is one estimate, without a spread")
            if options.cascade > 1:
                raise UsageError(f"--cascade {options.cascade}: {description.name} gives its prior, without stages")
            if idle := options.of_the_sampler:
                raise UsageError(f"{', '.join(idle)}: {description.name} gives its prior, without sampling; leave out")
            return settings
        if options.uncertainty and options.paths == 1 and len(settings.views) == 1:
            raise UsageError("--uncertainty: one path of one view has no spread; give --paths 2 or more, or more views")
        missing = [name for name in settings.views if View(name) not in self.denoisers]
        if missing:
            present = ", ".join(view.value for view in self.denoisers)
            raise UsageError(f"--views: {description.name} has no {' or '.join(missing)} view; it has {present}")
        sees_prior = settings.start == "prior" or any(
            self.denoisers[View(name)].settings.prior_half_width >= 0 for name in settings.views
        )
        if options.cascade > 1 and not sees_prior:
            raise UsageError(
                f"--cascade {options.cascade}: started from noise, {description.name} does not look at a prior: later "
                "stages would know nothing of earlier ones; give --start prior"
            )
        if options.t_start is not None and settings.start == "noise":
            raise UsageError(
                f"--t-start {options.t_start:g}: {description.name} starts from noise, at time 1; give --start prior "
                "too, or leave it out"
            )
        start, longest, earliest = settings.first_time, description.diffusion.t_max, description.diffusion.t_min
        if start / settings.steps < earliest:  # the time of the last step
            raise UsageError(
                f"--steps {settings.steps}, from time {start:g}: {description.name} was trained for times from "
                f"{earliest:g} on; leave out --steps, --start and --t-start, or take the model that it was made from"
            )
        if start > longest:
            what = f"--t-start {start:g}" if settings.start == "prior" else "--start noise (time 1)"
            raise UsageError(
                f"{what}: {description.name} was trained for times up to {longest:g}; start no later than that"
            )
        return settings

    def calibration(self, options: TranslateOptions) -> Calibration | None:
        """The model's calibration, if it holds for these options."""
        known = self.model.description.calibration
        return calibration_for(known, self.sampler(options), options.paths, options.cascade)[0]

    @torch.inference_mode()
    def translate(
        self,
        volume: Volume,
        options: TranslateOptions | None = None,
        case_id: str = "case",
        *,
        progress: Progress | None = None,
        on_path: Callable[[int, Volume], None] | None = None,
        strict: bool = False,
    ) -> Translation:
        """Translate one volume.

        The result depends on the voxels, the model, the options and (through the noise) on (seed, case_id). Twice the
        activity gives twice the result: all scales are taken from the volume itself.

        Args:
            volume: PET in SUV or relative units, on any unsheared grid; corrected for attenuation or not as the model
                wants it.
            options: None: everything as the model recommends.
            case_id: names the noise.
            progress: told after every network call of the sampler; counts anew in every stage of a cascade.
            on_path: told each path's number, from 0, and result, like `Translation.volume`; of a cascade those of the
                last stage. A path that was drawn again because memory ran out is told again.
            strict: refuse what is unlike the training data, instead of warning of it.

        Raises:
            UsageError: options that the model cannot follow.
            InputRefused: a grid that the model cannot take, no activity in the body, or `strict`.
            OutOfMemory: memory ran out after every fallback.
        """
        options = options or TranslateOptions()
        sampler, description, device = self.sampler(options), self.model.description, self.compute.device
        refuse_grid(description, volume.geometry, case_id)
        watch = _Stopwatch()
        memory.reset_peak(device)
        with watch.stage("frame", device):
            seen = framed(volume, description, multiple=self.multiple, watch=self.watch)
            if strict:
                refuse_unusual(seen.far, seen.alarms, case_id)
            frame, normalisation = seen.frame, seen.normalisation
            condition = normalisation.forward(torch.from_numpy(seen.condition).to(device))
        with watch.stage("prior", device):
            prior = self._prior(condition, mirror=sampler.mirror)
        of_target = normalisation.of_target

        def back(activity: torch.Tensor) -> Volume:
            return frame.inverse(activity.cpu().numpy(), volume.unit)

        result, used, noise, paths = _activity(prior, of_target), None, None, None
        if not self.prior_only(options):
            if self.noise_embedding:
                with watch.stage("noise level", device):
                    noise = input_noise(volume, description, options.nstd)
            with watch.stage("sampling", device):
                used = sampler
                body = torch.from_numpy(frame.mask).to(device)
                task = Task(condition, self.objective, prior=prior, residual=self.residual, body=body)
                draw = partial(
                    sampling_step.draw,
                    denoisers=self._view_denoisers(noise),
                    settings=sampler,
                    compute=self.compute,
                    of_sample=lambda normalised: of_target.inverse(normalised).clamp_min(0.0),
                    batch_slices=options.batch_slices,
                    progress=progress,
                )
                *earlier, last = (
                    path_seeds(options.seed, case_id, options.paths, stage) for stage in range(options.cascade)
                )
                for seeds in earlier:
                    task = task.continued(of_target.forward(draw(task, seeds=seeds).mean))
                paths = draw(
                    task,
                    seeds=last,
                    views_apart=options.uncertainty,
                    on_path=None if on_path is None else lambda number, path: on_path(number, back(path)),
                )
                result = paths.mean.cpu().numpy()
        with watch.stage("back", device):
            out = frame.inverse(result, volume.unit)
        uncertainty = None
        if options.uncertainty and paths is not None:
            with watch.stage("uncertainty", device):
                uncertainty = self._uncertainty(paths, condition, seen, volume.unit, sampler, options)
        return Translation(
            volume=out,
            frame=frame,
            prior_box=_activity(prior, of_target),
            normalisation=asdict(normalisation),
            sampler=used,
            noise=noise,
            timing_s=watch.seconds,
            peak_memory_mb=memory.host_peak_mb(),
            peak_device_memory_mb=memory.device_peak_mb(device),
            warnings=(
                *body_cautions(frame, volume.unit, seen.far, seen.alarms),
                *(() if noise is None else noise.cautions),
                *(() if uncertainty is None else uncertainty.warnings),
            ),
            uncertainty=uncertainty,
        )

    def _uncertainty(
        self, paths: Paths, condition: torch.Tensor, seen: Framed, unit: Unit, sampler: SamplerSettings,
        options: TranslateOptions,
    ) -> Uncertainty:  # fmt: skip
        """The map of a draw, calibrated where the model can, on the input's grid."""
        frame, scale = seen.frame, seen.normalisation.of_target.scale
        count = options.paths
        warnings = []
        if count == 1:
            warnings.append(
                "uncertainty of one path: its spread is how far the views disagree before they are averaged"
            )
        spacing_mm = frame.grid.spacing_mm
        spread = pooled_deviation(paths, spacing_mm)
        signs = signs_of(paths.mean.cpu().numpy(), spread, condition.cpu().numpy(), seen.noise_level, scale, spacing_mm)
        calibration, why = calibration_for(self.model.description.calibration, sampler, count, options.cascade)
        if calibration is None:
            warnings.append(f"the uncertainty is not calibrated: {why}")
        else:
            spread = calibrated_deviation(signs, frame.mask, scale, calibration)
        return Uncertainty(frame.inverse(spread, unit), signs, sources_of(paths), count, calibration, tuple(warnings))

    def _view_denoisers(self, noise: InputNoise | None) -> dict[View, ViewDenoiser]:
        """The networks as the sampler wants them, told the volume's noise level if they take one and it is known."""
        value = None if noise is None else noise.value
        nstd = None if value is None else torch.tensor([value], device=self.compute.device)
        return {
            view: sampling_step.view_denoiser(view, one, self.compute, nstd) for view, one in self.denoisers.items()
        }

    def _prior(self, condition: torch.Tensor, *, mirror: bool) -> torch.Tensor:
        """The CNN prior of a normalised condition (x, y, z); with `mirror` averaged with that of the mirrored body."""
        prior = prior_step.estimate(self.prior_network, condition, self.compute, self.multiple)
        if mirror:
            other = prior_step.estimate(self.prior_network, condition.flip(0), self.compute, self.multiple)
            prior = (prior + other.flip(0)) / 2.0
        return prior


def path_seeds(seed: int, case_id: str, paths: int, stage: int = 0) -> list[int]:
    """Of each path's noise in a stage of a cascade.

    The first path's of the first stage is that of a translation with one path and stage, however many follow.
    """
    names = ("sampling",) if stage == 0 else ("sampling", "stage", stage)
    first = derive_seed(seed, case_id, *names)
    return [first, *(derive_seed(seed, case_id, *names, path) for path in range(1, paths))]


def _activity(normalised: torch.Tensor, normalisation: Normalisation) -> Float32Array:
    """Back in the input's unit, on the host; what the networks put below zero is none."""
    activity: Any = normalisation.inverse(normalised).clamp_min(0.0).cpu().numpy()
    return cast(Float32Array, activity)
