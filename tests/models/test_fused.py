"""Fused convolutions give what the layers one by one give; single channels are laid out so that they stay fast."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pet_pipeline.models import fused
from pet_pipeline.models.blocks import ResidualBlock, convolution
from pet_pipeline.models.layout import channels_last, to_channels_last

needs_operators = pytest.mark.skipif(not fused._AVAILABLE, reason="a torch without oneDNN")

Given = tuple[fused.Convolution, Tensor, Tensor, fused.Modulation | None]

CASES = [(2, 8, 12, None), (2, 1, 8, None), (2, 8, 8, 1), (2, 8, 8, 3), (3, 6, 6, None), (3, 1, 4, 1)]
"""Dimensions, channels before and after, batch of the modulation."""


def made(dims: int, inputs: int, outputs: int, modulation: int | None) -> Given:
    torch.manual_seed(dims * inputs + outputs)
    layer = convolution(dims, inputs, outputs)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    to_channels_last(layer)
    spatial = (6, 10, 4)[:dims]
    x, total = torch.randn(3, inputs, *spatial), torch.randn(3, outputs, *spatial)
    ones = (1,) * dims
    if modulation is None:
        return layer, x, total, None
    shape = (modulation, outputs, *ones)
    return layer, x, total, (torch.rand(shape) + 0.5, torch.randn(shape))


@needs_operators
@pytest.mark.parametrize("case", CASES)
def test_fused_is_layer_by_layer(case: tuple[int, int, int, int | None]) -> None:
    layer, x, total, modulation = made(*case)
    kept = x.clone(), total.clone()
    with torch.no_grad():
        expected = fused.activated(layer, x, modulation), fused.added(total, layer, x)
    with torch.inference_mode():
        found = fused.activated(layer, x, modulation), fused.added(total, layer, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    plain = layer(x)
    factor, shift = modulation or (torch.ones(()), torch.zeros(()))
    torch.testing.assert_close(found[0], F.hardswish(factor * plain + shift), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], total + plain, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, kept[0])
    assert torch.equal(total, kept[1])


@needs_operators
@pytest.mark.parametrize("case", CASES[:3])
def test_fused_follows_autocast(case: tuple[int, int, int, int | None]) -> None:
    layer, x, total, modulation = made(*case)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = fused.activated(layer, x, modulation), fused.added(total, layer, x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = fused.activated(layer, x, modulation), fused.added(total, layer, x)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype == torch.bfloat16
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


@needs_operators
def test_kept_weights_follow_the_layer_the_modulation_and_the_precision() -> None:
    layer, x, _, modulation = made(2, 8, 8, 1)
    assert modulation is not None
    assert layer.bias is not None
    other = (modulation[0] + 1.0, modulation[1] - 1.0)

    def agree(told: fused.Modulation | None, rtol: float = 1e-5) -> None:
        with torch.no_grad():
            expected = fused.activated(layer, x, told)
        with torch.inference_mode():
            for _ in range(2):  # the second time with what was kept
                found = fused.activated(layer, x, told)
                assert found.dtype == expected.dtype
                torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol)

    for told in (modulation, other, None, modulation):
        agree(told)
    with torch.no_grad():
        layer.weight.mul_(-2.0)
    agree(modulation)
    with torch.inference_mode():
        layer.bias.add_(3.0)
    agree(modulation)
    layer.load_state_dict(made(2, 8, 8, None)[0].state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        agree(modulation, rtol=0.1)
    agree(modulation)


@needs_operators
def test_weights_made_in_inference_mode_are_followed_too() -> None:
    with torch.inference_mode():
        layer, x, _, _ = made(2, 8, 8, None)
        before = fused.activated(layer, x)
        layer.weight.mul_(-2.0)
        assert not torch.allclose(before, fused.activated(layer, x), atol=0.1)


@needs_operators
def test_kept_weights_go_with_their_layer() -> None:
    layer, x, _, _ = made(2, 8, 8, None)
    with torch.inference_mode():
        fused.activated(layer, x)
    assert layer in fused._KEPT
    alive = weakref.ref(layer)
    del layer
    gc.collect()
    assert alive() is None


@needs_operators
def test_the_operators_are_used_in_inference_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    block = ResidualBlock(2, 8, "channel")
    x = torch.randn(1, 8, 4, 4)
    found: list[bool] = []
    usable = fused._usable

    def watched(given: Tensor) -> bool:
        found.append(usable(given))
        return found[-1]

    monkeypatch.setattr(fused, "_usable", watched)
    block(x).sum().backward()
    with torch.inference_mode():
        block(x)
        block.double()(x.double())
    assert found == [False, False, True, True, False, False]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_channel_leaves_convolutions_channels_last(dims: int) -> None:
    layer = convolution(dims, 1, 4)
    to_channels_last(layer)
    x = torch.randn(2, 1, *(6, 8, 10)[:dims])
    laid = channels_last(x)
    assert torch.equal(laid, x)
    out = layer(laid)
    assert out.stride(1) == 1
    torch.testing.assert_close(out, layer(x))
