"""Settings from presets, files and overrides: what is unknown or wrong is named."""

import re
from pathlib import Path

import pytest
import yaml

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import dump, load, preset_names
from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.configs.schema import DenoiserSettings, TrainingSettings
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.errors import UsageError


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_its_schema(name: str) -> None:
    if name.startswith("cohort-"):
        assert load(CohortSettings, name)
    elif "mumap" in name:
        assert load(MumapTrainingSettings, name)
    elif "federated" in name:
        assert load(FederatedSettings, name)
    else:
        assert load(TrainingSettings, name)


def test_the_reference_set_up_is_the_published_one() -> None:
    paper = load(TrainingSettings, "madm-paper")
    assert paper.denoiser.widths[0] == 136
    assert paper.denoiser.slab_half_width == 8
    assert paper.denoiser_optimiser.crop == 192
    assert paper.diffusion.timesteps == 1000
    assert (paper.sampler.solver, paper.sampler.fusion, paper.sampler.steps, paper.sampler.t_start) == (
        "ddpm", "sample", 200, 0.2,
    )  # fmt: skip


def test_overrides_reach_into_groups_and_are_read_as_yaml() -> None:
    settings = load(
        TrainingSettings,
        "tiny",
        ["denoiser_optimiser.learning_rate=3e-4", "denoiser.widths=[8,16]", "denoiser.attention_levels=[]"],
    )
    assert settings.denoiser_optimiser.learning_rate == 3e-4
    assert settings.denoiser.widths == (8, 16)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("denoiser.width=[8]", "denoiser.width"),
        ("seed=many", "seed"),
        ("seed", "key=value"),
        ("folds.deep=1", "folds is a value"),
        ("denoiser.attention_levels=[7]", "attention_levels"),
        ("denoiser.prior_half_width=-1", "residual_on_prior needs"),
        ("prior.widths=[16]", "prior.widths: Tuple should have at least 2 items"),
        ("denoiser.widths=[]", "denoiser.widths: Tuple should have at least 1 item"),
        ("denoiser.widths=[33,64,64,64]", "widths begin with 33; above 32 needed is an even number"),
        ("sampler.window=50", "sampler.window of [50] voxels: needed are multiples of 8"),
        ("denoiser_optimiser.crop=50", "denoiser_optimiser.crop of [50] voxels: needed are multiples of 8"),
        ("prior_optimiser.patch=[32,34,32]", "prior_optimiser.patch of [32, 34, 32] voxels: needed are multiples of 4"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        load(TrainingSettings, "tiny", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grid.spacing_mm=[4,5,5]", "water_correction on voxels of 4 x 5 mm: needed are square ones"),
        ("later_optimiser.patch=[16,18,16]", "later_optimiser.patch of [16, 18, 16] voxels: needed are multiples of 4"),
    ],
)
def test_what_mumap_networks_cannot_take_is_named(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        load(MumapTrainingSettings, "tiny-mumap", [override])
    assert load(MumapTrainingSettings, "tiny-mumap", [override, "method=diffusion"])


def test_the_water_correction_needs_square_voxels() -> None:
    with pytest.raises(UsageError, match="water_correction on voxels of 4 x 5 mm: needed are square ones"):
        load(TrainingSettings, "demo", ["grid.spacing_mm=[4,5,5]"])
    assert load(TrainingSettings, "tiny", ["grid.spacing_mm=[4,5,5]"])


def test_neither_preset_nor_file_lists_the_presets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="madm-fast"):
        load(TrainingSettings, "tinny")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UsageError, match="mapping"):
        load(TrainingSettings, tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="not valid YAML"):
        load(TrainingSettings, tmp_path / "broken.yaml")


def test_the_resolved_copy_makes_the_same_settings_again(tmp_path: Path) -> None:
    settings = load(TrainingSettings, "demo", ["seed=5"])
    dump(settings, tmp_path / "settings.yaml")
    assert load(TrainingSettings, tmp_path / "settings.yaml") == settings
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["seed"] == 5


def test_condition_channels_count_both_slabs() -> None:
    assert DenoiserSettings(slab_half_width=4, prior_half_width=1).condition_channels == 9 + 3
    assert DenoiserSettings(slab_half_width=8, prior_half_width=-1, residual_on_prior=False).condition_channels == 17
