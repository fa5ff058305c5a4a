from functools import cache

import numpy as np
import pytest

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.errors import InputRefused
from pet_pipeline.physics.attenuation import mu_from_hu
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.anatomy import from_ct, tissue_of
from pet_pipeline.simulation.phantoms import Phantom
from pet_pipeline.simulation.tissues import Tissue

SPACING = (3.0, 3.0, 5.0)
TABLE = {1: "liver", 2: "spleen", 3: "lung_lower_lobe_left", 4: "vertebrae_L1", 5: "colon", 6: "spoon_of_jupiter"}


def torso() -> tuple[np.ndarray, np.ndarray]:
    """A cylinder of soft tissue with fat, organs, a bony spine and a couch below it: CT in HU, and labels."""
    x, y, _ = np.meshgrid(
        (np.arange(140) - 69.5) * 3.0, (np.arange(90) - 44.5) * 3.0, np.arange(24) * 5.0, indexing="ij"
    )
    ct = np.full(x.shape, -1000.0, dtype=np.float32)
    labels = np.zeros(x.shape, dtype=np.int16)
    body = (x / 160) ** 2 + (y / 100) ** 2 < 1
    ct[body] = -100.0
    ct[(x / 145) ** 2 + (y / 85) ** 2 < 1] = 45.0

    def organ(index: int, centre: tuple[float, float], radius: float, hu: float) -> None:
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        ct[inside] = hu
        labels[inside] = index

    organ(1, (75, 10), 48, 60.0)
    organ(2, (-95, -15), 25, 55.0)
    organ(3, (-40, 40), 30, -800.0)
    organ(4, (0, -50), 22, 200.0)
    ct[(np.hypot(x, y + 50) > 18) & (labels == 4)] = 700.0
    organ(5, (20, 55), 14, 30.0)
    ct[np.hypot(x - 20, y - 55) < 7] = -950.0
    organ(6, (-30, -10), 12, 40.0)
    ct[(np.abs(x) < 180) & (y < -118) & (y > -124)] = -300.0 + 150.0
    return ct, labels


@cache
def phantom() -> Phantom:
    ct, labels = torso()
    return from_ct(ct, labels, TABLE, SPACING, generator(1, "ct"), PhantomSettings(lesions=(3, 3)))


def test_names_of_the_labelling_tool_find_their_tissue() -> None:
    expected = {
        "liver": "liver",
        "kidney_left": "kidneys",
        "lung_upper_lobe_right": "lungs",
        "vertebrae_L1": "marrow",
        "rib_left_4": "marrow",
        "heart_atrium_left": "blood_pool",
        "heart_myocardium": "myocardium",
        "heart_ventricle_left": "blood_pool",
        "pulmonary_artery": "blood_pool",
        "urinary_bladder": "bladder",
        "gluteus_maximus_left": "muscle",
        "autochthon_right": "muscle",
        "small_bowel": "bowel",
        "trachea": "airway",
        "spoon_of_jupiter": "soft_tissue",
    }
    assert {name: tissue_of(name).label_name for name in expected} == expected


def test_attenuation_is_the_bilinear_scale_of_the_ct() -> None:
    body = phantom()
    for tissue, hu in ((Tissue.LIVER, 60.0), (Tissue.SPLEEN, 55.0), (Tissue.LUNGS, -800.0)):
        values = body.mu[body.labels == tissue]
        assert np.median(values) == pytest.approx(float(mu_from_hu(np.float32(hu))), rel=1e-3)


def test_uptake_follows_the_organ_names() -> None:
    body = phantom()
    suv = {s.name: s.suv for s in body.structures}
    settings = PhantomSettings()
    for name in ("liver", "spleen", "lungs", "marrow", "bowel", "soft_tissue"):
        low, high = settings.uptake_range(name)
        assert 0.8 * low <= suv[name] <= 1.25 * high, name
    assert suv["gas"] == 0.0
    assert suv["bone"] < suv["marrow"]


def test_sides_size_and_grid_are_kept() -> None:
    body = phantom()
    assert body.activity.shape == (208, 144, 48)
    liver = np.argwhere(body.labels == Tissue.LIVER)
    spleen = np.argwhere(body.labels == Tissue.SPLEEN)
    assert liver[:, 0].mean() > spleen[:, 0].mean()
    lesions = (body.labels >= 100).sum() * 2.5**3
    assert len(liver) * 2.5**3 == pytest.approx(np.pi * 48**2 * 120, abs=lesions + 0.03 * np.pi * 48**2 * 120)


def test_couch_is_outside_the_body_and_the_body_does_not_breathe() -> None:
    body = phantom()
    assert body.couch.max() > 0.05
    assert not body.couch[body.labels > 0].any()
    # A couch's mu stays where the CT saw it: below the back.
    back = np.argwhere(body.labels > 0)[:, 1].min()
    assert np.argwhere(body.couch > 0.05)[:, 1].max() <= back
    assert body.moving_slices == (0, 0)
    assert body.phase(0.7)[0] is body.activity


def test_lesions_are_added_and_have_a_twin() -> None:
    body = phantom()
    lesions = [s for s in body.structures if s.kind == "lesion"]
    assert lesions
    assert not body.lesions_only[body.labels < 100].any()
    assert (body.activity - body.lesions_only).min() >= -1e-6


def test_same_generator_same_uptake() -> None:
    ct, labels = torso()
    again = from_ct(ct, labels, TABLE, SPACING, generator(1, "ct"), PhantomSettings(lesions=(3, 3)))
    np.testing.assert_array_equal(again.activity, phantom().activity)


def test_slices_beyond_the_settings_are_cut_at_the_feet() -> None:
    ct, labels = torso()
    ct[:, :, :12] = -1000.0
    labels[:, :, :12] = 0
    short = from_ct(ct, labels, TABLE, SPACING, generator(1, "ct"), PhantomSettings(slices=(2, 8)))
    assert short.activity.shape[2] == 16
    assert (short.labels > 0).any(axis=(0, 1)).all()


def test_what_cannot_be_a_ct_is_refused() -> None:
    ct, labels = torso()
    with pytest.raises(InputRefused, match="one 3D grid"):
        from_ct(ct, labels[1:], TABLE, SPACING, generator(1), PhantomSettings())
    with pytest.raises(InputRefused, match="no body"):
        from_ct(np.full_like(ct, -1000.0), labels, TABLE, SPACING, generator(1), PhantomSettings())
    with pytest.raises(InputRefused, match="spacing must be positive"):
        from_ct(ct, labels, TABLE, (3.0, 0.0, 5.0), generator(1), PhantomSettings())
