"""The whole federation in one process, as `federated simulate` runs it."""

import json
from pathlib import Path

import pytest
from sphere_cohort import settings, write_cohort

from pet_pipeline.errors import UsageError
from pet_pipeline.federated import simulation
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import load_folder


def test_prior_and_view_are_learnt_by_two_sites_and_each_ends_with_its_own_model(tmp_path: Path) -> None:
    plan = settings("personal_steps=2")
    steps: dict[str, float] = {}

    def tick(site: str, done: float = 1, note: str = "") -> None:
        steps[site] = steps.get(site, 0) + done

    manifests = {name: write_cohort(tmp_path / name, numbers) for name, numbers in
                 (("site-a", range(4)), ("site-b", range(10, 13)))}  # fmt: skip
    sites = simulation.make_sites(manifests, tmp_path / "run" / "sites", plan, workers=1, tick=tick)
    outcome = Coordinator(plan, simulation.InProcessFleet(sites), tmp_path / "run").run()
    assert steps == dict.fromkeys(manifests, simulation.steps_a_site(plan))
    assert outcome.model is not None
    description = load_folder(outcome.model).description
    assert set(description.networks) == {"prior", "axial"}
    assert description.diffusion.residual_scale is not None
    assert description.sampler.views == ("axial",)
    Translator.load(outcome.model, device="cpu", precision="fp32")
    assert set(outcome.personal) == {"site-a", "site-b"}
    (personal,) = (tmp_path / "run" / "sites" / "site-b").glob("run-*/model")
    own, common = load_folder(personal).description.networks, description.networks
    assert own["prior"].sha256 == common["prior"].sha256
    assert own["axial"].sha256 != common["axial"].sha256
    for site in manifests:
        text = (tmp_path / "run" / "sites" / site / "audit.jsonl").read_text()
        assert "p1" not in json.dumps([line.get("figures") for line in map(json.loads, text.splitlines())])
        assert {line["event"] for line in read_audit(tmp_path / "run" / "sites" / site / "audit.jsonl")} == {"answered"}


def test_a_cohort_is_divided_by_participants(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path, range(9), val=2)
    parts = simulation.divide(manifest, 3)
    people = [{case.participant_id for case in part.cases} for part in parts.values()]
    assert set().union(*people) == {case.participant_id for case in manifest.cases}
    assert sum(map(len, people)) == 9
    assert [sum(case.split == "train" for case in part.cases) for part in parts.values()] == [3, 2, 2]
    with pytest.raises(UsageError, match="7 training participants for 8 sites"):
        simulation.divide(manifest, 8)
