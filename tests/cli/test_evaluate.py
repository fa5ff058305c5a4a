"""`pet-pipeline evaluate` from files to exit status."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from pet_pipeline.cli.evaluate import evaluate
from pet_pipeline.data.files import held
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import write
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, PartialFailure, PetPipelineError, UsageError
from pet_pipeline.evaluation.report import read_metrics
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

SHAPE, SPACING = (28, 24, 32), (5.0, 5.0, 5.0)
GRID = Geometry.regular(SHAPE, SPACING)


def _labels() -> np.ndarray:
    x, y, z = np.meshgrid(*[np.arange(n) * 5.0 - n * 2.5 for n in SHAPE], indexing="ij")
    labels = ((x / 60) ** 2 + (y / 48) ** 2 < 1).astype(np.float32)
    labels[(x - 15) ** 2 + y**2 + (z - 20) ** 2 < 28**2] = 2
    labels[(x + 30) ** 2 + y**2 + (z + 30) ** 2 < 12**2] = 3
    return labels


def _truth() -> np.ndarray:
    activity = np.array([0.0, 0.7, 2.2, 7.0])[_labels().astype(int)]
    return gaussian_filter(activity, 0.6).astype(np.float32)


def _save(path: Path, data: np.ndarray, geometry: Geometry = GRID, unit: Unit = Unit.SUV) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Volume(data.astype(np.float32), geometry, unit))
    return path


@pytest.fixture
def folders(tmp_path) -> Path:
    truth = _truth()
    for name, factor in (("sub-01_pet", 1.1), ("sub-02_pet", 0.9)):
        _save(tmp_path / "pred" / f"{name}_acsd.nii.gz", factor * truth)
        _save(tmp_path / "ref" / f"{name}.nii.gz", truth)
        _save(tmp_path / "labels" / f"{name[:6]}_dseg.nii.gz", _labels(), unit=Unit.LABEL)
    (tmp_path / "labels" / "dseg.tsv").write_text("index\tname\n0\tbackground\n1\tmuscle\n2\tliver\n3\tlesion_1\n")
    return tmp_path


def _run(*arguments: str | Path) -> tuple[str, PetPipelineError | None]:
    """Scores alone: no pictures, in this process. What draws says so."""
    return _evaluate(*arguments, "--no-report", "--workers", 1)


def _evaluate(*arguments: str | Path | int) -> tuple[str, PetPipelineError | None]:
    app = typer.Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, PetPipelineError | SystemExit), result.exception
    return result.stdout, result.exception if isinstance(result.exception, PetPipelineError) else None


def _value(root: Path, case: str, region: str, metric: str) -> float:
    rows = read_metrics(root / "out" / "metrics.tsv")
    (found,) = (r.value for r in rows if (r.case_id, r.region, r.metric) == (case, region, metric))
    return found


def test_two_folders_give_a_table_and_two_files(folders, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    out, error = _run(folders / "pred", folders / "ref", "--output", folders / "out", "--labels", folders / "labels",
                      "--method", "MADM")  # fmt: skip
    assert error is None
    assert "2 cases against" in out
    assert "MADM: bias of SUVmean by organ" in out
    assert "liver" in out
    assert "0 of 2 conspicuous lesions" in out
    assert _value(folders, "sub-01_pet", "organ:liver", "suv_mean_bias") == pytest.approx(10.0, abs=0.01)
    assert _value(folders, "sub-02_pet", "lesion:lesion_1", "suv_peak_recovery") == pytest.approx(0.9, abs=1e-3)
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["n_patients"] == 2
    assert summary["schema_version"] == 2


def test_other_axis_order_in_the_file_is_the_same_place(folders):
    """A prediction stored head to feet, with x and y swapped, is scored as the same volume."""
    _run(folders / "pred", folders / "ref", "--output", folders / "out", "--labels", folders / "labels")
    before = read_metrics(folders / "out" / "metrics.tsv")
    turned = np.transpose(1.1 * _truth(), (1, 0, 2))[:, :, ::-1]
    affine = GRID.affine @ np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1.0]])
    _save(folders / "pred" / "sub-01_pet_acsd.nii.gz", turned, Geometry((SHAPE[1], SHAPE[0], SHAPE[2]), affine))
    _run(folders / "pred", folders / "ref", "--output", folders / "out", "--labels", folders / "labels")
    after = read_metrics(folders / "out" / "metrics.tsv")
    np.testing.assert_allclose([r.value for r in after], [r.value for r in before], rtol=1e-5, atol=1e-6)


def test_the_last_shard_writes_what_one_run_writes(folders, monkeypatch):
    arguments = (folders / "pred", folders / "ref", "--labels", folders / "labels", "--output")
    _run(*arguments, folders / "whole")
    out, error = _run(*arguments, folders / "out", "--shard", "2/3")
    assert error is None
    assert "shard 2/3: 1 cases scored; shards to come: 2" in out
    out, _ = _run(*arguments, folders / "out", "--shard", "3/3", "--json")
    assert json.loads(out)["cases"] == []
    assert [path.name for path in (folders / "out").iterdir()] == ["shards"]
    out, error = _run(*arguments, folders / "out", "--shard", "1/3")
    assert error is None
    assert "2 cases against" in out
    expected = (folders / "whole" / "metrics.tsv").read_text()
    assert (folders / "out" / "metrics.tsv").read_text() == expected
    cases, same = (json.loads((folders / n / "summary.json").read_text())["cases"] for n in ("out", "whole"))
    assert cases == same
    # resumed: what is finished is not scored again
    monkeypatch.setattr("pet_pipeline.inference.assessment.score_work", None)
    assert _run(*arguments, folders / "out", "--shard", "2/3")[1] is None
    assert (folders / "out" / "metrics.tsv").read_text() == expected


def test_a_manifest_brings_references_and_labels(folders):
    root = folders / "cohort"
    nac = _save(root / "nac.nii.gz", _truth() / 4)
    clean = _save(root / "clean.nii.gz", _truth())
    labels = _save(root / "sub-01" / "sub-01_dseg.nii.gz", _labels(), unit=Unit.LABEL)
    (root / "dseg.tsv").write_text("index\tname\tkind\n1\tmuscle\torgan\n2\tliver\torgan\n3\tnode\tlesion\n")
    Manifest(root, (Case("c1", "p1", "s", "test", nac, noise_free=clean, labels=labels, dose=5.0),)).save(
        root / "manifest.tsv"
    )
    _save(folders / "made" / "c1_acsd.nii.gz", 1.05 * _truth())
    _, error = _run(folders / "made", "--manifest", root / "manifest.tsv", "--output", folders / "out")
    assert error is None
    assert _value(folders, "c1", "organ:liver", "suv_mean_bias") == pytest.approx(5.0, abs=0.01)
    assert _value(folders, "c1", "lesion:node", "suv_max_recovery") == pytest.approx(1.05, abs=1e-3)


def test_a_twin_in_the_manifest_shows_what_is_invented(folders):
    """The method paints the lesion into the twin as well: 1 of 1 invented, and lost, for the data did not make it."""
    root = folders / "cohort"
    nac, clean = _save(root / "nac.nii.gz", _truth() / 4), _save(root / "clean.nii.gz", _truth())
    without = _save(root / "without.nii.gz", np.where(_labels() == 3, 0.7, _truth()))
    labels = _save(root / "dseg.nii.gz", _labels(), unit=Unit.LABEL)
    (root / "dseg.tsv").write_text("index\tname\n1\tmuscle\n2\tliver\n3\tlesion_1\n")
    case = Case("c", "p", "s", "test", nac, noise_free=clean, labels=labels)
    twin = Case("c_twin", "p", "s", "test", nac, noise_free=without, labels=labels, extra={"lesion_free_of": "c"})
    Manifest(root, (case, twin)).save(root / "manifest.tsv")
    for name in ("c", "c_twin"):
        _save(folders / "made" / f"{name}_acsd.nii.gz", _truth())
    out, error = _run(folders / "made", root / "manifest.tsv", "--output", folders / "out")
    assert error is None
    assert "1 of 1 sites" in out
    assert _value(folders, "c", "lesions", "lost") == 1
    assert {r.case_id for r in read_metrics(folders / "out" / "metrics.tsv")} == {"c"}


def test_another_grid_is_refused_and_the_others_are_scored(folders):
    shifted = Geometry(SHAPE, GRID.affine + np.array([[0, 0, 0, 5.0]] + [[0, 0, 0, 0]] * 3))
    _save(folders / "pred" / "sub-01_pet_acsd.nii.gz", _truth(), shifted)
    out, error = _run(folders / "pred", folders / "ref", "--output", folders / "out", "--json")
    assert isinstance(error, PartialFailure)
    cases = {Path(c["input"]).name: c for c in json.loads(out)["cases"]}
    assert cases["sub-01_pet_acsd.nii.gz"]["status"] == "refused"
    assert "another place" in cases["sub-01_pet_acsd.nii.gz"]["message"]
    assert cases["sub-02_pet_acsd.nii.gz"]["status"] == "done"
    assert {r.case_id for r in read_metrics(folders / "out" / "metrics.tsv")} == {"sub-02_pet"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.zeros(SHAPE), "zero everywhere"),
        (_truth() * 5000.0, "needed is SUV"),
        (_truth()[:, :, :-2], "shape"),
        (np.where(_truth() > 1, np.nan, _truth()), "NaN"),
    ],
)
def test_a_reference_that_is_none_is_refused(folders, reference, message):
    for name in ("sub-01_pet", "sub-02_pet"):
        _save(folders / "ref" / f"{name}.nii.gz", reference, Geometry.regular(reference.shape, SPACING))
    out, error = _run(folders / "pred", folders / "ref", "--output", folders / "out", "--json")
    assert isinstance(error, InputRefused)
    assert all(message in case["message"] for case in json.loads(out)["cases"])
    assert not (folders / "out").exists()


def test_a_nac_volume_is_no_reference(folders):
    for side, suffix in (("pred2", "_acsd"), ("ref2", "")):
        _save(folders / side / f"sub-1_rec-nacstat_pet{suffix}.nii.gz", _truth())
    _, error = _run(folders / "pred2", folders / "ref2", "--output", folders / "out")
    assert isinstance(error, InputRefused)


def test_the_same_file_twice_is_remarked(folders):
    out, error = _run(folders / "ref", folders / "ref", "--output", folders / "out", "--json")
    assert error is None
    assert any("is it the same file" in line for line in json.loads(out)["warnings"])
    json.loads((folders / "out" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_labels_without_a_name_are_remarked(folders):
    (folders / "labels" / "dseg.tsv").write_text("index\tname\n1\tmuscle\n2\tliver\n")
    out, _ = _run(
        folders / "pred", folders / "ref", "--output", folders / "out", "--labels", folders / "labels", "--json"
    )
    assert any("labels 3 are not in dseg.tsv" in line for line in json.loads(out)["warnings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pred", "ref"], "--output"),
        (["pred", "--output", "out"], "compare with what"),
        (["pred", "nowhere", "--output", "out"], "does not exist"),
        (["pred", "labels", "--output", "out"], "none of the 2 predictions"),
        (["pred", "ref", "--output", "out", "--reference", "target"], "needs --manifest"),
        (["pred", "--manifest", "ref/m.tsv", "--output", "out", "--reference", "best"], "noise_free, target"),
    ],
)
def test_wrong_use_says_what_is_needed(folders, monkeypatch, arguments, message):
    monkeypatch.chdir(folders)
    _, error = _run(*arguments)
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert not (folders / "out").exists()


def test_help_needs_no_heavy_library():
    import subprocess

    code = (
        "import sys, pet_pipeline.cli.evaluate;"
        "print([m for m in ('torch', 'scipy', 'skimage', 'matplotlib', 'nibabel', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def _cohort(root: Path, patients: int, *, doses: tuple[float, ...] = (5.0,)) -> Path:
    """A manifest of patients who differ, and two methods: `hot` reads the liver 10 % too high, `fair` nothing."""
    truth, labels = _truth(), _labels()
    rng = np.random.default_rng(0)
    cases = []
    for number in range(patients):
        name = f"sub-{number:02d}"
        own = truth * rng.uniform(0.8, 1.2)
        clean = _save(root / "cohort" / name / "clean.nii.gz", own)
        dseg = _save(root / "cohort" / name / f"{name}_dseg.nii.gz", labels, unit=Unit.LABEL)
        for dose in doses:
            case_id = f"{name}_dose{dose:g}"
            cases.append(
                Case(case_id, name, f"site-{number % 2}", "test", clean, noise_free=clean, labels=dseg, dose=dose)
            )
            noise = rng.normal(0.0, 0.05, SHAPE)
            hot = np.where(labels == 2, 1.1, 1.0) * own * rng.normal(1.0, 0.01)
            _save(root / "hot" / f"{case_id}_acsd.nii.gz", hot + noise)
            _save(root / "fair" / f"{case_id}_acsd.nii.gz", own * rng.normal(1.0, 0.01) + noise)
    (root / "cohort" / "dseg.tsv").write_text("index\tname\n1\tmuscle\n2\tliver\n3\tlesion_1\n")
    (root / "cohort" / "dataset_description.json").write_text('{"Simulated": true}')
    Manifest(root / "cohort", tuple(cases)).save(root / "cohort" / "manifest.tsv")
    return root / "cohort" / "manifest.tsv"


def _summary(root: Path) -> dict:
    return json.loads((root / "out" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_a_planted_bias_in_one_organ_is_found_named_and_red(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    manifest = _cohort(tmp_path, 12)
    out, error = _run(tmp_path / "hot", manifest, "--output", tmp_path / "out", "--method", "hot",
                      "--compare", f"fair={tmp_path / 'fair'}")  # fmt: skip
    assert error is None
    summary = _summary(tmp_path)
    lights = {(light["method"], light["subject"]): light for light in summary["lights"]}
    assert {key for key, light in lights.items() if light["light"] == "red"} == {("hot", "organ:liver")}
    assert lights["hot", "organ:liver"]["mean"] == pytest.approx(10.0, abs=1.0)
    assert "wholly outside +-5 %" in lights["hot", "organ:liver"]["reason"]
    assert lights["fair", "organ:liver"]["light"] == "green"
    assert any(line.split() == ["liver", "+9.4", "red", "+0.0", "green"] for line in out.splitlines())
    assert "p, Holm effect" in out  # the widest table still fits
    worst = [w for w in summary["worst"] if w["metric"] == "suv_mean_bias" and w["method"] == "hot"]
    assert {w["region"] for w in worst} == {"organ:liver"}
    (bias,) = [c for c in summary["comparisons"] if c["metric"] == "suv_mean_bias_absolute"]
    assert (bias["first"], bias["second"], bias["n"], bias["effect"]) == ("hot", "fair", 12, 1.0)
    assert bias["p_holm"] < 0.05


def test_the_summary_tells_the_facts_of_every_case(tmp_path):
    manifest = _cohort(tmp_path, 2, doses=(5.0, 20.0))
    (tmp_path / "hot" / "sub-00_dose5_acsd.json").write_text('{"model": {"name": "m"}, "seed": 3}')
    _, error = _run(tmp_path / "hot", manifest, "--output", tmp_path / "out")
    assert error is None
    summary = _summary(tmp_path)
    assert (summary["n_cases"], summary["n_patients"]) == (4, 2)
    case = summary["cases"][0]
    assert [case[k] for k in ("case_id", "patient", "site", "dose", "simulated")] == [
        "sub-00_dose5", "sub-00", "site-0", 5.0, True,
    ]  # fmt: skip
    made = case["methods"]["prediction"]
    assert made["sha256"] == hashlib.sha256(Path(made["prediction"]).read_bytes()).hexdigest()
    assert summary["methods"]["prediction"]["provenance"]["seed"] == 3
    assert any("3 of 4 predictions have no sidecar" in line for line in summary["warnings"])
    doses = {s["value"] for s in summary["strata"] if s["by"] == "dose"}
    assert doses == {5.0, 20.0}
    assert summary["settings"]["quantity"] == "pet"


def test_five_patients_have_no_p_value(tmp_path):
    manifest = _cohort(tmp_path, 5)
    _run(tmp_path / "hot", manifest, "--output", tmp_path / "out", "--compare", f"fair={tmp_path / 'fair'}")
    comparisons = _summary(tmp_path)["comparisons"]
    assert comparisons
    assert all(c["p"] is None and c["p_holm"] is None for c in comparisons)
    assert all("n = 5" in c["note"] for c in comparisons)


def test_workers_change_nothing(tmp_path):
    manifest = _cohort(tmp_path, 4)
    _run(tmp_path / "hot", manifest, "--output", tmp_path / "out")
    alone = (tmp_path / "out" / "metrics.tsv").read_bytes()
    _, error = _evaluate(tmp_path / "hot", manifest, "--output", tmp_path / "out", "--no-report", "--workers", 2)
    assert error is None
    assert (tmp_path / "out" / "metrics.tsv").read_bytes() == alone


def test_a_case_that_one_method_lacks_is_told_and_the_others_are_compared(tmp_path):
    manifest = _cohort(tmp_path, 3)
    (tmp_path / "fair" / "sub-01_dose5_acsd.nii.gz").unlink()
    (tmp_path / "hot" / "sub-02_dose5_acsd.nii.gz").write_bytes(b"no image")
    out, error = _run(tmp_path / "hot", manifest, "--output", tmp_path / "out", "--method", "hot",
                      "--compare", f"fair={tmp_path / 'fair'}", "--json")  # fmt: skip
    assert isinstance(error, PartialFailure)
    summary = _summary(tmp_path)
    assert {(n["case_id"], n["method"]) for n in summary["not_scored"]} == {
        ("sub-01_dose5", "fair"), ("sub-02_dose5", "hot"),
    }  # fmt: skip
    assert {c["n"] for c in summary["comparisons"]} == {1}
    statuses = [c["status"] for c in json.loads(out)["cases"]]
    assert sorted(statuses) == ["done"] * 4 + ["refused"]


def test_resampling_is_asked_for_and_told(folders):
    half = Geometry.regular((14, 12, 16), (10.0, 10.0, 10.0))
    _save(folders / "pred" / "sub-01_pet_acsd.nii.gz", _truth()[::2, ::2, ::2], half)
    out, error = _run(folders / "pred", folders / "ref", "--output", folders / "out", "--json")
    assert isinstance(error, PartialFailure)
    assert "--resample" in json.loads(out)["cases"][0]["message"]
    out, error = _run(folders / "pred", folders / "ref", "--output", folders / "out", "--json", "--resample")
    assert error is None
    assert any("resampled onto the reference's grid" in line for line in json.loads(out)["warnings"])
    assert _summary(folders)["settings"]["resample"] is True


def test_mu_maps_are_scored_in_their_own_unit(tmp_path):
    mu = np.where(_labels() > 0, 0.096, 0.0)
    mu[_labels() == 2] = 0.15
    for name, factor in (("a", 1.0), ("b", 1.02)):
        _save(tmp_path / "ref" / f"{name}_mumap.nii.gz", mu, unit=Unit.CM1)
        _save(tmp_path / "pred" / f"{name}_mumap.nii.gz", factor * mu, unit=Unit.CM1)
        _save(tmp_path / "pred" / f"{name}_acsd.nii.gz", _truth())
    out, error = _run(tmp_path / "pred", tmp_path / "ref", "--output", tmp_path / "out", "--quantity", "mumap")
    assert error is None
    assert "mu_mae" in out
    assert _value(tmp_path, "b", "body", "mu_bias_relative") == pytest.approx(2.0, abs=0.01)
    assert _value(tmp_path, "a", "tissue:bone", "dice") == 1.0
    summary = _summary(tmp_path)
    assert (summary["lights"], summary["settings"]["kvp"]) == ([], 120.0)
    _, error = _run(tmp_path / "pred", tmp_path / "ref", "--output", tmp_path / "out", "--quantity", "mumap",
                    "--kvp", 70)  # fmt: skip
    assert isinstance(error, UsageError)


def test_the_same_warning_about_many_cases_is_one_line(tmp_path):
    manifest = _cohort(tmp_path, 5)
    (tmp_path / "cohort" / "dseg.tsv").write_text("index\tname\n1\tmuscle\n2\tliver\n3\tlesion_1\n4\tspleen\n")
    out, _ = _run(tmp_path / "hot", manifest, "--output", tmp_path / "out", "--json")
    (line,) = [line for line in json.loads(out)["warnings"] if "spleen" in line]
    assert "... (5 cases): organs without a voxel" in line


def test_a_report_is_drawn_with_a_picture_a_case(tmp_path):
    manifest = _cohort(tmp_path, 2)
    _, error = _evaluate(tmp_path / "hot", manifest, "--output", tmp_path / "out", "--workers", 1)
    assert error is None
    assert (tmp_path / "out" / "report.html").is_file()
    for case in _summary(tmp_path)["cases"]:
        assert (tmp_path / "out" / case["picture"]).is_file()


@pytest.mark.parametrize("entry", ["prior", "=x", "prior=", "prediction=x"])
def test_a_method_needs_a_name_of_its_own_and_a_folder(folders, entry):
    _, error = _run(folders / "pred", folders / "ref", "--output", folders / "out", "--compare", entry)
    assert isinstance(error, UsageError)
    assert "--compare" in str(error)


def test_a_second_run_on_one_folder_is_told_and_leftovers_go(folders: Path) -> None:
    arguments = (folders / "pred", folders / "ref", "--output", folders / "out")
    with held(folders / "out" / "metrics.tsv"):
        (folders / "out" / "mine").touch()
        error = _run(*arguments)[1]
    assert isinstance(error, UsageError)
    assert "another run is making it" in str(error)
    assert [path.name for path in (folders / "out").iterdir()] == ["mine"]
    for name in (".metrics.tsv.lock", ".partial-metrics.tsv-x.tsv", ".partial-summary.json-x.json"):
        (folders / "out" / name).touch()
    assert _run(*arguments)[1] is None
    assert {path.name for path in (folders / "out").iterdir()} == {"mine", "metrics.tsv", "summary.json"}
