"""The table of Fed-NDIF on three simulated sites, and what a federation costs.

    python benchmarks/federated.py quality --output build/federated [--patients 16 16 4 --steps 600 --seeds 3]
    python benchmarks/federated.py cost [--megabytes 10 440]

`quality`: three sites that differ in scanner, counts and number of patients, the last one small. Every arm makes the
same number of steps at a site (the U-Net those of prior and views together); one with shuffled NSTD (placebo), one told
the noise level of the true dose (oracle). Scored on unseen patients of every site at 5, 10 and 20 % counts, against the
noise-free truth. A killed run goes on when called again. Prints Markdown; writes figures.json.

`cost`: bytes, seconds and memory of one round of our own code, without training and without Flower's processes.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pet_pipeline.cli.console import bars, progress
from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.files import write_json
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.evaluation.case import BODY, score_case
from pet_pipeline.evaluation.liver import MEASURES
from pet_pipeline.evaluation.statistics import describe, paired_difference
from pet_pipeline.federated import aggregation, checks, codec, simulation, state
from pet_pipeline.federated.exchange import Order, Reply, Weights, byte_count
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.memory import host_peak_mb, reset_peak
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.training.noise_levels import nstd_of_dose

DOSES = (5.0, 10.0, 20.0)
METRICS = ("psnr", "nmse", "ssim")
EVERYWHERE = "all"


@dataclass(frozen=True)
class SiteCohort:
    """A simulated hospital: its scanner, the counts it trains on, its patients' numbers."""

    name: str
    scanner: str
    doses: tuple[float, ...]
    first_patient: int


SITES = (
    SiteCohort("north", "plain-5mm", (5.0, 20.0), 1001),
    SiteCohort("south", "tof214-5mm", (10.0, 20.0), 2001),
    SiteCohort("small", "tof380-5.47mm", (5.0, 10.0), 3001),
)

TEST_OFFSET = 500
"""Added to a site's patient numbers for those it never trains on."""

LOCAL, UNET, PLAIN, GLOBAL, TUNED = "local only", "FedAvg U-Net", "FedAvg diffusion", "Fed-NDIF", "Fed-NDIF fine-tuned"
CENTRAL, PLACEBO, ORACLE = "centralised", "placebo", "oracle"

ARMS: Mapping[str, Sequence[str]] = {
    LOCAL: (),
    UNET: ("roles=[prior]",),
    PLAIN: ("training.denoiser.noise_embedding=false",),
    GLOBAL: (),
    CENTRAL: (),
    PLACEBO: ("training.noise_level.given=shuffled",),
    ORACLE: ("training.noise_level.given=dose",),
}
"""Arm -> what it changes in the plan; fine-tuned models come with Fed-NDIF."""

Figures = dict[str, dict[str, dict[str, float]]]
"""Arm -> metric -> `site/patient/dose/seed` -> value."""


def cohort(site: SiteCohort, patients: int, folder: Path, changes: Sequence[str], *, test: bool) -> Manifest:
    """A site's patients, simulated once."""
    split = {"train": 0.0, "val": 0.0, "test": 1.0} if test else {"train": 0.75, "val": 0.25, "test": 0.0}
    options = [
        f"patients={patients}",
        f"first_patient={site.first_patient + (TEST_OFFSET if test else 0)}",
        f"doses={list(DOSES if test else site.doses)}",
        f"scanners={{{site.scanner}: 1.0}}",
        f"site={site.name}",
        f"split={json.dumps(split)}",
        "ac_low_dose=true",
    ]
    with progress(f"{site.name}, {'test' if test else 'train'}", patients) as tick:
        return simulate_cohort(
            load(CohortSettings, None, [*options, *changes]), folder, on_patient=lambda name: tick(1, name)
        )


def plan_of(arm: str, args: argparse.Namespace, seed: int) -> FederatedSettings:
    """The plan of an arm: the same number of steps at every site."""
    fast = args.steps
    together = fast * (1 + len(args.views)) if arm == UNET else fast
    return load(
        FederatedSettings,
        args.config,
        [
            f"roles=[prior,{','.join(args.views)}]",
            f"training.seed={seed}",
            f"training.prior_optimiser.steps={together}",
            f"training.denoiser_optimiser.steps={fast}",
            # Alone there is nobody to meet: one leg, whose optimiser never starts anew.
            f"local_steps={together if arm in (LOCAL, CENTRAL) else args.local_steps}",
            f"personal_steps={args.personal_steps if arm == GLOBAL else 0}",
            f"quorum={1 if arm in (LOCAL, CENTRAL) else len(SITES)}",
            *args.set,
            *ARMS[arm],
        ],
    )


