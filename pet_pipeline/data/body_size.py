"""What a patient weighs without fat, should weigh, and how large the skin is: the other denominators of SUV."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pet_pipeline.errors import InputRefused


@dataclass(frozen=True)
class BodySize:
    """A patient's size, as far as it is stated.

    Attributes:
        weight_kg: None where nothing says it; likewise the others.
        height_m: body height.
        sex: M, F, or O (then the mean of both formulas is taken).
    """

    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None

    def per_bodyweight(self, kind: str, name: str) -> float:
        """By what SUVbw (g/mL) is multiplied to become SUV of `kind`; SUVbsa comes in cm^2/mL.

        Args:
            kind: BW, LBMJAMES128, LBMJANMA, IBW or BSA: the defined terms of DICOM's SUV Type (0054,1006).
            name: how messages call the image.

        Raises:
            InputRefused: an unknown kind, or weight, height or sex missing for it; the message names the tag.
        """
        if kind == "BW":
            return 1.0
        if kind not in _FORMULAS:
            raise InputRefused(f"{name}: SUVType (0054,1006) is none of BW, {', '.join(_FORMULAS)}; needed is one")
        given = {"PatientWeight": self.weight_kg, "PatientSize": self.height_m, "PatientSex": self.sex}
        missing = [tag for tag, value in given.items() if value is None]
        if missing:
            raise InputRefused(f"{name}: {', '.join(missing)} missing; needed for SUV of type {kind}")
        assert self.weight_kg is not None
        assert self.height_m is not None
        sexes = self.sex if self.sex in ("M", "F") else "MF"
        formula = _FORMULAS[kind]
        sizes = [formula(self.weight_kg, self.height_m, sex == "M") for sex in sexes or ""]
        return sum(sizes) / len(sizes) / self.weight_kg


def lean_mass_james_kg(weight_kg: float, height_m: float, male: bool) -> float:
    """James 1976 with 128 for men (120 is a widespread error)."""
    square = (weight_kg / (100.0 * height_m)) ** 2
    return 1.10 * weight_kg - 128.0 * square if male else 1.07 * weight_kg - 148.0 * square


def lean_mass_janmahasatian_kg(weight_kg: float, height_m: float, male: bool) -> float:
    """Janmahasatian 2005."""
    bmi = weight_kg / height_m**2
    return 9270.0 * weight_kg / (6680.0 + 216.0 * bmi if male else 8780.0 + 244.0 * bmi)


def ideal_weight_kg(_weight_kg: float, height_m: float, male: bool) -> float:
    """Ideal body weight, as in Sugawara 1999."""
    above_cm = 100.0 * height_m - 152.0
    return 48.0 + 1.06 * above_cm if male else 45.5 + 0.91 * above_cm


def surface_1000cm2(weight_kg: float, height_m: float, _male: bool) -> float:
    """Body surface, Du Bois 1916, in units of 1000 cm^2, so that per kg of body it is in cm^2 per g."""
    return 0.07184 * math.pow(weight_kg, 0.425) * math.pow(100.0 * height_m, 0.725)


_FORMULAS: Mapping[str, Callable[[float, float, bool], float]] = {
    "LBMJAMES128": lean_mass_james_kg,
    "LBMJANMA": lean_mass_janmahasatian_kg,
    "IBW": ideal_weight_kg,
    "BSA": surface_1000cm2,
}
