"""Where voxels lie in the patient: a frozen affine and shape, and exact reorientation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pet_pipeline.types import FloatArray


@dataclass(frozen=True)
class Orientation:
    """A permutation and flips of the three axes, with its inverse.

    Attributes:
        axes: for each output axis, the input axis it comes from.
        flips: for each output axis, whether it runs backwards along that input axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Permute, then flip, the three axes of `array` (a view, no copy)."""
        turned = np.transpose(array, self.axes)
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def inverse(self) -> "Orientation":
        """The orientation that undoes this one."""
        axes = [0, 0, 0]
        flips = [False, False, False]
        for out, (source, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            axes[source] = out
            flips[source] = flip
        return Orientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in the patient.

    Attributes:
        shape: number of voxels along x, y, z.
        affine: 4 x 4, voxel index (centre of voxel 0 at index 0) to patient millimetres, RAS+.
    """

    shape: tuple[int, int, int]
    affine: FloatArray

    @classmethod
    def regular(cls, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> "Geometry":
        """An axis-aligned RAS+ grid whose centre is the origin."""
        affine = np.diag([*spacing_mm, 1.0]).astype(np.float64)
        affine[:3, 3] = [-(n - 1) / 2.0 * s for n, s in zip(shape, spacing_mm, strict=True)]
        return cls(shape, affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each axis, mm."""
        norms = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(norms[0]), float(norms[1]), float(norms[2])

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def matches(self, other: "Geometry", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and put every corner at the same place within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.array(
            [[i, j, k, 1.0] for i in (0, self.shape[0]) for j in (0, self.shape[1]) for k in (0, self.shape[2])]
        )
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance_mm)

    def to_canonical(self) -> Orientation:
        """The orientation that brings the axes as near to RAS+ (right, front, head) as permutation and flips can."""
        directions = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        # Greedy assignment by the largest cosine: each patient axis gets the voxel axis most along it.
        axes, flips = [-1, -1, -1], [False, False, False]
        cosines = np.abs(directions)
        for _ in range(3):
            patient, voxel = np.unravel_index(int(np.argmax(cosines)), (3, 3))
            axes[patient], flips[patient] = int(voxel), bool(directions[patient, voxel] < 0)
            cosines[patient, :] = -1.0
            cosines[:, voxel] = -1.0
        return Orientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def reoriented(self, orientation: Orientation) -> "Geometry":
        """The geometry of an array after `orientation.apply`: the same places in the patient."""
        shape = tuple(self.shape[a] for a in orientation.axes)
        index = np.zeros((4, 4))  # new voxel index -> old voxel index
        index[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
            index[old, new] = -1.0 if flip else 1.0
            index[old, 3] = self.shape[old] - 1.0 if flip else 0.0
        return Geometry((shape[0], shape[1], shape[2]), self.affine @ index)

    def cropped(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> "Geometry":
        """The geometry of `shape` voxels beginning at index `start` (which may lie outside the grid)."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ np.asarray(start, dtype=np.float64) + self.affine[:3, 3]
        return Geometry(shape, affine)
