"""A volume: voxels, where they lie, and what they mean."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.types import FloatArray
from pet_pipeline.units import Unit


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels (x, y, z), float32, with their geometry and unit.

    Raises:
        ValueError: the array's shape is not the geometry's.
    """

    data: FloatArray
    geometry: Geometry
    unit: Unit

    def __post_init__(self) -> None:
        if self.data.shape != self.geometry.shape:
            raise ValueError(f"array of shape {self.data.shape} on a grid of shape {self.geometry.shape}")
        if self.data.dtype != np.float32:
            object.__setattr__(self, "data", self.data.astype(np.float32))

    def with_data(self, data: FloatArray, unit: Unit | None = None) -> "Volume":
        """The same grid with other voxels (and another unit, if given)."""
        return Volume(data, self.geometry, self.unit if unit is None else unit)

    def oriented(self, orientation: Orientation) -> "Volume":
        """The same places in the patient, axes permuted and flipped."""
        return Volume(orientation.apply(self.data), self.geometry.reoriented(orientation), self.unit)

    def canonical(self) -> "Volume":
        """The same places with axes that run left to right, back to front, feet to head of the patient: RAS+."""
        return self.oriented(self.geometry.to_canonical())
