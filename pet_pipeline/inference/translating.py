"""Translation as what is done with every file of a batch: options for the sidecar, images, DICOM beside them."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.uncertainty import Calibration
from pet_pipeline.data.derived_pet import DerivedPet
from pet_pipeline.data.dicom_pet import PetSeries
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.parametric_map import UncertaintyMap
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference.cautions import require_record
from pet_pipeline.inference.derivatives import derivative_facts
from pet_pipeline.inference.intake import Intake
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.procedure import Made
from pet_pipeline.inference.region_intervals import RegionTable, labels_for
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models import devices
from pet_pipeline.units import Unit

BIDS_UNITS = {Unit.SUV: "g/mL", Unit.BQML: "Bq/mL", Unit.RELATIVE: "relative"}
"""`Units` of a sidecar, so that outputs are understood as inputs, by us and by others."""


@dataclass(frozen=True)
class DicomOut:
    """That a derived DICOM series is written beside each result, and whether it keeps the patient's ID."""

    keep_ids: bool = False


@dataclass(frozen=True)
class TranslateWork:
    """A translation of every file of a batch; see `procedure.Procedure`.

    Attributes:
        translator: the loaded model.
        options: what is asked of it.
        reading: how files are read.
        overwrite: whether finished outputs are made anew.
        dicom: that results are also written as DICOM series.
        bids: whether sidecars are those of a BIDS derivative.
        regions: where the label volumes lie whose organs and lesions get intervals (see `labels_for`); None: nowhere.

    Raises:
        UsageError: regions that do not exist, or of whose errors neither paths nor a calibration tell.
    """

    translator: Translator
    options: TranslateOptions
    reading: InputOptions
    overwrite: bool = False
    dicom: DicomOut | None = None
    bids: bool = False
    regions: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.regions is None:
            return
        if self.translator.prior_only(self.options):
            raise UsageError(f"--regions {self.regions}: a prior is one estimate; needed is the sampling")
        if self.options.paths < 2 and self._known is None:
            raise UsageError(
                f"--regions {self.regions}: {self.description.name} has no calibration that knows the errors of organs "
                "and lesions with these options; give --paths 2 or more, or calibrate it on cases with labels"
            )
        if not self.regions.exists():
            raise UsageError(
                f"--regions {self.regions}: does not exist; needed is a label volume, a folder of them or a manifest"
            )

    @property
    def _known(self) -> Calibration | None:
        """The calibration that tells the errors of organs and lesions with these options."""
        known = self.translator.calibration(self.options)
        return known if known is not None and known.figures else None

    @property
    def seed(self) -> int:
        """Of the noise."""
        return self.options.seed

    @property
    def description(self) -> ModelDescription:
        """The model's."""
        return self.translator.model.description

    @property
    def compute(self) -> devices.Compute:
        """Device and precision."""
        return self.translator.compute

    def identity(self) -> dict[str, str]:
        """Name, version and checksum of the model."""
        return self.translator.identity()

    def record(self) -> dict[str, Any]:
        """The resolved options of a sidecar; what alters no voxel is left out.

        Raises:
            UsageError: options that the model cannot follow.
        """
        if self.strict:
            require_record(self.description)
        sampler = self.translator.sampler(self.options).model_dump(mode="json")
        reading = self.reading.model_dump(mode="json", exclude_none=True)
        asked = {"prior_only": self.translator.prior_only(self.options), "precision": self.translator.precision_asked}
        given: dict[str, Any] = {} if self.options.nstd is None else {"nstd": self.options.nstd}
        if self.options.paths > 1:
            given["paths"] = self.options.paths
        if self.options.cascade > 1:
            given["cascade"] = self.options.cascade
        if self.options.uncertainty:
            given["uncertainty"] = True
        if self.regions is not None:
            given["regions"] = sha256_of(self.regions) if self.regions.is_file() else str(self.regions)
        identity = {"keep_ids": True} if self.dicom is not None and self.dicom.keep_ids else {}
        return {**sampler, **given, **asked, **reading, **identity}

    def products(self, job: Job) -> tuple[Path, ...]:
        """The translated image, and where they are wanted its uncertainty, their series and the table of regions."""
        deviation = (job.deviation,) if self.options.uncertainty else ()
        table = () if self.regions is None else (job.regions,)
        series = () if self.dicom is None else (job.dicom_folder,)
        parametric = (job.deviation_dicom_folder,) if series and deviation else ()
        return (job.target, *deviation, *table, *series, *parametric)

    def make(self, intake: Intake, job: Job) -> Made:
        """Translate.

        Raises:
            InputRefused: a DICOM series is wanted of an input that is none, or of relative values; or intervals
                without labels on the input's grid.
        """
        if self.dicom is not None:
            refuse_undicom(intake, str(job.source))
        table, options = None, self.options
        if self.regions is not None:
            table = RegionTable.of(labels_for(job.case_id, self.regions), intake, self._known)
            if table.known is not None:
                options = options.model_copy(update={"uncertainty": True})
        translation = self.translator.translate(
            intake.volume,
            options,
            job.case_id,
            strict=self.strict,
            on_path=None if table is None or table.known is not None else table.add,
        )
        gpu = translation.peak_device_memory_mb
        facts = {
            "Units": BIDS_UNITS[intake.output_unit],
            "normalisation": dict(translation.normalisation),
            **({} if translation.noise is None else {"noise_level": asdict(translation.noise)}),
            "timing_s": dict(translation.timing_s),
            "peak_memory_mb": translation.peak_memory_mb,
            **({} if gpu is None else {"peak_device_memory_mb": gpu}),
            **(derivative_facts(job) if self.bids else {}),
        }
        images, beside = {job.target: intake.outgoing(translation.volume)}, {}
        if self.options.uncertainty and translation.uncertainty is not None:
            images[job.deviation] = intake.outgoing(translation.uncertainty.volume)
            facts["uncertainty"] = beside[job.deviation] = translation.uncertainty.facts()
        told = translation.warnings
        if translation.uncertainty is not None and not self.options.uncertainty:  # the table alone was asked for
            told = tuple(line for line in told if line not in translation.uncertainty.warnings)
        made = Made(images, facts, told, beside=beside)
        if table is not None:
            made = replace(
                made,
                facts={**facts, "regions": table.facts()},
                tables={job.regions: table.table(translation)},
                warnings=(*made.warnings, *table.warnings),
            )
        if self.dicom is None or intake.series is None:
            return made
        made_by = f"{self.description.name} {self.description.version}"
        return with_dicom(made, job, intake.series, made_by, keep_ids=self.dicom.keep_ids)


def with_dicom(made: Made, job: Job, source: PetSeries, made_by: str, *, keep_ids: bool) -> Made:
    """The same with its result as a derived series and its uncertainty, where there is one, as a parametric map."""
    spread = made.images.get(job.deviation)
    maps = {} if spread is None else {
        job.deviation_dicom_folder: UncertaintyMap(spread, source, made_by, keep_ids=keep_ids)
    }  # fmt: skip
    series = {job.dicom_folder: DerivedPet(made.images[job.target], source, made_by, keep_ids)}
    return replace(made, series=series, maps=maps)


def refuse_undicom(intake: Intake, name: str) -> None:
    """Refuse what cannot become a derived DICOM series.

    Raises:
        InputRefused: so it is.
    """
    if intake.series is None:
        raise InputRefused(f"{name}: a NIfTI file; --dicom-out needs a DICOM series as input")
    if intake.output_unit is Unit.RELATIVE:
        raise InputRefused(
            f"{name}: relative values; --dicom-out needs SUV or Bq/mL: --scale with the scanner's factor"
        )
