"""Finished outputs are skipped, changed ones left alone unless `--overwrite` says otherwise."""

from pathlib import Path

import pytest
from commandline import Finished, pet_pipeline
from pet_files import body, save


def _state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def first(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two scans and their outputs."""
    folder = tmp_path_factory.mktemp("resume")
    for index, name in enumerate(("one", "two")):
        save(folder / "in" / f"{name}.nii.gz", body(index))
    done = _run(tiny_model, folder)
    assert done.status == 0, done.stderr
    return folder, folder / "out"


def _run(model: Path, folder: Path, *options: str | int) -> Finished:
    return pet_pipeline("translate", folder / "in", "--output", folder / "out", "--model", model, "--json", *options)


def test_again_is_skipped_and_touches_nothing(first: tuple[Path, Path], tiny_model: Path) -> None:
    folder, out = first
    before = _state(out)
    again = _run(tiny_model, folder)
    assert again.status == 0, again.stderr
    assert {case["status"] for case in again.cases} == {"skipped"}
    assert _state(out) == before


def test_other_options_fail_the_case_and_leave_its_output(first: tuple[Path, Path], tiny_model: Path) -> None:
    folder, out = first
    before = _state(out)
    other = _run(tiny_model, folder, "--seed", 7)
    assert other.status in {3, 4}, other
    assert all("--overwrite" in case["message"] for case in other.cases)
    assert _state(out) == before


def test_overwrite_replaces_and_the_seed_decides(first: tuple[Path, Path], tiny_model: Path) -> None:
    folder, out = first
    before = _state(out)
    assert _run(tiny_model, folder, "--seed", 7, "--overwrite").status == 0
    changed = _state(out)
    assert all(changed[name][0] != before[name][0] for name in before)
    assert _run(tiny_model, folder, "--overwrite").status == 0
    restored = _state(out)
    assert [restored[f"{name}_acsd.nii.gz"][0] for name in ("one", "two")] == [
        before[f"{name}_acsd.nii.gz"][0] for name in ("one", "two")
    ]


def test_a_sidecar_without_its_image_is_no_finished_output(first: tuple[Path, Path], tiny_model: Path) -> None:
    folder, out = first
    image = out / "one_acsd.nii.gz"
    content = image.read_bytes()
    image.unlink()
    again = _run(tiny_model, folder)
    assert again.status == 0, again.stderr
    assert image.read_bytes() == content
