"""What mu-maps are worth: every method's map of the same unseen patients, and the PET corrected with it.

    python benchmarks/mumap.py --cohort build/mumap/test --output build/mumap --model POUR-Net=phantom-mumap-5mm
        --model "OUR-Net alone=phantom-mumap-5mm@1" --model OUR-Net=build/mumap/run-our/model
        --model U-Net=build/mumap/run-unet/model --madm phantom-fdg-5mm

Simulates the test patients with their sinograms (or finds them finished). Maps are made of the 5 % NAC image; each then
corrects one and the same sinogram, noise-free and at the doses given, and is compared with the CT's map on it.
Rows: the body's outline filled with water, the true map on the PET's grid (the bound), each model (`@N`: its first N
stages). Then the end points against the noise-free truth at 5 %: MADM directly, OSEM with each map and with the CT's,
and these filtered. Prints Markdown; writes metrics.tsv and figures.json. `--workers 2` scores two patients at a time,
each on one core: seconds a patient are then those of one core.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy import ndimage

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.files import write_json
from pet_pipeline.data.manifest import Case
from pet_pipeline.data.mumap_files import mumap_onto
from pet_pipeline.data.nifti import read
from pet_pipeline.data.volume import Volume
from pet_pipeline.data.workers import in_processes
from pet_pipeline.evaluation.case import BODY, ORGANS, Row, Truth, score_case
from pet_pipeline.evaluation.groups import groups
from pet_pipeline.evaluation.mumaps import score_mumap
from pet_pipeline.evaluation.report import write_metrics
from pet_pipeline.evaluation.statistics import Group, paired_difference
from pet_pipeline.inference.mumaps import MumapMaker
from pet_pipeline.inference.options import MumapOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.reconstruction import reconstruct, water_mumap
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.devices import describe
from pet_pipeline.mumap.targets import body_mumap
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.simulation.sinograms import StoredSinogram
from pet_pipeline.units import Unit, sigma_mm_from_fwhm_mm

DOSE = 5.0
WATER, CT, MADM = "water in the outline", "CT", "MADM directly"
BOUND = "the true map on the PET's grid"
FILTER_MM = 10.0
COLUMNS = (
    ("mu MAE cm^-1", BODY, "mu_mae", "{:.4f}"),
    ("MAE HU", BODY, "hu_mae", "{:.1f}"),
    ("Dice lung", "tissue:lung", "dice", "{:.3f}"),
    ("Dice bone", "tissue:bone", "dice", "{:.3f}"),
)

Item = TypeVar("Item")
Result = TypeVar("Result")
Maker = Callable[[Volume, Case, StoredSinogram], Volume]


def water(volume: Volume, _: Case, stored: StoredSinogram) -> Volume:
    """The outline of the NAC image filled with water, without couch, on the PET's grid."""
    filled = Volume(water_mumap(stored, DOSE), stored.geometry, Unit.CM1)
    return mumap_onto(filled, volume.geometry)


def bound(volume: Volume, case: Case, _: StoredSinogram) -> Volume:
    """The true map, without couch, at the resolution of any map made here: no network can do better."""
    return mumap_onto(body_mumap(case), volume.geometry)


@dataclass(frozen=True)
class Work:
    """What is done with every patient.

    Attributes:
        models: NAME=FOLDER[@STAGES] of each.
        madm: model of the direct way, if any.
        doses: of the sinograms that are corrected.
    """

    models: tuple[str, ...]
    madm: str | None
    doses: tuple[float | str, ...]

    def __call__(self, case: Case) -> "Scored":
        """Score one patient."""
        costs: dict[str, tuple[float, float]] = {}
        makers: dict[str, Maker] = {WATER: water, BOUND: bound}
        makers |= {text.partition("=")[0]: by_model(text, costs) for text in self.models}
        rows = score_patient(case, makers, self.doses, translator(self.madm) if self.madm else None)
        return Scored(rows, costs, ", ".join(dict.fromkeys(device_of(text) for text in self.models)))


@dataclass(frozen=True)
class Scored:
    """One patient's rows, each model's seconds and peak memory (MB), and where the models ran."""

    rows: list[Row]
    costs: dict[str, tuple[float, float]]
    device: str


@cache
def maker_of(folder: str) -> MumapMaker:
    return MumapMaker.load(folder)


@cache
def translator(folder: str) -> Translator:
    return Translator.load(folder)


def parts_of(text: str) -> tuple[MumapMaker, MumapOptions]:
    name, _, folder = text.partition("=")
    folder, _, stages = folder.partition("@")
    return maker_of(folder or name), MumapOptions(stages=int(stages) if stages else None, workers=registrars())


def registrars() -> int | None:
    """Processes that register members: one where patients are scored side by side, else by cores."""
    return None if parent_process() is None else 1


def device_of(text: str) -> str:
    compute = parts_of(text)[0].compute
    return f"{describe(compute.device)}, {compute.precision}"


