"""The table of Fed-NDIF on three simulated sites, and what a federation costs.

    python benchmarks/federated.py quality --output build/federated [--patients 20 20 6 --steps 600 --seeds 0 1 2]
    python benchmarks/federated.py cost [--megabytes 10 440]
    python benchmarks/federated.py overhead COORDINATOR/runs/RUN SITE_FOLDER...

`quality`: three sites that differ in scanner, counts and number of patients, the last one small. Every arm makes the
same number of steps at a site (the U-Net those of prior and views together), and one row more the centralised training
of as many steps as all sites make together; one with shuffled NSTD (placebo), one told the noise level of the true dose
(oracle). The four arms that differ in their views alone share the prior of Fed-NDIF. Scored on unseen patients of every
site at 5, 10 and 20 % counts, against the noise-free truth. Called again, it goes on: what is trained or scored is
not done again. Several calls may do a seed each at the same time, in one folder, once the cohorts are there. Stops
before an arm when a seed's share of `--cpu-hours` is spent. Prints Markdown; writes figures-SEED.json, cpu-SEED.json.
The defaults (bodies of 40 to 64 slices, networks of a third of the size of `federated-demo`) take about an hour of one
core for a seed (measured: 0.54 hours without the U-Net and the centralised training of all steps).

`cost`: bytes, seconds and memory of one round with three sites, without training; server and site in a process each,
which exchange what Flower would carry as files. Seconds are of the processor, in brackets those of the clock.

`overhead`: what Flower's processes and polling took, from the audit logs of a finished run between real processes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pet_pipeline.cli.console import bars, progress
from pet_pipeline.configs.federated import FederatedSettings, SiteSettings
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.files import write_json
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.evaluation.case import BODY, LESIONS, Row, score_case
from pet_pipeline.evaluation.liver import MEASURES
from pet_pipeline.evaluation.statistics import describe, paired_difference
from pet_pipeline.federated import aggregation, checks, codec, simulation, state
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.exchange import Order, Reply, Weights, digest
from pet_pipeline.federated.limits import check_limits
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.memory import host_peak_mb
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.training.noise_levels import nstd_of_dose

DOSES = (5.0, 10.0, 20.0)
METRICS = ("psnr", "nmse", "ssim")
RECOVERIES = ("suv_max_recovery", "suv_peak_recovery")
COUNTS = ("conspicuous", "lost", "false_foci")
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

SMALL = [
    "training.prior_share=0.5",
    "training.prior.widths=[16,32,64,96]",
    "training.denoiser.widths=[24,48,72,96]",
    "training.prior_optimiser.patch=[48,40,40]",
    "training.denoiser_optimiser.batch=8",
    "training.denoiser_optimiser.crop=48",
]
"""Networks and batches of a fifth of the work: every arm learns for long enough to tell them apart (docs/notes)."""

TEST_OFFSET = 500
"""Added to a site's patient numbers for those it never trains on."""

LOCAL, UNET, PLAIN, GLOBAL, TUNED = "local only", "FedAvg U-Net", "FedAvg diffusion", "Fed-NDIF", "Fed-NDIF fine-tuned"
CENTRAL, CENTRAL_LONG, PLACEBO, ORACLE = "centralised", "centralised, steps of all", "placebo", "oracle"

ARMS: Mapping[str, Sequence[str]] = {
    LOCAL: (),
    UNET: ("roles=[prior]",),
    PLAIN: ("training.denoiser.noise_embedding=false",),
    GLOBAL: (),
    CENTRAL: (),
    CENTRAL_LONG: (),
    PLACEBO: ("training.noise_level.given=shuffled",),
    ORACLE: ("training.noise_level.given=dose",),
}
"""Arm -> what it changes in the plan; fine-tuned models come with Fed-NDIF."""

ROWS = (LOCAL, UNET, PLAIN, GLOBAL, TUNED, PLACEBO, ORACLE, CENTRAL, CENTRAL_LONG)
"""The order of a table."""

SAME_PRIOR = (PLAIN, PLACEBO, ORACLE)
"""Arms that differ from Fed-NDIF in the views' phase alone: they take its prior over."""

