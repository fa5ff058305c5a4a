"""Lean mass, ideal weight and surface against worked examples; what is missing is named."""

import pytest

from pet_pipeline.data.body_size import BodySize
from pet_pipeline.errors import InputRefused


@pytest.mark.parametrize(
    ("kind", "sex", "size"),
    [
        ("BW", "M", 70.0),
        ("LBMJAMES128", "M", 1.10 * 70.0 - 128.0 * 0.16),
        ("LBMJAMES128", "F", 1.07 * 70.0 - 148.0 * 0.16),
        ("LBMJANMA", "M", 9270.0 * 70.0 / (6680.0 + 216.0 * 22.857142857)),
        ("LBMJANMA", "F", 9270.0 * 70.0 / (8780.0 + 244.0 * 22.857142857)),
        ("IBW", "O", (48.0 + 1.06 * 23.0 + 45.5 + 0.91 * 23.0) / 2.0),
        ("BSA", "F", 1.8481 * 10.0),  # m^2 of Du Bois; 10 cm^2/g a m^2/kg
    ],
)
def test_sizes_of_70_kg_and_175_cm(kind: str, sex: str, size: float) -> None:
    assert BodySize(70.0, 1.75, sex).per_bodyweight(kind, "x") == pytest.approx(size / 70.0, rel=1e-4)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputRefused, match="x: PatientSize, PatientSex missing; needed for SUV of type LBMJANMA"):
        BodySize(70.0).per_bodyweight("LBMJANMA", "x")
    with pytest.raises(InputRefused, match="SUVType"):
        BodySize(70.0, 1.7, "F").per_bodyweight("DOE", "x")
