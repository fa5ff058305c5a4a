"""Figures of quality: every method on the same unseen patients, 5 % dose, against the noise-free truth.

    python benchmarks/quality.py --cohorts build/cohorts --output build/quality [--opponent MODEL]

Simulates the test cohorts (or finds them finished): twenty standard patients with lesion-free twins of the same
noise, the family of bodies kept out of training, the scanner kept out of training. Rows: inputs; prior alone; the
opponent (a prior of MADM's total parameters and training compute) if given; single views; MADM; the reference rule (200
ancestral steps, averaged samples, paired on fewer patients as it is slow); what CT would have given. Sampled methods
run once a seed; a patient's figures are averaged over the seeds before anything else. Prints Markdown; writes
metrics.tsv and figures.json. Every scored volume is kept in OUTPUT/scored: an interrupted run goes on, and a later
one with an opponent adds its rows; delete the folder after a change of the code.
"""

import argparse
import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.restoration import denoise_nl_means

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.files import write_json
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.case import BODY, LESIONS, ORGANS, Row, Truth, score_case
from pet_pipeline.evaluation.report import ANY_LESION, groups, read_metrics, totals, write_metrics
from pet_pipeline.evaluation.statistics import Group, paired_difference, per_patient
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.devices import describe
from pet_pipeline.models.registry import parameter_count
from pet_pipeline.models.weights import network
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.types import Float32Array
from pet_pipeline.units import sigma_mm_from_fwhm_mm

PRIOR, OPPONENT, MADM, RULE = "prior alone", "opponent prior", "MADM", "MADM, reference rule"
VIEWS = {f"{view} view alone": TranslateOptions(views=(view,)) for view in ("axial", "coronal", "sagittal")}
SAMPLED = {**VIEWS, MADM: TranslateOptions()}
REFERENCE = TranslateOptions(fusion="sample", solver="ddpm", steps=200, start="prior", t_start=0.2, mirror=False)
GAUSSIAN_MM = (4.0, 6.0, 8.0, 10.0)
NLM_STRENGTH = (0.5, 1.0, 2.0)
DOSE = 5.0
KEPT_OUT = {
    "cohort-heldout-family": "the family of bodies (uptake outside the training ranges)",
    "cohort-heldout-scanner": "the scanner",
}

Predict = Callable[[Case], np.ndarray]


def canonical(path: Path | None) -> Volume:
    """A volume turned to RAS+, which the case must have."""
    assert path is not None
    volume, _ = read(path)
    return volume.canonical()


def translated(translator: Translator, options: TranslateOptions) -> Predict:
    """A method that translates the case's input, or the corrected one if that is what the model takes."""

    def predict(case: Case) -> np.ndarray:
        path = getattr(case, translator.model.description.condition)
        return translator.translate(canonical(path), options, case.case_id).volume.data

    return predict


def corrected(case: Case) -> Volume:
    """The low dose corrected with the map from CT."""
    if case.input_ac is None:
        raise SystemExit(f"{case.case_id}: the cohort has no attenuation-corrected low dose")
    return canonical(case.input_ac)


def smoothed(fwhm_mm: float) -> Predict:
    """The corrected low dose, Gaussian filtered."""

    def predict(case: Case) -> np.ndarray:
        volume = corrected(case)
        sigma = [sigma_mm_from_fwhm_mm(fwhm_mm) / s for s in volume.geometry.spacing_mm]
        filtered: Float32Array = ndimage.gaussian_filter(volume.data, sigma)
        return filtered

    return predict


def non_local(strength: float) -> Predict:
    """The corrected low dose after non-local means on a square-root scale, where OSEM noise is about even."""

    def predict(case: Case) -> Float32Array:
        root = np.sqrt(np.maximum(corrected(case).data, 0.0))
        rough = root - ndimage.gaussian_filter(root, 1.5)
        noise = 1.4826 * float(np.median(np.abs(rough[root > 0.2])))
        clean = denoise_nl_means(root, patch_size=3, patch_distance=4, h=strength * noise, sigma=noise, fast_mode=True)
        squared: Float32Array = np.square(clean).astype(np.float32)
        return squared

    return predict