Figures = dict[str, dict[str, dict[str, float]]]
"""Arm -> metric -> `site/patient/dose/seed` -> value."""


def cohort(
    site: SiteCohort, patients: int, folder: Path, changes: Sequence[str], doses: Sequence[float], *, test: bool
) -> Manifest:
    """A site's patients with these doses, simulated once."""
    split = {"train": 0.0, "val": 0.0, "test": 1.0} if test else {"train": 0.75, "val": 0.25, "test": 0.0}
    options = [
        f"patients={patients}",
        f"first_patient={site.first_patient + (TEST_OFFSET if test else 0)}",
        f"doses={list(doses)}",
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
    fast = args.steps * (len(SITES) if arm == CENTRAL_LONG else 1)
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
            f"local_steps={together if arm in (LOCAL, CENTRAL, CENTRAL_LONG) else args.local_steps}",
            f"personal_steps={args.personal_steps if arm == GLOBAL else 0}",
            f"quorum={1 if arm in (LOCAL, CENTRAL, CENTRAL_LONG) else len(SITES)}",
            *args.set,
            *ARMS[arm],
        ],
    )


def train(
    manifests: Mapping[str, Manifest], plan: FederatedSettings, folder: Path, prior_of: Path | None = None
) -> Path:
    """The global model of a federation, trained or found trained; the prior of another run is taken over if given."""
    model = folder / "model"
    if not (folder / "done").is_file():
        with bars(dict.fromkeys(manifests, float(simulation.steps_a_site(plan)))) as tick:
            sites = simulation.make_sites(manifests, folder / "sites", plan, workers=2, tick=tick)
            coordinator = Coordinator(plan, simulation.InProcessFleet(sites), folder)
            if prior_of is not None and not (folder / "state.json").is_file():
                finished = state.load(prior_of).finished
                coordinator.take_over({name: array for name, array in finished.items() if name.startswith("prior/")})
            coordinator.run(resume=True)
        (folder / "done").touch()
    return model


