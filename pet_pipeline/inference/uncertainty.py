"""The uncertainty of a translation: the spread of paths and views, or the error predicted where the model knows how."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.configs.uncertainty import Calibration, ErrorModel, Sign
from pet_pipeline.data.volume import Volume
from pet_pipeline.diffusion.multipath import Paths
from pet_pipeline.evaluation.recalibration import deviation
from pet_pipeline.types import BoolArray, Float32Array

LABEL = "sampling spread; excludes model and scale error"

CALIBRATED_LABEL = "expected error, calibrated on cases with a reference; excludes what those cases do not have"

POOLING_MM = 5.0
"""Standard deviation of the Gaussian over which variances are averaged: three views, or a few paths, tell a voxel's
variance badly. On a simulated patient it raised the partial rank correlation with the error from 0.17 to 0.22."""


CONTRAST_MM = (4.0, 16.0)
"""Standard deviations of the Gaussians that take what is at a place and what is around it."""

LEAST_AROUND = 0.05
"""Least value around a place by which a contrast is divided, in multiples of the scale."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How sure a translation is.

    Attributes:
        volume: standard deviation on the input's grid, in the translation's unit; 0 outside the box around the body.
        signs: what it is told by, (x, y, z) in the body's box on the model grid, in multiples of the target's scale.
        sources: what the spread is of: `paths`, `views`.
        paths: their number.
        calibration: what was applied; None: the bare spread.
        warnings: one line each.
    """

    volume: Volume
    signs: Mapping[Sign, Float32Array]
    sources: tuple[str, ...]
    paths: int
    calibration: Calibration | None
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the map is, in one line."""
        return LABEL if self.calibration is None else CALIBRATED_LABEL

    def facts(self) -> dict[str, Any]:
        """What sidecars say of it."""
        known = self.calibration
        return {
            "label": self.label,
            "calibrated": known is not None,
            "sources": list(self.sources),
            "paths": self.paths,
            "pooled_mm": POOLING_MM,
            **({} if known is None else interval_widths(known)),
        }


def interval_widths(calibration: ErrorModel) -> dict[str, dict[str, float]]:
    """Half widths of intervals in deviations, as sidecars say them."""
    kinds = {
        "interval_half_widths_sd": calibration.half_widths,
        "region_mean_half_widths_sd": calibration.region_half_widths,
        "standard_dose_half_widths_sd": calibration.noisy_half_widths,
    }
    return {name: {f"{level} %": width for level, width in known.items()} for name, known in kinds.items() if known}


def sources_of(paths: Paths) -> tuple[str, ...]:
    """Which spreads there are: `paths`, `views`, or both."""
    known = {"paths": paths.between_paths, "views": paths.between_views}
    return tuple(name for name, variance in known.items() if variance is not None)


def pooled_deviation(paths: Paths, spacing_mm: tuple[float, float, float]) -> Float32Array:
    """The standard deviation of a draw: variances between paths and between views added, averaged over `POOLING_MM`.

    Args:
        paths: with one variance at least.
        spacing_mm: of their grid.

    Returns:
        (x, y, z), in the unit of the paths.
    """
    variances = [one for one in (paths.between_paths, paths.between_views) if one is not None]
    total = sum(variances[1:], start=variances[0]).cpu().numpy()
    pooled = ndimage.gaussian_filter(total, [POOLING_MM / s for s in spacing_mm], mode="nearest")
    deviation: Float32Array = np.sqrt(np.maximum(pooled, 0.0)).astype(np.float32)
    return deviation


def calibration_for(
    calibration: Calibration | None, sampler: SamplerSettings, paths: int, cascade: int = 1
) -> tuple[Calibration | None, str]:
    """The model's calibration if it holds for this sampling, else None and why, in words."""
    if calibration is None:
        return None, "the model has no calibration (pet-pipeline calibrate fits one)"
    if cascade > 1:
        return None, f"the model's calibration is for one stage, not for a cascade of {cascade}"
    if not calibration.holds_for(sampler, paths):
        return None, (
            f"the model's calibration is for {calibration.paths} path{'s' if calibration.paths > 1 else ''} of its own "
            f"sampler, not for these {paths}: calibrate it for them"
        )
    return calibration, ""


def signs_of(
    activity: Float32Array,
    spread: Float32Array,
    condition: Float32Array,
    noise_level: float,
    scale: float,
    spacing_mm: tuple[float, float, float],
) -> dict[Sign, Float32Array]:
    """What a translation shows of its own error; all (x, y, z) on the model grid, in multiples of the target's scale.

    Tried beside these, and no better: how far the result is from the prior, depth in the body, local noise, spreads
    over wider neighbourhoods (docs/notes).

    Args:
        activity: the result.
        spread: of paths and views, in the same unit.
        condition: as the networks see it.
        noise_level: of the input, without a unit, the same everywhere: without it the intervals of a low dose are too
            narrow, those of a high one too wide (docs/notes).
        scale: of the target, in the unit of the result.
        spacing_mm: of the grid.
    """
    relative = activity / np.float32(scale)
    steepness = np.sqrt(sum(np.square(along) for along in np.gradient(relative, *spacing_mm)))
    return {
        "activity": relative,
        "spread": spread / np.float32(scale),
        "edge": (POOLING_MM * steepness).astype(np.float32),
        "condition": ndimage.gaussian_filter(condition, [POOLING_MM / s for s in spacing_mm], mode="nearest"),
        "noise": np.full(activity.shape, noise_level, np.float32),
        "contrast": contrast(relative, spacing_mm),
        "input_contrast": contrast(condition, spacing_mm),
    }


def contrast(values: Float32Array, spacing_mm: tuple[float, float, float]) -> Float32Array:
    """By how much each place is hotter than what is around it, in multiples of that; 0 where it is colder (x, y, z).

    The input still shows lesions that the result has flattened.
    """
    there, around = (ndimage.gaussian_filter(values, [mm / s for s in spacing_mm], truncate=3.0) for mm in CONTRAST_MM)
    found: Float32Array = np.maximum((there - around) / np.maximum(around, np.float32(LEAST_AROUND)), np.float32(0.0))
    return found


def calibrated_deviation(
    signs: Mapping[Sign, Float32Array], body: BoolArray, scale: float, calibration: Calibration
) -> Float32Array:
    """The deviation that errors keep to, (x, y, z), in the unit of `scale`.

    Outside the body the spread stays as it is: nothing was fitted there.
    """
    fitted = signs["spread"] * np.float32(scale)
    inside = {name: sign[body] for name, sign in signs.items()}
    fitted[body] = deviation(inside, calibration.level, calibration.curves) * scale
    return fitted
