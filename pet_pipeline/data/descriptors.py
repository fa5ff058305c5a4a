"""Plain numbers that tell one input from another before any network sees it: noise, size of the body, contrast, voxels.

They are taken from the body's box on the model grid, as training and translation frame it, so that those of a new
input and those of the training cases are comparable. None changes when the image is multiplied by a factor.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from pet_pipeline.data.framing import Frame
from pet_pipeline.errors import InputRefused
from pet_pipeline.types import BoolArray, Float32Array

NEIGHBOURHOOD_MM = 15.0
"""Side of the cube whose mean is the local background. On noise-free simulated bodies 3 to 6 % of the median are left,
on 100 % dose 13 to 17 %, on 5 % dose 42 to 54 %; with a cube of 25 mm organs alone leave 8 to 15 %."""

RIM_MM = 15.0
"""Taken off the body before its noise is judged: skin and the step to air are not noise."""

LEAST_LOCAL = 0.1
"""Of the median: where the local mean is less, a voxel over it says nothing."""

SIGMA_PER_MAD = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""


@dataclass(frozen=True)
class Term:
    """How a descriptor is spoken of.

    Attributes:
        words: its name.
        unit: of its value, or nothing.
        style: format of its value.
    """

    words: str
    unit: str
    style: str

    def say(self, value: float) -> str:
        """The value without unit, as people read it."""
        return format(value, self.style)


TERMS: Mapping[str, Term] = {
    "noise_level": Term("noise level", "", ".2g"),
    "noise_tail": Term("noisiest hundredth over its surroundings", "", ".1f"),
    "body_ml": Term("body volume", "mL", ".0f"),
    "body_length_mm": Term("body length", "mm", ".0f"),
    "body_width_mm": Term("body width", "mm", ".0f"),
    "body_depth_mm": Term("body depth", "mm", ".0f"),
    "p99_over_median": Term("99th percentile over median", "", ".1f"),
    "spacing_xy_mm": Term("transaxial spacing", "mm", ".3g"),
    "spacing_z_mm": Term("axial spacing", "mm", ".3g"),
}
"""Descriptor -> how it is spoken of; the keys are the fields of `Descriptors`."""


@dataclass(frozen=True)
class Descriptors:
    """What is plain about an input; all of it stays the same when the image is multiplied.

    Attributes:
        noise_level: standard deviation of the noise over the median of the local means in the body: like the NSTD of a
            liver, without a liver; see `noise_deviation`.
        noise_tail: 99th percentile of a voxel over its local mean, inside the body: of few counts the noise is in the
            tail, where `noise_level` no longer grows.
        body_ml: volume of the body inside the field of view, mL.
        body_length_mm: from the lowest to the highest slice with body in it, mm.
        body_width_mm: the body's widest extent left to right in a slice, with the arms, mm.
        body_depth_mm: its widest extent back to front in a slice, mm.
        p99_over_median: 99th percentile over median of the local means in the body: how hot the hottest organs are.
        spacing_xy_mm: the larger transaxial voxel size of the input as it was stored, mm.
        spacing_z_mm: its axial voxel size, mm.
    """

    noise_level: float
    noise_tail: float
    body_ml: float
    body_length_mm: float
    body_width_mm: float
    body_depth_mm: float
    p99_over_median: float
    spacing_xy_mm: float
    spacing_z_mm: float

    def as_dict(self) -> dict[str, float]:
        """Descriptor -> value."""
        return asdict(self)


def describe(frame: Frame, box: Float32Array) -> Descriptors:
    """The descriptors of an input.

    Args:
        frame: of the body, from `framing.frame_body`.
        box: the input inside it (x, y, z), any linear unit, nothing done to it yet.

    Raises:
        InputRefused: no activity in the body, of which noise could be a part.
    """
    spacing, mask = frame.grid.spacing_mm, frame.mask
    local = local_means(box, spacing)
    inside = local[mask]
    median = float(np.median(inside))
    if not median > 0.0:
        raise InputRefused(f"median activity {median:g} found inside the body; needed is a PET with positive activity")
    stored = frame.source.reoriented(frame.turn).spacing_mm
    return Descriptors(
        noise_level=noise_deviation(box, local, mask, spacing) / median,
        noise_tail=_noise_tail(box, local, mask, spacing, LEAST_LOCAL * median),
        body_ml=float(np.count_nonzero(mask)) * frame.grid.voxel_ml,
        body_length_mm=_span(np.asarray(mask.any(axis=(0, 1)))[:, np.newaxis]) * spacing[2],
        body_width_mm=_span(np.asarray(mask.any(axis=1))) * spacing[0],
        body_depth_mm=_span(np.asarray(mask.any(axis=0))) * spacing[1],
        p99_over_median=float(np.percentile(inside, 99.0)) / median,
        spacing_xy_mm=max(stored[:2]),
        spacing_z_mm=stored[2],
    )


def local_means(box: Float32Array, spacing_mm: tuple[float, float, float]) -> Float32Array:
    """The mean of the cube of 15 mm (an odd number of voxels, three at least) around each voxel of (x, y, z)."""
    means: Float32Array = ndimage.uniform_filter(box, size=_cube(spacing_mm), mode="nearest")
    return means


def noise_deviation(
    box: Float32Array, local: Float32Array, mask: BoolArray, spacing_mm: tuple[float, float, float]
) -> float:
    """Standard deviation of the noise inside the body, in the unit of the image.

    Each voxel minus its local mean leaves the noise, and of the anatomy the edges. The median absolute deviation does
    not see the edges: they are few, once the rim of the body is off. Scaled so that white noise reads as it is: the
    mean of n voxels takes 1 / n of its variance. Noise that a filter has correlated reads low, for its neighbours look
    like signal: after a Gaussian of 5 mm FWHM on 5 mm voxels by 3 %, after 8 mm by 26 %.

    Args:
        box: the image (x, y, z).
        local: its `local_means`.
        mask: the body.
        spacing_mm: voxel size.
    """
    inner = _inner(mask, spacing_mm)
    residuals = (box - local)[inner]
    deviation = float(np.median(np.abs(residuals - np.median(residuals))))
    return SIGMA_PER_MAD * deviation / math.sqrt(1.0 - 1.0 / math.prod(_cube(spacing_mm)))


def _noise_tail(
    box: Float32Array, local: Float32Array, mask: BoolArray, spacing_mm: tuple[float, float, float], least: float
) -> float:
    inner = _inner(mask, spacing_mm) & (local > least)
    return float(np.percentile(box[inner] / local[inner], 99.0)) if inner.any() else 1.0


def _cube(spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (2 * max(1, round((NEIGHBOURHOOD_MM / s - 1.0) / 2.0)) + 1 for s in spacing_mm)
    return x, y, z


def _inner(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """The body without its rim, nor what the edge of the field cuts; all of it where it is no thicker than that."""
    sides = [2 * round(RIM_MM / s) + 1 for s in spacing_mm]
    inner: BoolArray = ndimage.minimum_filter(mask.view(np.uint8), size=sides, mode="constant", cval=0).view(np.bool_)
    return inner if inner.any() else mask


def _span(reached: BoolArray) -> int:
    """The most voxels from the first to the last True, both included, along the first axis of (n, m)."""
    first = reached.argmax(axis=0)
    last = len(reached) - reached[::-1].argmax(axis=0)
    return int(((last - first) * reached.any(axis=0)).max(initial=0))
