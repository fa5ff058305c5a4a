"""A recalibration finds what made the errors, on voxels drawn from known distributions."""

import numpy as np
import pytest

from pet_pipeline.configs.uncertainty import SIGNS, Curve
from pet_pipeline.evaluation.recalibration import OFFSET, Voxels, deviation, fit, normal_half_width
from pet_pipeline.types import FloatArray


def expected(signs: dict[str, FloatArray]) -> FloatArray:
    """The deviation that is to be found: it follows activity and spread, and nothing else."""
    result: FloatArray = 0.1 * (signs["activity"] + OFFSET) ** 0.5 * (signs["spread"] + OFFSET) ** 0.3
    return result


def participant(seed: int, *, count: int = 20_000, factor: float = 1.0, shared: float = 0.0) -> Voxels:
    """Normal errors of `factor` times the `expected` deviation, of which regions have a part in common."""
    rng = np.random.default_rng(seed)
    signs = {name: rng.gamma(2.0, 0.5, count) for name in SIGNS}
    region = rng.integers(0, 20, count)
    errors = rng.normal(size=count) * np.sqrt(1.0 - shared**2) + shared * rng.normal(size=20)[region]
    return Voxels(signs, factor * expected(signs) * errors, region)


def test_what_tells_the_error_is_found_and_what_does_not_is_flat() -> None:
    found = fit([participant(seed) for seed in range(4)])
    unseen = participant(9)
    known = deviation(unseen.signs, found.level, found.curves)
    ratio = known / expected(dict(unseen.signs))
    assert np.percentile(ratio, [5, 50, 95]) == pytest.approx([1.0, 1.0, 1.0], abs=0.1)
    for name in ("edge", "condition"):
        middle = np.percentile(unseen.signs[name], [10, 90])
        flat = np.interp(middle, found.curves[name].places, found.curves[name].factors)
        assert flat[0] == pytest.approx(flat[1], rel=0.1)
    for level, width in found.half_widths.items():
        assert width == pytest.approx(normal_half_width(level), rel=0.03)
        assert np.mean(np.abs(unseen.error) <= width * known) == pytest.approx(level / 100.0, abs=0.02)


def test_a_case_noisier_than_all_gets_the_deviation_of_the_noisiest_known() -> None:
    """Two of nearly the same noise, whose errors differ by chance, do not decide what lies beyond them."""
    levels = (0.1, 0.2, 0.3, 0.4, 0.5, 0.5001)
    known = []
    for seed, level in enumerate(levels):
        one = participant(seed, factor=(1.0 + level) * (3.0 if level == levels[-1] else 1.0))
        known.append(Voxels({**one.signs, "noise": np.full(one.error.size, level)}, one.error, one.region))
    found = fit(known)
    assert found.curves["noise"].factors[-1] < 4.0 * found.curves["noise"].factors[0]
    unseen = participant(9)
    ratios = [
        float(
            np.median(
                deviation({**unseen.signs, "noise": np.full(unseen.error.size, level)}, found.level, found.curves)
            )
        )
        for level in (0.5, 0.9)
    ]
    assert ratios[1] == pytest.approx(ratios[0], rel=0.3)


def test_intervals_are_as_wide_as_participants_differ() -> None:
    """Each has errors of another size, and a sign that tells it only to whom has seen it: a new one is a surprise."""
    known = [participant(seed, factor=factor) for seed, factor in enumerate((0.5, 4.0, 1.0, 2.0))]
    named = [
        Voxels({**v.signs, "condition": v.signs["condition"] + 20.0 * i}, v.error, v.region)
        for i, v in enumerate(known)
    ]
    found = fit(named)
    lowest, mean, highest = found.covered
    assert lowest < 0.5 < 0.95 < highest
    assert mean == pytest.approx(0.8, abs=0.01)
    assert found.half_widths[95] > 1.2 * normal_half_width(95)


def test_the_mean_of_a_region_is_as_sure_as_its_errors_are_apart() -> None:
    apart, alike = (fit([participant(seed, count=5_000, shared=share) for seed in range(8)]) for share in (0.0, 0.9))
    assert apart.region_half_widths is not None
    assert alike.region_half_widths is not None
    assert apart.region_half_widths[80] < 0.2
    assert alike.region_half_widths[80] == pytest.approx(0.9 * normal_half_width(80), rel=0.2)
    nowhere = [Voxels(one.signs, one.error, np.zeros_like(one.region)) for one in (participant(0), participant(1))]
    assert fit(nowhere).region_half_widths is None


def test_an_image_with_noise_of_its_own_lies_in_wider_intervals_of_the_same_map() -> None:
    known = [noisy(participant(seed)) for seed in range(4)]
    found, unseen = fit(known), noisy(participant(9))
    assert found.half_widths == fit([participant(seed) for seed in range(4)]).half_widths
    assert found.noisy_half_widths is not None
    assert unseen.noisy_error is not None
    expects = deviation(unseen.signs, found.level, found.curves)
    for level, width in found.noisy_half_widths.items():
        assert width == pytest.approx(2.0**0.5 * normal_half_width(level), rel=0.03)
        assert np.mean(np.abs(unseen.noisy_error) <= width * expects) == pytest.approx(level / 100.0, abs=0.02)
    assert fit([*known, participant(5)]).noisy_half_widths is None, "of one the noisy image is not known"


def noisy(one: Voxels) -> Voxels:
    """The same with an image that has as much noise as the result has error; two cases of one participant."""
    noise = np.random.default_rng(one.error.size).normal(size=one.error.size) * expected(dict(one.signs))
    half = one.error.size // 2
    return Voxels.of(
        [
            Voxels(
                {k: v[part] for k, v in one.signs.items()}, one.error[part], one.region[part], (one.error + noise)[part]
            )
            for part in (slice(half), slice(half, None))
        ]
    )


def test_regions_of_several_cases_stay_apart() -> None:
    one, other = participant(0, count=50), participant(1, count=60)
    both = Voxels.of([one, other])
    assert len(np.unique(both.region)) == len(np.unique(one.region)) + len(np.unique(other.region)) - 1
    np.testing.assert_array_equal(both.region == 0, np.concatenate([one.region == 0, other.region == 0]))


def test_curves_are_linear_in_logarithms_and_constant_beyond() -> None:
    flat = Curve(places=(1.0,), factors=(1.0,))
    rising = Curve(places=(1.0 - OFFSET, 4.0 - OFFSET), factors=(1.0, 16.0))
    curves = {"activity": rising, "spread": flat, "edge": flat, "condition": flat}
    signs = {name: np.array([0.1, 2.0 - OFFSET, 99.0]) for name in SIGNS}
    np.testing.assert_allclose(deviation(signs, 0.5, curves), [0.5, 2.0, 8.0])


def test_a_sign_that_never_changes_says_nothing() -> None:
    fixed = [Voxels({**one.signs, "edge": np.ones(20_000)}, one.error, one.region) for one in map(participant, (0, 1))]
    found = fit(fixed)
    assert found.curves["edge"] == Curve(places=(1.0,), factors=(1.0,))


def test_what_cannot_be_calibrated_is_said() -> None:
    one = participant(0)
    with pytest.raises(ValueError, match="needed are two"):
        fit([one])
    still = Voxels({**one.signs, "spread": np.zeros(20_000)}, one.error, one.region)
    with pytest.raises(ValueError, match="zero everywhere"):
        fit([still, still])