def models_of(arm: str, train_on: Mapping[str, Manifest], args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Site -> the model that it would use in this arm."""
    plan, folder = plan_of(arm, args, seed), folder_of(arm, args, seed)
    if arm == LOCAL:
        return {name: train({name: manifest}, plan, folder / name) for name, manifest in train_on.items()}
    if arm in (CENTRAL, CENTRAL_LONG):
        cases = tuple(case for manifest in train_on.values() for case in manifest.cases)
        together = {"together": Manifest(args.output.resolve(), cases)}
        return dict.fromkeys(train_on, train(together, plan, folder))
    prior_of = None
    if arm in SAME_PRIOR:
        prior_of = train(train_on, plan_of(GLOBAL, args, seed), folder_of(GLOBAL, args, seed)).parent
    return dict.fromkeys(train_on, train(train_on, plan, folder, prior_of))


def folder_of(arm: str, args: argparse.Namespace, seed: int) -> Path:
    """Where an arm is trained."""
    return Path(args.output / f"seed{seed}" / arm.replace(",", "").replace(" ", "-").lower())


def tuned_models(args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Site -> its own model after Fed-NDIF."""
    folder = folder_of(GLOBAL, args, seed) / "sites"
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
        key = key_of(case, seed)
        for metric, value in summary(score_case(case.case_id, arm, made, truth)).items():
            figures.setdefault(arm, {}).setdefault(metric, {})[key] = value


def key_of(case: Case, seed: int) -> str:
    """The name of a case's figures."""
    return f"{case.site}/{case.participant_id}/{case.dose:g}/{seed}"


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """The figures of a case that are kept: of the body, the mean over its lesions, counts of lesions and foci."""
    kept = {row.metric: row.value for row in rows if row.region == BODY and row.metric in METRICS}
    kept |= {row.metric: row.value for row in rows if row.region == LESIONS and row.metric in COUNTS}
    for metric in RECOVERIES:
        values = [row.value for row in rows if row.region.startswith("lesion:") and row.metric == metric]
        if values:
            kept[metric] = float(np.mean(values))
    return kept


def is_scored(names: Sequence[str], test_on: Mapping[str, Manifest], seed: int, figures: Figures) -> bool:
    """Whether every case of every site has its figures already."""
    keys = {key_of(case, seed) for manifest in test_on.values() for case in manifest.cases}
    return all(keys <= figures.get(name, {}).get("psnr", {}).keys() for name in names)


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


def seed_means(values: Mapping[str, float]) -> list[float]:
    """The mean of each seed."""
    seeds: dict[str, list[float]] = {}
    for key, value in values.items():
        seeds.setdefault(key.rsplit("/", 1)[1], []).append(value)
    return [float(np.mean(group)) for group in seeds.values()]


def spread_of_seeds(values: Mapping[str, float]) -> str:
    """Standard deviation between the seeds' means; `-` for one seed."""
    means = seed_means(values)
    return f"{np.std(means, ddof=1):.2f}" if len(means) > 1 else "-"


def print_tables(figures: Figures) -> None:
    """Markdown: PSNR by site and dose, then all metrics, then the paired differences to Fed-NDIF fine-tuned."""
    figures = {arm: figures[arm] for arm in ROWS if arm in figures}
    seeds = {arm: len(seed_means(metrics["psnr"])) for arm, metrics in figures.items()}
    most = max(seeds.values(), default=0)
    labels = {arm: arm if n == most else f"{arm} ({n} of {most} seeds)" for arm, n in seeds.items()}
    places = [*(site.name for site in SITES), EVERYWHERE]
    doses = sorted({float(key.split("/")[2]) for metrics in figures.values() for key in metrics["psnr"]})
    counts = ", ".join(f"{dose:g}" for dose in doses)
    print(f"PSNR in the body, dB: mean over patients [95 % interval]; at {counts} % counts\n")
    print(f"| arm | {' | '.join(places)} |\n|---|{'---|' * len(places)}")
    for arm, metrics in figures.items():
        cells = []
        for place in places:
            group = describe(list(by_patient(metrics["psnr"], place).values()))
            by_dose = "/".join(
                f"{np.mean(list(by_patient(metrics['psnr'], place, dose).values())):.2f}" for dose in doses
            )
            cells.append(f"{group.mean:.2f} [{group.mean_low:.2f}, {group.mean_high:.2f}] ({by_dose})")
        print(f"| {labels[arm]} | {' | '.join(cells)} |")
    print("\n| arm | PSNR dB | NMSE | SSIM | spread of seeds, dB |\n|---|---|---|---|---|")
    for arm, metrics in figures.items():
        means = [float(np.mean(list(by_patient(metrics[metric], EVERYWHERE).values()))) for metric in METRICS]
        print(
            f"| {labels[arm]} | {means[0]:.2f} | {means[1]:.4f} | {means[2]:.4f} | {spread_of_seeds(metrics['psnr'])} |"
        )
    print("\nLesions: mean over patients; lost of those conspicuous in the truth; false foci a case\n")
    print("| arm | SUVmax recovery | SUVpeak recovery | lost | false foci |\n|---|---|---|---|---|")
    for arm, metrics in figures.items():
        recoveries = [
            f"{np.mean(list(by_patient(metrics[one], EVERYWHERE).values())):.2f}" if metrics.get(one) else "-"
            for one in RECOVERIES
        ]
        totals = {one: sum(metrics.get(one, {}).values()) for one in COUNTS}
        foci = totals["false_foci"] / max(len(metrics["psnr"]), 1)
        lost = f"{totals['lost']:.0f} of {totals['conspicuous']:.0f}"
        print(f"| {labels[arm]} | {' | '.join(recoveries)} | {lost} | {foci:.2f} |")
    if TUNED not in figures:
        return
    print(f"\nPaired, patient by patient: {TUNED} minus each, PSNR dB [95 % interval]\n")
    print(f"| arm | {' | '.join(places)} |\n|---|{'---|' * len(places)}")
    for arm in figures:
        if arm != TUNED:
            groups = [paired_difference(*both(figures, arm, place)) for place in places]
            cells = [f"{group.mean:+.2f} [{group.mean_low:+.2f}, {group.mean_high:+.2f}]" for group in groups]
            print(f"| {labels[arm]} | {' | '.join(cells)} |")


def both(figures: Figures, arm: str, place: str) -> tuple[dict[str, float], dict[str, float]]:
    """PSNR by patient of the fine-tuned models and of an arm, over what both have: not every arm has every seed."""
    tuned, other = figures[TUNED]["psnr"], figures[arm]["psnr"]
    known = tuned.keys() & other.keys()
    first, second = (by_patient({key: one[key] for key in known}, place) for one in (tuned, other))
    return first, second


def quality(args: argparse.Namespace) -> None:
    """Simulate, train and score every arm, seed by seed."""
    numbers = dict(zip((site.name for site in SITES), args.patients, strict=True))
    cohorts = args.output / "cohorts"
    train_on, test_on = {}, {}
    for site in SITES:
        name, place = site.name, cohorts / site.name
        train_on[name] = cohort(site, numbers[name], place, args.phantom, args.doses or site.doses, test=False)
        place = place.with_name(f"{name}-test")
        test_on[name] = cohort(site, args.test, place, args.phantom, args.doses or DOSES, test=True)
    spent = {"cohorts": processor_s()}
    for seed in args.seeds:
        train_and_score(seed, train_on, test_on, args)
    figures: Figures = {}
    for path in sorted(args.output.glob("figures-*.json")):
        merge(figures, read_json(path))
    for path in sorted(args.output.glob("cpu-*.json")):
        spent |= {f"{path.stem}, {arm}": seconds for arm, seconds in read_json(path).items()}
    print(f"<!-- {sum(spent.values()) / 3600:.2f} CPU-hours in all -->\n")
    print_tables(figures)


def train_and_score(
    seed: int, train_on: Mapping[str, Manifest], test_on: Mapping[str, Manifest], args: argparse.Namespace
) -> None:
    """Every arm of a seed, as far as the processor time allows; its figures and what they cost go into files."""
    figures_file, spent_file = (args.output / f"{kind}-{seed}.json" for kind in ("figures", "cpu"))
    figures: Figures = read_json(figures_file)
    spent: dict[str, float] = read_json(spent_file)
    for arm in args.arms:
        names = [arm, TUNED] if arm == GLOBAL and args.personal_steps else [arm]
        if is_scored(names, test_on, seed, figures):
            continue
        if sum(spent.values()) >= args.cpu_hours * 3600 / len(args.seeds):
            print(f"<!-- seed {seed}: its share of {args.cpu_hours:g} CPU-hours is spent before {arm} -->")
            return
        began = processor_s()
        try:
            trained = {arm: models_of(arm, train_on, args, seed)}
            if len(names) > 1:
                trained[TUNED] = tuned_models(args, seed)
            for name, models in trained.items():
                for site, model in models.items():
                    score(name, model, test_on[site], seed, figures)
            write_json(figures_file, figures)
        finally:
            spent[arm] = spent.get(arm, 0.0) + processor_s() - began
            write_json(spent_file, spent)
        print(f"<!-- seed {seed}, {arm}: {spent[arm]:.0f} s of processor time -->", flush=True)


def merge(figures: Figures, more: Figures) -> None:
    """Add another seed's figures."""
    for arm, metrics in more.items():
        for metric, values in metrics.items():
            figures.setdefault(arm, {}).setdefault(metric, {}).update(values)


def processor_s() -> float:
    """Processor time of this process and its ended children."""
    return sum(os.times()[:4])


def read_json(path: Path) -> dict[str, Any]:
    """What an earlier call wrote; nothing where there was none."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


COST_ORDER, COST_REPLY = "order", "reply"


def cost(args: argparse.Namespace) -> None:
    """Bytes, seconds and memory of one round without training, at each size of weights."""
    print(f"Load of the machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}\n")
    headers = ("weights, MB", "bytes a round and site", "side", "our own, s", "Flower's packing, s", "peak memory, MB")
    print(f"| {' | '.join(headers)} |\n|{'---|' * len(headers)}")
    for megabytes in args.megabytes:
        with TemporaryDirectory() as folder:

            def begin(part: str, folder: str = folder, megabytes: float = megabytes) -> "subprocess.Popen[str]":
                return subprocess.Popen(
                    [sys.executable, __file__, "cost-part", part, folder, str(megabytes), "--config", args.config],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip

            with begin("server") as server:
                assert server.stdout is not None
                server.stdout.readline()  # the order is written
                with begin("site") as site:
                    site_figures = json.loads(site.communicate()[0])
                server_figures = json.loads(server.communicate("\n")[0])
            carried = sum(path.stat().st_size for path in Path(folder).glob("*/*"))
        for side, figures in (("server", server_figures), ("site", site_figures)):
            spent = " | ".join(f"{figures[f'{k}_s']:.2f} ({figures[f'{k}_clock_s']:.2f})" for k in ("own", "packing"))
            memory = f"{figures['peak_mb']:.0f} ({figures['base_mb']:.0f} before the first array)"
            print(f"| {megabytes:g} | {carried:,} | {side} | {spent} | {memory} |", flush=True)


class Clock:
    """Adds up the seconds of kinds of work."""

    def __init__(self) -> None:
        self.total = {"own_s": 0.0, "packing_s": 0.0, "own_clock_s": 0.0, "packing_clock_s": 0.0}
        self._last = time.process_time(), time.monotonic()

    def charge(self, kind: str | None) -> None:
        """Charge what passed since the last call to a kind of work, or to none: of the processor, and of the clock."""
        now = time.process_time(), time.monotonic()
        if kind is not None:
            self.total[f"{kind}_s"] += now[0] - self._last[0]
            self.total[f"{kind}_clock_s"] += now[1] - self._last[1]
        self._last = now


def cost_part(args: argparse.Namespace) -> None:
    """One side of a round, in a process of its own; prints its figures."""
    base = host_peak_mb()
    plan = load(FederatedSettings, args.config)
    figures = (cost_of_server if args.part == "server" else cost_of_site)(args.folder, plan, args.megabytes)
    print(json.dumps({**figures, "peak_mb": host_peak_mb(), "base_mb": base}))


def cost_of_server(folder: Path, plan: FederatedSettings, megabytes: float) -> dict[str, float]:
    """Send an order, wait for a line, take three replies in, aggregate, save."""
    rng = np.random.default_rng(0)
    count = int(megabytes * 1e6 / 4 / 20)
    weights: Weights = {f"prior/{n}": rng.standard_normal(count, dtype=np.float32) for n in range(20)}
    clock = Clock()
    order = Order("cost", "train", 0, 0, plan, weights)
    record = codec.encode_order(order)
    clock.charge("own")
    pack(record, folder / COST_ORDER)
    del record
    clock.charge("packing")
    print("sent", flush=True)
    input()
    clock.charge(None)
    replies = {}
    for site in SITES:
        record = unpack(folder / COST_REPLY)
        clock.charge("packing")
        reply = codec.decode_reply(record, site.name)
        assert checks.objection(reply, order) is None
        digest(reply.weights)  # for the audit log
        replies[site.name] = reply.weights
        del record
        clock.charge("own")
    assert not checks.outliers(weights, replies, plan.max_norm_ratio)
    change = aggregation.mean_change(weights, replies, dict.fromkeys(replies, 1.0))
    current, _ = aggregation.step(plan.server, weights, change, {}, 0)
    digest(current)
    state.save(state.State("cost", 0, current=current, best=current), folder)
    for path in folder.glob("*.*"):
        path.unlink()
    clock.charge("own")
    return clock.total


def cost_of_site(folder: Path, _plan: FederatedSettings, _megabytes: float) -> dict[str, float]:
    """Take an order in, check it, send an answer; the change stands for the training, and is not counted."""
    clock = Clock()
    record = unpack(folder / COST_ORDER)
    clock.charge("packing")
    order = codec.decode_order(record)
    del record
    check_limits(order, SiteSettings(name="site", manifest=Path("none")))
    basis = order.basis
    clock.charge("own")
    new = {name: array * np.float32(1.001) for name, array in order.weights.items()}
    clock.charge(None)
    digest(new)  # for the audit log
    record = codec.encode_reply(Reply("site", order.name, basis, new, 10, {}))
    clock.charge("own")
    pack(record, folder / COST_REPLY)
    clock.charge("packing")
    return clock.total


def pack(record: Any, folder: Path) -> None:
    """Write a record's objects as Flower would send them."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    folder.mkdir()
    for name, one in get_all_nested_objects(record).items():
        (folder / name).write_bytes(one.deflate())
    (folder.parent / f"{folder.name}.root").write_text(record.object_id, encoding="utf-8")


def unpack(folder: Path) -> Any:
    """Read what `pack` wrote."""
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    root = (folder.parent / f"{folder.name}.root").read_text(encoding="utf-8")
    return inflate_object_from_contents(root, {path.name: path.read_bytes() for path in folder.iterdir()})


def overhead(args: argparse.Namespace) -> None:
    """What passed between asking a site and its work, and between its work and the answer's arrival."""
    asked: dict[str, float] = {}
    arrived: dict[tuple[str, str], float] = {}
    for event in read_audit(args.run_folder / "audit.jsonl"):
        if event["event"] == "asked":
            asked[event["order"]] = _seconds(event)
        elif event["event"] == "reply":
            arrived[event["site"], event["order"]] = _seconds(event)
    there, work, back = [], [], []
    for folder in args.sites:
        for event in read_audit(folder / "work" / "audit.jsonl"):
            end = arrived.get((folder.name, event["order"]))
            if event["event"] == "answered" and end is not None and event["order"] in asked:
                there.append(_seconds(event) - event["seconds"] - asked[event["order"]])
                work.append(event["seconds"])
                back.append(end - _seconds(event))
    print(f"{len(work)} messages; median [least, most] seconds\n\n| part | s |\n|---|---|")
    for name, values in (
        ("asked -> the site's code runs: polling, a new process, its imports", there),
        ("the site's own work", work),
        ("done -> the server has the answer: sending, polling", back),
    ):
        print(f"| {name} | {np.median(values):.1f} [{min(values):.1f}, {max(values):.1f}] |")


def _seconds(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("quality")
    one.add_argument("--output", type=Path, required=True)
    one.add_argument("--config", default="federated-demo")
    one.add_argument("--patients", type=int, nargs=3, default=[20, 20, 6], help="of each site; a quarter are watched")
    one.add_argument(
        "--doses", type=float, nargs="+",
        help="percent of the counts, of every patient; default: each site its own, and 5, 10, 20 to test on",
    )  # fmt: skip
    one.add_argument("--test", type=int, default=3, help="unseen patients of each site")
    one.add_argument("--steps", type=int, default=600, help="at each site, of the prior and of each view")
    one.add_argument("--local-steps", type=int, default=50)
    one.add_argument("--personal-steps", type=int, default=150)
    one.add_argument("--views", nargs="+", default=["axial"])
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    one.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    one.add_argument("--set", nargs="*", default=SMALL, help="key=value of every plan")
    one.add_argument("--phantom", nargs="*", default=["phantom.slices=[40, 64]"], help="key=value of every cohort")
    one.add_argument("--cpu-hours", type=float, default=6.0, help="no arm is begun once so many are spent")
    one.set_defaults(run=quality)
    two = verbs.add_parser("cost")
    two.add_argument("--config", default="federated-demo")
    two.add_argument("--megabytes", type=float, nargs="+", default=[10.0, 440.0])
    two.set_defaults(run=cost)
    part = verbs.add_parser("cost-part")
    part.add_argument("part", choices=["server", "site"])
    part.add_argument("folder", type=Path)
    part.add_argument("megabytes", type=float)
    part.add_argument("--config")
    part.set_defaults(run=cost_part)
    three = verbs.add_parser("overhead")
    three.add_argument("run_folder", type=Path, help="COORDINATOR/runs/RUN")
    three.add_argument("sites", type=Path, nargs="+", help="folders of sites, named as they were approved")
    three.set_defaults(run=overhead)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
