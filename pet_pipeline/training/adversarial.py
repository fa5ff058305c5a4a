"""The conditional GAN prior: the regression prior's network, learnt by L1 and against a patch discriminator.

Both networks are one module with one loss whose parts reach one of them each, so that the same loop, AdamW and
checkpoint serve both: AdamW keeps moments of every parameter by itself, and a resumed run goes on exactly.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.models.discriminator import PatchDiscriminator3d
from pet_pipeline.training.loop import Batch
from pet_pipeline.training.steps import prior_batch


class AdversarialPrior(nn.Module):
    """A generator (condition -> first estimate) and the discriminator that it learns against.

    Args:
        generator: the prior.
        discriminator: of the same condition.
    """

    def __init__(self, generator: nn.Module, discriminator: PatchDiscriminator3d) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator


def adversarial_batch(
    cases: Sequence[PackedCase], settings: TrainingSettings, stage: str, step: int, examples: range
) -> Batch:
    """`prior_batch` and the `weight` (1,) of the discriminator's opinion at this step: 0 while L1 alone is learnt."""
    alone = settings.adversarial.l1_share * settings.prior_optimiser.steps
    weight = settings.adversarial.weight if step >= alone else 0.0
    return {**prior_batch(cases, settings, stage, step, examples), "weight": torch.tensor([weight])}


def adversarial_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Hinge losses of both networks and the generator's L1.

    |G - y| - w D(c, G) + max(0, 1 - D(c, y)) + max(0, 1 + D(c, G)), with condition c, target y and G = G(c). The second
    term sees the discriminator's weights as constants, the last two the generator's image.
    """
    assert isinstance(network, AdversarialPrior)
    condition, target = batch["condition"], batch["target"]
    made: Tensor = network.generator(condition).float()
    frozen = {name: value.detach() for name, value in network.discriminator.named_parameters()}
    opinion: Tensor = functional_call(network.discriminator, frozen, (condition, made))
    real = network.discriminator(condition, target)
    fake = network.discriminator(condition, made.detach())
    hinge = F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()
    total: Tensor = (made - target).abs().mean() - batch["weight"][0] * opinion.float().mean() + hinge
    return total
