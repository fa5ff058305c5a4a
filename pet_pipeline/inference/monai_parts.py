"""A model as MONAI's bundles want it: one tensor in, one out. The configuration of an exported bundle names these.

MONAI's data loader gives a `MetaTensor`, whose affine (RAS+, mm) and file name say where the voxels lie and which case
they are; of a plain tensor, the grid is the model's own and the case has no name.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch
from monai.utils import convert_to_dst_type
from torch import Tensor, nn

from pet_pipeline.data import nifti
from pet_pipeline.data.door import inspect_pet
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.options import TranslateOptions, checked
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.models.weights import ModelFolder
from pet_pipeline.units import Unit

log = logging.getLogger(__name__)


class VolumeTranslator(nn.Module):
    """The whole of `translate`, crop to crop back: PET (B, 1, x, y, z) on any grid -> the same on that grid.

    The noise depends on the seed and the file's name, as in `pet-pipeline translate`: both give the same voxels. The
    networks stay on `device`, whatever the module is moved to; the result is where the input was.

    Args:
        model: an opened folder.
        device: auto, cpu, cuda or cuda:i.
        precision: auto, bf16, fp16 or fp32.
        options: fields of `TranslateOptions`, e.g. {"seed": 1, "steps": 4}.
    """

    def __init__(
        self,
        model: ModelFolder,
        device: str = "auto",
        precision: str = "auto",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._translator = Translator.load(model, device=device, precision=precision)
        self._options = checked(TranslateOptions, **(options or {}))

    def forward(self, image: Tensor) -> Tensor:
        """Translate every volume of the batch.

        Raises:
            InputRefused: a grid that the model cannot take, or no activity in the body.
        """
        translated = torch.stack([self._translate(one) for one in decollate_batch(image)])
        result: Tensor = convert_to_dst_type(translated, image)[0]
        return result

    def _translate(self, image: Tensor) -> Tensor:
        """(1, x, y, z) -> the same."""
        name = _name(image)
        result = self._translator.translate(self._volume(image), self._options, "case" if name is None else name)
        for warning in result.warnings:
            log.warning("%s: %s", name, warning)
        return torch.from_numpy(np.ascontiguousarray(result.volume.data))[None]

    def _volume(self, image: Tensor) -> Volume:
        data = torch.as_tensor(image).cpu().numpy()[0]
        if isinstance(image, MetaTensor):
            geometry = Geometry(data.shape, image.affine.cpu().numpy().astype(np.float64))
        else:
            geometry = Geometry.regular(data.shape, self._translator.model.description.grid.spacing_mm)
        return Volume(data, geometry, Unit.RELATIVE)  # a model's scales come from the volume itself


class StackedDenoiser(nn.Module):
    """A denoiser whose inputs are the channels of one tensor, each of them a whole slice.

    Channels: the noisy slice, the diffusion time in [0, 1], the condition slab, and for a network with noise embedding
    the noise level; times and levels are constant over a slice.

    Args:
        network: from a model folder.
    """

    def __init__(self, network: UNet25d) -> None:
        super().__init__()
        self.network = network

    @staticmethod
    def channels(network: UNet25d) -> int:
        """How many channels the tensor has."""
        return 2 + network.settings.condition_channels + int(network.settings.noise_embedding)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) -> the objective's prediction (B, 1, H, W)."""
        last = 2 + self.network.settings.condition_channels
        nstd = image[:, last].mean((1, 2)) if self.network.settings.noise_embedding else None
        prediction: Tensor = self.network(image[:, :1], image[:, 1].mean((1, 2)), image[:, 2:last], nstd)
        return prediction


def refuse_unlike_pet(image: Tensor) -> Tensor:
    """Give a volume (1, x, y, z) back if `translate` would take its voxels.

    Raises:
        InputRefused: several frames, NaN or infinity, or voxels that are not those of a PET.
    """
    name, data = _name(image) or "image", torch.as_tensor(image).cpu().numpy()
    if data.ndim != 4 or data.shape[0] != 1:
        raise InputRefused(f"{name}: shape {data.shape} found; needed is one 3D volume")
    if not np.isfinite(data).all():
        raise InputRefused(f"{name}: NaN or infinity found; needed are numbers")
    volume = Volume(data[0], Geometry.regular(data.shape[1:], (1.0, 1.0, 1.0)), Unit.RELATIVE)
    for warning in inspect_pet(volume, name):
        log.warning("%s: %s", name, warning)
    return image


def _name(image: Tensor) -> str | None:
    """The file's name without suffix, which names the case."""
    path = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return None if not path else nifti.stem(Path(str(path)))
