"""OUR-Net and its opponent: any size, any crop, both branches learn, equal sizes, positive maps."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.mumap import MumapTrainingSettings, MuUNetSettings, OurNetSettings
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.ournet import LEAST, MuUNet, OurNet, positive, unbounded
from pet_pipeline.models.prior_step import estimate_from
from pet_pipeline.models.registry import build, parameter_count

CPU = Compute(torch.device("cpu"), "fp32", "test")

SMALL: dict[str, object] = {"under_widths": (4, 8), "head_width": 4}

NETWORKS = {
    "muunet": lambda inputs: MuUNet(MuUNetSettings.model_validate({**SMALL, "inputs": inputs})),
    "ournet": lambda inputs: OurNet(OurNetSettings.model_validate({**SMALL, "inputs": inputs, "over_widths": (4,)})),
    "ournet, four times": lambda inputs: OurNet(
        OurNetSettings.model_validate({**SMALL, "inputs": inputs, "over_widths": (4, 2)})
    ),
}


def make(name: str, inputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name](inputs).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_any_multiple_gives_a_positive_map_and_others_are_refused(name: str) -> None:
    network = make(name)
    mu = network(torch.randn(2, 1, 8, 12, 20))
    assert mu.shape == (2, 1, 8, 12, 20)
    assert mu.dtype == torch.float32
    assert float(mu.min()) > 0.0
    with pytest.raises(ValueError, match="multiples of 4"):
        network(torch.randn(1, 1, 8, 10, 8))
    with pytest.raises(ValueError, match="needed are 1"):
        network(torch.randn(1, 2, 8, 8, 8))


@pytest.mark.parametrize("inputs", [2, 4])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_later_stage_starts_as_the_prior_or_without_a_bank_as_the_last_estimate(name: str, inputs: int) -> None:
    network = NETWORKS[name](inputs)
    channels = torch.rand(1, inputs, 8, 8, 8)
    begun = channels[:, 2:3] if inputs == 4 else channels[:, 1:2]
    torch.testing.assert_close(network(channels), begun.clamp_min(LEAST), rtol=1e-4, atol=1e-5)


def test_positive_and_unbounded_undo_each_other_and_tissue_passes_unchanged() -> None:
    mu = torch.tensor([LEAST, 0.01, 0.1, 0.3, 1.0, 1.8])
    torch.testing.assert_close(positive(unbounded(mu)), mu, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        positive(torch.tensor([0.5, 1.0, 2.0])), torch.tensor([0.5, 1.0, 2.0]), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", ["muunet", "ournet"])
@torch.no_grad()
def test_far_from_the_edge_the_crop_does_not_matter(name: str) -> None:
    network = make(name)
    volume = torch.randn(1, 1, 88, 88, 96)
    crop = (..., slice(4, 84), slice(4, 84), slice(4, 92))
    inner = (..., slice(36, -36), slice(36, -36), slice(36, -36))
    torch.testing.assert_close(network(volume[crop])[inner], network(volume)[crop][inner], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_windows_give_what_the_whole_gives_far_from_their_edges() -> None:
    network, volume = make("ournet", 2), torch.rand(2, 32, 32, 256)
    whole = estimate_from(network, volume, CPU, 4)
    parts = estimate_from(network, volume, CPU, 4, window_voxels=32 * 32 * 128)
    assert not torch.equal(parts, whole)
    # windows of 128 slices, 96 apart: slices 48 to 64 lie in the first alone, farther than the reach from its end
    torch.testing.assert_close(parts[..., 48:64], whole[..., 48:64], rtol=1e-3, atol=1e-4)
    assert float((parts - whole).abs().max()) < 0.03 * float(whole.max())


def test_gradients_reach_every_parameter_of_both_branches() -> None:
    network = make("ournet", 4).train()
    network(torch.rand(1, 4, 16, 16, 16)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]
    assert silent == []


@pytest.mark.parametrize(
    "part", ["early_to_under", "early_to_over", "late_to_under", "late_to_over", "over.1", "encoder.0", "decoder.1"]
)
@torch.no_grad()
def test_every_exchange_and_branch_changes_the_answer(part: str) -> None:
    network, volume = make("ournet"), torch.rand(1, 1, 16, 16, 16)
    before = network(volume)
    for parameter in network.get_submodule(part).parameters():
        parameter.zero_()
    assert float((network(volume) - before).abs().max()) > 1e-4


@torch.no_grad()
def test_with_a_trained_under_branch_it_starts_as_that_u_net() -> None:
    for inputs in (1, 4):
        u_net = make("muunet", inputs)
        whole = NETWORKS["ournet"](inputs)
        whole.load_state_dict({**whole.state_dict(), **u_net.state_dict()})
        volume = torch.rand(1, inputs, 16, 16, 16)
        torch.testing.assert_close(whole(volume), u_net(volume))


@torch.no_grad()
@pytest.mark.parametrize("inputs", [1, 2, 4])
def test_taught_at_half_resolution_alone_the_whole_gives_that_map_raised(inputs: int) -> None:
    u_net = make("muunet", inputs)
    nn.init.zeros_(u_net.get_submodule("out").weight)  # as it is before anything at full resolution has learnt
    volume = torch.rand(1, inputs, 16, 16, 16)
    volume[:, 1:] = volume[:, 1:, :1, :1, :1]  # what is corrected is flat: its detail is not the branch's
    coarse = u_net.coarse(volume)  # type: ignore[operator]
    assert coarse.shape == (1, 1, 8, 8, 8)
    assert float(coarse.std()) > 0.0
    raised = F.interpolate(unbounded(coarse), scale_factor=2.0, mode="trilinear")
    torch.testing.assert_close(u_net(volume), positive(raised), rtol=1e-3, atol=1e-3)


def test_alone_the_under_branch_learns_nothing_at_full_resolution() -> None:
    network = make("muunet", 4).train()
    network.coarse(torch.rand(1, 4, 16, 16, 16)).square().mean().backward()  # type: ignore[operator]
    taught = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert taught == {"stem", "encoder", "down", "up", "decoder", "under_map"}
    network.keep_under()  # type: ignore[operator]
    assert taught.isdisjoint(name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad)


def reach(network: nn.Module) -> Tensor:
    """Where a change of one voxel of the input is felt, (x, y, z)."""
    volume = torch.zeros(1, 1, 48, 48, 48)
    touched = volume.clone()
    touched[..., 24, 24, 24] = 1.0
    with torch.no_grad():
        changed: Tensor = (network(touched) - network(volume)).abs()[0, 0] > 1e-7
    return changed


def test_the_over_branch_sees_less_far_than_the_under_branch() -> None:
    network = make("ournet")
    alone = make("ournet")
    for name in (
        "early_to_under",
        "early_to_over",
        "late_to_under",
        "late_to_over",
        "under_out",
        "under_map",
        "fusion",
        "out",
    ):
        for parameter in alone.get_submodule(name).parameters():
            parameter.data.zero_()
    alone.out.weight.data[:, :, 1, 1, 1] = 1.0  # a point, so that the reach is the branch's own
    widest = [int(reach(one).any(dim=2).any(dim=1).sum()) for one in (alone, network)]
    assert widest[0] <= 9
    assert widest[1] >= 20


def test_the_opponent_has_as_many_parameters() -> None:
    for preset in ("mumap-demo", "tiny-mumap"):
        settings = load(MumapTrainingSettings, preset)
        for inputs in (1, 2, 4):
            sizes = [
                parameter_count(build(name, {**shape.model_dump(), "inputs": inputs}))
                for name, shape in (("ournet", settings.our), ("muunet", settings.unet))
            ]
            assert abs(sizes[1] / sizes[0] - 1.0) <= 0.03, (preset, inputs, sizes)
