"""Networks as files for other runtimes: ONNX, or torch.export's archive; each is read back and compared.

Slices and volumes may have any size that is a multiple of what the network takes, slices any number at once.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from pet_pipeline.errors import ModelError, UsageError
from pet_pipeline.models.ournet import MuUNet
from pet_pipeline.models.prior3d import Prior3d
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.models.weights import ModelFolder, network

RuntimeFormat = Literal["onnx", "torch"]

SUFFIX: dict[RuntimeFormat, str] = {"onnx": ".onnx", "torch": ".pt2"}

TOLERANCE = 1e-4
"""Largest difference between the file's output and the network's, relative to its largest value; about 1e-6 is met."""

_NEEDED_BY_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class RuntimeFile:
    """One network in its file.

    Attributes:
        role: prior, axial, stage1, ...
        path: the file.
        inputs: name -> its axes: a number where it is fixed, `batch`, or `N*name` for any multiple of N.
        difference: between the file's output and the network's, relative to the largest output.
    """

    role: str
    path: Path
    inputs: dict[str, tuple[int | str, ...]]
    difference: float


@dataclass(frozen=True)
class _Signature:
    """A network's inputs by name: channels (None for a number a slice), and axes that may vary."""

    channels: dict[str, int | None]
    spatial: tuple[str, ...]
    multiple: int
    batch: bool

    def axes(self) -> dict[str, tuple[int | str, ...]]:
        """For each input the axes in words."""
        first: int | str = "batch" if self.batch else 1
        sizes = tuple(f"{self.multiple}*{name}" for name in self.spatial)
        return {name: (first,) if count is None else (first, count, *sizes) for name, count in self.channels.items()}

    def dynamic(self) -> dict[str, dict[int, Any]]:
        """For each input its varying axes, as torch.export takes them."""
        first = {0: Dim("batch")} if self.batch else {}
        sizes = {2 + axis: self.multiple * Dim(name, min=1) for axis, name in enumerate(self.spatial)}
        return {name: first if count is None else first | sizes for name, count in self.channels.items()}

    def example(self, batch: int, first: int) -> dict[str, Tensor]:
        """Inputs of unit size whose axes are all different: `first` multiples along the first, one more along each."""
        generator = torch.Generator().manual_seed(batch)
        count = batch if self.batch else 1
        sizes = tuple(self.multiple * (first + axis) for axis in range(len(self.spatial)))
        return {
            name: torch.rand((count,) if channels is None else (count, channels, *sizes), generator=generator)
            for name, channels in self.channels.items()
        }


def export_networks(
    folder: ModelFolder, destination: Path, kind: RuntimeFormat, on_network: Callable[[str], None] = lambda _: None
) -> list[RuntimeFile]:
    """Write every network of a model as DESTINATION/ROLE.onnx or ROLE.pt2, float32, and compare it with the original.

    Args:
        folder: an opened model.
        destination: an existing folder.
        kind: `onnx`, or `torch` for the archive of `torch.export.save`, here without the pickled sample inputs.
        on_network: told each role before its file is made.

    Raises:
        UsageError: a package that ONNX needs is not installed.
        ModelError: a file whose output is not the network's within `TOLERANCE`.
    """
    missing = [name for name in _NEEDED_BY_ONNX if kind == "onnx" and find_spec(name) is None]
    if missing:
        raise UsageError(f"--format onnx needs {', '.join(missing)}: pip install 'pet-pipeline[export]'")
    files = []
    for role in folder.description.networks:
        on_network(role)
        files.append(_export(network(folder, role), role, destination / f"{role}{SUFFIX[kind]}", kind))
    return files


@torch.no_grad()
def _export(module: nn.Module, role: str, path: Path, kind: RuntimeFormat) -> RuntimeFile:
    signature = _signature(module)
    with _quiet():
        program = torch.export.export(
            module, (), kwargs=signature.example(batch=2, first=2), dynamic_shapes=signature.dynamic()
        )
        if kind == "onnx":
            onnx = torch.onnx.export(program, dynamo=True, verbose=False)
            assert onnx is not None
            onnx.save(path)
        else:
            program.example_inputs = None  # they would be a pickle inside the archive
            torch.export.save(program, path)
    given = signature.example(batch=3, first=3)
    wanted = module(**given)
    found = _run_onnx(path, given) if kind == "onnx" else torch.export.load(path).module()(**given)
    difference = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path.name}: its output differs from the network's by {difference:.1e} of the largest value; "
            f"needed is {TOLERANCE:g}: try another version of torch"
        )
    return RuntimeFile(role, path, signature.axes(), difference)


def _signature(module: nn.Module) -> _Signature:
    if isinstance(module, UNet25d):
        level: dict[str, int | None] = {"nstd": None} if module.settings.noise_embedding else {}
        channels = {"x_t": 1, "t": None, "condition": module.settings.condition_channels, **level}
        return _Signature(channels, ("rows", "columns"), module.multiple, batch=True)
    if isinstance(module, Prior3d):
        return _Signature({"condition": 1}, ("x", "y", "z"), module.multiple, batch=False)
    assert isinstance(module, MuUNet)
    return _Signature({"inputs": module.settings.inputs}, ("x", "y", "z"), module.multiple, batch=False)


def _run_onnx(path: Path, given: dict[str, Tensor]) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    return torch.from_numpy(cast(Any, output))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself: packages that it does not need here, its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
