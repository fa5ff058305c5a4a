"""The 3D prior: any size, any crop, starts as the identity."""

import pytest
import torch

from pet_pipeline.configs.schema import PriorSettings
from pet_pipeline.models.prior3d import Prior3d


def make(**settings: object) -> Prior3d:
    torch.manual_seed(0)
    network = Prior3d(PriorSettings.model_validate({"widths": (4, 8, 8)} | settings)).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_starts_as_the_identity() -> None:
    condition = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(Prior3d(PriorSettings(widths=(4, 8, 8)))(condition), condition)


@torch.no_grad()
def test_any_multiple_and_others_refused() -> None:
    network = make()
    condition = torch.randn(1, 1, 8, 12, 20)
    out = network(condition)
    assert out.shape == condition.shape
    assert not torch.allclose(out, condition)
    with pytest.raises(ValueError, match="multiples of 4"):
        network(torch.randn(1, 1, 8, 10, 8))


@torch.no_grad()
def test_far_from_the_edge_the_crop_does_not_matter() -> None:
    network = make()
    condition = torch.randn(1, 1, 88, 88, 96)
    crop = (..., slice(4, 84), slice(4, 84), slice(4, 92))
    inner = (..., slice(36, -36), slice(36, -36), slice(36, -36))
    torch.testing.assert_close(network(condition[crop])[inner], network(condition)[crop][inner], rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_stays_close_and_trains() -> None:
    network = make()
    condition = torch.randn(1, 1, 16, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(condition)
        low.square().mean().backward()
    full = network(condition)
    assert low.dtype == torch.float32  # the correction is added in the condition's precision
    assert float(((low - full).norm() / (full - condition).norm()).detach()) < 0.05
    assert all(parameter.grad is not None for parameter in network.parameters())
