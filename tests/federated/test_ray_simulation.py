"""The federation on Flower's own simulation: the same bits as in one process, and nothing left running."""

import json
import subprocess
from pathlib import Path

import pytest
from sphere_cohort import SMALL, settings, write_cohort

pytest.importorskip("flwr")

from flwr.proto.node_pb2 import NodeInfo
from test_guard import bundle

from pet_pipeline.cli.federated_simulate import simulate
from pet_pipeline.errors import UsageError
from pet_pipeline.federated import deployment, guard, ray_simulation, simulated_apps
from pet_pipeline.federated.codec import decode_order
from pet_pipeline.federated.exchange import Order
from pet_pipeline.models.weights import load_folder

COHORTS = {"site-a": range(4), "site-b": range(10, 13), "site-c": range(20, 23)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_sites_on_ray_learn_bit_for_bit_the_model_of_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other numbers of threads sum in another order
    for name, numbers in COHORTS.items():
        write_cohort(tmp_path / name, numbers)
    data = [tmp_path / name / "manifest.tsv" for name in COHORTS]
    results = {}
    for name, ray in (("one", False), ("ray", True)):
        plan = [*SMALL, "roles=[prior]", "wait_s=300", "personal_steps=2", "training.device=cpu"]
        simulate(tmp_path / name, data, None, "tiny-federated", plan, False, 1, ray, None, None, True)
        said = capsys.readouterr()
        results[name] = json.loads(said.out)
        for site in COHORTS:
            assert f"{site}: 6/6" in said.err
        assert "phase 1, round 2 of 2: site-a, site-b, site-c" in said.err
    one, ray_ = (load_folder(Path(results[name]["model"])).description.networks for name in results)
    assert one["prior"].sha256 == ray_["prior"].sha256
    assert results["one"]["personal"] == results["ray"]["personal"]
    assert set(results["ray"]["personal"]) == set(COHORTS)
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout == b""
    assert subprocess.run(["pgrep", "-f", "/pet-ray-"], capture_output=True, check=False).stdout == b""


def test_a_real_site_refuses_the_bundle_of_a_simulation(tmp_path: Path) -> None:
    deployment.write_bundle(tmp_path, ray_simulation.COMPONENTS, 'folder = ""\nsites = ""\n')
    with pytest.raises(UsageError, match="components"):
        guard.check_bundle(bundle(**{"pyproject.toml": (tmp_path / "pyproject.toml").read_text()}))


def test_nodes_without_names_are_told_whose_work_they_do() -> None:
    class Grid:
        def get_nodes(self) -> list[NodeInfo]:
            return [NodeInfo(node_id=number) for number in self.numbers]

        numbers = (7,)

    grid = Grid()
    fleet = simulated_apps.SimulatedFleet(grid, names=["north", "south"])
    assert fleet.present() == []  # Flower registers its nodes after the server's part has begun
    grid.numbers = (7, 3)
    assert fleet.present() == ["north", "south"]
    order = Order("run-1", "prepare", 0, 0, settings())
    record = fleet._record("south", order)
    assert record.config_records[simulated_apps.SITES][simulated_apps.SITES] == "south"
    assert decode_order(record).name == order.name


def test_lines_are_told_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    path, seen = tmp_path / "steps.tsv", {}
    assert ray_simulation._new_lines(path, seen) == []
    path.write_text("1\ta\n1\t")
    assert ray_simulation._new_lines(path, seen) == ["1\ta"]
    assert ray_simulation._new_lines(path, seen) == []
    path.write_text("1\ta\n1\tb\n")
    assert ray_simulation._new_lines(path, seen) == ["1\tb"]


def test_more_cores_a_site_than_there_are_and_no_ray_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = {name: write_cohort(tmp_path / name, range(3)) for name in ("a", "b")}

    def begin(share: ray_simulation.Share) -> None:
        ray_simulation.run(
            manifests, settings(), tmp_path / "run", workers=1, share=share, resume=False,
            tick=lambda *_: None, report=lambda _: None,
        )  # fmt: skip

    with pytest.raises(UsageError, match=r"10000 cores for a site"):
        begin(ray_simulation.Share(cpus=10_000))
    monkeypatch.setattr(ray_simulation, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pet-pipeline\[federated,ray\]"):
        begin(ray_simulation.Share())
    assert not (tmp_path / "run").exists()
