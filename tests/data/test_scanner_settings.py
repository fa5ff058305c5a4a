"""Reconstruction settings: read from sidecars in three dialects, and never mixed unseen."""

from pathlib import Path
from typing import Any

import pytest

from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.scanner_settings import COMPARED, differing, refuse_mixed, settings_of
from pet_pipeline.errors import InputRefused

BIDS = {
    "Manufacturer": "Siemens Healthineers", "ManufacturersModelName": "Biograph Vision Quadra",
    "ReconMethodName": "PSF+TOF", "ReconMethodParameterLabels": ["subsets", "iterations"],
    "ReconMethodParameterValues": [5, 4], "ReconFilterType": "Gaussian", "ReconFilterSize": 2.0,
    "AttenuationCorrection": "none", "ScatterCorrectionMethod": "none", "RandomsCorrectionMethod": "delayed",
    "FrameDuration": [300],
}  # fmt: skip
DCM2NIIX = {
    "Manufacturer": "GE", "ManufacturersModelName": "Discovery MI", "ReconstructionMethod": "VPFX-S",
    "ConvolutionKernel": "XYZ Gauss6.40", "AttenuationCorrectionMethod": "CTAC-SG", "FrameDuration": 120,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (BIDS, {"vendor": "Siemens Healthineers", "model": "Biograph Vision Quadra", "tof": "yes", "psf": "yes",
                "iterations": "4", "subsets": "5", "filter_mm": "2", "corrections": "ran", "seconds": "300"}),
        (DCM2NIIX, {"vendor": "GE", "model": "Discovery MI", "tof": "yes", "psf": "yes", "filter_mm": "6.4",
                    "corrections": "attn", "seconds": "120"}),
        ({"ReconMethodName": "OP-OSEM3D 3i24s", "ReconFilterType": "All-pass", "CorrectedImage": ["DECY", "ATTN"]},
         {"tof": "no", "psf": "no", "iterations": "3", "subsets": "24", "filter_mm": "0", "corrections": "decy+attn"}),
        ({"ReconMethodName": "OSEM+TOF", "AttenuationCorrection": "none"},
         {"tof": "yes", "psf": "no", "corrections": "none"}),
        ({"Manufacturer": "n/a", "FrameDuration": [60, 60], "ReconFilterSize": None, "ReconMethodName": ""}, {}),
    ],
)  # fmt: skip
def test_settings_in_the_words_of_bids_dcm2niix_and_ours(facts: dict[str, Any], expected: dict[str, str]) -> None:
    assert settings_of(facts) == expected


def row(number: int, **settings: str) -> Case:
    return Case(f"c{number}", f"p{number}", "n/a", "train", Path(f"{number}.nii"), extra=settings)


def test_mixed_settings_are_told_with_their_rows_unless_simulated(tmp_path: Path) -> None:
    rows = (row(1, iterations="3", filter_mm="5"), row(2, iterations="4", filter_mm="5"), row(3, iterations="3"))
    assert differing(rows) == {"iterations": {"3": 2, "4": 1}}
    with pytest.raises(InputRefused) as refusal:
        refuse_mixed(Manifest(tmp_path, rows), "m.tsv")
    message = str(refusal.value)
    assert message.startswith("m.tsv: mixed reconstruction settings: iterations 3 (2 rows), 4 (1 rows); ")
    assert "--allow-mixed" in message
    refuse_mixed(Manifest(tmp_path, rows[::2]), "m.tsv")
    (tmp_path / "dataset_description.json").write_text('{"Simulated": true}', encoding="utf-8")
    refuse_mixed(Manifest(tmp_path, rows), "m.tsv")


def test_a_shorter_scan_is_no_other_reconstruction(tmp_path: Path) -> None:
    assert "seconds" not in COMPARED
    refuse_mixed(Manifest(tmp_path, (row(1, seconds="60"), row(2, seconds="600"))), "m.tsv")
