"""SUV of organs with other tracers, and the sketch of a body if it had been given one of them."""

from collections.abc import Mapping

import numpy as np

from pet_pipeline.configs.phantom import STANDARD_UPTAKE
from pet_pipeline.training.sketches import ONE_ORGAN, Shown
from pet_pipeline.types import Float32Array

Ranges = Mapping[str, tuple[float, float]]

ANY_TRACER: Ranges = {
    "fat": (0.1, 0.35),
    "visceral_fat": (0.15, 0.45),
    "muscle": (0.4, 0.9),
    "bone": (0.3, 0.8),
    "marrow": (0.4, 1.2),
    "lungs": (0.25, 0.6),
    "liver": (1, 3),
    "spleen": (1, 3),
    "kidneys": (2, 6),
    "renal_pelvis": (2, 25),
    "myocardium": (0.7, 1.8),
    "blood_pool": (0.8, 2),
    "brain": (0.05, 0.3),
    "bladder": (3, 50),
    "stomach": (0.8, 2.5),
    "bowel": (0.8, 3),
    "mediastinum": (0.5, 1.2),
    "thyroid": (0.8, 2),
    "salivary_glands": (1, 3),
    "tonsils": (1, 3),
    "breast": (0.4, 1),
    "uterus": (0.8, 3),
    "prostate": (0.8, 2.5),
    "gonads": (0.8, 2.5),
    "spinal_cord": (0.4, 1.5),
    "pancreas": (1, 3),
    "gallbladder": (0.5, 3),
    "adrenals": (1, 3),
    "soft_tissue": (0.4, 1),
    "contents": (0.2, 1),
    "lung_vessels": (0.8, 2),
    "cartilage": (0.3, 0.9),
}
"""SUV of organs that a tracer has no business in; those of a tracer below come before."""

