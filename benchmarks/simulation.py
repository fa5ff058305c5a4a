"""Figures of the simulator: seconds, liver noise by scanner, the bias of few OSEM updates, what thick slices save.

    python benchmarks/simulation.py [--quick]

Run it with OMP_NUM_THREADS=1 on an idle machine; times are of the processor. Figures go to stdout.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.configs.simulation import AcquisitionSettings, CohortSettings
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.nifti import read
from pet_pipeline.data.sketch import LEAST_BODY, sketch
from pet_pipeline.physics.acquisition import draw_counts
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.bodies import draw_body
from pet_pipeline.simulation.labels import majority_labels
from pet_pipeline.simulation.patient import simulate_patient
from pet_pipeline.simulation.phantoms import Phantom, draw
from pet_pipeline.simulation.scan import ScanFacts, acquire, reconstruct
from pet_pipeline.simulation.scanners import SCANNERS, scanner
from pet_pipeline.types import BoolArray

EXACT = ScanFacts(0.27, 1.0, 0.4, 1.0, 0.0, 0.0)
STILL = AcquisitionSettings(phases=1, ct_blur_mm=0.0)
EROSION_MM = 10.0


def phantom_of(seed: int, slices: int, top_mm: float) -> Phantom:
    return draw(
        generator(seed, "benchmark"),
        family="standard",
        settings=PhantomSettings(slices=(slices, slices), top_mm=(top_mm, top_mm)),
    )


def chain(slices: int) -> None:
    """Counts and three reconstructions of 3 x 12 (NAC and AC low dose, AC full dose), without the phantom itself."""
    preset = scanner("plain-5mm")
    scan = acquire(phantom_of(0, slices, 0.0), preset, EXACT, STILL)
    rates = scan.rates(with_lesions=True).total
    start = time.process_time()
    counts = draw_counts(rates * scan.sensitivity, np.random.default_rng(0))
    low = np.random.default_rng(1).binomial(counts, 0.05) / (0.05 * scan.sensitivity)
    reconstruct(scan, [low], corrected=False, with_lesions=True)
    reconstruct(scan, [low, counts / scan.sensitivity], corrected=True, with_lesions=True)
    seconds = time.process_time() - start
    voxels = preset.pixels**2 * slices
    print(f"plain chain, {slices} slices: {seconds:.2f} s, {seconds / voxels * 1e6:.2f} us a voxel (at most 2)")


def whole_patient(name: str, slices: int) -> None:
    settings = load(
        CohortSettings,
        "cohort-train",
        [f"scanners={{{name}: 1}}", f"phantom={{slices: [{slices}, {slices}], top_mm: [0, 0]}}"],
    )
    scanner(name).projector()
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        simulate_patient(1, settings, Path(folder), lambda rng, s: draw_body(rng, s, None), "benchmark")
        print(f"whole patient, {name}, {slices} slices, 5 doses: {time.process_time() - start:.1f} s (at most 60)")


def eroded_organs(
    phantom: Phantom, shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> dict[str, BoolArray]:
    """Voxels of each structure eroded by 10 mm, where at least 1 mL is left."""
    labels = majority_labels(phantom.labels, (2.5,) * 3, shape, spacing)
    out = {}
    for structure in phantom.structures:
        inner = ndimage.distance_transform_edt(labels == structure.index, sampling=spacing) > EROSION_MM
        if inner.sum() * np.prod(spacing) >= 1000.0 and structure.suv > 0.05:
            out[structure.name] = inner
    return out


def convergence(slices: int) -> None:
    preset = replace(scanner("plain-5mm"), filter_mm=0.0)
    spacing = (preset.voxel_mm, preset.voxel_mm, preset.slice_mm)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(2):
        phantom = phantom_of(seed, slices, 250.0)
        scan = acquire(phantom, preset, EXACT, STILL)
        organs = eroded_organs(phantom, scan.mu_cm1.shape, spacing)
        nx, ny, nz = scan.mu_cm1.shape
        truth = phantom.activity.reshape(nx, 2, ny, 2, nz, 2).mean(axis=(1, 3, 5))
        for label, iterations, corrected in (("3 x 12", 3, True), ("8 x 12", 8, True), ("NAC 3 x 12", 3, False)):
            chosen = replace(scan, scanner=replace(preset, iterations=iterations))
            total = chosen.rates(with_lesions=True).total
            image = reconstruct(chosen, [total], corrected=corrected, with_lesions=True)[0]
            for name, inner in organs.items():
                bias = 100.0 * (float(image[inner].mean()) / float(truth[inner].mean()) - 1.0)
                found.setdefault(name, {}).setdefault(label, []).append(bias)
    print("noise-free bias, percent, VOIs eroded by 10 mm (exact corrections, no breathing):")
    for name, by_label in sorted(found.items()):
        print(f"  {name:22s} " + "  ".join(f"{label} {np.mean(values):+6.1f}" for label, values in by_label.items()))


def noise(patients: int) -> None:
    print("liver NSTD at 100 %, percent (8 to 12), and prompts a 5 mm slice:")
    for name, preset in SCANNERS.items():
        deviations, prompts = [], []
        for seed in range(patients):
            phantom = phantom_of(seed, 50, 430.0)
            scan = acquire(phantom, preset, EXACT, STILL)
            rates = scan.rates(with_lesions=True).total
            counts = draw_counts(rates * scan.sensitivity, np.random.default_rng(seed))
            image, expected = reconstruct(scan, [counts / scan.sensitivity, rates], corrected=True, with_lesions=True)
            spacing = (preset.voxel_mm, preset.voxel_mm, preset.slice_mm)
            labels = majority_labels(phantom.labels, (2.5,) * 3, image.shape, spacing)
            liver = next(s.index for s in phantom.structures if s.name == "liver")
            inner = ndimage.distance_transform_edt(labels == liver, sampling=spacing) > EROSION_MM
            deviations.append(100.0 * float((image - expected)[inner].std() / expected[inner].mean()))
            prompts.append(float(counts.sum(axis=0).mean()) * 5.0 / preset.slice_mm)
        spread = f"{min(deviations):.1f} to {max(deviations):.1f}"
        print(f"  {name:16s} {np.mean(deviations):5.1f} ({spread})  {np.mean(prompts):.2e}")


def thick_slices(patients: int, slices: int) -> None:
    """What `cohort-sketches` saves by thick slices and one phase, and how much its sketches differ by it."""
    fixed = ["scanners={plain-5mm: 1}", f"phantom={{slices: [{slices}, {slices}], top_mm: [0, 0]}}"]
    settings = {
        name: load(CohortSettings, "cohort-sketches", [*fixed, *changes])
        for name, changes in {"thick": [], "full": ["slice_mm=null", "acquisition={}"]}.items()
    }
    scanner("plain-5mm").projector()
    seconds, sketches = dict.fromkeys(settings, 0.0), {}
    for name, one in settings.items():
        for number in range(1, patients + 1):
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                record = simulate_patient(number, one, Path(folder), lambda rng, s: draw_body(rng, s, None), name)
                seconds[name] += (time.process_time() - start) / patients
                for row in record["rows"]:
                    volume, _ = read(Path(folder) / row["files"]["input"]["path"])
                    sketches[name, row["dose"], number] = sketch(*frame_body(volume, (5.0,) * 3, multiple=8))
    print(f"cohort-sketches, plain-5mm, {slices} slices: " + ", ".join(f"{n} {s:.1f} s" for n, s in seconds.items()))
    for dose in settings["full"].doses:
        differences, bodies = [], []
        for number in range(1, patients + 1):
            pair = [sketches[name, dose, number] for name in settings]
            common = tuple(slice(side) for side in np.min([one.shape for one in pair], axis=0))
            thick, full = (one[common] for one in pair)
            body = full[1] > LEAST_BODY
            differences.append((thick[0] - full[0])[body])
            bodies.append(full[0][body])
        rms, spread = np.sqrt(np.mean(np.concatenate(differences) ** 2)), np.std(np.concatenate(bodies))
        print(f"  sketches of {dose:g} % dose: RMS difference {rms:.3f}, standard deviation of either {spread:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="short bodies and few patients")
    quick = parser.parse_args().quick
    chain(40 if quick else 200)
    for name in ("plain-5mm",) if quick else SCANNERS:
        whole_patient(name, 40 if quick else 200)
    convergence(60 if quick else 120)
    noise(1 if quick else 4)
    thick_slices(1 if quick else 8, 40 if quick else 180)


if __name__ == "__main__":
    main()
