"""Analytic solids in reference millimetres, and the canvas that paints them into a label volume."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pet_pipeline.simulation.frame import Frame
from pet_pipeline.simulation.tissues import Tissue
from pet_pipeline.types import Float32Array, FloatArray, IntArray

Point = tuple[float, float, float]
"""(x, y, z) in reference millimetres."""


class Solid(Protocol):
    """A closed shape given by a level function: below 1 inside, 1 on the surface, about linear in between."""

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest corner (x, y, z), reference mm."""

    def level(self, x: Float32Array, y: Float32Array, z: Float32Array) -> Float32Array:
        """Level at reference coordinates (any shape)."""

    def shrunk(self, by_mm: float) -> "Solid":
        """The same shape with every semi-axis `by_mm` shorter (at least 0.5 mm is left)."""


def rotation(angles_deg: Point) -> FloatArray:
    """Rotation matrix Rz Ry Rx of angles (x, y, z) in degrees, right-handed."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(angles_deg)), np.sin(np.deg2rad(angles_deg))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True)
class Ellipsoid:
    """A superquadric (|u/a|^e + |v/b|^e + |w/c|^e)^(1/e) <= 1; exponent e = 2 is an ellipsoid.

    Attributes:
        centre: reference mm.
        semi: semi-axes a, b, c, mm.
        angles_deg: rotations about x, y, z.
        exponent: e.
    """

    centre: Point
    semi: Point
    angles_deg: Point = (0.0, 0.0, 0.0)
    exponent: float = 2.0

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest corner, reference mm."""
        semi = np.asarray(self.semi)
        turn = rotation(self.angles_deg)
        # An ellipsoid's extent is exact; a superquadric with e > 2 lies within the rotated box.
        half = np.sqrt((turn**2) @ semi**2) if self.exponent <= 2.0 else np.abs(turn) @ semi
        return np.asarray(self.centre) - half, np.asarray(self.centre) + half

    def level(self, x: Float32Array, y: Float32Array, z: Float32Array) -> Float32Array:
        """Superquadric norm at reference coordinates."""
        offsets = [c - np.float32(o) for c, o in zip((x, y, z), self.centre, strict=True)]
        if any(self.angles_deg):
            turn = rotation(self.angles_deg).T.astype(np.float32)
            offsets = [sum_products(row, offsets) for row in turn]
        scaled = [o * np.float32(1.0 / s) for o, s in zip(offsets, self.semi, strict=True)]
        if self.exponent == 2.0:
            u, v, w = scaled
            return np.asarray(np.sqrt(u * u + v * v + w * w))
        total = np.zeros_like(scaled[0])
        for s in scaled:
            total += np.abs(s) ** np.float32(self.exponent)
        return np.asarray(total ** np.float32(1.0 / self.exponent))

    def shrunk(self, by_mm: float) -> "Ellipsoid":
        """Every semi-axis `by_mm` shorter."""
        a, b, c = (max(s - by_mm, 0.5) for s in self.semi)
        return replace(self, semi=(a, b, c))


def sum_products(row: Float32Array, offsets: Sequence[Float32Array]) -> Float32Array:
    """Scalar product of a row of a matrix with three coordinate arrays."""
    out: Float32Array = row[0] * offsets[0]
    out += row[1] * offsets[1]
    out += row[2] * offsets[2]
    return out


@dataclass(frozen=True)
class Segment:
    """A capsule from `start` to `end` whose radius changes linearly between its ends."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest corner, reference mm."""
        ends = np.array([self.start, self.end])
        radii = np.array([[self.start_radius], [self.end_radius]])
        return (ends - radii).min(axis=0), (ends + radii).max(axis=0)

    def level(self, x: Float32Array, y: Float32Array, z: Float32Array) -> Float32Array:
        """Distance to the axis divided by the local radius."""
        axis = np.subtract(self.end, self.start).astype(np.float32)
        dx, dy, dz = (c - np.float32(s) for c, s in zip((x, y, z), self.start, strict=True))
        along = sum_products(axis / max(float(axis @ axis), 1e-6), (dx, dy, dz))
        np.clip(along, 0.0, 1.0, out=along)
        distance = np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2)
        return np.asarray(distance / (self.start_radius + (self.end_radius - self.start_radius) * along))

    def shrunk(self, by_mm: float) -> "Segment":
        """Both radii `by_mm` smaller."""
        return replace(
            self, start_radius=max(self.start_radius - by_mm, 0.5), end_radius=max(self.end_radius - by_mm, 0.5)
        )


def tube(points: Sequence[Point], radii: Sequence[float] | float, *, smooth: int = 1) -> tuple[Segment, ...]:
    """Capsules along a path through `points`; with `smooth` > 1 a Catmull-Rom curve of so many pieces a span."""
    path = np.asarray(points, dtype=np.float64)
    width = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(path),))
    if smooth > 1 and len(path) > 2:
        padded = np.vstack([2 * path[0] - path[1], path, 2 * path[-1] - path[-2]])
        t = np.arange(smooth)[:, None] / smooth
        pieces = [
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
            for p0, p1, p2, p3 in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True)
        ]
        width = np.interp(np.arange((len(path) - 1) * smooth + 1) / smooth, np.arange(len(path)), width)
        path = np.vstack([*pieces, path[-1:]])
    as_points: list[Point] = [(float(p[0]), float(p[1]), float(p[2])) for p in path]
    return tuple(
        Segment(a, b, float(ra), float(rb))
        for a, b, ra, rb in zip(as_points[:-1], as_points[1:], width[:-1], width[1:], strict=True)
    )


@dataclass(frozen=True)
class Part:
    """A solid of one tissue.

    Attributes:
        solid: the shape.
        tissue: what it is made of.
        over: tissues that it may replace; None replaces all but background.
        rough: whether the patient's surface roughness applies.
    """

    solid: Solid
    tissue: Tissue
    over: tuple[Tissue, ...] | None = None
    rough: bool = True


def parts(
    solids: Iterable[Solid], tissue: Tissue, over: tuple[Tissue, ...] | None = None, *, rough: bool = True
) -> list[Part]:
    """One part for each solid."""
    return [Part(solid, tissue, over, rough) for solid in solids]


def bone(solids: Sequence[Solid], cortex_mm: float, *, rough: bool = False) -> list[Part]:
    """Cortical bone filled with marrow: the outer solids first, then all shrunk by the cortex: no walls at joints."""
    return [
        *parts(solids, Tissue.BONE, rough=rough),
        *parts([s.shrunk(cortex_mm) for s in solids], Tissue.MARROW, (Tissue.BONE,), rough=rough),
    ]


def paint(labels: IntArray, frame: Frame, part: Part) -> None:
    """Write a part's label into `labels` (x, y, z int16), in place, within the part's bounding box only."""
    box = frame.box(*part.solid.bounds())
    if box is None:
        return
    level = part.solid.level(*frame.reference(box))
    if part.rough:
        level -= frame.roughness(box)
    inside = level < 1.0
    view = labels[box]
    if part.over is None:
        inside &= view != Tissue.BACKGROUND
    else:
        allowed = np.zeros(max(Tissue) + 1, dtype=bool)
        allowed[list(part.over)] = True
        inside &= allowed[view]
    view[inside] = part.tissue
