"""The prior of a patient: never from itself, no worse for a hostile member, honest where it knows nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mumap_bodies import body, estimate_of, member

from pet_pipeline.errors import InputRefused, ModelError
from pet_pipeline.mumap import bank, registration
from pet_pipeline.mumap.alignment import SPACING_MM, AlignedMap
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.mumap.population import USED, Bank, PopulationPrior
from pet_pipeline.mumap.registration import RegistrationFailed

SHAPE = (64, 46, 36)
QUICK = PriorOptions(coarse_iterations=15, fine_iterations=6)
WIDTHS = {"sub-1": 115.0, "sub-2": 108.0, "sub-3": 122.0, "sub-4": 100.0}


def patient_map(participant: str = "sub-1") -> np.ndarray:
    return body(shape=SHAPE, width_mm=WIDTHS[participant])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    path = tmp_path_factory.mktemp("population") / "bank.npz"
    bank.save(path, [member(patient_map(p), p) for p in WIDTHS])
    return Bank.load(path)


@pytest.fixture(scope="module")
def prior(opened: Bank) -> PopulationPrior:
    """Of sub-1, from the others."""
    return opened.prior(estimate_of(patient_map()), SPACING_MM, exclude="sub-1", k=2, workers=1, options=QUICK)


def asked(found: PopulationPrior) -> list[str]:
    return [m.participant_id for m in found.members]


def test_a_patient_never_retrieves_itself(opened: Bank, prior: PopulationPrior) -> None:
    """The patient's own map lies in the bank: it is the best match there is, and with `exclude` it is never asked."""
    estimate = estimate_of(patient_map())
    planted = opened.prior(estimate, SPACING_MM, k=1, workers=1, options=QUICK)
    assert asked(planted) == ["sub-1"]
    for k in (1, 4):
        for exclude in ("sub-1", ["sub-1"], ("sub-4", "sub-1")):
            kept = opened.without(participants=[exclude] if isinstance(exclude, str) else exclude)
            assert "sub-1" not in [m.participant_id for m in kept.members]
            assert "sub-1" not in _searched(opened, estimate, exclude, k)
    assert "sub-1" not in asked(prior)
    own, others = (np.abs(p.mumap - patient_map())[p.body].mean() for p in (planted, prior))
    assert own < others  # it would have helped: that is why it must not


def _searched(opened: Bank, estimate: np.ndarray, exclude: object, k: int) -> list[str]:
    stiff = PriorOptions(deformable=False, affine_iterations=1)
    return asked(opened.prior(estimate, SPACING_MM, exclude=exclude, k=k, workers=1, options=stiff))  # type: ignore[arg-type]


def test_every_scan_of_the_excluded_patient_is_left_out(tmp_path: Path) -> None:
    scans = [member(body(shape=SHAPE, width_mm=w), "sub-1") for w in (115.0, 116.0)]
    bank.save(tmp_path / "bank.npz", [*scans, member(patient_map("sub-4"), "sub-4")])
    found = _searched(Bank.load(tmp_path / "bank.npz"), estimate_of(patient_map()), "sub-1", 4)
    assert found == ["sub-4"]


def test_the_prior_knows_bone_that_the_estimate_does_not_show(prior: PopulationPrior) -> None:
    truth, estimate = patient_map(), estimate_of(patient_map())
    bone = truth > 0.125
    assert prior.mumap[bone].mean() > estimate[bone].mean() + 0.005
    assert np.abs(prior.mumap - truth)[prior.body].mean() < np.abs(estimate - truth)[prior.body].mean()
    assert prior.mumap.dtype == prior.confidence.dtype == np.float32
    assert prior.mumap.shape == truth.shape
    assert prior.warnings == ()
    assert sum(m.weight for m in prior.members) == pytest.approx(1.0, abs=0.05)
    assert prior.mean_confidence > 0.8


def test_the_order_and_number_of_processes_change_nothing(opened: Bank, prior: PopulationPrior) -> None:
    other = opened.prior(estimate_of(patient_map()), SPACING_MM, exclude="sub-1", k=2, workers=2, options=QUICK)
    assert np.array_equal(other.mumap, prior.mumap)
    assert np.array_equal(other.confidence, prior.confidence)


def test_on_another_grid_the_prior_is_the_same_body(opened: Bank, prior: PopulationPrior) -> None:
    fine = np.repeat(estimate_of(patient_map()), 2, axis=2)  # 5 x 5 x 2.5 mm
    found = opened.prior(fine, (5.0, 5.0, 2.5), exclude="sub-1", k=2, workers=1, options=QUICK)
    assert found.mumap.shape == fine.shape
    assert ((found.confidence >= 0.0) & (found.confidence <= 1.0)).all()
    coarse = found.mumap.reshape(*prior.mumap.shape, 2).mean(axis=3)
    assert np.abs(coarse - prior.mumap)[prior.body].mean() < 0.002


