"""Resuming, isolation of failures, and what the sidecar says."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.data.files import sha256_of
from pet_pipeline.errors import InputRefused, OutOfMemory, PartialFailure
from pet_pipeline.inference import batch, sidecar
from pet_pipeline.inference.batch import CaseResult, failure, run
from pet_pipeline.inference.intake import Intake
from pet_pipeline.inference.jobs import Job, collect
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator

MakePet = Callable[..., Path]

SIDECAR_KEYS = {
    "input", "model", "options", "seed", "device", "precision", "software", "timing_s", "peak_memory_mb", "warnings",
    "intended_use",
}  # fmt: skip


@pytest.fixture(scope="module")
def translator(tiny_model: Path) -> Translator:
    return Translator.load(tiny_model, device="cpu", precision="fp32")


def _work(
    translator: Translator, *, overwrite: bool = False, reading: InputOptions | None = None, **wishes: object
) -> TranslateWork:
    return TranslateWork(translator, TranslateOptions.model_validate(wishes), reading or InputOptions(), overwrite)


def _state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_sidecar_tells_everything_and_is_true(
    translator: Translator, phantom_pet_file: Path, tmp_path: Path, tiny_model: Path
) -> None:
    jobs = collect([phantom_pet_file], tmp_path / "out")
    results = run(jobs, _work(translator, steps=1, seed=3))
    assert [result.status for result in results] == ["done"]
    content = json.loads(jobs[0].sidecar.read_text())
    assert set(content) >= SIDECAR_KEYS
    assert content["input"] == {
        "path": str(phantom_pet_file), "sha256": sha256_of(phantom_pet_file), "unit": "suv", "shape": [40, 28, 24],
        "spacing_mm": [5.0, 5.0, 5.0],
    }  # fmt: skip
    assert content["model"] == {"name": "tiny-test", "version": "0", "sha256": sha256_of(tiny_model / "model.yaml")}
    assert content["options"]["steps"] == 1
    assert content["options"]["solver"] == "ddim"
    assert content["seed"] == 3
    assert content["intended_use"] == "Tests only; not for diagnosis."
    assert any("demonstration model" in line for line in content["warnings"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "phantom_pet_acsd.json", "phantom_pet_acsd.nii.gz",
    ]  # fmt: skip


def test_a_simulated_scan_is_not_warned_of(translator: Translator, make_pet: MakePet, tmp_path: Path) -> None:
    marked = make_pet("marked.nii.gz", simulated=True)
    below = make_pet("cohort/pet/below.nii.gz", units=None)
    (tmp_path / "cohort" / "dataset_description.json").write_text('{"Simulated": true}')
    results = run(collect([marked, below], tmp_path / "out"), _work(translator, steps=1))
    assert not any("demonstration" in result.message for result in results)


def test_finished_work_is_skipped_and_other_work_is_left_alone(
    translator: Translator, phantom_pet_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    jobs = collect([phantom_pet_file], out)
    run(jobs, _work(translator, steps=1))
    before = _state(out)
    assert [r.status for r in run(jobs, _work(translator, steps=1))] == ["skipped"]
    # the batch size alters no voxel: still the same work
    assert [r.status for r in run(jobs, _work(translator, steps=1, batch_slices=3))] == ["skipped"]
    for other in (_work(translator, steps=2), _work(translator, steps=1, seed=1), _work(translator, prior_only=True)):
        result = run(jobs, other)[0]
        assert (result.status, result.exit_status) == ("failed", 4)
        assert "--overwrite" in result.message
    assert _state(out) == before
    phantom_pet_file.write_bytes(phantom_pet_file.read_bytes() + b"")  # same content: same checksum
    assert run(jobs, _work(translator, steps=1))[0].status == "skipped"
    assert run(jobs, _work(translator, overwrite=True, steps=2))[0].status == "done"
    assert _state(out) != before


def test_a_run_killed_between_image_and_sidecar_goes_on(
    translator: Translator, phantom_pet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = collect([phantom_pet_file], tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(sidecar, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(jobs, _work(translator, steps=1))
    assert jobs[0].target.exists()
    assert not jobs[0].sidecar.exists()
    assert run(jobs, _work(translator, steps=2))[0].status == "failed", "another work's image"
    assert run(jobs, _work(translator, steps=1))[0].status == "done"
    assert not list((tmp_path / "out").glob(".*"))


def test_a_strangers_file_is_never_overwritten(translator: Translator, phantom_pet_file: Path, tmp_path: Path) -> None:
    jobs = collect([phantom_pet_file], tmp_path / "out")
    jobs[0].target.parent.mkdir()
    jobs[0].target.write_bytes(b"precious")
    assert run(jobs, _work(translator, steps=1))[0].status == "failed"
    assert jobs[0].target.read_bytes() == b"precious"


def test_one_bad_file_does_not_stop_the_rest(
    translator: Translator, make_pet: MakePet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_pet("in/c_good.nii.gz")
    (tmp_path / "in" / "a_broken.nii.gz").write_bytes(b"not a NIfTI file")
    make_pet("in/b_zero.nii.gz", data=np.zeros((20, 20, 20), np.float32))
    make_pet("in/d_odd.nii.gz")
    real = Translator.translate

    def fragile(self: Translator, volume: object, options: object, case_id: str, **rest: object) -> object:
        if case_id == "d_odd":
            raise ZeroDivisionError("a defect of ours")
        return real(self, volume, options, case_id, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Translator, "translate", fragile)
    results = run(collect([tmp_path / "in"], tmp_path / "out"), _work(translator, steps=1))
    assert [r.status for r in results] == ["refused", "refused", "done", "failed"]
    assert "ZeroDivisionError" in results[3].message
    assert isinstance(failure(results), PartialFailure)
    assert [p.name for p in (tmp_path / "out").glob("*.nii.gz")] == ["c_good_acsd.nii.gz"]
    assert good.exists()


def test_the_next_is_read_and_the_last_written_while_the_networks_work(
    translator: Translator, make_pet: MakePet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = collect([make_pet(f"{name}.nii.gz") for name in "abc"], tmp_path / "out")
    read = {job.source: threading.Event() for job in jobs}
    working = {job.case_id: threading.Event() for job in jobs}
    met: list[str] = []
    take_in, make, finish = batch.take_in, TranslateWork.make, sidecar.finish

    def reading(source: Path, *rest: object) -> object:
        read[source].set()
        return take_in(source, *rest)  # type: ignore[arg-type]

    def making(self: TranslateWork, intake: Intake, job: Job) -> batch.Made:
        working[job.case_id].set()
        following = jobs[jobs.index(job) + 1 :]
        if following and read[following[0].source].wait(20.0):
            met.append(f"{following[0].case_id} read during {job.case_id}")
        return make(self, intake, job)

    def writing(path: Path, target: Path, content: Mapping[str, object]) -> None:
        if target == jobs[0].target and working["b"].wait(20.0):
            met.append("a written during b")
        finish(path, target, content)

    monkeypatch.setattr(batch, "take_in", reading)
    monkeypatch.setattr(TranslateWork, "make", making)
    monkeypatch.setattr(sidecar, "finish", writing)
    told: list[str] = []
    results = run(jobs, _work(translator, steps=1), lambda result: told.append(result.case_id))
    assert set(met) == {"b read during a", "c read during b", "a written during b"}
    assert told == [result.case_id for result in results] == ["a", "b", "c"]


def test_a_result_that_cannot_be_written_fails_its_own_case(
    translator: Translator, make_pet: MakePet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = collect([make_pet(f"{name}.nii.gz") for name in "ab"], tmp_path / "out")
    write = batch.nifti.write

    def full(path: Path, *rest: object) -> None:
        if path == jobs[0].target:
            raise OSError(28, "No space left on device")
        write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(batch.nifti, "write", full)
    results = run(jobs, _work(translator, steps=1))
    assert [result.status for result in results] == ["failed", "done"]
    assert "No space left" in results[0].message
    assert not jobs[0].sidecar.exists()


def _result(exit_status: int) -> CaseResult:
    return CaseResult(
        "c", Path("c.nii"), Path("c_acsd.nii.gz"), "failed" if exit_status else "done", "why", exit_status
    )


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([0, 0], None), ([3, 3], InputRefused), ([3], InputRefused), ([0, 3], PartialFailure), ([3, 4], PartialFailure),
     ([6, 6], OutOfMemory), ([6, 0], PartialFailure)],
)  # fmt: skip
def test_how_a_batch_ends(statuses: list[int], expected: type[Exception] | None) -> None:
    error = failure([_result(status) for status in statuses])
    assert type(error) is (expected or type(None))


def test_frames_of_a_series(translator: Translator, make_pet: MakePet, tmp_path: Path) -> None:
    from tiny_pet import phantom_array

    frames = np.stack([phantom_array(seed=0), 3.0 * phantom_array(seed=1)], axis=-1)
    path = make_pet("dyn.nii.gz", data=frames)
    jobs = collect([path], tmp_path / "out")
    assert run(jobs, _work(translator, steps=1))[0].status == "refused"
    both = run(jobs, _work(translator, steps=1, reading=InputOptions(frame="all")))
    assert [r.case_id for r in both] == ["dyn_frame-000", "dyn_frame-001"]
    means = [nib.load(r.target).get_fdata().mean() for r in both]
    assert means[1] == pytest.approx(3.0 * means[0], rel=0.1)
    one = run(jobs, _work(translator, steps=1, reading=InputOptions(frame=1)))
    assert one[0].target.name == "dyn_acsd.nii.gz"
    assert nib.load(one[0].target).shape == (40, 28, 24)


def test_bqml_comes_back_as_bqml_or_suv(translator: Translator, make_pet: MakePet, tmp_path: Path) -> None:
    from tiny_pet import phantom_array

    path = make_pet("pet.nii.gz", data=phantom_array() * 5000.0, units="Bq/mL")
    facts = {"weight_kg": 70.0, "dose_mbq": 350.0, "minutes": 0.0}
    means = {}
    for unit in ("bqml", "suv"):
        jobs = collect([path], tmp_path / unit)
        reading = InputOptions.model_validate({**facts, "output_unit": unit})
        result = run(jobs, _work(translator, steps=1, reading=reading))[0]
        assert result.status == "done", result.message
        means[unit] = nib.load(result.target).get_fdata().mean()
    # 350 MBq in 70 kg: SUV 1 is 5000 Bq/mL
    assert means["bqml"] == pytest.approx(5000.0 * means["suv"], rel=1e-4)
    assert json.loads((tmp_path / "bqml" / "pet_acsd.json").read_text())["Units"] == "Bq/mL"


def test_results_are_the_json_of_the_contract() -> None:
    job = Job("c", Path("c.nii"), Path("out/c_acsd.nii.gz"))
    result = batch.CaseResult(job.case_id, job.source, job.target, "done", "")
    assert result.as_json() == {"input": "c.nii", "output": "out/c_acsd.nii.gz", "status": "done", "message": ""}
