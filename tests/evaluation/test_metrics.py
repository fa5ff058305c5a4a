"""Metrics against closed forms, scikit-image, and their own invariances."""

import math

import numpy as np
import pytest
from skimage.metrics import normalized_root_mse, structural_similarity

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import metrics


@pytest.fixture
def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    reference = rng.gamma(2.0, 1.0, (22, 18, 30)).astype(np.float32)
    prediction = (reference + rng.normal(0, 0.4, reference.shape)).astype(np.float32)
    mask = np.zeros(reference.shape, bool)
    mask[3:17, 2:15, 6:27] = True
    return prediction, reference, mask


def test_a_known_offset_has_the_closed_form(volumes):
    _, reference, mask = volumes
    reference = np.full_like(reference, 2.0)
    prediction = reference + 0.5
    assert metrics.nmse(prediction, reference, mask) == pytest.approx(0.25 / 4.0)
    assert metrics.nrmse(prediction, reference, mask) == pytest.approx(0.25)
    assert metrics.mae(prediction, reference, mask) == pytest.approx(0.5)
    assert metrics.psnr(prediction, reference, mask, data_range=15.0) == pytest.approx(20 * math.log10(15 / 0.5))
    assert metrics.psnr_case_maximum(prediction, reference, mask) == pytest.approx(20 * math.log10(2.0 / 0.5))


def test_identical_volumes_are_perfect(volumes):
    _, reference, mask = volumes
    assert metrics.nmse(reference, reference, mask) == 0.0
    assert metrics.psnr(reference, reference, mask) == math.inf
    assert metrics.ssim(reference, reference, mask) == pytest.approx(1.0)


def test_voxels_outside_the_mask_do_not_count(volumes):
    prediction, reference, mask = volumes
    spoilt = np.where(mask, prediction, 1e4).astype(np.float32)
    for figure in (metrics.nmse, metrics.nrmse, metrics.mae, metrics.psnr, metrics.psnr_case_maximum):
        assert figure(spoilt, reference, mask) == figure(prediction, reference, mask)


def test_nrmse_is_scikit_images_euclidean_one(volumes):
    prediction, reference, mask = volumes
    expected = normalized_root_mse(reference[mask].astype(float), prediction[mask].astype(float))
    assert metrics.nrmse(prediction, reference, mask) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("box", [(3, 17, 2, 15, 6, 27), (0, 22, 0, 18, 0, 30), (0, 3, 5, 6, 29, 30)])
def test_ssim_is_scikit_images_averaged_over_the_mask(volumes, box):
    """The whole volume by scikit-image, in float64: our computing the mask's box alone must alter nothing."""
    prediction, reference, _ = volumes
    mask = np.zeros(reference.shape, bool)
    mask[box[0] : box[1], box[2] : box[3], box[4] : box[5]] = True
    _, local = structural_similarity(
        prediction.astype(float), reference.astype(float), data_range=3.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert metrics.ssim(prediction, reference, mask, data_range=3.0) == pytest.approx(local[mask].mean(), abs=2e-6)


@pytest.mark.parametrize("scale", [0.01, 250.0])
def test_another_unit_with_its_range_gives_the_same_figures(volumes, scale):
    prediction, reference, mask = volumes
    scaled = (prediction * np.float32(scale), reference * np.float32(scale), mask)
    assert metrics.nmse(*scaled) == pytest.approx(metrics.nmse(*volumes), rel=1e-5)
    assert metrics.psnr(*scaled, data_range=15 * scale) == pytest.approx(
        metrics.psnr(*volumes, data_range=15), rel=1e-5
    )
    assert metrics.ssim(*scaled, data_range=15 * scale) == pytest.approx(
        metrics.ssim(*volumes, data_range=15), rel=1e-4
    )
    assert metrics.psnr_case_maximum(*scaled) == pytest.approx(metrics.psnr_case_maximum(*volumes), rel=1e-5)


def test_what_cannot_be_scored_is_refused(volumes):
    prediction, reference, mask = volumes
    with pytest.raises(InputRefused, match="one shape"):
        metrics.nmse(prediction[:-1], reference, mask)
    with pytest.raises(InputRefused, match="empty"):
        metrics.mae(prediction, reference, np.zeros_like(mask))
    with pytest.raises(InputRefused, match="zero throughout"):
        metrics.nmse(prediction, np.zeros_like(reference), mask)
    with pytest.raises(InputRefused, match="no positive value"):
        metrics.psnr_case_maximum(prediction, -reference, mask)
    with pytest.raises(InputRefused, match="11 voxels"):
        metrics.ssim(prediction[..., :8], reference[..., :8], mask[..., :8])
