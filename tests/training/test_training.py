"""Training from the public interface: a killed run goes on exactly, no estimate leaks, the loop's pieces are right."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from quiet_progress import Killed, killed_in, silent
from safetensors import safe_open
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import nn

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import OptimiserSettings, TrainingSettings
from pet_pipeline.data.dataset import PackedCase, pack
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.errors import UsageError
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import load_folder
from pet_pipeline.physics.water import preparation
from pet_pipeline.training import loop
from pet_pipeline.training.estimates import prior_of
from pet_pipeline.training.folds import assign
from pet_pipeline.training.loop import LoopSettings, Stage, learning_rate, run
from pet_pipeline.training.madm import train_model
from pet_pipeline.training.seen import seen_ranges
from pet_pipeline.training.session import as_begun, claim

SMALL = (
    "prior.widths=[4,8]",
    "denoiser.widths=[8,8]",
    "denoiser.attention_levels=[]",
    "prior_optimiser.steps=4",
    "prior_optimiser.patch=[16,16,16]",
    "prior_optimiser.warmup_steps=1",
    "denoiser_optimiser.steps=4",
    "denoiser_optimiser.batch=2",
    "denoiser_optimiser.crop=16",
    "denoiser_optimiser.warmup_steps=1",
    "checkpoint_every=2",
    "validate_every=4",
    "precision=fp32",
)


def losses(run_folder: Path) -> dict[str, list[float]]:
    stages = sorted((run_folder / "stages").iterdir())
    return {
        stage.name: [json.loads(line)["loss"] for line in (stage / "losses.jsonl").read_text().splitlines()]
        for stage in stages
    }


def test_a_killed_run_goes_on_with_the_same_losses_and_weights(cohort: Manifest, tmp_path: Path) -> None:
    settings = load(TrainingSettings, "tiny", SMALL)
    unbroken = train_model(cohort, settings, tmp_path / "unbroken", progress=silent)
    broken = tmp_path / "broken"
    for stage in ("prior-fold1", "coronal"):
        with pytest.raises(Killed):
            train_model(cohort, settings, broken, progress=lambda d, _t, s=stage: killed_in(s, 3, d), resume=True)
    resumed = train_model(cohort, settings, broken, progress=silent, resume=True)
    assert losses(broken) == losses(tmp_path / "unbroken")
    assert all(len(values) == 4 for values in losses(broken).values())
    first, second = load_folder(unbroken).description, load_folder(resumed).description
    assert {role: n.sha256 for role, n in first.networks.items()} == {
        role: n.sha256 for role, n in second.networks.items()
    }
    assert set(first.networks) == {"prior", "axial", "coronal", "sagittal"}


def test_no_denoiser_sees_an_estimate_by_a_prior_that_knew_the_patient(cohort: Manifest, tmp_path: Path) -> None:
    for name, folds in (("crossed", 2), ("shared", 1)):
        settings = load(TrainingSettings, "tiny", [*SMALL, f"folds={folds}"])
        train_model(cohort, settings, tmp_path / name, progress=silent)
        packed = tmp_path / name / "packed"
        estimated = 0
        for case in cohort.cases:
            record = packed / case.case_id / "prior.json"
            if record.is_file():
                estimated += 1
                assert case.participant_id not in json.loads(record.read_text())["learnt_from"]
        assert estimated == (5 if folds == 2 else 3)  # with one fold, half of the four, and the watched one


def test_settings_of_another_run_and_an_existing_run_are_refused(cohort: Manifest, tmp_path: Path) -> None:
    settings = load(TrainingSettings, "tiny", SMALL)
    train_model(cohort, settings, tmp_path / "run", progress=silent, task="prior")
    card = (tmp_path / "run" / "model" / "card.md").read_text()
    assert "prior steps" in card
    assert "denoiser" not in card  # it has none,
    assert "recommended sampling" not in card  # and nothing to sample
    with pytest.raises(UsageError, match="--resume"):
        train_model(cohort, settings, tmp_path / "run", progress=silent, task="prior")
    other = load(TrainingSettings, "tiny", [*SMALL, "seed=1"])
    with pytest.raises(UsageError, match="other settings"):
        train_model(cohort, other, tmp_path / "run", progress=silent, task="prior", resume=True)


def weights_of(model: Path) -> dict[str, str]:
    return {role: one.sha256 for role, one in load_folder(model).description.networks.items()}


def copied(cohort: Manifest, root: Path) -> Manifest:
    """The same images in files of their own."""
    shutil.copytree(cohort.root, root)
    return Manifest.load(root / "manifest.tsv")


def begun(cohort: Manifest, run: Path) -> TrainingSettings:
    """A run of the prior that was killed after three of its four steps; returns its settings."""
    settings = load(TrainingSettings, "tiny", SMALL)
    with pytest.raises(Killed):
        train_model(cohort, settings, run, progress=lambda d, _t: killed_in("prior", 3, d), task="prior")
    return settings


def test_a_run_of_an_older_version_goes_on_with_the_default_of_what_came_later(
    cohort: Manifest, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    begun(cohort, run)
    record, checkpoint = run / "settings.yaml", run / "stages" / "prior" / "checkpoint.safetensors"
    lines = record.read_text().splitlines(keepends=True)
    known = [line for line in lines if not line.strip().startswith("intensity:")]
    assert len(known) == len(lines) - 1
    record.write_text("".join(known))
    with safe_open(checkpoint, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    told = json.loads(metadata["settings"])
    del told["augmentation"]["intensity"]
    save_file(tensors, checkpoint, metadata={**metadata, "settings": json.dumps(told, sort_keys=True)})
    later = load(TrainingSettings, "tiny", [*SMALL, "augmentation.intensity=0.2"])
    with pytest.raises(UsageError, match="other settings"):
        train_model(cohort, later, run, progress=silent, task="prior", resume=True)
    train_model(cohort, load(TrainingSettings, "tiny", SMALL), run, progress=silent, task="prior", resume=True)
    whole = train_model(
        cohort, load(TrainingSettings, "tiny", SMALL), tmp_path / "whole", progress=silent, task="prior"
    )
    assert weights_of(run / "model") == weights_of(whole)
    assert "intensity" in record.read_text()


def test_a_run_is_resumed_on_its_own_cohort_alone(cohort: Manifest, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = begun(cohort, run)

    def resumed(*cases: Case, **changes: str) -> None:
        with_last = (*cohort.cases[:-1], *cases) if cases else (*cohort.cases[1:], replace(cohort.cases[0], **changes))
        changed = Manifest(cohort.root, with_last)
        train_model(changed, settings, run, progress=silent, task="prior", resume=True)

    with pytest.raises(UsageError, match=r"another cohort \(gone: sub-0; new: sub-9\); use the same manifest"):
        resumed(case_id="p9", participant_id="sub-9")
    with pytest.raises(UsageError, match=r"another cohort \(other rows or split: sub-0\)"):
        resumed(split="val")
    with pytest.raises(UsageError, match=r"another cohort \(gone: sub-0\)"):
        resumed(split="test")
    more = [replace(cohort.cases[4], case_id=f"n{number}", participant_id=f"new-{number}") for number in range(5)]
    with pytest.raises(UsageError, match=r"\(new: new-0, new-1, new-2 and 2 more\)"):
        resumed(cohort.cases[4], *more)
    resumed(cohort.cases[4], *(replace(one, split="test") for one in more))  # whom nobody opens


def test_rows_may_be_mended_until_something_has_been_learnt(cohort: Manifest, tmp_path: Path) -> None:
    settings = load(TrainingSettings, "tiny", SMALL)
    lacking = Manifest(cohort.root, (replace(cohort.cases[0], noise_free=None), *cohort.cases[1:]))
    with pytest.raises(UsageError, match="p0: the manifest has no noise_free image"):
        train_model(lacking, settings, tmp_path / "run", progress=silent, task="prior")
    without = Manifest(cohort.root, cohort.cases[1:])
    train_model(without, settings, tmp_path / "run", progress=silent, task="prior", resume=True)
    with pytest.raises(UsageError, match=r"another cohort \(new: sub-0\)"):
        train_model(cohort, settings, tmp_path / "run", progress=silent, task="prior", resume=True)


def test_copied_images_go_on_exactly_and_changed_ones_are_refused(cohort: Manifest, tmp_path: Path) -> None:
    settings = load(TrainingSettings, "tiny", SMALL)
    unbroken = train_model(cohort, settings, tmp_path / "unbroken", progress=silent, task="prior")
    begun(cohort, tmp_path / "run")
    mine = copied(cohort, tmp_path / "copy")
    image = nib.load(mine.cases[0].noise_free)
    nib.save(nib.Nifti1Image(1.1 * image.get_fdata(dtype="float32"), image.affine), tmp_path / "other.nii.gz")
    changed = Manifest(mine.root, (replace(mine.cases[0], noise_free=tmp_path / "other.nii.gz"), *mine.cases[1:]))
    with pytest.raises(UsageError, match=r"other cases, or other images of them\); use the same ones or another"):
        train_model(changed, settings, tmp_path / "run", progress=silent, task="prior", resume=True)
    again = train_model(mine, settings, tmp_path / "run", progress=silent, task="prior", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "unbroken")
    assert weights_of(again) == weights_of(unbroken)


def test_rows_in_another_order_go_on_exactly(cohort: Manifest, tmp_path: Path) -> None:
    extra = tuple(replace(case, case_id=f"{case.case_id}b") for case in cohort.cases[2:])
    mixed = Manifest(cohort.root, (cohort.cases[3], *extra, *cohort.cases[:3], cohort.cases[4]))  # as no sort has it
    settings = load(TrainingSettings, "tiny", SMALL)
    unbroken = train_model(mixed, settings, tmp_path / "unbroken", progress=silent)
    for name, other in (("turned", mixed.cases[::-1]), ("sorted", sorted(mixed.cases, key=lambda case: case.case_id))):
        broken = tmp_path / name
        with pytest.raises(Killed):
            train_model(mixed, settings, broken, progress=lambda d, _t: killed_in("prior-fold1", 3, d))
        again = train_model(Manifest(cohort.root, tuple(other)), settings, broken, progress=silent, resume=True)
        assert losses(broken) == losses(tmp_path / "unbroken")
        assert weights_of(again) == weights_of(unbroken)


def test_the_order_of_the_rows_is_that_of_the_beginning(cohort: Manifest, tmp_path: Path) -> None:
    given = (cohort.cases[2], replace(cohort.cases[0], case_id="t", participant_id="t", split="test"), cohort.cases[1])
    swapped = Manifest(cohort.root, given[::-1])
    (tmp_path / "stages").mkdir()
    assert begun_with(tmp_path, Manifest(cohort.root, given)) == (*given[::2], given[1])
    assert begun_with(tmp_path, swapped) == (*given[::2], given[1])
    older = {case.participant_id: [[case.case_id, case.split]] for case in given[::2]}  # which told no order
    (tmp_path / "cohort.json").write_text(json.dumps(older))
    assert begun_with(tmp_path, swapped) == (*given[::-2], given[1])
    assert begun_with(tmp_path, Manifest(cohort.root, given)) == (*given[::-2], given[1])  # now it is told
    with pytest.raises(UsageError, match=r"another cohort \(gone: sub-1\)"):
        begun_with(tmp_path, Manifest(cohort.root, given[:1]))


def begun_with(run: Path, manifest: Manifest) -> tuple[Case, ...]:
    """The cases in the order of a run that is begun or resumed."""
    claim(run, TrainingSettings(), "madm", True, manifest)
    return as_begun(manifest, run).cases


def test_a_run_of_an_older_version_which_recorded_no_cohort_goes_on(cohort: Manifest, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = begun(cohort, run)
    (run / "cohort.json").unlink()
    for record in (run / "packed").glob("*/case.json"):
        known = json.loads(record.read_text())
        del known["sha256"]
        record.write_text(json.dumps(known))
    path = run / "stages" / "prior" / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        stage = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    del stage["cases_sha256"]
    save_file(tensors, path, metadata={"step": "2", "settings": json.dumps(stage, sort_keys=True)})
    train_model(cohort, settings, run, progress=silent, task="prior", resume=True)
    assert len(losses(run)["prior"]) == 4
    with pytest.raises(UsageError, match=r"another cohort \(gone: sub-4\)"):  # now it is recorded
        train_model(Manifest(cohort.root, cohort.cases[:4]), settings, run, progress=silent, task="prior", resume=True)


def test_a_manifest_without_the_learnt_image_is_refused_by_name(cohort: Manifest, tmp_path: Path) -> None:
    settings = load(TrainingSettings, "tiny", [*SMALL, "target=target"])
    with pytest.raises(UsageError, match="p0: the manifest has no target image"):
        train_model(cohort, settings, tmp_path / "run", progress=silent)


@pytest.mark.parametrize("folds", [1, 2, 3, 5])
def test_folds_cover_everyone_once_and_never_themselves(folds: int) -> None:
    people = [f"sub-{i}" for i in range(11)]
    assigned = assign(people, folds=folds, prior_share=0.4, seed=3)
    estimated = [person for fold in assigned for person in fold.estimates]
    assert len(estimated) == len(set(estimated))
    assert all(not (fold.learns_from & fold.estimates) for fold in assigned)
    if folds == 1:
        assert assigned[0].learns_from | assigned[0].estimates == set(people)
    else:
        assert set(estimated) == set(people)
        assert assigned[-1].learns_from == set(people)
    assert assign(reversed(people), folds=folds, prior_share=0.4, seed=3) == assigned


def test_too_few_participants_are_refused() -> None:
    with pytest.raises(UsageError, match="needed are at least 3"):
        assign(["a", "b"], folds=3, prior_share=0.5, seed=0)


def test_learning_rate_warms_up_and_ends_at_its_final_fraction() -> None:
    settings = OptimiserSettings(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.1)
    assert all(later <= sooner for sooner, later in pairwise(rates[10:]))


def test_the_loop_fits_a_line_and_its_average_follows(tmp_path: Path) -> None:
    def draw(step: int, _examples: range) -> dict[str, torch.Tensor]:
        x = torch.randn(32, 1, generator=torch.Generator().manual_seed(step))
        return {"x": x, "y": 3.0 * x - 1.0}

    torch.manual_seed(0)
    optimiser = OptimiserSettings(steps=300, learning_rate=0.05, ema=0.9, warmup_steps=0, weight_decay=0.0)
    stage = Stage(
        "line", nn.Linear(1, 1), optimiser, draw, lambda n, b: (n(b["x"]) - b["y"]).square().mean(), None, "{}"
    )
    fitted = run(stage, tmp_path, LoopSettings(torch.device("cpu"), None, 100, 10, 100))
    assert float(fitted.weight) == pytest.approx(3.0, abs=0.02)
    assert float(fitted.bias) == pytest.approx(-1.0, abs=0.02)


def interrupted_after(function: Callable[..., None], calls: int) -> Callable[..., None]:
    """The function, with a Ctrl-C as it ends for the n-th time."""
    left = iter(range(calls - 1, -1, -1))

    def wrapped(*arguments: object) -> None:
        function(*arguments)
        if next(left, 1) == 0:
            raise KeyboardInterrupt

    return wrapped


@pytest.mark.parametrize(("calls", "saved"), [(1, "2"), (2, "4"), (3, "5")])  # the last of them after the last step
def test_an_interrupted_validation_is_made_up_for(
    calls: int, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Curves' files are ordered by name: within a second the process's tenth would come before its ninth.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))

    def trained(folder: Path, validate: Callable[[nn.Module], dict[str, float]]) -> nn.Module:
        torch.manual_seed(0)
        optimiser = OptimiserSettings(steps=5, learning_rate=0.05, ema=0.5, warmup_steps=0)

        def draw(step: int, _examples: range) -> dict[str, torch.Tensor]:
            return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}

        stage = Stage("line", nn.Linear(3, 1), optimiser, draw, lambda n, b: n(b["x"]).square().mean(), validate, "{}")
        return run(stage, folder, LoopSettings(torch.device("cpu"), None, 3, 1, 2))

    def figures(network: nn.Module) -> dict[str, float]:
        return {"sum": float(sum(value.detach().sum() for value in network.parameters()))}

    left = iter(range(calls - 1, -1, -1))

    def interrupted(network: nn.Module) -> dict[str, float]:
        if next(left) == 0:
            raise KeyboardInterrupt
        return figures(network)

    trained(tmp_path / "unbroken", figures)
    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        trained(folder, interrupted)
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == saved  # no step is lost for it
    for _ in range(2):
        trained(folder, figures)
        assert (folder / "validation.jsonl").read_text() == (tmp_path / "unbroken" / "validation.jsonl").read_text()
    curves = EventAccumulator(str(folder)).Reload()
    for name in ("line/loss", "line/sum"):
        known = EventAccumulator(str(tmp_path / "unbroken")).Reload().Scalars(name)
        assert [(at.step, at.value) for at in curves.Scalars(name)] == [(at.step, at.value) for at in known]


@pytest.mark.parametrize(
    ("place", "name", "saved"),
    [
        (loop, "_average_into", "2"),
        (loop._Record, "loss", "2"),
        (loop._Record, "curves", "3"),  # between two steps: nothing is lost
    ],
)
def test_an_interrupted_run_does_no_step_twice_and_loses_none(
    place: object, name: str, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(folder: Path) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        optimiser = OptimiserSettings(steps=6, learning_rate=0.05, ema=0.5, warmup_steps=0)

        def draw(step: int, _examples: range) -> dict[str, torch.Tensor]:
            return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}

        stage = Stage("line", nn.Linear(3, 1), optimiser, draw, lambda n, b: n(b["x"]).square().mean(), None, "{}")
        return run(stage, folder, LoopSettings(torch.device("cpu"), None, 2, 1, 100)).state_dict()

    unbroken = trained(tmp_path / "unbroken" / "stages" / "line")
    folder = tmp_path / "broken" / "stages" / "line"
    with monkeypatch.context() as patched:
        patched.setattr(place, name, interrupted_after(getattr(place, name), 3))
        with pytest.raises(KeyboardInterrupt):
            trained(folder)
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == saved
    resumed = trained(folder)
    assert all(torch.equal(value, unbroken[name]) for name, value in resumed.items())
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")


def test_a_model_with_the_water_correction_is_given_the_same_condition_by_training_and_translation(
    cohort: Manifest, tmp_path: Path
) -> None:
    settings = load(TrainingSettings, "tiny", [*SMALL, "normalisation.water_correction=true", "normalisation.gain=0.6"])
    model = train_model(cohort, settings, tmp_path / "run", progress=silent, task="prior")
    folder = load_folder(model)
    assert folder.description.normalisation.water_correction
    assert folder.description.seen == seen_ranges(cohort, settings.grid)  # of the inputs, before the correction
    assert folder.description.seen["body_length_mm"].p01 == pytest.approx(80.0, abs=10.0)
    translator = Translator.load(folder, precision="fp32")
    volume, _ = read(cohort.cases[0].input)
    made = translator.translate(volume)
    plain_settings = load(TrainingSettings, "tiny", SMALL)
    case, plain = (pack_again(cohort, one, translator.multiple, tmp_path)[0] for one in (settings, plain_settings))
    assert case.scale == pytest.approx(made.normalisation["scale"] * made.normalisation["gain"], rel=1e-5)
    assert case.scale / 0.6 > 1.5 * plain.scale / 8.0  # the corrected sphere is brighter
    estimate = prior_of(translator.prior_network, case, settings.normalisation, translator.compute)
    assert np.allclose(estimate * case.scale, made.prior_box, atol=0.02)


def pack_again(cohort: Manifest, settings: TrainingSettings, multiple: int, folder: Path) -> tuple[PackedCase, ...]:
    return pack(
        cohort, folder / f"packed-{settings.normalisation.water_correction}", grid=settings.grid,
        normalisation=settings.normalisation, target=settings.target, multiple=multiple,
        prepare=preparation(settings.normalisation, settings.grid),
    )  # fmt: skip
