"""Picture data of a case: projections, slices, differences, joint histogram and profile, small enough to keep.

`evaluate` takes them from the volumes while it has them; the page is drawn from the file alone, so that it can be drawn
again, with another window, without any volume. Arrays are float16, cut to the body.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pet_pipeline.data import archives
from pet_pipeline.data.files import atomic_path, parse_json
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import Spacing, Structure, body_region, box_around
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

FORMAT = 1
"""Version of the file; another one is refused."""

Quantity = Literal["pet", "mumap"]

Plane = npt.NDArray[np.float16]
"""A plane (across, up): coronal (x, z), sagittal (y, z), axial (x, y); all indices grow right, front and head."""

PROJECTIONS = ("mip_coronal", "mip_sagittal")
SLICES = ("coronal", "sagittal", "axial")

MARGIN_MM = 20.0
"""Air kept around the body, mm."""

PROFILE_HALF_MM = 80.0
"""The profile reaches this far to either side of the hottest lesion, mm."""

JOINT_BINS = 64
JOINT_SUV = (0.05, 50.0)
"""Ends of the joint histogram's logarithmic bins, SUV; values beyond are counted in the outermost bins."""

JOINT_MU_CM1 = (0.0, 0.2)
"""Ends of the joint histogram's linear bins of mu-maps, cm^-1."""

LONGEST_SLUG = 120
"""Characters of a slug: file systems take names of 255 bytes."""

_DROPPED_BITS = 4
"""Least significant bits of a float16 that are set to zero: 0.8 % is more than a picture shows, and files halve."""


def slug(case_id: str) -> str:
    """The case's name in file names and anchors: characters outside A-Z a-z 0-9 . _ - become `-`; never empty.

    Example:
        >>> slug("site A/sub-01")
        'site-A-sub-01'
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", case_id).lstrip(".") or "case"
    return name if len(name) <= LONGEST_SLUG else name[:LONGEST_SLUG]


def slugs(case_ids: Sequence[str]) -> dict[str, str]:
    """A slug for every case, no two alike even where capitals do not count: the second of a kind ends in `-2`."""
    taken: set[str] = set()
    result: dict[str, str] = {}
    for case_id in case_ids:
        base = name = slug(case_id)
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        result[case_id] = name
    return result


def volumes_beside(picture: Path) -> Path:
    """Where the viewer's volumes of a case lie, if they were kept."""
    return picture.with_name(f"{picture.name.removesuffix('.npz')}_volumes.npz")


