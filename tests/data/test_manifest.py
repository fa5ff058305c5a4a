"""Manifests: round trip, relative paths, and every mistake named with its row."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.manifest import COLUMNS, Case, Manifest
from pet_pipeline.errors import UsageError


def touch(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def case(folder: Path, number: int, **changes: object) -> Case:
    files = folder / f"sub-{number:04d}"
    made = Case(
        case_id=f"sub-{number:04d}_dose05",
        participant_id=f"sub-{number:04d}",
        site="A",
        split="train",
        input=touch(files / "nac.nii.gz", f"nac {number}"),
        target=touch(files / "ac.nii.gz", f"ac {number}"),
        dose=5.0,
        scanner="tof",
    )
    return replace(made, **changes)


def cohort(folder: Path) -> Manifest:
    cases = (
        case(folder, 1, extra={"lesion_free_of": "sub-0003_dose05", "vendor": "none"}),
        case(folder, 2, split="val", dose=12.5, scanner=None, site="n/a", target=None),
        case(folder, 3, split="test", dose=math.nan, extra={"tof": "yes"}),
    )
    checked = tuple(replace(c, checksums={k: sha256_of(p) for k, p in c.paths().items()}) for c in cases)
    return Manifest(folder, checked)


def table(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    lines = ["\t".join(columns), *("\t".join(row.get(c, "n/a") for c in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


ROW = {"case_id": "a", "participant_id": "p", "split": "train", "input": "pet.nii", "dose": "5"}


def test_round_trip(tmp_path: Path) -> None:
    made = cohort(tmp_path)
    made.save(tmp_path / "manifest.tsv")
    read = Manifest.load(tmp_path / "manifest.tsv")
    assert read.root == tmp_path
    for one, other in zip(made.cases, read.cases, strict=True):
        assert math.isnan(one.dose) == math.isnan(other.dose)
        assert replace(one, dose=1.0) == replace(other, dose=1.0)
        assert math.isnan(one.dose) or one.dose == other.dose
    assert read.cases[0].extra == {"lesion_free_of": "sub-0003_dose05", "vendor": "none"}
    assert read.cases[1].target is None
    text = (tmp_path / "manifest.tsv").read_text()
    assert str(tmp_path) not in text
    assert "input_sha256" in text.splitlines()[0].split("\t")
    read.save(tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_text() == text


def test_a_cohort_can_move_and_a_manifest_can_lie_elsewhere(tmp_path: Path) -> None:
    cohort(tmp_path / "old").save(tmp_path / "old" / "manifest.tsv")
    (tmp_path / "old").rename(tmp_path / "new")
    read = Manifest.load(tmp_path / "new" / "manifest.tsv")
    assert read.cases[0].input == tmp_path / "new" / "sub-0001" / "nac.nii.gz"
    read.save(tmp_path / "lists" / "some.tsv")
    again = Manifest.load(tmp_path / "lists" / "some.tsv")
    assert again.cases[0].input.resolve() == read.cases[0].input


def test_select(tmp_path: Path) -> None:
    made = cohort(tmp_path)

    def ids(chosen: Manifest) -> list[str]:
        return [c.case_id[:8] for c in chosen.cases]

    assert ids(made.select(split="val")) == ["sub-0002"]
    assert ids(made.select(scanner="tof")) == ["sub-0001", "sub-0003"]
    assert ids(made.select(scanner=["tof"], dose=[5, 12.5])) == ["sub-0001"]
    assert ids(made.select(dose=12.5)) == ["sub-0002"]
    assert ids(made.select()) == ["sub-0001", "sub-0002", "sub-0003"]


def test_checksums_find_a_changed_and_a_lost_file(tmp_path: Path) -> None:
    cohort(tmp_path).save(tmp_path / "manifest.tsv")
    read = Manifest.load(tmp_path / "manifest.tsv")
    read.verify_checksums()
    touch(tmp_path / "sub-0003" / "ac.nii.gz", "other")
    with pytest.raises(UsageError, match=r"sub-0003_dose05, target: .*has changed"):
        read.verify_checksums()
    (tmp_path / "sub-0001" / "nac.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"sub-0001_dose05, input: .*no file"):
        read.verify_checksums()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"case_id": "n/a"}, "row 2: case_id"),
        ({"case_id": "a"}, r"row 2 \(a\): case_id stands in row 1"),
        ({"case_id": "../b"}, "row 2.*slashes"),
        ({"participant_id": "n/a"}, "row 2: participant_id"),
        ({"split": "tests"}, "row 2.*'tests'"),
        ({"split": "test"}, "participant p is in test here, in train in row 1"),
        ({"input": "n/a"}, "row 2: input and input_ac are n/a"),
        ({"input": "gone.nii"}, r"row 2: input .*gone\.nii does not exist"),
        ({"target": "gone.nii"}, r"row 2: target .*gone\.nii does not exist"),
        ({"dose": "much"}, "row 2: dose 'much'"),
        ({"dose": "0"}, "row 2.*dose 0 found"),
        ({"dose": "500"}, "row 2.*dose 500 found"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, changes: dict[str, str], found: str) -> None:
    touch(tmp_path / "pet.nii")
    path = table(tmp_path / "manifest.tsv", ROW, {**ROW, "case_id": "b", **changes})
    with pytest.raises(UsageError, match=found) as error:
        Manifest.load(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(tmp_path) in str(error.value)


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    with pytest.raises(UsageError, match="no such manifest"):
        Manifest.load(path)
    touch(path, "")
    with pytest.raises(UsageError, match=r"case_id.*missing"):
        Manifest.load(path)
    table(path, columns=("case_id", "participant_id", "input"))
    with pytest.raises(UsageError, match="columns split are missing"):
        Manifest.load(path)
    table(path, columns=(*COLUMNS, "tof", "tof"))
    with pytest.raises(UsageError, match="tof stand twice"):
        Manifest.load(path)
    touch(path, "\t".join(COLUMNS) + "\na\tb\n")
    with pytest.raises(UsageError, match="row 1: 2 cells"):
        Manifest.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        Manifest.load(path)


def test_a_spreadsheet_with_bom_and_crlf_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "pet.nii")
    path = table(tmp_path / "manifest.tsv", ROW)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert Manifest.load(path).cases[0].dose == 5.0


def test_one_participant_may_have_many_cases_in_one_split(tmp_path: Path) -> None:
    touch(tmp_path / "pet.nii")
    path = table(tmp_path / "manifest.tsv", ROW, {**ROW, "case_id": "b"})
    assert [c.participant_id for c in Manifest.load(path).cases] == ["p", "p"]


@pytest.mark.parametrize("scanner", ["a\tb", "a\nb", "Osnabr\udcfcck"])
def test_what_is_no_cell_is_never_written(scanner: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a tab, a line break or bytes that are no UTF-8"):
        Manifest(tmp_path, (case(tmp_path, 1, scanner=scanner),)).save(tmp_path / "manifest.tsv")
    assert not (tmp_path / "manifest.tsv").exists()
