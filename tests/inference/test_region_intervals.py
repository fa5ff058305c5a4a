"""`--regions`: a table of intervals beside the translation, scored by evaluate when it is of the same labels."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_pet import SHAPE, SPACING_MM

from pet_pipeline.data.nifti import read
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.evaluation.intervals import read_table
from pet_pipeline.evaluation.lesions import Uptake
from pet_pipeline.inference.api import translate
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.region_intervals import labels_for
from pet_pipeline.inference.scoring import score_pair
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator


@pytest.fixture(scope="module")
def translator(tiny_model: Path) -> Translator:
    return Translator.load(tiny_model, device="cpu", precision="fp32")


def write_labels(path: Path, *, shift: int = 0) -> Path:
    """A liver and a lesion with their table, axes turned: x runs to the patient's left."""
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[8 + shift : 16, 10:18, 6:14], labels[24:28, 10:14, 12:16] = 1, 2
    affine = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0])
    affine[0, 3] = (SHAPE[0] - 1) * SPACING_MM[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels[::-1], affine), path)
    (path.parent / "dseg.tsv").write_text("index\tname\tkind\n1\tliver\torgan\n2\tlesion_1\tlesion\n")
    return path


@pytest.fixture
def source(make_pet: Callable[..., Path]) -> Path:
    return make_pet("in/scan.nii.gz", units="SUV")


def test_intervals_are_of_the_paths_that_the_result_is_the_mean_of(
    translator: Translator, source: Path, tmp_path: Path
) -> None:
    labels = write_labels(tmp_path / "labels" / "scan_dseg.nii.gz")
    case = translate(source, tmp_path / "out", translator, paths=3, regions=labels.parent)[0]
    assert case.status == "done", case.message
    table = read_table(tmp_path / "out" / "scan_acsd_regions.tsv")
    assert {region for region, _ in table} == {"organ:liver", "lesion:lesion_1"}
    result = read(case.target)[0].canonical()
    where = read(labels)[0].canonical().data == 2
    peak = Uptake.of(result.data, where, SPACING_MM)
    assert table["lesion:lesion_1", "suv_peak"].value == pytest.approx(peak.suv_peak, rel=1e-4)
    one = read(translate(source, tmp_path / "one", translator, paths=1)[0].target)[0].canonical()
    interval = table["lesion:lesion_1", "suv_mean"]
    assert interval.low < Uptake.of(one.data, where, SPACING_MM).suv_mean < interval.high
    assert interval.low < interval.value < interval.high
    sidecar = json.loads((tmp_path / "out" / "scan_acsd.json").read_text())
    assert sidecar["regions"]["paths"] == 3
    assert "excludes model" in sidecar["regions"]["label"]
    plain = translate(source, tmp_path / "plain", translator, paths=3)[0]
    assert plain.target.read_bytes() == case.target.read_bytes()


def test_evaluate_scores_them_against_the_same_labels_only(
    translator: Translator, source: Path, tmp_path: Path
) -> None:
    labels = write_labels(tmp_path / "scan_dseg.nii.gz")
    target = translate(source, tmp_path / "out", translator, paths=2, regions=labels)[0].target
    pair = Pair("scan", "scan", target, source, labels)
    rows = {(row.region, row.metric): row.value for row in score_pair(pair, "m").rows}
    low, high = (rows["lesion:lesion_1", f"suv_max_{end}"] for end in ("low", "high"))
    truth = rows["lesion:lesion_1", "suv_max_reference"]
    assert rows["lesion:lesion_1", "suv_max_inside"] == float(low <= truth <= high)
    assert low < rows["lesion:lesion_1", "suv_max"] < high
    write_labels(labels, shift=1)
    scored = score_pair(pair, "m")
    assert not any(row.metric.endswith("_inside") for row in scored.rows)
    assert any("other labels" in line for line in scored.warnings)


def test_finished_tables_are_skipped_and_an_old_one_goes(translator: Translator, source: Path, tmp_path: Path) -> None:
    labels, out = write_labels(tmp_path / "scan_dseg.nii.gz"), tmp_path / "out"
    table = out / "scan_acsd_regions.tsv"

    def once(**wishes: object) -> str:
        return translate(source, out, translator, paths=2, **wishes)[0].status  # type: ignore[arg-type]

    assert [once(regions=labels), once(regions=labels)] == ["done", "skipped"]
    table.unlink()
    assert once(regions=labels) == "done"
    write_labels(labels, shift=1)
    assert once(regions=labels) == "failed"  # other regions: what lies there is left alone
    assert once(overwrite=True) == "done"
    assert not table.exists()


def test_labels_that_do_not_fit_are_refused(translator: Translator, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--paths 2"):
        TranslateWork(translator, TranslateOptions(), InputOptions(), regions=tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        TranslateWork(translator, TranslateOptions(paths=2), InputOptions(), regions=tmp_path / "none")
    with pytest.raises(InputRefused, match="no label volume"):
        labels_for("another", tmp_path)
    other = tmp_path / "other_dseg.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.int16), np.eye(4)), other)
    case = translate(source, tmp_path / "out", translator, paths=2, regions=other)[0]
    assert case.status == "refused"
    assert "grid" in case.message
