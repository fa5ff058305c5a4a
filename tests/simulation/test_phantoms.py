from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.phantoms import Phantom, draw
from pet_pipeline.simulation.tissues import FIRST_LESION, Tissue

VOXEL_MM3 = 2.5**3


@cache
def trunk(seed: int, family: str = "standard") -> Phantom:
    """Neck to pelvis: 130 slices that hold the organs of interest."""
    settings = PhantomSettings(
        slices=(130, 130), top_mm=(180.0, 180.0), lesions=(5, 5), height_cm=(165, 175), couch=1.0
    )
    return draw(generator(seed, "phantom"), family=family, settings=settings)


def suv_of(phantom: Phantom, name: str) -> float:
    return next(s.suv for s in phantom.structures if s.name == name)


def centre_of(phantom: Phantom, tissue: Tissue) -> np.ndarray:
    """Centroid in patient millimetres (RAS+)."""
    index = np.argwhere(phantom.labels == tissue).mean(axis=0)
    return phantom.geometry.affine[:3, :3] @ index + phantom.geometry.affine[:3, 3]


def test_grid_and_types() -> None:
    phantom = trunk(1)
    assert phantom.activity.shape == (208, 144, 260)
    assert phantom.geometry.spacing_mm == (2.5, 2.5, 2.5)
    for volume in (phantom.activity, phantom.mu, phantom.lesions_only, phantom.couch):
        assert volume.dtype == np.float32
        assert volume.shape == phantom.activity.shape
        assert np.isfinite(volume).all()
        assert volume.min() >= 0
    assert phantom.labels.dtype == np.int16


def test_same_generator_same_patient_and_another_seed_another() -> None:
    settings = PhantomSettings(slices=(20, 30))
    first, again, other = (draw(generator(s, "p"), family="standard", settings=settings) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.activity, again.activity)
    np.testing.assert_array_equal(first.mu, again.mu)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.facts == again.facts
    assert first.facts != other.facts


@pytest.mark.parametrize("seed", range(6))
def test_every_field_of_view_holds_a_patient(seed: int) -> None:
    """Cut anywhere from crown to thighs, a view of 80 mm shows tissue and consistent tables."""
    phantom = draw(generator(seed, "cut"), family="standard", settings=PhantomSettings(slices=(16, 16)))
    assert (phantom.labels > 0).mean() > 0.01
    assert {s.index for s in phantom.structures} == set(np.unique(phantom.labels).tolist()) - {0}
    start, stop = phantom.moving_slices
    assert 0 <= start <= stop <= phantom.labels.shape[2]


def test_field_of_view_longer_than_the_body_is_filled_with_air_above() -> None:
    settings = PhantomSettings(slices=(235, 235), top_mm=(0.0, 0.0), arms_up=0.0, height_cm=(150, 150))
    phantom = draw(generator(0, "long"), family="standard", settings=settings)
    occupied = np.flatnonzero((phantom.labels > 0).any(axis=(0, 1)))
    assert occupied[0] == 0
    assert occupied[-1] < phantom.labels.shape[2] - 10


@pytest.mark.parametrize("seed", [1, 2])
def test_attenuation_lies_in_the_physical_range_of_each_tissue(seed: int) -> None:
    phantom = trunk(seed)
    ranges = {
        Tissue.LUNGS: (0.022, 0.035),
        Tissue.FAT: (0.086, 0.095),
        Tissue.MUSCLE: (0.094, 0.104),
        Tissue.LIVER: (0.096, 0.104),
        Tissue.BLADDER: (0.094, 0.102),
        Tissue.MARROW: (0.100, 0.122),
        Tissue.BONE: (0.12, 0.18),
        Tissue.GAS: (0.0, 0.002),
    }
    for tissue, (low, high) in ranges.items():
        values = phantom.mu[phantom.labels == tissue]
        assert values.size, tissue
        assert low <= values.min(), tissue
        assert values.max() <= high, tissue
    outside = phantom.labels == 0
    np.testing.assert_array_equal(phantom.mu[outside], phantom.couch[outside])
    assert not phantom.activity[outside].any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_standard_uptake_lies_in_its_ranges(seed: int) -> None:
    phantom = trunk(seed)
    settings = PhantomSettings()
    for name in ("liver", "spleen", "lungs", "muscle", "blood_pool", "marrow"):
        low, high = settings.uptake_range(name)
        # Texture and gradients change an organ's mean by some per cent.
        assert 0.85 * low <= suv_of(phantom, name) <= 1.15 * high, name


