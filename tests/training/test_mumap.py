"""Training of mu-map cascades: killed runs go on exactly, nothing leaks, loss and examples are what they say."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quiet_progress import Killed, killed_in, silent
from safetensors.torch import load_file
from torch import nn

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.configs.schema import NormalisationSettings
from pet_pipeline.data.dataset import Augmentation, PackedCase
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.weights import bank_path, load_folder
from pet_pipeline.mumap.population import Bank
from pet_pipeline.training import mumap_estimates
from pet_pipeline.training.folds import Fold
from pet_pipeline.training.mumap import train_mumap
from pet_pipeline.training.mumap_data import chosen_images, draw_mumap_patch, pack_mumaps
from pet_pipeline.training.mumap_diffusion import refuse_unheard
from pet_pipeline.training.mumap_estimates import LEAST_FLOOR, confidence_floor, write_estimates, write_prior
from pet_pipeline.training.mumap_steps import LossWeights, array_of, coarse_loss, mumap_loss
from pet_pipeline.units import MU_WATER_CM1

SMALL = (
    "precision=fp32",
    "optimiser.steps=24",
    "later_optimiser.steps=4",
    "checkpoint_every=2",
    "validate_every=12",
)


def small(*changes: str) -> MumapTrainingSettings:
    return load(MumapTrainingSettings, "tiny-mumap", [*SMALL, *changes])


def losses(run: Path) -> dict[str, list[float]]:
    return {
        stage.name: [json.loads(line)["loss"] for line in (stage / "losses.jsonl").read_text().splitlines()]
        for stage in sorted((run / "stages").iterdir())
    }


@pytest.fixture(scope="module")
def manifest(mumap_cohort: Path) -> Manifest:
    return Manifest.load(mumap_cohort)


@pytest.fixture(scope="module")
def unbroken(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken")
    train_mumap(manifest, small(), run, progress=silent)
    return run


def test_a_killed_run_goes_on_with_the_same_losses_weights_and_bank(
    manifest: Manifest, unbroken: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    for stage, after in (("stage1-fold2", 5), ("population priors of stage 1", 2), ("stage2", 3)):
        with pytest.raises(Killed):
            train_mumap(
                manifest, small(), broken, progress=lambda d, _t, s=stage, a=after: killed_in(s, a, d), resume=True
            )
    turned = Manifest(manifest.root, manifest.cases[::-1])  # the rows' order does not matter
    train_mumap(turned, small(), broken, progress=silent, resume=True)
    assert losses(broken) == losses(unbroken)
    assert set(losses(broken)) == {"stage1-fold1", "stage1-fold2", "stage1", "stage2"}
    first, second = (load_folder(run / "model").description for run in (unbroken, broken))
    assert {r: n.sha256 for r, n in first.networks.items()} == {r: n.sha256 for r, n in second.networks.items()}
    assert first.mumap == second.mumap
    assert set(first.networks) == {"stage1", "stage2"}


def test_a_run_whose_bank_holds_a_patient_who_is_now_tested_on_is_refused(manifest: Manifest, unbroken: Path) -> None:
    cases = (replace(manifest.cases[0], split="test"), *manifest.cases[1:])
    with pytest.raises(UsageError, match=r"another cohort \(gone: sub-0\)"):
        train_mumap(Manifest(manifest.root, cases), small(), unbroken, progress=silent, resume=True)


def test_no_stage_sees_an_estimate_or_a_prior_that_knew_the_patient(manifest: Manifest, unbroken: Path) -> None:
    seen, asked = set(), 0
    for case in manifest.cases:
        folder = unbroken / "packed" / case.case_id
        if not (folder / "prior1.json").is_file():
            continue
        seen.add(case.participant_id)
        assert case.participant_id not in json.loads((folder / "estimate1.json").read_text())["learnt_from"]
        prior = json.loads((folder / "prior1.json").read_text())
        assert prior["excluded"] == case.participant_id
        asked += len(prior["members"])
        assert case.participant_id not in {member["participant_id"] for member in prior["members"]}
    assert asked  # some find no body in what five steps have taught
    assert seen == {f"sub-{n}" for n in range(5)}  # the fifth is watched, and nobody looks at the sixth
    path = bank_path(load_folder(unbroken / "model"))
    assert path is not None
    assert {member.participant_id for member in Bank.load(path).members} == {f"sub-{n}" for n in range(4)}


def test_a_run_goes_on_where_images_were_touched_or_estimates_are_gone(manifest: Manifest, tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(manifest.root, root)
    mine = Manifest.load(root / "manifest.tsv")
    settings = small("optimiser.steps=4", "later_optimiser.steps=2")
    with pytest.raises(Killed):
        train_mumap(mine, settings, tmp_path / "run", progress=lambda d, _t: killed_in("stage2", 1, d))
    (root / "sub-0_input.nii.gz").touch()
    first, second = (tmp_path / "run" / "packed" / f"sub-{n}_dose05" for n in (0, 1))
    second.joinpath("estimate1.npy").unlink()
    train_mumap(mine, settings, tmp_path / "run", progress=silent, resume=True)
    for folder in (first, second):
        assert all((folder / f"{name}.npy").is_file() for name in ("estimate1", "prior1", "confidence1"))
    case = packed_of(tmp_path / "run", mine.cases[1])
    for name in ("prior1", "confidence1"):
        second.joinpath(f"{name}.npy").unlink()
        bank = tmp_path / "run" / "bank.npz"
        write_prior(
            case, bank=bank, bank_sha256=Bank.load(bank).sha256, stage=1, k=settings.population.k,
            spacing_mm=settings.grid.spacing_mm,
        )  # fmt: skip
        assert case.has(name)


def test_a_planted_own_map_is_found_without_exclusion_and_never_with_it(
    manifest: Manifest, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unbroken / "packed", tmp_path / "packed")
    case = packed_of(tmp_path, manifest.cases[1])
    bank = Bank.load(unbroken / "bank.npz")
    truth = case.read("target").astype(np.float32) * np.float32(MU_WATER_CM1)  # the best estimate there could be
    spacing = (5.0, 5.0, 5.0)
    tempted = bank.prior(truth, spacing, k=1, workers=1)
    assert [member.participant_id for member in tempted.members] == [case.participant_id]
    held = bank.prior(truth, spacing, exclude=case.participant_id, k=3, workers=1)
    assert case.participant_id not in {member.participant_id for member in held.members}
    # and a bank that forgets to exclude is caught
    case.write("estimate1", truth / np.float32(MU_WATER_CM1))
    monkeypatch.setattr(mumap_estimates.Bank, "load", classmethod(lambda cls, path: Forgetful(bank)), raising=True)
    with pytest.raises(ValueError, match="would leak"):
        write_prior(case, bank=unbroken / "bank.npz", bank_sha256="other", stage=1, k=4, spacing_mm=spacing)


class Forgetful:
    """A bank with a defect: it does not listen to `exclude`."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def prior(self, estimate: np.ndarray, spacing_mm: tuple[float, ...], *, exclude: str, **kind: Any) -> Any:
        return self.bank.prior(estimate, spacing_mm, **kind)


