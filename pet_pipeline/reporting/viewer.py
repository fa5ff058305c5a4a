"""The interactive viewer: volumes kept small beside the pictures, and inlined with NiiVue where a reader asks for it.

NiiVue (static/niivue.umd.js.gz, BSD-2-Clause) cannot fetch files on `file://`, so volumes are base64 NIfTI in the page.
They are for looking, not for measuring: averaged to fewer voxels and rounded until a case fits its budget.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import archives
from pet_pipeline.data.files import atomic_path, parse_json
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import Spacing, body_region, box_around
from pet_pipeline.reporting import images
from pet_pipeline.reporting.cases import CaseView
from pet_pipeline.reporting.doubt import FLOOR_SUV, SHARES
from pet_pipeline.reporting.film import AIR_PART, Windows
from pet_pipeline.reporting.planes import CasePlanes, volumes_beside
from pet_pipeline.types import Float32Array, FloatArray, IntArray

FORMAT = 1

CASE_BYTES = 1_500_000
"""Most bytes of a case's compressed volumes."""

PAGE_BYTES = 15_000_000
"""Most bytes of all volumes of a page (a third more as base64): larger pages make browsers stumble."""

START_VOXELS = 500_000
"""Voxels of a volume that are tried first."""

MARGIN_MM = 15.0

_LEVELS = 3000.0
"""The volumes' maximum in stored steps: a step is a power of ten below it, 0.01 SUV for most."""


def save_volumes(
    path: Path,
    reference: Float32Array,
    predictions: Mapping[str, Float32Array],
    spacing_mm: Spacing,
    *,
    uncertainty: Mapping[str, Float32Array] | None = None,
    labels: IntArray | None = None,
) -> None:
    """Keep a case's volumes for the viewer, cut to the body, averaged and rounded until they fit `CASE_BYTES`.

    Args:
        path: an npz, written whole or not at all.
        reference: (x, y, z), RAS+.
        predictions: by method, on the same grid.
        spacing_mm: voxel size.
        uncertainty: standard deviation maps by method.
        labels: label volume, which helps to find the body.

    Raises:
        InputRefused: grids differ.
    """
    volumes = {"reference": reference}
    volumes |= {f"prediction{i}": v for i, v in enumerate(predictions.values())}
    uncertainty = uncertainty or {}
    volumes |= {f"uncertainty{i}": uncertainty[m] for i, m in enumerate(predictions) if m in uncertainty}
    for name, volume in volumes.items():
        if volume.shape != reference.shape:
            raise InputRefused(
                f"the viewer needs one grid: reference of shape {reference.shape}, {name} {volume.shape}"
            )
    body, _ = body_region(reference, spacing_mm, labels)
    if not body.any():
        body = np.ones(reference.shape, dtype=np.bool_)
    x, y, z = (math.ceil(MARGIN_MM / s) for s in spacing_mm)
    box = box_around(body, (x, y, z))
    cut = {name: np.nan_to_num(volume[box]) for name, volume in volumes.items()}
    centre_mm = [
        ((b.start + b.stop - 1) / 2 - (n - 1) / 2) * s
        for b, n, s in zip(box, reference.shape, spacing_mm, strict=True)
    ]  # fmt: skip
    highest = max(float(np.abs(v).max()) for v in cut.values())
    step = 10.0 ** math.floor(math.log10(highest / _LEVELS)) if highest > 0.0 else 1.0
    step = max(step, highest / 32000.0)
    wanted = float(START_VOXELS)
    while True:
        stored = {name: _nifti(v, spacing_mm, centre_mm, step, wanted) for name, v in cut.items()}
        total = sum(len(v) for v in stored.values())
        if total <= CASE_BYTES:
            break
        wanted *= 0.9 * CASE_BYTES / total
    facts = {"format": FORMAT, "methods": list(predictions)}
    arrays = {name: np.frombuffer(content, dtype=np.uint8) for name, content in stored.items()}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def _nifti(volume: FloatArray, spacing_mm: Spacing, centre_mm: Sequence[float], step: float, voxels: float) -> bytes:
    """A gzipped NIfTI of int16 in steps of `step`, of about `voxels` voxels as near to cubes as the input allows."""
    import nibabel as nib

    extent = [n * s for n, s in zip(volume.shape, spacing_mm, strict=True)]
    # Voxels of one edge length, but never smaller than the input's along any axis.
    edge = (math.prod(extent) / voxels) ** (1.0 / 3.0)
    shape = [max(min(math.floor(e / edge), n), 1) for e, n in zip(extent, volume.shape, strict=True)]
    small = volume.astype(np.float32)
    for axis, size in enumerate(shape):
        if size < small.shape[axis]:
            small = images.averaged(small, size, axis).astype(np.float32)
    spacing = [e / n for e, n in zip(extent, shape, strict=True)]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [c - (n - 1) / 2 * s for c, n, s in zip(centre_mm, shape, spacing, strict=True)]
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(step, 0.0)
    header["vox_offset"] = 352
    data = np.rint(small / step).clip(-32767, 32767).astype("<i2")
    content: bytes = header.binaryblock + b"\0" * 4 + data.tobytes(order="F")
    return gzip.compress(content, 9, mtime=0)


