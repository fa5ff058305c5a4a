"""Outlines of bodies: size, proportions, skin, muscle wall and body cavity, as depths below smooth surfaces."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.simulation.fields import doubled, draw_field
from pet_pipeline.simulation.frame import Frame
from pet_pipeline.simulation.solids import Ellipsoid, Segment, Solid, tube
from pet_pipeline.types import Float32Array, FloatArray

Family = Literal["standard", "heldout"]

VOXEL_MM = 2.5
IN_PLANE = (208, 144)
"""Voxels of 2.5 mm along x and y: 520 x 360 mm."""

CROWN_REF = 905.0
KNEE_REF = -350.0

# z, half width, half depth, middle in y, all reference mm: the trunk under its fat (skeleton and muscle), men.
_TRUNK = np.array(
    [
        (-32, 5, 5, -8), (-22, 70, 45, -8), (0, 130, 74, -8), (40, 155, 90, -8), (90, 160, 96, -6), (140, 154, 93, -2),
        (200, 145, 94, 0), (250, 140, 94, 0), (320, 145, 99, 0), (400, 150, 106, 0), (470, 157, 111, 0),
        (520, 161, 106, -4), (555, 160, 92, -8), (585, 132, 76, -12), (603, 92, 64, -14), (622, 63, 57, -14),
        (650, 55, 56, -8), (700, 53, 58, 0), (735, 40, 40, 5), (750, 5, 5, 5),
    ],
    dtype=np.float64,
)  # fmt: skip

# The same for the cavity inside ribs, abdominal wall and pelvis.
_CAVITY = np.array(
    [
        (12, 5, 5, -8), (18, 26, 26, -6), (45, 50, 50, 0), (100, 62, 62, 4), (150, 84, 68, 8), (200, 110, 74, 9),
        (260, 117, 77, 8), (320, 122, 83, 4), (400, 131, 90, 0), (470, 133, 92, -2), (530, 114, 80, -6),
        (570, 84, 58, -12), (597, 46, 40, -16), (606, 5, 5, -16),
    ],
    dtype=np.float64,
)  # fmt: skip

# Share of the abdominal fat thickness that lies at a height: z, share.
_FAT_SHARE = np.array(
    [(-30, 1.1), (60, 1.25), (140, 1.1), (250, 1.0), (330, 0.8), (450, 0.6), (560, 0.5), (640, 0.25), (750, 0.12)]
)


@dataclass(frozen=True)
class BodySize:
    """The drawn size and pose of a patient.

    Attributes:
        family: of bodies.
        female: sex.
        height_cm: standing height.
        bmi: kg/m^2.
        arms_up: arms over the head, else at the sides.
        width: patient mm per reference mm across the trunk.
        depth: front to back.
        head: of the head, all directions.
        hips: further factor on the half width below the waist.
        shoulders: at the shoulders.
        fat_mm: thickness of subcutaneous fat at the navel.
        belly_mm: how much visceral fat pushes the front of the belly out.
        breast: scale of the breasts; 0 for none.
        exponents: superquadric exponents of trunk and organs.
        segments: factor on each stretch between landmarks of z.
        scoliosis_mm: sideways amplitude of the spine.
    """

    family: Family
    female: bool
    height_cm: float
    bmi: float
    arms_up: bool
    width: float
    depth: float
    head: float
    hips: float
    shoulders: float
    fat_mm: float
    belly_mm: float
    breast: float
    exponents: tuple[float, float]
    segments: tuple[float, ...]
    scoliosis_mm: float

    @property
    def weight_kg(self) -> float:
        """Body weight from height and body mass index."""
        return self.bmi * (self.height_cm / 100.0) ** 2


_LANDMARKS_REF = np.array([-900.0, 0.0, 200.0, 445.0, 605.0, 690.0, 905.0, 1400.0])


def draw_size(rng: np.random.Generator, family: Family, settings: PhantomSettings) -> BodySize:
    """Draw sex, size, pose and proportions."""
    heldout = family == "heldout"
    female = bool(rng.random() < settings.female)
    low, high = settings.height_cm
    # Women are shorter by a quarter of the range, without leaving it.
    height = float(low + (high - low) * np.clip(rng.beta(2.5, 2.5) + (-0.12 if female else 0.12), 0.0, 1.0))
    bmi = float(settings.bmi[0] + (settings.bmi[1] - settings.bmi[0]) * rng.beta(1.5, 2.0))
    frame = (height / 175.0) ** 0.7
    wide = 2.0 if heldout else 1.0
    above = bmi - 23.0
    jitter = rng.normal(0.0, 0.03 * wide, 6)
    sex = 0.96 if female else 1.02
    slim = 0.95 if bmi < 21 else 1.0
    return BodySize(
        family=family,
        female=female,
        height_cm=height,
        bmi=bmi,
        arms_up=bool(rng.random() < settings.arms_up),
        width=frame * sex * slim * (1 + 0.008 * above) * float(np.exp(jitter[0])),
        depth=1.03 * frame * sex * slim * (1 + 0.003 * above) * float(np.exp(jitter[1])),
        head=(height / 175.0) ** 0.3 * (0.97 if female else 1.0) * float(np.exp(jitter[2])),
        hips=(1.08 if female else 1.0) * float(np.exp(jitter[3])),
        shoulders=(0.95 if female else 1.02) * float(np.exp(jitter[4])),
        fat_mm=max(3.0, (6.0 + 1.45 * (bmi - 18.0)) * (1.25 if female else 0.85) * float(np.exp(4 * jitter[5]))),
        belly_mm=max(0.0, (1.6 if female else 2.1) * above * float(rng.uniform(0.5, 1.2))),
        breast=float(rng.uniform(1.2, 1.8) if heldout else rng.uniform(0.5, 1.3))
        if female and rng.random() < 0.85
        else 0.0,
        exponents=(float(rng.uniform(2.5, 3.2)), float(rng.uniform(*settings.heldout.exponent)))
        if heldout
        else (float(rng.uniform(2.1, 2.5)), 2.0),
        segments=tuple(float(s) for s in np.exp(rng.normal(0.0, 0.02 * wide, len(_LANDMARKS_REF) - 1))),
        scoliosis_mm=float(rng.choice((-1, 1)) * rng.uniform(*settings.heldout.scoliosis_mm)) if heldout else 0.0,
    )


def draw_frame(
    rng: np.random.Generator, size: BodySize, slices: int, top_mm: float, settings: PhantomSettings
) -> Frame:
    """The voxel grid of 2.5 mm with `2 * slices` slices whose top lies `top_mm` below the crown, and its deformation.

    A field of view that would end below the knees is moved up, into the air over the head if need be.
    """
    stature = size.height_cm / 175.0
    lengths = np.diff(_LANDMARKS_REF) * stature * np.asarray(size.segments)
    lengths[5] = (_LANDMARKS_REF[6] - _LANDMARKS_REF[5]) * size.head  # the head hardly grows with stature
    z_nodes = np.concatenate([[0.0], np.cumsum(lengths)])
    z_nodes -= z_nodes[1]
    n = 2 * slices
    crown = float(np.interp(CROWN_REF, _LANDMARKS_REF, z_nodes))
    knee = float(np.interp(KNEE_REF, _LANDMARKS_REF, z_nodes))
    start = max(crown - top_mm - n * VOXEL_MM, knee)
    z = start + (np.arange(n) + 0.5) * VOXEL_MM
    x = (np.arange(IN_PLANE[0]) - (IN_PLANE[0] - 1) / 2) * VOXEL_MM + rng.uniform(-8.0, 8.0)
    # Belly and couch share the room in y: the grid is centred between the belly's front and the couch's middle.
    front = max((94.0 + size.belly_mm) * size.depth + 0.85 * size.fat_mm, 125.0)
    back = -111.0 * size.depth - 0.75 * size.fat_mm
    y = (
        (np.arange(IN_PLANE[1]) - (IN_PLANE[1] - 1) / 2) * VOXEL_MM
        + 0.5 * (front + back)
        - 8.0
        + rng.uniform(-6.0, 6.0)
    )

    trunk_x = np.where(_LANDMARKS_REF < 650, size.width, size.head)
    trunk_y = np.where(_LANDMARKS_REF < 650, size.depth, size.head)
    shift = np.zeros((2, len(_LANDMARKS_REF)))
    lean = float(rng.normal(0.0, 3.0))
    shift[0] = lean * (_LANDMARKS_REF - 300.0) / 300.0
    nodes_ref, nodes_mm, scale = _LANDMARKS_REF, z_nodes, np.vstack([trunk_x, trunk_y])
    if size.scoliosis_mm:
        fine = np.unique(np.concatenate([_LANDMARKS_REF, np.arange(100.0, 660.0, 20.0)]))
        nodes_mm, shift_x = np.interp(fine, nodes_ref, z_nodes), np.interp(fine, nodes_ref, shift[0])
        scale = np.vstack([np.interp(fine, nodes_ref, s) for s in scale])
        arc = np.clip((fine - 100.0) / 560.0, 0.0, 1.0)
        shift = np.vstack([shift_x + size.scoliosis_mm * np.sin(2 * np.pi * arc) * np.sin(np.pi * arc), 0 * fine])
        nodes_ref = fine
    low = (float(x[0]), float(y[0]), float(z[0]))
    high = (float(x[-1]), float(y[-1]), float(z[-1]))
    step = float(rng.uniform(55.0, 85.0))
    factor = settings.heldout.deformation if size.family == "heldout" else 1.0
    fields = [draw_field(rng, low, high, step) for _ in range(3)]
    return Frame(
        x_mm=x,
        y_mm=y,
        z_mm=z,
        z_nodes_mm=nodes_mm,
        z_nodes_ref=nodes_ref,
        scale=scale,
        shift=shift,
        warp=(fields[0], fields[1], fields[2]),
        warp_mm=factor * float(rng.uniform(*settings.deformation_mm)),
        surface=draw_field(rng, low, high, 14.0),
        surface_sd=factor * float(rng.uniform(*settings.roughness)),
    )


def _profile_depth(
    table: FloatArray, coordinates: tuple[Float32Array, Float32Array, Float32Array], exponent: float
) -> Float32Array:
    """Depth (mm, negative outside) below a stack of superellipses, measured along the ray to each slice's middle."""
    x, y, z = coordinates
    a, b, middle = (np.interp(z, table[:, 0], column).astype(np.float32) for column in table[:, 1:].T)
    off = y - middle
    norm = (np.abs(x / a) ** np.float32(exponent) + np.abs(off / b) ** np.float32(exponent)) ** np.float32(1 / exponent)
    ray = np.sqrt(x * x + off * off)
    depth = ray / np.maximum(norm, np.float32(1e-3)) - ray
    # Above and below the table there is nothing, whatever the radius of its last row.
    depth[(z < table[0, 0]) | (z > table[-1, 0])] = -100.0
    return np.asarray(depth)


