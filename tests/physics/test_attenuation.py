"""The bilinear scale at the points that are known, its continuity and its inverse."""

import numpy as np
import pytest

from pet_pipeline.errors import UsageError
from pet_pipeline.physics.attenuation import CARNEY, attenuation_factors, hu_from_mu, mu_from_hu
from pet_pipeline.units import MU_WATER_CM1


@pytest.mark.parametrize("kvp", CARNEY)
def test_water_air_and_padding(kvp: float) -> None:
    mu = mu_from_hu(np.array([0.0, -1000.0, -3024.0]), kvp)
    np.testing.assert_allclose(mu, [MU_WATER_CM1, 0.0, 0.0], atol=1e-7)


@pytest.mark.parametrize("kvp", CARNEY)
def test_continuous_at_the_break_and_rising(kvp: float) -> None:
    edge = CARNEY[kvp].break_hu
    below, above = mu_from_hu(np.array([edge, edge + 1e-6]), kvp)
    assert abs(above - below) < 3e-5
    mu = mu_from_hu(np.arange(-1000.0, 3000.0, 1.0), kvp)
    assert (np.diff(mu) > -3e-5).all()
    assert (mu >= 0.0).all()


@pytest.mark.parametrize("kvp", CARNEY)
def test_inverse(kvp: float) -> None:
    hu = np.array([-1000.0, -700.0, -100.0, 0.0, 20.0, 60.0, 300.0, 1500.0])
    np.testing.assert_allclose(hu_from_mu(mu_from_hu(hu, kvp), kvp), hu, atol=0.6)


def test_bone_by_the_published_line() -> None:
    assert mu_from_hu(np.array([1000.0]), 120)[0] == pytest.approx(5.10e-5 * 2000.0 + 4.71e-2, rel=1e-6)


def test_unknown_voltage_is_refused() -> None:
    with pytest.raises(UsageError, match=r"90 kVp.*80, 100"):
        mu_from_hu(np.zeros(1), 90)


def test_twenty_centimetres_of_water() -> None:
    factor = attenuation_factors(np.array([MU_WATER_CM1 * 200.0]))[0]  # cm^-1 mm
    assert factor == pytest.approx(np.exp(-1.92), rel=1e-6)
