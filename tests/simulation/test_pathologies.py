"""Pathologies: each changes attenuation and activity where it lies, and nothing else of the same patient."""

from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from pet_pipeline.configs.loading import load, preset_names
from pet_pipeline.configs.phantom import PathologyKind, PathologySettings, PhantomSettings
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.errors import UsageError
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.bodies import AnatomyFiles, draw_body
from pet_pipeline.simulation.pathologies import METALS_CM1, Pathology, draw_pathology
from pet_pipeline.simulation.patient import settings_digest
from pet_pipeline.simulation.phantoms import Phantom, draw
from pet_pipeline.simulation.tissues import Tissue
from pet_pipeline.units import MU_WATER_CM1

KINDS: tuple[PathologyKind, ...] = ("lung_removed", "effusion", "scoliosis", "hip_implant")


def settings(kind: PathologyKind | None) -> PhantomSettings:
    """The chest, or for a hip the pelvis, without lesions, which would move with the organs that bear them."""
    top = 770.0 if kind == "hip_implant" else 280.0
    return PhantomSettings(
        slices=(50, 50),
        top_mm=(top, top),
        height_cm=(172, 174),
        lesions=(0, 0),
        pathology=None if kind is None else PathologySettings(kinds=(kind,)),
    )


@cache
def with_and_without(kind: PathologyKind) -> tuple[Phantom, Phantom]:
    odd = settings(kind)
    ordinary = odd.model_copy(update={"pathology": None})
    first, second = (draw(generator(4, "odd"), family="standard", settings=s) for s in (odd, ordinary))
    return first, second


def x_mm(phantom: Phantom) -> np.ndarray:
    """To the patient's right, of every voxel of the grid's first axis."""
    count = phantom.labels.shape[0]
    return np.asarray((np.arange(count) - (count - 1) / 2) * phantom.spacing_mm)


@pytest.mark.parametrize(("kind", "tissue"), [(k, Tissue.FLUID) for k in KINDS[:2]] + [(KINDS[3], Tissue.METAL)])
def test_what_a_pathology_does_not_touch_is_the_same_patient(kind: PathologyKind, tissue: Tissue) -> None:
    odd, ordinary = with_and_without(kind)
    changed = odd.labels != ordinary.labels
    assert changed.sum() > 500
    for name in ("activity", "mu", "labels"):
        np.testing.assert_array_equal(getattr(odd, name)[~changed], getattr(ordinary, name)[~changed])
    assert (odd.labels[changed] == tissue).mean() > 0.5
    assert not (ordinary.labels == tissue).any()
    assert {**odd.facts, **ordinary.facts} == odd.facts
    assert odd.facts["pathology"] == kind
    side = 1.0 if odd.facts["pathology_side"] == "right" else -1.0
    assert (side * x_mm(odd)[np.flatnonzero(changed.any(axis=(1, 2)))] > -25.0).all()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_fluid_is_water_with_little_uptake_where_lung_was(kind: PathologyKind) -> None:
    odd, ordinary = with_and_without(kind)
    fluid = odd.labels == Tissue.FLUID
    lungs = {Tissue.LUNGS, Tissue.LUNG_VESSELS, *([Tissue.AIRWAY] if kind == "lung_removed" else [])}
    assert set(np.unique(ordinary.labels[fluid])) <= lungs
    np.testing.assert_allclose(odd.mu[fluid], MU_WATER_CM1, rtol=1e-6)
    low, high = PathologySettings(kinds=(kind,)).fluid
    assert 0.6 * low < odd.activity[fluid].mean() < 1.4 * high
    assert ordinary.mu[fluid].mean() < 0.05


def test_a_removed_lung_leaves_the_other_one_alone() -> None:
    odd, ordinary = with_and_without("lung_removed")
    side = 1.0 if odd.facts["pathology_side"] == "right" else -1.0
    lungs = [np.isin(p.labels, (Tissue.LUNGS, Tissue.LUNG_VESSELS)).sum(axis=(1, 2)) for p in (odd, ordinary)]
    far = side * x_mm(odd) > 30.0
    assert lungs[1][far].sum() > 1000
    assert not lungs[0][far].any()
    assert 0.35 < lungs[0].sum() / lungs[1].sum() < 0.65


