"""The 2.5D denoiser: any size, any crop, condition part apart."""

import pytest
import torch

from pet_pipeline.configs.schema import DenoiserSettings
from pet_pipeline.models.unet25d import UNet25d


def make(**settings: object) -> UNet25d:
    torch.manual_seed(0)
    network = UNet25d(
        DenoiserSettings.model_validate(
            {"widths": (8, 16, 16), "attention_levels": (2,), "attention_head_width": 8, "slab_half_width": 1}
            | settings
        )
    ).eval()
    for parameter in network.parameters():  # as after training: nothing at its zero start
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return network


def inputs(network: UNet25d, height: int, breadth: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(batch, 1, height, breadth, generator=generator),
        torch.rand(batch, generator=generator),
        torch.randn(batch, network.settings.condition_channels, height, breadth, generator=generator),
    )


@pytest.mark.parametrize("norm", ["channel", "group"])
@pytest.mark.parametrize("size", [(4, 8), (12, 20)])
@torch.no_grad()
def test_any_multiple_and_condition_apart(norm: str, size: tuple[int, int]) -> None:
    network = make(norm=norm, blocks=2)
    x_t, t, condition = inputs(network, *size)
    whole = network(x_t, t, condition)
    assert whole.shape == x_t.shape
    assert torch.equal(network.forward_embedded(x_t, network.modulations(t), network.embed_condition(condition)), whole)


@torch.no_grad()
def test_one_time_serves_a_batch_and_strides_do_not_matter() -> None:
    network = make()
    x_t, _, condition = inputs(network, 8, 12)
    both = network(x_t, torch.full((2,), 0.4), condition)
    torch.testing.assert_close(network(x_t, torch.tensor([0.4]), condition), both)
    strided = x_t.movedim(0, -1).contiguous().movedim(-1, 0)
    torch.testing.assert_close(network(strided, torch.tensor([0.4]), condition), both)


def test_other_sizes_are_refused() -> None:
    network = make()
    with pytest.raises(ValueError, match="multiples of 4"):
        network(*inputs(network, 10, 12))


@torch.no_grad()
def test_far_from_the_edge_the_crop_does_not_matter() -> None:
    network = make(attention_levels=())
    x_t, t, condition = inputs(network, 96, 96, batch=1)
    whole = network(x_t, t, condition)
    crop = (..., slice(8, 88), slice(8, 88))  # a multiple of 4, as the levels halve twice
    cropped = network(x_t[crop], t, condition[crop])
    inner = (..., slice(32, -32), slice(32, -32))
    # processors sum the convolutions of two sizes in other orders: 1.2e-5 apart was seen
    torch.testing.assert_close(cropped[inner], whole[crop][inner], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(cropped, whole[crop], rtol=1e-4, atol=1e-3)  # at the edge it does


@torch.no_grad()
def test_group_norm_does_depend_on_the_crop() -> None:
    network = make(attention_levels=(), norm="group")
    x_t, t, condition = inputs(network, 96, 96, batch=1)
    crop = (..., slice(8, 88), slice(8, 88))
    inner = (..., slice(32, -32), slice(32, -32))
    cropped, whole = network(x_t[crop], t, condition[crop]), network(x_t, t, condition)
    assert not torch.allclose(cropped[inner], whole[crop][inner], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_input_reaches_the_output() -> None:
    network = make()
    x_t, t, condition = inputs(network, 8, 8, batch=1)
    base = network(x_t, t, condition)
    assert not torch.allclose(network(x_t + 1, t, condition), base)
    assert not torch.allclose(network(x_t, t + 0.1, condition), base)
    for channel in range(condition.shape[1]):
        changed = condition.clone()
        changed[:, channel] += 1
        assert not torch.allclose(network(x_t, t, changed), base)


def test_bfloat16_autocast_stays_close_and_trains() -> None:
    network = make()
    x_t, t, condition = inputs(network, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x_t, t, condition)
        low.float().square().mean().backward()
    assert low.dtype == torch.bfloat16
    full = network(x_t, t, condition)
    assert float(((low.float() - full).norm() / full.norm()).detach()) < 0.05
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_paper_sized_network_has_the_reference_sections() -> None:
    settings = DenoiserSettings(
        widths=(136, 136, 272, 272, 408, 544), blocks=2, norm="group", attention_levels=(4, 5), attention_head_width=136
    )
    with torch.device("meta"):
        network = UNet25d(settings)
    assert network.multiple == 32
    assert len(network.time.widths) == 2 * 2 * 6


@torch.no_grad()
def test_the_split_stem_is_one_convolution_of_sample_and_condition() -> None:
    network = make()
    x_t, t, condition = inputs(network, 8, 20)
    arrived: list[torch.Tensor] = []
    network.encoder[0].register_forward_pre_hook(lambda module, given: arrived.append(given[0].clone()))
    network(x_t, t, condition)
    joint = torch.cat([network.stem_sample.weight, network.stem_condition.weight], dim=1)
    expected = torch.nn.functional.conv2d(
        torch.cat([x_t, condition], dim=1), joint, network.stem_condition.bias, padding=1
    )
    torch.testing.assert_close(arrived[0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_noise_embedding_nothing_has_changed_and_with_it_a_fresh_network_is_the_same() -> None:
    def fresh(noise_embedding: bool) -> UNet25d:
        torch.manual_seed(7)
        settings = {"widths": (8, 16), "attention_levels": (), "slab_half_width": 1, "noise_embedding": noise_embedding}
        return UNet25d(DenoiserSettings.model_validate(settings)).eval()

    plain, embedding = fresh(False), fresh(True)
    own, others = plain.state_dict(), embedding.state_dict()
    assert set(others) - set(own) == {
        f"time.noise.{name}" for name in ("first.weight", "first.bias", "second.weight", "second.bias", "unknown")
    }
    assert all(torch.equal(value, others[name]) for name, value in own.items())
    torch.nn.init.normal_(plain.time.out.weight)
    embedding.load_state_dict(plain.state_dict(), strict=False)
    x_t, t, condition = inputs(plain, 8, 8)
    for nstd in (None, torch.tensor([0.3])):
        assert torch.equal(embedding(x_t, t, condition, nstd), plain(x_t, t, condition))
    with pytest.raises(ValueError, match="noise_embedding"):
        plain(x_t, t, condition, torch.tensor([0.3]))


@torch.no_grad()
def test_the_noise_level_reaches_the_output_each_case_its_own_and_unknown_is_a_level_of_its_own() -> None:
    network = make(noise_embedding=True)
    torch.nn.init.normal_(network.time.noise.unknown)
    x_t, t, condition = inputs(network, 8, 8, batch=4)
    x_t, t, condition = (part[:1].expand(4, *part.shape[1:]) for part in (x_t, t, condition))
    found = network(x_t, t, condition, torch.tensor([0.1, 0.2, 0.1, float("nan")]))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[0], found[2])
    for other in (found[1], found[3]):
        assert not torch.allclose(found[0], other, rtol=1e-3, atol=1e-3)
    for none in (None, torch.tensor([0.0])):  # an image without noise has no logarithm of it
        torch.testing.assert_close(network(x_t[:1], t[:1], condition[:1], none)[0], found[3])


def test_every_parameter_of_the_noise_embedding_learns() -> None:
    network = make(noise_embedding=True)
    x_t, t, condition = inputs(network, 8, 8)
    network(x_t, t, condition, torch.tensor([0.1, float("nan")])).square().mean().backward()
    for name, parameter in network.time.noise.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
