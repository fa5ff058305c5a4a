"""Fusion of views on callables whose answers are known."""

import math

import pytest
import torch

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.diffusion.multiview import Task, ViewDenoiser, sample_volume
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.diffusion.samplers import noised, sample
from pet_pipeline.diffusion.schedules import alpha_sigma_at, time_grid
from pet_pipeline.types import View

SHAPE = (8, 10, 12)
OBJECTIVE = Objective("velocity", 0.5)


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pointwise(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """A denoiser that looks at one pixel: any view, window or batch gives the same."""
    return torch.tanh(0.7 * x + 0.3 * features[:, :1] - t.to(x).view(-1, 1, 1, 1))


def denoisers(half_width: int = 1, prior_half_width: int = 0, predict=pointwise) -> list[ViewDenoiser]:
    """Features: the middle slice of the condition plus twice that of the prior."""

    def embed(slab: torch.Tensor) -> torch.Tensor:
        assert slab.shape[1] == 2 * half_width + 1 + 2 * prior_half_width + 1
        middle = 2 * half_width + 1 + prior_half_width
        return slab[:, half_width : half_width + 1] + 2.0 * slab[:, middle : middle + 1]

    return [ViewDenoiser(view, embed, predict, half_width, prior_half_width) for view in View]


def task(**options: object) -> Task:
    return Task(volume(1), OBJECTIVE, volume(2), **({"residual": True} | options))  # type: ignore[arg-type]


def run(given: Task, networks: list[ViewDenoiser], seed: int = 0, batch: int = 5, **settings: object) -> torch.Tensor:
    return sample_volume(
        given,
        networks,
        SamplerSettings.model_validate({"steps": 4, "t_start": 0.5} | settings),
        torch.Generator().manual_seed(seed),
        batch_slices=batch,
    )


def single_volume_reference(given: Task, seed: int, solver: str, steps: int, t_start: float) -> torch.Tensor:
    """The same pointwise denoiser run on the whole volume at once."""
    assert given.prior is not None
    features = (given.condition + 2.0 * given.prior)[None, None]

    def predict_x0(x_t: torch.Tensor, t: float) -> torch.Tensor:
        time = torch.tensor(t, dtype=torch.float64)
        seen = given.objective.network_input(x_t, time, given.shift)
        predicted = pointwise(seen.flatten(1)[None, None], time, features.flatten(3)).reshape(seen.shape)
        return given.objective.to_x0(predicted, x_t, time, given.shift)

    generator = torch.Generator().manual_seed(seed)
    start = noised(given.prior, t_start, generator)
    return sample(predict_x0, start, time_grid(t_start, steps), solver, generator)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp2m"])
@pytest.mark.parametrize("residual", [True, False])
def test_agreeing_views_are_one_view_and_the_whole_volume(solver: str, residual: bool) -> None:
    given = task(residual=residual)
    three = run(given, denoisers(), solver=solver)
    one = run(given, denoisers(), solver=solver, views=("coronal",))
    torch.testing.assert_close(three, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(three, single_volume_reference(given, 0, solver, 4, 0.5), rtol=1e-4, atol=1e-5)


def test_batches_windows_and_memory_do_not_change_the_result() -> None:
    given = task()
    whole = run(given, denoisers())
    torch.testing.assert_close(run(given, denoisers(), batch=1), whole)
    torch.testing.assert_close(run(given, denoisers(), batch=64), whole)
    windowed = run(given, denoisers(), window=4, window_overlap=0.25)
    torch.testing.assert_close(windowed, whole, rtol=1e-5, atol=1e-5)
    settings = SamplerSettings(steps=4, t_start=0.5)
    forgetful = sample_volume(given, denoisers(), settings, torch.Generator().manual_seed(0), feature_bytes=0)
    torch.testing.assert_close(forgetful, whole)


def test_features_are_embedded_once_while_memory_allows() -> None:
    calls = []

    def embed(slab: torch.Tensor) -> torch.Tensor:
        calls.append(len(slab))
        return slab

    network = [ViewDenoiser(View.AXIAL, embed, pointwise, 1)]
    settings = SamplerSettings(steps=3, views=("axial",))
    for feature_bytes, expected in ((2 << 30, 12), (0, 36)):
        calls.clear()
        sample_volume(
            task(), network, settings, torch.Generator().manual_seed(0), batch_slices=5, feature_bytes=feature_bytes
        )
        assert sum(calls) == expected


def test_views_see_their_own_slices() -> None:
    """A denoiser that averages each slice in plane: what is left tells the views apart."""

    def flat(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(2, 3), keepdim=True).expand(x.shape)

    given = Task(volume(1), Objective("x0"))
    for view, others in ((View.AXIAL, (0, 1)), (View.CORONAL, (0, 2)), (View.SAGITTAL, (1, 2))):
        networks = [ViewDenoiser(view, lambda slab: slab, flat, 0)]
        out = run(given, networks, start="noise", steps=1, views=(view.value,))
        torch.testing.assert_close(out, given.condition.mean(dim=others, keepdim=True).expand(SHAPE))


def test_reference_rule_injects_noise_too_small_by_the_root_of_three() -> None:
    """With a denoiser that always says zero, only injected noise is left before the last step."""

    def nothing(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    shape = (32, 32, 32)
    spreads: dict[str, list[float]] = {"x0": [], "sample": []}

    def watch(fusion: str):  # records the sample that the networks are shown
        def predict(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            spreads[fusion].append(float(x.square().mean()))
            return nothing(x, t, features)

        return predict

    t_start, steps = 0.5, 2
    for fusion in ("x0", "sample"):
        networks = [ViewDenoiser(view, lambda slab: slab, watch(fusion), 0) for view in View]
        given = Task(torch.zeros(shape), Objective("x0"), torch.zeros(shape))
        run(given, networks, batch=32, solver="ddpm", fusion=fusion, steps=steps, t_start=t_start)
    # variance after one step to s: what is kept of the start plus what is injected, the latter a third with `sample`
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma_at(t_start), alpha_sigma_at(t_start / 2)
    ratio = alpha_t / alpha_s
    kept = (ratio * sigma_s**2 / sigma_t) ** 2
    injected = (sigma_t**2 - (ratio * sigma_s) ** 2) * (sigma_s / sigma_t) ** 2
    assert kept + injected == pytest.approx(sigma_s**2)  # the level that a network is trained for
    assert spreads["x0"][3] == pytest.approx(sigma_s**2, rel=0.03)
    assert spreads["sample"][3] == pytest.approx(kept + injected / 3, rel=0.03)
    assert math.sqrt((spreads["x0"][3] - kept) / (spreads["sample"][3] - kept)) == pytest.approx(math.sqrt(3), rel=0.05)


def test_fusion_rules_agree_where_no_noise_is_injected() -> None:
    def own(view: View):
        return lambda x, t, features: pointwise(x, t, features) * (1.0 + 0.1 * view.axis)

    base = denoisers()
    networks = [ViewDenoiser(d.view, d.embed, own(d.view), d.slab_half_width, d.prior_half_width) for d in base]
    given = task()
    torch.testing.assert_close(run(given, networks), run(given, networks, fusion="sample"), rtol=1e-4, atol=1e-5)


def test_air_is_skipped_and_holds_the_prior() -> None:
    body = torch.zeros(SHAPE, dtype=torch.bool)
    body[2:6, 1:9, 3:10] = True
    seen: list[int] = []

    def counting(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return pointwise(x, t, features)

    given = task(body=body)
    out = run(given, denoisers(predict=counting), steps=1)
    assert sum(seen) == (6 - 2) + (9 - 1) + (10 - 3)
    whole = run(task(), denoisers(), steps=1)
    assert given.prior is not None
    torch.testing.assert_close(out[body], whole[body])
    assert torch.equal(out[~body], given.prior[~body])


def test_progress_counts_every_network_call() -> None:
    told: list[tuple[int, int]] = []
    sample_volume(
        task(),
        denoisers(),
        SamplerSettings(steps=2),
        torch.Generator().manual_seed(0),
        batch_slices=4,
        progress=lambda done, total: told.append((done, total)),
    )
    calls = 2 * (2 + 3 + 3)
    assert told == [(i + 1, calls) for i in range(calls)]


def test_the_generator_decides_the_result() -> None:
    given = task()
    for solver, fusion in (("ddim", "x0"), ("ddpm", "sample")):
        first = run(given, denoisers(), solver=solver, fusion=fusion)
        assert torch.equal(run(given, denoisers(), solver=solver, fusion=fusion), first)
        assert not torch.equal(run(given, denoisers(), seed=1, solver=solver, fusion=fusion), first)


def test_what_is_missing_is_named() -> None:
    axial = [d for d in denoisers() if d.view is View.AXIAL]
    with pytest.raises(ValueError, match="coronal, sagittal"):
        run(task(), axial)
    without = Task(volume(1), OBJECTIVE)
    with pytest.raises(ValueError, match="takes slices of a prior"):
        run(without, denoisers())
    with pytest.raises(ValueError, match="start from noise"):
        run(without, [ViewDenoiser(view, lambda slab: slab, pointwise, 0) for view in View])
    with pytest.raises(ValueError, match="needs a prior"):
        Task(volume(1), OBJECTIVE, residual=True)


@pytest.mark.parametrize("fusion", ["x0", "sample"])
def test_mirroring_changes_nothing_for_a_network_without_a_side(fusion: str) -> None:
    given = task(body=volume(3) > 0.8)
    plain, mirrored = (run(given, denoisers(), solver="ddim", fusion=fusion, mirror=mirror) for mirror in (False, True))
    torch.testing.assert_close(mirrored, plain, rtol=1e-4, atol=1e-5)


def test_mirroring_averages_a_network_with_its_mirror_image() -> None:
    def looks_left(x: torch.Tensor, t: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.roll(features, 1, dims=-2)  # x runs along the rows of axial slices

    def estimate(given: Task, mirror: bool) -> torch.Tensor:
        networks = denoisers(predict=looks_left)
        return run(given, networks, solver="ddim", steps=1, start="noise", views=("axial",), mirror=mirror)

    given = Task(volume(1), Objective("x0", 0.5), volume(2))
    swapped = Task(volume(1).flip(0), Objective("x0", 0.5), volume(2).flip(0))
    expected = (estimate(given, False) + estimate(swapped, False).flip(0)) / 2.0
    torch.testing.assert_close(estimate(given, True), expected)
    assert not torch.allclose(estimate(given, False), expected)