def truth_of(case: Case, twin: Case | None) -> Truth:
    """Noise-free truth, labels, and the twin's truth."""
    assert case.noise_free is not None
    _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
    without = None if twin is None or twin.noise_free is None else canonical(twin.noise_free).data
    return Truth(truth.reference, truth.spacing_mm, truth.labels, truth.structures, without)


def with_twins(manifest: Manifest) -> list[tuple[Case, Case | None]]:
    """The cases of the studied dose that carry their lesions, each with its lesion-free twin."""
    twins = {case.extra["lesion_free_of"]: case for case in manifest.cases if "lesion_free_of" in case.extra}
    studied = manifest.select(dose=DOSE).cases
    return [(case, twins.get(case.case_id)) for case in studied if "lesion_free_of" not in case.extra]


def scored(name: str, predict: Predict, case: Case, twin: Case | None, label: str = "") -> Iterable[Row]:
    """Scores of one method; `label` tells repeated runs of it apart."""
    without = predict(twin) if twin is not None else None
    return score_case(f"{case.case_id}{label}", name, predict(case), truth_of(case, twin), prediction_without=without)


def cohort(preset: str, root: Path, patients: int | None) -> Manifest:
    """A cohort by its preset, simulated or found."""
    changes = [] if patients is None else [f"patients={patients}"]
    settings = load(CohortSettings, preset, changes)
    with progress(f"simulate {preset}", settings.patients) as tick:
        return simulate_cohort(settings, root / preset, on_patient=lambda name: tick(1, name))


def figure(table: dict[tuple[str, str, str], Group], method: str, region: str, metric: str, style: str) -> str:
    """Mean and 95 % interval as text."""
    group = table.get((method, region, metric))
    if group is None:
        return "-"
    return f"{style.format(group.mean)} [{style.format(group.mean_low)}, {style.format(group.mean_high)}]"


