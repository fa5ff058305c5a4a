"""A volume comes back on its own grid, in its own scale, the same each time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_pet import SHAPE, phantom_array

from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, ModelError, OutOfMemory, UsageError
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.inference import sampling_step
from pet_pipeline.inference.options import TranslateOptions, checked
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import ModelFolder
from pet_pipeline.units import Unit

TURNS = [
    Orientation((0, 1, 2), (True, True, False)),  # LPS, what DICOM converters write
    Orientation((2, 0, 1), (False, True, True)),
    Orientation((1, 2, 0), (True, False, True)),
]


@pytest.fixture(scope="module")
def translator(tiny_model: Path) -> Translator:
    return Translator.load(tiny_model, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(phantom_array(), Geometry.regular(SHAPE, (5.0, 5.0, 5.0)), Unit.SUV)


def _oblique(volume: Volume, degrees: float) -> Volume:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Volume(volume.data, Geometry(volume.geometry.shape, turn @ volume.geometry.affine), volume.unit)


def test_every_part_of_the_chain_leaves_its_mark(translator: Translator, volume: Volume) -> None:
    """Guards the other tests: with untrained but not silent networks, input, prior and result all differ."""
    result = translator.translate(volume)
    one_view = translator.translate(volume, TranslateOptions(views=("axial",)))
    for other in (volume.data, result.prior.data, one_view.volume.data):
        assert np.abs(result.volume.data - other).max() > 1e-2
    assert np.corrcoef(result.volume.data.ravel(), volume.data.ravel())[0, 1] > 0.8
    prior = translator.translate(volume, TranslateOptions(prior_only=True))
    np.testing.assert_array_equal(prior.volume.data, result.prior.data)
    assert set(result.timing_s) == {"frame", "prior", "sampling", "back"}
    assert "sampling" not in prior.timing_s


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_axis_order_changes_nothing_in_the_patient(translator: Translator, volume: Volume, turn: Orientation) -> None:
    straight = translator.translate(volume)
    turned = translator.translate(volume.oriented(turn))
    assert turned.volume.geometry.matches(volume.geometry.reoriented(turn), tolerance_mm=1e-9)
    np.testing.assert_allclose(turn.inverse().apply(turned.volume.data), straight.volume.data, atol=1e-5)


@pytest.mark.parametrize("spacing_mm", [(4.07, 4.07, 3.0), (5.0, 5.0, 2.027), (6.0, 6.0, 7.0)])
def test_grids_of_other_spacing_and_tilt_are_kept_exactly(
    translator: Translator, spacing_mm: tuple[float, float, float]
) -> None:
    shape = tuple(round(n * 5.0 / s) for n, s in zip(SHAPE, spacing_mm, strict=True))
    grid = (shape[0], shape[1], shape[2])
    volume = _oblique(Volume(phantom_array(grid), Geometry.regular(grid, spacing_mm), Unit.SUV), 9.0)
    result = translator.translate(volume).volume
    assert result.geometry.shape == grid
    np.testing.assert_array_equal(result.geometry.affine, volume.geometry.affine)
    assert np.corrcoef(result.data.ravel(), volume.data.ravel())[0, 1] > 0.8


def test_twice_the_activity_is_twice_the_result(translator: Translator, volume: Volume) -> None:
    once = translator.translate(volume).volume.data
    twice = translator.translate(volume.with_data(2.0 * volume.data)).volume.data
    np.testing.assert_allclose(twice, 2.0 * once, rtol=1e-5, atol=1e-5)
    assert once.max() > 1.0


def test_seed_and_case_decide_the_noise(translator: Translator, volume: Volume) -> None:
    def run(seed: int, case_id: str) -> np.ndarray:
        return np.asarray(translator.translate(volume, TranslateOptions(seed=seed), case_id).volume.data)

    first = run(0, "a")
    np.testing.assert_array_equal(first, run(0, "a"))
    for other in (run(1, "a"), run(0, "b")):
        assert np.abs(first - other).max() > 1e-3


def test_batches_alter_no_result(translator: Translator, volume: Volume) -> None:
    whole = translator.translate(volume, TranslateOptions(batch_slices=64)).volume.data
    single = translator.translate(volume, TranslateOptions(batch_slices=1)).volume.data
    np.testing.assert_allclose(single, whole, atol=1e-4)


def test_memory_that_runs_out_halves_the_batch_and_draws_the_same(
    translator: Translator, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = translator.translate(volume).volume.data
    tried: list[int] = []
    real = sampling_step.average_paths

    def scarce(limit: int) -> Callable[..., object]:
        def sample(*args: object, batch_slices: int, **kwargs: object) -> object:
            tried.append(batch_slices)
            result = real(*args, batch_slices=batch_slices, **kwargs)  # type: ignore[arg-type]
            if batch_slices > limit:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
            return result

        return sample

    monkeypatch.setattr(sampling_step, "average_paths", scarce(5))
    found = translator.translate(volume, TranslateOptions(batch_slices=16)).volume.data
    assert tried == [16, 8, 4]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    monkeypatch.setattr(sampling_step, "average_paths", scarce(0))
    with pytest.raises(OutOfMemory, match="--batch-slices"):
        translator.translate(volume, TranslateOptions(batch_slices=2))


def test_an_error_that_is_not_memory_is_not_retried(
    translator: Translator, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(sampling_step, "average_paths", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        translator.translate(volume)


def test_outside_the_bodys_box_is_zero(translator: Translator) -> None:
    data = np.zeros((64, 40, 24), np.float32)
    data[2:30, 4:24] = phantom_array((28, 20, 24))
    volume = Volume(data, Geometry.regular((64, 40, 24), (5.0, 5.0, 5.0)), Unit.SUV)
    result = translator.translate(volume).volume.data
    assert not result[45:].any()
    assert result[:30].any()
    assert result.min() >= 0.0


def test_options_that_the_model_cannot_follow(translator: Translator, tiny_model: Path, volume: Volume) -> None:
    with pytest.raises(UsageError, match="views"):
        checked(TranslateOptions, views=("oblique",))
    with pytest.raises(UsageError, match="steps"):
        checked(TranslateOptions, steps=0)
    with pytest.raises(UsageError, match=r"--nstd 0.*takes no noise level"):
        translator.translate(volume, TranslateOptions(nstd=0.2))
    with pytest.raises(UsageError, match=r"--t-start 0\.2: .* starts from noise"):
        translator.translate(volume, TranslateOptions(start="noise", t_start=0.2))
    with pytest.raises(UsageError, match=r"--steps, --t-start, --paths: .* gives its prior, without sampling"):
        translator.translate(volume, TranslateOptions(prior_only=True, steps=2, t_start=0.2, paths=3))
    with pytest.raises(ModelError, match="no-such-model"):
        Translator.load("no-such-model")
    with pytest.raises(UsageError, match=r"cuda|GPU"):
        Translator.load(tiny_model, device="cuda:99")
    with pytest.raises(UsageError, match="fp16"):
        Translator.load(tiny_model, device="cpu", precision="fp16")
    with pytest.raises(InputRefused, match="activity"):
        translator.translate(volume.with_data(np.zeros(SHAPE, np.float32)))


@pytest.mark.parametrize(
    ("t_min", "t_max", "options", "message"),
    [
        (1.0, 1.0, {"start": "noise", "steps": 2}, r"--steps 2, from time 1: .* for times from 1 on"),
        (1.0, 1.0, {"start": "prior", "steps": 1}, r"--steps 1, from time 0\.2: .* for times from 1 on"),
        (0.1, 0.5, {"start": "prior", "steps": 3}, r"--steps 3, from time 0\.2: .* for times from 0\.1 on"),
        (0.0, 0.5, {"start": "noise", "steps": 1}, r"--start noise \(time 1\): .* for times up to 0\.5"),
        (0.0, 0.1, {"start": "prior", "steps": 1}, r"--t-start 0\.2: .* for times up to 0\.1"),
    ],
)
def test_times_that_the_model_has_not_learnt_are_refused(
    translator: Translator, t_min: float, t_max: float, options: dict[str, Any], message: str
) -> None:
    description = translator.model.description
    diffusion = description.diffusion.model_copy(update={"t_min": t_min, "t_max": t_max})
    model = ModelFolder(translator.model.path, description.model_copy(update={"diffusion": diffusion}))
    taught = replace(translator, model=model)
    with pytest.raises(UsageError, match=message):
        taught.sampler(TranslateOptions(**options))
    known = {"start": "noise", "steps": 1} if t_max == 1.0 else {"start": "prior", "steps": 1, "t_start": t_max}
    assert taught.sampler(TranslateOptions(**known)).steps == 1


def test_relative_values_stay_relative(translator: Translator, volume: Volume) -> None:
    result = translator.translate(volume.with_data(volume.data * 1e4, Unit.RELATIVE))
    assert result.volume.unit is Unit.RELATIVE
    assert any("relative" in line for line in result.warnings)
