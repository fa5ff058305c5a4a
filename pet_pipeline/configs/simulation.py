"""What a simulated cohort is made of: bodies, scanners, counts, and the files to write."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pet_pipeline.configs.base import Settings, is_absent
from pet_pipeline.configs.phantom import PhantomSettings

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Percent = Annotated[float, Field(gt=0.0, le=100.0)]
Range = tuple[float, float]
"""Lowest and highest value of a uniform draw."""


def _ordered(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name}: the lower bound {bounds[0]} exceeds the upper bound {bounds[1]}")


class AcquisitionSettings(Settings):
    """Ranges from which the imperfections of one scan are drawn.

    Attributes:
        scatter_ratio: scatter per true count and unit of attenuation line integral; 0.22 to 0.32 gives a scatter
            fraction of 30 to 40 % in a torso.
        scatter_estimate_sd: standard deviation of the factor by which the scatter estimate is wrong.
        randoms_fraction: randoms as a share of prompts.
        counts_jitter: standard deviation of the logarithm of the count level, patient to patient.
        phases: breathing phases that the emission is averaged over.
        ct_blur_mm: FWHM of the blur of the CT mu-map, mm.
    """

    scatter_ratio: Range = (0.22, 0.32)
    scatter_estimate_sd: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    randoms_fraction: Range = (0.30, 0.50)
    counts_jitter: Annotated[float, Field(ge=0.0, le=1.0)] = 0.15
    phases: Annotated[int, Field(ge=1, le=6)] = 4
    ct_blur_mm: Annotated[float, Field(ge=0.0)] = 5.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ordered("scatter_ratio", self.scatter_ratio)
        _ordered("randoms_fraction", self.randoms_fraction)
        if self.randoms_fraction[1] >= 1.0:
            raise ValueError("randoms_fraction: must stay below 1")
        return self


class SplitFractions(Settings):
    """Shares of the patients in each split; the three add to one. Whole patients only."""

    train: Fraction = 0.8
    val: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}, must be 1")
        return self


class CohortSettings(Settings):
    """A simulated cohort.

    Attributes:
        patients: how many; numbered from `first_patient`.
        doses: percent of the full counts; 100 is always added for the target.
        scanners: preset name -> weight; each patient's scanner is drawn by these weights.
        family: of bodies; `heldout` has uptake and shapes outside the training ranges.
        site: written into the manifest.
        seed: with the patient's number it decides everything about a patient.
        twins: also write each patient with lesions a second time without them, sharing the same noise.
        ac_low_dose: also write the attenuation-corrected low-dose images (`input_ac`).
        keep_sinograms: also write the counts, so that `reconstruct` can start from them.
        slice_mm: distance of the slices, instead of each scanner's own: thick ones cost less, and are enough for what
            is taught from coarse pictures.
    """

    patients: Annotated[int, Field(ge=1, le=9999)] = 4
    first_patient: Annotated[int, Field(ge=1, le=9999)] = 1
    doses: tuple[Percent, ...] = (5.0, 10.0, 20.0, 50.0, 100.0)
    scanners: dict[str, Annotated[float, Field(gt=0.0)]] = Field(default_factory=lambda: {"plain-5mm": 1.0})
    family: Literal["standard", "heldout"] = "standard"
    site: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")] = "simulated"
    seed: Annotated[int, Field(ge=0)] = 0
    split: SplitFractions = SplitFractions()
    twins: bool = False
    ac_low_dose: bool = False
    keep_sinograms: bool = False
    slice_mm: Annotated[float | None, Field(ge=2.5, le=20.0, exclude_if=is_absent)] = None
    phantom: PhantomSettings = PhantomSettings()
    acquisition: AcquisitionSettings = AcquisitionSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.doses or len(set(self.doses)) != len(self.doses):
            raise ValueError(f"doses: needed are one or more different percentages, given {list(self.doses)}")
        if not self.scanners:
            raise ValueError("scanners: at least one preset is needed")
        return self
