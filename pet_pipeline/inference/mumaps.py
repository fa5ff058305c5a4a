"""PET to mu-map: the model loaded once, its cascade and its bank on one volume, on the input's grid with provenance."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.mumap import MumapDescription
from pet_pipeline.configs.uncertainty import MumapCalibration
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.framing import Frame
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, ModelError, UsageError
from pet_pipeline.inference.cautions import body_cautions, refuse_grid
from pet_pipeline.inference.defaults import DEFAULT_MUMAP_MODEL
from pet_pipeline.inference.framed import framed
from pet_pipeline.inference.intake import Intake
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.mumap_uncertainty import MumapUncertainty, expected_error, signs_of_mumap
from pet_pipeline.inference.options import InputOptions, MumapOptions, TranslateOptions
from pet_pipeline.inference.procedure import Made
from pet_pipeline.inference.translator import Translator
from pet_pipeline.inference.unusual import Watch
from pet_pipeline.models import devices, memory
from pet_pipeline.models.weights import DESCRIPTION_FILE, ModelFolder, bank_path, load_folder, network
from pet_pipeline.mumap.cascade import Cascaded, PriorMaps, channels_of, run, tissue_in
from pet_pipeline.mumap.population import Bank
from pet_pipeline.physics.attenuation import carney_line, hu_from_mu
from pet_pipeline.types import Float32Array
from pet_pipeline.units import MU_WATER_CM1, Unit

log = logging.getLogger(__name__)

LEAST_BODY_ML = 500.0
"""Less than this is no body: a newborn has six times as much."""

UNLIKE = 0.05
"""Share of the body that is tissue of which the population says nothing, from which on it is warned of: more than any
of 20 usual patients had with the built-in model (0.9 % in the mean, 4.7 % at most; docs/mumap.md)."""


@dataclass(frozen=True, eq=False)
class MumapResult:
    """A patient's mu-map and how it came about.

    Attributes:
        volume: cm^-1 on the input's grid, without couch; 0 outside the box around the body.
        confidence: of the population prior, 0 to 1, on the same grid; None without one.
        uncertainty: the error to expect, and what tells it; None without a population prior.
        frame: where the body was found.
        normalisation: its parameters, for the record.
        population: who the prior was made of and how far it goes, for the record; empty without one.
        timing_s: seconds of each part.
        peak_memory_mb: peak resident memory of the process, MB.
        warnings: one line each.
        cascaded: every stage and prior in the frame's box, for who measures them; None of a diffusion model.
    """

    volume: Volume
    confidence: Volume | None
    frame: Frame
    normalisation: Mapping[str, float]
    population: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: MumapUncertainty | None = None
    timing_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    warnings: tuple[str, ...] = ()
    cascaded: Cascaded | None = None


@dataclass(frozen=True, eq=False)
class MumapMaker:
    """A loaded mu-map model on a device.

    Attributes:
        model: the opened folder.
        compute: device and precision.
        precision_asked: as asked for, `auto` included: part of the provenance.
        cascade: what the model says of its cascade.
        networks: of the stages, in turn; empty for a diffusion model.
        bank: the population; None where the model has none.
        translator: a diffusion model's machinery; None for the others.
        watch: what tells unusual inputs; None where the model has none.
    """

    model: ModelFolder
    compute: devices.Compute
    precision_asked: str
    cascade: MumapDescription
    networks: tuple[nn.Module, ...]
    bank: Bank | None
    translator: Translator | None = None
    watch: Watch | None = None

    @classmethod
    def load(
        cls, model: str | Path | ModelFolder = DEFAULT_MUMAP_MODEL, *, device: str = "auto", precision: str = "auto"
    ) -> "MumapMaker":
        """Load a model by name or folder onto a device.

        Raises:
            ModelError: missing, damaged, or no model of mu-maps.
            UsageError: a device or precision that is not here.

        Example:
            >>> maker = MumapMaker.load(device="cpu")  # doctest: +SKIP
            >>> maker.make(volume).volume  # doctest: +SKIP
        """
        folder = model if isinstance(model, ModelFolder) else load_folder(model)
        cascade = folder.description.mumap
        if cascade is None:
            raise ModelError(f"{folder.path}: a model of task {folder.description.task}; needed is one of task mumap")
        compute = devices.choose(device, precision)
        memory.keep_freed_memory()
        translator = None
        networks: tuple[nn.Module, ...] = ()
        if cascade.method == "diffusion":
            translator = Translator.load(folder, device=device, precision=precision)
        else:
            networks = tuple(network(folder, f"stage{n}").to(compute.device) for n in range(1, cascade.stages + 1))
        path = bank_path(folder)
        bank = None if path is None else Bank.load(path)
        log.info("%s on %s in %s (%s)", folder.description.name, compute.device, compute.precision, compute.reason)
        return cls(folder, compute, precision, cascade, networks, bank, translator, Watch.of(folder))

    @property
    def description(self) -> ModelDescription:
        """The model's."""
        return self.model.description

    def identity(self) -> dict[str, str]:
        """Name, version and checksum; the checksum is of `model.yaml`, which holds those of weights and bank."""
        checksum = sha256_of(self.model.path / DESCRIPTION_FILE)
        return {"name": self.description.name, "version": self.description.version, "sha256": checksum}

    def stages(self, options: MumapOptions) -> int:
        """How many stages run: those asked for, up to the first that needs a bank where there is none.

        Raises:
            UsageError: more stages than the model has.
        """
        if options.stages is not None and options.stages > self.cascade.stages:
            raise UsageError(
                f"--stages {options.stages}: {self.description.name} has {self.cascade.stages}; give at most that"
            )
        wanted = options.stages or self.cascade.stages
        if options.bank and self.bank is not None:
            return wanted
        for index, one in enumerate(self.networks[:wanted]):
            if channels_of(one) == 4:
                return index
        return wanted

    def members(self, options: MumapOptions) -> int:
        """Members of the population prior; 0 where none is used."""
        used = any(channels_of(one) == 4 for one in self.networks[: self.stages(options)])
        return (options.k or self.cascade.k) if used else 0

    def calibrated(self, options: MumapOptions) -> MumapCalibration | None:
        """What tells the error of the maps that these options give; None where it was not fitted, or for others."""
        own = self.stages(options) == self.cascade.stages and self.members(options) == self.cascade.k
        return self.cascade.calibration if own else None

    @torch.inference_mode()
    def make(
        self, volume: Volume, options: MumapOptions | None = None, case_id: str = "case", *, name: str | None = None
    ) -> MumapResult:
        """The mu-map of one volume; twice the activity gives the same map.

        Args:
            volume: NAC (or low-dose) PET in SUV or relative units, on any unsheared grid.
            options: None: everything as the model recommends. Its unit and tube voltage are not looked at here.
            case_id: of the patient; with a diffusion model it names the noise.
            name: how messages call the volume; the case's id if not given.

        Raises:
            UsageError: options that the model cannot follow.
            InputRefused: a grid that the model cannot take, no body, or no activity in it.
            OutOfMemory: memory ran out after every fallback.
        """
        options, name = options or MumapOptions(), name or case_id
        stages = self.stages(options)
        refuse_grid(self.description, volume.geometry, name)
        memory.reset_peak(self.compute.device)
        if self.translator is not None:
            return self._diffused(volume, self.translator, case_id, name)
        clock = _Clock()
        networks = self.networks[:stages]
        multiple = max(int(one.multiple) for one in networks)  # type: ignore[arg-type]
        seen = framed(volume, self.description, multiple=multiple, watch=self.watch)
        refuse_no_body(seen.frame, name)
        condition = seen.normalisation.forward(torch.from_numpy(seen.condition).to(self.compute.device))
        clock.lap("frame")
        k = self.members(options)
        cascaded = run(
            networks,
            condition,
            seen.frame.mask,
            self.description.grid.spacing_mm,
            self.compute,
            source=self.bank if k else None,
            k=k,
            confidence_floor=self.cascade.confidence_floor,
            workers=options.workers,
            on_part=clock.lap,
        )
        prior = cascaded.priors[-1] if cascaded.priors else None
        out = seen.frame.inverse(cascaded.mumap_cm1, Unit.CM1)
        confidence = None if prior is None else seen.frame.inverse(prior.confidence, Unit.RELATIVE)
        uncertainty = None if prior is None else self._uncertainty(cascaded.mumap_cm1, prior, seen.frame, options)
        clock.lap("back")
        population, unlike = _population(cascaded, seen.frame, k, self.cascade.confidence_floor)
        return MumapResult(
            volume=out.with_data(np.maximum(out.data, np.float32(0.0))),
            confidence=None if confidence is None else confidence.with_data(np.clip(confidence.data, 0.0, 1.0)),
            frame=seen.frame,
            normalisation=asdict(seen.normalisation),
            population=population,
            uncertainty=uncertainty,
            timing_s=clock.seconds,
            peak_memory_mb=memory.host_peak_mb(),
            # the unit of the activity does not matter to a map of attenuation
            warnings=(*self._left_out(options), *body_cautions(seen.frame, Unit.SUV, seen.far, seen.alarms), *unlike),
            cascaded=cascaded,
        )

    def _uncertainty(
        self, mumap_cm1: Float32Array, prior: PriorMaps, frame: Frame, options: MumapOptions
    ) -> MumapUncertainty:
        signs = signs_of_mumap(mumap_cm1, prior.confidence, self.description.grid.spacing_mm)
        known = self.calibrated(options)
        if known is None:
            return MumapUncertainty(signs)
        error = frame.inverse(expected_error(signs, frame.mask, known), Unit.CM1)
        return MumapUncertainty(signs, error.with_data(np.maximum(error.data, np.float32(0.0))), known)

    def _left_out(self, options: MumapOptions) -> tuple[str, ...]:
        stages, wanted = self.stages(options), options.stages or self.cascade.stages
        return () if stages == wanted else (f"without population bank: stage {stages} of {wanted} is the result",)

    def _diffused(self, volume: Volume, translator: Translator, case_id: str, name: str) -> MumapResult:
        """A diffusion model's answer is mu / 0.096 on the scale of the input's activity."""
        made = translator.translate(volume, TranslateOptions(), case_id)
        refuse_no_body(made.frame, name)
        factor = MU_WATER_CM1 / (made.normalisation["scale"] * made.normalisation["gain"])
        return MumapResult(
            volume=made.volume.with_data(made.volume.data * np.float32(factor), Unit.CM1),
            confidence=None,
            frame=made.frame,
            normalisation=made.normalisation,
            timing_s=made.timing_s,
            peak_memory_mb=made.peak_memory_mb,
            warnings=made.warnings,
        )


