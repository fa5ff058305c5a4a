"""A member of the bank brought onto a patient: affine, then demons, each from coarse to fine; or a reason why not.

What a member is registered onto is an estimate: blurred, with wrong lungs and faint bone. So both maps are looked at
as a network's estimate shows them (`look`: cut off above soft tissue, the member blurred until it is as sharp as the
estimate), and the affine step maximises a correlation, which a common factor does not change.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name that its own manual uses)
from scipy import ndimage

from pet_pipeline.mumap.alignment import SPACING_MM, VOXEL_MM, AlignedMap
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.physics.blur import smooth
from pet_pipeline.types import BoolArray, Float32Array
from pet_pipeline.units import FWHM_PER_SIGMA

LOOK_CM1 = 0.115
"""Above marrow the view is cut off: how dense an estimate's bone is tells nothing, that there is bone does."""

SOFT_CM1 = 0.1
"""A view's unit."""

BODY_CM1 = 0.048
"""Half of water."""

RIM_VOXELS = 4
"""The similarity is judged in the body and this far around it: the skin must count, the air beyond must not."""

LARGEST_BLUR_MM = 25.0
"""A member is never blurred more than this, however little an estimate shows."""

SCALES = (0.6, 1.6)
"""Stretching or shrinking by more is no difference between people."""

COVERED = 0.8
"""A slice belongs to the member's reach where it has this share of the patient's body."""

LEAST_SLICES = 8
"""Fewer slices of 5 mm in common are not registered."""

CHUNK = 10
"""Iterations of the demons between two looks at the clock."""

RAMP_MM = 20.0
"""From its axial ends inwards a member's reach grows over this length from 0 to 1, so that no seam shows."""

FAR_MM = 2000.0
"""Wider than any field of view."""

WORSE = 1.02
"""Deforming may not leave the difference larger than this multiple of what it was."""


class RegistrationFailed(Exception):
    """A member cannot be brought onto the patient; the message is the reason, without the member's name."""


@dataclass(frozen=True, eq=False)
class Registered:
    """A member on the patient's grid.

    Attributes:
        mu_cm1: (x, y, z), cm^-1.
        view: (x, y, z), the member as the estimate would show it, in soft tissue; see `look`.
        reach: (x, y, z) in [0, 1]: 0 where the member's field of view ends, 1 well inside.
        mismatch: root mean square of the difference of the views in and around the body, in soft tissue.
    """

    mu_cm1: Float32Array
    view: Float32Array
    reach: Float32Array
    mismatch: float


def look(mu_cm1: Float32Array, fwhm_mm: float = 0.0) -> Float32Array:
    """A mu-map (x, y, z) as registration sees it: cut off at marrow, in multiples of soft tissue, blurred."""
    view = np.clip(mu_cm1, 0.0, LOOK_CM1, dtype=np.float32) / np.float32(SOFT_CM1)
    return smooth(view, fwhm_mm, SPACING_MM)


def edge_width_mm(view: Float32Array) -> float:
    """Full width at half maximum of the blur that the edges of a view show, mm.

    Across a step A blurred by a Gaussian, the gradient g has integral A and g^2 has A^2 / (2 sqrt(pi) sigma), so that
    sum(g^2) / sum(g) tells sigma whatever the area of the edges; most are of body or lung against air, with A near 1.
    """
    squared = np.zeros_like(view)
    for axis in range(3):
        squared += np.gradient(view, axis=axis) ** 2
    slope = np.sqrt(squared)
    steep = slope > 0.05  # texture is no edge
    if not steep.any():
        return LARGEST_BLUR_MM
    sharpness = float(squared[steep].sum(dtype=np.float64) / slope[steep].sum(dtype=np.float64))
    return FWHM_PER_SIGMA * VOXEL_MM / (2.0 * math.sqrt(math.pi) * sharpness)


def matching_blur_mm(estimate: Float32Array, member: Float32Array) -> float:
    """FWHM by which a member's view must be blurred to be as sharp as an estimate's, 0 to 25 mm; variances add."""
    variance = edge_width_mm(estimate) ** 2 - edge_width_mm(member) ** 2
    return min(math.sqrt(max(variance, 0.0)), LARGEST_BLUR_MM)


