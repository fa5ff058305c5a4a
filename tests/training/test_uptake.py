"""Examples of other tracers: what a sketch of another tracer is, in closed form."""

import numpy as np
import pytest
import torch

from pet_pipeline.configs.phantom import STANDARD_UPTAKE
from pet_pipeline.configs.unusual import UnusualSettings, UptakeNetSettings
from pet_pipeline.models.uptakenet import UptakeNet
from pet_pipeline.training.sketches import Shown, Sketched, varied
from pet_pipeline.training.tracers import ANY_TRACER, TRACERS, of_tracer
from pet_pipeline.training.uptake import (
    MOST_WEIGHT,
    draw,
    draw_judged,
    judged,
    judging_loss,
    organs_to_find,
    redrawn,
    scaled,
    shares,
    weights_of,
)

SHAPE = (3, 2, 4)


def shown(**organs: float) -> Shown:
    """A body of one cell after another: an organ fills so much of each."""
    volumes = {name: np.full(SHAPE, share, np.float32) for name, share in organs.items()}
    return Shown(np.stack([np.full(SHAPE, np.arcsinh(2.0)), np.ones(SHAPE)]).astype(np.float32), volumes)


def test_a_cell_changes_by_the_ratio_of_what_its_organs_take_up() -> None:
    mean = {name: float(np.mean(STANDARD_UPTAKE[name])) for name in ("liver", "muscle")}
    tracer = {"liver": (8.0, 8.0), "muscle": (0.5, 0.5)}
    made = of_tracer(shown(liver=0.25, muscle=0.75), mean, tracer, np.random.default_rng(0))
    before, after = 0.25 * mean["liver"] + 0.75 * mean["muscle"], 0.25 * 8.0 + 0.75 * 0.5
    np.testing.assert_allclose(made, 2.0 * after / before, rtol=2e-3)


def test_the_unit_of_the_uptake_does_not_matter() -> None:
    suv = {"liver": 2.5, "muscle": 0.6, "spleen": 1.5}
    body = shown(liver=0.2, muscle=0.5, spleen=0.3)
    in_suv, in_bqml = (
        of_tracer(body, {name: unit * value for name, value in suv.items()}, TRACERS["FLT"], np.random.default_rng(3))
        for unit in (1.0, 5000.0)
    )
    np.testing.assert_allclose(in_suv, in_bqml, rtol=1e-4)


def test_an_organ_that_no_tracer_knows_keeps_its_uptake() -> None:
    body = shown(thymus=1.0)
    np.testing.assert_allclose(
        of_tracer(body, {"thymus": 3.0}, TRACERS["FLT"], np.random.default_rng(0)), 2.0, rtol=1e-5
    )


@pytest.mark.parametrize("name", TRACERS)
def test_every_tracer_differs_from_the_usual_somewhere(name: str) -> None:
    ranges = {**ANY_TRACER, **TRACERS[name]}
    assert ranges.keys() <= STANDARD_UPTAKE.keys() | {"contents", "lung_vessels", "cartilage"}
    assert any(
        low > STANDARD_UPTAKE[organ][1] or high < STANDARD_UPTAKE[organ][0]
        for organ, (low, high) in ranges.items()
        if organ in STANDARD_UPTAKE
    )


def test_at_least_one_organ_is_redrawn_by_a_factor_of_two_or_more() -> None:
    for seed in range(50):
        factors = redrawn(2, np.random.default_rng(seed))
        assert (np.abs(np.log(factors)) >= np.log(2.0) - 1e-6).any()
    body = shown(liver=0.5, muscle=0.5)
    np.testing.assert_allclose(scaled(body, np.array([3.0, 1.0], np.float32)), 4.0, rtol=1e-6)


def test_shares_of_a_varied_example_stay_shares() -> None:
    body = shown(liver=0.25, muscle=0.5)
    parts = shares(body, ["liver", "brain"])
    np.testing.assert_allclose(sum(parts), body.body)
    made = varied(body.activity, body.body, np.random.default_rng(0), *parts)
    np.testing.assert_allclose(made[2:].sum(axis=0), made[1], atol=1e-6)


def test_parts_of_an_organ_are_found_together_and_get_its_uptake() -> None:
    body = shown(brain=0.25, white_matter=0.25, muscle=0.5)
    np.testing.assert_allclose(shares(body, ["brain"])[0], 0.5)
    people = [Sketched((shown(white_matter=0.5, muscle=0.5),), None, {})] * 9
    assert organs_to_find(people) == ("brain", "muscle")
    uptake = {"brain": 9.0, "white_matter": 3.0, "muscle": float(np.mean(STANDARD_UPTAKE["muscle"]))}
    made = of_tracer(body, uptake, {"brain": (0.1, 0.1), "muscle": (0.7, 0.7)}, np.random.default_rng(0))
    np.testing.assert_allclose(made, 2.0 * (0.5 * 0.1 + 0.5 * 0.7) / (0.25 * 9.0 + 0.25 * 3.0 + 0.5 * 0.7), rtol=2e-2)


def test_a_rare_organ_weighs_more_but_not_without_bound() -> None:
    people = [Sketched((shown(liver=0.0625, muscle=0.9375, tonsils=1e-9),), None, {})]
    liver, muscle, tonsils, _ = weights_of(people, ["liver", "muscle", "tonsils"]).tolist()
    assert liver == pytest.approx(muscle * 15.0**0.5)
    assert tonsils == MOST_WEIGHT


def test_the_judge_learns_from_what_the_network_finds_in_examples_that_it_was_not_shown() -> None:
    people = [Sketched((shown(liver=0.5, muscle=0.5),), None, {"liver": 2.0, "muscle": 0.7})]
    settings = UnusualSettings(judge_examples=64)
    settings = settings.model_copy(
        update={"uptake_optimiser": settings.uptake_optimiser.model_copy(update={"steps": 7, "batch": 8})}
    )
    network = UptakeNet(UptakeNetSettings(widths=(2, 2, 2), hidden=4, organs=("liver", "muscle"))).eval()
    steps: list[int] = []
    found = judged(network, people, settings, steps.append)
    assert steps == [8] * 8
    assert found["activity"].shape == found["in_view"].shape == found["size"].shape == (128, 2)
    assert 32 < found["unusual"].sum() < 96
    first = draw(people, ("liver", "muscle"), settings, 7, range(8))
    torch.testing.assert_close(network(first["sketch"]).measured.activity, found["activity"][:8])
    assert (found["activity"][8:16] != found["activity"][:8]).any(), "no dropout"
    assert not network.training
    torch.testing.assert_close(judged(network, people, settings, steps.append), found)
    again, other = (draw_judged(found, settings, step, range(5)) for step in (3, 4))
    torch.testing.assert_close(again["activity"], draw_judged(found, settings, 3, range(5))["activity"])
    assert (again["activity"] != other["activity"]).any()
    with torch.no_grad():
        network.judge.out.weight.zero_()
        network.judge.out.bias.fill_(30.0)
    even = {**found, "unusual": torch.ones(128)}
    assert judging_loss(network.judge, even) < 1e-6
    assert judging_loss(network.judge, {**even, "unusual": torch.zeros(128)}) > 20.0


def test_only_organs_that_are_labelled_often_are_looked_for() -> None:
    people = [Sketched((shown(liver=1.0),), None, {}) for _ in range(9)]
    rare = Sketched((shown(liver=0.5, thymus=0.5),), None, {})
    assert organs_to_find([*people, rare]) == ("liver",)
    assert organs_to_find([*people[:5], rare]) == ("liver", "thymus")
