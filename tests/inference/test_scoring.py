"""From files to scores: resampling where it is asked for, label tables, what is refused and what is told."""

import numpy as np
import pytest

from pet_pipeline.data.nifti import write
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import Reading, load_prediction, load_reference, with_outside
from pet_pipeline.units import Unit

SHAPE = (20, 18, 16)


def _ramp(geometry: Geometry) -> np.ndarray:
    """A value that is linear in the patient's millimetres, which linear interpolation meets exactly."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
    place = index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    return (5.0 + place @ [0.02, -0.03, 0.05]).astype(np.float32)


def test_linear_resampling_meets_a_linear_field_and_says_what_lies_outside():
    fine = Geometry.regular((40, 36, 32), (2.5, 2.5, 2.5))
    coarse = Geometry.regular((24, 18, 16), (5.0, 5.0, 5.0))  # two voxels wider than the fine one at each end of x
    found, outside = with_outside(Volume(_ramp(fine), fine, Unit.SUV), coarse)
    assert outside[:2].all()
    assert outside[-2:].all()
    assert not outside[2:-2].any()
    np.testing.assert_allclose(found.data[~outside], _ramp(coarse)[~outside], atol=1e-4)
    assert not found.data[outside].any()


@pytest.fixture
def pair(tmp_path) -> Pair:
    reference, other = Geometry.regular(SHAPE, (4.0, 4.0, 4.0)), Geometry.regular((20, 18, 12), (4.0, 4.0, 4.0))
    write(tmp_path / "ref.nii.gz", Volume(_ramp(reference), reference, Unit.SUV))
    write(tmp_path / "pred.nii.gz", Volume(_ramp(other), other, Unit.SUV))
    return Pair("c", "c", tmp_path / "pred.nii.gz", tmp_path / "ref.nii.gz")


def test_another_grid_is_refused_by_default_and_the_option_is_named(pair):
    reference = load_reference(pair, Reading())
    with pytest.raises(InputRefused, match=r"not on the grid of .*--resample"):
        load_prediction(pair.prediction, pair.reference, reference, Reading())


def test_resampling_is_told_and_so_is_what_the_prediction_does_not_cover(pair):
    reading = Reading(resample=True)
    reference = load_reference(pair, reading)
    volume, warnings = load_prediction(pair.prediction, pair.reference, reference, reading)
    assert volume.shape == SHAPE
    np.testing.assert_allclose(volume[:, :, 2:14], reference.truth.reference[:, :, 2:14], atol=1e-4)
    assert "resampled onto the reference's grid, linearly: shape (20, 18, 12)" in warnings[0]
    assert "% of the reference lies outside" in warnings[1]
    share = 100 * (1 - reference.truth.reference[:, :, 2:14].sum() / reference.truth.reference.sum())
    assert f"{share:.1f} %" in warnings[1]


def test_empty_labels_and_missing_organs_are_told(pair, tmp_path):
    geometry = Geometry.regular(SHAPE, (4.0, 4.0, 4.0))
    labels = np.zeros(SHAPE, dtype=np.float32)
    (tmp_path / "dseg.tsv").write_text("index\tname\n1\tliver\n2\tspleen\n3\tlesion_1\n")
    with_labels = Pair("c", "c", pair.prediction, pair.reference, tmp_path / "seg.nii.gz")
    write(tmp_path / "seg.nii.gz", Volume(labels, geometry, Unit.LABEL))
    assert "holds no label" in load_reference(with_labels, Reading()).warnings[0]
    labels[4:8] = 1
    labels[9] = 40
    write(tmp_path / "seg.nii.gz", Volume(labels, geometry, Unit.LABEL))
    assert load_reference(with_labels, Reading()).warnings == (
        "labels 40 are not in dseg.tsv: not scored",
        "organs without a voxel, not scored: spleen",
    )


def test_an_empty_reference_is_refused_by_its_name(pair):
    geometry = Geometry.regular(SHAPE, (4.0, 4.0, 4.0))
    write(pair.reference, Volume(np.zeros(SHAPE, dtype=np.float32), geometry, Unit.SUV))
    with pytest.raises(InputRefused, match=r"ref\.nii\.gz: zero everywhere"):
        load_reference(pair, Reading())
