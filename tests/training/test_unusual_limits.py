"""What tells unusual inputs is taught on any cohort, goes on as it began, and gives so many false alarms in all."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from quiet_progress import silent
from safetensors import safe_open
from safetensors.torch import save_file

from pet_pipeline.configs.phantom import STANDARD_UPTAKE, PhantomSettings
from pet_pipeline.configs.schema import OptimiserSettings
from pet_pipeline.configs.tracers import TRACERS
from pet_pipeline.configs.unusual import UnusualSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.weights import load_folder
from pet_pipeline.training.unusual import Organs, joint_limits, labelled_organs, of_tracer, teach

FEW = UnusualSettings(
    least_participants=2, optimiser=OptimiserSettings(steps=2, batch=4, warmup_steps=1, learning_rate=1e-3)
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
    volume, _ = nifti.read(cohort.cases[0].input)
    frame, _ = frame_body(volume, (5.0, 5.0, 5.0), multiple=8)
    labels = np.zeros((24, 24, 24), np.int16)
    labels[10:14, 10:14, 10:14] = label
    nib.save(nib.Nifti1Image(labels, np.diag([5.0, 5.0, 5.0, 1.0])), tmp_path / "labels.nii.gz")
    found = labelled_organs(tmp_path / "labels.nii.gz", frame)
    assert (0 if found is None else len(found.suv)) == organs


def labelled(tmp_path: Path, table: str, cohort: Manifest) -> Organs:
    """A cube in the middle that is label 7, and a slab beside it that is 8."""
    volume, _ = nifti.read(cohort.cases[0].input)
    frame, _ = frame_body(volume, (5.0, 5.0, 5.0), multiple=8)
    labels = np.zeros((24, 24, 24), np.int16)
    labels[8:16, 8:16, 8:16], labels[16:18, 8:16, 8:16] = 7, 8
    nib.save(nib.Nifti1Image(labels, np.diag([5.0, 5.0, 5.0, 1.0])), tmp_path / "x_dseg.nii.gz")
    (tmp_path / "x_dseg.tsv").write_text(table)
    found = labelled_organs(tmp_path / "x_dseg.nii.gz", frame)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["kidneys", "kidney_left"], ids=["a phantom's name", "TotalSegmentator's"])
def test_organs_are_known_by_name_and_their_suv_is_their_own_or_typical(
    name: str, cohort: Manifest, tmp_path: Path
) -> None:
    found = labelled(tmp_path, f"index\tname\tsuv\n7\t{name}\t3.5\n8\tliver\tn/a\n", cohort)
    assert found.tissues == ("kidneys", "liver")
    low, high = STANDARD_UPTAKE["liver"]
    assert found.suv[0] == 3.5
    assert low < found.suv[1] < high


def test_another_tracer_goes_where_it_goes_and_nowhere_else(cohort: Manifest, tmp_path: Path) -> None:
    organs = labelled(tmp_path, "index\tname\tsuv\n7\tkidneys\t3\n8\tliver\t2\n", cohort)
    activity = np.random.default_rng(0).uniform(1.0, 2.0, organs.shares.shape[1:]).astype(np.float32)
    assert organs.changed(activity, organs.suv) == pytest.approx(activity)
    suv = of_tracer(organs, {"kidneys": (30.0, 40.0), "brain": (1.0, 2.0)}, np.random.default_rng(1))
    assert 30.0 <= suv[0] <= 40.0
    assert suv[1] == 2.0
    ratio = organs.changed(activity, suv) / activity
    kidneys = organs.shares[0]
    assert (ratio[kidneys > 0.0] > 1.0).all()
    assert ratio[kidneys == 0.0] == pytest.approx(1.0)
    fullest = np.unravel_index(kidneys.argmax(), kidneys.shape)
    share, liver = kidneys[fullest], organs.shares[1][fullest]
    rest = np.sqrt(np.prod(STANDARD_UPTAKE["soft_tissue"])) * (1.0 - share - liver)
    assert ratio[fullest] == pytest.approx((suv[0] * share + 2.0 * liver + rest) / (3.0 * share + 2.0 * liver + rest))


@pytest.mark.parametrize(("tracer", "shown"), [(None, True), ("[18F]FDG", True), ("[68Ga]PSMA-11", False)])
def test_other_tracers_are_shown_to_a_model_of_fdg_alone(
    tracer: str | None, shown: bool, cohort: Manifest, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(cohort.root, tmp_path / "cohort")
    if tracer is not None:
        for image in (tmp_path / "cohort").rglob("*.nii*"):
            sidecar = image.with_name(f"{nifti.stem(image)}.json")
            facts = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
            sidecar.write_text(json.dumps({**facts, "TracerName": tracer}))
    mine = Manifest.load(tmp_path / "cohort" / "manifest.tsv")
    teach(load_folder(tiny_model), mine, tmp_path / "model", tmp_path / "run", settings=FEW, progress=silent)
    with safe_open(tmp_path / "run" / "checkpoint.safetensors", framework="pt") as file:
        told = json.loads(file.metadata()["settings"])
    assert bool(told["tracers"]) is shown


@pytest.mark.parametrize("suv", ["nan", "-1", "inf", "n/a", ""])
def test_a_suv_that_is_none_is_taken_as_typical(suv: str, cohort: Manifest, tmp_path: Path) -> None:
    found = labelled(tmp_path, f"index\tname\tsuv\n7\tliver\t{suv}\n8\tliver\t2\n", cohort)
    assert found.suv[0] == pytest.approx(np.sqrt(np.prod(STANDARD_UPTAKE["liver"])))


def test_tracers_name_known_tissues_and_unknown_tracers_are_refused() -> None:
    for known in TRACERS.values():
        PhantomSettings(uptake=dict(known))
    with pytest.raises(ValueError, match="FPSMA not known; known are PSMA-11"):
        UnusualSettings(tracers=("FPSMA",))


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
    path = tmp_path / "run" / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    save_file(tensors, path, metadata={"step": "2", "settings": "{\"seed\": 0} ('upside_down',) 4"})
    with pytest.raises(UsageError, match="written by an older version; remove it to start this stage again"):
        taught(FEW)