def _adapted(table: FloatArray, size: BodySize) -> FloatArray:
    """A profile table with this body's hips, shoulders and belly."""
    out = table.copy()
    z = table[:, 0]
    out[:, 1] *= np.interp(
        z, [60, 130, 230, 400, 500, 560, 620], [size.hips, size.hips, 1, 1, size.shoulders, size.shoulders, 1]
    )
    push = size.belly_mm * np.interp(z, [100, 190, 280, 380, 450], [0.0, 0.9, 1.0, 0.4, 0.0])
    out[:, 1] += 0.5 * push
    out[:, 2] += 0.5 * push
    out[:, 3] += 0.5 * push
    return out


def limbs(size: BodySize) -> tuple[tuple[Solid, float], ...]:
    """Head, thighs, arms and breasts under their fat: (solid, share of the navel's fat thickness)."""
    e = size.exponents[0] if size.family == "heldout" else 2.0
    pieces: list[tuple[Solid, float]] = [
        (Ellipsoid((0, 0, 812), (74, 92, 86), exponent=min(e, 2.4)), 0.15),
        (Ellipsoid((0, 40, 742), (59, 56, 70), (-12, 0, 0), min(e, 2.6)), 0.25),
        (Ellipsoid((0, 97, 768), (13, 18, 20)), 0.0),
    ]
    muscle = 0.93 if size.female else 1.0
    for side in (1.0, -1.0):
        hip = (side * 84 * size.hips, -4.0, 40.0)
        knee = (side * 72.0, -8.0, -350.0)
        pieces.append((Segment(hip, knee, 82 * muscle, 55 * muscle), 1.1))
        pieces.append((Segment(knee, (side * 70, -10, -800), 55 * muscle, 38 * muscle), 0.5))
        if not size.arms_up:
            pieces.append((Ellipsoid((side * 150 * size.shoulders, -10, 553), (52, 50, 50)), 0.4))
        else:
            pieces.append((Ellipsoid((side * 140 * size.shoulders, -6, 580), (46, 48, 52)), 0.4))
        shoulder, elbow, hand = arm_joints(size, side)
        pieces.extend((s, 0.5) for s in tube([shoulder, elbow, hand], [44 * muscle, 37 * muscle, 25 * muscle]))
        pieces.append((Ellipsoid(hand, (26, 22, 42)), 0.1))
        if size.breast:
            s = size.breast
            pieces.append(
                (Ellipsoid((side * 78, 92, 462), (56 * s**0.5, 42 * s, 54 * s**0.5), (0, 0, -side * 12)), 0.3)
            )
    return tuple(pieces)


