"""Unusual inputs: a network taught on tiny bodies tells them, models keep it, and `strict` refuses by name."""

import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from quiet_progress import silent

from pet_pipeline.configs.schema import OptimiserSettings
from pet_pipeline.configs.unusual import UnusualSettings
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import InputRefused, ModelError, UsageError
from pet_pipeline.inference.api import translate
from pet_pipeline.inference.inspection import Inspection, inspect_job
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.inference.unusual import Watch
from pet_pipeline.models.weights import ModelFolder, load_folder, network, save_folder, watchers
from pet_pipeline.training.unusual import teach

# Of eight seeds every one tells the four bodies below by some 2 or more, the usual one by -0.4; this one by 6 and -2.3.
# Room is needed: rounding differs from processor to processor, and so does what is learnt.
SETTINGS = UnusualSettings(
    optimiser=OptimiserSettings(steps=240, batch=12, learning_rate=4e-3, warmup_steps=10, ema=0.9),
    uptake_optimiser=OptimiserSettings(steps=200, batch=12, learning_rate=4e-3, warmup_steps=10, ema=0.9),
    judge_optimiser=OptimiserSettings(steps=500, batch=64, learning_rate=4e-3, warmup_steps=10, ema=0.9),
    judge_examples=1500,
    least_participants=6,
    seed=1,
)
SHAPE = (56, 44, 66)


def body(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A trunk with a head above it and a liver on its right; uncorrected, corrected, labels, (x, y, z), RAS+, 6 mm."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in SHAPE), indexing="ij")
    wide = np.where(z > 0.55, 0.35, 0.8) * rng.uniform(0.9, 1.0)
    depth = 1.0 - np.sqrt((x / wide) ** 2 + (y / (0.8 * wide)) ** 2)
    liver = ((x - 0.3) / 0.35) ** 2 + (y / 0.4) ** 2 + ((z + 0.1 * rng.uniform(0, 1)) / 0.3) ** 2 < 1.0
    brain = (z > 0.6) & (depth > 0.2)
    spine = (x / 0.12) ** 2 + ((y + 0.4) / 0.12) ** 2 < 1.0
    inside = depth > 0.0
    corrected = inside * (1.0 + 1.5 * liver + 4.0 * brain + 1.0 * spine) * rng.normal(1.0, 0.2, SHAPE)
    uncorrected = corrected * np.exp(-1.5 * depth.clip(0.0))
    labels = np.select([brain, liver & inside, spine & inside, inside], [3, 2, 4, 1])
    return uncorrected.clip(0.0), corrected.clip(0.0), labels


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Eight to learn from, twelve that set the limits."""
    root = tmp_path_factory.mktemp("bodies")
    cases = []
    for number in range(20):
        paths = []
        for name, array in zip(("nac", "ac", "dseg"), body(number), strict=True):
            paths.append(root / f"p{number}_{name}.nii.gz")
            nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([6.0, 6.0, 6.0, 1.0])), paths[-1])
        nac, ac, labels = paths
        split = "train" if number < 8 else "val"
        cases.append(Case(f"p{number}", f"s{number}", "test", split, nac, target=ac, labels=labels, dose=5.0))
    return Manifest(root, tuple(cases))


@pytest.fixture(scope="module")
def knowing(cohort: Manifest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The tiny model, taught what is usual in that cohort."""
    root = tmp_path_factory.mktemp("knowing")
    made = teach(
        load_folder(tiny_model), cohort, root / "model", root / "run", settings=SETTINGS, progress=silent, workers=2
    )
    assert made is not None
    return made


def look(volume: np.ndarray, folder: ModelFolder, make_pet: Callable[..., Path], *, strict: bool = False) -> Inspection:
    path = make_pet(data=volume.astype(np.float32), affine=np.diag([6.0, 6.0, 6.0, 1.0]))
    (found,) = inspect_job(
        Job("scan", path, path), InputOptions(), folder.description, watch=Watch.of(folder), strict=strict
    )
    return found


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("upside_down", lambda nac, ac, labels: nac[:, :, ::-1]),
        ("left_right_swapped", lambda nac, ac, labels: nac[::-1]),
        ("other_correction", lambda nac, ac, labels: ac),
        ("other_uptake", lambda nac, ac, labels: nac * np.where(labels == 3, 0.1, np.where(labels == 2, 8.0, 1.0))),
    ],
)
def test_unusual_bodies_are_told_by_kind_and_usual_ones_are_not(
    kind: str, change: Callable[..., np.ndarray], knowing: ModelFolder, make_pet: Callable[..., Path]
) -> None:
    arrays = body(100)
    assert not look(arrays[0], knowing, make_pet).alarms
    found = look(change(*arrays), knowing, make_pet)
    assert kind in {alarm.kind for alarm in found.alarms}
    assert found.status == "ok"
    assert any("usual inputs have at most" in line for line in found.warnings)
    if kind == "other_uptake":  # which organ, how much, and what is usual
        (line,) = [line for line in found.warnings if "another tracer" in line]
        assert re.search(r"label 2 [\d.]+ \(usual [\d.]+ to [\d.]+\)", line)
    refused = look(change(*arrays), knowing, make_pet, strict=True)
    assert refused.status == "refused"
    assert "unlike what the model was trained on" in refused.message


