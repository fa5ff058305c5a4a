"""What of a sidecar may stand in another: numbers and known words, never free text."""

import pytest

from pet_pipeline.data.plain_facts import plain_facts

STATED = {
    "Modality": "PT", "Manufacturer": "SIEMENS Healthineers", "AttenuationCorrection": "none", "StoredUnits": "CNTS",
    "TracerName": "[18F]FDG", "TracerRadionuclide": "18F", "InjectedRadioactivityUnits": "MBq",
    "DecayCorrection": "START", "PatientSex": "F", "TimeZero": "10:00:00", "PatientWeight": "70.5",
    "FrameDuration": [120, 180], "ImageDecayCorrected": True, "RadionuclideHalfLife": 6586.2,
}  # fmt: skip


def test_numbers_and_known_words_stay() -> None:
    in_our_words = {"Manufacturer": "Siemens", "TracerName": "FDG", "TracerRadionuclide": "F18", "PatientWeight": 70.5}
    assert plain_facts({**STATED, "Other": 1}, STATED) == STATED | in_our_words
    assert plain_facts({"AttenuationCorrection": "CT of Ms Doe"}, STATED) == {"AttenuationCorrection": "corrected"}


@pytest.mark.parametrize("value", ["Doe^Jane", ["Doe^Jane"], {"Name": "Doe"}, None, "n/a"])
def test_anything_else_goes_no_further(value: object) -> None:
    found = plain_facts(dict.fromkeys(STATED, value), STATED)
    assert found == ({"AttenuationCorrection": "corrected"} if value == "Doe^Jane" else {})
