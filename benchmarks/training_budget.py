"""Parameters and training compute of presets, counted: what makes an opponent fair.

python benchmarks/training_budget.py demo demo-opponent
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.models.registry import build, parameter_count

BACKWARD = 3
"""A training step costs about three forward passes."""


def forward_flops(network: torch.nn.Module, *inputs: torch.Tensor) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="+", help="those named *-opponent are priors alone")
    print("| preset | parameters | training, PFLOP | prior's share |\n|---|---|---|---|")
    for name in parser.parse_args().presets:
        settings = load(TrainingSettings, name)
        patch, optimiser = settings.prior_optimiser.patch, settings.prior_optimiser
        network = build("prior3d", settings.prior.model_dump())
        passes = settings.folds + 1 if settings.folds > 1 and not name.endswith("-opponent") else 1
        parameters = parameter_count(network)
        prior = (
            passes * optimiser.steps * optimiser.batch * BACKWARD * forward_flops(network, torch.zeros(1, 1, *patch))
        )
        views = 0.0
        if not name.endswith("-opponent"):
            crop, optimiser = settings.denoiser_optimiser.crop, settings.denoiser_optimiser
            network = build("unet25d", settings.denoiser.model_dump())
            parameters += 3 * parameter_count(network)
            channels = settings.denoiser.condition_channels
            inputs = (torch.zeros(1, 1, crop, crop), torch.zeros(1), torch.zeros(1, channels, crop, crop))
            views = 3 * optimiser.steps * optimiser.batch * BACKWARD * forward_flops(network, *inputs)
        total = prior + views
        print(f"| {name} | {parameters / 1e6:.2f} M | {total / 1e15:.3f} | {prior / total:.0%} |")


if __name__ == "__main__":
    main()
