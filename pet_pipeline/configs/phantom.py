"""Ranges from which a simulated patient is drawn; every randomised quantity of the body and its uptake has one here."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pet_pipeline.configs.base import Settings, is_absent

Range = tuple[float, float]
"""(lowest, highest) of a uniform draw, both included."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

STANDARD_UPTAKE: Mapping[str, Range] = {
    "fat": (0.15, 0.5),
    "visceral_fat": (0.2, 0.5),
    "muscle": (0.45, 0.95),
    "bone": (0.3, 0.7),
    "marrow": (0.9, 2.2),
    "lungs": (0.3, 0.65),
    "liver": (1.65, 2.75),
    "spleen": (1.3, 2.4),
    "kidneys": (1.8, 4.2),
    "renal_pelvis": (2.0, 14.0),
    "myocardium": (1.0, 8.0),
    "blood_pool": (1.2, 2.0),
    "brain": (5.0, 13.0),
    "bladder": (3.0, 32.0),
    "stomach": (1.0, 3.2),
    "bowel": (0.8, 3.5),
    "mediastinum": (0.5, 1.1),
    "thyroid": (0.8, 3.0),
    "salivary_glands": (1.0, 4.5),
    "tonsils": (1.5, 6.0),
    "breast": (0.4, 1.2),
    "uterus": (1.0, 4.0),
    "prostate": (1.0, 2.5),
    "gonads": (1.0, 4.0),
    "spinal_cord": (0.9, 1.8),
    "pancreas": (1.0, 2.0),
    "gallbladder": (0.3, 1.5),
    "adrenals": (0.9, 2.2),
    "soft_tissue": (0.5, 1.0),
}
"""SUVbw by tissue, FDG at 60 min; typical values widened by 10-20 %. `brain` is grey matter."""


class HeldOutSettings(Settings):
    """What the held-out family of bodies draws outside the standard family's ranges.

    Attributes:
        liver_low: liver SUV below the standard range (half of the patients).
        liver_high: liver SUV above it (the other half).
        superscan_fraction: share of patients with diffusely hot marrow.
        superscan_marrow: marrow SUV in those.
        hot_muscle_fraction: share with hot muscle (insulin, exercise).
        hot_muscle: muscle SUV in those.
        brown_fat_fraction: share with active brown fat in neck, supraclavicular fossae and beside the spine.
        brown_fat: its SUV.
        necrotic_tumour_fraction: share with one large necrotic tumour.
        necrotic_tumour_mm: its diameter.
        single_kidney_fraction: share with one kidney.
        large_liver: scale of the liver's semi-axes.
        scoliosis_mm: sideways amplitude of the spine.
        deformation: factor on the standard family's smooth deformation.
        exponent: exponent of the superquadrics (an ellipsoid has 2).
    """

    liver_low: Range = (1.0, 1.6)
    liver_high: Range = (2.8, 4.0)
    superscan_fraction: Fraction = 0.3
    superscan_marrow: Range = (4.0, 8.0)
    hot_muscle_fraction: Fraction = 0.35
    hot_muscle: Range = (1.5, 4.0)
    brown_fat_fraction: Fraction = 0.5
    brown_fat: Range = (4.0, 15.0)
    necrotic_tumour_fraction: Fraction = 0.4
    necrotic_tumour_mm: Range = (50.0, 90.0)
    single_kidney_fraction: Fraction = 0.25
    large_liver: Range = (1.05, 1.3)
    scoliosis_mm: Range = (8.0, 25.0)
    deformation: float = Field(default=1.8, gt=0.0)
    exponent: Range = (2.7, 4.0)


PathologyKind = Literal["lung_removed", "effusion", "scoliosis", "hip_implant"]


class PathologySettings(Settings):
    """What illness or surgery has changed in a body.

    Attributes:
        kinds: a body has one of these: the patients of a cohort have them in turn, by their number.
        share: of the bodies that have one.
        fluid: SUV of the fluid in a pleural space.
        effusion_mm: depth of an effusion above the lowest point of the chest of a patient on the back.
        scoliosis_mm: sideways amplitude of the spine.
        cobalt_chrome: share of hip implants of cobalt-chromium alloy; the others are of titanium alloy.
    """

    kinds: Annotated[tuple[PathologyKind, ...], Field(min_length=1)]
    share: Fraction = 1.0
    fluid: Range = (0.3, 0.8)
    effusion_mm: Range = (50.0, 110.0)
    scoliosis_mm: Range = (25.0, 45.0)
    cobalt_chrome: Fraction = 0.5

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_unordered((name, getattr(self, name)) for name in ("fluid", "effusion_mm", "scoliosis_mm"))
        return self


