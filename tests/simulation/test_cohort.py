"""A cohort on disk: the same bytes for any number of workers, resumable, with a manifest that others can read."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.configs.loading import load, preset_names
from pet_pipeline.configs.simulation import CohortSettings, SplitFractions
from pet_pipeline.data.bids_names import dose_tag
from pet_pipeline.data.files import held
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.shards import Shard
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.simulation import layout
from pet_pipeline.simulation.bodies import AnatomyFiles, draw_body
from pet_pipeline.simulation.cohort import simulate_cohort, simulate_share, split_of
from pet_pipeline.simulation.layout import participant_id
from pet_pipeline.simulation.patient import draw_scanner, settings_digest
from pet_pipeline.simulation.scanners import SCANNERS

SMALL = {
    "patients": 2,
    "doses": (5.0, 20.0),
    "twins": True,
    "ac_low_dose": True,
    "phantom": {"slices": (8, 9), "lesions": (3, 4), "top_mm": (400.0, 500.0)},
    "acquisition": {"phases": 2},
    "seed": 3,
}


def settings(**changes: object) -> CohortSettings:
    return CohortSettings.model_validate({**SMALL, **changes})


def contents(root: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    simulate_cohort(settings(keep_sinograms=True), root, workers=1)
    return root


def voxels(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.asarray(nib.load(path).dataobj)


def test_same_bytes_for_any_number_of_workers(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(settings(keep_sinograms=True), tmp_path, workers=2)
    assert contents(tmp_path) == contents(cohort)


def test_a_patient_does_not_depend_on_the_others(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(settings(keep_sinograms=True, patients=1, first_patient=2), tmp_path, workers=1)
    alone = contents(tmp_path / "sub-0002")
    assert alone == contents(cohort / "sub-0002")


def test_manifest_and_files(cohort: Path) -> None:
    manifest = Manifest.load(cohort / "manifest.tsv")
    manifest.verify_checksums()
    with_lesions = [case for case in manifest.cases if "lesion_free_of" not in case.extra]
    assert [case.case_id for case in with_lesions] == [f"sub-000{n}_dose{d}" for n in (1, 2) for d in ("05", "20")]
    case = with_lesions[0]
    assert case.input == cohort / "sub-0001/pet/sub-0001_trc-18FFDG_rec-nacstat_desc-dose05_pet.nii.gz"
    assert case.input_ac is not None
    assert case.input_ac.name == "sub-0001_trc-18FFDG_rec-acstat_desc-dose05_pet.nii.gz"
    assert case.target is not None
    assert case.target.name == "sub-0001_trc-18FFDG_rec-acstat_desc-dose100_pet.nii.gz"
    shapes = {voxels(path).shape for name, path in case.paths().items() if name != "sinogram"}
    affines = {nib.load(path).affine.tobytes() for name, path in case.paths().items() if name != "sinogram"}
    assert len(shapes) == len(affines) == 1
    assert next(iter(shapes))[:2] == (104, 72)
    assert 0.09 < voxels(case.mumap).max() < 0.2
    description = json.loads((cohort / "dataset_description.json").read_text())
    assert description["Simulated"] is True
    assert len((cohort / "participants.tsv").read_text().splitlines()) == 3


def test_label_table_names_every_label(cohort: Path) -> None:
    lines = (cohort / "sub-0001" / "sub-0001_dseg.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["index", "name", "kind", "suv", "diameter_mm", "mu_cm1"]
    rows = [line.split("\t") for line in lines[1:]]
    labels = voxels(cohort / "sub-0001" / "sub-0001_dseg.nii.gz")
    assert labels.dtype == np.int16
    assert set(np.unique(labels)) - {0} <= {int(row[0]) for row in rows}
    assert {row[2] for row in rows} == {"organ", "lesion"}
    assert all((row[4] == "n/a") == (row[2] == "organ") for row in rows)


def test_twins_share_the_noise(cohort: Path) -> None:
    manifest = Manifest.load(cohort / "manifest.tsv")
    by_id = {case.case_id: case for case in manifest.cases}
    twin = by_id["sub-0001_dose05_lesionfree"]
    case = by_id[twin.extra["lesion_free_of"]]
    labels = voxels(case.labels)
    noisy = voxels(case.target) - voxels(case.noise_free)
    noisy_twin = voxels(twin.target) - voxels(twin.noise_free)
    far = (labels > 0) & (labels < 100)
    assert np.corrcoef(noisy[far], noisy_twin[far])[0, 1] > 0.9
    lesion = labels >= 100
    assert voxels(case.noise_free)[lesion].mean() > 1.3 * voxels(twin.noise_free)[lesion].mean()


def test_sinogram_counts_are_coupled(cohort: Path) -> None:
    with (
        np.load(cohort / "sub-0001" / "sub-0001_sinogram.npz", allow_pickle=False) as patient,
        np.load(cohort / "sub-0001" / "sub-0001_desc-lesionfree_sinogram.npz", allow_pickle=False) as twin,
    ):
        for tag in ("dose05", "dose20", "dose100"):
            added = patient[f"counts_{tag}"] - twin[f"counts_{tag}"]
            assert added.min() >= 0
            assert 0 < added.sum() < 0.5 * twin[f"counts_{tag}"].sum()
        for tag, share in (("dose05", 0.05), ("dose20", 0.2)):
            assert patient[f"counts_{tag}"].sum() == pytest.approx(share * patient["counts_dose100"].sum(), rel=0.01)
            assert (patient[f"counts_{tag}"] <= patient["counts_dose100"]).all()


def test_resumes_what_is_missing_and_keeps_what_is_there(cohort: Path, tmp_path: Path) -> None:
    for name, content in contents(cohort).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    kept = tmp_path / "sub-0002" / "sub-0002_mumap.nii.gz"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "sub-0001" / "sub-0001_simulation.json").write_text("{")
    (tmp_path / "sub-0001" / "pet" / ".partial-x.nii.gz").write_bytes(b"half")
    (tmp_path / "manifest.tsv").unlink()
    told: list[str] = []
    simulate_cohort(settings(keep_sinograms=True), tmp_path, workers=1, on_patient=told.append)
    assert sorted(told) == ["sub-0001", "sub-0002"]
    assert kept.stat().st_mtime_ns == stamp
    assert contents(tmp_path) == contents(cohort)


def test_the_shard_that_sees_all_patients_writes_the_tables(cohort: Path, tmp_path: Path) -> None:
    chosen = settings(keep_sinograms=True)
    shutil.copytree(cohort / "sub-0002", tmp_path / "sub-0002")
    second = simulate_share(chosen, tmp_path, Shard(2, 2), workers=1)
    assert (second.made, second.kept, second.missing, second.manifest) == ((), ("sub-0002",), 1, None)
    assert [path.name for path in tmp_path.iterdir()] == ["sub-0002"]
    with pytest.raises(UsageError, match="other settings"):
        simulate_share(settings(seed=4), tmp_path, Shard(1, 2), workers=1)
    shutil.copytree(cohort / "sub-0001", tmp_path / "sub-0001")
    first = simulate_share(chosen, tmp_path, Shard(1, 2), workers=1)
    assert (first.kept, first.missing) == (("sub-0001",), 0)
    assert contents(tmp_path) == contents(cohort)


def test_a_patient_that_another_run_is_making_is_left_to_it(tmp_path: Path) -> None:
    chosen = settings(patients=1)
    with held(layout.record_path(tmp_path, "sub-0001")), pytest.raises(UsageError, match="another run is making it"):
        simulate_cohort(chosen, tmp_path, workers=1)


def test_a_folder_of_other_settings_is_left_alone(cohort: Path) -> None:
    before = contents(cohort)
    with pytest.raises(UsageError, match="other settings"):
        simulate_cohort(settings(seed=4), cohort, workers=1)
    assert contents(cohort) == before


def test_unknown_scanner_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no-such: no such scanner; presets are plain-5mm"):
        simulate_cohort(settings(scanners={"no-such": 1.0}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_splits_have_their_shares_and_never_change() -> None:
    fractions = SplitFractions(train=0.8, val=0.1, test=0.1)
    names = [participant_id(number) for number in range(1, 201)]
    splits = [split_of(name, 7, fractions) for name in names]
    assert splits.count("train") == pytest.approx(160, abs=4)
    assert splits.count("val") == pytest.approx(20, abs=3)
    assert splits[:40] == [split_of(name, 7, fractions) for name in names[:40]]


def test_scanner_shares() -> None:
    cohort = settings(scanners={"plain-5mm": 3.0, "tof214-5mm": 1.0})
    names = [draw_scanner(cohort, participant_id(number)).name for number in range(1, 401)]
    assert names.count("plain-5mm") == pytest.approx(300, abs=35)


def test_thick_slices_are_means_of_thin_ones(tmp_path: Path) -> None:
    """Without noise, and inside: at the ends of the field of view a filter has nothing beyond."""
    images = {}
    for slice_mm in (None, 10.0):
        small = settings(patients=1, phantom={**SMALL["phantom"], "slices": (24, 24)}, slice_mm=slice_mm)  # type: ignore[dict-item]
        case = simulate_cohort(small, tmp_path / f"{slice_mm}", workers=1).cases[0]
        images[slice_mm] = nib.load(case.noise_free)
    assert images[10.0].header.get_zooms() == (5.0, 5.0, 10.0)
    thin, thick = np.asarray(images[None].dataobj), np.asarray(images[10.0].dataobj)
    assert thick.shape[2] == thin.shape[2] // 2
    pairs = 0.5 * (thin[:, :, ::2] + thin[:, :, 1::2])[:, :, 2:-2]
    error = np.sqrt(np.mean((thick[:, :, 2:-2] - pairs) ** 2) / np.mean(pairs**2))
    assert error < 0.1


def test_digest_ignores_what_does_not_change_a_patient() -> None:
    assert settings_digest(settings()) == settings_digest(settings(patients=9, site="b", split=SplitFractions()))
    assert settings_digest(settings()) != settings_digest(settings(doses=(5.0,)))


def test_presets_load_and_keep_the_held_out_apart() -> None:
    presets = {name: load(CohortSettings, name) for name in preset_names() if name.startswith("cohort-")}
    assert {"cohort-train", "cohort-test", "cohort-heldout-family", "cohort-heldout-scanner", "cohort-tiny"} <= set(
        presets
    )
    train = presets["cohort-train"]
    assert train.family == "standard"
    assert all(SCANNERS[name].training for name in train.scanners)
    assert presets["cohort-heldout-family"].family == "heldout"
    assert not any(SCANNERS[name].training for name in presets["cohort-heldout-scanner"].scanners)
    ranges = [range(p.first_patient, p.first_patient + p.patients) for n, p in presets.items() if n != "cohort-tiny"]
    assert len({p.seed for n, p in presets.items() if n != "cohort-tiny"}) == len(ranges)
    numbers = [number for numbers in ranges for number in numbers]
    assert len(numbers) == len(set(numbers))


def test_dose_tags() -> None:
    assert [dose_tag(d) for d in (1.0, 5.0, 20.0, 100.0, 2.5)] == ["dose01", "dose05", "dose20", "dose100", "dose02p5"]


def test_anatomy_from_a_ct(tmp_path: Path) -> None:
    x, y, _ = np.meshgrid(*(np.arange(n) - (n - 1) / 2.0 for n in (60, 44, 20)), indexing="ij")
    body = (x * 6.0 / 150.0) ** 2 + (y * 6.0 / 100.0) ** 2 <= 1.0
    liver = ((x * 6.0 - 60.0) / 55.0) ** 2 + (y * 6.0 / 55.0) ** 2 <= 1.0
    affine = np.diag([6.0, 6.0, 5.0, 1.0])
    nib.save(nib.Nifti1Image(np.where(body, 40.0, -1000.0).astype(np.float32), affine), tmp_path / "ct.nii.gz")
    nib.save(nib.Nifti1Image((body & liver).astype(np.int16) * 5, affine), tmp_path / "organs.nii.gz")
    anatomy = AnatomyFiles(tmp_path / "ct.nii.gz", tmp_path / "organs.nii.gz")
    chosen = settings(patients=1, doses=(20.0,), twins=False, acquisition={"phases": 1})
    with pytest.raises(InputRefused, match=r"no organs\.tsv or dseg\.tsv beside it"):
        simulate_cohort(chosen, tmp_path / "out", anatomy=anatomy, workers=1)
    (tmp_path / "organs.tsv").write_text("index\tname\n5\tliver\n")
    assert anatomy.files == (anatomy.ct, anatomy.labels, tmp_path / "organs.tsv")
    assert AnatomyFiles(anatomy.ct, tmp_path / "labels" / "organs.nii.gz").table == tmp_path / "organs.tsv"  # above
    with pytest.raises(UsageError, match="family heldout is of drawn phantoms"):
        draw_body(np.random.default_rng(0), settings(family="heldout"), anatomy)
    low = draw_body(np.random.default_rng(0), settings(), anatomy).facts["kvp"]
    (tmp_path / "ct.json").write_text('{"KVP": 80}')
    assert (low, draw_body(np.random.default_rng(0), settings(), anatomy).facts["kvp"]) == (120, 80)
    nib.save(nib.Nifti1Image(np.where(body, 0.096, 0.0).astype(np.float32), affine), tmp_path / "mumap.nii.gz")
    with pytest.raises(InputRefused, match=r"mumap\.nii\.gz: .*needed is a CT in HU"):
        draw_body(np.random.default_rng(0), settings(), AnatomyFiles(tmp_path / "mumap.nii.gz", anatomy.labels))
    case = simulate_cohort(chosen, tmp_path / "out", anatomy=anatomy, workers=1).cases[0]
    assert case.extra["family"] == "ct"  # no family of drawn phantoms
    table = (tmp_path / "out" / "sub-0001" / "sub-0001_dseg.tsv").read_text()
    assert "liver" in table
    mu = voxels(case.mumap)
    assert mu[52, 36, mu.shape[2] // 2] == pytest.approx(0.0998, abs=0.003)
    assert voxels(case.target).max() > 0.5
