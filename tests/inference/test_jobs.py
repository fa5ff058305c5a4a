"""Names of outputs, and the inputs that must not be taken."""

from pathlib import Path

import pytest

from pet_pipeline.errors import UsageError
from pet_pipeline.inference.jobs import collect


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_named_files_go_into_the_folder_and_folders_keep_their_paths(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    _touch(scans / "a.nii", scans / "deep" / "er" / "b.v2.nii.gz", scans / "notes.txt", scans / ".partial-x.nii.gz")
    named = collect([scans / "a.nii"], out)
    assert [(job.case_id, job.target) for job in named] == [("a", out / "a_acsd.nii.gz")]
    found = collect([scans], out)
    assert [job.case_id for job in found] == ["a", "deep/er/b.v2"]
    assert [job.target for job in found] == [out / "a_acsd.nii.gz", out / "deep" / "er" / "b.v2_acsd.nii.gz"]
    assert found[1].sidecar == out / "deep" / "er" / "b.v2_acsd.json"


def test_results_of_an_earlier_run_are_no_inputs(tmp_path: Path) -> None:
    _touch(tmp_path / "a.nii.gz", tmp_path / "a_acsd.nii.gz", tmp_path / "out" / "b_acsd.nii.gz")
    assert [job.source.name for job in collect([tmp_path], tmp_path)] == ["a.nii.gz", "b_acsd.nii.gz"]
    assert [job.source.name for job in collect([tmp_path], tmp_path / "out")] == ["a.nii.gz", "a_acsd.nii.gz"]


def test_two_inputs_for_one_output_are_named(tmp_path: Path) -> None:
    _touch(tmp_path / "x" / "a.nii", tmp_path / "y" / "a.nii.gz")
    with pytest.raises(UsageError, match=r"two inputs for one output.*x/a\.nii.*y/a\.nii\.gz"):
        collect([tmp_path / "x" / "a.nii", tmp_path / "y" / "a.nii.gz"], tmp_path / "out")
    _touch(tmp_path / "x" / "a.nii.gz")
    with pytest.raises(UsageError, match="two inputs"):
        collect([tmp_path / "x"], tmp_path / "out")


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path / "a.nii.gz", tmp_path / "a_acsd.nii.gz")
    with pytest.raises(UsageError, match="overwrite the input"):
        collect([tmp_path / "a.nii.gz", tmp_path / "a_acsd.nii.gz"], tmp_path)


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="0 NIfTI files"):
        collect([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(UsageError, match="does not exist"):
        collect([tmp_path / "absent.nii"], tmp_path / "out")


def test_frames_have_outputs_of_their_own(tmp_path: Path) -> None:
    _touch(tmp_path / "dyn.nii.gz")
    job = collect([tmp_path / "dyn.nii.gz"], tmp_path / "out")[0]
    frames = [job.for_frame(index) for index in (0, 11)]
    assert [one.target.name for one in frames] == ["dyn_frame-000_acsd.nii.gz", "dyn_frame-011_acsd.nii.gz"]
    assert [one.case_id for one in frames] == ["dyn_frame-000", "dyn_frame-011"]


def test_of_a_manifest_the_image_that_the_model_is_given_is_taken(tmp_path: Path) -> None:
    _touch(tmp_path / "a_nac.nii.gz", tmp_path / "a_ac.nii.gz", tmp_path / "b_nac.nii.gz")
    head, rows = "case_id\tparticipant_id\tsplit\tinput\tinput_ac\n", "a\tp\ttest\ta_nac.nii.gz\ta_ac.nii.gz\n"
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text(head + rows)
    for condition, name in (("input", "a_nac.nii.gz"), ("input_ac", "a_ac.nii.gz")):
        (job,) = collect([manifest], tmp_path / "out", condition=condition)
        assert (job.source.name, job.target.name) == (name, "a_acsd.nii.gz")
    manifest.write_text(head + rows + "b\tq\ttest\tb_nac.nii.gz\tn/a\n")
    with pytest.raises(UsageError, match="b has no input_ac"):
        collect([manifest], tmp_path / "out", condition="input_ac")