LUNG_MU_CM1: Range = (0.022, 0.035)
"""Attenuation of lung tissue between end-inspiration at the front and end-expiration at the back; kept within it."""


class PhantomSettings(Settings):
    """Ranges of a simulated patient. Lengths mm unless named otherwise, SUV g/mL, mu cm^-1 at 511 keV.

    Attributes:
        slices: fewest and most 5 mm slices of the field of view.
        top_mm: how far below the crown the field of view begins; with `slices` this cuts the body anywhere. A field
            that would reach below the knees is moved up.
        height_cm: standing height.
        bmi: body mass index, kg/m^2.
        female: share of women.
        arms_up: share scanned with the arms over the head.
        deformation_mm: standard deviation of the smooth deformation of all coordinates.
        roughness: standard deviation of organ surfaces, as a fraction of the organ's semi-axes.
        texture: relative amplitude of the smooth texture inside the liver; other tissues have it in proportion.
        lung_mu_cm1: mean attenuation of the lungs.
        bone_mu_cm1: cortical bone.
        dome_mm: travel of the diaphragm's dome between end-expiration and end-inspiration.
        couch: probability that a couch lies under the body.
        hot_bladder: share of bladders drawn from the upper two thirds of the bladder's range.
        couch_mu_cm1: effective attenuation of the couch's carbon skin over one 2.5 mm voxel.
        uptake: SUV by tissue name; names left out keep the standard range.
        lesions: fewest and most lesions.
        lesion_diameter_mm: diameter of the sphere of the same volume; drawn log-uniformly.
        lesion_suv: SUV of the viable rim; drawn log-uniformly.
        faint_lesions: share whose SUV is only 1.3 to 2 times their surroundings' (never below `lesion_suv[0]`).
        irregular_lesions: share with a lobulated surface.
        necrotic_lesions: share, among lesions over 18 mm, with a cold centre.
        heldout: the held-out family.
        pathology: what bodies have besides; None for healthy ones.
    """

    slices: tuple[int, int] = (60, 200)
    top_mm: Range = (0.0, 700.0)
    height_cm: Range = (150.0, 195.0)
    bmi: Range = (18.0, 38.0)
    female: Fraction = 0.5
    arms_up: Fraction = 0.6
    deformation_mm: Range = (2.0, 6.0)
    roughness: Range = (0.02, 0.06)
    texture: Range = (0.02, 0.12)
    lung_mu_cm1: Range = (0.024, 0.033)
    bone_mu_cm1: Range = (0.13, 0.17)
    dome_mm: Range = (10.0, 20.0)
    couch: Fraction = 0.95
    couch_mu_cm1: Range = (0.05, 0.11)
    hot_bladder: Fraction = 0.6
    uptake: dict[str, Range] = Field(default_factory=dict)
    lesions: tuple[int, int] = (0, 8)
    lesion_diameter_mm: Range = (6.0, 40.0)
    lesion_suv: Range = (2.0, 15.0)
    faint_lesions: Fraction = 0.25
    irregular_lesions: Fraction = 0.5
    necrotic_lesions: Fraction = 0.3
    heldout: HeldOutSettings = HeldOutSettings()
    pathology: PathologySettings | None = Field(None, exclude_if=is_absent)

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.uptake) - set(STANDARD_UPTAKE))
        if unknown:
            raise ValueError(f"uptake of unknown tissue {', '.join(unknown)}: known are {', '.join(STANDARD_UPTAKE)}")
        if self.lung_mu_cm1[0] < LUNG_MU_CM1[0] or self.lung_mu_cm1[1] > LUNG_MU_CM1[1]:
            raise ValueError(f"lung_mu_cm1: {self.lung_mu_cm1} given; needed is a range within {LUNG_MU_CM1}")
        if self.slices[0] < 2:
            raise ValueError(f"slices: at least 2 are needed, given {self.slices[0]}")
        ranges: list[tuple[str, tuple[float, float]]] = [
            (name, value)
            for part in (self, self.heldout)
            for name in type(part).model_fields
            if isinstance(value := getattr(part, name), tuple)
        ]
        _refuse_unordered([*ranges, *self.uptake.items()])
        return self

    def uptake_range(self, tissue: str) -> Range:
        """SUV range of a tissue: the one given, else the standard one.

        Raises:
            KeyError: for a tissue that has no uptake of its own.
        """
        return self.uptake.get(tissue, STANDARD_UPTAKE[tissue])


def _refuse_unordered(ranges: Iterable[tuple[str, Range]]) -> None:
    for name, (low, high) in ranges:
        if not 0 <= low <= high:
            raise ValueError(f"{name}: ({low:g}, {high:g}) is not a range (lowest, highest) of numbers >= 0")
