"""Norm, residual block, attention and time embedding."""

import pytest
import torch
import torch.nn.functional as F

from pet_pipeline.models.blocks import PixelNorm, ResidualBlock, SelfAttention, TimeModulation, normalisation


def test_pixel_norm_is_rms_norm_over_channels() -> None:
    x = torch.randn(2, 16, 5, 7)
    expected = F.rms_norm(x.permute(0, 2, 3, 1), (16,), eps=1e-4).permute(0, 3, 1, 2)
    torch.testing.assert_close(PixelNorm()(x), expected)


@pytest.mark.parametrize("shape", [(2, 8, 3, 4), (1, 6, 2, 3, 2)])
def test_pixel_norm_gradient_is_the_derivative(shape: tuple[int, ...]) -> None:
    # at the scale of activations: the epsilon's share of the derivative is left out, 1e-4 of it
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weight = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (given,) = torch.autograd.grad((PixelNorm()(x) * weight).sum(), x)
    reference = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-4)
    (expected,) = torch.autograd.grad((reference * weight).sum(), x)
    torch.testing.assert_close(given, expected, rtol=0, atol=2e-3)


def test_pixel_norm_keeps_precision_under_autocast() -> None:
    x = torch.randn(1, 8, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert PixelNorm()(x).dtype == torch.bfloat16


@pytest.mark.parametrize("norm", ["channel", "group"])
@pytest.mark.parametrize("dims", [2, 3])
def test_residual_block_starts_as_the_identity(norm: str, dims: int) -> None:
    x = torch.randn(2, 8, *(4,) * dims)
    assert torch.equal(ResidualBlock(dims, 8, norm)(x), x)  # type: ignore[arg-type]


def test_residual_block_is_modulated() -> None:
    block = ResidualBlock(2, 8, "channel")
    torch.nn.init.normal_(block.second.weight)  # type: ignore[arg-type]
    x = torch.randn(2, 8, 4, 4)
    ones, zeros = torch.ones(2, 8, 1, 1), torch.zeros(2, 8, 1, 1)
    torch.testing.assert_close(block(x, (ones, zeros)), block(x))
    assert not torch.allclose(block(x, (2 * ones, zeros)), block(x))
    assert not torch.allclose(block(x, (ones, ones)), block(x))


def test_group_norm_groups_divide_the_width() -> None:
    layer = normalisation("group", 136)
    assert isinstance(layer, torch.nn.GroupNorm)
    assert layer.num_groups == 8


def test_attention_mixes_all_pixels_and_refuses_widths_that_do_not_divide() -> None:
    attention = SelfAttention(16, 8, "channel")
    x = torch.randn(1, 16, 3, 5)
    assert torch.equal(attention(x), x)
    torch.nn.init.normal_(attention.out.weight)
    changed = x.clone()
    changed[..., 0, 0] += torch.randn(16)
    assert not torch.allclose(attention(changed)[..., 2, 4], attention(x)[..., 2, 4])
    with pytest.raises(ValueError, match="heads of 7"):
        SelfAttention(16, 7, "channel")


@torch.no_grad()
def test_time_modulation_tells_steps_apart_in_every_precision() -> None:
    time = TimeModulation((4, 6), features=32)
    assert all(bool((factor == 1).all() and (shift == 0).all()) for factor, shift in time(torch.tensor([0.3])))
    torch.nn.init.normal_(time.out.weight)
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (time.to(dtype)(torch.tensor([t]))[1][0].float() for t in (0.900, 0.901))
        assert a.shape == (1, 6, 1, 1)
        assert float((a - b).abs().max()) > 0.05