def arm_joints(size: BodySize, side: float) -> tuple[tuple[float, float, float], ...]:
    """Shoulder, elbow and hand of one arm (side +1 is the patient's right), reference mm."""
    if size.arms_up:
        return ((side * 152 * size.shoulders, -8.0, 585.0), (side * 188.0, 18.0, 838.0), (side * 52.0, 30.0, 985.0))
    beside = 145.0 + 0.5 * size.belly_mm + size.fat_mm + 37.0 + 0.5 * size.fat_mm + 4.0
    widest = 248.0 / size.width - 37.0 - 0.5 * size.fat_mm
    # Where the scanner's bore leaves no room at the side, the forearms rest on the flanks.
    front = float(np.clip(beside - widest, 0.0, 60.0))
    elbow = min(beside, widest)
    return (
        (side * 166 * size.shoulders, -12.0, 548.0),
        (side * elbow, -18.0 + front, 290.0),
        (side * (elbow - 6.0 - 0.3 * front), 2.0 + 1.3 * front, 60.0),
    )


@dataclass(frozen=True, eq=False)
class Hull:
    """Depths (mm, positive inside) on the full grid: below the skin, below the fat, inside the body cavity."""

    skin: Float32Array
    lean: Float32Array
    cavity: Float32Array


def hull(size: BodySize, frame: Frame) -> Hull:
    """Evaluate the body's outlines on every second voxel (they are smooth) and interpolate."""
    half = frame.halved()
    whole = (slice(None), slice(None), slice(None))
    coordinates = half.reference(whole)
    exponent = size.exponents[0]
    lean = _profile_depth(_adapted(_TRUNK, size), coordinates, exponent)
    cavity = _profile_depth(_adapted(_CAVITY, size), coordinates, exponent)
    z, y = coordinates[2], coordinates[1]
    fat = np.interp(z, _FAT_SHARE[:, 0], _FAT_SHARE[:, 1] * size.fat_mm).astype(np.float32)
    # Lying on the back, soft tissue spreads to the sides.
    skin: Float32Array = lean + fat * np.asarray(1.15 - 0.35 * np.tanh(np.abs(y) / 90.0), dtype=np.float32)
    for solid, share in limbs(size):
        box = half.box(*(corner + grow for corner, grow in zip(solid.bounds(), (-60.0, 60.0), strict=True)))
        if box is None:
            continue
        x_box, y_box, z_box = half.reference(box)
        centre = np.mean(solid.bounds(), axis=0)
        depth = _solid_depth(solid, x_box, y_box, z_box, centre)
        np.maximum(lean[box], depth, out=lean[box])
        np.maximum(skin[box], depth + np.float32(max(1.5, share * size.fat_mm)), out=skin[box])
    return Hull(doubled(skin, frame.shape), doubled(lean, frame.shape), doubled(cavity, frame.shape))


def _solid_depth(solid: Solid, x: Float32Array, y: Float32Array, z: Float32Array, centre: FloatArray) -> Float32Array:
    """Depth (mm) below a solid's surface: exact for capsules, along the ray to the centre for ellipsoids."""
    level = solid.level(x, y, z)
    if isinstance(solid, Segment):
        return np.asarray((1.0 - level) * 0.5 * (solid.start_radius + solid.end_radius))
    ray = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    return np.asarray(ray / np.maximum(level, 1e-3) - ray, dtype=np.float32)