def test_an_estimate_by_a_network_that_knew_the_patient_is_refused(manifest: Manifest, unbroken: Path) -> None:
    case = packed_of(unbroken, manifest.cases[0])
    fold = Fold("-fold9", frozenset({case.participant_id}), frozenset())
    with pytest.raises(ValueError, match="its estimate leaks"):
        write_estimates(nn.Linear(1, 1), fold, 1, [case], small(), None, silent)  # type: ignore[arg-type]


def packed_of(run: Path, case: Case) -> PackedCase:
    folder = run / "packed" / case.case_id
    known = json.loads((folder / "case.json").read_text())
    known.pop("key")
    return PackedCase(**{**known, "folder": folder, "shape": tuple(known["shape"])})


def test_with_one_fold_the_second_stage_learns_from_those_the_first_never_met(
    manifest: Manifest, tmp_path: Path
) -> None:
    train_mumap(manifest, small("folds=1", "method=our", "later_under_widths=[8]"), tmp_path, progress=silent)
    first = json.loads((tmp_path / "packed" / "sub-4_dose05" / "estimate1.json").read_text())["learnt_from"]
    estimated = {path.parent.name[:5] for path in (tmp_path / "packed").glob("*/estimate1.npy")}
    assert len(first) == 2
    assert estimated == {f"sub-{n}" for n in range(5)} - set(first)
    facts = load_folder(tmp_path / "model").description
    assert facts.training["later_stages_cases"] == 2
    assert facts.mumap is not None
    assert facts.mumap.bank is None
    assert facts.networks["stage2"].settings["inputs"] == 2
    assert [list(facts.networks[f"stage{n}"].settings["under_widths"]) for n in (1, 2)] == [[8, 16], [8]]


