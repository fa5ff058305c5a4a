"""The file of a bank: what was stored comes back, damage is told, and nothing in it can run code."""

import json
from pathlib import Path

import numpy as np
import pytest
from mumap_bodies import body, member

from pet_pipeline.errors import ModelError
from pet_pipeline.mumap import bank
from pet_pipeline.mumap.alignment import SPACING_MM, align
from pet_pipeline.mumap.population import Bank


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bank") / "bank.npz"
    bodies = [member(body(), "one"), member(body(width_mm=100), "two", site="there", family="broad")]
    bank.save(file, bodies)
    return file


def changed(path: Path, to: Path, **arrays: np.ndarray) -> Path:
    """A copy of the file with other arrays, written as anybody could."""
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    np.savez_compressed(to, **{**content, **arrays})
    return to


def header_with(path: Path, **entries: object) -> np.ndarray:
    with np.load(path) as file:
        header = json.loads(file["header"].tobytes())
    return np.frombuffer(json.dumps({**header, **entries}).encode(), dtype=np.uint8)


def test_maps_come_back_within_half_a_step(path: Path) -> None:
    opened = Bank.load(path)
    mu = align(body(width_mm=100), SPACING_MM)[0]
    read = bank.read_member(path, 1, opened.members[1])
    assert np.abs(read.mu_cm1 - mu.mu_cm1).max() <= bank.STEP_CM1 / 2 + 1e-7
    assert read.axis == mu.axis
    assert opened.members[1].shape == mu.mu_cm1.shape


def test_who_is_in_it_is_known(path: Path) -> None:
    members = Bank.load(path).members
    assert [(m.participant_id, m.site, m.family) for m in members] == [
        ("one", "here", "standard"),
        ("two", "there", "broad"),
    ]


def test_metal_is_cut_off_at_the_largest_step() -> None:
    steps = bank.stored(np.array([0.0, 0.0964, 0.2551, 2.5], dtype=np.float32))
    assert steps.tolist() == [0, 96, 255, 255]


def test_the_same_bodies_give_the_same_file(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.npz"
    bank.save(again, [member(body(), "one"), member(body(width_mm=100), "two", site="there", family="broad")])
    assert Bank.load(again).sha256 == Bank.load(path).sha256


def test_what_can_be_left_out(path: Path) -> None:
    opened = Bank.load(path)
    for left in (
        opened.without(participants=["two", "nobody"]),
        opened.without(sites=["there"]),
        opened.without(families=["broad"]),
    ):
        assert [m.participant_id for m in left.members] == ["one"]
        assert left.without(participants=["one"]).members == ()
    assert len(opened.members) == 2


def test_changed_voxels_are_told(path: Path, tmp_path: Path) -> None:
    with np.load(path) as file:
        voxels = file["member_00000"].copy()
    voxels[20, 20, 20] += 1
    spoilt = changed(path, tmp_path / "bank.npz", member_00000=voxels)
    opened = Bank.load(spoilt)
    with pytest.raises(ModelError, match="member 0 is not what was written"):
        bank.read_member(spoilt, 0, opened.members[0])
    assert bank.read_member(spoilt, 1, opened.members[1]).mu_cm1.max() > 0.1


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("format", "something else", "no bank of mu-maps"),
        ("version", 99, "version is 99"),
        ("spacing_mm", [4, 4, 4], r"spacing_mm is \[4, 4, 4\]"),
        ("members", [], "do not fit together"),
        ("slabs", [1, 1], "do not fit together"),
        ("members", [{"surprise": 1}], "cannot be read as a bank"),
    ],
)
def test_another_layout_is_refused(path: Path, tmp_path: Path, entry: str, value: object, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Bank.load(changed(path, tmp_path / "bank.npz", header=header_with(path, **{entry: value})))


def test_damage_is_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    half, text, none = tmp_path / "half.npz", tmp_path / "text.npz", tmp_path / "none.npz"
    half.write_bytes(path.read_bytes()[:2000])
    text.write_text("not a bank")
    for file in (half, text, none):
        with pytest.raises(ModelError) as caught:
            Bank.load(file)
        assert file.name in str(caught.value)
        assert "\n" not in str(caught.value)


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def test_no_pickle_is_ever_loaded(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], dtype=object)
    with pytest.raises(ModelError, match="cannot be read"):
        Bank.load(changed(path, tmp_path / "a.npz", header=bomb))
    spoilt = changed(path, tmp_path / "b.npz", member_00000=bomb)
    with pytest.raises(ModelError, match="cannot be read"):
        bank.read_member(spoilt, 0, Bank.load(spoilt).members[0])
    assert not (tmp_path / "exploded").exists()
