"""Mean and spread of paths, on volumes and denoisers whose answers are known."""

import math

import pytest
import torch

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.diffusion.multipath import Paths, Spread, average_paths
from pet_pipeline.diffusion.multiview import Task, ViewDenoiser, sample_volume
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.types import View

SHAPE = (8, 10, 12)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def leaky(view: View) -> ViewDenoiser:
    """Its x_0: the condition, a tenth of the noise it sees, and one for every axis number of its view."""

    def predict(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return features + 0.1 * x + view.axis

    return ViewDenoiser(view, lambda slab: slab, predict, 0)


def run(count: int, *, batch: int = 4, **settings: object) -> Paths:
    task = Task(torch.full(SHAPE, 2.0), Objective("x0"))
    sampler = SamplerSettings.model_validate({"start": "noise", "steps": 1} | settings)
    return average_paths(
        task, [leaky(view) for view in View], sampler, generators(count), torch.exp, views_apart=True,
        batch_slices=batch, feature_bytes=1 << 20,
    )  # fmt: skip


def test_spread_is_mean_and_variance_of_all_volumes_at_once() -> None:
    volumes = 1000.0 + torch.randn((7, *SHAPE), generator=torch.Generator().manual_seed(3))
    spread = Spread()
    for number, volume in enumerate(volumes):
        assert (spread.variance is None) == (number < 2)
        spread.add(volume)
        volume.zero_()  # nothing of what was added is kept by reference
    expected = 1000.0 + torch.randn((7, *SHAPE), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(spread.mean, expected.mean(0))
    assert spread.variance is not None
    torch.testing.assert_close(spread.variance, expected.double().var(0).float(), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="no volume"):
        _ = Spread().mean


@pytest.mark.parametrize("fusion", ["x0", "sample"])
def test_paths_and_views_are_told_apart(fusion: str) -> None:
    many = run(40, fusion=fusion)
    assert many.between_paths is not None
    assert many.between_views is not None
    noises = torch.stack([torch.randn(SHAPE, generator=one) for one in generators(40)])
    each = torch.exp(3.0 + 0.1 * noises)  # views 0, 1, 2 in the mean: one
    torch.testing.assert_close(many.mean, each.mean(0))
    torch.testing.assert_close(many.between_paths, each.var(0), rtol=1e-3, atol=1e-2)
    views = torch.exp(2.0 + 0.1 * noises + torch.arange(3.0).view(3, 1, 1, 1, 1))
    torch.testing.assert_close(many.between_views, views.var(0).mean(0), rtol=1e-3, atol=1e-2)


def test_a_path_is_what_it_would_be_alone_whatever_the_batch() -> None:
    one = run(1)
    assert one.between_paths is None
    sampler = SamplerSettings(start="noise", steps=1)
    task = Task(torch.full(SHAPE, 2.0), Objective("x0"))
    alone = sample_volume(task, [leaky(view) for view in View], sampler, generators(1)[0])
    assert torch.equal(one.mean, alone.exp())
    for batch in (1, 64):
        other = run(3, batch=batch)
        torch.testing.assert_close(other.mean, run(3).mean)
        assert other.between_paths is not None
        torch.testing.assert_close(other.between_paths, run(3).between_paths)


def test_one_view_disagrees_with_nobody() -> None:
    assert run(2, views=("axial",)).between_views is None


def test_features_are_shared_and_progress_counts_all_paths() -> None:
    embedded, told = [], []

    def embed(slab: torch.Tensor) -> torch.Tensor:
        embedded.append(len(slab))
        return slab

    average_paths(
        Task(torch.zeros(SHAPE), Objective("x0")),
        [ViewDenoiser(View.AXIAL, embed, lambda x, t, features: features, 0)],
        SamplerSettings(start="noise", steps=2, views=("axial",)),
        generators(3),
        torch.exp,
        batch_slices=5,
        feature_bytes=1 << 20,
        progress=lambda done, total: told.append((done, total)),
    )
    assert sum(embedded) == SHAPE[2]
    calls = 3 * 2 * math.ceil(SHAPE[2] / 5)
    assert told == [(i + 1, calls) for i in range(calls)]
