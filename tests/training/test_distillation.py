"""A finished run trained on for one step: a model folder like any other, from the run's own cases and estimates."""

import shutil
from pathlib import Path

import pytest
import torch
from quiet_progress import Killed, killed_in, silent
from torch import Tensor

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.configs.unusual import SketchNetSettings
from pet_pipeline.data.dataset import PackedCase, packed_in
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.errors import ModelError, UsageError
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.watchers import Watchers
from pet_pipeline.models.weights import load_folder, network, watchers, with_unusual
from pet_pipeline.training.distillation import distil, one_step_settings
from pet_pipeline.training.estimates import unit_normalisation
from pet_pipeline.training.madm import train_model
from pet_pipeline.training.steps import activity_weights, denoiser_batch, denoiser_loss
from pet_pipeline.types import View

SMALL = (
    "folds=1", "prior.widths=[4,8]", "denoiser.widths=[8,8]", "denoiser.attention_levels=[]",
    "prior_optimiser.steps=2", "prior_optimiser.patch=[16,16,16]", "denoiser_optimiser.steps=2",
    "denoiser_optimiser.crop=16", "denoiser_optimiser.batch=8", "sampler.steps=3", "precision=fp32", "device=cpu",
)  # fmt: skip

FEW = ("denoiser_optimiser.steps=12", "denoiser_optimiser.warmup_steps=1", "denoiser_optimiser.learning_rate=0.01")


@pytest.fixture(scope="module")
def finished(cohort: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_model(cohort, load(TrainingSettings, "tiny", SMALL), folder, progress=silent)
    return folder


def estimated(run: Path) -> list[PackedCase]:
    return [case for case in packed_in(run / "packed") if case.has("prior")]


def test_the_result_is_a_model_of_one_step_with_the_prior_and_better_views(
    finished: Path, cohort: Manifest, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    settings = one_step_settings(finished, FEW)
    objective = Objective.from_settings(settings.diffusion, residual_on_prior=True)
    unbroken = load_folder(distil(finished, settings, tmp_path / "unbroken", progress=silent))
    with pytest.raises(Killed):
        distil(finished, settings, tmp_path / "broken", progress=lambda d, _t: killed_in("coronal", 5, d))
    resumed = load_folder(distil(finished, settings, tmp_path / "broken", progress=silent, resume=True))
    hashes = [{role: one.sha256 for role, one in folder.description.networks.items()} for folder in (unbroken, resumed)]
    assert hashes[0] == hashes[1]
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before

    old = load_folder(finished / "model")
    sampler = unbroken.description.sampler
    assert (sampler.steps, sampler.start, sampler.mirror, old.description.sampler.steps) == (1, "noise", False, 3)
    assert unbroken.description.networks["prior"].sha256 == old.description.networks["prior"].sha256
    for view in View:
        unseen = denoiser_batch(estimated(finished), settings, view, "unseen", 0, range(8))
        taught, untaught = (
            float(denoiser_loss(network(folder, view.value), unseen, objective, residual=True))
            for folder in (unbroken, old)
        )
        assert taught < 0.9 * untaught
    made = Translator.load(unbroken, precision="fp32").translate(read(cohort.cases[0].input)[0])
    assert bool(torch.isfinite(torch.from_numpy(made.volume.data)).all())


def test_the_network_that_tells_unusual_inputs_goes_along(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    taught = Watchers(SketchNet(SketchNetSettings(kinds=("upside_down",))))
    with_unusual(load_folder(run / "model"), run / "model", taught, {"upside_down": 0.5}, {}, {})
    settings = one_step_settings(run, ("denoiser_optimiser.steps=1", "denoiser_optimiser.warmup_steps=0"))
    made = load_folder(distil(run, settings, tmp_path / "out", progress=silent))
    assert made.description.unusual == load_folder(run / "model").description.unusual
    assert watchers(made) is not None


def test_it_learns_at_the_time_that_the_sampler_asks_about(finished: Path) -> None:
    settings = one_step_settings(finished)
    assert denoiser_batch(estimated(finished), settings, View.AXIAL, "axial", 0, range(4))["t"].tolist() == [1.0] * 4
    assert settings.sampler.first_time == 1.0


def test_activity_weighting_counts_errors_as_squared_errors_of_suv() -> None:
    settings = load(TrainingSettings, "tiny", ["diffusion.activity_weighting=2"])
    normalisation, weigh = unit_normalisation(settings.normalisation), activity_weights(settings)
    draw = torch.Generator().manual_seed(0)
    target = 6.0 * torch.rand((2, 1, 8, 8), generator=draw, dtype=torch.float64)
    still = {"target": target, "noise": torch.zeros_like(target), "t": torch.ones(2), "condition": target}
    ratios = []
    for brightest in (False, True):
        error = torch.where((target > 4.0) == brightest, 1e-4, 0.0)

        def said(*_: object, error: Tensor = error) -> Tensor:
            return target + error

        objective = Objective("x0")
        loss = denoiser_loss(said, still, objective, residual=False, weigh=weigh)  # type: ignore[arg-type]
        suv = normalisation.inverse(target + error) - normalisation.inverse(target)
        ratios.append(float(loss / suv.square().mean()))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-2)
    assert activity_weights(load(TrainingSettings, "tiny")) is None


def test_a_folder_without_a_run_its_views_or_its_cases_is_refused(
    finished: Path, cohort: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no run"):
        one_step_settings(tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "settings.yaml").write_bytes((finished / "settings.yaml").read_bytes())
    with pytest.raises(ModelError, match="needed is a model folder"):
        one_step_settings(bare)
    (bare / "model").symlink_to(finished / "model")
    with pytest.raises(UsageError, match="no packed training cases with estimates"):
        distil(bare, one_step_settings(bare), tmp_path / "out", progress=silent)
    train_model(cohort, load(TrainingSettings, "tiny", SMALL), tmp_path / "prior", progress=silent, task="prior")
    with pytest.raises(UsageError, match="of task prior"):
        one_step_settings(tmp_path / "prior")
