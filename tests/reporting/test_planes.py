"""Picture data: what is taken from volumes, and that the file holds it."""

import json

import numpy as np
import pytest
from result_maker import HOT, SHAPE, SPACING_MM, STRUCTURES, labels, volumes

from pet_pipeline.errors import InputRefused
from pet_pipeline.reporting.planes import JOINT_BINS, JOINT_SUV, CasePlanes, slug, slugs


def _planes(**more) -> CasePlanes:
    made = volumes()
    return CasePlanes.of(
        made["reference"],
        {"MADM": made["first"], "prior": made["second"]},
        SPACING_MM,
        condition=made["condition"],
        uncertainty={"MADM": made["uncertainty"]},
        labels=labels(),
        structures=STRUCTURES,
        **more,
    )


def test_the_file_gives_back_what_was_saved(tmp_path):
    planes = _planes()
    planes.save(tmp_path / "case.npz")
    loaded = CasePlanes.load(tmp_path / "case.npz")
    for name in (
        "quantity",
        "spacing_mm",
        "methods",
        "focus",
        "focus_mm",
        "focus_name",
        "condition_factor",
        "lesion_mm",
    ):
        assert getattr(loaded, name) == getattr(planes, name), name
    assert set(loaded.reference) == {"mip_coronal", "mip_sagittal", "coronal", "sagittal", "axial"}
    assert set(loaded.uncertainties) == {"MADM"}
    for method in planes.methods:
        for plane in planes.reference:
            np.testing.assert_array_equal(loaded.predictions[method][plane], planes.predictions[method][plane])
            np.testing.assert_array_equal(loaded.difference(method, plane), planes.difference(method, plane))
        np.testing.assert_array_equal(loaded.joint[method], planes.joint[method])
    assert set(loaded.profiles) == {"reference", "condition", "prediction:MADM", "prediction:prior"}


def test_slices_go_through_the_hottest_lesion():
    planes = _planes()
    assert planes.focus_name == "lesion_1"
    x, y, z = planes.focus
    assert planes.reference["axial"][x, y] == 9.0
    assert planes.reference["coronal"][x, z] == 9.0
    assert planes.reference["sagittal"][y, z] == 9.0
    centre = [(i - (n - 1) / 2) * s for i, n, s in zip(HOT, SHAPE, SPACING_MM, strict=True)]
    assert planes.focus_mm == pytest.approx(centre)
    assert planes.reference["mip_coronal"].max() == 9.0


def test_without_lesions_they_go_through_the_bodys_centre():
    made = volumes()
    planes = CasePlanes.of(made["reference"], {"m": made["first"]}, SPACING_MM)
    assert planes.focus_name == ""
    assert planes.lesion_mm is None
    assert planes.focus_mm == pytest.approx((0.0, 0.0, 0.0), abs=8.0)


def test_values_keep_to_one_percent():
    made = volumes()
    planes = _planes()
    inside = made["first"][:, :, HOT[2]]
    kept = planes.predictions["MADM"]["axial"].astype(np.float64)
    assert inside.max() == pytest.approx(kept.max(), rel=0.01)
    assert planes.difference("MADM", "axial").astype(float)[planes.focus[0], planes.focus[1]] == pytest.approx(
        made["first"][HOT] - 9.0, abs=0.1
    )


def test_difference_projection_keeps_the_sign_of_the_largest_magnitude():
    reference = np.ones(SHAPE, dtype=np.float32)
    prediction = reference.copy()
    prediction[10, 4, 12] += 1.0
    prediction[10, 9, 12] -= 3.0  # on the same ray along y
    body = np.ones(SHAPE, dtype=bool)
    planes = CasePlanes.of(reference, {"m": prediction}, SPACING_MM, body=body)
    assert planes.difference("m", "mip_coronal")[10, 12] == -3.0
    assert planes.difference("m", "mip_sagittal")[4, 12] == 1.0


def test_joint_histogram_counts_every_voxel_of_the_body_in_its_bin():
    reference = np.full(SHAPE, 1.0, dtype=np.float32)
    prediction = np.full(SHAPE, 1000.0, dtype=np.float32)  # beyond the last bin: counted in it
    body = np.zeros(SHAPE, dtype=bool)
    body[5:9, 5:9, 5:9] = True
    joint = CasePlanes.of(reference, {"m": prediction}, SPACING_MM, body=body).joint["m"]
    low, high = np.log(JOINT_SUV)
    bin_of_one = int((0.0 - low) / (high - low) * JOINT_BINS)
    assert joint[bin_of_one, JOINT_BINS - 1] == 64
    assert joint.sum() == 64


def test_the_input_is_scaled_to_the_references_mean():
    planes = _planes()
    made = volumes()
    body = labels() > 0
    assert planes.condition_factor == pytest.approx(made["reference"][body].mean() / made["condition"][body].mean())
    assert planes.profiles["condition"].max() == pytest.approx(
        planes.condition_factor * made["condition"][:, HOT[1], HOT[2]].max(), rel=1e-5
    )


def test_profile_marks_the_lesion():
    planes = _planes()
    # lesion_1 is 13 to 16 along x, the focus at 15: from -2.5 to +1.5 voxels of 8 mm
    assert planes.lesion_mm == pytest.approx((-20.0, 12.0))
    assert planes.profiles["reference"][planes.profile_mm == 0.0] == 9.0


def test_grids_must_agree():
    made = volumes()
    with pytest.raises(InputRefused, match="prediction of m of shape"):
        CasePlanes.of(made["reference"], {"m": made["first"][1:]}, SPACING_MM)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "case.npz").write_bytes(content)
    with pytest.raises(InputRefused, match=r"case\.npz: no picture data"):
        CasePlanes.load(tmp_path / "case.npz")


def test_another_format_is_refused(tmp_path):
    facts = np.frombuffer(json.dumps({"format": 99}).encode(), dtype=np.uint8)
    np.savez(tmp_path / "case.npz", facts=facts)
    with pytest.raises(InputRefused, match="format 99"):
        CasePlanes.load(tmp_path / "case.npz")


def test_a_pickle_is_never_loaded(tmp_path):
    np.savez(tmp_path / "case.npz", facts=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputRefused):
        CasePlanes.load(tmp_path / "case.npz")


def test_hostile_method_names_are_kept(tmp_path):
    made = volumes()
    name = "../<b>&\u202e"
    CasePlanes.of(made["reference"], {name: made["first"]}, SPACING_MM).save(tmp_path / "case.npz")
    assert CasePlanes.load(tmp_path / "case.npz").methods == (name,)


def test_slugs_are_safe_and_unique():
    names = slugs(["a/b", "a b", "A-b", "..", "", "x" * 300, "ä"])
    assert names["a/b"] == "a-b"
    assert names["a b"] == "a-b-2"
    assert names["A-b"] == "A-b-3"  # where capitals do not count, it would be the same file
    assert names[".."] == "case"
    assert names[""] == "case-2"
    assert len(names["x" * 300]) <= 120
    assert slug("../../etc/passwd") == "-..-etc-passwd"
