"""`models export`: MONAI's own commands verify and run the bundle; other runtimes compute what the networks compute."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pet_pipeline import load_model, translate
from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.mumap import OurNetSettings
from pet_pipeline.configs.schema import DenoiserSettings, DiffusionSettings, PriorSettings
from pet_pipeline.data.files import held
from pet_pipeline.errors import InputRefused, ModelError, UsageError
from pet_pipeline.inference.model_export import export_model
from pet_pipeline.inference.monai_parts import StackedDenoiser, VolumeTranslator, refuse_unlike_pet
from pet_pipeline.models import registry, runtime_files, weights
from pet_pipeline.models.weights import ModelFolder, load_folder, network

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    facts = export_model(load_folder(tiny_model), path, "monai")
    assert facts["networks"] == ["network", "prior", "axial", "coronal", "sagittal"]
    return path


def monai(bundle: Path, *arguments: str) -> str:
    """Run MONAI's bundle command in the bundle's folder; what it logs."""
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        cwd=bundle,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_a_bundle_holds_nothing_pickled_and_is_a_model_folder(bundle: Path, tiny_model: Path) -> None:
    assert load_folder(bundle / "models").description == load_folder(tiny_model).description
    suffixes = {path.suffix for path in bundle.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".yaml", ".md", ".safetensors", ""}
    assert "Apache-2.0" in (bundle / "LICENSE").read_text()


def test_the_schema_is_the_metadatas_and_refuses_others(bundle: Path) -> None:
    import jsonschema

    schema = json.loads((bundle / "configs" / "schema.json").read_text())
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    jsonschema.validate(metadata, schema)
    for damage in ({"version": 3}, {"network_data_format": {"inputs": {}, "outputs": {}}}, {"surplus": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**metadata, **damage}, schema)


def test_the_configuration_runs_and_gives_what_translate_gives(
    bundle: Path, make_pet: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    from monai.bundle import ConfigWorkflow

    place = np.array([[-4.0, 0.0, 0.3, 80.0], [0.0, 5.0, 0.0, -60.0], [0.3, 0.0, 5.0, 10.0], [0.0, 0.0, 0.0, 1.0]])
    place[:3, 2] = [0.3 * 5.0 / 4.0, 0.0, 5.0]  # at right angles: oblique, left-handed, not isotropic
    make_pet("one.nii.gz", folder=tmp_path / "in")
    make_pet("two.v2.nii.gz", folder=tmp_path / "in", affine=place)
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "bundle"),
        device="cpu",
        options={"seed": 3},
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    translate(tmp_path / "in", tmp_path / "ours", load_model(tiny_model, device="cpu"), seed=3, input_unit="suv")
    for name in ("one_acsd.nii.gz", "two.v2_acsd.nii.gz"):
        theirs, ours = nib.load(tmp_path / "bundle" / name), nib.load(tmp_path / "ours" / name)
        assert theirs.get_data_dtype() == np.float32
        np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-5)
        assert np.asarray(ours.dataobj).any()


@pytest.mark.slow
def test_monais_commands_verify_and_run_it(
    bundle: Path, make_pet: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    make_pet("one.nii.gz", folder=tmp_path / "in")
    config = ("--config_file", "configs/inference.json")
    verified = monai(
        bundle, "verify_metadata", "--meta_file", "configs/metadata.json", "--filepath", "configs/schema.json"
    )
    assert "metadata is verified with no error" in verified
    for id_, metadata, n in (
        ("network", "metadata", 1),
        ("prior", "metadata_prior", 4),
        ("axial", "metadata_axial", 4),
    ):
        meta = ("--meta_file", f"configs/{metadata}.json", "--n", str(n))
        said = monai(bundle, "verify_net_in_out", id_, *config, *meta)
        assert "data shape of network is verified with no error" in said
    folders = ("--dataset_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out"))
    monai(bundle, "run", *config, "--meta_file", "configs/metadata.json", *folders)
    translate(tmp_path / "in", tmp_path / "ours", load_model(tiny_model, device="cpu"))
    np.testing.assert_array_equal(
        nib.load(tmp_path / "out" / "one_acsd.nii.gz").get_fdata(),
        nib.load(tmp_path / "ours" / "one_acsd.nii.gz").get_fdata(),
    )


def test_a_plain_tensor_lies_on_the_models_grid(tiny_model: Path) -> None:
    whole = VolumeTranslator(load_folder(tiny_model), device="cpu", precision="fp32", options={"prior_only": True})
    images = torch.rand((2, 1, 32, 30, 28), generator=torch.Generator().manual_seed(0))
    result = whole(images)
    assert result.shape == images.shape
    assert type(result) is torch.Tensor
    torch.testing.assert_close(whole(images[1:]), result[1:])
    with pytest.raises(UsageError, match="stepz"):
        VolumeTranslator(load_folder(tiny_model), options={"stepz": 3})


def test_the_door_of_the_bundle() -> None:
    pet = torch.rand((1, 8, 8, 8), generator=torch.Generator().manual_seed(0)) * 3.0
    assert refuse_unlike_pet(pet) is pet
    for bad, reason in (
        (torch.cat([pet, pet]), "needed is one 3D volume"),
        (pet.log() * torch.inf, "NaN or infinity"),
        (pet.round(), "label map"),
    ):
        with pytest.raises(InputRefused, match=reason):
            refuse_unlike_pet(bad)


@pytest.fixture(scope="module")
def small_networks(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A prior, a denoiser with attention and noise embedding, an OUR-Net: every operation that networks here have."""
    denoiser = DenoiserSettings(
        widths=(8, 16), attention_levels=(1,), attention_head_width=8, slab_half_width=1, prior_half_width=0,
        noise_embedding=True,
    )  # fmt: skip
    our = OurNetSettings(inputs=4, under_widths=(4, 8), head_width=4, over_widths=(4,))
    networks = {
        "prior": registry.build("prior3d", PriorSettings(widths=(4, 8)).model_dump()),
        "axial": registry.build("unet25d", denoiser.model_dump()),
        "stage2": registry.build("ournet", our.model_dump()),
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for one in networks.values():
            for parameter in one.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))  # no part is silent, as zeros would be
    description = ModelDescription(
        name="parts", version="1", networks={}, diffusion=DiffusionSettings(residual_scale=0.3)
    )
    return weights.save_folder(tmp_path_factory.mktemp("networks") / "parts", description, networks)


