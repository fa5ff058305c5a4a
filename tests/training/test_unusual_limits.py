"""The limits of unusual inputs: so many false alarms in all, whatever the kinds have in common."""

import numpy as np
import pytest

from pet_pipeline.training.unusual import joint_limits


@pytest.mark.parametrize("shared", [0.0, 0.9, 1.0])
def test_limits_give_the_asked_share_of_alarms_by_any_kind(shared: float) -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4000, 1))
    scores = np.sqrt(shared) * common + np.sqrt(1.0 - shared) * rng.normal(size=(4000, 4)) * [1.0, 2.0, 5.0, 1.0]
    alarms = (scores > joint_limits(scores, 0.05)).any(axis=1).mean()
    assert alarms == pytest.approx(0.05, abs=0.005)
