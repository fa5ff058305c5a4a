"""What is said, and what is refused, of inputs unlike the training data."""

from collections.abc import Callable

import numpy as np
import pytest

from pet_pipeline.configs.model import ModelDescription, SeenRange
from pet_pipeline.data.descriptors import describe
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.injection import is_corrected
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.cautions import body_cautions, cautions, refuse_grid, refuse_other_correction
from pet_pipeline.inference.distance import distance
from pet_pipeline.units import Unit

MODEL = ModelDescription(name="m", version="1", networks={}, demonstration=True, intended_use="Not for diagnosis.")
USUAL = ((128, 128, 100), (4.07, 4.07, 3.0))
Call = Callable[..., list[str]]


def _grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Geometry:
    return Geometry.regular(shape, spacing_mm)


def test_a_usual_simulated_scan_passes_in_silence() -> None:
    refuse_grid(MODEL, _grid(*USUAL), "scan")
    assert cautions(MODEL, _grid(*USUAL), simulated=True) == []


def test_a_demonstration_model_says_so_of_a_real_scan_with_its_intended_use() -> None:
    lines = cautions(MODEL, _grid(*USUAL), simulated=False)
    assert len(lines) == 1
    assert "demonstration model" in lines[0]
    assert "Not for diagnosis." in lines[0]
    trained = MODEL.model_copy(update={"demonstration": False})
    assert cautions(trained, _grid(*USUAL), simulated=False) == []


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "word"),
    [((128, 128, 40), (4.0, 4.0, 9.0), "spacing 9 mm along z"),
     ((128, 128, 400), (4.0, 4.0, 1.0), "spacing 1 mm along z"),
     ((128, 128, 30), (4.0, 4.0, 4.0), "field of view 120 mm along z"),
     ((40, 128, 100), (4.0, 4.0, 4.0), "160 mm along x"),
     ((128, 128, 600), (4.0, 4.0, 5.0), "longer")],
)  # fmt: skip
def test_unusual_grids_are_warned_of(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], word: str
) -> None:
    refuse_grid(MODEL, _grid(shape, spacing_mm), "scan")
    lines = cautions(MODEL, _grid(shape, spacing_mm), simulated=True)
    assert len(lines) == 1
    assert word in lines[0]


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((30, 22, 20), (200.0, 200.0, 200.0)), ((30, 22, 20), (0.5, 0.5, 0.5)), ((200, 200, 10), (4.0, 4.0, 5.0)),
     ((200, 200, 1000), (4.0, 4.0, 5.0))],
)  # fmt: skip
def test_grids_of_no_person_are_refused(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    with pytest.raises(InputRefused, match=r"scan: .* needed"):
        refuse_grid(MODEL, _grid(shape, spacing_mm), "scan")


SEEN = {
    "noise_level": SeenRange(p01=0.05, median=0.1, p99=0.3),
    "body_length_mm": SeenRange(p01=150.0, median=200.0, p99=250.0),
    "spacing_z_mm": SeenRange(p01=4.0, median=5.0, p99=6.0),
}


def _spoken(noise: float, length: int, *, seen: dict[str, SeenRange] = SEEN) -> list[str]:
    """The cautions about a cylinder of 40 voxels of 5 mm in air."""
    shape = (56, 48, length)
    x, y, _ = np.indices(shape)
    body = (x - 28) ** 2 + (y - 24) ** 2 < 20**2
    data = body * (1.0 + np.random.default_rng(0).normal(0.0, noise, shape))
    volume = Volume(data.astype(np.float32), _grid(shape, (5.0, 5.0, 5.0)), Unit.SUV)
    frame, box = frame_body(volume, (5.0, 5.0, 5.0), multiple=8)
    far = distance(seen, describe(frame, box))
    model = MODEL.model_copy(update={"seen": seen})
    return [*cautions(model, volume.geometry, simulated=True), *body_cautions(frame, Unit.SUV, far)]


def test_an_input_noisier_than_training_is_told_and_one_inside_is_not() -> None:
    assert _spoken(0.2, 40) == []
    (line,) = _spoken(0.5, 40)
    assert line.startswith("noise level 0.")
    assert line.endswith(": training had 0.05 to 0.3")


def test_a_model_that_knows_what_it_saw_judges_the_body_by_that_and_not_by_constants() -> None:
    assert _spoken(0.2, 20) == ["body length 100 mm: training had 150 to 250 mm"]
    (constant,) = _spoken(0.2, 20, seen={})
    assert constant == "field of view 100 mm along z, trained on 150 mm and more: expect less accuracy"
    shorter = {**SEEN, "body_length_mm": SeenRange(p01=80.0, median=100.0, p99=150.0)}
    assert _spoken(0.2, 20, seen=shorter) == []
    seen = MODEL.model_copy(update={"seen": SEEN})
    assert cautions(seen, _grid((128, 128, 40), (4.0, 4.0, 9.0)), simulated=True) == []  # the descriptors say it


def test_a_body_without_air_and_relative_values_are_told() -> None:
    data = np.random.default_rng(0).gamma(9.0, 1.0, (48, 48, 48)).astype(np.float32)
    frame, _ = frame_body(Volume(data, _grid(data.shape, (5.0, 5.0, 5.0)), Unit.RELATIVE), (5.0, 5.0, 5.0), multiple=8)
    crop, relative = body_cautions(frame, Unit.RELATIVE, None)
    assert crop.startswith("no air found around the body")
    assert relative == "relative values: the result is relative too, not SUV"


@pytest.mark.parametrize("condition", ["input", "input_ac"])
def test_an_input_that_says_to_be_of_the_other_kind_is_refused(condition: str) -> None:
    model = MODEL.model_copy(update={"condition": condition})
    fits = condition == "input_ac"
    refuse_other_correction(model, fits, "scan")
    refuse_other_correction(model, None, "scan")
    other = "phantom-fdg-5mm" if fits else "phantom-ndif-5mm"
    said = rf"^scan: (non-)?attenuation-corrected PET by its sidecar.* m takes .*, or --model {other}$"
    with pytest.raises(InputRefused, match=said):
        refuse_other_correction(model, not fits, "scan")


@pytest.mark.parametrize(
    ("sidecar", "corrected"),
    [
        ({"AttenuationCorrection": "none"}, False),
        ({"AttenuationCorrection": "CT"}, True),
        ({"AttenuationCorrection": "[137Cs]transmission scan-based"}, True),
        ({"AttenuationCorrection": "n/a"}, None),
        ({"Units": "g/mL"}, None),
        (None, None),
    ],
)
def test_what_a_sidecar_says_of_the_attenuation_correction(sidecar: dict[str, str] | None, corrected: bool) -> None:
    assert is_corrected(sidecar) is corrected
