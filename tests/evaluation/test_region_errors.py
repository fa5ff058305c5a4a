"""Errors of regions' figures: what made them is found, and intervals hold on participants not learnt from."""

import numpy as np
import pytest

from pet_pipeline.configs.uncertainty import LEVELS, Figure, FigureErrors, RegionKind, RegionSign, Slope
from pet_pipeline.evaluation.intervals import MARGIN_MM, calibrated_intervals, figures
from pet_pipeline.evaluation.region_errors import LEAST_PARTICIPANTS, RegionError, Seen, fit_regions, interval
from pet_pipeline.evaluation.regions import Structure, parts

SMALL, LARGE = float(np.log(0.5)), float(np.log(50.0))
"""Logarithms of volumes, mL."""

EVERY = (SMALL, LARGE)


def region(rng: np.random.Generator, kind: RegionKind = "lesion", figure: Figure = "suv_max") -> RegionError:
    """Small ones are flattened, and those of which the input shows more than the result; errors go with the map."""
    signs: dict[RegionSign, float] = {
        "volume": float(rng.uniform(SMALL, LARGE)),
        "deviation": float(np.log(rng.uniform(0.05, 0.4))),
        "contrast": float(rng.normal(0.5, 0.3)),
        "input_contrast": float(rng.normal(0.5, 0.3)),
    }
    value = float(rng.uniform(0.5, 8.0))
    shift = 0.2 - 0.05 * signs["volume"] + 0.5 * (signs["input_contrast"] - signs["contrast"])
    return RegionError(
        kind, figure, value, value * float(np.exp(shift + np.exp(signs["deviation"]) * rng.normal())), signs
    )


def people(seed: int, count: int, each: int = 6) -> list[list[RegionError]]:
    rng = np.random.default_rng(seed)
    return [[region(rng) for _ in range(each)] for _ in range(count)]


def covered(known: FigureErrors, of: list[list[RegionError]], level: int, volume: tuple[float, float]) -> float:
    inside = []
    for one in (one for regions in of for one in regions):
        if volume[0] <= one.signs["volume"] <= volume[1]:
            _, low, high = interval(known, one.value, one.signs, level)
            inside.append(low <= one.truth <= high)
    return float(np.mean(inside))


def test_intervals_hold_on_unseen_participants_large_and_small() -> None:
    known = fit_regions(people(0, 200))["lesion"]["suv_max"]
    unseen = people(1, 400)
    for level in LEVELS:
        for volume in ((SMALL, 0.0), (0.0, 2.0), (2.0, LARGE)):
            assert covered(known, unseen, level, volume) == pytest.approx(level / 100.0, abs=0.045)
    assert known.slopes["volume"].location == pytest.approx(-0.05, abs=0.02)
    assert known.slopes["contrast"].location == pytest.approx(-0.5, abs=0.06)
    assert known.slopes["input_contrast"].location == pytest.approx(0.5, abs=0.06)
    assert known.slopes["deviation"].log_scale == pytest.approx(1.0, abs=0.15)


def test_of_few_participants_intervals_are_rather_too_wide_than_too_narrow() -> None:
    unseen = people(99, 100)
    for level, least in ((80, 0.795), (95, 0.94)):
        found = [
            covered(fit_regions(people(seed, LEAST_PARTICIPANTS, each=5))["lesion"]["suv_max"], unseen, level, EVERY)
            for seed in range(40)
        ]
        assert np.mean(found) >= least


def test_a_flattened_region_is_told_to_be_hotter() -> None:
    known = fit_regions(people(0, 200))["lesion"]["suv_max"]
    above = [one.truth > interval(known, one.value, one.signs, 80)[0] for of in people(1, 400) for one in of]
    assert np.mean(above) == pytest.approx(0.5, abs=0.03)
    seen: dict[RegionSign, float] = {
        "volume": SMALL,
        "deviation": float(np.log(0.1)),
        "contrast": 0.3,
        "input_contrast": 0.7,
    }
    expected, low, high = interval(known, 2.0, seen, 80)
    assert expected == pytest.approx(2.0 * np.exp(0.2 - 0.05 * SMALL + 0.2), rel=0.05)
    assert np.sqrt(low * high) == pytest.approx(2.0 * np.exp(0.2 - 0.05 * SMALL + 0.2), rel=0.05)
    narrower = interval(known, 2.0, {**seen, "deviation": float(np.log(0.05))}, 80)
    assert low < narrower[1] < narrower[2] < high
    assert interval(known, 4.0, seen, 80) == pytest.approx((2.0 * expected, 2.0 * low, 2.0 * high))


def test_what_was_never_seen_adds_no_more_than_the_farthest_that_was() -> None:
    known = fit_regions(people(0, 40))["lesion"]["suv_max"]
    usual: dict[RegionSign, float] = {name: slope.centre for name, slope in known.slopes.items()}
    farthest = {**usual, "input_contrast": known.slopes["input_contrast"].highest}
    assert interval(known, 1.0, {**usual, "input_contrast": 50.0}, 80) == interval(known, 1.0, farthest, 80)
    without = {name: value for name, value in usual.items() if name != "input_contrast"}
    assert interval(known, 1.0, without, 80) == pytest.approx(interval(known, 1.0, usual, 80))


