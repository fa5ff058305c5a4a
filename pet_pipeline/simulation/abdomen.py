"""Abdomen and pelvis: liver to bladder, bowel, sex organs, as parts in reference millimetres."""

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.simulation.body_shapes import BodySize
from pet_pipeline.simulation.solids import Ellipsoid, Part, Point, Segment, Solid, parts, tube
from pet_pipeline.simulation.tissues import Tissue

_ROOM = (Tissue.VISCERAL_FAT,)
_SOFT = (Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.FAT)


def _near(rng: np.random.Generator, centre: Point, spread: float) -> Point:
    x, y, z = np.asarray(centre) + rng.normal(0.0, spread, 3)
    return float(x), float(y), float(z)


def abdomen_parts(rng: np.random.Generator, size: BodySize, settings: PhantomSettings) -> list[Part]:
    """All organs below the diaphragm, in painting order (later parts only take the fat that is left)."""
    e = size.exponents[1]
    result = _psoas_parts()
    result += _liver_parts(rng, size, settings)
    result += _upper_parts(rng, e)
    result += _kidney_parts(rng, size, settings)
    result += _pelvic_parts(rng, size)
    result += _colon_parts(rng)
    result += _small_bowel_parts(rng)
    return result


def _psoas_parts() -> list[Part]:
    muscles = [Segment((s * 26, -44, 330), (s * 46, -28, 190), 10, 22) for s in (1.0, -1.0)]
    muscles += [Segment((s * 46, -28, 190), (s * 78, 14, 80), 22, 14) for s in (1.0, -1.0)]
    return parts(muscles, Tissue.MUSCLE, _ROOM)


def _liver_parts(rng: np.random.Generator, size: BodySize, settings: PhantomSettings) -> list[Part]:
    grow = float(rng.uniform(*settings.heldout.large_liver)) if size.family == "heldout" else 1.0
    s = grow * float(rng.uniform(0.92, 1.08))
    low = float(rng.normal(0.0, 10.0))
    e = size.exponents[1]
    right = Ellipsoid(
        _near(rng, (66, 6, 372 + 0.5 * low), 3), (74 * s, 78 * s, 92 * s - 0.5 * low), (0, 12, 0), max(e, 2.4)
    )
    left = Ellipsoid(_near(rng, (-6, 36, 400), 5), (66 * s, 36 * s, 36 * s), (0, float(rng.uniform(-22, -5)), 0), e)
    result = parts([right, left], Tissue.LIVER, _ROOM)
    result += parts([Ellipsoid(_near(rng, (44, 50, 312), 6), (13, 17, 24))], Tissue.GALLBLADDER, (*_ROOM, Tissue.LIVER))
    porta = tube([(10, 10, 345), (30, 12, 365), (58, 4, 385)], [7, 6.5, 4], smooth=2)
    return result + parts(porta, Tissue.BLOOD_POOL, (*_ROOM, Tissue.LIVER), rough=False)


def _upper_parts(rng: np.random.Generator, e: float) -> list[Part]:
    """Spleen, stomach with contents and gas, pancreas, adrenals."""
    s = float(rng.uniform(0.8, 1.25))
    tilt = (float(rng.normal(0, 10)), float(rng.normal(-15, 8)), float(rng.normal(20, 10)))
    result = parts([Ellipsoid(_near(rng, (-95, -30, 352), 4), (27 * s, 42 * s, 56 * s), tilt, e)], Tissue.SPLEEN, _ROOM)
    full = float(rng.uniform(0.75, 1.2))
    path: list[Point] = [(-58, -12, 405), (-72, 10, 370), (-58, 38, 325), (-22, 52, 300), (16, 42, 306)]
    radii = [32 * full, 34 * full, 27 * full, 20 * full, 11.0]
    wall = tube(path, radii, smooth=3)
    result += parts(wall, Tissue.STOMACH, _ROOM)
    rugae = float(rng.uniform(5.0, 9.0))
    result += parts([s.shrunk(rugae) for s in wall], Tissue.CONTENTS, (Tissue.STOMACH,), rough=False)
    if rng.random() < 0.6:  # lying on the back, air rises to the front
        bubble = Ellipsoid(_near(rng, (-62, 40, 345), 6), (26 * full, 14 * full, 34 * full))
        result += parts([bubble], Tissue.GAS, (Tissue.CONTENTS,))
    pancreas = tube([(-78, -22, 358), (-30, 2, 338), (14, 16, 320), (30, 12, 296)], [9, 10, 11, 13], smooth=2)
    result += parts(pancreas, Tissue.PANCREAS, _ROOM)
    glands = tube([(40, -38, 362), (52, -44, 352)], 4.5) + tube([(-36, -36, 366), (-48, -42, 354)], 4.5)
    return result + parts(glands, Tissue.ADRENALS, _ROOM)


def _kidney_parts(rng: np.random.Generator, size: BodySize, settings: PhantomSettings) -> list[Part]:
    sides = [1.0, -1.0]
    if size.family == "heldout" and rng.random() < settings.heldout.single_kidney_fraction:
        sides.remove(float(rng.choice(sides)))
    result: list[Part] = []
    for side in sides:
        s = float(rng.uniform(0.88, 1.12)) * (1.15 if len(sides) == 1 else 1.0)
        x, y, z = _near(rng, (side * 64, -42, 296 if side > 0 else 310), 5)
        lean: Point = (float(rng.normal(-10, 5)), side * -12.0, side * 20.0)
        result += parts(
            [Ellipsoid((x, y, z), (36 * s, 34 * s, 64 * s), lean)], Tissue.VISCERAL_FAT, (*_ROOM, Tissue.MUSCLE)
        )
        result += parts(
            [Ellipsoid((x, y, z), (27 * s, 24 * s, 55 * s), lean)],
            Tissue.KIDNEYS,
            (*_ROOM, Tissue.LIVER, Tissue.MUSCLE),
        )
        dilated = float(rng.uniform(0.6, 1.4))
        pelvis = Ellipsoid((x - side * 9, y + 4, z), (7 * dilated, 7 * dilated, 16 * dilated), lean)
        result += parts([pelvis], Tissue.RENAL_PELVIS, (Tissue.KIDNEYS, Tissue.VISCERAL_FAT))
        ureter = tube(
            [(x - side * 20, y + 6, z - 15), (side * 36, -12, 210), (side * 34, -24, 130), (side * 18, -14, 72)],
            2.6,
            smooth=2,
        )
        if rng.random() < 0.5:  # peristalsis fills it here and there
            result += parts([u for u in ureter if rng.random() < 0.5], Tissue.RENAL_PELVIS, _SOFT, rough=False)
    return result


