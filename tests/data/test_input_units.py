"""Units: who decides, what is refused, and SUV by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pet_pipeline.data.injection import MBQ_BELOW, Injection
from pet_pipeline.data.input_units import read_sidecar, resolve_unit, to_suv
from pet_pipeline.data.isotopes import isotope_name
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import HALF_LIFE_F18_S, Unit, frame_decay

BIDS = {
    "Modality": "PT",
    "Units": "Bq/mL",
    "TracerName": "FDG",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 370.0,
    "InjectedRadioactivityUnits": "MBq",
    "InjectionStart": -3600,
    "ScanStart": 0,
    "TimeZero": "10:00:00",
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 0,
    "BodyWeight": 70.0,
}


def pet(top: float) -> Volume:
    data = np.linspace(0.0, top, 1000, dtype=np.float32).reshape(10, 10, 10)
    return Volume(data, Geometry.regular((10, 10, 10), (5.0, 5.0, 5.0)), Unit.UNKNOWN)


def test_option_then_sidecar_then_values() -> None:
    low, high = pet(8.0), pet(40000.0)
    assert resolve_unit(low, "a", option=Unit.RELATIVE, sidecar={"Units": "Bq/mL"})[0] is Unit.RELATIVE
    assert resolve_unit(low, "a", option=None, sidecar={"Units": "Bq/mL"}) == (Unit.BQML, [])
    assert resolve_unit(high, "a", option=Unit.BQML, sidecar=None) == (Unit.BQML, [])
    unit, warnings = resolve_unit(low, "a", option=None, sidecar={})
    assert unit is Unit.SUV
    assert len(warnings) == 1
    assert "SUV is assumed" in warnings[0]
    with pytest.raises(InputRefused, match=r"no unit stated.*--input-unit"):
        resolve_unit(high, "a", option=None, sidecar=None)


def test_the_guess_ends_at_a_percentile_of_100() -> None:
    assert resolve_unit(pet(100.0), "a", option=None, sidecar=None)[0] is Unit.SUV
    with pytest.raises(InputRefused):
        resolve_unit(pet(101.0), "a", option=None, sidecar=None)


def test_an_option_against_the_sidecar_is_warned_of() -> None:
    assert resolve_unit(pet(8.0), "a", option=Unit.SUV, sidecar={"Units": "g/ml"})[1] == []
    assert "the option is used" in resolve_unit(pet(8.0), "a", option=Unit.SUV, sidecar={"Units": "BQML"})[1][0]
    with pytest.raises(UsageError, match="suv, bqml or relative"):
        resolve_unit(pet(8.0), "a", option=Unit.HU, sidecar=None)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("SUV", Unit.SUV), ("g/mL", Unit.SUV), ("BQML", Unit.BQML), ("Bq/mL", Unit.BQML), ("CNTS", Unit.RELATIVE),
     ("PROPCNTS", Unit.RELATIVE), (" relative ", Unit.RELATIVE)],
)  # fmt: skip
def test_units_in_the_words_of_bids_and_dicom(text: str, unit: Unit) -> None:
    assert resolve_unit(pet(8.0), "a", option=None, sidecar={"Units": text})[0] is unit


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"Units": "kBq/mL"}, "kBq/mL"),
        ({"Units": "CM2ML"}, "CM2ML"),
        ({"Modality": "CT"}, "modality CT"),
        ({"Modality": "MR"}, "modality MR"),
        ({"Modality": "NM"}, "modality NM"),
        ({"TracerRadionuclide": "Ga68"}, "Ga68"),
        ({"TracerRadionuclide": "11C"}, "11C"),
        ({"Radionuclide": "^68^Gallium"}, "Gallium"),
        ({"RadionuclideHalfLife": 4062.6}, "half-life"),
    ],
)
def test_another_unit_modality_or_isotope_is_refused(facts: dict[str, Any], found: str) -> None:
    with pytest.raises(InputRefused, match=found) as refusal:
        resolve_unit(pet(8.0), "scan.nii", option=None, sidecar=facts)
    assert str(refusal.value).startswith("scan.nii: ")


def test_another_isotope_is_refused_even_with_an_option() -> None:
    with pytest.raises(InputRefused, match="Ga68"):
        resolve_unit(pet(8.0), "a", option=Unit.SUV, sidecar={"TracerRadionuclide": "Ga68"})


@pytest.mark.parametrize("text", ["F18", "18F", "F-18", "[18F]", "^18^Fluorine", "Fluorine-18", "f18"])
def test_fluorine_18_in_all_spellings(text: str) -> None:
    assert isotope_name(text) == "f18"


def test_another_tracer_is_warned_of() -> None:
    warn = resolve_unit(pet(8.0), "a", option=Unit.SUV, sidecar={"TracerName": "PSMA-1007"})[1]
    assert len(warn) == 1
    assert "another tracer than FDG" in warn[0]
    assert "PSMA" not in warn[0]  # free text is not passed on: it may name a person
    for fdg in ("FDG", "18F-FDG", "Fluorodeoxyglucose", "FDG -- fluorodeoxyglucose"):
        assert resolve_unit(pet(8.0), "a", option=Unit.SUV, sidecar={"TracerName": fdg})[1] == []


def test_suv_by_hand_from_options_and_from_bids() -> None:
    stored = pet(20000.0)
    # 370 MBq in 70 kg an hour before: A = 370e6 * 2^(-3600 / 6586.2) Bq
    expected = 70000.0 / (370e6 * 2.0 ** (-3600.0 / 6586.2))
    suv, factor = to_suv(stored, Unit.BQML, "a", weight_kg=70.0, dose_mbq=370.0, minutes=60.0)
    assert factor == pytest.approx(expected, rel=1e-6)
    assert suv.unit is Unit.SUV
    assert np.allclose(suv.data, stored.data * expected, rtol=1e-5)
    assert to_suv(stored, Unit.BQML, "a", sidecar=BIDS)[1] == pytest.approx(expected, rel=1e-6)
    # The option wins over the sidecar.
    assert to_suv(stored, Unit.BQML, "a", weight_kg=35.0, sidecar=BIDS)[1] == pytest.approx(expected / 2, rel=1e-6)


def test_suv_and_relative_stay_as_they_are() -> None:
    for unit in (Unit.SUV, Unit.RELATIVE):
        volume, factor = to_suv(pet(8.0), unit, "a")
        assert (volume.unit, factor) == (unit, 1.0)
        assert np.array_equal(volume.data, pet(8.0).data)


@pytest.mark.parametrize(
    ("changes", "minutes"),
    [
        ({}, 60.0),
        ({"ImageDecayCorrectionTime": -3600}, 0.0),
        ({"ImageDecayCorrectionTime": None, "ScanStart": 600}, 70.0),
        ({"DecayCorrection": "ADMIN", "ImageDecayCorrected": None}, 0.0),
        ({"ImageDecayCorrected": False, "FrameDuration": [120], "FrameTimesStart": [300]}, 65.0),
    ],
)
def test_reference_time_of_the_values(changes: dict[str, Any], minutes: float) -> None:
    assert Injection.from_sidecar({**BIDS, **changes}, "a").minutes == pytest.approx(minutes)


def test_decay_within_an_uncorrected_frame() -> None:
    """Mean of exp(-lambda t) over a half-life is 1 / (2 ln 2) of its start."""
    assert frame_decay(HALF_LIFE_F18_S, HALF_LIFE_F18_S) == pytest.approx(2.0 * np.log(2.0))
    assert frame_decay(0.0, HALF_LIFE_F18_S) == 1.0
    facts = {**BIDS, "ImageDecayCorrected": False, "FrameDuration": HALF_LIFE_F18_S}
    assert Injection.from_sidecar(facts, "a").uncorrected_frame_s == HALF_LIFE_F18_S
    assert Injection.from_sidecar(BIDS, "a").uncorrected_frame_s == 0.0
    with pytest.raises(InputRefused, match="FrameDuration"):
        Injection.from_sidecar({**facts, "FrameDuration": "n/a"}, "a")


@pytest.mark.parametrize(
    ("facts", "dose_mbq"),
    [
        ({"InjectedRadioactivity": 10.0, "InjectedRadioactivityUnits": "mCi"}, 370.0),
        ({"InjectedRadioactivity": 370e6, "InjectedRadioactivityUnits": "Bq"}, 370.0),
        ({"RadionuclideTotalDose": 370e6}, 370.0),
        ({"RadionuclideTotalDose": 370.0}, 370.0),
        ({"RadionuclideTotalDose": 0.9 * MBQ_BELOW}, 0.9 * MBQ_BELOW),
        ({"RadionuclideTotalDose": MBQ_BELOW}, 0.1),
    ],
)
def test_dose_in_the_words_of_bids_and_dcm2niix(facts: dict[str, Any], dose_mbq: float) -> None:
    assert Injection.from_sidecar(facts, "a").dose_mbq == pytest.approx(dose_mbq)


@pytest.mark.parametrize(
    ("drop", "found"),
    [("BodyWeight", "weight"), ("InjectedRadioactivity", "injected dose"), ("InjectionStart", "time since injection")],
)
def test_bqml_without_what_suv_needs_is_refused(drop: str, found: str) -> None:
    facts = {key: value for key, value in BIDS.items() if key != drop}
    with pytest.raises(InputRefused, match=f"Bq/mL without {found}"):
        to_suv(pet(20000.0), Unit.BQML, "a", sidecar=facts)


@pytest.mark.parametrize(
    "given",
    [
        {"InjectedRadioactivityUnits": "furlong"},
        {"BodyWeight": "heavy"},
        {"BodyWeight": 70000.0},
        {"InjectedRadioactivity": -1.0},
        {"InjectionStart": 100.0},
        {"InjectedRadioactivity": 0.0005},  # gives SUV in the thousands
    ],
)
def test_impossible_facts_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputRefused):
        to_suv(pet(20000.0), Unit.BQML, "a", sidecar={**BIDS, **given})


def test_sidecar_beside_the_image(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "a.v1.nii.gz") is None
    (tmp_path / "a.v1.json").write_text(json.dumps({"Units": "SUV"}))
    assert read_sidecar(tmp_path / "a.v1.nii.gz") == {"Units": "SUV"}
    assert read_sidecar(tmp_path / "a.v1.nii") == {"Units": "SUV"}
    for broken in ("{", "[1]", "\udcff"):
        (tmp_path / "a.v1.json").write_text(broken, errors="surrogateescape")
        with pytest.raises(InputRefused, match=r"a\.v1\.json"):
            read_sidecar(tmp_path / "a.v1.nii")