def test_regions_without_surroundings_are_learnt_from_all_the_same() -> None:
    def bare(one: RegionError, number: int) -> RegionError:
        kept = {name: value for name, value in one.signs.items() if number % 2 or name != "input_contrast"}
        return RegionError(one.kind, one.figure, one.value, one.truth, kept)

    some = [[bare(one, number) for number, one in enumerate(regions)] for regions in people(0, 200)]
    known = fit_regions(some)["lesion"]["suv_max"]
    assert known.slopes["input_contrast"].location == pytest.approx(0.5, abs=0.1)
    none = [
        [RegionError("organ", r.figure, r.value, r.truth, {"volume": r.signs["volume"]}) for r in regions]
        for regions in people(0, 40)
    ]
    assert list(fit_regions(none)["organ"]["suv_max"].slopes) == ["volume"]


def test_participants_who_differ_make_intervals_wider() -> None:
    """Each has a scale error of its own: regions of a known participant do not tell a new one's."""
    rng = np.random.default_rng(3)
    shifted = []
    for regions in people(4, 60):
        factor = float(np.exp(rng.normal(0.0, 0.5)))
        shifted.append([RegionError(r.kind, r.figure, r.value, r.truth * factor, r.signs) for r in regions])
    known, alike = fit_regions(shifted)["lesion"]["suv_max"], fit_regions(people(4, 60))["lesion"]["suv_max"]
    _, low, high = interval(known, 2.0, {}, 80)
    _, *narrow = interval(alike, 2.0, {}, 80)
    assert np.log(high / low) > 1.5 * np.log(narrow[1] / narrow[0])


def test_of_few_and_of_air_nothing_is_said() -> None:
    assert fit_regions(people(0, LEAST_PARTICIPANTS - 1, each=20)) == {}
    assert fit_regions(people(0, LEAST_PARTICIPANTS, each=2)) == {}
    air = RegionError("organ", "suv_mean", 0.0, 0.0, {"volume": 1.0})
    assert fit_regions([[air] * 20 for _ in range(20)]) == {}
    mixed = fit_regions([[*regions, air] for regions in people(0, 40)])
    assert list(mixed) == ["lesion"]


def test_every_part_with_known_errors_and_uptake_gets_an_interval() -> None:
    spacing = (4.0, 4.0, 3.0)
    image = np.random.default_rng(0).gamma(2.0, 1.0, (24, 24, 30))
    labels = np.zeros(image.shape, dtype=np.int32)
    labels[8:12, 8:11, 10:14], labels[0:3, 18:, 26:], labels[18:20, :3, :3] = 1, 2, 3
    image[labels == 1], image[labels == 3] = 6.0, 0.0
    structures = (Structure(1, "a", "lesion"), Structure(2, "liver", "organ"), Structure(3, "b", "lesion"))
    found = parts(labels, structures, margin_mm=MARGIN_MM, spacing_mm=spacing)
    source = np.where(labels == 1, 4.0, 1.0)
    seen = Seen(image, source, np.ones(image.shape, np.bool_), labels, structures, spacing)
    signs = seen.signs(found[0])
    assert signs["volume"] == pytest.approx(np.log(4 * 3 * 4 * 0.048))
    assert signs["input_contrast"] == pytest.approx(np.log(4.0))
    assert signs["contrast"] == pytest.approx(np.log(3.0), abs=0.15)  # the gamma draws around it have a mean of 2
    assert set(seen.signs(found[1])) == {"volume"}
    known = fit_regions(people(0, 40))
    table = calibrated_intervals(seen, np.full(image.shape, 0.3), found, known)
    assert list(table) == [("lesion:a", "suv_max")]
    one, value = table["lesion:a", "suv_max"], figures(image, found, spacing)["lesion:a", "suv_max"]
    told: dict[RegionSign, float] = {**signs, "deviation": float(np.log(0.3 / value))}
    expected = interval(known["lesion"]["suv_max"], value, told, 80)
    assert (one.value, one.expected, one.low_80, one.high_80) == pytest.approx((value, *expected))
    assert one.low < one.low_80 < one.high_80 < one.high


def test_figure_errors_that_make_no_sense_are_refused() -> None:
    slopes = {"volume": Slope(centre=0.0, lowest=-1.0, highest=1.0, location=0.1, log_scale=0.1)}
    for quantiles, told in (
        ({80: (-1.0, 1.0)}, "50, 80, 95"),
        ({50: (1.0, -1.0), 80: (-1.0, 1.0), 95: (-2.0, 2.0)}, "lower end must come first"),
    ):
        with pytest.raises(ValueError, match=told):
            FigureErrors(location=0.0, log_scale=0.0, slopes=slopes, median=0.0, quantiles=quantiles)  # type: ignore[arg-type]
