"""Plans: each rule by itself, memory against real steps, and a configuration that train takes as it is."""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import yaml

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.model import SeenRange
from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.descriptors import TERMS
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import OutOfMemory, UsageError
from pet_pipeline.models import memory
from pet_pipeline.models.devices import choose
from pet_pipeline.models.registry import parameter_count
from pet_pipeline.training import planning, planning_mumap
from pet_pipeline.training.fingerprint import Fingerprint, fingerprint
from pet_pipeline.training.plan import SHARE_OF_FREE, Machine, Plan, as_yaml, settings_of
from pet_pipeline.training.planning import plan
from pet_pipeline.training.planning_rules import (
    cut_to,
    ema_for,
    folds_for,
    grid_mm,
    half_width,
    largest_that_fits,
    patch_of,
    steps_for,
)
from pet_pipeline.training.probe import LIBRARIES_MB, kept_bytes, probe_of, probe_of_mumap, step_memory_mb


def a_range(median: float) -> SeenRange:
    return SeenRange(p01=median, median=median, p99=median)


DATA = Fingerprint(
    task="madm", condition="input", target="target", participants={"train": 30, "val": 4},
    cases={"train": 60, "val": 8}, doses={"5": 60}, scanners=("one",), mixed=(), looked_at=32,
    spacing_mm=(3.3, 3.3, 2.0), body_mm=(420.0, 260.0, 1000.0),
    descriptors=dict.fromkeys(TERMS, a_range(1.0)), nstd=a_range(0.2), gain=0.61,
)  # fmt: skip