def test_an_effusion_has_a_level_surface_in_the_dependent_part_of_one_side() -> None:
    odd, _ = with_and_without("effusion")
    fluid = odd.labels == Tissue.FLUID
    side = 1.0 if odd.facts["pathology_side"] == "right" else -1.0
    far = side * x_mm(odd) > 30.0
    surface = np.flatnonzero(fluid.any(axis=(0, 2))).max()
    lung = np.flatnonzero((odd.labels[far] == Tissue.LUNGS).any(axis=(0, 2)))
    assert lung.min() == surface + 1  # y grows to the front: air floats
    assert (odd.labels[~far] == Tissue.LUNGS)[:, : surface + 1].any()


def test_in_scoliosis_the_spine_leaves_the_midline_sideways() -> None:
    odd, ordinary = with_and_without("scoliosis")
    amplitude = float(odd.facts["scoliosis_mm"]) * (1.0 if odd.facts["pathology_side"] == "right" else -1.0)
    paths = []
    for phantom in (odd, ordinary):
        cord = phantom.labels == Tissue.SPINAL_CORD
        area = cord.sum(axis=(0, 1))
        assert (area > 0).all()
        paths.append((cord.sum(axis=1) * x_mm(phantom)[:, None]).sum(axis=0) / area)
    apart = (paths[0] - paths[1]) / amplitude
    # A sin(2 pi t) sin(pi t) has extremes of 0.77 A a third of the way from each end; the chest shows the upper one.
    assert apart.min() == pytest.approx(-0.77, abs=0.1)
    assert np.ptp(apart) > 0.6
    assert odd.mu.max() < 0.2


def test_a_hip_of_metal_absorbs_and_takes_up_nothing() -> None:
    odd, _ = with_and_without("hip_implant")
    metal = odd.labels == Tissue.METAL
    assert 40.0 < metal.sum() * 2.5**3 / 1000.0 < 120.0  # mL
    np.testing.assert_allclose(odd.mu[metal], METALS_CM1[str(odd.facts["metal"])], rtol=1e-6)
    assert not odd.activity[metal].any()
    table = {s.name: s for s in odd.structures}
    assert table["metal"].suv == 0.0


@pytest.mark.parametrize(("metal", "density", "z_over_a"), [("titanium", 4.43, 0.4604), ("cobalt_chrome", 8.3, 0.4579)])
def test_attenuation_of_metal_is_compton_scattering_and_a_little_more(
    metal: str, density: float, z_over_a: float
) -> None:
    """Klein and Nishina's cross section of an electron at 511 keV (photon energy = m c^2): 2.867e-25 cm^2."""
    a = 1.0
    log = np.log(1 + 2 * a)
    bracket = (1 + a) / a**2 * (2 * (1 + a) / (1 + 2 * a) - log / a) + log / (2 * a) - (1 + 3 * a) / (1 + 2 * a) ** 2
    compton = 2 * np.pi * 2.8179403e-13**2 * bracket * 6.02214076e23 * z_over_a * density
    assert 1.01 < METALS_CM1[metal] / compton < 1.06  # coherent and photoelectric: 2.7 and 4.4 %


def test_kinds_come_in_turn_and_nothing_else_depends_on_the_kind() -> None:
    given = PathologySettings(kinds=KINDS)
    drawn = [drawn_of(given, seed=1, turn=turn) for turn in range(8)]
    assert [one.kind for one in drawn] == [*KINDS, *KINDS]
    assert len({(one.side, one.fluid_suv, one.effusion_mm, one.scoliosis_mm, one.metal) for one in drawn}) == 1
    assert {drawn_of(given, seed).metal for seed in range(20)} == set(METALS_CM1)


