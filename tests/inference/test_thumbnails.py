"""The sheet of `check`: every case on it, with its figures and its warnings, whatever its name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from pet_pipeline.configs.model import ModelDescription, SeenRange
from pet_pipeline.inference import thumbnails
from pet_pipeline.inference.inspection import Inspection, inspect_job
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions

MODEL = ModelDescription(name="m", version="1", networks={}, demonstration=True, intended_use="Not for diagnosis.")
KNOWING = MODEL.model_copy(
    update={
        "seen": {
            "noise_level": SeenRange(p01=0.01, median=0.02, p99=0.03),
            "body_length_mm": SeenRange(p01=100.0, median=120.0, p99=140.0),
        }
    }
)
MakePet = Callable[..., Path]


def look(path: Path, description: ModelDescription = MODEL) -> Inspection:
    (found,) = inspect_job(Job(path.name.split(".")[0], path, path), InputOptions(), description)
    return found


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that a figure is given, in order."""
    texts: list[str] = []
    original = Figure.text

    def text(self: Figure, x: float, y: float, s: str, **options: object) -> object:
        texts.append(s)
        assert 0.0 <= x <= 1.0, s
        assert 0.0 < y < 1.0, s
        return original(self, x, y, s, **options)

    monkeypatch.setattr(Figure, "text", text)
    return texts


def test_captions_hold_noise_distance_and_warnings(make_pet: MakePet, tmp_path: Path, written: list[str]) -> None:
    one = look(make_pet(), KNOWING)
    assert one.descriptors is not None
    noise = f"{one.descriptors.noise_level:.2g}"
    assert thumbnails.write_sheet([one], tmp_path / "sheet.png", "the title") == 0
    assert written[0] == "the title"
    assert written[1] == "1 input, 1 would be translated, 1 unlike the training data"
    assert written[written.index("noise") + 1] == noise
    assert any(line.startswith(f"! noise level {noise}: training had 0.01 to 0.03") for line in written)
    assert any(line.startswith("! m is a demonstration model") for line in written)
    assert not any("inside what" in line for line in written)
    written.clear()
    thumbnails.write_sheet([look(make_pet())], tmp_path / "sheet.png")
    assert any(line.startswith("training data: not known") for line in written)


def test_a_refused_case_shows_its_message_and_no_picture(make_pet: MakePet, tmp_path: Path, written: list[str]) -> None:
    refused = look(make_pet("zero.nii.gz", data=np.zeros((20, 20, 20), np.float32)))
    assert thumbnails.write_sheet([refused], tmp_path / "refused.png") == 0
    assert {"zero", "refused"} <= set(written)
    assert "all zero; needed is a PET" in " ".join(written)
    assert "noise" not in written
    assert (tmp_path / "refused.png").stat().st_size > 2_000


def test_a_warning_of_every_case_stands_once(make_pet: MakePet, tmp_path: Path, written: list[str]) -> None:
    thumbnails.write_sheet([look(make_pet(f"{name}.nii.gz")) for name in "abcd"], tmp_path / "sheet.png")
    assert sum("demonstration model" in line for line in written) == 1
    assert {"a", "b", "c", "d"} <= set(written)


def test_what_does_not_fit_is_counted(
    make_pet: MakePet, tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "MOST_CASES", 2)
    one = look(make_pet())
    assert thumbnails.write_sheet([one] * 5, tmp_path / "sheet.png") == 3
    assert written[1].endswith("the first 2 are shown")
    assert written.count("scan") == 2


def test_names_are_text_and_not_formulas_and_keep_both_ends(
    make_pet: MakePet, tmp_path: Path, written: list[str]
) -> None:
    formula = make_pet(r"$\frac{x$.nii.gz")
    long = make_pet("sub-0001_trc-18FFDG_rec-nacstat_desc-dose05_pet.nii.gz")
    thumbnails.write_sheet([look(formula), look(long)], tmp_path / "sheet.png")
    assert r"$\frac{x$" in written
    (short,) = (line for line in written if line.startswith("sub-0001"))
    assert short.endswith("dose05_pet")
    assert "…" in short


def test_many_warnings_end_in_an_ellipsis(make_pet: MakePet, tmp_path: Path, written: list[str]) -> None:
    verbose = KNOWING.model_copy(update={"intended_use": "word " * 200})
    thumbnails.write_sheet([look(make_pet(), verbose)], tmp_path / "sheet.png")
    (cut,) = (line for line in written if line.endswith(" …"))
    below = written[next(i for i, line in enumerate(written) if line.startswith("unit suv")) :]
    assert below.index(cut) == thumbnails.MOST_LINES - 1


def test_the_pictures_show_the_body_front_up_and_the_patients_right_on_the_left(
    make_pet: MakePet, tmp_path: Path
) -> None:
    data = np.zeros((40, 40, 40), np.float32)
    data[6:34, 6:34, :] = 1.0 + 0.1 * np.random.default_rng(0).random((28, 28, 40))
    data[24:32, 24:32, :] = 8.0  # right, front: x and y grow to right and front in RAS+
    one = look(make_pet(data=data))
    assert one.thumbnail is not None
    thumbnails.write_sheet([one], tmp_path / "sheet.png")
    image = imread(tmp_path / "sheet.png")[:, :, :3]
    grey = np.where(np.ptp(image, axis=2) < 0.02, image.mean(axis=2), 1.0)
    axial = grey[: int(2.4 * 110), int(2.1 * 110) :]  # right half, above the figures
    dark_y, dark_x = np.nonzero(axial[int(0.75 * 110) :] < 0.05)
    body_y, body_x = np.nonzero(axial[int(0.75 * 110) :] < 0.98)
    assert dark_x.mean() < body_x.mean()
    assert dark_y.mean() < body_y.mean()