def by_model(text: str, costs: dict[str, tuple[float, float]]) -> Maker:
    """A model's map; its time and peak memory are noted under its name."""
    maker, options = parts_of(text)

    def make(volume: Volume, case: Case, _: StoredSinogram) -> Volume:
        start = time.perf_counter()
        made = maker.make(volume, options, case.case_id)
        costs[text.partition("=")[0]] = (time.perf_counter() - start, made.peak_memory_mb)
        return made.volume

    return make


def simulated(config: str, folder: Path, changes: Sequence[str], patients: int | None) -> list[Case]:
    """The low-dose cases of a cohort with sinograms, simulated or found finished; `patients` takes the first ones."""
    fewer = [] if patients is None else [f"patients={patients}"]
    settings = load(
        CohortSettings, config, ["keep_sinograms=true", "twins=false", "ac_low_dose=false", *changes, *fewer]
    )
    with progress(f"simulate {folder.name}", settings.patients) as tick:
        manifest = simulate_cohort(settings, folder, on_patient=lambda name: tick(1, name))
    return [case for case in manifest.select(dose=DOSE).cases if "lesion_free_of" not in case.extra]


def canonical(path: Path | None) -> Volume:
    assert path is not None
    volume, _ = read(path)
    turned = volume.canonical()
    return turned.with_data(turned.data, Unit.SUV)


def smoothed(volume: Volume) -> np.ndarray:
    sigma = [sigma_mm_from_fwhm_mm(FILTER_MM) / s for s in volume.geometry.spacing_mm]
    return np.asarray(ndimage.gaussian_filter(volume.data, sigma), dtype=np.float32)


