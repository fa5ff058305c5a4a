"""What is said, and what is refused, of inputs unlike the training data."""

from collections.abc import Callable

import pytest

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.cautions import cautions, refuse_grid

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