def drawn_of(given: PathologySettings, seed: int, turn: int = 0) -> Pathology:
    """The pathology of a body that has one."""
    drawn = draw_pathology(generator(seed, "p"), given, turn)
    assert drawn is not None
    return drawn


def test_a_share_of_the_bodies_has_a_pathology_the_one_that_all_would_have() -> None:
    everyone, some = (PathologySettings(kinds=KINDS, share=share) for share in (1.0, 0.3))
    drawn = [draw_pathology(generator(seed, "p"), some, seed) for seed in range(400)]
    assert len([one for one in drawn if one is not None]) / 400 == pytest.approx(0.3, abs=0.07)
    for seed, one in enumerate(drawn):
        assert one is None or one == draw_pathology(generator(seed, "p"), everyone, seed)
    nobody = settings("effusion").model_copy(update={"pathology": PathologySettings(kinds=("effusion",), share=0.0)})
    _, ordinary = with_and_without("effusion")
    spared = draw(generator(4, "odd"), family="standard", settings=nobody)
    np.testing.assert_array_equal(spared.mu, ordinary.mu)
    assert spared.facts == ordinary.facts


def test_the_same_generator_gives_the_same_odd_patient() -> None:
    odd, _ = with_and_without("effusion")
    again = draw(generator(4, "odd"), family="standard", settings=settings("effusion"))
    np.testing.assert_array_equal(odd.activity, again.activity)
    np.testing.assert_array_equal(odd.mu, again.mu)
    assert odd.facts == again.facts


def test_absent_pathologies_leave_digest_and_description_as_they_were() -> None:
    """Patients simulated before there were pathologies are still those of these settings.

    The digests are those of SIMULATOR_VERSION 2. A change here makes every cohort on disk a stranger: raise
    SIMULATOR_VERSION if that is meant.
    """
    known = {
        "cohort-test": "bc396c641dc4f44abbc010d2b445dd5bc0bcb2f5a11b287b1710e01855c9402f",
        "cohort-train": "6f374c2b11ccc04b0a5703d1fccd33c530794b2dad99248c461d863677e23b1c",
        "cohort-heldout-family": "bd0e1dda29747096fd8a7b0aedfd1184ffccb6124ce99f38fa582934b63004c8",
        "cohort-heldout-scanner": "ebf07d7c2dba56de2c2c53e71d6ed690db95507343468b5bf414d3ef6ba953de",
    }
    assert {name: settings_digest(load(CohortSettings, name)) for name in known} == known
    for name in (n for n in preset_names() if n.startswith("cohort-") and n not in ("cohort-odd", "cohort-mumap")):
        assert "pathology" not in load(CohortSettings, name).model_dump(mode="json")["phantom"]
    odd = load(CohortSettings, "cohort-odd")
    assert settings_digest(odd) != settings_digest(load(CohortSettings, "cohort-odd", ["phantom.pathology=null"]))
    assert CohortSettings.model_validate(odd.model_dump(mode="json")) == odd


def test_the_odd_cohort_has_as_many_patients_of_each_pathology() -> None:
    cohort = load(CohortSettings, "cohort-odd")
    assert cohort.phantom.pathology is not None
    kinds = cohort.phantom.pathology.kinds
    numbers = range(cohort.first_patient, cohort.first_patient + cohort.patients)
    assert sorted((number - 1) % len(kinds) for number in numbers) == sorted(list(range(len(kinds))) * 3)
    assert set(kinds) == set(KINDS)


def test_a_ct_gets_no_pathology() -> None:
    cohort = load(CohortSettings, "cohort-odd")
    files = AnatomyFiles(ct=None, labels=None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not into a CT"):
        draw_body(generator(0, "ct"), cohort, files)


@pytest.mark.parametrize("wrong", [{"kinds": []}, {"kinds": ["gout"]}, {"kinds": ["effusion"], "fluid": (2, 1)}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PathologySettings.model_validate(wrong)
