"""Labels on a coarser grid: the majority wins, and the smallest lesion survives."""

import numpy as np

from pet_pipeline.simulation.labels import majority_labels


def test_majority_of_pairs() -> None:
    labels = np.zeros((8, 8, 8), dtype=np.int16)
    labels[:3] = 4  # fills the first coarse voxel and half of the second
    labels[3, :, :] = 9
    out = majority_labels(labels, (2.5,) * 3, (4, 4, 4), (5.0,) * 3)
    assert (out[0] == 4).all()
    assert set(np.unique(out[1])) <= {4, 9}
    assert (out[2:] == 0).all()


def test_a_small_lesion_is_not_lost() -> None:
    labels = np.full((20, 20, 20), 2, dtype=np.int16)
    labels[9, 9, 9] = 100
    out = majority_labels(labels, (2.5,) * 3, (10, 10, 10), (5.0,) * 3)
    assert (out == 100).sum() == 1
    assert out[4, 4, 4] == 100


def test_other_voxel_size_keeps_the_volume() -> None:
    x = (np.arange(80) - 39.5) * 2.5
    ball = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2 <= 60.0**2
    out = majority_labels(ball.astype(np.int16) * 7, (2.5,) * 3, (49, 49, 49), (4.07,) * 3)
    assert abs((out == 7).sum() * 4.07**3 / (4.0 / 3.0 * np.pi * 60.0**3) - 1.0) < 0.02
