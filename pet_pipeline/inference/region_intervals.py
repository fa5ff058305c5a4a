"""Intervals of SUVmean, SUVmax and SUVpeak beside a translation of several paths: `X_acsd_regions.tsv`.

Each path is measured when it is drawn and forgotten then: what is kept of it is a few numbers a region.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.intervals import LEVEL, REACH_MM, Key, as_table, figures, intervals
from pet_pipeline.evaluation.regions import Part, parts
from pet_pipeline.inference.intake import Intake
from pet_pipeline.inference.pairing import labels_of
from pet_pipeline.inference.scoring import Reading, load_labels
from pet_pipeline.inference.uncertainty import LABEL


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
class RegionDraws:
    """What the paths of a case measure in its organs and lesions.

    Attributes:
        labels: the label volume.
        intake: the input on whose grid it lies.
        parts: organs and lesions.
        warnings: about the labels, one line each.
    """

    labels: Path
    intake: Intake
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    _draws: dict[int, dict[Key, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Path, intake: Intake) -> "RegionDraws":
        """The regions of a label volume with its table, nothing measured yet.

        Raises:
            InputRefused: unreadable, on another grid than the input, or without any label.
        """
        here = intake.volume.geometry
        grid = here.reoriented(here.to_canonical())
        voxels, structures, warnings = load_labels(labels, grid, Reading())
        found = parts(voxels, structures, margin_mm=REACH_MM, spacing_mm=grid.spacing_mm)
        if not found:
            raise InputRefused(f"{labels}: no organ or lesion of its table has a voxel; needed is one at least")
        return cls(labels, intake, tuple(found), tuple(warnings))

    def add(self, number: int, path: Volume) -> None:
        """Measure a path; it is not kept."""
        self._draws[number] = self._figures(path)

    def table(self, result: Volume) -> str:
        """The intervals about a result, as `evaluation.intervals.read_table` reads them."""
        found = intervals(self._figures(result), list(self._draws.values()))
        return as_table(found, self.intake.output_unit.value)

    def facts(self) -> dict[str, Any]:
        """What the sidecar says of the table."""
        return {
            "label": LABEL,
            "level_percent": LEVEL,
            "paths": len(self._draws),
            "labels": {"path": str(self.labels), "sha256": sha256_of(self.labels)},
        }

    def _figures(self, volume: Volume) -> dict[Key, float]:
        turned = self.intake.outgoing(volume).canonical()
        return figures(turned.data, self.parts, turned.geometry.spacing_mm)
