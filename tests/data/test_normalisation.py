"""Scaling: exact inverse, equivariance, robustness, and the same for arrays and tensors."""

import numpy as np
import pytest

from pet_pipeline.configs.schema import NormalisationSettings
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.errors import InputRefused

SETTINGS = NormalisationSettings()
MASK = np.zeros((24, 24, 24), dtype=bool)
MASK[3:21, 3:21, 3:21] = True


def pet(seed: int = 0, relative_noise: float = 0.3) -> np.ndarray:
    shape = 1.0 / relative_noise**2
    return (np.where(MASK, 1.5, 0.0) * np.random.default_rng(seed).gamma(shape, 1.0 / shape, MASK.shape)).astype(
        np.float32
    )


def test_inverse_undoes_forward_over_the_whole_range() -> None:
    normalisation = Normalisation(scale=1.7, knee=8.0, spread=2.0)
    x = np.concatenate([-np.geomspace(1e-4, 50, 50), [0.0], np.geomspace(1e-4, 500, 100)])
    assert np.allclose(normalisation.inverse(normalisation.forward(x)), x, rtol=1e-9)
    assert np.allclose(normalisation.forward(-x), -normalisation.forward(x))
    assert (np.diff(normalisation.forward(np.sort(x))) > 0.0).all()


def test_linear_below_the_knee_and_logarithmic_above() -> None:
    normalisation = Normalisation(scale=2.0, knee=10.0, spread=4.0)
    assert normalisation.forward(np.array([0.2]))[0] == pytest.approx(0.2 / 2.0 / 4.0, rel=1e-3)
    high = normalisation.forward(np.array([2000.0, 4000.0]))
    assert high[1] - high[0] == pytest.approx(10.0 / 4.0 * np.log(2.0), rel=1e-3)


def test_the_slope_is_the_derivative_of_the_way_back_over_that_at_zero() -> None:
    normalisation = Normalisation(scale=2.0, knee=6.0, spread=1.5)
    y, step = np.linspace(-3.0, 8.0, 40), 1e-5
    derivative = (normalisation.inverse(y + step) - normalisation.inverse(y - step)) / (2.0 * step)
    assert np.allclose(normalisation.slope(y), derivative / (2.0 * 1.5), rtol=1e-6)
    torch = pytest.importorskip("torch")
    assert np.allclose(normalisation.slope(torch.from_numpy(y)).numpy(), normalisation.slope(y), rtol=1e-12)


def test_twice_the_activity_gives_twice_the_scale_and_the_same_network_values() -> None:
    one = Normalisation.fit(pet(), MASK, SETTINGS)
    two = Normalisation.fit(2.0 * pet(), MASK, SETTINGS)
    assert two.scale == pytest.approx(2.0 * one.scale, rel=1e-6)
    assert np.allclose(one.forward(pet()), two.forward(2.0 * pet()), rtol=1e-5)


def test_scale_hardly_depends_on_dose_or_on_a_hot_bladder() -> None:
    clean = Normalisation.fit(pet(relative_noise=0.05), MASK, SETTINGS).scale
    assert clean == pytest.approx(1.5, rel=0.08)  # smoothing takes in some air at the edge
    assert Normalisation.fit(pet(relative_noise=1.0), MASK, SETTINGS).scale == pytest.approx(clean, rel=0.08)
    bladder = pet(relative_noise=0.05)
    bladder[8:14, 8:14, 4:10] = 120.0
    assert Normalisation.fit(bladder, MASK, SETTINGS).scale == pytest.approx(clean, rel=0.05)


def test_tensors_as_arrays() -> None:
    torch = pytest.importorskip("torch")
    normalisation = Normalisation(1.3, 8.0, 2.0)
    array = np.linspace(-2.0, 60.0, 200, dtype=np.float32)
    tensor = torch.from_numpy(array)
    assert np.allclose(normalisation.forward(tensor).numpy(), normalisation.forward(array), rtol=1e-5)
    assert np.allclose(normalisation.inverse(normalisation.forward(tensor)).numpy(), array, rtol=1e-4, atol=1e-5)
    assert normalisation.forward(array).dtype == np.float32
    assert normalisation.forward(tensor).dtype == torch.float32


def test_no_activity_is_refused_and_bad_parameters_are_errors() -> None:
    with pytest.raises(InputRefused, match="needed is a PET"):
        Normalisation.fit(np.zeros_like(pet()), MASK, SETTINGS)
    with pytest.raises(InputRefused):
        Normalisation.fit(pet(), np.zeros_like(MASK), SETTINGS)
    for scale, knee, spread in ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (np.nan, 1.0, 1.0)):
        with pytest.raises(ValueError, match="positive"):
            Normalisation(scale, knee, spread)


def test_the_target_has_the_same_curve_at_a_fixed_multiple_of_the_scale() -> None:
    fitted = Normalisation.fit(pet(), MASK, NormalisationSettings(gain=8.0))
    assert fitted.of_target.scale == pytest.approx(8.0 * fitted.scale)
    assert np.allclose(fitted.of_target.forward(8.0 * pet()), fitted.forward(pet()), rtol=1e-5)
