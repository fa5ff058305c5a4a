"""Print how long `evaluate` takes with all figures, how much memory, and how large the page is; no networks.

    python benchmarks/report.py                      # 20 cases of 128 x 128 x 200 with labels and lesions
    python benchmarks/report.py --cases 200 --viewer

The volumes are ellipsoids with noise, in a temporary folder; making them is not counted. Wall time depends on what else
the machine does, so processor time is printed beside it. Memory is the largest sum over all processes (Linux: from
/proc, ten times a second), pages that they share counted once.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import write
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.case import Truth, score_case
from pet_pipeline.evaluation.regions import Structure
from pet_pipeline.geometry import Geometry
from pet_pipeline.seeding import generator
from pet_pipeline.types import BoolArray
from pet_pipeline.units import Unit

SHAPE, SPACING_MM = (128, 128, 200), (4.0, 4.0, 4.0)

ORGANS = (
    # name, SUV, centre and semi-axes in mm from the grid's centre
    ("muscle", 0.7, (0, 0, 0), (190, 115, 380)),
    ("lungs", 0.45, (75, 5, 110), (55, 75, 95)),
    ("liver", 2.2, (80, 10, -30), (75, 70, 60)),
    ("spleen", 1.9, (-95, -30, -25), (30, 40, 45)),
    ("kidneys", 3.0, (-60, -45, -80), (28, 28, 50)),
    ("myocardium", 4.0, (-45, 40, 60), (40, 38, 40)),
    ("blood_pool", 1.6, (-5, 0, 40), (14, 14, 160)),
    ("bladder", 15.0, (0, 25, -290), (38, 34, 32)),
    ("brain", 8.0, (0, 0, 345), (68, 82, 55)),
)

DIAMETERS_MM = (9.0, 13.0, 18.0, 25.0)


def _ellipsoid(centre_mm: tuple[float, ...], semi_mm: tuple[float, ...]) -> BoolArray:
    axes = [
        (((np.arange(n) - (n - 1) / 2) * s - c) / r) ** 2
        for n, s, c, r in zip(SHAPE, SPACING_MM, centre_mm, semi_mm, strict=True)
    ]
    inside: BoolArray = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :] < 1.0
    return inside


def patient(number: int) -> dict[str, np.ndarray | list[Structure]]:
    """Labels, their table, reference, NAC input and two predictions of one patient."""
    from scipy.ndimage import gaussian_filter

    rng = generator(number, "benchmark")
    labels = np.zeros(SHAPE, dtype=np.int32)
    activity = np.zeros(SHAPE, dtype=np.float32)
    table: list[Structure] = []
    gains = []
    for index, (name, suv, centre, semi) in enumerate(ORGANS, start=1):
        mask = _ellipsoid(centre, tuple(r * rng.uniform(0.92, 1.05) for r in semi))
        labels[mask], activity[mask] = index, suv * rng.uniform(0.85, 1.15)
        table.append(Structure(index, name, "organ"))
        gains.append(rng.normal(1.0, 0.03))
    for lesion, diameter in enumerate(DIAMETERS_MM, start=1):
        place = (rng.uniform(-110, 110), rng.uniform(-60, 60), rng.uniform(-180, 180))
        mask = _ellipsoid(place, (diameter / 2,) * 3)
        index = len(ORGANS) + lesion
        labels[mask], activity[mask] = index, rng.uniform(4.0, 12.0)
        table.append(Structure(index, f"lesion_{lesion}", "lesion", diameter_mm=diameter))
        gains.append(rng.normal(0.88, 0.12))
    gain = np.concatenate([[1.0], gains]).astype(np.float32)[labels]
    reference = gaussian_filter(activity, 0.7)
    noise = gaussian_filter(rng.standard_normal(SHAPE).astype(np.float32), 1.0) * np.sqrt(reference + 0.02)
    return {
        "labels": labels,
        "table": table,
        "reference": reference,
        "input": np.maximum(0.3 * reference + 1.2 * noise, 0.0),
        "MADM": np.maximum(gaussian_filter(activity * gain, 0.8) + 0.3 * noise, 0.0),
        "prior": np.maximum(gaussian_filter(activity * gain**2, 1.3) + 0.1 * noise, 0.0),
        "uncertainty": np.abs(0.3 * noise) + 0.02 * (labels > 0),
    }


def make_cohort(root: Path, cases: int) -> Path:
    """Write the cohort and the predictions of two methods; returns the manifest."""
    grid = Geometry.regular(SHAPE, SPACING_MM)
    entries = []
    (root / "cohort").mkdir(parents=True)
    (root / "cohort" / "dataset_description.json").write_text(json.dumps({"Name": "benchmark", "Simulated": True}))
    made = {number: patient(number) for number in range(min(cases, 4))}  # four bodies; more cases are links to them
    written: dict[int, dict[str, Path]] = {}
    for number in range(cases):
        volumes = made[number % len(made)]
        folder = root / "cohort" / f"sub-{number + 1:04d}"
        case_id = f"sub-{number + 1:04d}_dose{(5, 20)[number % 2]:02d}"
        paths = {
            "input": folder / "nac.nii",
            "reference": folder / "ac.nii",
            "labels": folder / "dseg.nii",
            "MADM": root / "MADM" / f"{case_id}_acsd.nii",
            "prior": root / "prior" / f"{case_id}_acsd.nii",
            "uncertainty": root / "MADM" / f"{case_id}_acsd_std.nii.gz",
        }
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if number >= len(made):
                first = written[number % len(made)][name]
                path.symlink_to(first)
                continue
            unit = Unit.LABEL if name == "labels" else Unit.SUV
            write(path, Volume(np.asarray(volumes[name], dtype=np.float32), grid, unit))
        if number < len(made):
            written[number] = paths
        lines = [f"{s.index}\t{s.name}\t{s.kind}\t{s.diameter_mm or 'n/a'}" for s in volumes["table"]]
        (folder / "dseg.tsv").write_text("\n".join(["index\tname\tkind\tdiameter_mm", *lines]) + "\n")
        entries.append(
            Case(
                case_id,
                f"sub-{number + 1:04d}",
                ("basel", "lyon")[number % 2],
                "test",
                paths["input"],
                noise_free=paths["reference"],
                labels=paths["labels"],
                dose=float((5, 20)[number % 2]),
                scanner="ellipsoids",
            )
        )
    Manifest(root / "cohort", tuple(entries)).save(root / "cohort" / "manifest.tsv")
    return root / "cohort" / "manifest.tsv"


class Memory:
    """The largest resident memory of a process and all below it, in MB, sampled while it runs (Linux only)."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the watch; the largest sum, MB."""
        self._done.set()
        self._thread.join()
        return self.peak_mb

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak_mb = max(self.peak_mb, sum(_resident_mb(pid) for pid in _family(self._pid)))


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        try:
            tasks = Path(f"/proc/{one}/task").iterdir()
            for task in tasks:
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _resident_mb(pid: int) -> float:
    """Proportional set size where the kernel tells it: pages that processes share are counted once in all."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) / 1024.0
    except (OSError, ValueError, IndexError):
        return 0.0
    return 0.0


def metrics_alone() -> tuple[float, float]:
    """Processor and wall seconds that the scores of one method take for one case, its volumes in memory."""
    volumes = patient(0)
    truth = Truth(
        np.asarray(volumes["reference"], dtype=np.float32), SPACING_MM, np.asarray(volumes["labels"]),
        tuple(volumes["table"]),
    )  # fmt: skip
    prediction = np.asarray(volumes["MADM"], dtype=np.float32)
    score_case("warm-up", "MADM", prediction, truth)
    wall, processor = time.perf_counter(), time.process_time()
    score_case("case", "MADM", prediction, truth)
    return time.process_time() - processor, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--methods", type=int, choices=(1, 2), default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--viewer", action="store_true")
    parser.add_argument("--keep", type=Path, help="leave the result in this folder, to look at")
    options = parser.parse_args()
    processor, wall = metrics_alone()
    print(f"metrics alone: {processor:.2f} s of processor time a case, {wall:.2f} s wall")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        manifest = make_cohort(root, options.cases)
        output = root / "report"
        command = [
            sys.executable, "-m", "pet_pipeline", "-q", "evaluate", str(root / "MADM"), "--manifest", str(manifest),
            "--output", str(output), "--method", "MADM", "--workers", str(options.workers),
        ]  # fmt: skip
        command += ["--compare", f"prior={root / 'prior'}"] if options.methods == 2 else []
        command += ["--viewer"] if options.viewer else []
        start, before = time.perf_counter(), os.times()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        memory = Memory(process.pid)
        status = process.wait()
        wall, after = time.perf_counter() - start, os.times()
        processor = sum(after[2:4]) - sum(before[2:4])
        peak_mb = memory.stop()
        if status:
            raise SystemExit(f"evaluate failed with status {status}")
        page = output / "report.html"
        pictures = sum(f.stat().st_size for f in (output / "pictures").iterdir())
        print(
            f"evaluate, {options.cases} cases of {' x '.join(map(str, SHAPE))}, {options.methods} method(s), "
            f"{options.workers} workers: {wall:.1f} s wall, {processor:.1f} s processor, {peak_mb:.0f} MB at most"
        )
        print(
            f"report.html {page.stat().st_size / 1e6:.2f} MB, pictures {pictures / 1e6 / options.cases:.2f} MB a case"
        )
        if (output / "cases").is_dir():
            sizes = [f.stat().st_size / 1e6 for f in (output / "cases").iterdir()]
            print(f"{len(sizes)} case pages of {np.mean(sizes):.2f} MB")
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pet_pipeline", "-q", "report", str(output)], check=True, stdout=-3)
        print(f"report drawn again: {time.perf_counter() - start:.1f} s wall")
        if options.keep:
            shutil.copytree(output, options.keep, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
