"""How well liver NSTD is measured without a mask: the automatic VOI against the labels of simulated cohorts.

    python benchmarks/nstd.py build/cohorts/cohort-test build/cohorts/cohort-heldout-family

Relative error of `liver_nstd` on the attenuation-corrected inputs (needs `ac_low_dose`) and of `liver_nstd_nac` on the
uncorrected ones, by family of bodies and dose: median and quartiles of its size, its largest. `found` counts the scans
with a liver in which a VOI was found, `elsewhere` those without a liver in which one was. Prints Markdown.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pet_pipeline.data.label_tables import table_beside
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.evaluation.liver import liver_nstd, liver_nstd_nac
from pet_pipeline.evaluation.regions import liver_region
from pet_pipeline.evaluation.structures import read_structures
from pet_pipeline.types import BoolArray

MEASURES = {"nstd": ("input_ac", liver_nstd), "nstd_nac": ("input", liver_nstd_nac)}


@dataclass
class Found:
    """What became of the scans of one row of the table."""

    livers: int = 0
    elsewhere: int = 0
    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def liver_of(case: Case) -> BoolArray | None:
    """The labelled liver away from its edge, on the grid of the case's images; None without one."""
    table = None if case.labels is None else table_beside(case.labels)
    if case.labels is None or table is None:
        raise SystemExit(f"{case.case_id}: no labels with their table; needed is a simulated cohort")
    labels, _ = read(case.labels)
    return liver_region(np.rint(labels.data).astype(np.int32), read_structures(table), labels.geometry.spacing_mm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders with a manifest.tsv")
    rows: defaultdict[tuple[str, str, float], Found] = defaultdict(Found)
    for folder in parser.parse_args().cohorts:
        for case in Manifest.load(folder / "manifest.tsv").cases:
            if "lesion_free_of" in case.extra:  # the same noise a second time
                continue
            liver = liver_of(case)
            for measure, (column, estimate) in MEASURES.items():
                path = getattr(case, column)
                if path is None:
                    raise SystemExit(f"{case.case_id}: no {column}; simulate the cohort with ac_low_dose")
                row = rows[measure, f"{folder.name} ({case.extra.get('family', 'n/a')})", case.dose]
                volume, _ = read(path)
                start = time.perf_counter()
                estimated = estimate(volume)
                row.seconds.append(time.perf_counter() - start)
                if liver is None:
                    row.elsewhere += estimated is not None
                    continue
                row.livers += 1
                if estimated is not None:
                    defined = estimate(volume, liver)
                    assert defined is not None
                    row.errors.append(estimated / defined - 1.0)
    print("| | cohort (family) | dose | found | error median (quartiles) | largest | bias | elsewhere | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (measure, cohort, dose), row in sorted(rows.items()):
        cells = "n/a | n/a | n/a"
        if row.errors:
            size = np.abs(row.errors)
            q1, median, q3 = np.percentile(size, [25, 50, 75])
            cells = f"{median:.1%} ({q1:.1%}, {q3:.1%}) | {size.max():.0%} | {np.median(row.errors):+.1%}"
        found, seconds = f"{len(row.errors)} of {row.livers}", np.median(row.seconds)
        print(f"| {measure} | {cohort} | {dose:g} % | {found} | {cells} | {row.elsewhere} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
