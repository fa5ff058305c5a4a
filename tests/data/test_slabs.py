"""Slices and slabs are views that can be put back exactly."""

import pytest
import torch

from pet_pipeline.data.slabs import slabs_of, slices_of, volume_of
from pet_pipeline.types import View

VIEWS = list(View)


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", VIEWS)
def test_slices_go_back_exactly_and_share_memory(volume: torch.Tensor, view: View) -> None:
    slices = slices_of(volume, view)
    assert slices.shape[:2] == (volume.shape[view.axis], 1)
    assert torch.equal(volume_of(slices, view), volume)
    slices[2] += 1.0
    assert torch.equal(volume_of(slices, view), volume)


def test_in_plane_axes_keep_their_order(volume: torch.Tensor) -> None:
    assert torch.equal(slices_of(volume, View.AXIAL)[3, 0], volume[:, :, 3])
    assert torch.equal(slices_of(volume, View.CORONAL)[3, 0], volume[:, 3, :])
    assert torch.equal(slices_of(volume, View.SAGITTAL)[3, 0], volume[3, :, :])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("half_width", [0, 1, 4])
def test_slab_channels_are_the_neighbours_and_zero_beyond_the_edge(
    volume: torch.Tensor, view: View, half_width: int
) -> None:
    slabs = slabs_of(volume, view, half_width)
    slices = slices_of(volume, view)
    count = len(slices)
    assert slabs.shape == (count, 2 * half_width + 1, *slices.shape[2:])
    for place in range(count):
        for channel in range(2 * half_width + 1):
            neighbour = place + channel - half_width
            expected = slices[neighbour, 0] if 0 <= neighbour < count else torch.zeros_like(slices[0, 0])
            assert torch.equal(slabs[place, channel], expected)


def test_slabs_hold_one_padded_copy_only(volume: torch.Tensor) -> None:
    slabs = slabs_of(volume, View.AXIAL, 4)
    assert slabs.untyped_storage().nbytes() == 4 * 5 * 6 * (7 + 8)


@pytest.mark.parametrize("view", VIEWS)
def test_volume_from_slabs_middle_channel(volume: torch.Tensor, view: View) -> None:
    assert torch.equal(volume_of(slabs_of(volume, view, 2)[:, 2:3], view), volume)