def machine(free_mb: float = 16_000.0, device: str = "cpu") -> Machine:
    compute = choose("cpu", "fp32")
    return Machine("a machine", replace(compute, device=torch.device(device)), free_mb)


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is done: each takes a second."""
    for module in (planning, planning_mumap):
        monkeypatch.setattr(module, "seconds_a_step", lambda *_: 1.0)


def choices(made: Plan) -> dict[str, object]:
    return {choice.key: choice.value for choice in made.choices}


def test_the_grid_has_the_volume_of_the_datas_voxels() -> None:
    assert grid_mm((4.0, 4.0, 4.0)) == 4.0
    assert grid_mm((3.3, 3.3, 2.0)) == 3.0  # 21.8 mm^3: 2.79 mm
    assert grid_mm((1.0, 1.0, 1.0)) == 2.0
    assert grid_mm((8.0, 8.0, 8.0)) == 6.0


def test_slabs_are_as_thick_in_mm_whatever_the_grid() -> None:
    assert [half_width(20.0, spacing) for spacing in (2.0, 3.0, 5.0, 60.0)] == [8, 7, 4, 1]


def test_a_patch_holds_the_body_or_the_cap() -> None:
    assert patch_of((420.0, 260.0, 1000.0), 5.0, 96, 8) == (88, 56, 96)
    assert patch_of((420.0, 260.0, 1000.0), 3.0, 72, 16) == (64, 64, 64)
    assert patch_of((20.0, 20.0, 20.0), 5.0, 4, 8) == (8, 8, 8)


def test_steps_meet_every_voxel_as_often_as_wanted_within_bounds() -> None:
    assert steps_for(1e6, 1e4, 50.0, (10, 10_000)) == 5000
    assert steps_for(1.001e6, 1e4, 50.0, (10, 10_000)) == 5100
    assert steps_for(1.0, 1e4, 50.0, (10, 10_000)) == 100
    assert steps_for(1e9, 1e4, 50.0, (10, 10_000)) == 10_000


def test_folds_by_how_many_participants_there_are() -> None:
    assert [folds_for(n) for n in (2, 5, 6, 59, 60)] == [2, 2, 3, 3, 1]
    with pytest.raises(UsageError, match="1 training participants"):
        folds_for(1)


def test_averages_are_those_of_the_presets() -> None:
    assert ema_for(4000) == load(TrainingSettings, "demo").prior_optimiser.ema
    assert ema_for(40_000) == load(TrainingSettings, "madm-fast").denoiser_optimiser.ema


def test_hours_cut_the_steps_alike() -> None:
    assert cut_to([1000, 4000], 10.0, None) == ([1000, 4000], "")
    assert cut_to([1000, 4000], 10.0, 5.0) == ([500, 2000], ", cut to 50% by --hours 5")
    assert cut_to([1000, 4000], 1000.0, 1.0)[0] == [200, 200]


def test_the_first_that_fits_is_taken() -> None:
    assert largest_that_fits([8, 4, 2], lambda size: 10.0 * size, 45.0) == (4, 40.0)
    assert largest_that_fits([8, 4, 2], lambda size: 10.0 * size, 10.0) is None


def test_kept_bytes_by_hand() -> None:
    """A linear layer keeps its input (5 x 4), a square its argument (5 x 3), nobody counts the weight."""
    kept = kept_bytes(torch.nn.Linear(4, 3), lambda net, batch: net(batch["x"]).square().sum(), {"x": torch.rand(5, 4)})
    assert kept == 4 * (5 * 4 + 5 * 3)
    assert (
        kept_bytes(
            torch.nn.Linear(4, 3),
            lambda net, batch: net(batch["x"].requires_grad_()).square().sum(),
            {"x": torch.rand(5, 4)},
        )
        == kept
    )  # now the weight is kept too, for the input's gradient


@pytest.mark.parametrize("part", ["prior", "denoiser"])
def test_what_a_step_keeps_is_counted_exactly(part: str) -> None:
    """Without storage the same bytes are counted as autograd holds in a real step of the tiny preset."""
    settings = load(TrainingSettings, "tiny")
    probe = probe_of(settings, part)
    network = probe.build()
    real = kept_bytes(network, probe.loss, probe.batch())
    counted = (step_memory_mb(probe) - LIBRARIES_MB) * 1e6
    held = 20 * parameter_count(network) + sum(4 * math.prod(shape) for shape in probe.shapes.values())
    assert counted == pytest.approx(1.3 * real + held, rel=1e-6)
    assert step_memory_mb(probe, "bf16") < step_memory_mb(probe)


def _needed_and_said_mb() -> tuple[float, float]:
    settings = load(TrainingSettings, "tiny", ["prior_optimiser.patch=[80, 80, 80]", "prior.widths=[16, 32, 32]"])
    probe = probe_of(settings, "prior")
    network, batch = probe.build(), probe.batch()
    memory.reset_peak(torch.device("cpu"))
    before = memory.host_peak_mb()
    probe.loss(network, batch).backward()
    return memory.host_peak_mb() - before, step_memory_mb(probe)


def test_a_real_step_needs_no_more_than_was_said_and_not_far_less() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a single step cannot be measured here")
    # in a process of its own: this one may still hold what earlier tests freed, and then its peak does not rise
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        needed, said = fresh.submit(_needed_and_said_mb).result()
    assert needed <= said
    assert needed > 0.25 * said


def test_a_step_of_a_cascade_is_probed_with_all_its_channels() -> None:
    settings = load(MumapTrainingSettings, "tiny-mumap")
    probe = probe_of_mumap(settings)
    assert probe.shapes["inputs"][1] == 4
    assert kept_bytes(probe.build(), probe.loss, probe.batch()) > 0
    assert probe_of_mumap(settings.model_copy(update={"stages": 1})).shapes["inputs"][1] == 1


@pytest.mark.usefixtures("timeless")
def test_less_memory_gives_smaller_steps_that_fit_and_too_little_none() -> None:
    voxels = []
    for free in (8000.0, 900.0):
        here = machine(free, "cuda")
        made = plan(DATA, here)
        assert max(made.memory_mb.values()) <= SHARE_OF_FREE * free
        known = choices(made)
        voxels.append(math.prod(known["prior_optimiser.patch"]) * known["prior_optimiser.batch"])
    assert voxels[0] > 4 * voxels[1]
    with pytest.raises(OutOfMemory, match="300 MB free, the smallest step needs about"):
        plan(DATA, machine(300.0, "cuda"))


@pytest.mark.usefixtures("timeless")
def test_large_networks_are_for_many_patients_and_a_gpu() -> None:
    large, middle = [32, 64, 128, 256], [16, 48, 96, 160]
    few = replace(DATA, participants={"train": 10})
    assert choices(plan(DATA, machine(80_000.0, "cuda")))["prior.widths"] == large
    assert choices(plan(DATA, machine(80_000.0, "cpu")))["prior.widths"] == middle
    made = plan(few, machine(80_000.0, "cuda"))
    assert choices(made)["prior.widths"] == middle
    assert any("10 training participants are few" in note for note in made.notes)
    assert any("no row of split val" in note for note in made.notes)


@pytest.mark.usefixtures("timeless")
def test_hours_are_steps_times_seconds() -> None:
    made = plan(DATA, machine())
    known = choices(made)
    priors = known["folds"] + 1
    steps = priors * known["prior_optimiser.steps"] + 3 * known["denoiser_optimiser.steps"]
    assert made.hours == pytest.approx(steps / 3600.0)
    assert plan(DATA, machine(), most_hours=2.0).hours == pytest.approx(2.0, rel=0.01)


@pytest.mark.usefixtures("timeless")
def test_a_prior_alone_is_one_network_for_everyone() -> None:
    made = plan(replace(DATA, task="prior", participants={"train": 1}), machine())
    known = choices(made)
    assert {key.partition(".")[0] for key in known}.isdisjoint({"folds", "denoiser", "denoiser_optimiser", "sampler"})
    assert made.hours == pytest.approx(known["prior_optimiser.steps"] / 3600.0)
    assert (set(made.memory_mb), set(made.seconds)) == ({"prior"}, {"prior"})
    plenty = plan(replace(DATA, task="prior", participants={"train": 90}), machine())
    assert "of 90 participants" in {choice.key: choice for choice in plenty.choices}["prior_optimiser.steps"].reason


@pytest.mark.usefixtures("timeless")
@pytest.mark.parametrize("task", ["madm", "ndif", "prior", "mumap"])
def test_the_yaml_says_why_and_is_what_the_schema_takes(task: str, tmp_path: Path) -> None:
    data = replace(
        DATA, task=task, condition="input_ac" if task == "ndif" else "input", gain=None if task == "mumap" else 0.6
    )
    made = plan(data, machine())
    text = as_yaml(made)
    assert yaml.safe_load(text) == settings_of(made.choices)
    for choice in made.choices:
        assert f"# {choice.reason}\n" in text
        assert choice.reason
    path = tmp_path / "config.yaml"
    path.write_text(text)
    settings = load(MumapTrainingSettings if task == "mumap" else TrainingSettings, path)
    assert settings.grid.spacing_mm == (3.0, 3.0, 3.0)
    if task == "ndif":
        assert settings.denoiser.noise_embedding
        assert not settings.normalisation.water_correction
    assert made.as_json()["fingerprint"]["task"] == task


def test_a_fingerprint_of_the_small_trunks(mumap_cohort: Path) -> None:
    manifest = Manifest.load(mumap_cohort)
    found = fingerprint(manifest, "mumap")
    assert (found.participants, found.cases) == ({"test": 1, "train": 4, "val": 1},) * 2
    assert found.doses == {"5": 4}
    assert found.looked_at == 4
    assert found.spacing_mm == (5.0, 5.0, 5.0)
    assert 100.0 < found.body_mm[0] < 220.0
    assert found.gain is None
    with pytest.raises(UsageError, match="no target image; train madm needs"):
        fingerprint(manifest, "madm")
    with pytest.raises(UsageError, match="no training case"):
        fingerprint(manifest.select(split="test"), "mumap")


def test_the_gain_is_that_of_the_pair(mumap_cohort: Path, tmp_path: Path) -> None:
    """Three times the target, three times the gain; and a target far from its input is told of."""
    import nibabel as nib

    gains = []
    manifest = Manifest.load(mumap_cohort)
    for factor in (1.0, 3.0):
        cases = []
        for case in manifest.cases:
            image = nib.load(case.input)
            path = tmp_path / f"{case.case_id}-{factor:g}.nii.gz"
            nib.save(nib.Nifti1Image(image.get_fdata(dtype="float32") * factor, image.affine), path)
            cases.append(replace(case, target=path))
        gains.append(fingerprint(Manifest(tmp_path, tuple(cases)), "madm").gain)
    assert gains[1] == pytest.approx(3.0 * gains[0], rel=1e-3)
    noted = partial(planning.notes_on, participants=30)
    assert noted(replace(DATA, gain=0.6)) == ()
    assert "same unit?" in noted(replace(DATA, gain=3000.0))[0]
