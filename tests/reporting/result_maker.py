"""Makes the folder of an evaluation without any evaluation: rows by a random generator, small volumes, one summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.regions import Structure
from pet_pipeline.evaluation.report import (
    CaseRecord,
    NotScored,
    Prediction,
    summarise,
    write_metrics,
    write_summary,
)
from pet_pipeline.reporting.planes import CasePlanes, slugs
from pet_pipeline.reporting.viewer import save_volumes

SHAPE, SPACING_MM = (24, 20, 36), (8.0, 8.0, 8.0)

STRUCTURES = (
    Structure(1, "muscle", "organ"),
    Structure(2, "liver", "organ"),
    Structure(3, "lungs", "organ"),
    Structure(4, "lesion_1", "lesion", diameter_mm=24.0),
    Structure(5, "lesion_2", "lesion", diameter_mm=12.0),
)

HOT = (15, 9, 24)
"""Voxel of the hottest lesion, lesion_1."""

PROVENANCE = {
    "model": "phantom-fdg-5mm",
    "model_version": "0.3.1",
    "model_sha256": "9f2c" + "ab" * 30,
    "options": {"steps": 4, "views": ["axial", "coronal", "sagittal"]},
    "seed": 7,
    "device": "cpu",
    "precision": "bf16",
    "software": {"pet_pipeline": "0.1.0", "torch": "2.9"},
    "demonstration": True,
}


def labels() -> np.ndarray:
    """A body of muscle with liver, lungs and two lesions; (x, y, z)."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    body = ((x - 11.5) / 9) ** 2 + ((y - 9.5) / 6.5) ** 2 < 1
    result = np.where(body & (z > 1) & (z < 34), 1, 0)
    result[((x - 15) / 4) ** 2 + ((y - 10) / 4) ** 2 + ((z - 16) / 4) ** 2 < 1] = 2
    result[((x - 7) / 3) ** 2 + ((y - 10) / 4) ** 2 + ((z - 26) / 5) ** 2 < 1] = 3
    result[13:17, 8:11, 23:26] = 4
    result[6:8, 8:10, 10:12] = 5
    return result


def volumes(seed: int = 0) -> dict[str, np.ndarray]:
    """Reference, condition, two predictions and an uncertainty map, SUV."""
    rng = np.random.default_rng(seed)
    reference = np.array([0.0, 0.7, 2.2, 0.4, 8.0, 4.0])[labels()].astype(np.float32)
    reference[HOT] = 9.0
    noise = rng.normal(0.0, 0.15, SHAPE).astype(np.float32) * (reference > 0)
    return {
        "reference": reference,
        "condition": (0.3 * reference + 2 * np.abs(noise)).astype(np.float32),
        "first": (1.05 * reference + noise).astype(np.float32),
        "second": (0.85 * reference + 0.3 * noise).astype(np.float32),
        "uncertainty": np.abs(noise),
    }


