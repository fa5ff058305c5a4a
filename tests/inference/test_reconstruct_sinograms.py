"""`reconstruct`: the cohort's own images with the CT's mu-map; any other map on any grid; units, places and names."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.couch import patient_mask, without_couch
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.mumap_files import mumap_onto
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.inference.reconstruction import reconstruct
from pet_pipeline.inference.reconstruction_files import Work, collect, parse_dose, run
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.simulation.sinograms import StoredSinogram
from pet_pipeline.units import Unit


def voxels(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.asarray(nib.load(path).dataobj)


def work(mumap: str | Path, **options: bool | int) -> Work:
    return Work.of(str(mumap), **{"iterations": None, "couch": True, "overwrite": False, **options})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    settings = CohortSettings.model_validate(
        {
            "patients": 2,
            "doses": [5.0, 20.0],
            "ac_low_dose": True,
            "keep_sinograms": True,
            "phantom": {"slices": [8, 8], "couch": 1.0},
            "acquisition": {"phases": 1},
        }
    )
    simulate_cohort(settings, root, workers=1)
    return root


@pytest.fixture(scope="module")
def manifest(cohort: Path) -> Manifest:
    return Manifest.load(cohort / "manifest.tsv")


@pytest.fixture(scope="module")
def stored(manifest: Manifest) -> StoredSinogram:
    assert manifest.cases[0].sinogram is not None
    return StoredSinogram.load(manifest.cases[0].sinogram)


@pytest.fixture(scope="module")
def ct_map(stored: StoredSinogram) -> Volume:
    return Volume(stored.ct_mu_cm1, stored.geometry, Unit.CM1)


def test_a_manifest_with_the_cts_map_gives_the_cohorts_own_images(
    cohort: Path, manifest: Manifest, tmp_path: Path
) -> None:
    outcomes = run(collect([cohort / "manifest.tsv"], tmp_path), work("ct"))
    assert [outcome.status for outcome in outcomes] == ["done"] * 4
    assert [outcome.case_id for outcome in outcomes] == [case.case_id for case in manifest.cases]
    for case, outcome in zip(manifest.cases, outcomes, strict=True):
        np.testing.assert_allclose(voxels(outcome.target), voxels(case.input_ac), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(nib.load(outcome.target).affine, nib.load(case.input_ac).affine, atol=1e-4)
    facts = json.loads((tmp_path / "sub-0001_dose05.json").read_text())
    assert facts["Units"] == "g/mL"
    assert facts["Simulated"] is True
    assert facts["AttenuationCorrection"] == "CT"
    assert facts["DosePercent"] == 5.0
    assert facts["options"]["iterations"] == 3
    assert facts["input"]["path"].endswith("sub-0001_sinogram.npz")
    assert facts["software"]["pet_pipeline"]


def test_noise_free_and_uncorrected_images_come_back_too(cohort: Path, manifest: Manifest, tmp_path: Path) -> None:
    jobs = collect([cohort / "manifest.tsv"], tmp_path / "ac", [parse_dose("noisefree")])
    assert [job.case_id for job in jobs] == ["sub-0001_noisefree", "sub-0002_noisefree"]
    made = run(jobs, work("ct"))
    np.testing.assert_allclose(voxels(made[0].target), voxels(manifest.cases[0].noise_free), rtol=1e-5, atol=1e-6)
    jobs = collect([cohort / "manifest.tsv"], tmp_path / "nac", [5.0])
    assert [job.case_id for job in jobs] == ["sub-0001_dose05", "sub-0002_dose05"]
    made = run(jobs, work("none"))
    np.testing.assert_allclose(voxels(made[0].target), voxels(manifest.cases[0].input), rtol=1e-5, atol=1e-6)
    assert "not a measurement" in json.loads((tmp_path / "nac" / "sub-0001_dose05.json").read_text())["UnitsNote"]


@pytest.mark.parametrize("turn", [((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, False, True))])
def test_a_map_on_the_same_lattice_is_used_bit_for_bit(
    stored: StoredSinogram, ct_map: Volume, turn: tuple, tmp_path: Path
) -> None:
    """Cut out, permuted and flipped, in a file: the same voxels at the same places."""
    start = (4, 10, 0)
    nx, ny, nz = ct_map.geometry.shape
    shape = (nx - 8, ny - 20, nz)
    inner = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    cut = Volume(ct_map.data[inner].copy(), ct_map.geometry.cropped(start, shape), Unit.CM1)
    path = tmp_path / "map.nii.gz"
    nifti.write(path, cut.oriented(Orientation(*turn)))
    by_file = reconstruct(stored, path, dose=5.0, couch=False)
    lost = float(ct_map.data.sum() - cut.data.sum())
    assert lost == pytest.approx(0.0, abs=1e-3)  # the couch and the patient lie inside
    assert by_file.warnings == ()
    np.testing.assert_array_equal(by_file.volume.data, reconstruct(stored, "ct", dose=5.0).volume.data)


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (3.0, 6.0, 5.0)])
def test_a_map_on_another_grid_gives_nearly_the_same_image(
    stored: StoredSinogram, ct_map: Volume, spacing: tuple[float, float, float]
) -> None:
    extent = np.asarray(ct_map.geometry.shape) * 5.0
    shape = tuple(int(np.ceil(e / s)) for e, s in zip(extent, spacing, strict=True))
    other = mumap_onto(ct_map, Geometry.regular((shape[0], shape[1], shape[2]), spacing))
    made = reconstruct(stored, other, dose="noisefree").volume.data
    own = reconstruct(stored, "ct", dose="noisefree").volume.data
    assert np.sqrt(((made - own) ** 2).sum() / (own**2).sum()) < 0.02
    assert made.sum() == pytest.approx(own.sum(), rel=0.01)


def test_the_couch_is_given_back_to_a_map_without_it(stored: StoredSinogram, ct_map: Volume) -> None:
    spacing = ct_map.geometry.spacing_mm
    alone = ct_map.with_data(without_couch(ct_map.data, spacing))
    own = reconstruct(stored, "ct", dose="noisefree").volume.data
    with_couch = reconstruct(stored, alone, dose="noisefree").volume.data
    without = reconstruct(stored, alone, dose="noisefree", couch=False).volume.data
    assert with_couch.sum() == pytest.approx(own.sum(), rel=0.002)
    assert without.sum() < 0.99 * own.sum()
    # a map that has its couch gains nothing
    np.testing.assert_array_equal(reconstruct(stored, ct_map, dose=5.0).volume.data,
                                  reconstruct(stored, "ct", dose=5.0).volume.data)  # fmt: skip


def test_water_has_the_bodys_outline_and_corrects_better_than_nothing(stored: StoredSinogram) -> None:
    own = reconstruct(stored, "ct", dose="noisefree").volume.data
    water = reconstruct(stored, "water", dose="noisefree", couch=False)
    nothing = reconstruct(stored, "none", dose="noisefree")
    assert nothing.mu_cm1 is None
    assert water.mu_cm1 is not None
    np.testing.assert_array_equal(np.unique(water.mu_cm1.data), np.float32([0.0, 0.096]))
    filled, body = water.mu_cm1.data > 0, patient_mask(stored.ct_mu_cm1, stored.geometry.spacing_mm)
    assert 2.0 * (filled & body).sum() / (filled.sum() + body.sum()) > 0.9
    errors = [float(np.linalg.norm(image.volume.data - own) / np.linalg.norm(own)) for image in (water, nothing)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda mu: mu / 10.0, r"per mm \(water 0\.0096\)"),
        (lambda mu: mu / 9.6e-5 - 1000.0, "CT numbers in HU"),
        (lambda mu: mu * 100.0, "denser than steel"),
        (lambda mu: mu * 0.0, "all zero"),
    ],
)
def test_a_planted_unit_error_is_refused(
    stored: StoredSinogram, ct_map: Volume, values, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.nii.gz"
    nifti.write(path, ct_map.with_data(values(ct_map.data)))
    with pytest.raises(InputRefused, match=message):
        reconstruct(stored, path)
    with pytest.raises(InputRefused, match=message):
        reconstruct(stored, ct_map.with_data(values(ct_map.data)))


def test_a_stated_unit_is_believed(stored: StoredSinogram, ct_map: Volume, tmp_path: Path) -> None:
    path = tmp_path / "map.nii.gz"
    nifti.write(path, ct_map)
    (tmp_path / "map.json").write_text('{"Units": "mm-1"}')
    with pytest.raises(InputRefused, match=r"Units 'mm-1' in the sidecar; needed is a mu-map in cm\^-1"):
        reconstruct(stored, path)
    with pytest.raises(InputRefused, match="unit hu found"):
        reconstruct(stored, ct_map.with_data(ct_map.data, Unit.HU))


def test_a_map_of_another_place_is_refused_or_warned_of(stored: StoredSinogram, ct_map: Volume) -> None:
    def moved(axis: int, mm: float) -> Volume:
        affine = ct_map.geometry.affine.copy()
        affine[axis, 3] += mm
        return Volume(ct_map.data, Geometry(ct_map.geometry.shape, affine), Unit.CM1)

    with pytest.raises(InputRefused, match="nothing of it lies in the scanner's field of view"):
        reconstruct(stored, moved(0, 2000.0))
    result = reconstruct(stored, moved(2, 20.0))
    assert any("covers 50% of the slices" in warning for warning in result.warnings)
    assert any("50% of the map's attenuation" in w or "beyond the scanner's field" in w for w in result.warnings)


def test_finished_images_are_skipped_and_others_left_alone(cohort: Path, tmp_path: Path) -> None:
    source = cohort / "sub-0001" / "sub-0001_sinogram.npz"
    jobs = collect([source], tmp_path, [5.0])
    assert run(jobs, work("ct"))[0].status == "done"
    stamp = jobs[0].target.stat().st_mtime_ns
    assert run(jobs, work("ct"))[0].status == "skipped"
    other = run(jobs, work("none"))[0]
    assert (other.status, other.exit_status) == ("failed", 4)
    assert "left untouched" in other.message
    assert jobs[0].target.stat().st_mtime_ns == stamp
    assert run(jobs, work("none", overwrite=True))[0].status == "done"


def test_what_a_killed_run_leaves_goes_with_the_next(cohort: Path, tmp_path: Path) -> None:
    jobs = collect([cohort / "sub-0001" / "sub-0001_sinogram.npz"], tmp_path, [5.0])
    target = jobs[0].target
    names = (target.name, target.name.replace(".nii.gz", ".json"))
    left = [f".{target.name}.lock", f".{target.name}.claim", *(f".partial-{name}-x.json" for name in names)]
    for expected in ("done", "skipped"):
        for name in left:
            (tmp_path / name).write_text("half")
        assert run(jobs, work("ct"))[0].status == expected
        assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_folders_of_maps_and_one_bad_case(cohort: Path, ct_map: Volume, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    nifti.write(maps / "below" / "sub-0001_mumap.nii.gz", ct_map)
    nifti.write(maps / "sub-0001_dose20_mumap.nii.gz", ct_map.with_data(0.9 * ct_map.data))
    jobs = collect([cohort], tmp_path / "out", [5.0, 20.0])
    outcomes = run(jobs, work(maps))
    assert [outcome.status for outcome in outcomes] == ["done", "done", "refused", "refused"]
    assert "no mu-map for sub-0002_dose05; looked for sub-0002_dose05_mumap" in outcomes[2].message
    facts = [json.loads((tmp_path / "out" / f"sub-0001_{tag}.json").read_text()) for tag in ("dose05", "dose20")]
    assert [Path(fact["mumap"]["path"]).name for fact in facts] == [
        "sub-0001_mumap.nii.gz", "sub-0001_dose20_mumap.nii.gz"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="one map for 2 sinograms"):
        run(jobs, work(maps / "sub-0001_dose20_mumap.nii.gz"))


def test_wrong_inputs_are_usage_errors(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        collect([tmp_path / "none.npz"], tmp_path)
    with pytest.raises(UsageError, match=r"no \*_sinogram\.npz below it"):
        collect([tmp_path], tmp_path)
    copy = tmp_path / "again" / "sub-0001_sinogram.npz"
    copy.parent.mkdir()
    shutil.copy(cohort / "sub-0001" / "sub-0001_sinogram.npz", copy)
    with pytest.raises(UsageError, match="two inputs for one output"):
        collect([copy, cohort / "sub-0001" / "sub-0001_sinogram.npz"], tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        work(tmp_path / "no-map.nii.gz")
    for text in ("0", "120", "low", "-5"):
        with pytest.raises(UsageError, match="noisefree"):
            parse_dose(text)
    bare = tmp_path / "bare.tsv"
    lines = (cohort / "manifest.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    keep = [i for i, name in enumerate(header) if name in ("case_id", "participant_id", "split")]
    rows = [[line.split("\t")[i] for i in keep] for line in lines]
    pet = next((cohort / "sub-0001" / "pet").glob("*nacstat*dose05*.nii.gz"))
    bare.write_text("\n".join("\t".join([*row, "input" if n == 0 else str(pet)]) for n, row in enumerate(rows)) + "\n")
    with pytest.raises(UsageError, match="no row has a sinogram"):
        collect([bare], tmp_path)
