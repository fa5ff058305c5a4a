"""The six texture features that UDPET 2025 weights, by MIRP (optional extra `texture`)."""

import importlib
import importlib.util
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.evaluation.regions import box_around
from pet_pipeline.types import BoolArray, FloatArray

FEATURES = {
    "texture_rms": "stat_rms",
    "texture_p90": "stat_p90",
    "texture_median": "stat_median",
    "texture_high_grey_level_run_emphasis": "rlm_hgre_",
    "texture_zone_percentage": "szm_z_perc_",
    "texture_joint_average": "cm_joint_avg_",
}
"""Our name -> how MIRP's (after the Image Biomarker Standardisation Initiative) begins."""

UNITS = {"texture_rms": "SUV", "texture_p90": "SUV", "texture_median": "SUV"}
"""Of the features that have one; the others are pure numbers."""

GREY_LEVELS = 100
"""Levels between the region's minimum and maximum. The challenge's own setting was not available."""


def is_available() -> bool:
    """Whether the extra is installed; nothing is imported."""
    return importlib.util.find_spec("mirp") is not None


def texture_features(image: FloatArray, mask: BoolArray) -> dict[str, float]:
    """The six features of `image` (x, y, z), SUV, inside `mask`, those that are defined.

    Grey levels 1 to 100 between the region's minimum and maximum (IBSI's fixed bin number); co-occurrence at a distance
    of one voxel and runs each averaged over the 13 directions in 3D, zones of 26 neighbours. No resampling: two images
    on one grid are compared. The first call takes seconds, for the library to load; each a fraction of one or, in a
    liver, several.

    Raises:
        UsageError: the extra is not installed.
        InputRefused: the mask is empty or not on the image's grid.
    """
    if image.shape != mask.shape or not mask.any():
        raise InputRefused(
            f"texture needs voxels of a mask on the image's grid: image {image.shape}, mask {mask.shape}"
        )
    if not is_available():
        raise UsageError("texture features need the library MIRP: pip install 'pet-pipeline[texture]'")
    box = box_around(mask, (1, 1, 1))
    with _quiet():
        mirp = importlib.import_module("mirp")
        tables = mirp.extract_features(
            image=np.ascontiguousarray(image[box], dtype=np.float32),
            mask=np.ascontiguousarray(mask[box], dtype=np.uint8),
            base_feature_families=["stat", "cm", "rlm", "szm"],
            base_discretisation_method="fixed_bin_number",
            base_discretisation_n_bins=GREY_LEVELS,
            glcm_spatial_method="3d_average",
            glrlm_spatial_method="3d_average",
        )
    if not tables:
        return {}
    table = tables[0]
    found: dict[str, float] = {}
    for name, beginning in FEATURES.items():
        column = next((str(c) for c in table.columns if str(c).startswith(beginning)), None)
        value = math.nan if column is None else float(table[column].iloc[0])
        if math.isfinite(value):
            found[name] = value
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """MIRP makes the root logger print to stdout unless it has a handler already: here it has one for a while."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
