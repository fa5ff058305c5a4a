"""The stages in turn, who sees what, and where the population says nothing."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pet_pipeline.configs.mumap import MuUNetSettings, OurNetSettings
from pet_pipeline.errors import InputRefused
from pet_pipeline.models.devices import Compute
from pet_pipeline.mumap import cascade
from pet_pipeline.mumap.cascade import population_prior, regional_confidence, run, tissue_in, trust_in, window_voxels
from pet_pipeline.units import MU_WATER_CM1

CPU = Compute(torch.device("cpu"), "fp32", "test")
SPACING = (5.0, 5.0, 5.0)
SHAPE = (24, 16, 16)


class Told(nn.Module):
    """A stage that answers one value everywhere and keeps what it was given."""

    def __init__(self, inputs: int, answer: float) -> None:
        super().__init__()
        self.settings = MuUNetSettings(inputs=inputs)
        self.multiple = 8
        self.answer = answer
        self.given: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.given = x[0]
        return torch.full_like(x[:, :1], self.answer)


class Member(NamedTuple):
    participant_id: str = "sub-7"
    similarity: float = 0.5
    weight: float = 1.0
    seconds: float = 0.1
    outcome: str = "used"


class Prior(NamedTuple):
    mumap: np.ndarray
    confidence: np.ndarray
    members: tuple[Member, ...] = (Member(),)
    warnings: tuple[str, ...] = ("said by the bank",)


class Source:
    """A bank that answers twice the estimate, with confidence on the left half."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def prior(self, estimate: np.ndarray, spacing_mm: tuple[float, ...], **kind: Any) -> Prior:
        self.asked.append({"estimate": estimate, "spacing_mm": spacing_mm, **kind})
        confidence = np.zeros(estimate.shape, np.float32)
        confidence[: SHAPE[0] // 2] = 0.8
        return Prior(2.0 * estimate, confidence)


def cascaded(networks: list[nn.Module], source: Source | None, **settings: Any) -> cascade.Cascaded:
    condition = torch.full(SHAPE, 0.7)
    return run(networks, condition, np.ones(SHAPE, bool), SPACING, CPU, source=source, **settings)  # type: ignore[arg-type]


def test_each_stage_sees_pet_the_last_estimate_the_prior_and_its_confidence() -> None:
    first, second, third, source = Told(1, 0.5), Told(4, 1.0), Told(4, 1.5), Source()
    parts: list[str] = []
    made = cascaded([first, second, third], source, k=3, exclude="sub-1", on_part=parts.append)
    assert parts == ["network", "prior", "network", "prior", "network"]
    for stage, estimate in ((second, 0.5), (third, 1.0)):
        assert stage.given is not None
        values = [float(channel[0, 0, 0]) for channel in stage.given]
        assert values == pytest.approx([0.7, estimate, 2.0 * estimate, 0.8])
    assert [asked["k"] for asked in source.asked] == [3, 3]
    assert {asked["exclude"] for asked in source.asked} == {"sub-1"}
    assert [float(e[0, 0, 0]) for e in made.estimates_cm1] == pytest.approx(
        [0.5 * MU_WATER_CM1, MU_WATER_CM1, 1.5 * MU_WATER_CM1]
    )
    np.testing.assert_allclose(source.asked[0]["estimate"], 0.5 * MU_WATER_CM1, rtol=1e-6)


def test_where_the_population_says_nothing_the_first_estimate_stands() -> None:
    made = cascaded([Told(1, 0.9), Told(4, 1.0)], Source(), confidence_floor=0.4)
    assert made.trust is not None
    left, right = made.mumap_cm1[0], made.mumap_cm1[-1]
    np.testing.assert_allclose(left, MU_WATER_CM1, rtol=1e-5)
    np.testing.assert_allclose(right, 0.9 * MU_WATER_CM1, rtol=1e-5)
    along = made.mumap_cm1[:, 8, 8]
    assert (np.diff(along) <= 1e-7).all()  # and no seam between the two


def test_without_a_bank_the_cascade_ends_before_the_stage_that_needs_one() -> None:
    later = Told(4, 1.0)
    made = cascaded([Told(1, 0.5), later], None)
    assert later.given is None
    np.testing.assert_allclose(made.mumap_cm1, 0.5 * MU_WATER_CM1, rtol=1e-6)
    assert made.trust is None
    chained = cascaded([Told(1, 0.5), Told(2, 1.0)], None)
    np.testing.assert_allclose(chained.mumap_cm1, MU_WATER_CM1, rtol=1e-6)


def test_an_estimate_that_the_bank_refuses_is_its_own_prior_without_confidence() -> None:
    class Refusing(Source):
        def prior(self, estimate: np.ndarray, spacing_mm: tuple[float, ...], **kind: Any) -> Prior:
            raise InputRefused("no body in the estimate")

    made = cascaded([Told(1, 0.5), Told(4, 1.0)], Refusing(), confidence_floor=0.2)
    np.testing.assert_allclose(made.mumap_cm1, 0.5 * MU_WATER_CM1, rtol=1e-6)
    assert made.priors[0].warnings == ("no population prior: no body in the estimate",)
    assert not made.priors[0].confidence.any()


def test_a_prior_made_with_the_patients_own_map_is_a_leak() -> None:
    estimate = np.full(SHAPE, 0.09, np.float32)
    with pytest.raises(ValueError, match="sub-7's own mu-map"):
        population_prior(Source(), estimate, SPACING, exclude="sub-7", k=1)
    assert population_prior(Source(), estimate, SPACING, exclude="sub-8", k=1).members[0]["participant_id"] == "sub-7"


def test_trust_falls_from_the_floor_to_half_of_it() -> None:
    body = np.ones((40, 40, 40), bool)
    for confidence, trust in ((0.4, 1.0), (0.5, 1.0), (0.3, 0.5), (0.2, 0.0), (0.1, 0.0)):
        everywhere = np.full(body.shape, confidence, np.float32)
        np.testing.assert_allclose(trust_in(everywhere, body, SPACING, 0.4), trust, atol=1e-5)
    assert trust_in(np.zeros(body.shape, np.float32), body, SPACING, 0.0).max() == 0.0
    assert trust_in(np.full(body.shape, 0.01, np.float32), body, SPACING, 0.0).min() == 1.0


def test_a_region_counts_and_not_a_bone() -> None:
    """A thin sheet without confidence does not lower its region's by more than its share; air is not asked."""
    body = np.zeros((60, 40, 40), bool)
    body[10:50] = True
    confidence = np.where(body, 0.9, 0.0).astype(np.float32)
    confidence[30] = 0.0
    regional = regional_confidence(confidence, body, SPACING)
    assert regional[30, 20, 20] == pytest.approx(0.9 * (1.0 - 5.0 / (20.0 * np.sqrt(2.0 * np.pi))), abs=0.02)
    assert regional[10, 20, 20] == pytest.approx(0.9, abs=0.01)


def test_a_lung_that_is_not_there_falls_back_and_a_usual_one_does_not() -> None:
    """Confidences as the built-in model had them: .07 where a lung was removed, .29 in a lung, .7 elsewhere."""
    x, y, z = np.meshgrid(*(5.0 * (np.arange(n) - n // 2) for n in (80, 56, 56)), indexing="ij")
    body = (x / 180.0) ** 2 + (y / 120.0) ** 2 < 1.0
    lungs = [((x - side * 75.0) / 55.0) ** 2 + (y / 75.0) ** 2 + (z / 110.0) ** 2 < 1.0 for side in (-1, 1)]
    gone, lung = lungs
    first = np.where(body & ~lung, 0.095, np.where(body, 0.05, 0.0)).astype(np.float32)
    confidence = np.where(gone, 0.07, np.where(lung, 0.29, np.where(body, 0.7, 0.0))).astype(np.float32)
    trust = trust_in(confidence, tissue_in(first, body), SPACING, 0.2)
    assert (trust[gone] < 0.5).mean() > 0.5
    assert trust[20 + 5, 28, 28] == pytest.approx(0.0, abs=0.01)
    assert (trust[lung] == 1.0).all()
    usual = np.where(gone, 0.29, confidence).astype(np.float32)
    thin = np.where(gone | lung, 0.05, first).astype(np.float32)
    assert (trust_in(usual, tissue_in(thin, body), SPACING, 0.2)[body] == 1.0).all()


def test_lungs_that_no_member_reaches_are_the_first_stages() -> None:
    body = np.ones((20, 20, 40), bool)
    confidence = np.full(body.shape, 0.3, np.float32)
    confidence[:, :, 20:] = 0.0
    trust = trust_in(confidence, tissue_in(np.full(body.shape, 0.03, np.float32), body), SPACING, 0.2)
    assert (trust[:, :, :20] == 1.0).all()
    assert not trust[:, :, 20:].any()


def test_windows_shrink_with_the_resolution_inside_the_network() -> None:
    class Shape(nn.Module):
        def __init__(self, settings: MuUNetSettings) -> None:
            super().__init__()
            self.settings = settings

    sizes = [
        window_voxels(Shape(settings))
        for settings in (MuUNetSettings(), OurNetSettings(), OurNetSettings(over_widths=(8, 4)))
    ]
    assert sizes[0] > sizes[1] == 8 * sizes[2]
