"""What tells unusual inputs is taught on any cohort, goes on as it began, and gives so many false alarms in all."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from quiet_progress import silent
from safetensors import safe_open
from safetensors.torch import save_file

from pet_pipeline.configs.schema import GridSettings, OptimiserSettings
from pet_pipeline.configs.unusual import UnusualSettings
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.weights import load_folder
from pet_pipeline.training.sketches import sketched
from pet_pipeline.training.unusual import joint_limits, teach

FEW = UnusualSettings(
    least_participants=2,
    optimiser=OptimiserSettings(steps=2, batch=4, warmup_steps=1, learning_rate=1e-3),
    uptake_optimiser=OptimiserSettings(steps=2, batch=4, warmup_steps=1, learning_rate=1e-3),
)


@pytest.mark.parametrize("shared", [0.0, 0.9, 1.0])
def test_limits_give_the_asked_share_of_alarms_by_any_kind(shared: float) -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4000, 1))
    scores = np.sqrt(shared) * common + np.sqrt(1.0 - shared) * rng.normal(size=(4000, 4)) * [1.0, 2.0, 5.0, 1.0]
    alarms = (scores > joint_limits(scores, 0.05)).any(axis=1).mean()
    assert alarms == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("label", "organs"), [(7, 1), (101, 0)], ids=["an organ", "a lesion alone"])
def test_labels_without_an_organ_tell_nothing(label: int, organs: int, cohort: Manifest, tmp_path: Path) -> None:
    labels = np.zeros((24, 24, 24), np.int16)
    labels[10:14, 10:14, 10:14] = label
    nib.save(nib.Nifti1Image(labels, np.diag([5.0, 5.0, 5.0, 1.0])), tmp_path / "labels.nii.gz")
    case = replace(cohort.cases[0], labels=tmp_path / "labels.nii.gz", target=cohort.cases[0].input)
    (shown,) = sketched([case], GridSettings(spacing_mm=(5.0, 5.0, 5.0)), "input", kinds_too=True).usual
    assert list(shown.organs) == ["label_7"] * organs


def test_a_teaching_that_began_otherwise_is_refused_in_a_line(
    cohort: Manifest, tiny_model: Path, tmp_path: Path
) -> None:
    def taught(settings: UnusualSettings) -> None:
        run = tmp_path / "run"
        teach(load_folder(tiny_model), cohort, tmp_path / "model", run, settings=settings, progress=silent)

    taught(FEW)
    taught(FEW)
    with pytest.raises(UsageError, match=r"checkpoint.safetensors: written under other settings \(seed: 0 then, 1 now"):
        taught(FEW.model_copy(update={"seed": 1}))
    path = tmp_path / "run" / "sketch" / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    save_file(tensors, path, metadata={"step": "2", "settings": "{\"seed\": 0} ('upside_down',) 4"})
    with pytest.raises(UsageError, match="written by an older version; remove it to start this stage again"):
        taught(FEW)