@pytest.mark.parametrize("seed", [1, 2])
def test_heldout_liver_leaves_the_training_range(seed: int) -> None:
    low, high = PhantomSettings().uptake_range("liver")
    suv = suv_of(trunk(seed, "heldout"), "liver")
    assert suv < low or suv > high
    assert 0.9 <= suv <= 4.4


def test_heldout_findings_show_in_the_activity() -> None:
    base = {"slices": (130, 130), "top_mm": (180.0, 180.0), "lesions": (0, 0)}
    always = {"superscan_fraction": 1.0, "hot_muscle_fraction": 1.0, "brown_fat_fraction": 1.0}
    settings = PhantomSettings.model_validate({**base, "heldout": {**always, "necrotic_tumour_fraction": 1.0}})
    phantom = draw(generator(5, "finding"), family="heldout", settings=settings)
    assert suv_of(phantom, "marrow") > 3.4 > settings.uptake_range("marrow")[1]
    assert suv_of(phantom, "muscle") > 1.3 > settings.uptake_range("muscle")[1]
    assert suv_of(phantom, "brown_fat") > 3.4
    tumour = next(s for s in phantom.structures if s.kind == "lesion")
    assert tumour.diameter_mm is not None
    assert 48.0 <= tumour.diameter_mm <= 92.0
    inside = phantom.labels == tumour.index
    # A cold centre inside a hot rim.
    assert phantom.activity[inside].min() < 1.0
    assert phantom.activity[inside].max() > 4.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_organs_lie_on_their_sides(seed: int) -> None:
    """RAS+: x grows to the patient's right, y to the front, z to the head."""
    phantom = trunk(seed)
    liver, spleen, heart, bladder, lungs, spine = (
        centre_of(phantom, t)
        for t in (
            Tissue.LIVER, Tissue.SPLEEN, Tissue.MYOCARDIUM, Tissue.BLADDER, Tissue.LUNGS, Tissue.SPINAL_CORD,
        )
    )  # fmt: skip
    assert liver[0] > 20.0 > -20.0 > spleen[0]
    assert heart[0] < spine[0]
    assert spine[1] < liver[1]
    assert bladder[2] < liver[2] < heart[2]
    assert liver[2] < lungs[2]
    couch_y = np.argwhere(phantom.couch[:, :, 0] > 0).mean(axis=0)[1]
    assert couch_y < np.argwhere(phantom.labels > 0)[:, 1].min()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_organ_volumes_are_those_of_people(seed: int) -> None:
    phantom = trunk(seed)
    expected_ml = {
        Tissue.LIVER: (900, 2600),
        Tissue.SPLEEN: (80, 450),
        Tissue.KIDNEYS: (150, 600),
        Tissue.LUNGS: (1800, 6000),
        Tissue.BLADDER: (25, 560),
        Tissue.MYOCARDIUM: (60, 330),
    }
    for tissue, (low, high) in expected_ml.items():
        volume = (phantom.labels == tissue).sum() * VOXEL_MM3 / 1000
        assert low <= volume <= high, (tissue, volume)


def test_lesion_volume_is_the_sphere_of_its_diameter() -> None:
    settings = PhantomSettings(slices=(130, 130), top_mm=(180.0, 180.0), lesions=(6, 6), lesion_diameter_mm=(16, 16))
    phantom = draw(generator(2, "size"), family="standard", settings=settings)
    lesions = [s for s in phantom.structures if s.kind == "lesion"]
    assert len(lesions) >= 4
    for lesion in lesions:
        volume = (phantom.labels == lesion.index).sum() * VOXEL_MM3
        assert volume == pytest.approx(np.pi / 6 * 16.0**3, rel=0.02)
        assert lesion.diameter_mm == pytest.approx(16.0, rel=0.01)
        assert lesion.index >= FIRST_LESION


