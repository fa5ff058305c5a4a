"""The tissues of a phantom: fixed label, attenuation at 511 keV and how strongly each is textured."""

from dataclasses import dataclass
from enum import IntEnum

from pet_pipeline.units import MU_WATER_CM1

FIRST_LESION = 100
"""Lesions have labels from here upwards, one each."""


class Tissue(IntEnum):
    """Label of a voxel; `label_name` is the name written beside it."""

    BACKGROUND = 0
    FAT = 1
    MUSCLE = 2
    VISCERAL_FAT = 3
    BONE = 4
    MARROW = 5
    LUNGS = 6
    LIVER = 7
    SPLEEN = 8
    KIDNEYS = 9
    RENAL_PELVIS = 10
    MYOCARDIUM = 11
    BLOOD_POOL = 12
    BRAIN = 13
    WHITE_MATTER = 14
    CSF = 15
    BLADDER = 16
    STOMACH = 17
    BOWEL = 18
    CONTENTS = 19
    GAS = 20
    MEDIASTINUM = 21
    THYROID = 22
    SALIVARY_GLANDS = 23
    TONSILS = 24
    AIRWAY = 25
    BREAST = 26
    UTERUS = 27
    PROSTATE = 28
    GONADS = 29
    SPINAL_CORD = 30
    PANCREAS = 31
    GALLBLADDER = 32
    BROWN_FAT = 33
    LUNG_VESSELS = 34
    CARTILAGE = 35
    ADRENALS = 36
    SOFT_TISSUE = 37
    FLUID = 38
    METAL = 39

    @property
    def label_name(self) -> str:
        """The tissue's name in label tables and settings, lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Material:
    """What a tissue is made of.

    Attributes:
        mu_cm1: linear attenuation coefficient at 511 keV, cm^-1.
        texture: amplitude of its activity texture, relative to the liver's.
        grain: share of that texture's variance on the fine scale (7 mm lattice); the rest is coarse (25 mm).
    """

    mu_cm1: float
    texture: float = 1.0
    grain: float = 0.5


# mu: physics of 511 keV photons, XCOM compositions of ICRU 44 tissues rounded to 0.001 cm^-1.
MATERIALS: dict[Tissue, Material] = {
    Tissue.BACKGROUND: Material(0.0, 0.0),
    Tissue.FAT: Material(0.090, 2.0, 0.3),
    Tissue.MUSCLE: Material(0.099, 1.5, 0.3),
    Tissue.VISCERAL_FAT: Material(0.091, 2.0, 0.5),
    Tissue.BONE: Material(0.150, 1.0, 0.5),
    Tissue.MARROW: Material(0.110, 1.7, 0.5),
    Tissue.LUNGS: Material(0.029, 2.0, 0.6),
    Tissue.LIVER: Material(0.100, 1.0, 0.5),
    Tissue.SPLEEN: Material(0.100, 1.0, 0.5),
    Tissue.KIDNEYS: Material(0.100, 1.8, 0.6),
    Tissue.RENAL_PELVIS: Material(0.098, 1.5, 0.5),
    Tissue.MYOCARDIUM: Material(0.100, 2.5, 0.3),
    Tissue.BLOOD_POOL: Material(0.100, 0.4, 0.5),
    Tissue.BRAIN: Material(0.099, 1.2, 0.5),
    Tissue.WHITE_MATTER: Material(0.099, 1.0, 0.5),
    Tissue.CSF: Material(0.096, 1.0, 0.5),
    Tissue.BLADDER: Material(0.098, 0.3, 0.1),
    Tissue.STOMACH: Material(0.100, 2.0, 0.4),
    Tissue.BOWEL: Material(0.099, 4.0, 0.25),
    Tissue.CONTENTS: Material(0.098, 2.0, 0.5),
    Tissue.GAS: Material(0.0005, 0.0),
    Tissue.MEDIASTINUM: Material(0.096, 1.5, 0.5),
    Tissue.THYROID: Material(0.102, 1.0, 0.5),
    Tissue.SALIVARY_GLANDS: Material(0.098, 1.5, 0.5),
    Tissue.TONSILS: Material(0.100, 1.0, 0.5),
    Tissue.AIRWAY: Material(0.0005, 0.0),
    Tissue.BREAST: Material(0.097, 2.5, 0.6),
    Tissue.UTERUS: Material(0.100, 2.0, 0.5),
    Tissue.PROSTATE: Material(0.100, 2.0, 0.5),
    Tissue.GONADS: Material(0.100, 1.5, 0.5),
    Tissue.SPINAL_CORD: Material(0.099, 1.0, 0.5),
    Tissue.PANCREAS: Material(0.099, 1.5, 0.5),
    Tissue.GALLBLADDER: Material(0.097, 0.5, 0.5),
    Tissue.BROWN_FAT: Material(0.091, 2.5, 0.6),
    Tissue.LUNG_VESSELS: Material(0.098, 0.5, 0.5),
    Tissue.CARTILAGE: Material(0.104, 1.0, 0.5),
    Tissue.ADRENALS: Material(0.100, 1.0, 0.5),
    Tissue.SOFT_TISSUE: Material(0.099, 1.5, 0.5),
    Tissue.FLUID: Material(MU_WATER_CM1, 0.3, 0.1),
    Tissue.METAL: Material(0.360, 0.0),
}

BONY = (Tissue.BONE, Tissue.MARROW)
GASEOUS = (Tissue.GAS, Tissue.AIRWAY)

ACQUIRED = (Tissue.FLUID, Tissue.METAL)
"""No body has these unless a pathology brings them: nothing is drawn for them in any other (`pathologies`)."""