def train(manifests: Mapping[str, Manifest], plan: FederatedSettings, folder: Path) -> Path:
    """The global model of a federation, trained or found trained."""
    model = folder / "model"
    if not (folder / "done").is_file():
        with bars(dict.fromkeys(manifests, float(simulation.steps_a_site(plan)))) as tick:
            sites = simulation.make_sites(manifests, folder / "sites", plan, workers=2, tick=tick)
            Coordinator(plan, simulation.InProcessFleet(sites), folder).run(resume=True)
        (folder / "done").touch()
    return model


def models_of(arm: str, train_on: Mapping[str, Manifest], args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Site -> the model that it would use in this arm."""
    plan, folder = plan_of(arm, args, seed), args.output / f"seed{seed}" / arm.replace(" ", "-").lower()
    if arm == LOCAL:
        return {name: train({name: manifest}, plan, folder / name) for name, manifest in train_on.items()}
    if arm == CENTRAL:
        cases = tuple(case for manifest in train_on.values() for case in manifest.cases)
        together = {"together": Manifest(args.output.resolve(), cases)}
        return dict.fromkeys(train_on, train(together, plan, folder))
    return dict.fromkeys(train_on, train(train_on, plan, folder))


def tuned_models(args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Site -> its own model after Fed-NDIF."""
    folder = args.output / f"seed{seed}" / GLOBAL.lower() / "sites"
    return {site.name: next((folder / site.name).glob("*/model")) for site in SITES}


def score(arm: str, model: Path, manifest: Manifest, seed: int, figures: Figures) -> None:
    """Add a model's figures on a site's test patients."""
    translator = Translator.load(model)
    column = translator.model.description.condition
    for index, case in enumerate(manifest.cases):
        noise = noise_told(arm, index, manifest, seed)
        volume, _ = read(getattr(case, column))
        volume = volume.oriented(volume.geometry.to_canonical())
        made = translator.translate(volume, TranslateOptions(nstd=noise), case.case_id).volume.data
        assert case.noise_free is not None
        _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
        for row in score_case(case.case_id, arm, made, truth):
            if row.region == BODY and row.metric in METRICS:
                key = f"{case.site}/{case.participant_id}/{case.dose:g}/{seed}"
                figures.setdefault(arm, {}).setdefault(row.metric, {})[key] = row.value


def noise_told(arm: str, index: int, manifest: Manifest, seed: int) -> float | None:
    """The noise level that the arm's denoisers are told; None: measured in the input."""
    case = manifest.cases[index]
    if arm == ORACLE:
        return nstd_of_dose(case.dose)
    if arm != PLACEBO:
        return None
    other: Case = manifest.cases[int(generator(seed, "placebo", case.case_id).integers(len(manifest.cases)))]
    assert other.input_ac is not None
    return MEASURES["input_ac"].of(read(other.input_ac)[0])


def by_patient(values: Mapping[str, float], site: str, dose: float | None = None) -> dict[str, float]:
    """Patient -> mean over doses and seeds, of one site or of all."""
    grouped: dict[str, list[float]] = {}
    for key, value in values.items():
        where, patient, percent, _ = key.split("/")
        if site in (EVERYWHERE, where) and (dose is None or float(percent) == dose):
            grouped.setdefault(f"{where}/{patient}", []).append(value)
    return {patient: float(np.mean(group)) for patient, group in grouped.items()}


def spread_of_seeds(values: Mapping[str, float]) -> float:
    """Standard deviation between the seeds' means; NaN for one seed."""
    seeds: dict[str, list[float]] = {}
    for key, value in values.items():
        seeds.setdefault(key.rsplit("/", 1)[1], []).append(value)
    means = [float(np.mean(group)) for group in seeds.values()]
    return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")


def print_tables(figures: Figures) -> None:
    """Markdown: PSNR by site and dose, then all metrics, then the paired differences to Fed-NDIF fine-tuned."""
    places = [*(site.name for site in SITES), EVERYWHERE]
    print("PSNR in the body, dB: mean over patients [95 % interval]; at 5, 10, 20 % counts\n")
    print(f"| arm | {' | '.join(places)} |\n|---|{'---|' * len(places)}")
    for arm, metrics in figures.items():
        cells = []
        for place in places:
            group = describe(list(by_patient(metrics["psnr"], place).values()))
            doses = "/".join(
                f"{np.mean(list(by_patient(metrics['psnr'], place, dose).values())):.2f}" for dose in DOSES
            )
            cells.append(f"{group.mean:.2f} [{group.mean_low:.2f}, {group.mean_high:.2f}] ({doses})")
        print(f"| {arm} | {' | '.join(cells)} |")
    print("\n| arm | PSNR dB | NMSE | SSIM | spread of seeds, dB |\n|---|---|---|---|---|")
    for arm, metrics in figures.items():
        means = [float(np.mean(list(by_patient(metrics[metric], EVERYWHERE).values()))) for metric in METRICS]
        print(f"| {arm} | {means[0]:.2f} | {means[1]:.4f} | {means[2]:.4f} | {spread_of_seeds(metrics['psnr']):.2f} |")
    if TUNED not in figures:
        return
    print(f"\nPaired, patient by patient: {TUNED} minus each, PSNR dB [95 % interval]\n")
    print(f"| arm | {' | '.join(places)} |\n|---|{'---|' * len(places)}")
    for arm in figures:
        if arm != TUNED:
            groups = [
                paired_difference(*(by_patient(figures[one]["psnr"], place) for one in (TUNED, arm)))
                for place in places
            ]
            cells = [f"{group.mean:+.2f} [{group.mean_low:+.2f}, {group.mean_high:+.2f}]" for group in groups]
            print(f"| {arm} | {' | '.join(cells)} |")


def quality(args: argparse.Namespace) -> None:
    """Simulate, train and score every arm, seed by seed."""
    numbers = dict(zip((site.name for site in SITES), args.patients, strict=True))
    cohorts = args.output / "cohorts"
    train_on = {s.name: cohort(s, numbers[s.name], cohorts / s.name, args.phantom, test=False) for s in SITES}
    test_on = {s.name: cohort(s, args.test, cohorts / f"{s.name}-test", args.phantom, test=True) for s in SITES}
    figures: Figures = {}
    for seed in range(args.seeds):
        for arm in args.arms:
            began = time.process_time()
            trained = {arm: models_of(arm, train_on, args, seed)}
            if arm == GLOBAL and args.personal_steps:
                trained[TUNED] = tuned_models(args, seed)
            for name, models in trained.items():
                for site, model in models.items():
                    score(name, model, test_on[site], seed, figures)
            print(f"<!-- seed {seed}, {arm}: {time.process_time() - began:.0f} s of processor time -->", flush=True)
            write_json(args.output / "figures.json", figures)
    print_tables(figures)


def cost(args: argparse.Namespace) -> None:
    """Bytes, seconds and memory of one round without training, at each size of weights."""
    import torch

    print("| weights, MB | bytes a site and round | server, s | site, s | peak memory, MB |\n|---|---|---|---|---|")
    for megabytes in args.megabytes:
        reset_peak(torch.device("cpu"))
        rng = np.random.default_rng(0)
        count = int(megabytes * 1e6 / 4 / 20)
        weights: Weights = {f"prior/{n}": rng.normal(size=count).astype(np.float32) for n in range(20)}
        plan = load(FederatedSettings, args.config)
        order = Order("cost", "train", 0, 0, plan, weights)
        began = time.monotonic()
        received = codec.decode_order(codec.encode_order(order))
        new = {name: array * np.float32(1.001) for name, array in received.weights.items()}
        answers = [Reply(site.name, order.name, received.basis, new, 10, {}) for site in SITES]
        site_s = time.monotonic() - began
        began = time.monotonic()
        replies = {one.site: codec.decode_reply(codec.encode_reply(one), one.site) for one in answers}
        assert all(checks.objection(reply, order) is None for reply in replies.values())
        given = {site: reply.weights for site, reply in replies.items()}
        assert not checks.outliers(weights, given, plan.max_norm_ratio)
        change = aggregation.mean_change(weights, given, dict.fromkeys(given, 1.0))
        current, _ = aggregation.step(plan.server, weights, change, {}, 0)
        with TemporaryDirectory() as folder:
            state.save(state.State("cost", 0, current=current, best=current), Path(folder))
        server_s = time.monotonic() - began
        both_ways = 2 * byte_count(weights)
        print(f"| {megabytes:g} | {both_ways:,} | {server_s:.2f} | {site_s:.2f} | {host_peak_mb():.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("quality")
    one.add_argument("--output", type=Path, required=True)
    one.add_argument("--config", default="federated-demo")
    one.add_argument("--patients", type=int, nargs=3, default=[16, 16, 4], help="of each site; a quarter are watched")
    one.add_argument("--test", type=int, default=6, help="unseen patients of each site")
    one.add_argument("--steps", type=int, default=600, help="at each site, of the prior and of each view")
    one.add_argument("--local-steps", type=int, default=50)
    one.add_argument("--personal-steps", type=int, default=150)
    one.add_argument("--views", nargs="+", default=["axial"])
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    one.add_argument("--set", nargs="*", default=[], help="key=value of every plan")
    one.add_argument("--phantom", nargs="*", default=[], help="key=value of every cohort, e.g. phantom.slices=[16,24]")
    one.set_defaults(run=quality)
    two = verbs.add_parser("cost")
    two.add_argument("--config", default="federated-demo")
    two.add_argument("--megabytes", type=float, nargs="+", default=[10.0, 440.0])
    two.set_defaults(run=cost)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
