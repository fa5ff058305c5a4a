"""A site's own computation: it goes on after a kill, meets the schedule, leaks nothing, and learns."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from quiet_progress import silent
from sphere_cohort import settings, write_cohort

from pet_pipeline.configs.federated import SiteSettings
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated import task
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.exchange import Order, Reply
from pet_pipeline.federated.limits import BeyondLimits, batch_values, check_limits
from pet_pipeline.federated.site import Site, last_kept, preview
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.devices import choose

CPU = choose("cpu", "fp32")


@pytest.fixture(scope="module")
def manifest_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, range(5))
    return root / "manifest.tsv"


def make_site(manifest_file: Path, work: Path, **limits: object) -> Site:
    given = {"name": "site-a", "manifest": manifest_file, "work": work, "min_cases": 1, "precision": "fp32", **limits}
    return Site(SiteSettings(**given), silent)  # type: ignore[arg-type]


def train_order(round_: int = 0, *changes: str) -> Order:
    plan = settings("roles=[prior]", *changes)
    return Order("run-1", "train", 0, round_, plan, task.shared(plan, task.start_weights(plan, "prior")))


def test_two_legs_follow_the_schedule_of_one_training(manifest_file: Path, tmp_path: Path) -> None:
    site = make_site(manifest_file, tmp_path)
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: object, **kwargs: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        reply = site.answer(train_order(0))
        site.answer(train_order(1))
    from pet_pipeline.training.loop import learning_rate

    optimiser = settings().training.prior_optimiser
    assert rates == [learning_rate(n, optimiser) for n in range(4)]
    assert reply.cases == 4
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in reply.weights.values())


def test_a_leg_asked_for_again_gives_the_same_weights_without_training_again(
    manifest_file: Path, tmp_path: Path
) -> None:
    one = make_site(manifest_file, tmp_path / "one").answer(train_order())
    again = make_site(manifest_file, tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("trained again"))
        assert_same(again.answer(train_order()), one)
    assert_same(make_site(manifest_file, tmp_path / "other").answer(train_order()), one)


def assert_same(one: Reply, other: Reply) -> None:
    assert one.weights.keys() == other.weights.keys()
    assert all((one.weights[name] == other.weights[name]).all() for name in one.weights)


def test_two_sites_draw_different_examples(manifest_file: Path, tmp_path: Path) -> None:
    one = make_site(manifest_file, tmp_path / "a").answer(train_order())
    other = make_site(manifest_file, tmp_path / "b", name="site-b").answer(train_order())
    assert any((one.weights[name] != other.weights[name]).any() for name in one.weights)


def test_fedprox_keeps_a_site_nearer_to_the_global_weights(manifest_file: Path, tmp_path: Path) -> None:
    def moved(name: str, *changes: str) -> float:
        order = train_order(0, "local_steps=8", "training.prior_optimiser.steps=8", *changes)
        reply = make_site(manifest_file, tmp_path / name).answer(order)
        return sum(float(np.square(reply.weights[key] - array).sum()) for key, array in order.weights.items())

    assert moved("prox", "server.name=fedprox", "server.proximal_mu=1000") < 0.8 * moved("avg")


def test_weights_that_have_diverged_are_refused_in_plain_words(manifest_file: Path, tmp_path: Path) -> None:
    order = train_order(0)
    huge = {name: np.full_like(array, 1e30) for name, array in order.weights.items()}
    with pytest.raises(PetPipelineError, match="not finite; lower the learning rate"):
        make_site(manifest_file, tmp_path).answer(replace(order, kind="evaluate", weights=huge))


def test_no_denoiser_meets_a_patient_whom_the_prior_knows(manifest_file: Path, tmp_path: Path) -> None:
    site, plan = make_site(manifest_file, tmp_path), settings()
    site.answer(Order("run-1", "prepare", 1, 0, plan, task.start_weights(plan, "prior")))
    records = list((tmp_path / "run-1" / "packed").glob("*/prior.json"))
    assert len(records) == 3  # two of four patients, and the watched one
    for record in records:
        learnt_from = json.loads(record.read_text())["learnt_from"]
        assert json.loads((record.parent / "case.json").read_text())["participant_id"] not in learnt_from


def test_layers_kept_at_the_site_are_not_sent_and_are_used_again(manifest_file: Path, tmp_path: Path) -> None:
    site = make_site(manifest_file, tmp_path)
    changes = ("keep_local=['prior/encoder*']", "personal_steps=1")
    order = train_order(0, *changes)
    reply = site.answer(order)
    everything = task.start_weights(order.settings, "prior")
    kept = task.read_weights(last_kept(tmp_path / "run-1"))
    assert kept
    assert not (kept.keys() & reply.weights.keys())
    assert kept.keys() | reply.weights.keys() == everything.keys()
    site.answer(train_order(1, *changes))
    assert any((task.read_weights(last_kept(tmp_path / "run-1"))[k] != kept[k]).any() for k in kept)


def test_an_order_asked_again_begins_from_the_layers_that_it_began_from(manifest_file: Path, tmp_path: Path) -> None:
    changes = ("keep_local=['prior/encoder*']", "personal_steps=1", "training.prior_optimiser.steps=6")
    orders = [train_order(number, *changes) for number in range(3)]
    work = tmp_path / "run-1"
    first = [make_site(manifest_file, tmp_path).answer(order) for order in orders]
    kept = task.read_weights(last_kept(work))
    assert_same(make_site(manifest_file, tmp_path).answer(orders[-1]), first[-1])
    shutil.rmtree(work / "legs")  # trains anew, where the checkpoint would only be read again
    assert_same(make_site(manifest_file, tmp_path).answer(orders[-1]), first[-1])
    again = task.read_weights(last_kept(work))
    assert kept.keys() == again.keys()
    assert all((kept[name] == again[name]).all() for name in kept)
    assert len(list((work / "local").iterdir())) == 2


def test_layers_of_the_prior_that_stayed_at_the_site_are_in_its_estimates_and_its_model(
    manifest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[task.Weights] = []
    estimate, networks = task.estimate_prior, task.networks_of
    monkeypatch.setattr(task, "estimate_prior", lambda plan, w, *rest: used.append(w) or estimate(plan, w, *rest))
    monkeypatch.setattr(task, "networks_of", lambda plan, w: used.append(w) or networks(plan, w))
    plan = settings("keep_local=['*/encoder*', '*norm*']", "personal_steps=1", "training.diffusion.residual_scale=0.3")
    site = make_site(manifest_file, tmp_path)
    prior, axial = (task.shared(plan, task.start_weights(plan, role)) for role in ("prior", "axial"))
    site.answer(Order("run-1", "train", 0, 0, plan, prior))
    kept = task.read_weights(last_kept(tmp_path / "run-1"))
    site.answer(Order("run-1", "prepare", 1, 0, plan, prior))
    site.answer(Order("run-1", "train", 1, 0, plan, axial))
    site.answer(Order("run-1", "personalise", 1, 1, plan, {**prior, **axial}))
    assert kept
    assert len(used) == 2
    assert all((weights[name] == array).all() for weights in used for name, array in kept.items())


def test_layers_kept_at_the_site_need_a_model_of_its_own() -> None:
    with pytest.raises(UsageError, match="keep_local needs personal_steps"):
        settings("keep_local=['*norm*']", "personal_steps=0")


def test_views_without_a_prior_are_refused_since_they_could_not_be_scored() -> None:
    unaware = ("training.denoiser.prior_half_width=-1", "training.denoiser.residual_on_prior=false")
    assert settings("roles=[prior,axial]", *unaware).views == ("axial",)
    with pytest.raises(UsageError, match="start from a prior's estimate, so add prior"):
        settings("roles=[axial]", *unaware)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_steps": 1}, "max_steps=1"),
        ({"roles": ("axial",)}, "roles="),
        ({"min_sites": 3}, "min_sites=3"),
        ({"require_privacy": True}, "require_privacy"),
        ({"max_parameters": 10}, "max_parameters=10"),
        ({"min_cases": 10}, "4 training cases, needed are 10"),
    ],
)
def test_an_order_beyond_the_sites_limits_is_refused_and_written_down(
    limits: dict[str, object], limit: str, manifest_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=limit):
        make_site(manifest_file, tmp_path, **limits).answer(train_order())
    (line,) = read_audit(tmp_path / "audit.jsonl")
    assert line["event"] == "refused"
    assert limit in line["reason"]


@pytest.mark.parametrize(
    ("limits", "changes", "told"),
    [
        ({"tasks": ("ndif",)}, [], "permits tasks=['ndif'], the order asks for prior"),
        ({}, ["training.grid.spacing_mm=[5, 5, 0.05]"], "permits min_spacing_mm=1.0, the order asks for 0.05"),
        ({}, ["training.prior.widths=[4, 40000]"], "permits max_parameters=200000000, the order asks for 17280"),
        ({}, ["training.prior.widths=[4, 4000000000]", "training.prior.blocks=16"], "networks that cannot be built"),
        ({}, ["training.prior_optimiser.batch=100000"], "permits max_batch_values=100000000, the order asks for 1638"),
        ({}, ["training.prior_optimiser.patch=[16, 16, 1000000]"], "permits max_batch_values=100000000"),
        ({}, ["roles=[prior,axial]", "training.denoiser_optimiser.crop=20000"], "permits max_batch_values"),
        ({}, ["roles=[prior,axial]", "training.denoiser.slab_half_width=500000"], "permits max_batch_values"),
    ],
)
def test_settings_that_would_exhaust_the_machine_are_refused_before_anything_is_built(
    limits: dict[str, object], changes: list[str], told: str, manifest_file: Path, tmp_path: Path
) -> None:
    order = Order("run-1", "prepare", 0, 0, settings("roles=[prior]", *changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "_answer", lambda *_: pytest.fail("began to work"))
        with pytest.raises(UsageError, match=re.escape(told)) as refused:
            make_site(manifest_file, tmp_path, **limits).answer(order)
    assert "\n" not in str(refused.value)
    (line,) = read_audit(tmp_path / "audit.jsonl")
    assert told in line["reason"]


def private_order(**privacy: float) -> Order:
    given = {"clip_norm": 1.0, "noise_multiplier": 4.0, "max_epsilon": 1e300, **privacy}
    plan = settings("roles=[prior]", "server.weighting=equal", f"privacy={json.dumps(given)}")
    return Order("run-1", "train", 0, 0, plan, task.start_weights(plan, "prior"))


@pytest.mark.parametrize(
    ("privacy", "limits", "told"),
    [
        ({"clip_norm": 1e9, "noise_multiplier": 1e-9, "delta": 0.999}, {}, "permits max_delta=0.0001"),
        ({"clip_norm": 1e9, "noise_multiplier": 1e-9}, {}, "permits max_epsilon=10.0"),
        ({"noise_multiplier": 0.4}, {}, "permits max_epsilon=10.0"),
        ({}, {"max_epsilon": 0.5}, "permits max_epsilon=0.5"),
        ({"delta": 1e-6}, {"max_delta": 1e-7}, "permits max_delta=1e-07"),
        ({}, {}, None),
        ({"noise_multiplier": 0.4}, {"max_epsilon": 100.0}, None),
    ],
)
def test_privacy_that_is_none_is_refused_where_it_is_required(
    privacy: dict[str, float], limits: dict[str, float], told: str | None, manifest_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("dp_accounting")
    site = SiteSettings(name="site-a", manifest=manifest_file, require_privacy=True, **limits)
    if told is None:
        check_limits(private_order(**privacy), site)
        return
    with pytest.raises(BeyondLimits, match=re.escape(told)):
        check_limits(private_order(**privacy), site)
    check_limits(private_order(**privacy), site.model_copy(update={"require_privacy": False}))


def test_without_an_accountant_required_privacy_is_refused_by_the_name_of_the_extra(
    manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    site = SiteSettings(name="site-a", manifest=manifest_file, require_privacy=True)
    with pytest.raises(UsageError, match=r"pet-pipeline\[federated,privacy\]"):
        check_limits(private_order(), site)


def test_more_rounds_than_the_plan_has_are_refused(manifest_file: Path, tmp_path: Path) -> None:
    for number in (-1, 2):
        with pytest.raises(BeyondLimits, match="the plan has 2 of this phase"):
            make_site(manifest_file, tmp_path).answer(train_order(number))


def test_parameters_are_counted_as_the_networks_have_them() -> None:
    plan = settings("roles=[prior,axial,coronal]")
    weights = [array for role in plan.roles for array in task.start_weights(plan, role).values()]
    assert task.parameters_of(plan) == sum(array.size for array in weights)


def test_the_largest_layer_of_a_step_is_the_one_that_the_networks_make() -> None:
    plan = settings("roles=[prior,axial]", "training.prior.widths=[4, 200]", "training.denoiser.widths=[8, 64]")
    seen: dict[str, int] = {}
    inputs = {"prior": (torch.zeros(1, 1, 16, 16, 16),)}
    inputs["axial"] = (torch.zeros(2, 1, 16, 16), torch.zeros(2), torch.zeros(2, 6, 16, 16))
    for role, given in inputs.items():
        network = task.network_of(plan, role, {})
        for module in network.modules():
            module.register_forward_hook(
                lambda _m, _i, out, role=role: (
                    seen.update({role: max(seen.get(role, 0), out.numel())})
                    if isinstance(out, torch.Tensor) and out.ndim > 2
                    else None
                )
            )
        network(*given)
    assert {role: batch_values(plan, role) for role in inputs} == seen


def test_a_preview_shows_what_the_real_answers_hold(manifest_file: Path, tmp_path: Path) -> None:
    shown = dict(preview(make_site(manifest_file, tmp_path), settings()))
    assert list(shown) == [f"phase {n}, {kind}" for n in (1, 2) for kind in ("prepare", "train", "evaluate")]
    assert shown["phase 1, train"].weights.keys() == task.start_weights(settings(), "prior").keys()
    assert set(shown["phase 2, train"].figures) == {"axial/loss", "axial/psnr_db", "axial/nmse"}
    assert not shown["phase 2, evaluate"].weights


def test_a_personal_model_translates(manifest_file: Path, tmp_path: Path) -> None:
    plan = settings("personal_steps=2", "training.diffusion.residual_scale=0.3")
    site = make_site(manifest_file, tmp_path)
    prior, axial = (task.start_weights(plan, role) for role in ("prior", "axial"))
    site.answer(Order("run-1", "prepare", 1, 0, plan, prior))
    reply = site.answer(Order("run-1", "personalise", 1, 2, plan, {**prior, **axial}))
    assert set(reply.figures) == {
        f"{when}/axial/{name}" for when in ("before", "after") for name in ("psnr_db", "nmse")
    }
    assert not reply.weights
    translator = Translator.load(tmp_path / "run-1" / "model", device="cpu", precision="fp32")
    assert translator.model.description.seen
