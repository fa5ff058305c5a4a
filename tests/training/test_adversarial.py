"""The GAN prior: whose weights each part of the loss moves, exact resuming, and a model that is translated like any."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from quiet_progress import Killed, killed_in, silent
from torch import nn

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import AdversarialSettings, TrainingSettings
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.discriminator import PatchDiscriminator3d
from pet_pipeline.models.weights import load_folder
from pet_pipeline.training.adversarial import AdversarialPrior, adversarial_loss
from pet_pipeline.training.madm import train_model

SMALL = (
    "prior.widths=[4,8]", "prior.kind=gan", "prior_optimiser.steps=6", "prior_optimiser.patch=[16,16,16]",
    "prior_optimiser.warmup_steps=1", "adversarial.widths=[4,8]", "adversarial.weight=0.1", "checkpoint_every=2",
    "validate_every=6", "precision=fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three cubes in air: two to train on, one to watch."""
    root = tmp_path_factory.mktemp("cubes")
    rng = np.random.default_rng(0)
    cases = []
    for number in range(3):
        target = np.zeros((20, 20, 20), dtype=np.float32)
        target[3:17, 4:16, 2:18] = 1.0 + 0.2 * number
        paths = {}
        for name, array in (("input", 0.1 * target * rng.gamma(4.0, 0.25, target.shape)), ("noise_free", target)):
            paths[name] = root / f"p{number}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([5.0, 5.0, 5.0, 1.0])), paths[name])
        split = "val" if number == 2 else "train"
        cases.append(Case(f"p{number}", f"sub-{number}", "test", split, dose=5.0, scanner="cube", **paths))
    return Manifest(root, tuple(cases))


def pair() -> AdversarialPrior:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AdversarialPrior(nn.Conv3d(1, 1, 1), PatchDiscriminator3d(AdversarialSettings(widths=(4, 8))))


def gradients(network: AdversarialPrior, weight: float) -> dict[str, torch.Tensor]:
    condition, target = torch.randn((2, 2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    network.zero_grad()
    loss = adversarial_loss(network, {"condition": condition, "target": target, "weight": torch.tensor([weight])})
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_each_network_has_the_gradient_of_its_own_loss() -> None:
    network = pair()
    without, weighed = gradients(network, 0.0), gradients(network, 2.0)
    for name, gradient in without.items():
        same = torch.allclose(gradient, weighed[name], atol=1e-7)
        assert same == name.startswith("discriminator"), name  # its own loss knows no weight; the generator's does
    condition, target = torch.randn((2, 2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    network.zero_grad()
    made = network.generator(condition)
    wanted = (made - target).abs().mean() - 2.0 * network.discriminator(condition, made).mean()
    wanted.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(network.generator.weight.grad, weighed["generator.weight"])


def test_the_discriminator_learns_to_tell_and_its_verdict_moves_the_generator() -> None:
    network = pair()
    nn.init.zeros_(network.generator.bias)  # an image of 0, where 1 is real
    condition = torch.zeros((2, 1, 8, 8, 8))
    batch = {"condition": condition, "target": condition + 1.0, "weight": torch.tensor([0.0])}
    optimiser = torch.optim.AdamW(network.discriminator.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        adversarial_loss(network, batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    images = (batch["target"], network.generator(condition))
    real, fake = (network.discriminator(condition, image).mean() for image in images)
    assert real > 0.5 > -0.5 > fake
    bias = gradients_at(network, batch | {"weight": torch.tensor([5.0])}) - gradients_at(network, batch)
    assert bias < 0.0  # the step goes up, towards what looks real


def test_in_half_precision_a_gradient_depends_on_the_batch_alone() -> None:
    """Freed memory full of NaN between the passes: a gradient that is read from it shows them."""
    both = AdversarialPrior(nn.Conv3d(1, 1, 1), PatchDiscriminator3d(AdversarialSettings()))
    batch = {name: torch.rand(1, 1, 16, 16, 16) for name in ("condition", "target")} | {"weight": torch.ones(1)}
    found = []
    for _ in range(10):
        both.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = adversarial_loss(both, batch)
        for size in range(6, 22):
            del [torch.full((3 << size,), torch.nan, dtype=torch.bfloat16) for _ in range(4)][:]
        loss.backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in both.parameters()]))  # type: ignore[union-attr]
    assert all(torch.equal(one, found[0]) for one in found)


def gradients_at(network: AdversarialPrior, batch: dict[str, torch.Tensor]) -> float:
    network.zero_grad()
    adversarial_loss(network, batch).backward()  # type: ignore[no-untyped-call]
    return float(network.generator.bias.grad)


def test_a_killed_run_goes_on_exactly_and_gives_a_plain_model(cohort: Manifest, tmp_path: Path) -> None:
    settings = load(TrainingSettings, "tiny", SMALL)
    unbroken = train_model(cohort, settings, tmp_path / "unbroken", progress=silent, task="prior")
    with pytest.raises(Killed):
        train_model(
            cohort, settings, tmp_path / "broken", progress=lambda d, _t: killed_in("prior", 5, d), task="prior"
        )
    resumed = train_model(cohort, settings, tmp_path / "broken", progress=silent, task="prior", resume=True)
    curves = [
        [json.loads(line)["loss"] for line in (run / "stages" / "prior" / "losses.jsonl").read_text().splitlines()]
        for run in (tmp_path / "unbroken", tmp_path / "broken")
    ]
    assert len(curves[0]) == 6
    assert curves[0] == curves[1]
    first, second = load_folder(unbroken).description, load_folder(resumed).description
    assert first.networks["prior"].sha256 == second.networks["prior"].sha256
    assert set(first.networks) == {"prior"}
    assert first.networks["prior"].settings["kind"] == "gan"
    assert Translator.load(resumed, device="cpu").prior_network.settings.kind == "gan"
    plain = load(TrainingSettings, "tiny", [*SMALL, "prior.kind=regression"])
    other = train_model(cohort, plain, tmp_path / "plain", progress=silent, task="prior")
    assert load_folder(other).description.networks["prior"].sha256 != first.networks["prior"].sha256


def test_sites_do_not_exchange_a_discriminator() -> None:
    training = load(TrainingSettings, "tiny", ["prior.kind=gan", "folds=1"])
    with pytest.raises(ValueError, match="regression"):
        FederatedSettings(training=training)
