"""Where tracers other than FDG go: SUV about as published for adults at the usual time after injection.

They are what the network for unusual inputs is shown (`training.unusual`), and what a cohort of another tracer may be
simulated from (`phantom.uptake`). Tissues left out are taken to be as of FDG.
"""

from collections.abc import Mapping

from pet_pipeline.configs.phantom import Range

Biodistribution = Mapping[str, Range]
"""(lowest, highest) mean SUV by tissue name."""

TRACERS: Mapping[str, Biodistribution] = {
    "PSMA-11": {
        "brain": (0.03, 0.2), "salivary_glands": (7.0, 20.0), "kidneys": (20.0, 60.0), "renal_pelvis": (10.0, 50.0),
        "liver": (3.0, 7.0), "spleen": (3.0, 11.0), "bowel": (1.0, 10.0), "stomach": (0.8, 2.5), "bladder": (8.0, 80.0),
        "myocardium": (0.8, 1.6), "blood_pool": (0.8, 1.8), "muscle": (0.3, 0.7), "fat": (0.1, 0.4),
        "marrow": (0.2, 0.8), "tonsils": (1.0, 4.0), "thyroid": (0.8, 1.6), "pancreas": (1.2, 3.0),
        "adrenals": (2.0, 5.0), "spinal_cord": (0.3, 0.9), "lungs": (0.2, 0.5),
    },
    "PSMA-1007": {
        "brain": (0.05, 0.3), "salivary_glands": (10.0, 22.0), "kidneys": (10.0, 25.0), "renal_pelvis": (5.0, 18.0),
        "liver": (8.0, 16.0), "spleen": (6.0, 14.0), "gallbladder": (15.0, 80.0), "bowel": (2.0, 11.0),
        "stomach": (1.0, 3.0), "bladder": (1.5, 6.0), "myocardium": (1.2, 2.2), "blood_pool": (1.2, 2.5),
        "muscle": (0.5, 0.9), "fat": (0.1, 0.4), "marrow": (0.6, 1.4), "thyroid": (0.8, 2.0), "pancreas": (2.0, 4.0),
        "lungs": (0.3, 0.6),
    },
    "DOTATATE": {
        "brain": (0.03, 0.3), "salivary_glands": (1.5, 4.5), "thyroid": (1.5, 5.0), "kidneys": (8.0, 20.0),
        "renal_pelvis": (8.0, 40.0), "liver": (3.5, 9.0), "spleen": (12.0, 35.0), "adrenals": (4.0, 14.0),
        "stomach": (1.8, 5.0), "bowel": (1.5, 4.5), "pancreas": (2.0, 7.0), "bladder": (6.0, 60.0),
        "myocardium": (0.8, 1.6), "blood_pool": (0.7, 1.6), "muscle": (0.5, 1.1), "marrow": (0.6, 1.6),
        "fat": (0.1, 0.4), "lungs": (0.3, 0.6),
    },
    "FAPI": {
        "brain": (0.02, 0.15), "salivary_glands": (1.4, 3.5), "thyroid": (1.0, 3.0), "kidneys": (1.2, 3.5),
        "renal_pelvis": (2.0, 20.0), "liver": (0.5, 1.5), "spleen": (0.5, 1.4), "stomach": (0.6, 1.3),
        "bowel": (0.5, 1.3), "pancreas": (1.0, 3.2), "gallbladder": (0.5, 20.0), "bladder": (5.0, 40.0),
        "uterus": (3.0, 12.0), "myocardium": (0.8, 1.7), "blood_pool": (0.8, 2.0), "muscle": (0.8, 1.9),
        "marrow": (0.4, 0.9), "lungs": (0.3, 0.6),
    },
    "FLT": {
        "brain": (0.15, 0.5), "marrow": (4.5, 12.0), "liver": (2.5, 8.0), "spleen": (1.5, 4.0), "kidneys": (3.0, 7.0),
        "renal_pelvis": (4.0, 30.0), "bladder": (6.0, 40.0), "bowel": (1.0, 3.2), "stomach": (0.8, 2.0),
        "myocardium": (0.8, 1.5), "blood_pool": (0.6, 1.4), "muscle": (0.6, 1.2), "pancreas": (1.0, 2.5),
        "lungs": (0.3, 0.6),
    },
    "choline": {
        "brain": (0.15, 0.4), "salivary_glands": (4.0, 9.0), "liver": (6.0, 14.0), "kidneys": (7.0, 20.0),
        "renal_pelvis": (6.0, 25.0), "spleen": (2.5, 6.5), "pancreas": (3.5, 9.0), "bowel": (1.5, 5.0),
        "stomach": (2.0, 4.5), "bladder": (1.5, 20.0), "marrow": (0.9, 2.2), "myocardium": (1.0, 2.0),
        "blood_pool": (0.7, 1.6), "muscle": (0.5, 1.1), "lungs": (0.3, 0.8),
    },
    "fluciclovine": {
        "brain": (0.3, 0.9), "pancreas": (5.0, 13.0), "liver": (4.0, 11.0), "marrow": (2.0, 4.5), "muscle": (1.0, 2.2),
        "kidneys": (1.8, 4.0), "renal_pelvis": (1.0, 4.0), "bladder": (0.5, 4.0), "spleen": (1.5, 3.5),
        "salivary_glands": (1.8, 4.0), "bowel": (1.0, 3.0), "myocardium": (1.2, 2.5), "blood_pool": (0.9, 1.9),
        "lungs": (0.3, 0.7),
    },
    "sodium fluoride": {
        "brain": (0.1, 0.3), "bone": (5.0, 12.0), "marrow": (2.0, 7.0), "liver": (0.3, 0.7), "spleen": (0.3, 0.7),
        "kidneys": (1.5, 5.0), "renal_pelvis": (4.0, 30.0), "bladder": (8.0, 70.0), "myocardium": (0.3, 0.7),
        "blood_pool": (0.3, 0.7), "muscle": (0.3, 0.6), "fat": (0.1, 0.3), "bowel": (0.3, 0.9), "stomach": (0.3, 0.8),
        "pancreas": (0.3, 0.7), "lungs": (0.15, 0.4), "salivary_glands": (0.4, 1.0),
    },
    "fluoroestradiol": {
        "brain": (0.5, 1.1), "liver": (7.0, 18.0), "gallbladder": (8.0, 60.0), "bowel": (3.0, 15.0),
        "kidneys": (2.0, 6.0), "renal_pelvis": (3.0, 20.0), "bladder": (4.0, 40.0), "uterus": (2.0, 7.0),
        "stomach": (1.0, 2.5), "spleen": (0.9, 1.8), "myocardium": (1.0, 1.8), "blood_pool": (1.0, 2.2),
        "muscle": (0.4, 0.9), "marrow": (0.6, 1.4), "pancreas": (1.0, 2.0), "lungs": (0.4, 0.8),
    },
    "methionine": {
        "brain": (0.9, 2.0), "pancreas": (6.0, 16.0), "liver": (4.0, 9.0), "salivary_glands": (2.5, 6.0),
        "marrow": (1.5, 3.5), "spleen": (1.5, 3.5), "kidneys": (2.0, 5.0), "renal_pelvis": (2.0, 8.0),
        "bladder": (1.0, 8.0), "bowel": (1.0, 3.5), "stomach": (1.5, 4.0), "myocardium": (1.2, 2.5),
        "blood_pool": (0.9, 1.8), "muscle": (0.7, 1.4), "lungs": (0.4, 0.8),
    },
    "FDOPA": {
        "brain": (0.9, 1.8), "kidneys": (3.5, 9.0), "renal_pelvis": (5.0, 35.0), "gallbladder": (3.0, 35.0),
        "pancreas": (2.5, 6.5), "bladder": (8.0, 70.0), "liver": (1.3, 2.6), "spleen": (1.3, 2.6),
        "myocardium": (1.0, 1.9), "blood_pool": (1.0, 1.7), "muscle": (0.7, 1.5), "marrow": (0.6, 1.3),
        "bowel": (0.8, 2.8), "stomach": (0.8, 2.0), "salivary_glands": (1.5, 3.0), "adrenals": (1.2, 3.5),
        "spinal_cord": (0.6, 1.2),
    },
    "zirconium antibody": {
        "brain": (0.15, 0.5), "blood_pool": (4.0, 11.0), "myocardium": (3.0, 7.0), "liver": (4.0, 10.0),
        "spleen": (3.0, 9.0), "kidneys": (3.0, 7.0), "renal_pelvis": (2.0, 5.0), "lungs": (0.7, 1.5),
        "marrow": (1.5, 3.5), "muscle": (0.5, 1.1), "bowel": (1.0, 4.0), "stomach": (0.8, 2.0), "bladder": (1.0, 6.0),
        "pancreas": (1.0, 2.5),
    },
}  # fmt: skip
