"""Structures in their boxes, holes filled slice by slice, brain and liver dome; the rows that come of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, gaussian_filter

from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.regions import Structure, filled_slices, is_brain, parts, without_liver_dome

SPACING = (4.0, 4.0, 5.0)


def test_parts_are_the_masks_cut_out():
    labels = np.random.default_rng(0).integers(0, 5, (12, 9, 10)).astype(np.int32)
    labels[:4] = 0
    image = np.random.default_rng(1).normal(size=labels.shape)
    table = [Structure(i, f"s{i}", "organ") for i in (3, 1, 9, 0, -2, 3)]
    found = parts(labels, table, spacing_mm=SPACING)
    assert [p.structure.index for p in found] == [3, 1, 3]  # the table's order; absent ones and the background are not
    for part in found:
        mask = labels == part.structure.index
        np.testing.assert_array_equal(part.of(image), image[mask])
        whole = np.zeros_like(mask)
        whole[part.box] = part.mask
        np.testing.assert_array_equal(whole, mask)
    assert parts(labels, [], spacing_mm=SPACING) == []
    assert parts(np.zeros_like(labels), table, spacing_mm=SPACING) == []


def test_a_margin_widens_the_box_up_to_the_grids_edge():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[8:10, 0:2, 18] = 7
    (part,) = parts(labels, [Structure(7, "x", "organ")], margin_mm=10.0, spacing_mm=SPACING)
    assert part.box == (slice(4, 14), slice(0, 6), slice(15, 20))
    assert part.mask.sum() == 4


@pytest.mark.parametrize("density", [0.3, 0.5, 0.62])
def test_holes_are_filled_as_slice_by_slice(density):
    """Against scipy's own, one slice after another; a hole may meet the grid's first and last slice, not its sides."""
    foreground = np.random.default_rng(3).uniform(size=(21, 17, 9)) < density
    foreground[:, :, 4] = False
    expected = np.stack([binary_fill_holes(foreground[..., z]) for z in range(9)], axis=2)
    np.testing.assert_array_equal(filled_slices(foreground), expected)
    assert not filled_slices(np.zeros((5, 5, 5), bool)).any()
    assert filled_slices(np.ones((5, 5, 5), bool)).all()


@pytest.mark.parametrize(
    ("name", "brain"),
    [("brain", True), ("Brain", True), ("white_matter", True), ("left_grey_matter", True), ("brainstem", False),
     ("brain_stem", False), ("midbrain", False), ("csf", False), ("liver", False)],
)  # fmt: skip
def test_what_is_brain(name, brain):
    assert is_brain(Structure(1, name, "organ")) is brain
    assert not is_brain(Structure(1, name, "lesion"))


def test_slices_near_the_livers_top_are_left_out():
    labels = np.zeros((6, 6, 40), np.int16)
    labels[2:4, 2:4, 5:20] = 3
    body = np.ones(labels.shape, bool)
    rest = without_liver_dome(body, labels, [Structure(3, "Liver", "organ")], SPACING)
    assert rest is not None
    np.testing.assert_array_equal(rest[0, 0], [abs(z - 19) * 5.0 > 40.0 for z in range(40)])
    assert without_liver_dome(body, labels, [Structure(3, "spleen", "organ")], SPACING) is None
    assert without_liver_dome(body[..., 12:26], labels[..., 12:26], [Structure(3, "liver", "organ")], SPACING) is None


@pytest.fixture(scope="module")
def truth() -> Truth:
    axes = np.meshgrid(*[np.arange(n) * 4.0 - n * 2.0 for n in (50, 44, 60)], indexing="ij")
    labels = np.where((axes[0] / 90) ** 2 + (axes[1] / 80) ** 2 < 1, 1, 0).astype(np.int16)
    for index, centre, radius in ((2, (20, 0, -40), 60), (3, (0, 0, 80), 36), (4, (0, 0, 80), 20)):
        labels[sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2] = index
    table = tuple(
        Structure(i, name, "organ") for i, name in enumerate(("muscle", "liver", "brain", "white_matter"), start=1)
    )
    reference = gaussian_filter(np.array([0.0, 0.8, 2.2, 7.0, 3.0])[labels], 0.7).astype(np.float32)
    return Truth(reference, (4.0, 4.0, 4.0), labels, table)


def _values(rows: list[Row], region: str) -> dict[str, float]:
    return {r.metric: r.value for r in rows if r.region == region}


def test_brain_voxels_within_tolerances_by_counting(truth):
    """Grey matter 7 % too hot, white matter 12 % too cold, one voxel of reference zero left out."""
    labels = np.asarray(truth.labels)
    reference = truth.reference.copy()
    here = tuple(np.argwhere(labels == 3)[0])
    reference[here] = 0.0
    factor = np.array([1.0, 1.0, 1.0, 1.07, 0.88])[labels]
    rows = score_case("a", "m", (reference * factor).astype(np.float32), replace(truth, reference=reference))
    grey, white = (labels == 3).sum() - 1, (labels == 4).sum()
    assert _values(rows, "brain") == {
        "within_5_percent": 0.0,
        "within_10_percent": pytest.approx(grey / (grey + white)),
        "within_15_percent": 1.0,
    }


def test_noise_of_the_liver_is_measured_in_both_images(truth):
    noise = np.random.default_rng(0).normal(0.0, 0.3, truth.reference.shape)
    found = _values(score_case("a", "m", (truth.reference + noise).astype(np.float32), truth), "organ:liver")
    assert found["noise_sd"] == pytest.approx(0.3, rel=0.03)
    assert found["nstd"] == pytest.approx(0.3 / 2.2, rel=0.03)
    assert found["noise_mean_frequency"] == pytest.approx(0.4803 / 4.0, rel=0.05)
    assert found["noise_sd_reference"] < 1e-3
    assert "noise_mean_frequency_reference" not in found  # there is no noise to have a grain


def test_organs_have_the_bias_of_their_maximum_and_a_local_psnr(truth):
    found = _values(score_case("a", "m", truth.reference * np.float32(1.2), truth), "organ:liver")
    assert found["suv_max_bias"] == pytest.approx(20.0, abs=1e-3)
    inside = truth.reference[np.asarray(truth.labels) == 2]
    assert found["psnr"] == pytest.approx(10 * math.log10(225 / np.square(0.2 * inside).mean()), abs=1e-3)


def test_errors_at_the_livers_dome_count_for_the_body_alone(truth):
    labels = np.asarray(truth.labels)
    top = int(np.flatnonzero((labels == 2).any(axis=(0, 1)))[-1])
    prediction = truth.reference.copy()
    prediction[..., top - 10 : top + 11] += np.float32(1.0)
    rows = score_case("a", "m", prediction, truth)
    assert _values(rows, "body_without_liver_dome") == {"mae": 0.0}
    assert _values(rows, "body")["mae"] > 0.2