@dataclass(frozen=True)
class MumapWork:
    """A mu-map of every file of a batch; see `procedure.Procedure`."""

    maker: MumapMaker
    options: MumapOptions
    reading: InputOptions
    overwrite: bool = False

    @property
    def seed(self) -> int:
        """Nothing is drawn but a diffusion model's noise, always with this seed."""
        return 0

    @property
    def description(self) -> ModelDescription:
        """The model's."""
        return self.maker.description

    @property
    def compute(self) -> devices.Compute:
        """Device and precision."""
        return self.maker.compute

    def identity(self) -> dict[str, str]:
        """Name, version and checksum of the model."""
        return self.maker.identity()

    def record(self) -> dict[str, Any]:
        """The resolved options of a sidecar; what alters no voxel of the mu-map is left out.

        Raises:
            UsageError: options that the model cannot follow.
        """
        options = self.options
        if options.unit == "hu":
            carney_line(options.kvp)
        if options.confidence and not self.maker.members(options):
            raise UsageError("--confidence: no population prior is used, so there is none; leave it out")
        if options.uncertainty and self.maker.calibrated(options) is None:
            raise UsageError(
                f"--uncertainty: {self.description.name} has none for these stages and members; leave out --stages, "
                "--k and --no-bank, or fit it with pet-pipeline calibrate"
            )
        return {
            "stages": self.maker.stages(options),
            "k": self.maker.members(options),
            "output_unit": options.unit,
            **({"kvp": options.kvp} if options.unit == "hu" else {}),
            "precision": self.maker.precision_asked,
            **self.reading.model_dump(mode="json", exclude_none=True),
        }

    def products(self, job: Job) -> tuple[Path, ...]:
        """The mu-map, and where they are wanted the confidence and the error to expect."""
        confidence = (job.confidence,) if self.options.confidence else ()
        return job.target, *confidence, *((job.deviation,) if self.options.uncertainty else ())

    def make(self, intake: Intake, job: Job) -> Made:
        """Make the mu-map, in cm^-1 or as a pseudo-CT in HU."""
        made = self.maker.make(intake.volume, self.options, job.case_id, name=str(job.source))
        volume, units = made.volume, Unit.CM1.value
        if self.options.unit == "hu":
            volume, units = volume.with_data(hu_from_mu(volume.data, self.options.kvp), Unit.HU), "HU"
        images = {job.target: volume}
        if self.options.confidence and made.confidence is not None:
            images[job.confidence] = made.confidence
        told = made.uncertainty if self.options.uncertainty else None
        if told is not None and told.volume is not None:
            images[job.deviation] = told.volume
        facts = {
            "Units": units,
            "Couch": False,
            "normalisation": dict(made.normalisation),
            **({"population_prior": dict(made.population)} if made.population else {}),
            **({} if told is None else {"uncertainty": told.facts()}),
            "timing_s": dict(made.timing_s),
            "peak_memory_mb": made.peak_memory_mb,
        }
        return Made(images, facts, made.warnings)


