"""Model folders: round trip, checksums, faults; and the registry."""

from pathlib import Path

import pytest
import torch

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.schema import DenoiserSettings, PriorSettings
from pet_pipeline.data.files import held
from pet_pipeline.errors import ModelError, UsageError
from pet_pipeline.models import weights
from pet_pipeline.models.prior3d import Prior3d
from pet_pipeline.models.registry import build, parameter_count
from pet_pipeline.models.unet25d import UNet25d

DENOISER = DenoiserSettings(widths=(4, 8), attention_levels=(), slab_half_width=1)


def save(path: Path, **options: object) -> weights.ModelFolder:
    torch.manual_seed(1)
    networks = {"prior": Prior3d(PriorSettings(widths=(4, 8))), "axial": UNet25d(DENOISER)}
    for network in networks.values():
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    description = ModelDescription(name="trial", version="1", networks={}, training={"cases": 3})
    return weights.save_folder(path, description, networks, "# Trial\n", **options)  # type: ignore[arg-type]


def test_round_trip_is_exact_in_float32(tmp_path: Path) -> None:
    saved = save(tmp_path / "model")
    opened = weights.load_folder(tmp_path / "model")
    assert opened.description == saved.description
    assert opened.description.training == {"cases": 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]  # nothing left of the staging
    network = weights.network(opened, "axial")
    torch.manual_seed(1)
    for parameter in Prior3d(PriorSettings(widths=(4, 8))).parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    assert not network.training
    assert network.settings == DENOISER
    assert opened.description.networks["axial"].parameters == parameter_count(network)
    again = weights.save_folder(
        tmp_path / "again", opened.description, {role: weights.network(opened, role) for role in ("prior", "axial")}, ""
    )
    assert {r: n.sha256 for r, n in again.description.networks.items()} == {
        r: n.sha256 for r, n in opened.description.networks.items()
    }


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_disk_loads_as_float32(tmp_path: Path, dtype: str) -> None:
    exact = weights.network(save(tmp_path / "exact"), "axial")
    half = weights.network(save(tmp_path / "half", dtype=dtype), "axial")
    size = (tmp_path / "half" / "prior.safetensors").stat().st_size
    assert size < 0.75 * (tmp_path / "exact" / "prior.safetensors").stat().st_size
    for name, value in half.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact.state_dict()[name], rtol=2**-8, atol=1e-6)


def test_saving_replaces_an_older_model_whole(tmp_path: Path) -> None:
    save(tmp_path / "model")
    (tmp_path / "model" / "stray").write_text("old")
    save(tmp_path / "model", dtype="float16")
    assert not (tmp_path / "model" / "stray").exists()
    assert weights.load_folder(tmp_path / "model").description.networks["prior"].dtype == "float16"


def test_one_changed_byte_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "model")
    file = tmp_path / "model" / "axial.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"axial\.safetensors: SHA-256") as caught:
        weights.load_folder(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_missing_weights_description_and_roles(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    with pytest.raises(ModelError, match=r"no network 'coronal'; has axial, prior"):
        weights.network(folder, "coronal")
    (tmp_path / "model" / "prior.safetensors").unlink()
    with pytest.raises(ModelError, match=r"prior\.safetensors: weights of 'prior' are missing"):
        weights.load_folder(tmp_path / "model")
    (tmp_path / "model" / "model.yaml").unlink()
    with pytest.raises(ModelError, match="not found, so this folder is no model"):
        weights.load_folder(tmp_path / "model")


def test_an_unknown_name_lists_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "builtin" / "some-model")
    monkeypatch.setattr(weights, "_builtin_root", lambda: tmp_path / "builtin")
    assert weights.builtin_names() == ["some-model"]
    assert weights.load_folder("some-model").description.name == "trial"
    with pytest.raises(ModelError, match=r"no-such: .*some-model"):
        weights.load_folder("no-such")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: trial", "nome: trial", "name: Field required"),
        ("task: madm", "task: other", "task: Input should be 'madm'"),
        ("file: axial.safetensors", "file: ../axial.safetensors", "plain name"),
        ("name: trial", "name: [", "cannot be read"),
        ("architecture: unet25d", "architecture: os.system", "architecture 'os.system' is not known"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    save(tmp_path / "model")
    file = tmp_path / "model" / "model.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError, match=message) as caught:
        weights.network(weights.load_folder(tmp_path / "model"), "axial")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "model")
    file = tmp_path / "model" / "model.yaml"
    file.write_text(file.read_text().replace("slab_half_width: 1", "slab_half_width: 2"))
    with pytest.raises(ModelError, match="does not hold the weights of a unet25d"):
        weights.network(weights.load_folder(tmp_path / "model"), "axial")


def test_values_that_the_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    network = Prior3d(PriorSettings(widths=(4, 8)))
    torch.nn.init.constant_(network.stem.bias, 1e6)  # type: ignore[arg-type]
    description = ModelDescription(name="trial", version="1", networks={})
    with pytest.raises(ModelError, match=r"stem\.bias"):
        weights.save_folder(tmp_path / "model", description, {"prior": network}, "", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_registry_names_what_is_wrong() -> None:
    assert isinstance(build("unet25d", {"widths": [4, 8], "attention_levels": []}), UNet25d)
    with pytest.raises(ModelError, match="known are muunet, ournet, prior3d, sketchnet, unet25d, uptakenet"):
        build("unet", {})
    with pytest.raises(ModelError, match="settings of prior3d: depth"):
        build("prior3d", {"depth": 3})


def test_a_model_that_a_killed_run_had_put_aside_is_found_again(tmp_path: Path) -> None:
    model = save(tmp_path / "model").path
    aside = tmp_path / ".partial-model-x"
    aside.mkdir()
    model.rename(aside / "replaced")
    assert weights.load_folder(model).description.name == "trial"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_another_run_is_writing_is_left_to_it(tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in save(tmp_path / "model").path.iterdir()}
    with held(tmp_path / "model"), pytest.raises(UsageError, match="another run is making it"):
        save(tmp_path / "model")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == before