@pytest.mark.parametrize("seed", [1, 2])
def test_lesions_only_is_what_lesions_add(seed: int) -> None:
    phantom = trunk(seed)
    lesions = phantom.labels >= FIRST_LESION
    assert lesions.any()
    assert not phantom.lesions_only[~lesions].any()
    assert phantom.lesions_only[lesions].sum() > 0
    assert (phantom.activity - phantom.lesions_only).min() >= -1e-6
    for lesion in (s for s in phantom.structures if s.kind == "lesion"):
        # Soft-tissue mass is there in the lesion-free twin too, in lungs as well.
        assert phantom.mu[phantom.labels == lesion.index].min() > 0.085
        assert phantom.activity[phantom.labels == lesion.index].max() >= 1.9


def test_phase_zero_is_the_reference_and_motion_stays_in_its_slices() -> None:
    phantom = trunk(1)
    activity, lesions, mu = phantom.phase(0.0)
    assert activity is phantom.activity
    assert lesions is phantom.lesions_only
    assert mu is phantom.mu
    start, stop = phantom.moving_slices
    assert 20 < stop - start < 260
    for reference, moved in zip((activity, lesions, mu), phantom.phase(1.0), strict=True):
        still = np.ones(260, dtype=bool)
        still[start:stop] = False
        np.testing.assert_array_equal(moved[:, :, still], reference[:, :, still])
        assert np.isfinite(moved).all()
        assert moved.min() >= 0


@pytest.mark.parametrize("seed", [1, 2])
def test_inspiration_lowers_the_liver_and_conserves_activity(seed: int) -> None:
    phantom = trunk(seed)
    low, high = PhantomSettings().dome_mm
    activity, _, mu = phantom.phase(1.0)
    assert activity.sum(dtype=np.float64) == pytest.approx(phantom.activity.sum(dtype=np.float64), rel=0.03)
    assert phantom.motion is not None
    liver = (phantom.labels == Tissue.LIVER).astype(np.float32)
    start = phantom.motion.box[2].start
    profiles = [v.sum(axis=(0, 1)) for v in (liver[phantom.motion.box], phantom.motion.moved(liver, 1.0))]
    heights = [2.5 * np.average(np.arange(len(p)) + start, weights=p) for p in profiles]
    assert 0.4 * low <= heights[0] - heights[1] <= high
    # Where the dome was there is lung now: its mu falls.
    assert mu[phantom.labels == Tissue.LIVER].mean() < phantom.mu[phantom.labels == Tissue.LIVER].mean()


def test_lungs_thin_out_on_inspiration_within_their_range() -> None:
    phantom = trunk(2)
    deep = (phantom.labels == Tissue.LUNGS) & (phantom.phase(1.0)[2] > 0.015) & (phantom.phase(1.0)[2] < 0.045)
    values = phantom.phase(1.0)[2][deep]
    assert values.mean() < phantom.mu[deep].mean()
    assert np.quantile(values, 0.01) >= 0.0215


def test_couch_can_be_left_out() -> None:
    settings = PhantomSettings(slices=(20, 20), couch=0.0)
    phantom = draw(generator(1, "couch"), family="standard", settings=settings)
    assert not phantom.couch.any()
    assert trunk(1).couch.any()
    assert not (trunk(1).couch[trunk(1).labels > 0]).any()


def test_given_uptake_replaces_the_standard_range() -> None:
    settings = PhantomSettings(slices=(130, 130), top_mm=(180.0, 180.0), lesions=(0, 0), uptake={"liver": (5.0, 5.0)})
    phantom = draw(generator(1, "given"), family="standard", settings=settings)
    assert suv_of(phantom, "liver") == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [{"uptake": {"livver": (1, 2)}}, {"bmi": (30, 20)}, {"slices": (1, 4)}, {"lesion_suv": (-1, 4)}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PhantomSettings.model_validate(wrong)
