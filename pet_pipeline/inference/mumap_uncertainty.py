"""The uncertainty of a mu-map: the error predicted from the map, its edges and the disagreement of the population."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pet_pipeline.configs.uncertainty import MumapCalibration, MumapSign
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.recalibration import deviation
from pet_pipeline.inference.uncertainty import CALIBRATED_LABEL, interval_widths
from pet_pipeline.mumap.fusion import uncertainty_of
from pet_pipeline.types import BoolArray, Float32Array
from pet_pipeline.units import MU_WATER_CM1

EDGE_MM = 5.0
"""An edge counts by what mu changes over this distance: a voxel of the built-in model's grid."""


@dataclass(frozen=True, eq=False)
class MumapUncertainty:
    """How sure a mu-map is.

    Attributes:
        signs: what it is told by, (x, y, z) in the body's box on the model grid, in multiples of water's mu.
        volume: the deviation that errors keep to, cm^-1, on the input's grid; 0 outside the body; None: never fitted.
        calibration: what was applied.
    """

    signs: Mapping[MumapSign, Float32Array]
    volume: Volume | None = None
    calibration: MumapCalibration | None = None

    def facts(self) -> dict[str, Any]:
        """What the sidecar says of it."""
        known = self.calibration
        return {} if known is None else {"label": CALIBRATED_LABEL, "Units": "cm-1", **interval_widths(known)}


def signs_of_mumap(
    mumap_cm1: Float32Array, confidence: Float32Array, spacing_mm: tuple[float, float, float]
) -> dict[MumapSign, Float32Array]:
    """What a mu-map shows of its own error; all (x, y, z), in multiples of water's mu.

    How far the stages differ was tried beside these and is no better (docs/notes).

    Args:
        mumap_cm1: the result.
        confidence: of the population prior, in [0, 1].
        spacing_mm: of the grid.
    """
    steepness = np.sqrt(sum(np.square(along) for along in np.gradient(mumap_cm1, *spacing_mm)))
    water = np.float32(MU_WATER_CM1)
    return {
        "mu": mumap_cm1 / water,
        "spread": uncertainty_of(confidence) / water,
        "edge": (EDGE_MM * steepness / water).astype(np.float32),
    }


def expected_error(
    signs: Mapping[MumapSign, Float32Array], body: BoolArray, calibration: MumapCalibration
) -> Float32Array:
    """The deviation that errors keep to, (x, y, z), cm^-1; 0 outside the body, where nothing was fitted."""
    fitted = np.zeros(body.shape, dtype=np.float32)
    inside = {name: sign[body] for name, sign in signs.items()}
    fitted[body] = deviation(inside, calibration.level, calibration.curves) * MU_WATER_CM1
    return fitted