def test_strict_translation_refuses_what_plain_translation_warns_of(
    knowing: ModelFolder, make_pet: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_pet(data=body(101)[0][:, :, ::-1].astype(np.float32), affine=np.diag([6.0, 6.0, 6.0, 1.0]))
    translator = Translator.load(knowing, device="cpu")
    (refused,) = translate(path, tmp_path / "out", translator, strict=True)
    assert (refused.status, refused.exit_status) == ("refused", InputRefused.exit_status)
    assert "upside down" in refused.message
    assert not (tmp_path / "out" / "scan_acsd.nii.gz").exists()
    (done,) = translate(path, tmp_path / "out", translator)
    assert done.status == "done"
    assert "upside down" in done.message


def test_the_folder_keeps_it_and_is_otherwise_the_same(knowing: ModelFolder, tiny_model: Path, tmp_path: Path) -> None:
    before, taught = load_folder(tiny_model), watchers(knowing)
    assert before.description.unusual is None
    assert Watch.of(before) is None
    assert knowing.description.networks == before.description.networks
    described = knowing.description.unusual
    assert described is not None
    assert described.uptake is not None
    assert (knowing.path / described.network.file).stat().st_size < 300_000
    assert (knowing.path / described.uptake.file).stat().st_size < 1_000_000
    networks = {role: network(knowing, role) for role in knowing.description.networks}
    again = save_folder(tmp_path / "again", knowing.description, networks, unusual=taught)
    assert again.description.unusual == described
    assert save_folder(tmp_path / "plain", knowing.description, networks).description.unusual is None
    for role, entry in (("uptake", described.uptake), ("unusual", described.network)):
        (again.path / entry.file).write_bytes(b"damaged")
        with pytest.raises(ModelError, match=role):
            load_folder(again.path)


def test_a_description_that_does_not_fit_its_network_is_refused(knowing: ModelFolder) -> None:
    described = knowing.description.unusual
    assert described is not None
    few = described.model_copy(update={"limits": {"upside_down": 1.0}})
    other = described.model_copy(update={"network": knowing.description.networks["prior"]})
    swapped = described.model_copy(update={"uptake": described.network})
    expected = ((few, "no limit of left_right_swapped"), (other, "needed is a sketchnet"), (swapped, "an uptakenet"))
    for wrong, words in expected:
        description = knowing.description.model_copy(update={"unusual": wrong})
        with pytest.raises(ModelError, match=words):
            Watch.of(ModelFolder(knowing.path, description))


def test_strict_needs_a_model_that_can_tell(tiny_model: Path, make_pet: Callable[..., Path], tmp_path: Path) -> None:
    (result,) = translate(make_pet(), tmp_path / "out", tiny_model, device="cpu", strict=True)
    assert result.exit_status == UsageError.exit_status
    assert "no record" in result.message


def test_of_few_participants_nothing_is_taught(cohort: Manifest, tiny_model: Path, tmp_path: Path) -> None:
    assert teach(load_folder(tiny_model), cohort, tmp_path / "model", tmp_path / "run", progress=silent) is None
    assert not (tmp_path / "model").exists()