def spoil(monkeypatch: pytest.MonkeyPatch, hostile: Callable[[int], None]) -> None:
    """Before each registration `hostile` gets the member's width in voxels."""
    honest = registration.register

    def register(patient: AlignedMap, inside: np.ndarray, other: AlignedMap, *rest: object) -> object:
        hostile(other.mu_cm1.shape[0])
        return honest(patient, inside, other, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(registration, "register", register)


def test_a_hostile_member_is_left_out_with_a_line_and_the_rest_goes_on(
    opened: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = {m.participant_id: m.shape[0] for m in opened.members}

    def refuse(width: int) -> None:
        if width == widths["sub-2"]:
            raise RegistrationFailed("bodies overlap by 0.31 (Dice) only")

    estimate = estimate_of(patient_map())
    alone = opened.prior(estimate, SPACING_MM, exclude=["sub-1", "sub-2"], k=1, workers=1, options=QUICK)
    spoil(monkeypatch, refuse)
    found = opened.prior(estimate, SPACING_MM, exclude=["sub-1", "sub-4"], k=2, workers=1, options=QUICK)
    assert {m.participant_id: m.outcome for m in found.members} == {
        "sub-2": "bodies overlap by 0.31 (Dice) only",
        "sub-3": USED,
    }
    assert found.warnings == ("population prior: sub-2 left out: bodies overlap by 0.31 (Dice) only",)
    assert asked(alone) == ["sub-3"]
    assert np.array_equal(found.mumap, alone.mumap)
    assert [m.weight > 0 for m in found.members] == [m.outcome == USED for m in found.members]


def test_when_nobody_can_be_used_the_estimate_stands_alone(opened: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_: int) -> None:
        raise ZeroDivisionError("boom")

    spoil(monkeypatch, explode)
    estimate = estimate_of(patient_map())
    found = opened.prior(estimate, SPACING_MM, k=2, workers=1)
    assert np.array_equal(found.mumap, estimate)
    assert (found.confidence == 0.0).all()
    assert found.warnings[-1] == "population prior: no member could be used; the estimate stands alone"
    assert found.warnings[0].endswith("left out: ZeroDivisionError: boom")


def test_a_bank_of_the_patient_alone_has_nothing_to_say(opened: Bank) -> None:
    estimate = estimate_of(patient_map())
    found = opened.without(participants=["sub-2", "sub-3", "sub-4"]).prior(estimate, SPACING_MM, exclude="sub-1")
    assert np.array_equal(found.mumap, estimate)
    assert (found.confidence == 0.0).all()
    assert "0 members found in the bank, 4 wanted" in found.warnings[0]


def test_where_no_member_reaches_the_prior_is_the_estimate(tmp_path: Path) -> None:
    whole = body(shape=(64, 46, 56))
    bank.save(tmp_path / "bank.npz", [member(whole[:, :, 20:44], "chest"), member(whole[:, :, 22:46], "other")])
    estimate = estimate_of(whole)
    found = Bank.load(tmp_path / "bank.npz").prior(estimate, SPACING_MM, k=2, workers=1, options=QUICK)
    assert np.array_equal(found.mumap[:, :, :16], estimate[:, :, :16])
    assert np.array_equal(found.mumap[:, :, 50:], estimate[:, :, 50:])
    assert (found.confidence[:, :, :16] == 0.0).all()
    assert found.confidence[:, :, 30:38][found.body[:, :, 30:38]].mean() > 0.8


def test_confidence_falls_where_the_patient_is_unlike_every_member(opened: Bank, prior: PopulationPrior) -> None:
    """A cavity in the belly: no member has one, and no deformation makes one of tissue."""
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 5.0 for n in SHAPE), indexing="ij")
    distance = np.sqrt((x + 50.0) ** 2 + y**2 + (z + 45.0) ** 2)
    hollow = np.where(distance < 30.0, 0.001, patient_map()).astype(np.float32)
    found = opened.prior(estimate_of(hollow), SPACING_MM, exclude="sub-1", k=2, workers=1, options=QUICK)
    core, far = distance < 20.0, (distance > 90.0) & prior.body
    assert prior.confidence[core].mean() > 0.8
    assert found.confidence[core].mean() < 0.15
    assert found.confidence[far].mean() > 0.95 * prior.confidence[far].mean()


def test_a_patient_unlike_all_is_called_so(opened: Bank) -> None:
    strange = np.where(patient_map() > 0.01, 0.06, 0.0).astype(np.float32)  # neither lungs nor tissue as anybody's
    found = opened.prior(strange, SPACING_MM, k=2, workers=1, options=PriorOptions(deformable=False))
    assert found.mean_confidence < 0.3
    assert "unlike every member" in found.warnings[-1]


def test_a_poor_estimate_is_refused_and_a_damaged_bank_is_told(opened: Bank, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="per mm"):
        opened.prior(patient_map() / 10.0, SPACING_MM)
    with pytest.raises(ValueError, match="k = 0"):
        opened.prior(patient_map(), SPACING_MM, k=0)
    gone = Bank(tmp_path / "gone.npz", opened.contents, opened.allowed)
    with pytest.raises(ModelError, match=r"gone\.npz"):
        gone.prior(patient_map(), SPACING_MM, workers=1)