def rows_of(case_id: str, method: str, rng: np.random.Generator, offset: float) -> list[Row]:
    """Scores of a case that hang together: biases are those of the SUV they come from."""
    found: list[tuple[str, str, float, str]] = [
        ("body", "nrmse", rng.normal(0.25, 0.02) + offset / 200, "1"),
        ("body", "psnr", rng.normal(31.0, 1.0) - offset / 5, "dB"),
        ("body", "ssim", rng.normal(0.88, 0.01), "1"),
        ("body", "mae", rng.normal(0.2, 0.02), "SUV"),
    ]
    biases = []
    for organ, true, centre in (("muscle", 0.7, 0.0), ("liver", 2.2, 1.0), ("lungs", 0.4, 12.0)):
        bias = rng.normal(centre + offset, 2.0)
        biases.append(bias)
        region = f"organ:{organ}"
        found += [
            (region, "suv_mean", true * (1 + bias / 100), "SUV"),
            (region, "suv_mean_reference", true, "SUV"),
            (region, "suv_mean_bias", bias, "%"),
        ]
    found.append(("organs", "suv_mean_bias", float(np.mean(biases)), "%"))
    found.append(("organs", "suv_mean_bias_absolute", float(np.mean(np.abs(biases))), "%"))
    lost = 0
    for lesion, true, diameter in (("lesion_1", 8.0, 24.0), ("lesion_2", 4.0, 12.0)):
        bias = rng.normal(-12.0 - offset, 8.0)
        shown = max(0.0, 1 + 3.5 * bias / 100)
        lost += shown < 0.5
        region = f"lesion:{lesion}"
        found += [
            (region, "diameter", diameter, "mm"),
            (region, "contrast_reference", true - 1.0, "SUV"),
            (region, "shown_fraction", shown, "1"),
            (region, "suv_peak", true * (1 + bias / 100), "SUV"),
            (region, "suv_peak_reference", true, "SUV"),
            (region, "suv_peak_bias", bias, "%"),
            (region, "suv_peak_recovery", 1 + bias / 100, "1"),
            (region, "suv_max", 1.1 * true * (1 + bias / 100), "SUV"),
            (region, "suv_max_reference", 1.1 * true, "SUV"),
            (region, "suv_max_recovery", 1 + bias / 100, "1"),
        ]
    found += [
        ("lesions", "conspicuous", 2.0, "count"),
        ("lesions", "lost", float(lost), "count"),
        ("lesions", "false_foci", float(rng.integers(0, 3)), "count"),
    ]
    return [Row(case_id, method, region, metric, float(value), unit) for region, metric, value, unit in found]


def make_result(
    folder: Path,
    case_ids: Sequence[str] | int = 3,
    *,
    methods: Sequence[str] = ("MADM", "prior alone"),
    pictures: bool = True,
    viewer: bool = False,
    simulated: bool | None = True,
    not_scored: Sequence[NotScored] = (),
    warnings: Sequence[str] = (),
    provenance: bool = True,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Write `metrics.tsv`, `summary.json` and `pictures/` into a folder; returns the folder."""
    names = [f"sub-{i + 1:04d}" for i in range(case_ids)] if isinstance(case_ids, int) else list(case_ids)
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    records: list[CaseRecord] = []
    files = slugs(names)
    made = volumes(seed)
    predictions = {m: made["first"] if i == 0 else made["second"] for i, m in enumerate(methods)}
    for i, case_id in enumerate(names):
        for k, method in enumerate(methods):
            rows += rows_of(case_id, method, rng, 6.0 * k)
        picture = f"pictures/{files[case_id]}.npz"
        if pictures:
            CasePlanes.of(
                made["reference"], predictions, SPACING_MM, condition=made["condition"],
                uncertainty={methods[0]: made["uncertainty"]}, labels=labels(), structures=STRUCTURES,
            ).save(folder / picture)  # fmt: skip
        if viewer:
            save_volumes(
                folder / f"pictures/{files[case_id]}_volumes.npz", made["reference"], predictions, SPACING_MM,
                uncertainty={methods[0]: made["uncertainty"]}, labels=labels(),
            )  # fmt: skip
        records.append(
            CaseRecord(
                case_id, f"patient {i + 1}", ("basel", "lyon")[i % 2], "psf-5mm", (5.0, 20.0)[i % 2], simulated,
                f"cohort/{files[case_id]}_pet.nii.gz", None, picture if pictures else None,
                {m: Prediction(f"out/{files[case_id]}_acsd.nii.gz", "ab" * 32) for m in methods},
                ("body found by threshold",) if i == 0 else (),
            )
        )  # fmt: skip
    known = {"reference": "the manifest's noise-free AC PET", "quantity": "pet", "data_range": 15.0, "resample": False}
    summary = summarise(
        rows,
        cases=records,
        not_scored=not_scored,
        provenance=dict.fromkeys(methods, PROVENANCE) if provenance else None,
        settings=known | settings,
        command="pet-pipeline evaluate out --manifest cohort/manifest.tsv --output report",
        warnings=warnings,
    )
    summary["challenges"] = {
        "UDPET 2025": {
            "scores": [{"method": m, "name": "total", "value": 0.7, "unit": "1"} for m in methods],
            "not_reproduced": ["the scoring script, which is not public"],
        }
    }
    write_metrics(folder / "metrics.tsv", rows)
    write_summary(folder / "summary.json", summary)
    return folder
