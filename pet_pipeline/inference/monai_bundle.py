"""A model folder as a MONAI bundle: its own configuration around the same safetensors files, nothing pickled.

`models/` is the model folder itself, so that checksums are verified whenever the bundle is loaded, and
`pet-pipeline translate --model BUNDLE/models` works too.
"""

import json
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from pet_pipeline._version import __version__
from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.files import write_json, write_text
from pet_pipeline.errors import ModelError
from pet_pipeline.inference.monai_parts import StackedDenoiser
from pet_pipeline.models.card import model_card
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.models.weights import CARD_FILE, ModelFolder, copy_folder, network

SCHEMA_FILE = "schema.json"
"""Beside metadata.json: MONAI finds it there and downloads none."""

_PARTS = "pet_pipeline.inference.monai_parts"

_LEAST_MULTIPLE = 32
"""Voxels a side of the fake volume with which MONAI verifies the whole: it must hold a body."""


def write_bundle(folder: ModelFolder, destination: Path) -> tuple[str, ...]:
    """Write a bundle into an existing folder.

    Args:
        folder: a model of `translate`.
        destination: where configs, models, docs and LICENSE go.

    Returns:
        The ids of the networks in `configs/inference.json`: `network` is the whole, the others its parts.

    Raises:
        ModelError: a mu-map model.
    """
    description = folder.description
    if description.task == "mumap":
        raise ModelError(
            f"{description.name}: the stages of a mu-map model meet in a registration, which is no part of a MONAI "
            "bundle; needed is --format onnx or torch, or a model of translate"
        )
    configs = destination / "configs"
    write_json(configs / "metadata.json", _metadata(description))
    schema = resources.files("pet_pipeline.inference").joinpath("static", "bundle_metadata_schema.json")
    write_text(configs / SCHEMA_FILE, schema.read_text(encoding="utf-8"))
    parts = {role: network(folder, role) for role in description.networks}
    write_json(configs / "inference.json", _inference({role: isinstance(one, UNet25d) for role, one in parts.items()}))
    for role, one in parts.items():
        channels = StackedDenoiser.channels(one) if isinstance(one, UNet25d) else 1
        spatial = [f"{one.multiple} * n"] * (2 if isinstance(one, UNet25d) else 3)
        write_json(configs / f"metadata_{role}.json", {"network_data_format": _data_format(channels, spatial)})
    copy_folder(folder, destination / "models")
    write_text(destination / "docs" / "README.md", _readme(folder))
    write_text(destination / "LICENSE", _licence(description))
    return ("network", *parts)


def _metadata(description: ModelDescription) -> dict[str, Any]:
    return {
        "schema": SCHEMA_FILE,
        "version": description.version,
        "changelog": {description.version: f"exported by pet-pipeline {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        "numpy_version": np.__version__,
        "required_packages_version": {
            "pet-pipeline": __version__,
            **{name: metadata.version(name) for name in ("nibabel", "safetensors")},
            "pytorch-ignite": "0.5.1",
        },
        "name": description.name,
        "task": "translation of low-dose PET to attenuation-corrected standard-dose PET",
        "description": "pet-pipeline's translator: body box, 3D prior, 2.5D diffusion in three views, back on the grid",
        "authors": "The pet-pipeline developers",
        "copyright": f"licence {description.licence}",
        "data_source": json.dumps(description.training, default=str),
        "data_type": "nibabel",
        "image_classes": "PET in SUV, Bq/mL or relative units",
        "pred_classes": "attenuation-corrected standard-dose PET, in the unit of the image",
        "eval_metrics": description.figures,
        "intended_use": description.intended_use,
        "network_data_format": _data_format(1, [f"{_LEAST_MULTIPLE} * n"] * 3),
    }


def _data_format(channels: int, spatial: list[str]) -> dict[str, Any]:
    """What MONAI calls the format of a network's one input and one output."""
    common = {
        "type": "image",
        "format": "magnitude",
        "modality": "PT",
        "spatial_shape": spatial,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
    }
    return {
        "inputs": {"image": {**common, "num_channels": channels, "channel_def": {"0": "image"}}},
        "outputs": {"pred": {**common, "num_channels": 1, "channel_def": {"0": "prediction"}}},
    }


def _inference(denoisers: dict[str, bool]) -> dict[str, Any]:
    """The workflow, and each network by its role (true: a denoiser of slices)."""
    networks: dict[str, Any] = {}
    for role, stacked in denoisers.items():
        loaded = {"_target_": "pet_pipeline.models.weights.network", "folder": "@model", "role": role}
        networks[role] = {"_target_": f"{_PARTS}.StackedDenoiser", "network": loaded} if stacked else loaded
    return {
        "imports": ["$import glob", "$import os", f"$import {_PARTS} as parts"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/dataset'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "precision": "auto",
        "options": {"seed": 0},
        "model": {"_target_": "pet_pipeline.models.weights.load_folder", "source": "$@bundle_root + '/models'"},
        "network_def": {
            "_target_": f"{_PARTS}.VolumeTranslator",
            "model": "@model",
            "device": "$str(@device)",
            "precision": "@precision",
            "options": "@options",
        },
        "network": "$@network_def.to(@device)",
        **networks,
        "preprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {"_target_": "monai.transforms.LoadImaged", "keys": "image", "reader": "NibabelReader"},
                {"_target_": "monai.transforms.EnsureChannelFirstd", "keys": "image"},
                {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": "$parts.refuse_unlike_pet"},
            ],
        },
        "dataset": {
            "_target_": "monai.data.Dataset",
            "data": "$[{'image': path} for path in sorted(glob.glob(os.path.join(@dataset_dir, '*.nii*')))]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "monai.data.DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "postprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {
                    "_target_": "monai.transforms.SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_postfix": "acsd",
                    "output_dtype": "float32",
                    "resample": False,
                    "separate_folder": False,
                }
            ],
        },
        "evaluator": {
            "_target_": "monai.engines.SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }


def _readme(folder: ModelFolder) -> str:
    card = folder.path / CARD_FILE
    text = card.read_text(encoding="utf-8") if card.is_file() else model_card(folder.description)
    return f"""{text.rstrip()}

## This bundle

Written by pet-pipeline {__version__}, which must be installed: `pip install 'pet-pipeline[export]'`. In this folder:

```sh
CONFIG=configs/inference.json
python -m monai.bundle run --config_file $CONFIG --meta_file configs/metadata.json \\
    --dataset_dir FOLDER_OF_NIFTI --output_dir OUT
python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath configs/{SCHEMA_FILE}
python -m monai.bundle verify_net_in_out network --config_file $CONFIG --meta_file configs/metadata.json
python -m monai.bundle verify_net_in_out prior --config_file $CONFIG --meta_file configs/metadata_prior.json --n 4
```

`OUT/X_acsd.nii.gz` has the voxels that `pet-pipeline translate X.nii.gz --model models` writes. That command also reads
DICOM and sidecars, knows units, isolates a bad file from the rest, resumes, and writes where each result came from.
"""


def _licence(description: ModelDescription) -> str:
    """The licence's name and, for that of the package, its text."""
    line = f"The weights of {description.name} {description.version}: SPDX-License-Identifier: {description.licence}\n"
    try:
        distribution = metadata.distribution("pet-pipeline")
    except metadata.PackageNotFoundError:
        return line
    if distribution.metadata["License-Expression"] != description.licence:
        return line
    return f"{line}\n{distribution.read_text('licenses/LICENSE') or ''}"
