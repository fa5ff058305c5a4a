"""Print how fast a bank of 10,000 bodies is searched, and what its prior is worth on patients outside the bank.

    python benchmarks/mumap_bank.py
    python benchmarks/mumap_bank.py --data build/cohort/manifest.tsv --patients 10

With a manifest: a bank of its training patients; the validation patients' mu-maps, degraded as a network's estimate is
(blurred by 12 to 15 mm, lungs constant, bone faint), and the prior that the bank makes of each by 1, 2, 4 and 8
members, affine alone and deformable: mean absolute error and Dice of lung and bone in the body, against the true map.
Seconds are of processor time, one core.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from pet_pipeline.data.body import crop
from pet_pipeline.data.couch import patient_mask
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.resample import to_spacing
from pet_pipeline.mumap import bank as bank_file
from pet_pipeline.mumap import fusion, registration
from pet_pipeline.mumap.alignment import SPACING_MM, align
from pet_pipeline.mumap.building import build_bank
from pet_pipeline.mumap.descriptors import FEATURES, SLAB_MM, Index, describe
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.mumap.population import Bank
from pet_pipeline.mumap.registration import Registered, RegistrationFailed
from pet_pipeline.mumap.targets import body_mumap
from pet_pipeline.physics.blur import smooth
from pet_pipeline.seeding import generator
from pet_pipeline.types import BoolArray, Float32Array

MEMBERS = (1, 2, 4, 8)
BONE_CM1 = 0.112
LUNG_CM1 = (0.012, 0.06)


def search(members: int = 10_000, slabs: int = 50) -> None:
    """Time a search among random descriptors: a patient of 1 m, members of 30 to 60 slabs of 20 mm."""
    rng = generator(0, "search")
    counts = rng.integers(30, 61, members)
    rows = rng.normal(0.0, 0.1, (int(counts.sum()), FEATURES)).astype(np.float32)
    index = Index(rows, counts)
    patient = rows[: int(counts[0])]
    patient = np.resize(patient, (slabs, FEATURES))
    wall, used = time.perf_counter(), time.process_time()
    offsets, scores = index.best_offsets(patient)
    used, wall = time.process_time() - used, time.perf_counter() - wall
    assert scores.argmax() == 0
    assert offsets[0] == 0
    print(f"search of {members} members, {len(rows)} slabs: {used:.2f} s of processor time, {wall:.2f} s of the clock")


def stand_in(mu_cm1: Float32Array, participant: str) -> Float32Array:
    """A true map on 5 mm voxels as a network would estimate it."""
    rng = generator(0, "stand-in", participant)
    inside = ndimage.binary_erosion(patient_mask(mu_cm1, SPACING_MM))
    lung = inside & (mu_cm1 > LUNG_CM1[0]) & (mu_cm1 < 0.065)
    plain = np.where(lung, rng.uniform(0.024, 0.032), mu_cm1)
    faint = np.where(plain > 0.103, 0.103 + rng.uniform(0.2, 0.5) * (plain - 0.103), plain)
    return smooth(faint, rng.uniform(12.0, 15.0), SPACING_MM)


def scores(predicted: Float32Array, truth: Float32Array, body: BoolArray) -> tuple[float, float, float]:
    """MAE in the body (cm^-1), Dice of lung and of bone, both by thresholds."""

    def dice(low: float, high: float) -> float:
        one, other = ((v > low) & (v < high) & body for v in (predicted, truth))
        return 2.0 * float((one & other).sum()) / max(float(one.sum() + other.sum()), 1.0)

    return float(np.abs(predicted - truth)[body].mean()), dice(*LUNG_CM1), dice(BONE_CM1, np.inf)


Row = tuple[str, tuple[float, ...]]


def judge(case: Case, bank: Bank) -> Iterator[Row]:
    """Rows of one patient: name of the map -> MAE, Dice lung, Dice bone, and of priors confidence and its worth."""
    true = to_spacing(body_mumap(case), SPACING_MM)
    estimate = stand_in(true.data, case.participant_id)
    patient, frame = align(estimate, SPACING_MM)
    truth, body = crop(true.data, frame.start, frame.shape), frame.mask
    yield "estimate", (*scores(patient.mu_cm1, truth, body), np.nan, np.nan, np.nan, 0.0)
    matches = bank.without(participants=[case.participant_id]).search(describe(patient, body), max(MEMBERS))
    for name, options in (("affine", PriorOptions(deformable=False)), ("deformable", PriorOptions())):
        found: list[Registered] = []
        seconds = 0.0
        for number, match in enumerate(matches, start=1):
            start = time.process_time()
            member = bank_file.read_member(bank.path, match.index, bank.contents.members[match.index])
            try:
                found.append(registration.register(patient, body, member, match.offset_slabs * SLAB_MM, options))
            except RegistrationFailed as failure:
                left_out = bank.contents.members[match.index].participant_id
                print(f"{case.participant_id}, {name}: {left_out} left out: {failure}")
            seconds += time.process_time() - start
            if number in MEMBERS:
                start = time.process_time()
                fused = fusion.fuse(patient.mu_cm1, found, options)
                fusing = time.process_time() - start
                covered = np.isfinite(fused.uncertainty_cm1)
                prior = np.where(covered, fused.mu_cm1, patient.mu_cm1)
                inside = body & covered
                error, unsure = np.abs(prior - truth)[inside], fused.uncertainty_cm1[inside]
                yield (
                    f"{name}, K = {number}",
                    (
                        *scores(prior, truth, body),
                        float(fused.confidence[body].mean()),
                        float(stats.spearmanr(unsure[::5], error[::5]).statistic),
                        float(np.sqrt((error**2).mean() / (unsure**2).mean())),
                        seconds + fusing,
                    ),
                )


def table(manifest: Manifest, patients: int, folder: Path) -> None:
    """Build the bank and print the table, means over the patients."""
    bank = build_bank(manifest, folder / "bank.npz", workers=1)
    size = bank.path.stat().st_size / 1e6
    print(f"bank: {len(bank.members)} members, {size:.1f} MB, {1000 * size / len(bank.members):.0f} kB a member")
    one = {case.participant_id: case for case in manifest.cases if case.split != "train" and case.mumap is not None}
    rows: dict[str, list[Sequence[float]]] = defaultdict(list)
    for case in list(one.values())[:patients]:
        for name, values in judge(case, bank):
            rows[name].append(values)
    print(f"\nMeans of {min(patients, len(one))} patients outside the bank.\n")
    print("| map | MAE in body, cm^-1 | Dice lung | Dice bone | confidence | rank correlation | RMS error / u | s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, all_of_it in rows.items():
        mae, lung, bone, sure, rank, ratio, seconds = np.mean(all_of_it, axis=0)
        print(
            f"| {name} | {mae:.5f} | {lung:.3f} | {bone:.3f} | {sure:.2f} | {rank:.2f} | {ratio:.2f} | {seconds:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="manifest.tsv of a cohort with mu-maps")
    parser.add_argument("--patients", type=int, default=10, help="patients outside the bank that are judged")
    arguments = parser.parse_args()
    search()
    if arguments.data is not None:
        with tempfile.TemporaryDirectory() as folder:
            table(Manifest.load(arguments.data), arguments.patients, Path(folder))


if __name__ == "__main__":
    main()
