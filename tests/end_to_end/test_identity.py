"""What a header says of a person reaches nothing that is written or printed: planted and looked for everywhere."""

import functools
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pet_dicom import SUV_PER_BQML, dose_of, write_series
from tiny_pet import phantom_array

from pet_pipeline.cli.app import main
from pet_pipeline.data import nifti
from pet_pipeline.data.volume import Volume
from pet_pipeline.units import Unit

pydicom = pytest.importorskip("pydicom")

NAME, ID, BIRTH, TEXT = "Zqxname^Planted", "ZQXID4711", "19330303", "Zqxtext"
TEXT_VRS = ("LO", "SH", "ST", "LT", "UT", "UC", "AE", "UR")
SHAPE = (40, 28, 12)


@functools.cache
def planted_texts() -> Any:
    """Every attribute of the dictionary that holds text or a name."""
    data = pydicom.Dataset()
    for tag, (vr, _, _, _, keyword) in pydicom.datadict.DicomDictionary.items():
        if keyword and tag >> 16 not in (0x0000, 0x0002, 0x0028, 0x7FE0) and vr in ("PN", *TEXT_VRS):
            data.add_new(tag, vr, NAME if vr == "PN" else TEXT)
    return data


def plant(image: Any, index: int) -> None:
    """Texts, names, ID and birth date, also nested and private ones."""
    for data in (image, dose_of(image)):
        data.update(planted_texts())
    dose_of(image).RadionuclideCodeSequence[0].CodeMeaning = TEXT
    image.PatientID, image.OtherPatientIDs, image.IssuerOfPatientID = ID, ID, ID
    image.PatientBirthDate = BIRTH
    image.private_block(0x0011, f"{TEXT} Group", create=True).add_new(1, "LO", TEXT)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run the command with everything logged: arguments -> (exit status, all that was printed and logged)."""

    def run(*arguments: object) -> tuple[int, str]:
        log = tmp_path / "log.txt"
        monkeypatch.setattr(sys, "argv", ["pet-pipeline", "-vv", "--log-file", str(log), *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), "".join(capfd.readouterr()) + log.read_text()

    return run


def traces(*places: Path | str) -> set[str]:
    """Which of the planted words are in texts, or in files below folders, compressed or not."""
    found = set()
    for place in places:
        if isinstance(place, str):
            contents = [place.encode()]
        else:
            files = [path for path in place.rglob("*") if path.is_file()]
            assert files
            contents = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in files]
        for content in contents:
            found |= {word for word in ("Zqxname", ID, BIRTH, TEXT) if word.lower().encode() in content.lower()}
    return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series") / "pet"
    write_series(folder, phantom_array(SHAPE) / SUV_PER_BQML, change=plant)
    assert traces(folder) == {"Zqxname", ID, BIRTH, TEXT}  # the test can fail
    return folder


def test_outputs_logs_and_sidecars(call: Any, planted: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = call("convert", "pet", planted, out / "pet.nii.gz", "--json")
    assert code == 0
    assert traces(out, said) == set()
    code, said = call("translate", planted, "-o", out, "--model", tiny_model, "--steps", 1, "--dicom-out")
    assert code == 0
    assert len(list((out / "pet_acsd_dicom").iterdir())) == SHAPE[2]
    assert traces(out, said) == set()
    mumap = tmp_path / "mumap.nii.gz"
    pet = nifti.read(out / "pet.nii.gz")[0]
    nifti.write(mumap, Volume(np.where(pet.data > 0.0, 0.096, 0.0), pet.geometry, Unit.CM1))
    arguments = ("convert", "mumap", mumap, out / "ct", "--to", "dicom", "--pet-series", planted)
    code, said = call(*arguments)
    assert code == 0
    assert traces(out, said) == set()


def test_the_id_alone_stays_on_request(call: Any, planted: Path, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path / "out", "--model", tiny_model, "--steps", 1, "--dicom-out", "--keep-ids")
    code, said = call("translate", planted, *arguments)
    assert code == 0
    assert traces(tmp_path / "out") == {ID}
    assert traces(tmp_path / "out" / "pet_acsd_dicom") == {ID}
    assert traces(said, (tmp_path / "out" / "pet_acsd.json").read_text()) == set()


def a_check(call: Any, planted: Path, models: dict[str, Path], out: Path) -> tuple[int, str]:
    return call("check", planted, "--model", models["pet"], "--sheet", out / "sheet.png", "--json")


def an_uncertainty(call: Any, planted: Path, models: dict[str, Path], out: Path) -> tuple[int, str]:
    command = ("translate", planted, "-o", out, "--model", models["pet"], "--steps", 1, "--uncertainty", "--dicom-out")
    code, said = call(*command)
    assert len(list((out / "pet_acsd_std_dicom").iterdir())) == 1
    return code, said


def a_mumap(call: Any, planted: Path, models: dict[str, Path], out: Path) -> tuple[int, str]:
    return call("mumap", planted, "-o", out, "--model", models["mumap"], "--workers", 1, "--device", "cpu")


def a_ct(call: Any, planted: Path, models: dict[str, Path], out: Path) -> tuple[int, str]:
    body = np.where(phantom_array(SHAPE) > 0.2, 30.0, -1000.0)
    ct = write_series(out.parent / "ct", body, change=plant_ct, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert traces(ct) == {"Zqxname", ID, BIRTH, TEXT}
    hu = call("convert", "ct", ct, out / "hu.nii.gz", "--output-unit", "hu")
    mu = call("convert", "ct", ct, out / "mu.nii.gz", "--kvp", 120)
    return max(hu[0], mu[0]), hu[1] + mu[1]


def plant_ct(image: Any, index: int) -> None:
    plant(image, index)
    del image.RadiopharmaceuticalInformationSequence
    image.KVP = "120"


def a_factor(call: Any, planted: Path, models: dict[str, Path], out: Path) -> tuple[int, str]:
    counts = write_series(out.parent / "counts", phantom_array(SHAPE), change=plant, Units="PROPCPS")
    texts = []
    for folder, name in ((counts, "relative"), (planted, "suv")):
        code, said = call("convert", "pet", folder, out / f"{name}.nii.gz")
        assert code == 0, said
        texts.append(said)
    code, said = call("convert", "fit-scale", out / "relative.nii.gz", out / "suv.nii.gz", out / "scale.json", "--json")
    return code, said + "".join(texts)


@pytest.mark.parametrize("command", [a_check, an_uncertainty, a_mumap, a_ct, a_factor], ids=lambda one: one.__name__)
def test_other_commands(
    command: Any, call: Any, planted: Path, tiny_model: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    out = tmp_path / "out"
    out.mkdir()
    code, said = command(call, planted, {"pet": tiny_model, "mumap": tiny_mumap_model}, out)
    assert code == 0, said
    assert traces(out, said) == set()


def test_a_nifti_files_description_and_sidecar(call: Any, tiny_model: Path, tmp_path: Path) -> None:
    scan, out = tmp_path / "in" / "scan.nii.gz", tmp_path / "out"
    image = nib.Nifti1Image(phantom_array(), np.diag([5.0, 5.0, 5.0, 1.0]))
    image.header["descrip"], image.header["aux_file"] = NAME, ID
    image.header["intent_name"], image.header["db_name"] = TEXT, ID
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", TEXT.encode()))
    scan.parent.mkdir()
    nib.save(image, scan)
    person = {
        "PatientName": NAME, "PatientID": ID, "PatientBirthDate": BIRTH, "SeriesDescription": TEXT,
        "InstitutionName": TEXT, "ReconMethodName": TEXT, "Manufacturer": TEXT, "TracerName": TEXT,
        "StoredUnits": TEXT, "InjectedRadioactivityUnits": TEXT, "AttenuationCorrection": "none",
        "TimeZero": TEXT, "DecayCorrection": TEXT, "PatientSex": TEXT, "PatientSize": TEXT,
    }  # fmt: skip
    scan.with_name("scan.json").write_text(json.dumps({"Units": "g/mL", "PatientWeight": 70, **person}))
    assert traces(scan.parent) == {"Zqxname", ID, BIRTH, TEXT}
    code, said = call("translate", scan, "-o", out, "--model", tiny_model, "--steps", 1, "--uncertainty")
    assert code == 0, said
    converted = call("convert", "pet", scan, out / "pet.nii.gz", "--json")
    checked = call("check", scan, "--model", tiny_model, "--json")
    bids = scan.with_name("sub-01_rec-nacstat_pet.nii.gz")
    for path in (scan, scan.with_name("scan.json")):
        path.rename(bids.with_name(path.name.replace("scan", "sub-01_rec-nacstat_pet")))
    as_bids = call("translate", bids, "-o", out / "bids", "--bids", "--model", tiny_model, "--steps", 1)
    assert (converted[0], checked[0], as_bids[0]) == (0, 0, 0), as_bids[1]
    assert traces(out, said, converted[1], checked[1], as_bids[1]) == set()


@pytest.mark.parametrize("broken", ["Units", "PixelSpacing", "ImagePositionPatient", "SeriesTime", "PatientWeight"])
def test_refusals_do_not_quote(broken: str, call: Any, tmp_path: Path) -> None:
    def change(image: Any, index: int) -> None:
        tag = image[broken].tag
        del image[tag]
        image.add_new(tag, "LO", TEXT)  # where a number, a code or a time should be

    write_series(tmp_path / "pet", phantom_array(SHAPE), change=change, AcquisitionTime=None)
    code, said = call("convert", "pet", tmp_path / "pet", tmp_path / "pet.nii.gz")
    assert code == 3
    assert traces(said) == set()
