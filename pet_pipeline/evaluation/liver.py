"""The noise of a PET as one number, taken from the liver: NSTD; with the liver's mask, or from a VOI found without one.

Two numbers, never to be mixed: `liver_nstd` (sd / mean) of attenuation-corrected images, `liver_nstd_nac` of
uncorrected ones, where sd / mean would measure the cupping (0.38 in a noise-free liver) and not the noise.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from pet_pipeline.configs.schema import Condition
from pet_pipeline.data.body import body_mask
from pet_pipeline.data.resample import onto, to_spacing
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import NSTD_EROSION_MM, nstd
from pet_pipeline.physics.water import water_corrected
from pet_pipeline.types import BoolArray, Float32Array, FloatArray
from pet_pipeline.units import Unit

SPACING_MM = 5.0
"""The VOI is looked for in voxels of this size; the noise is measured in the image's own."""

SMOOTHING_SIGMA_MM = 8.0
"""Standard deviation of the smoothing before the search: the liver of a 5 % dose then varies by a tenth."""

CUBE_MM = 50.0
"""Side of the cube that must fit into the organ: of those on the right, liver and brain alone are so thick."""

MOST_VARIED = 0.2
"""Largest sd / mean of the smoothed cube; 0.02 to 0.11 in simulated livers, more where an organ's edge crosses it."""

BRIGHTNESS = (1.8, 8.0)
"""Least and largest mean of the cube over the median of the body: muscle stays below, a bladder lies above. Simulated
livers have 2.1 to 5.8."""

BAND = 0.2
"""The VOI's smoothed values are within this part of the cube's mean, as they are not where the edge's blur begins."""

LEAST_ML = 200.0
"""Smallest VOI: a tenth of a liver, and more than the half of a brain that lies on the right."""

TRUNK_CM2 = 300.0
"""Smallest cross-section of a trunk; heads have at most 250."""


def liver_nstd(volume: Volume, mask: BoolArray | None = None) -> float | None:
    """NSTD of an attenuation-corrected PET: standard deviation / mean of the voxels in the liver.

    Args:
        volume: linear in activity (SUV or relative), on any unsheared grid.
        mask: the liver without its edge (see `regions.liver_region`), on the volume's grid; None: `liver_like_region`.

    Returns:
        The ratio; None where no mask is given and nothing like a liver is found.

    Raises:
        InputRefused: a mask of fewer than 2 voxels, or over a mean that is not positive.
    """
    region = liver_like_region(volume) if mask is None else mask
    return None if region is None else nstd(volume.data, region)


def liver_nstd_nac(volume: Volume, mask: BoolArray | None = None) -> float | None:
    """High-pass NSTD of an uncorrected PET: sd of the difference of adjacent axial slices / sqrt(2), over the mean.

    Arguments and errors are those of `liver_nstd`; the VOI is found on the image corrected for its outline filled with
    water, the noise is measured on the image itself.
    """
    region = liver_like_region(volume, corrected=False) if mask is None else mask
    if region is None:
        return None
    turn = volume.geometry.to_canonical()
    return high_pass_nstd(turn.apply(volume.data), turn.apply(region))


class Measure(NamedTuple):
    """A noise level: its name, and how it is taken from a volume without a mask."""

    name: str
    of: Callable[[Volume], float | None]


MEASURES: Mapping[Condition, Measure] = {
    "input": Measure("nstd_nac", liver_nstd_nac),
    "input_ac": Measure("nstd", liver_nstd),
}
"""What a model is given -> the noise level that its networks are told."""


