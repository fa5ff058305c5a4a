"""Model folders: their description as a whole, its blocks that are used elsewhere, and their weights."""

import shutil
from pathlib import Path

import numpy as np
import yaml
from harness import Reader
from mutations import of_block, of_bytes, of_text

from pet_pipeline.configs.model import ModelDescription, NetworkDescription, UnusualDescription
from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.configs.uncertainty import SIGNS, Calibration, Curve
from pet_pipeline.configs.unusual import KINDS
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.uncertainty import calibrated_deviation
from pet_pipeline.inference.unusual import Watch
from pet_pipeline.models import registry, weights
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.uptakenet import UptakeNet
from pet_pipeline.models.watchers import Watchers
from pet_pipeline.units import Unit


def _make_model(folder: Path) -> None:
    prior = registry.build("prior3d", {"widths": (4, 8)})
    sketch = registry.build("sketchnet", {"widths": (2, 2, 2)})
    uptake = registry.build("uptakenet", {"widths": (2, 2, 2), "organs": ("liver",)})
    assert isinstance(sketch, SketchNet)
    assert isinstance(uptake, UptakeNet)
    entry = NetworkDescription(architecture="", file="x.safetensors", sha256="0" * 64, parameters=1)
    description = ModelDescription(
        name="small",
        version="1",
        networks={},
        training={"cases": 3},
        calibration=Calibration(
            sampler=SamplerSettings(), paths=1, level=0.1, reference="noise_free",
            curves=dict.fromkeys(SIGNS, Curve(places=(0.0, 0.5, 2.0), factors=(1.0, 1.5, 2.0))),
            half_widths={50: 0.7, 80: 1.3, 95: 2.2}, region_half_widths={50: 0.3, 80: 0.9, 95: 1.4},
            fitted_on={"participants": 3},
        ),
        unusual=UnusualDescription(network=entry, limits=dict.fromkeys(KINDS, 1.5), fitted_on={"participants": 3}),
    )  # fmt: skip
    weights.save_folder(folder / "model", description, {"prior": prior}, unusual=Watchers(sketch, uptake))
    for file in (folder / "model").iterdir():
        shutil.move(file, folder)
    (folder / "model").rmdir()


def _read_model(folder: Path) -> None:
    opened = weights.load_folder(folder)
    for role in opened.description.networks:
        weights.network(opened, role)


def _read_weights(folder: Path) -> None:
    """A model whose maker has damaged its weights and stated the right checksum."""
    description = folder / "model.yaml"
    kept = description.read_text()
    one = ModelDescription.model_validate(yaml.safe_load(kept)).networks["prior"]
    description.write_text(kept.replace(one.sha256, sha256_of(folder / one.file)))
    try:
        _read_model(folder)
    finally:
        description.write_text(kept)


def _read_unusual(folder: Path) -> None:
    """Opened, and asked about a body: so `check` and `translate` use it."""
    opened = weights.load_folder(folder)
    if (watch := Watch.of(opened)) is not None:
        body = np.zeros((10, 8, 12), dtype=np.float32)
        body[2:8, 2:6, 2:10] = 1.0
        volume = Volume(body, Geometry.regular(body.shape, (30.0, 30.0, 30.0)), Unit.SUV)
        for alarm in watch.alarms(*frame_body(volume, (30.0, 30.0, 30.0), multiple=1)):
            str(alarm)


def _read_calibration(folder: Path) -> None:
    """Opened and applied, and told in a sidecar."""
    known = weights.load_folder(folder).description.calibration
    if known is not None:
        sign = np.linspace(0.0, 3.0, 24, dtype=np.float32).reshape(4, 3, 2)
        calibrated_deviation(dict.fromkeys(SIGNS, sign), sign > 1.0, 2.0, known)
        known.holds_for(SamplerSettings(), 1)


MODELS = (
    Reader("model.yaml", _make_model, _read_model, {"model.yaml": (of_text,), "prior.safetensors": (of_bytes,)}),
    Reader("unusual block", _make_model, _read_unusual, {"model.yaml": (of_block("unusual"),)}),
    Reader("calibration block", _make_model, _read_calibration, {"model.yaml": (of_block("calibration"),)}),
    Reader("safetensors", _make_model, _read_weights, {"prior.safetensors": (of_bytes,)}),
)