TRACERS: Mapping[str, Ranges] = {
    "PSMA-11": {
        "brain": (0.05, 0.2),
        "salivary_glands": (7, 18),
        "kidneys": (18, 55),
        "renal_pelvis": (10, 50),
        "liver": (2.5, 7),
        "spleen": (3, 11),
        "bowel": (1.5, 10),
        "bladder": (5, 70),
        "tonsils": (1, 3),
        "adrenals": (2, 5),
        "pancreas": (1.5, 3),
        "marrow": (0.2, 0.8),
        "muscle": (0.3, 0.7),
        "blood_pool": (0.9, 1.7),
    },
    "PSMA-1007": {
        "brain": (0.05, 0.2),
        "salivary_glands": (10, 22),
        "kidneys": (10, 25),
        "renal_pelvis": (8, 20),
        "liver": (7, 16),
        "gallbladder": (10, 80),
        "spleen": (5, 14),
        "bladder": (1, 5),
        "pancreas": (2, 4),
        "bowel": (2, 12),
        "marrow": (0.6, 1.3),
        "blood_pool": (1.5, 3),
    },
    "DOTATATE": {
        "brain": (0.05, 0.15),
        "spleen": (13, 35),
        "kidneys": (9, 25),
        "renal_pelvis": (8, 25),
        "liver": (3.5, 9),
        "adrenals": (5, 14),
        "bladder": (5, 60),
        "stomach": (2, 6),
        "bowel": (1.5, 6),
        "pancreas": (2, 5),
        "thyroid": (1.5, 4),
        "salivary_glands": (1.5, 4),
    },
    "FAPI": {
        "brain": (0.05, 0.2),
        "liver": (0.7, 1.6),
        "spleen": (0.8, 1.5),
        "kidneys": (1.5, 3.5),
        "bladder": (5, 50),
        "pancreas": (1.2, 3),
        "uterus": (2, 12),
        "muscle": (0.9, 1.7),
        "salivary_glands": (1.5, 3.5),
        "myocardium": (0.9, 1.6),
    },
    "FLT": {
        "marrow": (4.5, 11),
        "liver": (3.5, 7),
        "brain": (0.15, 0.5),
        "kidneys": (3, 7),
        "bladder": (5, 40),
        "spleen": (1, 2.5),
        "muscle": (0.5, 0.9),
    },
    "choline": {
        "liver": (7, 15),
        "kidneys": (7, 18),
        "pancreas": (4, 12),
        "spleen": (3.5, 9),
        "salivary_glands": (3, 6),
        "bowel": (2, 6),
        "bladder": (1, 15),
        "brain": (0.15, 0.6),
        "marrow": (1.2, 3),
        "adrenals": (2, 5),
    },
    "fluciclovine": {
        "pancreas": (4.5, 11),
        "liver": (4.5, 9),
        "marrow": (2.2, 4),
        "muscle": (1.1, 2),
        "brain": (0.3, 0.8),
        "bladder": (0.5, 4),
        "kidneys": (2, 5),
        "salivary_glands": (2, 4),
        "renal_pelvis": (1, 4),
    },
    "NaF": {
        "bone": (5, 15),
        "marrow": (3, 8),
        "kidneys": (1.5, 5),
        "bladder": (8, 60),
        "brain": (0.1, 0.25),
        "liver": (0.3, 0.6),
        "spleen": (0.3, 0.6),
        "muscle": (0.25, 0.5),
        "blood_pool": (0.3, 0.8),
        "bowel": (0.3, 0.8),
        "stomach": (0.3, 0.8),
        "myocardium": (0.3, 0.6),
        "pancreas": (0.3, 0.6),
        "salivary_glands": (0.4, 0.9),
    },
    "FES": {
        "liver": (9, 20),
        "gallbladder": (12, 60),
        "bowel": (4, 20),
        "uterus": (3, 8),
        "kidneys": (2, 6),
        "bladder": (4, 30),
        "brain": (0.7, 1.5),
    },
    "methionine": {
        "pancreas": (7, 20),
        "liver": (4, 8),
        "brain": (0.9, 1.8),
        "salivary_glands": (3, 6),
        "spleen": (1.8, 4),
        "kidneys": (2, 4),
        "bowel": (1.5, 5),
        "marrow": (1.8, 4),
        "bladder": (0.5, 4),
        "renal_pelvis": (1, 4),
    },
    "FDOPA": {
        "brain": (0.9, 1.8),
        "kidneys": (3, 8),
        "renal_pelvis": (4, 28),
        "gallbladder": (3, 28),
        "pancreas": (2.5, 6.5),
        "bladder": (8, 55),
        "liver": (1.3, 2.6),
        "spleen": (1.3, 2.6),
        "myocardium": (0.9, 2),
        "muscle": (0.7, 1.5),
        "blood_pool": (0.9, 1.7),
        "marrow": (0.6, 1.3),
        "bowel": (0.8, 2.6),
    },
    "Zr-antibody": {
        "blood_pool": (3, 8),
        "liver": (5, 10),
        "spleen": (4, 9),
        "kidneys": (2.5, 6),
        "marrow": (1.8, 4),
        "brain": (0.3, 0.8),
        "bladder": (0.5, 3),
        "renal_pelvis": (1, 4),
        "myocardium": (2, 4),
        "lungs": (0.6, 1.2),
    },
    "FET": {
        "brain": (0.9, 1.7),
        "muscle": (1.3, 2.6),
        "pancreas": (1.8, 4),
        "bladder": (5, 30),
        "kidneys": (1.8, 4),
        "liver": (1.2, 2.6),
        "marrow": (1.2, 2.4),
        "salivary_glands": (1.5, 3),
    },
}
"""SUV of organs of each tracer at its usual time of imaging: rough ranges, wide on purpose, written down from what is
commonly known of the tracer and not taken from any one paper. They make examples; they are no reference."""


def of_tracer(shown: Shown, uptake: Mapping[str, float], tracer: Ranges, rng: np.random.Generator) -> Float32Array:
    """The activity (x, y, z) of a sketch if its body had been given another tracer; any linear unit.

    A cell's activity changes by the ratio of what its organs would take up to what they did take up, as attenuation
    and scatter are those of the same body. What is no known organ keeps its uptake.

    Args:
        shown: the sketch and its organs.
        uptake: mean activity of each organ, any linear unit.
        tracer: SUV of organs, from which each is drawn, evenly in its logarithm.
        rng: draws.
    """

    def suv_of(organ: str) -> tuple[float, float] | None:
        return tracer.get(organ, ANY_TRACER.get(organ))

    organs = [name for name in shown.organs if uptake.get(name, 0.0) > 0.0]
    known = {name: suv_of(name) or suv_of(ONE_ORGAN.get(name, name)) for name in organs}
    ratios = [uptake[name] / np.mean(STANDARD_UPTAKE[name]) for name in known if name in STANDARD_UPTAKE]
    unit = float(np.median(ratios)) if ratios else 1.0
    before = np.full(shown.body.shape, 1e-3, np.float32)
    after = before.copy()
    for name, suv in known.items():
        share = shown.organs[name]
        before += share * np.float32(uptake[name] / unit)
        drawn = uptake[name] / unit if suv is None else float(np.exp(rng.uniform(*np.log(suv))))
        after += share * np.float32(drawn)
    activity: Float32Array = shown.activity * (after / before)
    return activity