@dataclass(frozen=True)
class EmbeddedCase:
    """One case in the viewer, as its script reads it."""

    slug: str
    case_id: str
    methods: tuple[str, ...]
    focus_mm: tuple[float, float, float] | None
    volumes: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "slug": self.slug,
            "name": self.case_id,
            "methods": list(self.methods),
            "focus": self.focus_mm,
            "volumes": dict(self.volumes),
        }


@dataclass(frozen=True)
class Embedded:
    """All cases in the viewer, those left out for their size, and those without volumes."""

    cases: tuple[EmbeddedCase, ...]
    too_many: tuple[str, ...]
    without: tuple[str, ...]
    bytes: int
    scales: Mapping[str, Any]

    @property
    def slugs(self) -> set[str]:
        """Of the cases that can be opened."""
        return {case.slug for case in self.cases}

    def as_json(self) -> dict[str, Any]:
        """For the page's script."""
        return {"cases": [case.as_json() for case in self.cases], **self.scales}


def embedded(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    views: Mapping[str, CaseView],
    windows: Windows,
) -> Embedded:
    """Read the volumes of as many cases as a page can hold, the worst first.

    Args:
        folder: of the report.
        records: the summary's cases.
        order: case ids, in the order of their claim to a place.
        views: cases by id.
        windows: scales to begin with.
    """
    pictures = {str(c["case_id"]): c.get("picture") for c in records}
    kept: dict[str, EmbeddedCase] = {}
    too_many: list[str] = []
    without: list[str] = []
    total = 0
    for case_id in order:
        found = _read(folder, pictures.get(case_id))
        if found is None:
            without.append(case_id)
            continue
        methods, volumes, size = found
        if total + size > PAGE_BYTES:
            too_many.append(case_id)
            continue
        total += size
        focus = _focus(folder, pictures.get(case_id))
        kept[case_id] = EmbeddedCase(views[case_id].slug, case_id, methods, focus, volumes)
    coloured: tuple[images.Scale, ...] = ("difference", "uncertainty")
    colours = {name: [[int(v) for v in c] for c in images.palette(name, 11)] for name in coloured}
    scales = {
        "upper": windows.upper,
        "difference": windows.difference,
        "uncertainty": windows.uncertainty,
        "unit": windows.unit,
        "digits": 4 if windows.upper < 1.0 else 2,
        "doubt": {"floor": FLOOR_SUV, "share": SHARES[0], "air": AIR_PART * windows.upper},
        "inverted": windows.grey == "inverted",
        "colours": colours,
    }
    cases = tuple(kept[case_id] for case_id in views if case_id in kept)
    return Embedded(cases, tuple(too_many), tuple(without), total, scales)


def niivue_gzip_base64() -> str:
    """NiiVue's bundle, gzipped, base64: the page unpacks it only when the viewer is looked at."""
    return base64.b64encode((Path(__file__).parent / "static" / "niivue.umd.js.gz").read_bytes()).decode()


def _read(folder: Path, picture: Any) -> tuple[tuple[str, ...], dict[str, str], int] | None:
    if not picture:
        return None
    path = volumes_beside(folder / str(picture))
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return None
    try:
        arrays = archives.load(path)
        facts = parse_json(arrays.pop("facts").tobytes())
        if facts["format"] != FORMAT:
            return None
        volumes = {name: base64.b64encode(content.tobytes()).decode() for name, content in arrays.items()}
        return tuple(facts["methods"]), volumes, sum(a.size for a in arrays.values())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _focus(folder: Path, picture: Any) -> tuple[float, float, float] | None:
    try:
        return CasePlanes.load(folder / str(picture)).focus_mm
    except InputRefused:
        return None