def markdown(rows: Sequence[Row], patients: dict[str, str], methods: Sequence[str]) -> str:
    """The headline table: mean over patients and its bootstrap interval."""
    table = groups(rows, patients=patients)
    lines = [
        "| method | n | PSNR dB | NMSE | SSIM | organ bias % | SUVmax recovery | SUVpeak recovery | lost | invented |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in methods:
        counts = totals(rows, method)
        body = table.get((method, BODY, "psnr"))
        if body is None:
            continue
        cells = [
            figure(table, method, BODY, "psnr", "{:.2f}"),
            figure(table, method, BODY, "nmse", "{:.4f}"),
            figure(table, method, BODY, "ssim", "{:.4f}"),
            figure(table, method, ORGANS, "suv_mean_bias", "{:+.1f}"),
            figure(table, method, ANY_LESION, "suv_max_recovery", "{:.2f}"),
            figure(table, method, ANY_LESION, "suv_peak_recovery", "{:.2f}"),
            f"{counts.get('lost', 0)} of {counts.get('conspicuous', 0)}",
            f"{counts['invented_at_site']} of {counts.get('conspicuous', 0)}" if "invented_at_site" in counts else "-",
        ]
        lines.append(f"| {method} | {body.n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_organ(rows: Sequence[Row], patients: dict[str, str], method: str) -> str:
    """Mean bias of SUVmean of each organ, and the mean of their sizes, as one sentence."""
    table = groups(rows, patients=patients)
    organs = [
        f"{region.removeprefix('organ:')} {group.mean:+.0f}"
        for (name, region, metric), group in table.items()
        if name == method and region.startswith("organ:") and metric == "suv_mean_bias"
    ]
    size = table[method, ORGANS, "suv_mean_bias_absolute"].mean
    return f"{method}, bias of SUVmean by organ, % (without signs {size:.1f} on average): {', '.join(organs)}."


def difference(rows: Sequence[Row], patients: dict[str, str], better: str, other: str) -> str:
    """Paired differences, patient by patient, as one line of a table."""
    cells = []
    n = 0
    for region, metric, style in (
        (BODY, "psnr", "{:+.2f}"),
        (BODY, "nmse", "{:+.4f}"),
        (BODY, "ssim", "{:+.4f}"),
        (ANY_LESION, "suv_max_recovery", "{:+.3f}"),
        (ANY_LESION, "suv_peak_recovery", "{:+.3f}"),
    ):
        values = {
            method: per_patient(
                [
                    (patients[row.case_id], row.value)
                    for row in rows
                    if row.method == method and row.metric == metric and in_region(row.region, region)
                ]
            )
            for method in (better, other)
        }
        if not values[better].keys() & values[other].keys():
            return f"| {better} - {other} | 0 | - | - | - | - | - |"
        group = paired_difference(values[better], values[other])
        n = max(n, group.n)
        cells.append(f"{style.format(group.mean)} [{style.format(group.mean_low)}, {style.format(group.mean_high)}]")
    return f"| {better} - {other} | {n} | {' | '.join(cells)} |"


def in_region(region: str, wanted: str) -> bool:
    """Whether a row's region is the wanted one; single lesions belong to any lesion."""
    return region == wanted or (wanted == ANY_LESION and region.startswith("lesion:"))


def best_of(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """The method of highest mean PSNR."""

    def mean(method: str) -> float:
        return float(np.mean([r.value for r in rows if (r.method, r.region, r.metric) == (method, BODY, "psnr")]))

    return max(methods, key=mean)


def fill(document: Path, text: str) -> None:
    """Put the figures between the document's two markers, in place of the older ones."""
    before, begin, rest = document.read_text(encoding="utf-8").partition("<!-- figures:begin -->")
    _, end, after = rest.partition("<!-- figures:end -->")
    if not end:
        raise SystemExit(f"{document}: needed are the markers figures:begin and figures:end")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=Path, default=Path("build/cohorts"))
    parser.add_argument("--output", type=Path, default=Path("build/quality"))
    parser.add_argument("--model", default="phantom-fdg-5mm")
    parser.add_argument("--opponent", type=Path, help="model folder of the opponent prior")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, help="fewer test patients, for a quick look")
    parser.add_argument("--kept-out", type=int, default=10, help="patients of each kept-out cohort; 0: none")
    parser.add_argument("--reference-patients", type=int, default=5, help="patients for the reference rule; 0: none")
    parser.add_argument(
        "--write", type=Path, action="append", default=[], help="fill the figures into this Markdown file"
    )
    arguments = parser.parse_args()
    translator = Translator.load(arguments.model)
    opponent = Translator.load(arguments.opponent) if arguments.opponent else None
    manifest = cohort("cohort-test", arguments.cohorts, arguments.patients)
    pairs = with_twins(manifest)
    full = {
        case.participant_id: case for case in manifest.select(dose=100.0).cases if "lesion_free_of" not in case.extra
    }
    rows: list[Row] = []
    patients: dict[str, str] = {}
    seeds = range(arguments.seeds)
    kept = arguments.output / "scored"

    def add(
        name: str,
        predict: Predict,
        chosen: Sequence[tuple[Case, Case | None]],
        label: str = "",
        model: Translator = translator,
    ) -> None:
        with progress(f"{name}{label}", len(chosen)) as tick:
            for case, twin in chosen:
                what = f"{model.identity()['sha256']} {name} {case.checksums.get('input', case.input)} {twin is None}"
                path = kept / f"{case.case_id}{label}_{hashlib.sha256(what.encode()).hexdigest()[:16]}.tsv"
                if not path.exists():
                    kept.mkdir(parents=True, exist_ok=True)
                    write_metrics(path, list(scored(name, predict, case, twin, label)))
                rows.extend(read_metrics(path))
                patients[f"{case.case_id}{label}"] = case.participant_id
                tick()

    alone = [(case, None) for case, _ in pairs]
    add("NAC input", lambda case: canonical(case.input).data, pairs)
    add("NAC standard dose", lambda case: canonical(full[case.participant_id].input).data, alone)
    add(PRIOR, translated(translator, TranslateOptions(prior_only=True)), pairs)
    if opponent:
        fair = TranslateOptions(prior_only=True, mirror=translator.model.description.sampler.mirror)
        add(OPPONENT, translated(opponent, fair), pairs, model=opponent)
    for name, options in SAMPLED.items():
        chosen = pairs if name == MADM else alone
        for seed in seeds:
            add(name, translated(translator, options.model_copy(update={"seed": seed})), chosen, f"#{seed}")
    if arguments.reference_patients:
        add(RULE, translated(translator, REFERENCE), alone[: arguments.reference_patients])
    add("AC low dose, CT map", lambda case: corrected(case).data, pairs)
    gaussians = [f"AC low dose, CT map, Gaussian {mm:g} mm" for mm in GAUSSIAN_MM]
    for name, mm in zip(gaussians, GAUSSIAN_MM, strict=True):
        add(name, smoothed(mm), alone)
    non_locals = [f"AC low dose, CT map, non-local means h = {h:g}" for h in NLM_STRENGTH]
    for name, h in zip(non_locals, NLM_STRENGTH, strict=True):
        add(name, non_local(h), alone)

    best_gaussian, best_non_local = best_of(rows, gaussians), best_of(rows, non_locals)
    opponents = [OPPONENT] if opponent else []
    rule = [RULE] if arguments.reference_patients else []
    methods = [
        "NAC input", "NAC standard dose", PRIOR, *opponents, *VIEWS, *rule, MADM,
        "AC low dose, CT map", best_gaussian, best_non_local,
    ]  # fmt: skip
    best_view = best_of(rows, list(VIEWS))
    sections = [
        f"{len(pairs)} unseen patients, {DOSE:g} % dose, {arguments.seeds} sampling seeds, against the noise-free AC "
        "image; mean over patients [bootstrap 95 % interval]. Filter strengths are those best on these very patients.",
        markdown(rows, patients, methods),
        by_organ(rows, patients, MADM),
        "Paired differences, patient by patient:",
        "\n".join(
            [
                "| difference | n | PSNR dB | NMSE | SSIM | SUVmax recovery | SUVpeak recovery |",
                "|---|---|---|---|---|---|---|",
                *(difference(rows, patients, MADM, other) for other in (PRIOR, *opponents, best_view, *rule)),
            ]
        ),
    ]
    kept_out = {}
    for preset, what in KEPT_OUT.items() if arguments.kept_out else ():
        others = [(case, None) for case, _ in with_twins(cohort(preset, arguments.cohorts, arguments.kept_out))]
        first = len(rows)
        add("NAC input", lambda case: canonical(case.input).data, others)
        add(PRIOR, translated(translator, TranslateOptions(prior_only=True)), others)
        add(MADM, translated(translator, TranslateOptions()), others)
        kept_out[preset] = rows[first:]
        del rows[first:]
        sections += [
            f"Kept out of training: {what}, {len(others)} patients:",
            markdown(kept_out[preset], patients, ["NAC input", PRIOR, MADM]),
        ]
    parameters = {
        role: parameter_count(network(translator.model, role)) for role in translator.model.description.networks
    }
    sections.append(
        f"Parameters: {json.dumps(parameters)}. {datetime.now(UTC).date().isoformat()}, "
        f"{describe(translator.compute.device)}, {translator.compute.precision}, "
        f"Python {platform.python_version()}."
    )
    text = "\n\n".join(sections)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "figures.md").write_text(text + "\n", encoding="utf-8")
    for document in arguments.write:
        fill(document, text)
    write_metrics(arguments.output / "metrics.tsv", [*rows, *(row for part in kept_out.values() for row in part)])
    table = groups(rows, patients=patients)
    keys = {
        "psnr_db": (BODY, "psnr"),
        "nmse": (BODY, "nmse"),
        "ssim": (BODY, "ssim"),
        "false_foci": (LESIONS, "false_foci"),
    }
    write_json(
        arguments.output / "figures.json",
        {
            method if (n := table[method, BODY, "psnr"].n) == len(pairs) else f"{method} ({n} patients)": {
                name: round(table[method, *key].mean, 4) for name, key in keys.items() if (method, *key) in table
            }
            for method in methods
        },
    )


if __name__ == "__main__":
    main()
