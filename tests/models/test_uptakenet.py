"""The network that judges organs' uptake: what its scores may not depend on."""

import pytest
import torch
import torch.nn.functional as F

from pet_pipeline.configs.unusual import UptakeNetSettings
from pet_pipeline.models.uptakenet import UptakeNet


@pytest.fixture
def network() -> UptakeNet:
    torch.manual_seed(0)
    return UptakeNet(UptakeNetSettings(widths=(4, 6, 8), hidden=8, organs=("liver", "brain"))).eval()


def test_scores_do_not_depend_on_air_or_on_the_rest_of_the_batch(network: UptakeNet) -> None:
    one, other = torch.rand(2, 2, 9, 8, 13)
    padded = F.pad(torch.stack([one, other]), (0, 8, 0, 4, 0, 4))
    alone = torch.cat([network.odds(sketch[None]) for sketch in (one, other)])
    assert network(padded).organs.shape == (2 * 9 * 8 * 13, 3)
    # Convolutions of stride 2 reach beyond the body's edge by a cell more where air was added; nothing else differs.
    torch.testing.assert_close(network.odds(padded), alone, rtol=0.0, atol=0.02)
    torch.testing.assert_close(network.odds(torch.stack([one, other])), alone)


def test_the_judge_sees_organs_alone(network: UptakeNet) -> None:
    """What the U-Net calls no organ may be as hot as it likes; what it calls liver may not."""
    sketch = torch.rand(1, 2, 9, 8, 13)
    with torch.no_grad():
        network.organ.weight.zero_()
        network.organ.bias.copy_(torch.tensor([-30.0, -30.0, 0.0]))
        hot = sketch * torch.tensor([3.0, 1.0]).view(1, 2, 1, 1, 1)
        torch.testing.assert_close(network.odds(hot), network.odds(sketch))
        network.organ.bias.copy_(torch.tensor([0.0, -30.0, -30.0]))
        assert (network.odds(hot) - network.odds(sketch)).abs() > 1e-4