def _pelvic_parts(rng: np.random.Generator, size: BodySize) -> list[Part]:
    """Bladder, rectum's place kept free, uterus and ovaries or prostate and testes."""
    volume_ml = float(np.exp(rng.uniform(np.log(40.0), np.log(420.0))))
    radius = (volume_ml * 1000.0 / (4.0 / 3.0 * np.pi)) ** (1.0 / 3.0)
    flat = float(rng.uniform(0.8, 1.0))
    bladder = Ellipsoid((float(rng.normal(0, 4)), 22.0, 44.0 + radius * flat), (radius * 1.12, radius, radius * flat))
    result = parts([bladder], Tissue.BLADDER, _SOFT)
    if size.female:
        tilt = (float(rng.normal(-35, 20)), float(rng.normal(0, 12)), 0.0)
        top = 44.0 + 2.0 * radius * flat
        result += parts(
            [Ellipsoid((float(rng.normal(0, 6)), -14.0, 0.5 * top + 46.0), (25, 21, 36), tilt)], Tissue.UTERUS, _ROOM
        )
        ovaries: list[Solid] = [Ellipsoid(_near(rng, (s * 42, -8, 110), 5), (11, 13, 15)) for s in (1.0, -1.0)]
        result += parts(ovaries, Tissue.GONADS, _ROOM)
    else:
        s = float(rng.uniform(0.85, 1.4))
        result += parts([Ellipsoid((0, 12, 36), (22 * s, 17 * s, 16 * s))], Tissue.PROSTATE, _SOFT)
        testes: list[Solid] = [Ellipsoid((s * 15, 62, -38), (12, 14, 19)) for s in (1.0, -1.0)]
        result += parts(testes, Tissue.GONADS, (*_SOFT,))
    return result


def _colon_parts(rng: np.random.Generator) -> list[Part]:
    """Rectum to caecum: a wall, contents, and gas where it rises."""
    sag = float(rng.normal(0.0, 14.0))
    path: list[Point] = [
        (0, -40, 22), (0, -48, 60), (4, -42, 110), (-22, -6, 128), (-34, 24, 112), (-66, 14, 132), (-96, 2, 170),
        (-102, -18, 230), (-98, -22, 300), (-82, 20, 318), (-50, 56, 268 + sag), (0, 68, 246 + sag),
        (48, 58, 262 + sag), (88, 30, 282), (98, -8, 262), (98, -8, 210), (84, 10, 160),
    ]  # fmt: skip
    path = [_near(rng, p, 4.0) for p in path]
    radii = np.array([11, 17, 15, 12, 12, 12, 13, 13, 14, 16, 17, 18, 18, 19, 20, 23, 24]) * rng.uniform(0.8, 1.15)
    wall = tube(path, list(radii), smooth=3)
    result = parts(wall, Tissue.BOWEL, _SOFT)
    filled = [s for s in wall if rng.random() < 0.75]
    result += parts([s.shrunk(4.5) for s in filled], Tissue.CONTENTS, (Tissue.BOWEL,), rough=False)
    gassy = float(rng.uniform(0.05, 0.6))
    bubbles: list[Solid] = []
    for s in filled:
        if rng.random() < gassy:
            r = 0.62 * min(s.start_radius, s.end_radius)
            lift = 0.25 * r
            a, b = ((p[0], p[1] + lift, p[2]) for p in (s.start, s.end))
            bubbles.append(Segment(a, b, r, r))
    return result + parts(bubbles, Tissue.GAS, (Tissue.BOWEL, Tissue.CONTENTS), rough=False)


def _small_bowel_parts(rng: np.random.Generator) -> list[Part]:
    """Loops as a random walk through the middle of the abdomen."""
    result: list[Part] = []
    here = np.array([-40.0, 25.0, 285.0])
    low, high = np.array([-82.0, -14.0, 112.0]), np.array([82.0, 78.0, 286.0])
    heading = rng.standard_normal(3)
    for _ in range(95):
        heading = 0.65 * heading + rng.standard_normal(3)
        heading /= np.linalg.norm(heading)
        there = here + 27.0 * heading
        bounced = np.where(there > high, 2 * high - there, np.where(there < low, 2 * low - there, there))
        heading = np.where(bounced != there, -heading, heading)
        radius = float(rng.uniform(9.0, 14.5))
        a, b = ((float(p[0]), float(p[1]), float(p[2])) for p in (here, bounced))
        loop = Segment(a, b, radius, radius)
        result += parts([loop], Tissue.BOWEL, _ROOM)
        if rng.random() < 0.6:
            result += parts([loop.shrunk(4.0)], Tissue.CONTENTS, (Tissue.BOWEL,), rough=False)
        if rng.random() < 0.06:
            result += parts([loop.shrunk(5.0)], Tissue.GAS, (Tissue.CONTENTS, Tissue.BOWEL), rough=False)
        here = bounced
    return result
