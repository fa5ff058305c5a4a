"""Who enters a bank: training patients only, each map once, never the family kept out, and no couch."""

import logging
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from mumap_bodies import body, member

from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.mumap import bank, building
from pet_pipeline.mumap.building import bank_cases, build_bank, most_different

SHAPE = (70, 56, 20)


def row(root: Path, participant: str, mu: np.ndarray | None, *, split: str = "train", family: str = "standard") -> Case:
    """A row of a manifest with its mu-map, whose input nobody reads."""
    path = None
    if mu is not None:
        path = root / f"{participant}_mumap.nii.gz"
        nib.save(nib.Nifti1Image(mu, np.diag([5.0, 5.0, 5.0, 1.0])), path)
    (root / "input.nii.gz").touch()
    return Case(
        f"{participant}_dose05", participant, "site-a", split, root / "input.nii.gz", mumap=path,
        extra={"family": family},
    )  # fmt: skip


def with_couch(mu: np.ndarray) -> np.ndarray:
    lying = mu.copy()
    lying[5:-5, 1:2] = 0.06
    lying[5:-5, 4:5] = 0.06
    return lying


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("cohort")
    first = row(root, "sub-1", with_couch(body(shape=SHAPE, depth_mm=75)))
    cases = [
        first,
        replace(first, case_id="sub-1_dose50", dose=50.0),
        row(root, "sub-2", body(shape=SHAPE, width_mm=100)),
        row(root, "sub-3", body(shape=SHAPE, width_mm=105), split="val"),
        row(root, "sub-4", body(shape=SHAPE, width_mm=110), split="test"),
        row(root, "sub-5", body(shape=SHAPE, width_mm=120), family="heldout"),
        row(root, "sub-6", None),
        row(root, "sub-7", body(shape=SHAPE, width_mm=100)),  # sub-2 under another name
        row(root, "sub-8", body(shape=SHAPE) / 10.0),  # per mm
    ]
    return Manifest(root, tuple(cases))


def test_training_patients_enter_once_and_nobody_else(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    with caplog.at_level(logging.WARNING):
        made = build_bank(manifest, tmp_path / "bank.npz", on_member=told.append)
    assert [(m.participant_id, m.site, m.family) for m in made.members] == [
        ("sub-1", "site-a", "standard"),
        ("sub-2", "site-a", "standard"),
    ]
    assert told == ["sub-1", "sub-2", "sub-7", "sub-8"]
    assert "sub-7: left out of the bank: same map as sub-2" in caplog.text
    assert "sub-8: left out of the bank" in caplog.text


def test_no_couch_enters(manifest: Manifest, tmp_path: Path) -> None:
    made = build_bank(manifest, tmp_path / "bank.npz")
    lying = bank.read_member(made.path, 0, made.members[0]).mu_cm1
    plain = member(body(shape=SHAPE, depth_mm=75), "sub-1").stored
    assert lying.shape == plain.shape
    assert np.abs(lying - bank.restored(plain)).max() < 0.02  # at the blurred skin


def test_the_family_kept_out_and_other_splits_are_no_candidates(manifest: Manifest) -> None:
    assert [c.participant_id for c in bank_cases(manifest)] == ["sub-1", "sub-2", "sub-7", "sub-8"]


def test_nothing_to_build_of_is_an_error(manifest: Manifest, tmp_path: Path) -> None:
    others = Manifest(manifest.root, tuple(c for c in manifest.cases if c.split != "train"))
    with pytest.raises(UsageError, match="no train row with a mumap"):
        build_bank(others, tmp_path / "bank.npz")
    poor = Manifest(manifest.root, tuple(c for c in manifest.cases if c.participant_id == "sub-8"))
    with pytest.raises(UsageError, match="none of 1 mu-maps"):
        build_bank(poor, tmp_path / "bank.npz")
    assert not (tmp_path / "bank.npz").exists()


def test_a_limit_keeps_the_bodies_that_differ(manifest: Manifest) -> None:
    widths = (90, 92, 94, 130)
    bodies = [member(body(shape=SHAPE, width_mm=w), str(w)) for w in widths]
    part = member(body(shape=SHAPE, width_mm=130)[:, :, :12], "part")
    kept = most_different([*bodies, part], 2)
    assert 3 in kept  # unlike all others, and it stands for its part as well
    assert 4 not in kept
    assert most_different(bodies, 9) == [0, 1, 2, 3]


def test_a_limited_bank_has_so_many(manifest: Manifest, tmp_path: Path) -> None:
    assert len(build_bank(manifest, tmp_path / "bank.npz", limit=1).members) == 1
    assert building.SPLIT == "train"
