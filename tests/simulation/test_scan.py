"""A phantom in a scanner: unbiased where nothing is wrong, coupled twins, doses that share counts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pet_pipeline.configs.simulation import AcquisitionSettings
from pet_pipeline.physics.acquisition import draw_counts, thin
from pet_pipeline.simulation.scan import Scan, ScanFacts, acquire, breathing, output_shape, reconstruct
from pet_pipeline.simulation.scanners import SCANNERS, ScannerSettings, scanner
from pet_pipeline.types import BoolArray, Float32Array, FloatArray

EXACT = ScanFacts(
    scatter_ratio=0.25, scatter_error=1.0, randoms_fraction=0.4, counts_factor=1.0, bed_shift=0.3, ct_phase=0.0
)
STILL = AcquisitionSettings(phases=1, ct_blur_mm=0.0)


@dataclass(frozen=True)
class Ellipses:
    """A trunk of ellipses: soft tissue, two lungs, liver, spine, and a lesion in the soft tissue."""

    slices: int = 24
    shift_mm: float = 0.0
    spacing_mm: float = 2.5

    def region(self, name: str, shrink_mm: float = 0.0, shift_mm: float = 0.0) -> BoolArray:
        x, y, z = (
            (np.arange(n) - (n - 1) / 2.0).reshape(shape) * self.spacing_mm
            for n, shape in ((208, (-1, 1, 1)), (144, (1, -1, 1)), (2 * self.slices, (1, 1, -1)))
        )
        (cx, cy), (rx, ry) = {
            "body": ((0, 0), (165, 105)), "left lung": ((-80, 15), (50, 60)), "liver": ((75, 0), (65, 70)),
            "spine": ((0, -70), (20, 20)), "lesion": ((-20, 60), (15, 15)),
        }[name]  # fmt: skip
        inside = ((x - cx) / (rx - shrink_mm)) ** 2 + ((y - cy) / (ry - shrink_mm)) ** 2 <= 1.0
        top = z >= 20.0 + shift_mm  # lesion and lungs end; the others run through
        return inside & (top if name == "lesion" else np.ones_like(top))

    def phase(self, p: float) -> tuple[Float32Array, Float32Array, Float32Array]:
        activity = np.zeros((208, 144, 2 * self.slices), dtype=np.float32)
        mu = np.zeros_like(activity)
        for name, suv, attenuation in (
            ("body", 0.8, 0.097), ("left lung", 0.5, 0.03), ("liver", 2.2, 0.1), ("spine", 1.4, 0.12),
        ):  # fmt: skip
            where = self.region(name)
            activity[where], mu[where] = suv, attenuation
        lesion = np.zeros_like(activity)
        lesion[self.region("lesion", shift_mm=-self.shift_mm * p)] = 6.0
        return activity + lesion, lesion, mu


def on_grid(mask: BoolArray, image: FloatArray) -> BoolArray:
    """Voxels of 5 mm that lie wholly inside a region of 2.5 mm voxels."""
    nx, ny, nz = image.shape
    return mask.reshape(nx, 2, ny, 2, nz, 2).all(axis=(1, 3, 5))


@pytest.fixture(scope="module")
def still() -> Iterator[Scan]:
    return acquire(Ellipses(), scanner("plain-5mm"), EXACT, STILL)


def test_many_updates_with_the_true_mu_find_every_organ(still: Scan) -> None:
    """Noise-free, 12 x 12 updates, exact scatter: within 5 % in VOIs eroded by 10 mm; without correction not."""
    preset = replace(still.scanner, iterations=12, filter_mm=0.0)
    scan = replace(still, scanner=preset)
    total = scan.rates(with_lesions=False).total
    corrected = reconstruct(scan, [total], corrected=True, with_lesions=False)[0]
    uncorrected = reconstruct(scan, [total], corrected=False, with_lesions=False)[0]
    phantom = Ellipses()
    organs = ("left lung", "liver", "spine")
    occupied = np.any([phantom.region(name, shrink_mm=-10.0) for name in organs], axis=0)
    for name, suv in (("left lung", 0.5), ("liver", 2.2), ("spine", 1.4)):
        voxels = on_grid(phantom.region(name, shrink_mm=10.0), corrected)
        assert voxels.sum() * 0.125 > 1.0  # mL
        assert corrected[voxels].mean() == pytest.approx(suv, rel=0.05)
        assert abs(uncorrected[voxels].mean() / suv - 1.0) > 0.2
    soft = on_grid(phantom.region("body", shrink_mm=60.0) & ~occupied, corrected)
    assert corrected[soft].mean() == pytest.approx(0.8, rel=0.05)


def test_noise_has_the_size_of_a_standard_scan_and_the_mean_does_not_depend_on_dose(still: Scan) -> None:
    rng = np.random.default_rng(0)
    rates = still.rates(with_lesions=True).total
    full = draw_counts(rates * still.sensitivity, rng)
    shares = (1.0, 0.2, 0.05)
    measured = [thin(full, share, rng) / (still.sensitivity * share) for share in shares]
    *images, expected = reconstruct(still, [*measured, rates], corrected=True, with_lesions=True)
    liver = on_grid(Ellipses().region("liver", shrink_mm=10.0), expected)
    deviations = [float((image - expected)[liver].std() / expected[liver].mean()) for image in images]
    assert 0.07 < deviations[0] < 0.13
    assert deviations[0] < deviations[1] < deviations[2]
    body = on_grid(Ellipses().region("body"), expected)
    for image in images:
        assert image[liver].mean() == pytest.approx(expected[liver].mean(), rel=0.02)
        assert image[body].mean() == pytest.approx(expected[body].mean(), rel=0.02)


def test_twin_has_the_rates_of_the_patient_without_lesions(still: Scan) -> None:
    assert still.lesions is not None
    difference = still.rates(with_lesions=True).total - still.rates(with_lesions=False).total
    np.testing.assert_allclose(difference, still.lesions.total, atol=1e-2)
    assert still.rates(with_lesions=False) is still.plain
    hot = still.lesions.trues.any(axis=0)
    assert hot[-1]
    assert not hot[: len(hot) // 3].any()
    image, twin = (
        reconstruct(still, [still.rates(with_lesions=flag).total], corrected=True, with_lesions=flag)[0]
        for flag in (True, False)
    )
    lesion = on_grid(Ellipses().region("lesion", shrink_mm=5.0), image)
    assert image[lesion].mean() > 3.0 * twin[lesion].mean()
    far = on_grid(Ellipses().region("liver", shrink_mm=10.0), image)
    np.testing.assert_allclose(image[far].mean(), twin[far].mean(), rtol=0.02)


def test_breathing_blurs_the_lesion_and_leaves_still_slices_alone() -> None:
    phantom = Ellipses(shift_mm=20.0)
    settings = AcquisitionSettings(phases=4)
    scan = acquire(phantom, scanner("plain-5mm"), EXACT, settings)
    assert scan.lesions is not None
    by_hand = [
        acquire(_At(phantom, breathing((k + 0.5) / 4)), scanner("plain-5mm"), EXACT, STILL).lesions for k in range(4)
    ]
    mean = np.mean([rates.trues for rates in by_hand if rates is not None], axis=0)
    np.testing.assert_allclose(scan.lesions.trues, mean, rtol=1e-3, atol=1e-2)


@dataclass(frozen=True)
class _At:
    """A phantom held at one phase."""

    phantom: Ellipses
    p: float
    spacing_mm: float = 2.5

    def phase(self, p: float) -> tuple[Float32Array, Float32Array, Float32Array]:
        return self.phantom.phase(self.p)


def test_matched_mu_is_written_in_place(still: Scan) -> None:
    assert still.mu_cm1.shape == (104, 72, 24)
    liver = on_grid(Ellipses().region("liver", shrink_mm=5.0), still.mu_cm1)
    np.testing.assert_allclose(still.mu_cm1[liver], 0.1, rtol=1e-5)


def test_mu_is_whole_in_end_slices_that_reach_beyond_the_phantom() -> None:
    """115 mm of phantom in 29 slices of 4 mm: an eighth of each end slice lies beyond it."""
    scan = acquire(Ellipses(slices=23), scanner("sharp-4mm"), EXACT, STILL)
    x, y = scan.mu_cm1.shape[0] // 2 + round(75 / 4.0), scan.mu_cm1.shape[1] // 2
    np.testing.assert_allclose(scan.mu_cm1[x, y], np.full(29, 0.1), rtol=1e-5)  # the liver runs through
    columns = scan.ct_mu_cm1.max(axis=0)
    np.testing.assert_allclose(columns, columns[14], rtol=1e-5)


@pytest.mark.parametrize("preset", SCANNERS.values(), ids=list(SCANNERS))
def test_presets(preset: ScannerSettings) -> None:
    assert preset.pixels * preset.voxel_mm >= 500.0
    assert preset.beam.bins * preset.beam.bin_mm >= 500.0
    assert preset.beam.angles % preset.subsets == 0
    nx, ny, nz = output_shape(preset, 100)
    assert abs(nx * preset.voxel_mm - 520.0) <= 2.0 * preset.voxel_mm
    assert abs(ny * preset.voxel_mm - 360.0) <= 2.0 * preset.voxel_mm
    assert nz == 100
    assert (preset.pixels - nx) % 2 == (preset.pixels - ny) % 2 == 0


def test_presets_vary_as_asked() -> None:
    assert sum(preset.training for preset in SCANNERS.values()) >= 4
    assert sum(not preset.training for preset in SCANNERS.values()) == 1
    assert any(preset.tof for preset in SCANNERS.values())
    assert any(preset.psf_mm for preset in SCANNERS.values())
    assert len({preset.voxel_mm for preset in SCANNERS.values()}) >= 3