def register(
    patient: AlignedMap, body: BoolArray, member: AlignedMap, offset_mm: float, options: PriorOptions
) -> Registered:
    """Bring a member onto a patient's estimate.

    Args:
        patient: the estimate on the population's grid.
        body: (x, y, z), the patient's body on that grid.
        member: of the bank.
        offset_mm: where the member's lowest slice lies above the patient's.
        options: iterations, limits.

    Raises:
        RegistrationFailed: out of time, too little in common, an impossible stretch, bodies that do not overlap, a
            deformation that folds, or one that does not help.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the members are the parallel work
    clock = _Clock(options.limit_s)
    try:
        return _register(patient, body, member, offset_mm, options, clock)
    except RuntimeError as error:
        raise RegistrationFailed(f"registration failed: {_last_line(error)}") from error


def _register(
    patient: AlignedMap,
    body: BoolArray,
    member: AlignedMap,
    offset_mm: float,
    options: PriorOptions,
    clock: "_Clock",
) -> Registered:
    seen, shown = look(patient.mu_cm1), look(member.mu_cm1)
    shown = smooth(shown, matching_blur_mm(seen, shown), SPACING_MM)
    fixed, moving = patient.image(seen), member.image(shown)
    around = ndimage.binary_dilation(body, iterations=RIM_VOXELS)
    clock.check()
    placed = _affine(fixed, moving, patient.image(around.astype(np.float32)), offset_mm, options, clock)
    stretch = np.linalg.svd(np.array(placed.GetMatrix()).reshape(3, 3), compute_uv=False)
    if not (SCALES[0] <= stretch.min() and stretch.max() <= SCALES[1]):
        raise RegistrationFailed(f"stretched by {stretch.min():.2f} to {stretch.max():.2f}")
    reach = _reach_image(member)
    slices = _slices_reached(_array(_warped(reach, fixed, placed)), body)
    fixed, part = fixed[:, :, slices], AlignedMap(patient.mu_cm1[:, :, slices], patient.axis)
    inside = body[:, :, slices]
    before = _warped(moving, fixed, placed)
    overlap = _dice(_array(before) > BODY_CM1 / SOFT_CM1, part.mu_cm1 > BODY_CM1)
    if overlap < options.least_body_overlap:
        raise RegistrationFailed(f"bodies overlap by {overlap:.2f} (Dice) only")
    way: sitk.Transform = placed
    near = around[:, :, slices]
    if options.deformable:
        field = _demons(fixed, before, options, clock)
        folded = float((_array(sitk.DisplacementFieldJacobianDeterminant(field))[inside] <= 0.0).mean())
        if folded > options.most_folded:
            raise RegistrationFailed(f"the deformation folds in {folded:.1%} of the body")
        way = sitk.CompositeTransform(3)
        way.AddTransform(placed)
        way.AddTransform(sitk.DisplacementFieldTransform(field))  # empties `field`
    after, reached = _array(_warped(moving, fixed, way)), _array(_warped(reach, fixed, way))
    near = near & (reached > 0.0)
    if not near.any():
        raise RegistrationFailed("nothing of it is left on the patient")
    was, now = (math.sqrt(_mean_square(view - _array(fixed), near)) for view in (_array(before), after))
    if options.deformable and now > WORSE * was:
        raise RegistrationFailed(f"deforming made it worse: root mean square {was:.3f} to {now:.3f}")
    clock.check()
    return Registered(
        mu_cm1=_placed(_array(_warped(member.image(member.mu_cm1), fixed, way)), body.shape, slices),
        view=_placed(after, body.shape, slices),
        reach=_placed(np.clip(reached, 0.0, 1.0), body.shape, slices),
        mismatch=now,
    )


class _Clock:
    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.start = time.monotonic()

    def late(self) -> bool:
        return time.monotonic() - self.start > self.limit_s

    def check(self) -> None:
        if self.late():
            raise RegistrationFailed(f"took longer than {self.limit_s:g} s")


def _affine(
    fixed: sitk.Image,
    moving: sitk.Image,
    around: sitk.Image,
    offset_mm: float,
    options: PriorOptions,
    clock: _Clock,
) -> sitk.AffineTransform:
    """The affine transform from the patient's millimetres to the member's, by the correlation around the body."""
    coarse, mask = sitk.BinShrink(fixed, [2] * 3), sitk.Cast(sitk.BinShrink(around, [2] * 3) > 0.5, sitk.sitkUInt8)
    placed = sitk.AffineTransform(3)
    placed.SetCenter([0.0, 0.0, VOXEL_MM * fixed.GetSize()[2] / 2.0])
    placed.SetTranslation([0.0, 0.0, -offset_mm])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=5.0, minStep=0.02, numberOfIterations=options.affine_iterations, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    # A short field of view has no room for the coarser level.
    levels = ([2, 1], [1.0, 0.0]) if min(coarse.GetSize()) >= 2 * LEAST_SLICES else ([1], [0.0])
    method.SetShrinkFactorsPerLevel(levels[0])
    method.SetSmoothingSigmasPerLevel(levels[1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(placed, True)
    method.AddCommand(sitk.sitkIterationEvent, lambda: method.StopRegistration() if clock.late() else None)
    method.Execute(coarse, sitk.BinShrink(moving, [2] * 3))
    clock.check()
    return placed


def _demons(fixed: sitk.Image, moving: sitk.Image, options: PriorOptions, clock: _Clock) -> sitk.Image:
    """Displacements (mm) by symmetric demons that bring `moving` onto `fixed`, at 10 mm, then at 5 mm."""
    method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    method.SmoothDisplacementFieldOn()
    method.SetStandardDeviations(options.smoothing_voxels)
    method.SetUseGradientType(method.Symmetric)

    def run(at: sitk.Image, of: sitk.Image, field: sitk.Image | None, iterations: int) -> sitk.Image:
        for done in range(0, iterations, CHUNK):
            method.SetNumberOfIterations(min(CHUNK, iterations - done))
            field = method.Execute(at, of) if field is None else method.Execute(at, of, field)
            clock.check()
        return field

    field = run(sitk.BinShrink(fixed, [2] * 3), sitk.BinShrink(moving, [2] * 3), None, options.coarse_iterations)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(fixed)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()  # a coarse grid ends half a voxel before a fine one
    return run(fixed, moving, resampler.Execute(field), options.fine_iterations)


def _warped(image: sitk.Image, onto: sitk.Image, way: sitk.Transform) -> sitk.Image:
    return sitk.Resample(image, onto, way, sitk.sitkLinear, 0.0)


def _array(image: sitk.Image) -> Float32Array:
    """An image's values as (x, y, z)."""
    values: Float32Array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return values


