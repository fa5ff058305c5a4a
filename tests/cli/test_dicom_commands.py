"""Commands as typed on DICOM series: mu-maps, dynamic series, derived series and parametric maps."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pet_dicom import SUV_PER_BQML, write_series
from tiny_pet import phantom_array

from pet_pipeline.data import nifti
from pet_pipeline.data.dicom_files import only_series
from pet_pipeline.data.dicom_pet import read_pet

Call = Callable[..., tuple[int, str, str]]

pytest.importorskip("pydicom")


def dynamic(folder: Path) -> Path:
    """Three frames of one body, each twice as active as the one before; files of the last come first."""
    for frame in range(3):
        data = phantom_array((40, 28, 12)) * np.float32(2.0**frame / SUV_PER_BQML)
        times = {"AcquisitionTime": f"11{2 * frame:02d}00", "FrameReferenceTime": str(60000 + 120000 * frame)}
        write_series(folder, data, number=2 - frame, SeriesType=["DYNAMIC", "IMAGE"], **times)
    return folder


def top(path: Path) -> float:
    return float(np.percentile(nifti.read(path)[0].data, 99.0))


def test_mumap_of_a_series(
    pet_pipeline: Call, trunks: Callable[..., dict[str, np.ndarray]], tiny_mumap_model: Path, tmp_path: Path
) -> None:
    body = trunks(1)["input"]
    folder, out = write_series(tmp_path / "scan", body[::-1, ::-1] / SUV_PER_BQML), tmp_path / "out"
    options = ("--output", out, "--model", tiny_mumap_model, "--workers", 1, "--precision", "fp32", "--device", "cpu")
    code, said, err = pet_pipeline("mumap", folder, *options, "--json")
    assert code == 0, err
    (case,) = json.loads(said)["cases"]
    made = nifti.read(out / "scan_mumap.nii.gz")[0]
    assert (case["status"], case["output"]) == ("done", str(out / "scan_mumap.nii.gz"))
    source = read_pet(only_series(folder, "PT"))
    assert made.geometry.matches(source.volume.geometry)
    assert 0.05 < float(np.median(made.data[source.volume.data > 0.3])) < 0.15
    facts = json.loads((out / "scan_mumap.json").read_text())
    assert (facts["Units"], facts["examination"]["InjectedRadioactivity"]) == ("cm-1", 350.0)
    # the same body as NIfTI gives the same map
    pet_pipeline("convert", "pet", folder, tmp_path / "again.nii.gz")
    assert pet_pipeline("mumap", tmp_path / "again.nii.gz", *options)[0] == 0
    other = nifti.read(out / "again_mumap.nii.gz")[0]
    np.testing.assert_allclose(other.data, made.data, rtol=0.0, atol=1e-4)


def test_frames_of_a_dynamic_series(pet_pipeline: Call, tiny_model: Path, tmp_path: Path) -> None:
    folder, out = dynamic(tmp_path / "scan"), tmp_path / "out"
    code, _, err = pet_pipeline("convert", "pet", folder, tmp_path / "pet.nii.gz")
    assert code == 3
    assert "3 frames found; needed is one: --frame 0 to 2" in err
    tops = []
    for frame in (0, 2):
        code, _, err = pet_pipeline("convert", "pet", folder, tmp_path / f"{frame}.nii.gz", "--frame", frame)
        assert code == 0, err
        tops.append(top(tmp_path / f"{frame}.nii.gz"))
    assert tops[1] == pytest.approx(4.0 * tops[0], rel=0.05)  # decay between the frames is corrected
    options = ("--model", tiny_model, "--steps", 1, "--device", "cpu", "--frame", "all", "--json")
    code, said, err = pet_pipeline("translate", folder, "--output", out, *options)
    assert code == 0, err
    cases = json.loads(said)["cases"]
    assert [Path(case["output"]).name for case in cases] == [f"scan_frame-00{n}_acsd.nii.gz" for n in range(3)]
    assert [case["status"] for case in cases] == ["done"] * 3
    written = [json.loads((out / f"scan_frame-00{n}_acsd.json").read_text())["options"]["frame"] for n in range(3)]
    assert written == [0, 1, 2]
    made = [top(Path(case["output"])) for case in cases]
    assert made[0] < made[1] < made[2]


def test_an_uncertainty_becomes_a_series(pet_pipeline: Call, tiny_model: Path, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    folder = write_series(tmp_path / "scan", phantom_array((40, 28, 12)) / SUV_PER_BQML)
    out = tmp_path / "out"
    options = ("--model", tiny_model, "--steps", 1, "--device", "cpu", "--uncertainty", "--dicom-out", "--json")
    code, said, err = pet_pipeline("translate", folder, "--output", out, *options)
    assert code == 0, err
    assert json.loads(said)["cases"][0]["status"] == "done"
    image = read_pet(only_series(out / "scan_acsd_dicom", "PT"))
    made = nifti.read(out / "scan_acsd.nii.gz")[0]
    np.testing.assert_allclose(image.volume.data, made.data * SUV_PER_BQML, atol=made.data.max() * SUV_PER_BQML / 32767)
    (file,) = (out / "scan_acsd_std_dicom").iterdir()
    spread = highdicom.imread(file).get_volume().array
    np.testing.assert_allclose(
        np.sort(spread.ravel()), np.sort(nifti.read(out / "scan_acsd_std.nii.gz")[0].data.ravel()), rtol=1e-5
    )
    assert pet_pipeline("translate", folder, "--output", out, *options)[1].count("skipped") == 1
    other = ("--model", tiny_model, "--steps", 1, "--device", "cpu", "--seed", 1, "--overwrite")
    code, _, err = pet_pipeline("translate", folder, "--output", out, *other)
    assert code == 0, err
    # Series of the older result would pass for those of the new one.
    assert sorted(path.name for path in out.iterdir()) == ["scan_acsd.json", "scan_acsd.nii.gz"]
