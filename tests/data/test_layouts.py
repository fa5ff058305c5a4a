"""Data sets' folders to manifests: what is paired, what is left out and why, and splits that nobody crosses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_data_sets
from tiny_data_sets import put

from pet_pipeline.configs.simulation import SplitFractions
from pet_pipeline.data.bids_names import BidsName, dose_of, dose_tag
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.layouts import patterns, udpet
from pet_pipeline.data.layouts.recognise import LAYOUTS, sort_out
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.manifest_making import Making, draw_splits, make_manifest, tasks_served
from pet_pipeline.errors import InputRefused, UsageError


def made_of(root: Path, layout: str = "auto", **options: object) -> Making:
    return make_manifest(sort_out(root, layout), root, **options)


def reasons(making: Making) -> dict[str, str]:
    return {one.path.relative_to(making.found.root).as_posix(): one.reason for one in making.left}


@pytest.mark.parametrize(
    ("build", "layout", "pairs", "tasks"),
    [
        (tiny_data_sets.bids, "bids", {"5": 4, "20": 4}, {"madm": 8, "ndif": 0, "mumap": 8}),
        (tiny_data_sets.hedypet, "bids", {"100": 3}, {"madm": 3, "ndif": 0, "mumap": 0}),
        (tiny_data_sets.udpet, "udpet", {"2": 3, "5": 3}, {"madm": 0, "ndif": 6, "mumap": 0}),
        (tiny_data_sets.lesions, "fdg-pet-ct-lesions", {}, {"madm": 0, "ndif": 0, "mumap": 0}),
        (tiny_data_sets.madm, "madm", {"5": 3}, {"madm": 3, "ndif": 0, "mumap": 0}),
    ],
)
def test_each_layout_is_recognised_and_what_is_made_of_it_reads_back(
    build: Callable[[Path], Path], layout: str, pairs: dict[str, int], tasks: dict[str, int], tmp_path: Path
) -> None:
    made = made_of(build(tmp_path / "set"))
    assert made.found.layout == layout
    assert made.pairs == pairs
    assert tasks_served(made.manifest.cases) == tasks
    made.manifest.save(tmp_path / "lists" / "manifest.tsv")
    read = Manifest.load(tmp_path / "lists" / "manifest.tsv")
    read.verify_checksums()
    assert [case.case_id for case in read.cases] == [case.case_id for case in made.manifest.cases]


def test_a_cohort_of_the_simulator_has_its_own_names(tmp_path: Path) -> None:
    first = made_of(tiny_data_sets.bids(tmp_path)).manifest.cases[0]
    names = {column: path.relative_to(tmp_path).as_posix() for column, path in first.paths().items()}
    assert (first.case_id, first.participant_id, first.dose) == ("sub-0001_dose05", "sub-0001", 5.0)
    pet = "sub-0001/pet/sub-0001_trc-18FFDG_rec"
    assert names == {
        "input": f"{pet}-nacstat_desc-dose05_pet.nii.gz",
        "target": f"{pet}-acstat_desc-dose100_pet.nii.gz",
        "noise_free": f"{pet}-acstat_desc-noisefree_pet.nii.gz",
        "mumap": "sub-0001/sub-0001_mumap.nii.gz",
        "labels": "sub-0001/sub-0001_dseg.nii.gz",
    }
    assert first.checksums["target"] == sha256_of(first.paths()["target"])


def test_sessions_runs_and_parts_are_never_mixed(tmp_path: Path) -> None:
    for place in ("ses-a", "ses-b"):
        for scan in ("run-1", "run-2", "part-legs"):
            for rec in ("nacstat", "acstat"):
                put(tmp_path, f"sub-1/{place}/pet/sub-1_{place}_rec-{rec}_{scan}_pet.nii.gz")
        put(tmp_path, f"sub-1/{place}/sub-1_{place}_mumap.nii.gz")
    put(tmp_path, "sub-1/ses-b/sub-1_ses-b_run-2_mumap.nii.gz")
    cases = {case.case_id: case for case in made_of(tmp_path).manifest.cases}
    assert len(cases) == 6
    for name, case in cases.items():
        stem = name.removesuffix("_dose100")
        session, scan = stem.split("_", 2)[1:]
        assert case.input.name == f"sub-1_{session}_rec-nacstat_{scan}_pet.nii.gz"
        assert case.target.name == f"sub-1_{session}_rec-acstat_{scan}_pet.nii.gz"
        nearest = "sub-1_ses-b_run-2_mumap" if (session, scan) == ("ses-b", "run-2") else f"sub-1_{session}_mumap"
        assert case.mumap.name == f"{nearest}.nii.gz"


def test_correction_and_dose_may_stand_in_the_sidecar(tmp_path: Path) -> None:
    put(tmp_path, "sub-1/pet/sub-1_run-1_pet.nii.gz", facts={"AttenuationCorrection": "none", "DosePercent": 25})
    put(tmp_path, "sub-1/pet/sub-1_rec-acstat_run-1_pet.nii.gz")
    put(tmp_path, "sub-1/pet/sub-1_rec-osem_run-1_pet.nii.gz")
    made = made_of(tmp_path)
    (case,) = made.manifest.cases
    assert (case.dose, case.input.name) == (25.0, "sub-1_run-1_pet.nii.gz")
    assert "corrected for attenuation or not?" in reasons(made)["sub-1/pet/sub-1_rec-osem_run-1_pet.nii.gz"]


def test_every_mistake_is_named(tmp_path: Path) -> None:
    root = tiny_data_sets.bids(tmp_path, participants=2, doses=("dose05",))
    (root / "sub-0001" / "pet" / "sub-0001_trc-18FFDG_rec-acstat_desc-dose100_pet.nii.gz").unlink()  # an orphan
    put(root, "sub-0002/pet/sub-0003_rec-acstat_pet.nii.gz")  # wrong name
    put(root, "sub-0002/pet/Copy of scan.nii.gz")
    put(root, "sub-0004/pet/sub-0004_rec-nacstat_desc-smooth_pet.nii.gz")
    put(root, "sub-0005/pet/sub-0005_rec-nacstat_pet.nii.gz", facts={"Units": "CNTS"})  # another unit than its target
    put(root, "sub-0005/pet/sub-0005_rec-acstat_pet.nii.gz", facts={"Units": "Bq/mL"})
    put(root, "sub-0006/pet/sub-0006_rec-nacstat_pet.nii.gz", facts={"TracerRadionuclide": "Ga68"})
    put(root, "sub-0007/pet/sub-0007_rec-nacstat_pet.nii", "sub-0007/pet/sub-0007_rec-nacstat_pet.nii.gz")
    put(root, "sub-0008/anat/sub-0008_T1w.nii.gz", "sub-0009/sub-0009_mumap.nii.gz")
    put(root, "sub-0011/pet/sub-0011_rec-acdyn_pet.nii.gz", frames=3)
    (root / "sub-0010_rec-nacstat_pet.nii.gz").write_bytes(b"no image")
    (root / "sub-0012_rec-nacstat_pet.nii.gz").symlink_to("nowhere")
    made = made_of(root)
    assert [case.case_id for case in made.manifest.cases if case.target] == ["sub-0002_dose05"]
    assert made.unpaired == ("sub-0001_dose05",)
    told = {Path(name).name: reason for name, reason in reasons(made).items()}
    expected = {
        "sub-0003_rec-acstat_pet.nii.gz": "sub-0002 is its folder",
        "Copy of scan.nii.gz": "no BIDS name",
        "sub-0004_rec-nacstat_desc-smooth_pet.nii.gz": "desc-smooth: no dose",
        "sub-0005_rec-nacstat_pet.nii.gz": "input in relative, target in bqml",
        "sub-0005_rec-acstat_pet.nii.gz": "input in relative, target in bqml",
        "sub-0006_rec-nacstat_pet.nii.gz": "isotope Ga68",
        "sub-0007_rec-nacstat_pet.nii": "the same image of the same scan",
        "sub-0007_rec-nacstat_pet.nii.gz": "the same image of the same scan",
        "sub-0008_T1w.nii.gz": "suffix T1w",
        "sub-0009_mumap.nii.gz": "no PET of this scan",
        "sub-0010_rec-nacstat_pet.nii.gz": "no NIfTI header",
        "sub-0011_rec-acdyn_pet.nii.gz": "3 frames",
        "sub-0012_rec-nacstat_pet.nii.gz": "a link to nothing",
    }
    assert told.keys() == expected.keys()
    for name, words in expected.items():
        assert words in told[name], name


def test_one_patient_under_two_names_does_not_cross_splits(tmp_path: Path) -> None:
    tiny_data_sets.madm(tmp_path)
    for folder in ("5NAC", "100AC"):
        shutil.copy(tmp_path / folder / "p1.nii.gz", tmp_path / folder / "p1-copy.nii.gz")
    made = made_of(tmp_path)
    assert [case.participant_id for case in made.manifest.cases] == ["p0", "p1", "p2"]
    assert "the very image of p1:" in reasons(made)["5NAC/p1-copy.nii.gz"]


def test_an_unpaired_scan_of_a_paired_participant_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "sub-1_run-1_rec-nacstat_pet.nii.gz", "sub-1_run-1_rec-acstat_pet.nii.gz")
    put(tmp_path, "sub-1_run-2_rec-nacstat_pet.nii.gz")
    made = made_of(tmp_path)
    assert [case.case_id for case in made.manifest.cases] == ["sub-1_run-1_dose100"]
    assert "no target in this scan" in reasons(made)["sub-1_run-2_rec-nacstat_pet.nii.gz"]


@pytest.mark.parametrize("layout", ["auto", *LAYOUTS])
def test_nothing_found_says_what_was_looked_for_and_where(layout: str, tmp_path: Path) -> None:
    put(tmp_path, "some/brain_T1w.nii.gz")
    with pytest.raises(InputRefused) as refusal:
        sort_out(tmp_path, layout)
    message = str(refusal.value)
    assert str(tmp_path) in message
    assert "1 NIfTI files below it" in message
    assert all(f"{name}: " in message for name in (LAYOUTS if layout == "auto" else [layout]))
    assert len(message.splitlines()) == 1


def test_targets_without_any_input_are_told(tmp_path: Path) -> None:
    put(tmp_path, "sub-1_rec-acstat_desc-noisefree_pet.nii.gz")
    with pytest.raises(InputRefused, match="1 images, but no row"):
        made_of(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        sort_out(tmp_path / "gone")


def test_patterns_of_ones_own(tmp_path: Path) -> None:
    put(tmp_path, "a/low/p1/x_10.nii.gz", "a/low/p1/x_2.5.nii.gz", "a/full/p1-ac.nii.gz", "a/full/p2-ac.nii.gz")
    own = patterns.layout(["input=a/low/{participant}/*_{dose}.nii.gz", "target=**/{participant}-ac.nii.gz"])
    made = make_manifest(sort_out(tmp_path, own=own), tmp_path)
    ids = [(case.case_id, case.participant_id, case.dose) for case in made.manifest.cases]
    assert ids == [("p1_dose02p5", "p1", 2.5), ("p1_dose10", "p1", 10.0), ("p2_dose100", "p2", 100.0)]
    assert all(case.target.name == "p1-ac.nii.gz" for case in made.manifest.cases[:2])
    plain = patterns.layout(["input_ac=a/low/{participant}/x_10.nii.gz", "target=a/full/{participant}-ac.nii.gz"], 10.0)
    assert [case.dose for case in make_manifest(sort_out(tmp_path, own=plain), tmp_path).manifest.cases] == [
        10.0,
        100.0,
    ]
    for wrong in ("inputs=a/{participant}.nii", "input=a/*.nii", "input", "input={participant}/{participant}.nii"):
        with pytest.raises(UsageError, match="--pattern"):
            patterns.layout([wrong])


def test_excluded_files_are_told_and_resolve_a_doubt(tmp_path: Path) -> None:
    put(tmp_path, "sub-1_rec-nacstat_pet.nii.gz", "sub-1_rec-acstat_pet.nii.gz", "sub-1_rec-acstatpsf_pet.nii.gz")
    assert made_of(tmp_path).pairs == {}
    made = make_manifest(sort_out(tmp_path, exclude=["*psf_pet*"]), tmp_path)
    assert made.pairs == {"100": 1}
    assert reasons(made) == {"sub-1_rec-acstatpsf_pet.nii.gz": "excluded"}


def test_splits_are_seeded_meet_the_shares_and_change_little(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(40)]
    fractions = SplitFractions(train=0.7, val=0.1, test=0.2)
    drawn = draw_splits(names, fractions, 0)
    assert {split: list(drawn.values()).count(split) for split in ("train", "val", "test")} == {
        "train": 28, "val": 4, "test": 8,
    }  # fmt: skip
    assert draw_splits(reversed(names), fractions, 0) == drawn
    assert draw_splits(names, fractions, 1) != drawn
    grown = draw_splits([*names, "new"], fractions, 0)
    assert sum(grown[name] != drawn[name] for name in names) <= 2
    assert sorted(draw_splits(names[:3], fractions, 0).values()) == ["test", "train", "val"]
    assert set(draw_splits(names[:2], fractions, 0).values()) == {"train"}


def test_splits_of_the_data_set_itself_stay(tmp_path: Path) -> None:
    tiny_data_sets.bids(tmp_path, participants=3)
    stated = {"sub-0001": "test", "sub-0002": "train", "sub-0003": "test"}
    lines = ["participant_id\tsplit", *(f"{name}\t{split}" for name, split in stated.items())]
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    assert {case.participant_id: case.split for case in made_of(tmp_path).manifest.cases} == stated
    drawn = made_of(tmp_path, split=SplitFractions(train=1.0, val=0.0, test=0.0))
    assert {case.split for case in drawn.manifest.cases} == {"train"}


def test_stated_splits_do_not_bring_a_scan_without_a_target_into_training(tmp_path: Path) -> None:
    tiny_data_sets.bids(tmp_path, participants=2, doses=("dose05",))
    (tmp_path / "sub-0002" / "pet" / "sub-0002_trc-18FFDG_rec-acstat_desc-dose100_pet.nii.gz").unlink()
    (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-0001\ttrain\nsub-0002\ttrain\n")
    assert [case.split for case in made_of(tmp_path).manifest.cases] == ["train", "test"]


def test_where_nothing_has_a_target_mumaps_make_the_pairs(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"sub-{number}_rec-nacstat_pet.nii.gz")
        if number:
            put(tmp_path, f"sub-{number}_mumap.nii.gz")
    made = made_of(tmp_path)
    assert made.unpaired == ("sub-0_dose100",)
    assert sorted(case.split for case in made.manifest.cases if case.mumap) == ["test", "train", "val"]
    assert tasks_served(made.manifest.cases) == {"madm": 0, "ndif": 0, "mumap": 3}


def test_reconstruction_settings_come_from_the_input(tmp_path: Path) -> None:
    facts = {"Manufacturer": "Siemens", "ReconMethodName": "PSF+TOF 4i5s", "FrameDuration": [120]}
    put(tmp_path, "sub-1_rec-nacstat_pet.nii.gz", facts=facts)
    put(tmp_path, "sub-1_rec-acstat_pet.nii.gz", facts={"Manufacturer": "GE"})
    (case,) = made_of(tmp_path).manifest.cases
    expected = {"vendor": "Siemens", "tof": "yes", "psf": "yes", "iterations": "4", "subsets": "5", "seconds": "120"}
    assert case.extra == expected


def test_names_and_doses_are_put_together_as_they_were_taken_apart() -> None:
    text = "sub-01_ses-a_rec-nacstat_desc-dose05_pet"
    name = BidsName.parse(text)
    assert str(name) == text
    assert str(name.described("acsd")) == "sub-01_ses-a_rec-nacstat_desc-acsd_pet"
    for wrong in ("pet", "ses-a_sub-01_pet", "sub-01_x_pet", "sub-01_sub-02_pet", "sub-01_pet.v2"):
        assert BidsName.parse(wrong) is None
    assert [dose_of(dose_tag(percent)) for percent in (1.0, 2.5, 5.0, 12.5, 100.0)] == [1.0, 2.5, 5.0, 12.5, 100.0]


def test_the_table_of_udpet_makes_suv_of_its_images(tmp_path: Path) -> None:
    """370 MBq in 70 kg an hour before the scan, by hand."""
    from pet_pipeline.data.injection import Injection
    from pet_pipeline.data.input_units import stated_unit
    from pet_pipeline.units import Unit, suv_from_bqml

    tiny_data_sets.udpet(tmp_path, participants=1)
    found = sort_out(tmp_path)
    table = tmp_path / "patients.csv"
    table.write_text(
        "PatientID,Weight (kg),Injected activity,Time delay,Half life\nAnonymous-01,70,370e6,3600,6586.2\n"
    )
    written = udpet.sidecars(table, found.images)
    assert {path.name for path in written} == {f"Anonymous-01_DRF-{factor}.nii.gz" for factor in (1, 20, 50)}
    facts = next(iter(written.values()))
    known = Injection.from_sidecar(facts, "a")
    assert stated_unit(facts, "a") is Unit.BQML
    factor = suv_from_bqml(
        1.0, weight_kg=known.weight_kg, injected_mbq=known.dose_mbq, minutes=known.minutes, half_life_s=6586.2
    )
    assert factor == pytest.approx(70e3 / (370e6 * 2.0 ** (-3600.0 / 6586.2)))
    header = "Weight,Activity,Delay,Half life,ID\n"
    for row in ("x,1,1,1,a", "-70,1,1,1,a", "nan,1,1,1,a", "70,0,1,1,a", "70,1,-1,1,a", "70,1,1,inf,a", "70,1,1"):
        table.write_text(f"{header}{row}\n")
        with pytest.raises(InputRefused, match=r"patients\.csv: '.*' is '.*'; needed is a number above 0"):
            udpet.sidecars(table, found.images)
    table.write_text('PatientID,Weight,"two\u2028lines"\nAnonymous-01,70\n')
    with pytest.raises(InputRefused, match=r"patients\.csv: no column for dose_bq") as refused:
        udpet.sidecars(table, found.images)
    assert len(str(refused.value).splitlines()) == 1