def high_pass_nstd(image: FloatArray, mask: BoolArray) -> float:
    """sd(x[z + 1] - x[z]) / sqrt(2) / mean(x) inside the mask, both (x, y, z); NSTD where noise is white along z.

    Raises:
        InputRefused: fewer than 2 pairs of slices' voxels, or a mean that is not positive.
    """
    pairs = mask[:, :, 1:] & mask[:, :, :-1]
    steps = (image[:, :, 1:] - image[:, :, :-1])[pairs].astype(np.float64)
    mean = float(image[mask].mean(dtype=np.float64)) if steps.size else 0.0
    if steps.size < 2 or mean <= 0.0:
        raise InputRefused(f"nstd_nac needs 2 pairs of voxels along z and a positive mean, given are {steps.size}")
    return float(steps.std(ddof=1)) / math.sqrt(2.0) / mean


def liver_like_region(volume: Volume, *, corrected: bool = True) -> BoolArray | None:
    """A large, homogeneous, bright region on the right of the trunk, as the liver is; on the volume's grid.

    Of all cubes of `CUBE_MM` inside the right half of the trunk, with a mean within `BRIGHTNESS`, the one whose
    smoothed values vary least; then all that hangs together with it and is as bright (`BAND`), `NSTD_EROSION_MM` away
    from what is not. It depends on ratios alone: twice the activity gives the same region.

    Args:
        volume: PET on any unsheared grid; its affine says where right is.
        corrected: for attenuation; if not, the search is on the image divided by the transmission of a body of water.

    Returns:
        The region; None where there is none, as in a scan of the head.
    """
    turn = volume.geometry.to_canonical()
    turned = volume.oriented(turn)
    gridded = to_spacing(turned, (SPACING_MM,) * 3)
    body = body_mask(gridded.data, (SPACING_MM,) * 3)
    image = gridded.data if corrected else water_corrected(gridded.data, body, voxel_mm=SPACING_MM)
    region = _search(image, body)
    if region is None:
        return None
    found = onto(Volume(region.astype(np.float32), gridded.geometry, Unit.LABEL), turned.geometry, nearest=True)
    return np.ascontiguousarray(turn.inverse().apply(found.data > 0.5))


def _search(image: Float32Array, body: BoolArray) -> BoolArray | None:
    """The region in voxels of `SPACING_MM`, RAS+."""
    across = np.flatnonzero(body.any(axis=(1, 2)))
    right = slice(int(across[0] + across[-1]) // 2, int(across[-1]) + 1)
    smooth = ndimage.gaussian_filter(image, SMOOTHING_SIGMA_MM / SPACING_MM)
    typical = float(np.median(smooth[body]))
    trunk = body.sum(axis=(0, 1)) * SPACING_MM**2 >= 100.0 * TRUNK_CM2
    seen, inside = smooth[right], body[right]
    side = 2 * round((CUBE_MM / SPACING_MM - 1.0) / 2.0) + 1
    mean = ndimage.uniform_filter(seen, side)
    variance = np.maximum(ndimage.uniform_filter(np.square(seen), side) - np.square(mean), 0.0)
    low, high = BRIGHTNESS
    fit = ndimage.minimum_filter(inside.view(np.uint8), side, mode="constant").view(np.bool_)
    fit &= (mean > low * typical) & (mean < high * typical) & trunk
    varied = np.where(fit, np.sqrt(variance) / np.maximum(mean, np.finfo(np.float32).tiny), np.inf)
    seed = np.unravel_index(int(np.argmin(varied)), varied.shape)
    if not varied[seed] < MOST_VARIED:
        return None
    alike = np.abs(seen - mean[seed]) < BAND * mean[seed]
    parts, _ = ndimage.label(ndimage.distance_transform_edt(alike, sampling=SPACING_MM) > NSTD_EROSION_MM)
    # The cube's middle itself may be a speck of noise: the part that fills most of the cube is meant.
    cube = tuple(slice(max(int(at) - side // 2, 0), int(at) + side // 2 + 1) for at in seed)
    sizes = np.bincount(parts[cube].ravel())
    sizes[0] = 0
    chosen = parts == int(np.argmax(sizes))
    if not sizes.any() or chosen.sum() * SPACING_MM**3 < 1000.0 * LEAST_ML:
        return None
    region = np.zeros_like(body)
    region[right] = chosen
    return region