@dataclass(frozen=True, eq=False)
class CasePlanes:
    """What the page draws of a case; SUV, or cm^-1 for mu-maps.

    Attributes:
        quantity: `pet` or `mumap`.
        spacing_mm: voxel size.
        methods: in the order of the columns.
        focus: voxel (x, y, z), on the cut planes, that the slices go through.
        focus_mm: the same place from the grid's centre, mm: where the viewer's cross-hair begins.
        focus_name: the lesion there; empty where the slices go through the body's centre.
        reference: its projections and slices, by name (`PROJECTIONS`, `SLICES`).
        predictions: the same by method.
        differences: projections of prediction - reference by method: on each ray the largest magnitude, with its sign.
        condition: of the input, scaled by `condition_factor`; empty if there is none.
        condition_factor: the reference's mean in the body / the input's, whose own scale is no SUV.
        uncertainties: slices of the standard deviation map, by method, where there is one.
        joint: counts of (reference, prediction) in the body, (bins, bins), by method.
        joint_edges: edges of both axes' bins.
        profile_mm: places along x about the focus, growing to the patient's right, mm.
        profiles: values along x through the focus: `reference`, `condition` and `prediction:<method>`.
        lesion_mm: from where to where the profile runs inside the lesion, mm; None without one.
    """

    quantity: Quantity
    spacing_mm: Spacing
    methods: tuple[str, ...]
    focus: tuple[int, int, int]
    focus_mm: tuple[float, float, float]
    focus_name: str
    reference: Mapping[str, Plane]
    predictions: Mapping[str, Mapping[str, Plane]]
    differences: Mapping[str, Mapping[str, Plane]]
    joint: Mapping[str, npt.NDArray[np.uint32]]
    joint_edges: FloatArray
    profile_mm: FloatArray
    profiles: Mapping[str, FloatArray]
    condition: Mapping[str, Plane] = field(default_factory=dict)
    condition_factor: float = 1.0
    uncertainties: Mapping[str, Mapping[str, Plane]] = field(default_factory=dict)
    lesion_mm: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        reference: Float32Array,
        predictions: Mapping[str, Float32Array],
        spacing_mm: Spacing,
        *,
        condition: Float32Array | None = None,
        uncertainty: Mapping[str, Float32Array] | None = None,
        labels: IntArray | None = None,
        structures: Sequence[Structure] = (),
        body: BoolArray | None = None,
        quantity: Quantity = "pet",
    ) -> "CasePlanes":
        """Take the planes of a case from its volumes, all (x, y, z), RAS+, on one grid.

        Args:
            reference: SUV, or cm^-1.
            predictions: by method, in the order of the page's columns.
            spacing_mm: voxel size.
            condition: the input that the predictions were made from.
            uncertainty: standard deviation maps by method; methods may be missing.
            labels: label volume, and with it
            structures: its table: the slices go through the lesion whose reference is hottest.
            body: where histogram and cut are taken; found in the reference if not given.
            quantity: what the volumes are.

        Raises:
            InputRefused: grids differ.
        """
        named = {"condition": condition, "labels": labels, "body": body}
        named |= {f"prediction of {m}": v for m, v in predictions.items()}
        named |= {f"uncertainty of {m}": v for m, v in (uncertainty or {}).items()}
        for name, volume in named.items():
            if volume is not None and volume.shape != reference.shape:
                raise InputRefused(
                    f"pictures need one grid: reference of shape {reference.shape}, {name} of shape {volume.shape}"
                )
        if body is None:
            body, _ = body_region(reference, spacing_mm, labels)
        if not body.any():
            body = np.ones(reference.shape, dtype=np.bool_)
        lesion, focus_name = _hottest(reference, labels, structures)
        focus = _focus(reference, lesion, body)
        box = box_around(body if lesion is None else body | lesion, _voxels(MARGIN_MM, spacing_mm))
        factor = 1.0
        if condition is not None:
            mean = float(condition[body].mean(dtype=np.float64))
            factor = float(reference[body].mean(dtype=np.float64)) / mean if mean > 0.0 else 1.0
        x, y, z = (
            (i - (n - 1) / 2) * s for i, n, s in zip(focus, reference.shape, spacing_mm, strict=True)
        )  # fmt: skip
        inside = (focus[0] - box[0].start, focus[1] - box[1].start, focus[2] - box[2].start)
        low, high = JOINT_MU_CM1 if quantity == "mumap" else JOINT_SUV
        spaced = np.linspace if quantity == "mumap" else np.geomspace
        edges = spaced(low, high, JOINT_BINS + 1)
        true_bins = _bins(reference[body], edges, quantity)
        along = _profile_range(focus[0], reference.shape[0], spacing_mm[0])
        line = (along, focus[1], focus[2])
        profiles: dict[str, FloatArray] = {"reference": reference[line].astype(np.float32)}
        if condition is not None:
            profiles["condition"] = (condition[line] * factor).astype(np.float32)
        profiles |= {f"prediction:{m}": volume[line].astype(np.float32) for m, volume in predictions.items()}
        profile_mm = (np.arange(along.start, along.stop) - focus[0]) * spacing_mm[0]
        return cls(
            quantity=quantity,
            spacing_mm=spacing_mm,
            methods=tuple(predictions),
            focus=inside,
            focus_mm=(float(x), float(y), float(z)),
            focus_name=focus_name,
            reference=_planes(reference[box], inside),
            predictions={m: _planes(volume[box], inside) for m, volume in predictions.items()},
            differences={m: _largest(volume[box] - reference[box]) for m, volume in predictions.items()},
            joint={m: _joint(true_bins, volume[body], edges, quantity) for m, volume in predictions.items()},
            joint_edges=edges,
            profile_mm=profile_mm,
            profiles=profiles,
            condition={} if condition is None else _planes(condition[box], inside, factor),
            condition_factor=factor,
            uncertainties={m: _slices(volume[box], inside) for m, volume in (uncertainty or {}).items()},
            lesion_mm=None if lesion is None else _span(lesion[line], profile_mm, spacing_mm[0]),
        )

    def difference(self, method: str, plane: str) -> FloatArray:
        """Prediction - reference on a slice, or the projection of largest magnitude."""
        if plane in PROJECTIONS:
            return self.differences[method][plane].astype(np.float32)
        return self.predictions[method][plane].astype(np.float32) - self.reference[plane].astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the planes as a compressed npz without any pickle, whole or not at all."""
        arrays: dict[str, npt.NDArray[Any]] = {"joint_edges": self.joint_edges, "profile_mm": self.profile_mm}
        groups = [("reference", self.reference), ("condition", self.condition)]
        for number, method in enumerate(self.methods):  # methods' names may hold anything: only numbers become names
            groups += [
                (f"prediction{number}", self.predictions[method]),
                (f"difference{number}", self.differences[method]),
            ]
            groups.append((f"uncertainty{number}", self.uncertainties.get(method, {})))
            arrays[f"joint{number}"] = self.joint[method]
            arrays[f"profile_prediction{number}"] = self.profiles[f"prediction:{method}"]
        for name in ("reference", "condition"):
            if name in self.profiles:
                arrays[f"profile_{name}"] = self.profiles[name]
        for prefix, planes in groups:
            arrays |= {f"{prefix}.{name}": plane for name, plane in planes.items()}
        facts = {
            "format": FORMAT,
            "quantity": self.quantity,
            "spacing_mm": [float(s) for s in self.spacing_mm],
            "methods": list(self.methods),
            "focus": [int(i) for i in self.focus],
            "focus_mm": [float(v) for v in self.focus_mm],
            "focus_name": self.focus_name,
            "condition_factor": float(self.condition_factor),
            "lesion_mm": None if self.lesion_mm is None else [float(v) for v in self.lesion_mm],
        }
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "CasePlanes":
        """Read what `save` wrote.

        Raises:
            InputRefused: the file is missing, damaged, or of another format.
        """
        try:
            arrays = archives.load(path)
            facts = parse_json(arrays["facts"].tobytes())
            if facts["format"] != FORMAT:
                raise InputRefused(f"{path}: pictures of format {facts['format']}, needed is {FORMAT}: evaluate again")
            return _from_arrays(cls, arrays, facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputRefused(f"{path}: no picture data that can be read ({type(error).__name__})") from error


def _from_arrays(cls: type[CasePlanes], arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> CasePlanes:
    def group(prefix: str) -> dict[str, Plane]:
        return {n.split(".", 1)[1]: a for n, a in arrays.items() if n.startswith(f"{prefix}.")}

    methods = tuple(facts["methods"])
    numbered = list(enumerate(methods))
    reference = group("reference")
    needed = {"prediction": (*PROJECTIONS, *SLICES), "difference": PROJECTIONS}
    for kind, number, name in ((k, i, n) for k, names in needed.items() for i, _ in numbered for n in names):
        if arrays[f"{kind}{number}.{name}"].shape != reference[name].shape:
            raise ValueError(f"{kind} and reference differ in the shape of {name}")
    profiles = {n: arrays[f"profile_{n}"] for n in ("reference", "condition") if f"profile_{n}" in arrays}
    profiles |= {f"prediction:{m}": arrays[f"profile_prediction{i}"] for i, m in numbered}
    x, y, z = (int(i) for i in facts["focus"])
    mx, my, mz = (float(v) for v in facts["focus_mm"])
    sx, sy, sz = facts["spacing_mm"]
    return cls(
        quantity=facts["quantity"],
        spacing_mm=(sx, sy, sz),
        methods=methods,
        focus=(x, y, z),
        focus_mm=(mx, my, mz),
        focus_name=facts["focus_name"],
        reference=reference,
        predictions={m: group(f"prediction{i}") for i, m in numbered},
        differences={m: group(f"difference{i}") for i, m in numbered},
        joint={m: arrays[f"joint{i}"] for i, m in numbered},
        joint_edges=arrays["joint_edges"],
        profile_mm=arrays["profile_mm"],
        profiles=profiles,
        condition=group("condition"),
        condition_factor=facts["condition_factor"],
        uncertainties={m: planes for i, m in numbered if (planes := group(f"uncertainty{i}"))},
        lesion_mm=None if facts["lesion_mm"] is None else (facts["lesion_mm"][0], facts["lesion_mm"][1]),
    )


def _hottest(
    reference: Float32Array, labels: IntArray | None, structures: Sequence[Structure]
) -> tuple[BoolArray | None, str]:
    """The mask and name of the lesion with the hottest voxel in the reference."""
    lesions = {s.index: s.name for s in structures if s.kind == "lesion"}
    if labels is None or not lesions:
        return None, ""
    anywhere = np.isin(labels, list(lesions))
    if not anywhere.any():
        return None, ""
    hottest = int(np.argmax(np.where(anywhere, reference, -np.inf)))
    index = int(labels.reshape(-1)[hottest])
    return labels == index, lesions[index]


def _focus(reference: Float32Array, lesion: BoolArray | None, body: BoolArray) -> tuple[int, int, int]:
    if lesion is not None:
        found = np.unravel_index(int(np.argmax(np.where(lesion, reference, -np.inf))), reference.shape)
    else:
        found = tuple(np.rint([np.mean(index) for index in np.nonzero(body)]).astype(np.int64))
    return int(found[0]), int(found[1]), int(found[2])


def _planes(volume: FloatArray, at: tuple[int, int, int], factor: float = 1.0) -> dict[str, Plane]:
    projections = {"mip_coronal": volume.max(axis=1), "mip_sagittal": volume.max(axis=0)}
    planes = {n: _small(plane * factor) for n, plane in projections.items()}
    return planes | _slices(volume, at, factor)


def _slices(volume: FloatArray, at: tuple[int, int, int], factor: float = 1.0) -> dict[str, Plane]:
    x, y, z = at
    slices = {"coronal": volume[:, y, :], "sagittal": volume[x], "axial": volume[:, :, z]}
    return {n: _small(plane * factor) for n, plane in slices.items()}


def _largest(difference: FloatArray) -> dict[str, Plane]:
    """Projections along y and x: on each ray the value of largest magnitude, with its sign."""
    result = {}
    for name, axis in (("mip_coronal", 1), ("mip_sagittal", 0)):
        high, low = difference.max(axis=axis), difference.min(axis=axis)
        result[name] = _small(np.where(high >= -low, high, low))
    return result


def _small(plane: FloatArray) -> Plane:
    """float16 with its last bits rounded off: files compress to half."""
    finite = np.nan_to_num(plane, nan=0.0, posinf=6e4, neginf=-6e4).clip(-6e4, 6e4).astype(np.float16)
    bits = np.ascontiguousarray(finite).view(np.uint16)
    rounded = (bits + (1 << (_DROPPED_BITS - 1))) & np.uint16(0xFFFF & ~((1 << _DROPPED_BITS) - 1))
    return rounded.astype(np.uint16).view(np.float16)


def _bins(values: FloatArray, edges: FloatArray, quantity: Quantity) -> npt.NDArray[np.int64]:
    """The bin of every value; those beyond the ends go into the outermost bins."""
    scaled = values.astype(np.float32)
    ends = edges[[0, -1]]
    if quantity == "pet":
        scaled, ends = np.log(np.maximum(scaled, 1e-9)), np.log(ends)
    place = (scaled - ends[0]) * (JOINT_BINS / (ends[1] - ends[0]))
    bins: npt.NDArray[np.int64] = np.nan_to_num(place).clip(0, JOINT_BINS - 1).astype(np.int64)
    return bins


def _joint(
    true_bins: npt.NDArray[np.int64], predicted: FloatArray, edges: FloatArray, quantity: Quantity
) -> npt.NDArray[np.uint32]:
    pairs = true_bins * JOINT_BINS + _bins(predicted, edges, quantity)
    return np.bincount(pairs, minlength=JOINT_BINS**2).reshape(JOINT_BINS, JOINT_BINS).astype(np.uint32)


def _profile_range(x: int, length: int, spacing_mm: float) -> slice:
    half = max(round(PROFILE_HALF_MM / spacing_mm), 1)
    return slice(max(x - half, 0), min(x + half + 1, length))


def _span(inside: BoolArray, profile_mm: FloatArray, spacing_mm: float) -> tuple[float, float] | None:
    """The run of lesion voxels about the focus, in mm from voxel edge to voxel edge."""
    centre = int(np.argmin(np.abs(profile_mm)))
    if not inside[centre]:
        return None
    first = last = centre
    while first > 0 and inside[first - 1]:
        first -= 1
    while last + 1 < inside.size and inside[last + 1]:
        last += 1
    return float(profile_mm[first] - spacing_mm / 2), float(profile_mm[last] + spacing_mm / 2)


def _voxels(margin_mm: float, spacing_mm: Spacing) -> tuple[int, int, int]:
    x, y, z = (int(np.ceil(margin_mm / s)) for s in spacing_mm)
    return x, y, z
