"""Intervals of SUVmean, SUVmax and SUVpeak beside a translation: `X_acsd_regions.tsv`.

A calibration that knows the errors of regions tells them; else they are of several paths. Each path is measured when
it is drawn and forgotten then: what is kept of it is a few numbers a region.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pet_pipeline.configs.uncertainty import Calibration
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.intervals import (
    LEVEL,
    MARGIN_MM,
    Key,
    as_table,
    calibrated_intervals,
    figures,
    intervals,
)
from pet_pipeline.evaluation.region_errors import Seen
from pet_pipeline.evaluation.regions import Part, Structure, parts
from pet_pipeline.inference.intake import Intake
from pet_pipeline.inference.pairing import labels_of
from pet_pipeline.inference.scoring import Reading, load_labels
from pet_pipeline.inference.translator import Translation
from pet_pipeline.inference.uncertainty import CALIBRATED_LABEL, LABEL
from pet_pipeline.types import IntArray


def labels_for(case_id: str, source: Path) -> Path:
    """The label volume of a case.

    Args:
        case_id: its name.
        source: a label volume, a folder of them named like their cases or patients, or a manifest.

    Raises:
        InputRefused: there is none for this case.
    """
    if source.suffix.lower() == ".tsv":
        found = next((case.labels for case in Manifest.load(source).cases if case.case_id == case_id), None)
    else:
        found = labels_of(case_id, source)
    if found is None:
        raise InputRefused(f"{case_id}: no label volume of it in {source}; needed is one for every input of --regions")
    return found


@dataclass(frozen=True, eq=False)
class RegionTable:
    """The intervals of a case's organs and lesions.

    Attributes:
        labels: the label volume.
        intake: the input on whose grid it lies.
        voxels: the labels, (x, y, z), RAS+.
        structures: what they are.
        parts: organs and lesions.
        known: the calibration that tells their errors; None: paths do.
        warnings: about the labels and what is left out, one line each.
    """

    labels: Path
    intake: Intake
    voxels: IntArray
    structures: tuple[Structure, ...]
    parts: tuple[Part, ...]
    known: Calibration | None
    warnings: tuple[str, ...]
    _draws: dict[int, dict[Key, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Path, intake: Intake, known: Calibration | None) -> "RegionTable":
        """The regions of a label volume with its table, nothing measured yet.

        Raises:
            InputRefused: unreadable, on another grid than the input, or without any label.
        """
        here = intake.volume.geometry
        grid = here.reoriented(here.to_canonical())
        voxels, structures, warnings = load_labels(labels, grid, Reading())
        found = parts(voxels, structures, margin_mm=MARGIN_MM, spacing_mm=grid.spacing_mm)
        if not found:
            raise InputRefused(f"{labels}: no organ or lesion of its table has a voxel; needed is one at least")
        told = (*warnings, *_without_intervals(found, known))
        return cls(labels, intake, voxels, structures, tuple(found), known, told)

    def add(self, number: int, path: Volume) -> None:
        """Measure a path; it is not kept."""
        turned = self._turned(path)
        self._draws[number] = figures(turned.data, self.parts, turned.geometry.spacing_mm)

    def table(self, made: Translation) -> str:
        """The intervals about a result, as `evaluation.intervals.read_table` reads them."""
        result = self._turned(made.volume)
        spacing_mm = result.geometry.spacing_mm
        if self.known is None:
            found = intervals(figures(result.data, self.parts, spacing_mm), list(self._draws.values()))
        else:
            assert made.uncertainty is not None
            deviation = self._turned(made.uncertainty.volume).data
            source, body = self.intake.volume.canonical().data, made.frame.body().canonical().data > 0.0
            seen = Seen(result.data, source, body, self.voxels, self.structures, spacing_mm)
            found = calibrated_intervals(seen, deviation, self.parts, self.known.figures)
        return as_table(found, self.intake.output_unit.value)

    def facts(self) -> dict[str, Any]:
        """What the sidecar says of the table."""
        return {
            "label": LABEL if self.known is None else CALIBRATED_LABEL,
            "calibrated": self.known is not None,
            "level_percent": LEVEL,
            **({"paths": len(self._draws)} if self.known is None else {}),
            "labels": {"path": str(self.labels), "sha256": sha256_of(self.labels)},
        }

    def _turned(self, volume: Volume) -> Volume:
        return self.intake.outgoing(volume).canonical()


def _without_intervals(found: Sequence[Part], known: Calibration | None) -> list[str]:
    """A line of the kinds of regions whose errors the calibration does not know."""
    if known is None:
        return []
    kinds = sorted({part.structure.kind for part in found} - set(known.figures))
    return [
        f"no intervals of {kind}s: the model was calibrated on too few of them (calibrate it on more cases, or take "
        "--paths)"
        for kind in kinds
    ]