def test_later_stages_learn_from_so_many_images_even_where_more_were_estimated_before(
    manifest: Manifest, tmp_path: Path
) -> None:
    changes = ("folds=1", "method=our")
    train_mumap(manifest, small(*changes), tmp_path / "two", progress=silent)
    shutil.copytree(tmp_path / "two" / "packed", tmp_path / "one" / "packed")
    train_mumap(manifest, small(*changes, "population.cases=1"), tmp_path / "one", progress=silent)
    counted = [
        load_folder(tmp_path / name / "model").description.training["later_stages_cases"] for name in ("two", "one")
    ]
    assert counted == [2, 1]
    assert losses(tmp_path / "one")["stage1"] == losses(tmp_path / "two")["stage1"]
    assert losses(tmp_path / "one")["stage2"] != losses(tmp_path / "two")["stage2"]


def test_a_first_stage_is_the_same_for_every_cascade(manifest: Manifest, unbroken: Path, tmp_path: Path) -> None:
    """So the checkpoints of one run may serve the next method's."""
    train_mumap(manifest, small("method=our", "stages=1"), tmp_path, progress=silent)
    assert losses(tmp_path)["stage1"] == losses(unbroken)["stage1"]


@pytest.mark.parametrize("method", ["unet", "diffusion"])
def test_baselines_are_trained_by_a_setting(method: str, manifest: Manifest, tmp_path: Path) -> None:
    own = ("diffusion.precision=fp32", "diffusion.checkpoint_every=2")
    model = train_mumap(manifest, small(f"method={method}", "stages=1", *own), tmp_path, progress=silent)
    description = load_folder(model).description
    assert description.task == "mumap"
    assert description.mumap is not None
    assert description.mumap.method == method
    kinds = {network.architecture for network in description.networks.values()}
    assert kinds == ({"muunet"} if method == "unet" else {"prior3d", "unet25d"})


def test_what_the_under_branch_learnt_alone_stays_while_the_rest_learns(manifest: Manifest, tmp_path: Path) -> None:
    alone = '{"steps": 4, "batch": 1, "patch": [16, 16, 16], "warmup_steps": 1}'
    train_mumap(manifest, small("method=our", "stages=1", f"under_optimiser={alone}"), tmp_path, progress=silent)

    def weights(stage: str) -> dict[str, torch.Tensor]:
        loaded = load_file(tmp_path / "stages" / stage / "checkpoint.safetensors")
        return {name.removeprefix("average/"): value for name, value in loaded.items() if name.startswith("average/")}

    before, after = weights("stage1-under"), weights("stage1")
    kept = {name.split(".")[0] for name in before if torch.equal(before[name], after[name])}
    assert {"stem", "encoder", "decoder", "under_map"} <= kept
    assert kept.isdisjoint({"fusion", "out"})
    assert float(before["under_map.weight"].abs().max()) > 0.0


def test_what_cannot_be_trained_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stages > 2 need folds >= 2"):
        small("folds=1", "stages=3")
    with pytest.raises(UsageError, match="later_under_widths: 3 levels, needed are at most those of the first"):
        small("later_under_widths=[8, 8, 8]")
    without = Manifest(
        manifest.root, tuple(Case(c.case_id, c.participant_id, c.site, c.split, c.input) for c in manifest.cases)
    )
    with pytest.raises(UsageError, match="sub-0_dose05: the manifest has no mumap"):
        train_mumap(without, small(), tmp_path / "a", progress=silent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("diffusion.augmentation.intensity=0.1", "diffusion.augmentation.intensity scales the target too"),
        ("diffusion.condition=input_ac", "diffusion.condition=input_ac: mu-maps are made of the column input"),
        ("seed=3", "set diffusion.seed in its place"),
        ("folds=1", "set diffusion.folds in its place"),
        ("grid.spacing_mm=[4,4,4]", "set diffusion.grid in its place"),
        ("precision=bf16", "set diffusion.precision in its place"),
    ],
)
def test_what_diffusion_would_not_listen_to_is_refused(
    change: str, message: str, manifest: Manifest, tmp_path: Path
) -> None:
    uncorrected = "diffusion.normalisation.water_correction=false"  # which goes with either condition
    settings = load(MumapTrainingSettings, "tiny-mumap", ["method=diffusion", uncorrected, change])
    with pytest.raises(UsageError, match=re.escape(message)):
        train_mumap(manifest, settings, tmp_path / "run", progress=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["prior_share", "log_every", "validate_every"])
