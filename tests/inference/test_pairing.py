"""Which prediction meets which reference."""

from pathlib import Path

import pytest

from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference.pairing import gather, labels_of, pair_folders, pair_manifest


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_pair_by_name_without_suffix(tmp_path):
    pred = _touch(
        tmp_path / "p", "a_acsd.nii.gz", "a_acsd.json", "a_acsd_std.nii.gz", "b_acsd.nii.gz", "c_mumap.nii.gz"
    )
    ref = _touch(tmp_path / "r", "a.nii", "c.nii.gz")
    matching = pair_folders(pred, ref)
    assert [(p.case_id, p.prediction.name, p.reference.name) for p in matching.pairs] == [
        ("a", "a_acsd.nii.gz", "a.nii")
    ]
    assert matching.notes == (
        "predictions without a reference, not scored (1): b",
        "references without a prediction, not scored (1): c",
    )


def test_names_that_repeat_pair_by_their_path(tmp_path):
    pred = _touch(tmp_path / "p", "s1/pet_acsd.nii.gz", "s2/pet_acsd.nii.gz")
    ref = _touch(tmp_path / "r", "s1/pet.nii.gz", "s2/pet.nii.gz")
    assert [(p.case_id, p.reference.parent.name) for p in pair_folders(pred, ref).pairs] == [
        ("s1/pet", "s1"),
        ("s2/pet", "s2"),
    ]


def test_volumes_of_other_programs_pair_too(tmp_path):
    matching = pair_folders(_touch(tmp_path / "p", "a.nii.gz"), _touch(tmp_path / "r", "a.nii.gz"))
    assert len(matching.pairs) == 1
    assert matching.notes == ()


def test_nothing_matched_says_what_was_seen(tmp_path):
    pred, ref = _touch(tmp_path / "p", "x_acsd.nii.gz"), _touch(tmp_path / "r", "y.nii.gz", "z.nii.gz")
    with pytest.raises(UsageError, match=r"none of the 1 predictions in .* \(x\) .* 2 references .* \(y, z\)"):
        pair_folders(pred, ref)


