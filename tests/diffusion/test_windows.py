"""Windows cover an axis and their weights sum to one."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pet_pipeline.diffusion.windows import windows


@given(st.integers(1, 300), st.integers(1, 128), st.floats(0.0, 0.49))
def test_weights_sum_to_one_everywhere(length: int, window: int, overlap: float) -> None:
    total = torch.zeros(length)
    parts = windows(length, window, overlap)
    for part in parts:
        assert part.stop - part.start == min(length, window) == len(part.weight)
        assert bool((part.weight > 0).all())
        total[part.start : part.stop] += part.weight
    torch.testing.assert_close(total, torch.ones(length))
    for one, following in pairwise(parts):
        assert one.stop - following.start >= overlap * window - 1.0


def test_weights_fall_off_smoothly_towards_a_neighbour() -> None:
    first, second = windows(96, 64, 0.25)
    assert (first.start, second.start) == (0, 32)
    assert float(first.weight[:32].min()) == pytest.approx(1.0)
    assert float(first.weight.diff().abs().max()) < 0.06
    assert float(first.weight[-1]) < 0.01


def test_a_short_axis_is_one_window_and_nonsense_is_refused() -> None:
    assert len(windows(64, 64, 0.25)) == len(windows(64, None, 0.25)) == 1
    with pytest.raises(ValueError, match="overlap"):
        windows(100, 64, 0.5)
