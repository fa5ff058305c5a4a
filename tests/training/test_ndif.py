"""Training with a noise level: what is told of it, and a model that is told the same in training and in use."""

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from quiet_progress import silent
from tiny_liver import SPACING_MM, liver_trunk

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import NoiseLevelSettings, TrainingSettings
from pet_pipeline.data.dataset import PackedCase, pack
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.liver import MEASURES
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.api import translate
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import load_folder
from pet_pipeline.training.madm import box_multiple, train_model
from pet_pipeline.training.noise_levels import draw_noise_levels, noise_level, nstd_of_dose
from pet_pipeline.training.steps import denoiser_batch
from pet_pipeline.types import View
from pet_pipeline.units import Unit

SMALL = (
    "folds=1",
    "prior_share=0.3",
    "prior.widths=[4,8]",
    "denoiser.widths=[8,8]",
    "denoiser.attention_levels=[]",
    "prior_optimiser.steps=2",
    "prior_optimiser.patch=[16,16,16]",
    "denoiser_optimiser.steps=2",
    "denoiser_optimiser.batch=2",
    "denoiser_optimiser.crop=16",
    "validate_every=2",
    "precision=fp32",
)
NSTDS = (0.1, 0.2, 0.4, 0.3)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of four trunks of different noise; the uncorrected input is there but is no image of theirs."""
    root = tmp_path_factory.mktemp("ndif")
    cases = []
    for number, nstd in enumerate(NSTDS):
        images = {
            "input": np.ones((4, 4, 4)),
            "input_ac": liver_trunk(nstd, seed=number)[0],
            "noise_free": liver_trunk(0.0)[0],
        }
        paths = {}
        for name, array in images.items():
            paths[name] = root / f"p{number}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([*SPACING_MM, 1.0])), paths[name])
        sidecar = {"Units": "g/mL", "AttenuationCorrection": "CT"}
        (root / f"p{number}_input_ac.json").write_text(json.dumps(sidecar))
        split = "val" if number == 3 else "train"
        cases.append(Case(f"p{number}", f"sub-{number}", "test", split, dose=5.0 * 2**number, scanner="a", **paths))
    Manifest(root, tuple(cases)).save(root / "manifest.tsv")
    return root / "manifest.tsv"


@pytest.fixture(scope="module")
def model(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = load(TrainingSettings, "tiny-ndif", SMALL)
    run = tmp_path_factory.mktemp("ndif-run")
    return train_model(Manifest.load(cohort), settings, run, progress=silent, task="ndif")


def case(nstd: float | None, dose: float = 5.0) -> PackedCase:
    return PackedCase("c", "p", "train", dose, None, Path(), (1, 1, 1), 1.0, nstd)


def test_what_is_told_of_a_case() -> None:
    assert noise_level(case(0.3), "nstd") == 0.3
    assert math.isnan(noise_level(case(None), "nstd"))
    assert noise_level(case(None, dose=25.0), "dose") == pytest.approx(2.0 * nstd_of_dose(100.0))
    assert math.isnan(noise_level(case(0.3, dose=math.nan), "dose"))


def test_some_are_dropped_and_shuffled_levels_are_those_of_others() -> None:
    cases = [case(0.1 * (1 + number)) for number in range(4)]
    chosen = [cases[0]] * 2000

    def drawn(given: str, drop: float) -> np.ndarray:
        settings = NoiseLevelSettings.model_validate({"given": given, "drop": drop})
        return np.array(draw_noise_levels(chosen, cases, settings, np.random.default_rng(0)))

    assert (drawn("nstd", 0.0) == 0.1).all()
    some = drawn("nstd", 0.25)
    assert np.isnan(some).mean() == pytest.approx(0.25, abs=0.03)
    assert (some[~np.isnan(some)] == 0.1).all()
    values, counts = np.unique(drawn("shuffled", 0.0), return_counts=True)
    assert values == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert counts / 2000 == pytest.approx([0.25] * 4, abs=0.04)


def test_the_noise_level_is_measured_at_packing_and_alters_no_other_part_of_a_batch(cohort: Path, model: Path) -> None:
    settings = load(TrainingSettings, "tiny-ndif", [*SMALL, "noise_level.drop=0", "denoiser_optimiser.batch=12"])
    packed = pack(
        Manifest.load(cohort), model.parent / "packed", grid=settings.grid, normalisation=settings.normalisation,
        target=settings.target, multiple=box_multiple(settings), condition="input_ac", measure=MEASURES["input_ac"].of,
    )  # fmt: skip
    assert [one.nstd for one in packed] == pytest.approx(NSTDS, rel=0.05)
    train = [one for one in packed if one.split == "train" and one.has("prior")]
    assert len(train) == 2
    batch = denoiser_batch(train, settings, View.AXIAL, "axial", 0, range(12))
    plain_settings = load(TrainingSettings, settings_without_embedding(settings, cohort.parent))
    plain = denoiser_batch(train, plain_settings, View.AXIAL, "axial", 0, range(12))
    assert set(batch) - set(plain) == {"nstd"}
    assert all(torch.equal(value, batch[name]) for name, value in plain.items())
    assert set(batch["nstd"].tolist()) == set(torch.tensor([one.nstd for one in train]).tolist())


def settings_without_embedding(settings: TrainingSettings, folder: Path) -> Path:
    denoiser = settings.denoiser.model_copy(update={"noise_embedding": False})
    path = folder / "plain.yaml"
    path.write_text(settings.model_copy(update={"denoiser": denoiser}).model_dump_json())
    return path


def test_the_model_says_what_it_is_given_and_what_it_was_told(model: Path) -> None:
    description = load_folder(model).description
    assert (description.task, description.condition, description.noise_level) == ("ndif", "input_ac", "nstd")
    assert description.training["noise_level"] == "nstd"
    assert description.training["noise_level_range"] == pytest.approx([0.1, 0.4], rel=0.05)
    assert description.seen["body_width_mm"].median == pytest.approx(300.0, abs=15.0)  # of input_ac
    card = (model / "card.md").read_text()
    assert "low-dose attenuation-corrected PET to attenuation-corrected standard-dose PET" in card


def test_translate_measures_the_noise_level_and_the_sidecar_says_so(cohort: Path, model: Path, tmp_path: Path) -> None:
    def sidecar(folder: str, **options: object) -> dict[str, object]:
        results = translate(cohort, tmp_path / folder, model, precision="fp32", steps=1, **options)
        assert [one.status for one in results] == ["done"] * 4
        return json.loads((tmp_path / folder / "p2_acsd.json").read_text())

    measured = sidecar("measured")
    assert measured["noise_level"] == {
        "measure": "nstd", "value": pytest.approx(0.4, rel=0.05), "source": "automatic VOI",
    }  # fmt: skip
    assert str(measured["input"]["path"]).endswith("p2_input_ac.nii.gz")  # type: ignore[index]
    given = sidecar("given", nstd=0.7)
    assert given["noise_level"] == {"measure": "nstd", "value": 0.7, "source": "given"}
    assert given["options"]["nstd"] == 0.7  # type: ignore[index]


def test_an_input_without_a_liver_is_translated_with_its_noise_unknown(model: Path, tmp_path: Path) -> None:
    data, _ = liver_trunk(0.3)
    nib.save(nib.Nifti1Image(data[::-1], np.diag([*SPACING_MM, 1.0])), tmp_path / "left.nii.gz")
    (result,) = translate(tmp_path / "left.nii.gz", tmp_path / "out", model, precision="fp32", input_unit="suv")
    assert result.status == "done"
    assert "nstd is unknown" in result.message
    written = json.loads((tmp_path / "out" / "left_acsd.json").read_text())
    assert written["noise_level"] == {"measure": "nstd", "value": None, "source": "unknown"}


def test_the_noise_level_alters_the_result_of_a_model_that_takes_one(model: Path) -> None:
    translator = Translator.load(model, precision="fp32")
    torch.manual_seed(0)
    for parameter in translator.denoisers[View.AXIAL].parameters():  # two steps have taught nothing yet
        torch.nn.init.normal_(parameter, std=0.1)
    data, _ = liver_trunk(0.3)
    volume = Volume(data, Geometry.regular(data.shape, SPACING_MM), Unit.SUV)

    def result(nstd: float | None) -> np.ndarray:
        return translator.translate(volume, TranslateOptions(nstd=nstd, views=("axial",), steps=1)).volume.data

    measured = result(None)
    assert np.abs(result(1.0) - measured).max() > 1e-4
    found = translator.translate(volume, TranslateOptions(views=("axial",), steps=1)).noise
    assert found is not None
    np.testing.assert_array_equal(result(found.value), measured)


def test_a_cohort_without_corrected_inputs_and_a_water_correction_of_corrected_ones_are_refused(
    cohort: Path, tmp_path: Path
) -> None:
    manifest = Manifest.load(cohort)
    bare = Manifest(manifest.root, tuple(Case(one.case_id, one.participant_id, "test", one.split, one.input,
                                              noise_free=one.noise_free) for one in manifest.cases))  # fmt: skip
    with pytest.raises(UsageError, match="p0: the manifest has no input_ac image"):
        train_model(bare, load(TrainingSettings, "tiny-ndif", SMALL), tmp_path / "run", progress=silent, task="ndif")
    with pytest.raises(UsageError, match="water_correction"):
        load(TrainingSettings, "tiny-ndif", ["normalisation.water_correction=true"])


def test_settings_of_an_ordinary_model_are_not_called_ndif(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="that is what `train madm` trains"):
        train_model(
            Manifest.load(cohort), load(TrainingSettings, "demo"), tmp_path / "run", progress=silent, task="ndif"
        )
    assert not (tmp_path / "run").exists()