def test_what_diffusion_has_of_its_own_is_refused_beside_it(name: str, manifest: Manifest, tmp_path: Path) -> None:
    refused = re.escape(f"{name} does not count with method=diffusion; set diffusion.{name} in its place")
    said, value = f"{name}={0.25 if name == 'prior_share' else 7}", 0.25 if name == "prior_share" else 7
    for preset in ("tiny-mumap", "mumap-demo"):
        load_with = partial(load, MumapTrainingSettings, preset)
        refuse_unheard(load_with(["method=diffusion"]))  # a preset's own values are of the other methods
        refuse_unheard(load_with([said]), [said])
        refuse_unheard(load_with(["method=diffusion", said, f"diffusion.{said}"]), [said])
        with pytest.raises(UsageError, match=refused):
            refuse_unheard(load_with(["method=diffusion", said]), ["method=diffusion", said])
    with pytest.raises(UsageError, match=refused):  # as a file without a diffusion group says it
        train_mumap(
            manifest, MumapTrainingSettings.model_validate({"method": "diffusion", name: value,
            "diffusion": {"augmentation": {"intensity": 0.0}}}), tmp_path / "run", progress=silent,
        )  # fmt: skip


def test_targets_are_the_body_alone_in_multiples_of_water(manifest: Manifest, tmp_path: Path, trunks: Any) -> None:
    packed = pack_mumaps(
        manifest, tmp_path, grid=small().grid, normalisation=small().normalisation, multiple=4, splits=("train",)
    )
    case = packed[1]
    target = case.read("target").astype(np.float32)
    truth = trunks(1)
    assert float(target.sum()) == pytest.approx(float(truth["body"].sum()) / MU_WATER_CM1, rel=0.01)
    assert float(truth["mumap"].sum()) > 1.04 * float(truth["body"].sum())  # there was a couch to leave out
    assert float(target.max()) == pytest.approx(0.14 / MU_WATER_CM1, rel=1e-3)
    assert not case.has("valid")


def test_where_the_map_ends_nothing_is_learnt(manifest: Manifest, tmp_path: Path) -> None:
    import nibabel as nib

    case = manifest.cases[0]
    whole = nib.load(case.mumap)
    short = nib.Nifti1Image(np.asarray(whole.dataobj)[:, :, :16], whole.affine)
    nib.save(short, tmp_path / "short.nii.gz")
    cut = Manifest(
        tmp_path, (Case("cut", "sub-9", "here", "train", case.input, mumap=tmp_path / "short.nii.gz", dose=5.0),)
    )
    (packed,) = pack_mumaps(
        cut, tmp_path / "packed", grid=small().grid, normalisation=small().normalisation, multiple=4
    )
    valid = packed.read("valid")
    assert valid.shape[2] == 24
    assert valid[..., :16].all()
    assert not valid[..., 16:].any()
    drawn = draw_mumap_patch(
        packed, ["condition", "target"], (8, 8, 24), NormalisationSettings(), Augmentation(1.0, (False, False, True)),
        np.random.default_rng(0),
    )  # fmt: skip
    assert drawn["valid"][..., 8:].all()
    assert not drawn["valid"][..., :8].any()


def test_activity_is_augmented_and_attenuation_is_not(manifest: Manifest, unbroken: Path) -> None:
    case = packed_of(unbroken, manifest.cases[0])
    settings = NormalisationSettings(knee=1e6)  # linear
    plain, brighter, flipped = (
        draw_mumap_patch(case, ["condition", "target", "estimate1"], (12, 12, 12), settings, one, rng)
        for one, rng in (
            (Augmentation(1.0, (False,) * 3), np.random.default_rng(3)),
            (Augmentation(1.1, (False,) * 3), np.random.default_rng(3)),
            (Augmentation(1.0, (True, False, False)), np.random.default_rng(3)),
        )
    )
    np.testing.assert_allclose(brighter["condition"], 1.1 * plain["condition"], rtol=1e-4)
    for name in ("target", "estimate1"):
        np.testing.assert_array_equal(brighter[name], plain[name])
        np.testing.assert_array_equal(flipped[name], plain[name][::-1])