def _reach_image(member: AlignedMap) -> sitk.Image:
    """How well inside a member's field of view a slice lies: a little above 0 at its axial ends, 1 from 20 mm inwards.

    Two voxels of a metre across: beside the member's box is air, which it reaches too.
    """
    index = np.arange(member.mu_cm1.shape[2])
    depth = (np.minimum(index, index[::-1]) + 1) * VOXEL_MM / RAMP_MM
    values = np.broadcast_to(np.minimum(depth, 1.0).astype(np.float32)[:, None, None], (len(index), 2, 2))
    image = sitk.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing([FAR_MM, FAR_MM, VOXEL_MM])
    image.SetOrigin([-FAR_MM / 2.0, -FAR_MM / 2.0, 0.0])
    return image


def _slices_reached(reach: Float32Array, body: BoolArray) -> slice:
    """The patient's slices whose body the member has, from the first to the last.

    Raises:
        RegistrationFailed: too few of them.
    """
    area = body.sum(axis=(0, 1))
    common = (body & (reach > 0.0)).sum(axis=(0, 1))
    found = np.flatnonzero((common >= COVERED * area) & (area > 0))
    if found.size < LEAST_SLICES:
        raise RegistrationFailed(f"{found.size} slices of {VOXEL_MM:g} mm in common, needed are {LEAST_SLICES}")
    return slice(int(found[0]), int(found[-1]) + 1)


def _placed(part: Float32Array, shape: tuple[int, ...], slices: slice) -> Float32Array:
    whole = np.zeros(shape, dtype=np.float32)
    whole[:, :, slices] = part
    return whole


def _dice(one: BoolArray, other: BoolArray) -> float:
    return 2.0 * float((one & other).sum()) / max(float(one.sum() + other.sum()), 1.0)


def _mean_square(difference: Float32Array, where: BoolArray) -> float:
    return float(np.mean(difference[where] ** 2, dtype=np.float64))


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