def of_prior_alone(folder: ModelFolder) -> ModelFolder:
    networks = {"prior": folder.description.networks["prior"]}
    return ModelFolder(folder.path, folder.description.model_copy(update={"networks": networks}))


def test_stacked_channels_are_the_networks_inputs(small_networks: ModelFolder) -> None:
    one = network(small_networks, "axial")
    draw = torch.Generator().manual_seed(0)
    x_t, condition = torch.rand((2, 1, 8, 6), generator=draw), torch.rand((2, 4, 8, 6), generator=draw)
    t, nstd = torch.tensor([0.25, 0.5]), torch.tensor([0.125, 0.5])
    planes = [value[:, None, None, None].expand(2, 1, 8, 6) for value in (t, nstd)]
    stacked = torch.cat([x_t, planes[0], condition, planes[1]], dim=1)
    assert stacked.shape[1] == StackedDenoiser.channels(one)
    torch.testing.assert_close(StackedDenoiser(one)(stacked), one(x_t, t, condition, nstd))


def test_a_networks_file_reproduces_it_and_holds_no_pickle(small_networks: ModelFolder, tmp_path: Path) -> None:
    facts = export_model(of_prior_alone(small_networks), tmp_path / "out", "torch")
    (entry,) = facts["networks"].values()
    assert entry["inputs"] == {"condition": [1, 1, "2*x", "2*y", "2*z"]}
    assert entry["difference"] <= runtime_files.TOLERANCE
    assert json.loads((tmp_path / "out" / "export.json").read_text())["networks"] == facts["networks"]
    condition = torch.rand((1, 1, 10, 6, 16))  # a size that the export has not seen
    again = torch.export.load(tmp_path / "out" / "prior.pt2").module()(condition=condition)
    torch.testing.assert_close(again, network(small_networks, "prior")(condition))
    with zipfile.ZipFile(tmp_path / "out" / "prior.pt2") as archive:
        pickles = [one.filename for one in archive.infolist() if one.file_size and archive.read(one)[:2] == b"\x80\x02"]
        nested = [one.filename for one in archive.infolist() if one.file_size and archive.read(one)[:2] == b"PK"]
    assert pickles + nested == []
    with pytest.raises(UsageError, match="not empty"):
        export_model(of_prior_alone(small_networks), tmp_path / "out", "torch")


def test_what_does_not_reproduce_the_network_is_not_written(
    small_networks: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_files, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match=r"prior\.pt2: its output differs"):
        export_model(of_prior_alone(small_networks), tmp_path / "out", "torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_every_kind_of_network_at_sizes_it_has_not_seen(kind: str, small_networks: ModelFolder, tmp_path: Path) -> None:
    facts = export_model(small_networks, tmp_path / "out", kind)  # type: ignore[arg-type]
    assert {role: entry["file"].split(".")[0] for role, entry in facts["networks"].items()} == {
        role: role for role in ("prior", "axial", "stage2")
    }
    one = network(small_networks, "axial")
    draw = torch.Generator().manual_seed(1)
    given = {
        "x_t": torch.rand((5, 1, 12, 4), generator=draw), "t": torch.rand(5, generator=draw),
        "condition": torch.rand((5, 4, 12, 4), generator=draw),
        "nstd": torch.tensor([0.1, 0.2, torch.nan, 0.0, 0.4]),  # two of them unknown
    }  # fmt: skip
    path = tmp_path / "out" / facts["networks"]["axial"]["file"]
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        found = torch.from_numpy(session.run(None, {name: value.numpy() for name, value in given.items()})[0])
    else:
        found = torch.export.load(path).module()(**given)
    torch.testing.assert_close(found, one(**given), rtol=0.0, atol=runtime_files.TOLERANCE)


def test_a_mumap_model_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--format onnx or torch"):
        export_model(load_folder("phantom-mumap-5mm"), tmp_path / "out", "monai")
    assert not (tmp_path / "out").exists()


def test_a_second_export_into_one_folder_is_told_and_leftovers_go(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with held(out), pytest.raises(UsageError, match="another run is making it"):
        export_model(load_folder(tiny_model), out, "monai")
    (tmp_path / ".partial-bundle-x").mkdir()
    export_model(load_folder(tiny_model), out, "monai")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
