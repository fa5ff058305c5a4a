"""A member brought onto a patient: what was moved, scaled or bent comes back; what cannot be brought is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name that its own manual uses)
from mumap_bodies import bent, body, estimate_of

from pet_pipeline.mumap import registration
from pet_pipeline.mumap.alignment import SPACING_MM, AlignedMap, align
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.mumap.registration import (
    Registered,
    RegistrationFailed,
    edge_width_mm,
    look,
    matching_blur_mm,
    register,
)
from pet_pipeline.physics.blur import smooth

QUICK = PriorOptions(coarse_iterations=20, fine_iterations=10)
STIFF = PriorOptions(deformable=False)
WIDE = (66, 50, 40)


def brought(
    patient: np.ndarray, member: AlignedMap, offset_mm: float = 0.0, options: PriorOptions = QUICK
) -> tuple[Registered, np.ndarray, np.ndarray]:
    """The member on the patient's estimate; the patient's own map and body on that grid."""
    aligned, frame = align(estimate_of(patient), SPACING_MM)
    return (
        register(aligned, frame.mask, member, offset_mm, options),
        frame.mask,
        _boxed(patient, frame.start, frame.shape),
    )


def _boxed(mu: np.ndarray, start: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    return mu[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]


def error(found: Registered, truth: np.ndarray, where: np.ndarray) -> float:
    """Mean absolute difference in the body that the member reaches, cm^-1."""
    return float(np.abs(found.mu_cm1 - truth)[where & (found.reach > 0)].mean())


@pytest.mark.parametrize("fwhm_mm", [8.0, 12.0, 18.0])
def test_the_width_of_edges_is_that_of_their_blur(fwhm_mm: float) -> None:
    step = np.zeros((40, 20, 20), dtype=np.float32)
    step[20:] = 1.0
    assert edge_width_mm(smooth(step, fwhm_mm, SPACING_MM)) == pytest.approx(fwhm_mm, rel=0.25)


@pytest.mark.parametrize("fwhm_mm", [0.0, 9.0, 14.0])
def test_a_member_is_blurred_as_much_as_the_estimate_was(fwhm_mm: float) -> None:
    sharp = body()
    blur = matching_blur_mm(look(estimate_of(sharp, fwhm_mm)), look(sharp))
    assert blur == pytest.approx(fwhm_mm, abs=3.5)


def test_an_identical_member_gives_its_own_map() -> None:
    patient = body(shape=WIDE)
    found, inside, truth = brought(patient, align(patient, SPACING_MM)[0])
    assert (found.reach[inside] > 0).mean() > 0.97
    assert error(found, truth, inside) < 0.0015
    assert found.mismatch < 0.05


@pytest.mark.parametrize("shift_mm", [(15.0, -10.0, 0.0), (-5.0, 10.0, 20.0)])
def test_a_moved_member_comes_back(shift_mm: tuple[float, float, float]) -> None:
    patient = body(shape=WIDE)
    # The member's box holds the moved body at a place of its own: its axis is told wrong by the shift.
    moved, _ = align(body(shape=(66, 50, 50), centre_mm=(0.0, 0.0, shift_mm[2])), SPACING_MM)
    misplaced = AlignedMap(moved.mu_cm1, (moved.axis[0] + shift_mm[0] / 5.0, moved.axis[1] + shift_mm[1] / 5.0))
    found, inside, truth = brought(patient, misplaced, -25.0, STIFF)
    assert error(found, truth, inside) < 0.002


@pytest.mark.parametrize("scale", [0.88, 1.12])
def test_a_scaled_copy_registers_back(scale: float) -> None:
    patient = body(shape=WIDE)
    other = align(body(shape=(76, 58, 46), scale=scale), SPACING_MM)[0]
    offset_mm = (40 - other.mu_cm1.shape[2]) / 2 * 5.0
    found, inside, truth = brought(patient, other, offset_mm, STIFF)
    unmoved = np.abs(truth - _middle(other.mu_cm1, truth.shape))[inside].mean()
    assert error(found, truth, inside) < 0.003
    assert error(found, truth, inside) < 0.4 * unmoved


def _middle(mu: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape, dtype=np.float32)
    take, put = [], []
    for have, want in zip(mu.shape, shape, strict=True):
        n = min(have, want)
        take.append(slice((have - n) // 2, (have - n) // 2 + n))
        put.append(slice((want - n) // 2, (want - n) // 2 + n))
    out[tuple(put)] = mu[tuple(take)]
    return out


def test_a_bent_member_comes_back_by_deforming_and_not_without() -> None:
    patient = body(shape=WIDE)
    other = align(bent(patient), SPACING_MM)[0]
    stiff, inside, truth = brought(patient, other, 0.0, STIFF)
    supple, _, _ = brought(patient, other, 0.0, PriorOptions(coarse_iterations=40, fine_iterations=10))
    assert error(supple, truth, inside) < 0.6 * error(stiff, truth, inside)
    assert supple.mismatch < 0.6 * stiff.mismatch


def test_an_estimate_that_is_too_low_by_a_factor_is_registered_alike() -> None:
    patient = body(shape=WIDE)
    member = align(bent(patient), SPACING_MM)[0]
    aligned, frame = align(estimate_of(patient), SPACING_MM)
    low = AlignedMap(0.93 * aligned.mu_cm1, aligned.axis)
    one, other = (register(p, frame.mask, member, 0.0, STIFF) for p in (aligned, low))
    assert np.abs(one.mu_cm1 - other.mu_cm1)[frame.mask].mean() < 1e-3


def test_reach_ends_where_the_member_ends() -> None:
    patient = body(shape=WIDE)
    part = align(patient[:, :, 8:30], SPACING_MM)[0]
    found, inside, truth = brought(patient, part, 40.0)
    slices = np.flatnonzero((found.reach > 0).any(axis=(0, 1)))
    assert abs(int(slices[0]) - 8) <= 1
    assert abs(int(slices[-1]) - 29) <= 1
    profile = found.reach[found.reach.shape[0] // 2, found.reach.shape[1] // 2]
    assert profile[slices[0]] < 0.5
    assert profile[18] == pytest.approx(1.0, abs=1e-3)
    assert error(found, truth, inside) < 0.0015


def test_beside_the_members_box_is_air_that_it_reaches() -> None:
    thick = body(shape=WIDE, width_mm=130)
    thin = align(body(shape=WIDE, width_mm=100), SPACING_MM)[0]
    found, _, _ = brought(thick, thin, 0.0)
    middle = found.reach[:, :, found.reach.shape[2] // 2]
    assert found.reach.shape[0] > thin.mu_cm1.shape[0]
    assert (middle == 1.0).all()


def test_too_little_in_common_is_refused() -> None:
    patient = body(shape=WIDE)
    with pytest.raises(RegistrationFailed, match="in common"):
        brought(patient, align(patient, SPACING_MM)[0], 175.0)


def test_a_body_of_another_kind_is_refused() -> None:
    x, y, _ = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in WIDE), indexing="ij")
    plate = AlignedMap(np.where((np.abs(x) < 30) & (np.abs(y) < 2), 0.1, 0.0).astype(np.float32), (32.5, 24.5))
    with pytest.raises(RegistrationFailed, match=r"overlap|stretched|in common"):
        brought(body(shape=WIDE), plate, 0.0)


def test_bodies_that_overlap_too_little_are_refused() -> None:
    patient = body(shape=WIDE)
    strict = PriorOptions(deformable=False, least_body_overlap=0.999)
    with pytest.raises(RegistrationFailed, match=r"bodies overlap by 0\.9\d \(Dice\) only"):
        brought(patient, align(bent(patient), SPACING_MM)[0], 0.0, strict)


def test_a_member_of_nothing_is_refused() -> None:
    empty = AlignedMap(np.zeros(WIDE, dtype=np.float32), (32.5, 24.5))
    with pytest.raises(RegistrationFailed):
        brought(body(shape=WIDE), empty, 0.0)


def test_no_time_is_refused() -> None:
    patient = body(shape=WIDE)
    with pytest.raises(RegistrationFailed, match=r"took longer than 0\.001 s"):
        brought(patient, align(patient, SPACING_MM)[0], 0.0, PriorOptions(limit_s=0.001))


def displaced(x_mm: Callable[[np.ndarray], np.ndarray]) -> Callable[..., sitk.Image]:
    """Demons that displace along x by a function of the place along x in voxels, mm."""

    def astray(fixed: sitk.Image, *_: object) -> sitk.Image:
        field = np.zeros((*reversed(fixed.GetSize()), 3))
        field[..., 0] = x_mm(np.arange(fixed.GetSize()[0], dtype=float))
        image = sitk.GetImageFromArray(field, isVector=True)
        image.CopyInformation(fixed)
        return image

    return astray


@pytest.mark.parametrize(
    ("x_mm", "words"),
    [
        (lambda x: -10.0 * (x - x.mean()), r"folds in 100\.0% of the body"),  # a mirror image
        (lambda x: 20.0 + 0.0 * x, r"made it worse: root mean square 0\.\d+ to 0\.\d+"),
    ],
)
def test_a_deformation_that_folds_or_does_not_help_is_refused(
    x_mm: Callable[[np.ndarray], np.ndarray], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_demons", displaced(x_mm))
    patient = body(shape=WIDE)
    with pytest.raises(RegistrationFailed, match=words):
        brought(patient, align(patient, SPACING_MM)[0], 0.0)
