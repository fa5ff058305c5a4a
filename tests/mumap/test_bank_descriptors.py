"""The search: a body finds itself, a part finds its place, and the table gives what brute force gives."""

import numpy as np
import pytest
from mumap_bodies import body

from pet_pipeline.mumap.alignment import SPACING_MM, align
from pet_pipeline.mumap.descriptors import FEATURES, SLAB_VOXELS, Index, Match, Scale, alike, choose, describe

LONG = (60, 44, 64)


def described(mu: np.ndarray) -> np.ndarray:
    aligned, frame = align(mu, SPACING_MM)
    return describe(aligned, frame.mask)


@pytest.fixture(scope="module")
def population() -> list[np.ndarray]:
    return [
        described(body(shape=LONG, width_mm=width, depth_mm=depth, lungs=lungs))
        for width, depth, lungs in [(115, 80, 2), (95, 75, 2), (130, 90, 2), (115, 80, 1), (120, 70, 2)]
    ]


def test_profiles_are_areas_and_widths_of_a_known_cylinder() -> None:
    x, y = np.meshgrid(np.arange(60) - 29.5, np.arange(44) - 21.5, indexing="ij")
    disc = (x**2 + y**2 < 16**2).astype(np.float32) * 0.1
    rows = described(np.repeat(disc[:, :, None], 10, axis=2))
    assert rows.shape == (3, FEATURES)  # 10 slices: two slabs of 4, one of 2
    assert np.allclose(rows[:, 0], np.pi * 0.8**2, rtol=0.02)  # radius 80 mm = 0.8 dm
    assert np.allclose(rows[:, 1:3], 0.0)  # neither lung nor bone
    assert np.allclose(rows[:, 3:5], 1.6)
    assert np.allclose(rows, rows[0])


def test_two_independent_rows_are_two_apart() -> None:
    rng = np.random.default_rng(0)
    raw = [rng.normal(3.0, 7.0, (50, FEATURES)).astype(np.float32) for _ in range(20)]
    rows = np.concatenate([Scale.of(raw).normalised(r) for r in raw])
    distance = ((rows[:500] - rows[500:]) ** 2).sum(axis=1)
    assert distance.mean() == pytest.approx(2.0, rel=0.05)


def test_a_body_finds_itself(population: list[np.ndarray]) -> None:
    scale = Scale.of(population)
    index = Index.of([scale.normalised(d) for d in population])
    for number, descriptor in enumerate(population):
        offsets, scores = index.best_offsets(scale.normalised(descriptor))
        assert int(scores.argmax()) == number
        assert offsets[number] == 0
        assert scores[number] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("first", "last"), [(0, 7), (4, 12), (9, 16)])
def test_a_part_finds_its_place_in_the_whole_and_the_whole_around_the_part(
    population: list[np.ndarray], first: int, last: int
) -> None:
    scale = Scale.of(population)
    whole = [scale.normalised(d) for d in population]
    part = whole[0][first:last]
    offsets, scores = Index.of(whole).best_offsets(part)
    assert (int(scores.argmax()), int(offsets[0])) == (0, -first)
    back, share = Index.of([part]).best_offsets(whole[0])
    assert int(back[0]) == first
    assert share[0] == pytest.approx((last - first) / len(whole[0]), abs=1e-3)  # what it lacks counts as unlike


def test_a_field_of_view_cut_between_slabs_still_finds_its_place() -> None:
    mu = body(shape=LONG)
    scale = Scale.of([described(mu)])
    index = Index.of([scale.normalised(described(mu))])
    for cut in (6, 13):
        offsets, _ = index.best_offsets(scale.normalised(described(mu[:, :, cut : cut + 40])))
        assert abs(-int(offsets[0]) - cut / SLAB_VOXELS) <= 0.76


def test_the_table_gives_what_brute_force_gives() -> None:
    rng = np.random.default_rng(1)
    members = [rng.normal(0.0, 0.1, (int(n), FEATURES)).astype(np.float32) for n in rng.integers(1, 12, 300)]
    patient = rng.normal(0.0, 0.1, (7, FEATURES)).astype(np.float32)
    offsets, scores = Index.of(members).best_offsets(patient)
    for number in (0, 1, 17, 255, 256, 299):  # on both sides of a chunk's edge
        similarity = alike(members[number], patient)
        by_offset = {}
        for offset in range(-len(members[number]) + 1, len(patient)):
            pairs = [(j, j + offset) for j in range(len(members[number])) if 0 <= j + offset < len(patient)]
            by_offset[offset] = sum(float(similarity[j, s]) for j, s in pairs) / len(patient)
        best = max(by_offset, key=by_offset.__getitem__)
        assert int(offsets[number]) == best
        assert scores[number] == pytest.approx(by_offset[best], rel=1e-4)
        match = Index.of(members).match(patient, number, best)
        assert match.mean_similarity == pytest.approx(by_offset[best], rel=1e-4)


def test_who_is_not_allowed_is_not_found(population: list[np.ndarray]) -> None:
    scale = Scale.of(population)
    index = Index.of([scale.normalised(d) for d in population])
    allowed = np.array([False, True, True, False, True])
    _, scores = index.best_offsets(scale.normalised(population[0]), allowed)
    assert (scores[~allowed] == -1.0).all()
    assert (scores[allowed] >= 0.0).all()


def match(index: int, *similarity: float) -> Match:
    return Match(index, 0, np.array(similarity, dtype=np.float32))


def test_of_members_that_reach_everywhere_the_most_similar_are_chosen() -> None:
    candidates = [match(0, 0.5, 0.5), match(1, 0.9, 0.9), match(2, 0.7, 0.7)]
    assert [m.index for m in choose(candidates, 2)] == [1, 2]


def test_where_the_best_do_not_reach_another_gets_its_turn() -> None:
    head = [match(i, 0.9, 0.9, 0.9, 0.0) for i in range(3)]
    legs = match(9, 0.0, 0.0, 0.0, 0.8)
    assert 9 in [m.index for m in choose([*head, legs], 3)]
    assert [m.index for m in choose([*head, legs], 1)] == [0]


def test_members_that_resemble_nowhere_are_not_chosen() -> None:
    assert choose([match(0, 0.0, 0.0)], 3) == []
    assert choose([], 3) == []
