"""Tables and sidecars that stand elsewhere than beside an image: of a data set, of labels, of an evaluation."""

import json
from pathlib import Path

from harness import Reader
from mutations import of_text

from pet_pipeline.data.injection import Injection, refuse_other_examination
from pet_pipeline.data.input_units import read_sidecar, stated_unit
from pet_pipeline.data.layouts import udpet
from pet_pipeline.data.layouts.images import Image
from pet_pipeline.data.manifest_making import stated_splits
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.report import METRICS_FILE, SUMMARY_FILE, summarise, write_metrics, write_summary
from pet_pipeline.evaluation.structures import read_structures
from pet_pipeline.reporting.page import load_result
from pet_pipeline.simulation.bodies import read_label_table

SIDECAR = {
    "Units": "Bq/mL", "TracerName": "FDG", "TracerRadionuclide": "F18", "Modality": "PT", "InjectedRadioactivity": 350,
    "InjectedRadioactivityUnits": "MBq", "PatientWeight": 70.0, "ImageDecayCorrected": True, "InjectionStart": 0,
    "ImageDecayCorrectionTime": [3600], "FrameDuration": [120], "AttenuationCorrection": "none", "Simulated": False,
}  # fmt: skip
SCAN = "sub-01_rec-nacstat_pet.nii.gz"


def _make_data_set(folder: Path) -> None:
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "set"}))
    rows = ("participant_id\tsex\tweight\tsplit", "sub-01\tM\t71.5\ttrain", "sub-02\tF\t54\ttest")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    (folder / "rec-nacstat_pet.json").write_text(json.dumps(SIDECAR, indent=1))


def _read_data_set(folder: Path) -> None:
    stated_splits(folder)
    facts = read_sidecar(folder / SCAN) or {}
    refuse_other_examination(facts, SCAN)
    stated_unit(facts, SCAN)
    Injection.from_sidecar(facts, SCAN)


def _make_patients(folder: Path) -> None:
    rows = (
        "PatientID,Weight (kg),Injected activity,Time delay,Half life",
        "A-01,70,370e6,3600,6586.2",
        "A-02,81,3e8,3500,6586.2",
    )
    (folder / "patients.csv").write_text("\n".join(rows) + "\n")


def _read_patients(folder: Path) -> None:
    images = [Image(folder / f"{name}.nii.gz", "target", name, (name,), 100.0) for name in ("A-01", "A-02")]
    for facts in udpet.sidecars(folder / "patients.csv", images).values():
        known = Injection.from_sidecar(facts, "patients.csv")
        assert known.weight_kg
        assert known.weight_kg > 0.0


def _make_labels(folder: Path) -> None:
    rows = ("index\tname\tkind\tsuv\tdiameter_mm", "1\tmuscle\torgan\t0.7\tn/a", "2\tlesion_1\tlesion\t6.0\t14.5")
    (folder / "dseg.tsv").write_text("\n".join(rows) + "\n")


def _make_result(folder: Path) -> None:
    rows = [Row("a", "m", "body", "psnr", 31.2, "dB"), Row("a", "m", "organ:liver", "suv_mean_bias", -2.5, "%")]
    rows += [Row("b", "m", "body", "psnr", 30.1, "dB"), Row("b", "m", "organ:liver", "suv_mean_bias", 1.5, "%")]
    write_metrics(folder / METRICS_FILE, rows)
    write_summary(folder / SUMMARY_FILE, summarise(rows))


TABLES = (
    Reader(
        "BIDS data set",
        _make_data_set,
        _read_data_set,
        {"participants.tsv": (of_text,), "rec-nacstat_pet.json": (of_text,)},
    ),
    Reader("UDPET table", _make_patients, _read_patients, {"patients.csv": (of_text,)}),
    Reader("dseg.tsv, evaluate", _make_labels, lambda f: read_structures(f / "dseg.tsv"), {"dseg.tsv": (of_text,)}),
    Reader("dseg.tsv, simulate", _make_labels, lambda f: read_label_table(f / "dseg.tsv"), {"dseg.tsv": (of_text,)}),
    Reader("metrics.tsv, report", _make_result, load_result, {METRICS_FILE: (of_text,)}),
)