def test_missing_empty_and_doubled_are_refused(tmp_path):
    full = _touch(tmp_path / "p", "a.nii.gz")
    with pytest.raises(UsageError, match="does not exist"):
        pair_folders(full, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no NIfTI file"):
        pair_folders(full, tmp_path / "empty")
    with pytest.raises(UsageError, match="two volumes for one case, a"):
        pair_folders(full, _touch(tmp_path / "twice", "a.nii", "a.nii.gz"))
    with pytest.raises(UsageError, match="two folders or two files"):
        pair_folders(full, full / "a.nii.gz")


def _manifest(root: Path, *, noise_free: bool = True) -> Path:
    _touch(root, "in1.nii.gz", "in2.nii.gz", "target.nii.gz", "clean.nii.gz", "dseg.nii.gz")
    cases = [
        Case(
            f"sub-1_dose{dose}", "sub-1", "s", "test", root / f"in{i}.nii.gz", target=root / "target.nii.gz",
            noise_free=root / "clean.nii.gz" if noise_free else None, labels=root / "dseg.nii.gz", dose=dose,
        )
        for i, dose in ((1, 5.0), (2, 10.0))
    ]  # fmt: skip
    Manifest(root, tuple(cases)).save(root / "manifest.tsv")
    return root / "manifest.tsv"


def test_a_manifest_gives_reference_labels_and_patient(tmp_path):
    manifest = _manifest(tmp_path / "cohort")
    pred = _touch(tmp_path / "p", "sub-1_dose5.0_acsd.nii.gz")
    (pair,) = pair_manifest(pred, manifest).pairs
    assert (pair.patient, pair.reference.name) == ("sub-1", "clean.nii.gz")
    assert pair.labels is not None
    assert pair_manifest(pred, manifest, "target").pairs[0].reference.name == "target.nii.gz"
    assert pair_manifest(pred, manifest).notes == ("references without a prediction, not scored (1): sub-1_dose10.0",)


def test_a_lesion_free_twin_goes_with_its_case(tmp_path):
    root = _touch(tmp_path / "cohort", "in.nii.gz", "in_twin.nii.gz", "clean.nii.gz", "clean_twin.nii.gz")
    case = Case("c", "sub-1", "s", "test", root / "in.nii.gz", noise_free=root / "clean.nii.gz")
    twin = Case(
        "c_lesionfree", "sub-1", "s", "test", root / "in_twin.nii.gz", noise_free=root / "clean_twin.nii.gz",
        extra={"lesion_free_of": "c"},
    )  # fmt: skip
    Manifest(root, (case, twin)).save(root / "manifest.tsv")
    pred = _touch(tmp_path / "p", "c_acsd.nii.gz")
    (alone,) = pair_manifest(pred, root / "manifest.tsv").pairs
    assert alone.twin is None
    matching = pair_manifest(_touch(pred, "c_lesionfree_acsd.nii.gz"), root / "manifest.tsv")
    assert [p.case_id for p in matching.pairs] == ["c"]
    assert matching.pairs[0].twin is not None
    assert [p.name for p in matching.pairs[0].twin] == ["c_lesionfree_acsd.nii.gz", "clean_twin.nii.gz"]
    assert matching.notes == ()


def test_doses_that_are_pooled_are_named(tmp_path):
    pred = _touch(tmp_path / "p", "sub-1_dose5.0_acsd.nii.gz", "sub-1_dose10.0_acsd.nii.gz")
    assert "doses of 5, 10 % are pooled" in pair_manifest(pred, _manifest(tmp_path / "cohort")).notes[0]


def test_real_patients_have_no_noise_free_volume(tmp_path):
    manifest = _manifest(tmp_path / "cohort", noise_free=False)
    pred = _touch(tmp_path / "p", "sub-1_dose5.0_acsd.nii.gz")
    matching = pair_manifest(pred, manifest)
    assert (matching.pairs[0].reference.name, "target" in matching.reference) == ("target.nii.gz", True)
    with pytest.raises(UsageError, match="use --reference target"):
        pair_manifest(pred, manifest, "noise_free")


def test_a_manifest_without_a_prediction_says_what_is_needed(tmp_path):
    with pytest.raises(UsageError, match=r"needed is <case_id>_acsd\.nii\.gz"):
        pair_manifest(_touch(tmp_path / "p", "other_acsd.nii.gz"), _manifest(tmp_path / "cohort"))


def test_labels_are_found_by_case_or_by_patient(tmp_path):
    labels = _touch(tmp_path, "sub-1_dseg.nii.gz", "x.nii.gz")
    own = labels_of("sub-1_trc-18FFDG_pet", labels)
    assert own is not None
    assert own.name == "sub-1_dseg.nii.gz"
    assert labels_of("x", labels) == tmp_path / "x.nii.gz"
    assert labels_of("sub-2_pet", labels) is None


def test_labels_of_scans_of_one_name_are_told_apart_by_their_folders(tmp_path):
    pred, ref, labels = tmp_path / "p", tmp_path / "r", tmp_path / "l"
    for case in ("A", "B"):
        _touch(pred / case, "pet_acsd.nii.gz")
        _touch(ref / case, "pet.nii.gz")
        _touch(labels / case, "pet_dseg.nii.gz")
    found = {pair.case_id: pair.labels for pair in pair_folders(pred, ref, labels).pairs}
    assert found == {f"{case}/pet": labels / case / "pet_dseg.nii.gz" for case in ("A", "B")}
    with pytest.raises(InputRefused, match=r"two volumes called pet_dseg; needed is one"):
        labels_of("pet", labels)


def test_mu_maps_pair_by_their_own_suffix_on_both_sides(tmp_path):
    pred = _touch(tmp_path / "p", "a_mumap.nii.gz", "a_acsd.nii.gz", "b_mumap.nii.gz")
    ref = _touch(tmp_path / "r", "a_mumap.nii.gz", "a_dseg.nii.gz", "a_pet.nii.gz")
    matching = pair_folders(pred, ref, quantity="mumap")
    assert [(p.case_id, p.prediction.name, p.reference.name) for p in matching.pairs] == [
        ("a", "a_mumap.nii.gz", "a_mumap.nii.gz")
    ]
    assert matching.alone == (("b", "no reference of this name"),)


def test_mu_maps_of_a_manifest_have_its_column(tmp_path):
    root = _touch(tmp_path / "cohort", "in.nii.gz", "mu.nii.gz", "clean.nii.gz")
    case = Case("c", "p", "s", "test", root / "in.nii.gz", noise_free=root / "clean.nii.gz", mumap=root / "mu.nii.gz")
    Manifest(root, (case,)).save(root / "manifest.tsv")
    pred = _touch(tmp_path / "p", "c_mumap.nii.gz", "c_acsd.nii.gz")
    matching = pair_manifest(pred, root / "manifest.tsv", quantity="mumap")
    assert [(p.prediction.name, p.reference.name) for p in matching.pairs] == [("c_mumap.nii.gz", "mu.nii.gz")]
    assert (matching.kind, matching.reference) == ("mumap", "the manifest's mu-maps")


def test_a_case_without_a_reference_is_told_and_the_others_are_paired(tmp_path):
    root = _touch(tmp_path / "cohort", "in.nii.gz", "clean.nii.gz")
    cases = [
        Case(name, name, "s", "test", root / "in.nii.gz", noise_free=root / "clean.nii.gz" if name == "a" else None)
        for name in ("a", "b")
    ]
    Manifest(root, tuple(cases)).save(root / "manifest.tsv")
    matching = pair_manifest(_touch(tmp_path / "p", "a_acsd.nii.gz", "b_acsd.nii.gz"), root / "manifest.tsv")
    assert [p.case_id for p in matching.pairs] == ["a"]
    assert matching.notes == ("cases without a noise_free volume, not scored (1): b",)
    assert matching.alone == (("b", "no noise_free volume in the manifest"),)


def test_only_cases_that_should_have_been_predicted_are_missed(tmp_path):
    """The other dose of the manifest was not asked for; the other patient of this dose was left out."""
    root = _touch(tmp_path / "cohort", "in.nii.gz", "clean.nii.gz")
    cases = [
        Case(f"{p}_{dose:g}", p, "site", "test", root / "in.nii.gz", noise_free=root / "clean.nii.gz", dose=dose)
        for p in ("p", "q")
        for dose in (5.0, 20.0)
    ]
    Manifest(root, tuple(cases)).save(root / "manifest.tsv")
    matching = pair_manifest(_touch(tmp_path / "p", "p_5_acsd.nii.gz"), root / "manifest.tsv")
    assert matching.alone == (("q_5", "no prediction of this case"),)
    (pair,) = matching.pairs
    assert (pair.dose, pair.site, pair.scanner, pair.condition) == (5.0, "site", None, root / "in.nii.gz")


def test_cases_of_several_methods_are_gathered_by_name(tmp_path):
    ref = _touch(tmp_path / "r", "a.nii.gz", "b.nii.gz")
    one = pair_folders(_touch(tmp_path / "1", "a_acsd.nii.gz", "b_acsd.nii.gz"), ref)
    two = pair_folders(_touch(tmp_path / "2", "b_acsd.nii.gz"), ref)
    assert [list(pairs) for pairs in gather({"one": one, "two": two})] == [["one"], ["one", "two"]]


def test_single_files_of_other_names_are_one_case(tmp_path):
    root = _touch(tmp_path, "mine.nii.gz", "theirs.nii.gz", "ref.nii.gz")
    one, two = (pair_folders(root / f"{name}.nii.gz", root / "ref.nii.gz") for name in ("mine", "theirs"))
    (case,) = gather({"one": one, "two": two})
    assert {pair.case_id for pair in case.values()} == {"mine"}
    assert case["two"].prediction.name == "theirs.nii.gz"
