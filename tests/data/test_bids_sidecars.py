"""What a data set says of a file by inheritance, and the weight in its table of participants."""

import json
from pathlib import Path

import pytest

from pet_pipeline.data.bids_sidecars import dataset_root, inherited
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.errors import InputRefused


def write(path: Path, **facts: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write(tmp_path / "dataset_description.json", Name="set")
    path = tmp_path / "sub-01" / "ses-a" / "pet" / "sub-01_ses-a_rec-nacstat_pet.nii.gz"
    path.parent.mkdir(parents=True)
    return path


def test_the_nearer_and_the_more_special_win(scan: Path, tmp_path: Path) -> None:
    write(tmp_path / "pet.json", Units="Bq/mL", a=1, b=1, c=1, d=1)
    write(tmp_path / "rec-nacstat_pet.json", b=2, c=2, d=2)
    write(tmp_path / "sub-01" / "sub-01_pet.json", c=3, d=3)
    write(scan.with_name("sub-01_ses-a_rec-nacstat_pet.json"), d=4)
    assert read_sidecar(scan) == {"Units": "Bq/mL", "a": 1, "b": 2, "c": 3, "d": 4}


def test_what_speaks_of_other_files_is_not_read(scan: Path, tmp_path: Path) -> None:
    for name in ("rec-acstat_pet", "rec-nacstat_ct", "sub-02_pet", "ses-b_pet", "ct", "my notes pet"):
        write(tmp_path / f"{name}.json", wrong=name)
    assert inherited(scan) == {}
    assert read_sidecar(scan) is None


def test_outside_of_a_data_set_only_the_file_beside_speaks(scan: Path, tmp_path: Path) -> None:
    write(tmp_path / "pet.json", Units="Bq/mL")
    assert dataset_root(scan) == tmp_path
    (tmp_path / "dataset_description.json").unlink()
    assert dataset_root(scan) is None
    assert read_sidecar(scan) is None


@pytest.mark.parametrize(("cell", "found"), [("71.5", {"PatientWeight": 71.5}), ("n/a", {}), ("", {})])
def test_the_weight_of_a_participant(cell: str, found: dict[str, float], scan: Path, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text(f"participant_id\tsex\tweight\nsub-02\tF\t50\nsub-01\tM\t{cell}\n")
    assert inherited(scan) == found
    write(scan.with_name("sub-01_ses-a_rec-nacstat_pet.json"), PatientWeight=60.0)
    assert read_sidecar(scan) == {"PatientWeight": 60.0}


def test_a_table_of_participants_that_is_none_is_named(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_bytes(b"participant_id\tweight\tnote\nsub-01\t71.5\tM\xfcller\n")
    assert inherited(scan) == {"PatientWeight": 71.5}
    (tmp_path / "participants.tsv").write_text("participant_id\tweight\nsub-01\t" + "7" * 140_000 + "\n")
    with pytest.raises(InputRefused, match=r"participants\.tsv"):
        inherited(scan)


def test_a_damaged_inherited_sidecar_is_named(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "rec-nacstat_pet.json").write_text("{")
    with pytest.raises(InputRefused, match=r"rec-nacstat_pet\.json"):
        read_sidecar(scan)