def test_the_loss_is_l1_square_and_gradient_difference_where_the_map_was_measured() -> None:
    class Ramp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    def loss(batch: dict[str, torch.Tensor], gradient: float, square: float = 0.0) -> float:
        return float(mumap_loss(Ramp(), batch, weights=LossWeights(gradient, square)))

    shape = (1, 1, 4, 4, 6)
    target = torch.zeros(shape)
    offset = {"inputs": torch.full(shape, 0.25), "target": target, "valid": torch.ones(shape)}
    assert loss(offset, 0.5) == pytest.approx(0.25)
    assert loss(offset, 0.5, 4.0) == pytest.approx(0.25 + 4.0 * 0.0625)
    slope = torch.arange(6.0).expand(shape) * 0.1
    ramp = {**offset, "inputs": slope}
    assert loss(ramp, 0.6) == pytest.approx(0.25 + 0.6 * 0.1 / 3, rel=1e-5)
    wrong = slope.clone()
    wrong[..., 3:] = 99.0
    valid = torch.ones(shape)
    valid[..., 3:] = 0.0
    masked = {"inputs": wrong, "target": target, "valid": valid}
    assert loss(masked, 0.6) == pytest.approx(0.1 + 0.6 * 0.1 / 3, rel=1e-5)


def test_at_half_resolution_blocks_count_and_only_those_measured_whole() -> None:
    class Blocks(nn.Module):
        def coarse(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool3d(x, 2)

    target = torch.rand(1, 1, 4, 4, 6)
    valid = torch.ones_like(target)
    batch = {"inputs": target + 0.25, "target": target, "valid": valid}
    weights = LossWeights(0.5, 4.0)
    assert float(coarse_loss(Blocks(), batch, weights=weights)) == pytest.approx(0.25 + 4.0 * 0.0625, rel=1e-4)
    wrong = batch["inputs"].clone()
    wrong[..., 2:4] = 99.0
    valid[..., 3:4] = 0.0  # half of each block
    masked = {**batch, "inputs": wrong}
    assert float(coarse_loss(Blocks(), masked, weights=LossWeights(0.0, 4.0))) == pytest.approx(0.5, rel=1e-4)


def test_line_integrals_forgive_what_cancels_along_a_line_and_nothing_else() -> None:
    def extra(error: torch.Tensor, valid: torch.Tensor | None = None) -> float:
        batch = {
            "inputs": error,
            "target": torch.zeros_like(error),
            "valid": torch.ones_like(error) if valid is None else valid,
        }
        with_lines, without = (
            mumap_loss(nn.Identity(), batch, weights=LossWeights(0.5, 4.0, weight)) for weight in (2.0, 0.0)
        )
        return float(with_lines - without)

    even = torch.full((1, 1, 4, 6, 3), 0.25)
    checks = even * (1 - 2 * (torch.arange(4).view(4, 1, 1) + torch.arange(6).view(6, 1)).remainder(2))
    assert extra(even) == pytest.approx(2.0 * 0.25)
    assert extra(checks) == pytest.approx(0.0, abs=1e-6)
    half = torch.ones_like(even)
    half[:, :, 2:] = 0.0
    assert extra(even, half) == pytest.approx(2.0 * 0.25)
    assert extra(checks[:, :, :2], half[:, :, :2]) == pytest.approx(0.0, abs=1e-6)


def test_images_are_chosen_once_and_for_all() -> None:
    cases = [
        PackedCase(f"{p}_{d}", p, "train", d, None, Path(), (8, 8, 8), 1.0)
        for p in ("a", "b")
        for d in (5.0, 20.0, 100.0)
    ]
    chosen = chosen_images(cases, 2, seed=1)
    assert [case.participant_id for case in chosen] == ["a", "a", "b", "b"]
    assert {case.case_id for case in chosen_images(cases[::-1], 2, seed=1)} == {case.case_id for case in chosen}
    drawn = {tuple(case.case_id for case in chosen_images(cases, 1, seed=seed)) for seed in range(20)}
    assert len(drawn) > 3
    assert [array_of(name, 3) for name in ("pet", "estimate", "prior", "confidence")] == [
        "condition", "estimate2", "prior2", "confidence2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first_cm1", "floor"),
    [(MU_WATER_CM1, pytest.approx(0.6, abs=1e-3)), (0.0, LEAST_FLOOR)],
    ids=["tissue", "none yet: a first stage that has hardly learnt"],
)
def test_the_floor_is_what_the_training_bodies_tissue_has(tmp_path: Path, first_cm1: float, floor: float) -> None:
    case = PackedCase("p_5", "p", "train", 5.0, None, tmp_path, (8, 8, 8), 1.0)
    for name, value in {"mask": 1.0, "estimate1": first_cm1 / MU_WATER_CM1, "confidence1": 0.6}.items():
        case.write(name, np.full(case.shape, value, np.float32))
    assert confidence_floor([case], small()) == floor
