"""The whole federation in one process, as `federated simulate` runs it."""

import json
from pathlib import Path

import pytest
from sphere_cohort import SMALL, write_cohort

from pet_pipeline.cli.federated_simulate import simulate
from pet_pipeline.data.files import held
from pet_pipeline.errors import UsageError
from pet_pipeline.federated import simulation
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import load_folder


def test_prior_and_view_are_learnt_by_two_sites_and_each_ends_with_its_own_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, numbers in (("site-a", range(4)), ("site-b", range(10, 13))):
        write_cohort(tmp_path / name, numbers)
    data = [tmp_path / name / "manifest.tsv" for name in ("site-a", "site-b")]
    simulate(
        tmp_path / "run", data, None, "tiny-federated", [*SMALL, "personal_steps=2"], False, 1, False, None, None, True
    )
    said = capsys.readouterr()
    result = json.loads(said.out)
    for name in ("site-a", "site-b"):  # four steps of each network, two of its own
        assert f"{name}: 10/10" in said.err
        assert set(result["personal"][name]) >= {"before/axial/psnr_db", "after/axial/psnr_db"}
    description = load_folder(Path(result["model"])).description
    assert set(description.networks) == {"prior", "axial"}
    assert description.diffusion.residual_scale is not None
    assert description.sampler.views == ("axial",)
    Translator.load(result["model"], device="cpu", precision="fp32")
    (personal,) = (tmp_path / "run" / "sites" / "site-b").glob("run-*/model")
    own, common = load_folder(personal).description.networks, description.networks
    assert own["prior"].sha256 == common["prior"].sha256
    assert own["axial"].sha256 != common["axial"].sha256
    for name in ("site-a", "site-b"):
        log = tmp_path / "run" / "sites" / name / "audit.jsonl"
        assert {line["event"] for line in read_audit(log)} == {"answered"}
        assert "sub-" not in log.read_text()


def test_what_a_run_has_is_left_alone_by_one_that_is_refused(tmp_path: Path) -> None:
    data = [write_cohort(tmp_path / "cohort", range(6), val=2).root / "manifest.tsv"]

    def begin(*changes: str, sites: int = 2) -> None:
        plan = [*SMALL, "roles=[prior]", *changes]
        simulate(tmp_path / "run", data, sites, "tiny-federated", plan, False, 1, False, None, None, True)

    begin()
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="holds a run already"):
        begin(sites=3)
    with held(tmp_path / "run" / "settings.yaml"), pytest.raises(UsageError, match="another run is making it"):
        begin()
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("simulated", [True, False])
def test_models_of_simulated_patients_say_so(simulated: bool, tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", range(6), val=2)
    if simulated:
        (tmp_path / "cohort" / "dataset_description.json").write_text('{"Simulated": true}')
    plan = [*SMALL, "roles=[prior]", "personal_steps=1"]
    data = [cohort.root / "manifest.tsv"]
    simulate(tmp_path / "run", data, 2, "tiny-federated", plan, False, 1, False, None, None, True)
    models = [tmp_path / "run" / "model", *(tmp_path / "run" / "sites").glob("*/run-*/model")]
    assert [load_folder(path).description.demonstration for path in models] == [simulated] * 3


@pytest.mark.parametrize("name", ["../../escape", "n/a", "", "..", "a b", "/tmp"])
def test_a_site_with_a_name_that_is_no_folders_is_refused(name: str, tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", range(3), site=name)
    with pytest.raises(UsageError, match="needed are plain names"):
        simulation.assign_data([cohort], None)
    assert len(simulation.assign_data([cohort], 2)) == 2
    data = [write_cohort(tmp_path / folder, range(3)) for folder in ("north", "the south")]
    with pytest.raises(UsageError, match="a site called 'the south'"):
        simulation.assign_data(data, None)


def test_shares_of_the_machine_without_ray_are_refused(tmp_path: Path) -> None:
    for cpus, gpus in ((2, None), (None, 0.5)):
        with pytest.raises(UsageError, match="only with --ray"):
            simulate(tmp_path / "run", [], None, "tiny-federated", [], False, 1, False, cpus, gpus, True)


def test_a_cohort_is_divided_by_participants(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path, range(9), val=2)
    parts = simulation.divide(manifest, 3)
    people = [{case.participant_id for case in part.cases} for part in parts.values()]
    assert set().union(*people) == {case.participant_id for case in manifest.cases}
    assert sum(map(len, people)) == 9
    assert [sum(case.split == "train" for case in part.cases) for part in parts.values()] == [3, 2, 2]
    with pytest.raises(UsageError, match="7 training participants for 8 sites"):
        simulation.divide(manifest, 8)