def refuse_no_body(frame: Frame, name: str) -> None:
    """Refuse a PET in which no body with air around it was found: its attenuation cannot be told from its outline.

    Raises:
        InputRefused: so it is.
    """
    needed = "needed is a PET of a body with air around it"
    if bool(frame.mask.all()):
        raise InputRefused(f"{name}: no body found that stands out from its surroundings; {needed}")
    body_ml = float(frame.mask.sum()) * frame.grid.voxel_ml
    if body_ml < LEAST_BODY_ML:
        raise InputRefused(f"{name}: a body of {body_ml:.0f} mL found; {needed}, at least {LEAST_BODY_ML:g} mL")


def _population(cascaded: Cascaded, frame: Frame, k: int, floor: float) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the sidecar says of the prior, and what it warns of."""
    if not cascaded.priors or cascaded.trust is None:
        return {}, ()
    prior = cascaded.priors[-1]
    tissue = tissue_in(
        cascaded.estimates_cm1[0], frame.mask
    )  # air in a wide outline, where nothing reaches, is no loss
    unlike = float(((cascaded.trust < 0.5) & tissue).sum() / frame.mask.sum())
    warnings = [*dict.fromkeys(line for one in cascaded.priors for line in one.warnings)]
    if unlike >= UNLIKE:
        warnings.append(
            f"{unlike:.0%} of the body is unlike the population bank (regional confidence below {0.75 * floor:.2f}): "
            "there the first stage's estimate stands"
        )
    facts = {
        "k": k,
        "mean_confidence": round(float(prior.confidence[frame.mask].mean()), 4),
        "confidence_floor": floor,
        "body_without_population": round(unlike, 4),
        "members": list(prior.members),
    }
    return facts, tuple(warnings)


class _Clock:
    """Seconds of each part of the work; parts of the same name add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap was spent on `name`."""
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 3)
        self._last = now
