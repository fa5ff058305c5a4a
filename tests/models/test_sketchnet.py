"""The network that looks at sketches: what a body turned over does to its scores."""

import pytest
import torch

from pet_pipeline.configs.unusual import KINDS, TURNED, Kind, SketchNetSettings
from pet_pipeline.models.sketchnet import SketchNet


@pytest.fixture
def network() -> SketchNet:
    torch.manual_seed(0)
    return SketchNet(SketchNetSettings(widths=(4, 4, 4))).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", TURNED)
def test_a_body_turned_over_has_the_score_of_the_opposite_sign(kind: Kind, network: SketchNet) -> None:
    sketch = 5.0 * torch.rand(2, 9, 8, 13, generator=torch.Generator().manual_seed(1))
    index = KINDS.index(kind)
    usual, turned = network(sketch[None])[0, index], network(sketch.flip(TURNED[kind])[None])[0, index]
    assert abs(usual) > 1e-3
    assert float(turned) == pytest.approx(-float(usual), abs=1e-5)


def test_a_score_does_not_depend_on_the_rest_of_its_batch(network: SketchNet) -> None:
    one, other = torch.rand(2, 2, 9, 8, 13)
    together = network(torch.stack([one, other]))
    torch.testing.assert_close(together[0], network(one[None])[0])
    torch.testing.assert_close(together[1], network(other[None])[0])