def each(what: str, work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """The results in the order of the items, with a progress bar; one worker is this process, with all cores."""
    found: dict[int, Result] = {}
    with progress(what, len(items)) as tick:
        answers = enumerate(map(work, items)) if workers == 1 else in_processes(work, items, workers)
        for index, one in answers:
            if one is None:
                raise SystemExit(f"{what}, {index + 1} of {len(items)}: its process died; try fewer --workers")
            found[index] = one
            tick(1)
    return [found[index] for index in range(len(items))]


def label_of(dose: float | str) -> str:
    return "noise-free" if dose == "noisefree" else f"{dose:g} %"


def score_patient(
    case: Case, makers: Mapping[str, Maker], doses: Sequence[float | str], translator: Translator | None
) -> list[Row]:
    """All rows of one patient: regions of PET scores end in `@dose`, those of end points in `@end`."""
    assert case.sinogram is not None
    assert case.noise_free is not None
    stored = StoredSinogram.load(case.sinogram)
    nac = canonical(case.input)
    spacing = nac.geometry.spacing_mm
    truth_mu = mumap_onto(body_mumap(case), nac.geometry).data
    _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
    maps = {name: make(nac, case, stored) for name, make in makers.items()}
    rows: list[Row] = []
    for name, mu in maps.items():
        rows += score_mumap(case.case_id, name, np.maximum(mu.data, 0.0), truth_mu, spacing)
    finals: dict[str, Volume] = {}
    for dose in doses:
        reference = reconstruct(stored, "ct", dose=dose).volume  # type: ignore[arg-type]
        against = Truth(reference.data, spacing, truth.labels, truth.structures)
        for name, mu in maps.items():
            image = reconstruct(stored, mu, dose=dose).volume  # type: ignore[arg-type]
            rows += tagged(score_case(case.case_id, name, image.data, against), f"@{label_of(dose)}")
            if dose == DOSE:
                finals[f"{name} + OSEM"] = image
        if dose == DOSE:
            finals[f"{CT} + OSEM"] = reference
    ends = {name: image.data for name, image in finals.items()}
    ends |= {f"{name} + filter": smoothed(image) for name, image in finals.items()}
    if translator is not None:
        ends[MADM] = translator.translate(nac, case_id=case.case_id).volume.data
    for name, end in ends.items():
        rows += tagged(score_case(case.case_id, name, end, truth), "@end")
    return rows


def tagged(rows: Sequence[Row], tag: str) -> list[Row]:
    wanted = {(BODY, "nrmse"), (BODY, "psnr"), (ORGANS, "suv_mean_bias"), (ORGANS, "suv_mean_bias_absolute")}
    return [
        replace(row, region=f"{row.region}{tag}")
        for row in rows
        if (row.region, row.metric) in wanted or (row.region.startswith("organ:") and row.metric == "suv_mean_bias")
    ]


def organ_bias(rows: Sequence[Row], tag: str) -> list[Row]:
    """Mean absolute bias over a patient's organs, one row a patient and method."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.region.startswith("organ:") and row.region.endswith(tag) and row.metric == "suv_mean_bias":
            found.setdefault((row.case_id, row.method), []).append(abs(row.value))
    return [Row(case, method, f"organs{tag}", "mean_absolute_bias", float(np.mean(v)), "%")
            for (case, method), v in found.items()]  # fmt: skip


def paired(rows: Sequence[Row], models: Sequence[str], columns: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """The first model minus each other one, patient by patient, as lines of a Markdown table."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        found.setdefault((row.method, row.region, row.metric), {})[row.case_id] = row.value
    lines = ["| difference | " + " | ".join(name for name, *_ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for other in models[1:]:
        cells = []
        for _, region, metric, style in columns:
            group = paired_difference(found[models[0], region, metric], found[other, region, metric])
            cells.append(described(group, style.replace("{:", "{:+")))
        lines.append(f"| {models[0]} - {other} | {' | '.join(cells)} |")
    return lines


def cell(table: Mapping[tuple[str, str, str], Group], key: tuple[str, str, str], style: str) -> str:
    group = table.get(key)
    return "-" if group is None else described(group, style)


def described(group: Group, style: str) -> str:
    if group.n < 2:
        return style.format(group.mean)
    return f"{style.format(group.mean)} [{style.format(group.mean_low)}, {style.format(group.mean_high)}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, default=Path("build/mumap/test"))
    parser.add_argument("--config", default="cohort-test", help="preset or file of the test cohort")
    parser.add_argument("--set", action="append", default=[], help="key=value of the test cohort")
    parser.add_argument("--output", type=Path, default=Path("build/mumap"))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER[@STAGES]", help="repeatable")
    parser.add_argument("--madm", help="model of the direct way, e.g. phantom-fdg-5mm")
    parser.add_argument("--patients", type=int, help="fewer test patients, for a quick look")
    parser.add_argument(
        "--doses", nargs="+", default=["noisefree", "100", "5"], help="of the sinograms that are corrected"
    )
    parser.add_argument("--workers", type=int, default=1, help="patients scored at a time")
    arguments = parser.parse_args()
    doses: list[float | str] = [text if text == "noisefree" else float(text) for text in arguments.doses]
    start = time.monotonic()
    cases = simulated(arguments.config, arguments.cohort, arguments.set, arguments.patients)
    work = Work(tuple(arguments.model), arguments.madm, tuple(doses))
    scored = each("score", work, cases, arguments.workers)
    rows = [row for one in scored for row in one.rows]
    models = list(scored[0].costs)
    tags = [f"@{label_of(dose)}" for dose in doses]
    rows += [row for tag in [*tags, "@end"] for row in organ_bias(rows, tag)]
    patients = {case.case_id: case.participant_id for case in cases}
    table = groups(rows, patients=patients)
    pet = [(f"PET organ bias %, {t[1:]}", f"organs{t}", "mean_absolute_bias", "{:.2f}") for t in tags]
    pet += [(f"PET NRMSE, {t[1:]}", f"{BODY}{t}", "nrmse", "{:.4f}") for t in tags]
    columns = [*COLUMNS, *pet]
    lines = [
        f"{len(cases)} unseen patients, maps of the {DOSE:g} % NAC image; PET against OSEM with the CT's map on the "
        "same sinogram; mean over patients [bootstrap 95 % interval].",
        "",
        "| method | " + " | ".join(name for name, *_ in columns) + " | s a patient | peak MB |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for method in (WATER, BOUND, *models):
        spent = [one.costs[method] for one in scored if method in one.costs]
        cost = f"{np.mean([s for s, _ in spent]):.1f} | {max(mb for _, mb in spent):.0f}" if spent else "- | -"
        cells = [cell(table, (method, region, metric), style) for _, region, metric, style in columns]
        lines.append(f"| {method} | {' | '.join(cells)} | {cost} |")
    if len(models) > 1:
        lines += ["", "Patient by patient:", "", *paired(rows, models, columns)]
    ends = dict.fromkeys(row.method for row in rows if row.region.endswith("@end"))
    if ends:
        lines += [
            "",
            f"End points at {DOSE:g} % against the noise-free AC image (filter: Gaussian {FILTER_MM:g} mm):",
            "",
        ]
        lines += ["| way | PSNR dB | NRMSE | organ bias % |", "|---|---|---|---|"]
        lines += [
            f"| {way} | {cell(table, (way, f'{BODY}@end', 'psnr'), '{:.2f}')} | "
            f"{cell(table, (way, f'{BODY}@end', 'nrmse'), '{:.4f}')} | "
            f"{cell(table, (way, 'organs@end', 'mean_absolute_bias'), '{:.2f}')} |"
            for way in ends
        ]
    lines += [
        "",
        f"{datetime.now(UTC).date().isoformat()}, {scored[0].device}, Python {platform.python_version()}, "
        f"{time.monotonic() - start:.0f} s in all.",
    ]
    text = "\n".join(lines)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "mumap.md").write_text(text + "\n", encoding="utf-8")
    write_metrics(arguments.output / "metrics.tsv", rows)
    write_json(
        arguments.output / "figures.json",
        {
            method: {
                name: round(table[method, region, metric].mean, 4)
                for name, region, metric, _ in columns
                if (method, region, metric) in table
            }
            for method in (WATER, BOUND, *models)
        },
    )


if __name__ == "__main__":
    main()
