"""Chest: mediastinum, heart, great vessels, airways, lung vessels, breasts, as parts in reference millimetres."""

import numpy as np

from pet_pipeline.simulation.body_shapes import BodySize
from pet_pipeline.simulation.solids import Ellipsoid, Part, Point, Solid, parts, rotation, tube
from pet_pipeline.simulation.tissues import Tissue

_CHEST = (Tissue.LUNGS, Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.MEDIASTINUM)


def thorax_parts(rng: np.random.Generator, size: BodySize) -> list[Part]:
    """All organs of the chest but the lungs, in painting order."""
    e = size.exponents[1]
    inside = (Tissue.LUNGS, Tissue.VISCERAL_FAT)
    # A column from the thoracic inlet down to the diaphragm: fat, nodes and vessels between the lungs.
    column: list[Solid] = [
        Ellipsoid((-2, -14, 505), (30, 48, 125), exponent=e),
        Ellipsoid((0, 40, 520), (24, 52, 88), exponent=e),
        Ellipsoid((0, -62, 480), (28, 24, 150), exponent=e),
    ]
    result = parts(column, Tissue.MEDIASTINUM, inside)
    result += _heart_parts(rng, e)
    result += _vessel_parts(rng)
    for side in (1.0, -1.0):
        result += _lung_tree(rng, side)
    airway = tube([(0, 6, 612), (0, -4, 560), (1, -16, 512)], 8.5, smooth=2)
    airway += tube([(1, -16, 512), (26, -20, 490), (46, -22, 470)], [8, 6.5, 4.5])
    airway += tube([(1, -16, 512), (-30, -20, 488), (-52, -26, 470)], [8, 6, 4.5])
    result += parts(airway, Tissue.AIRWAY)
    gullet = tube([(-4, -26, 620), (-2, -32, 540), (-4, -36, 470), (-12, -30, 425), (-28, -16, 400)], 6.5, smooth=2)
    result += parts(gullet, Tissue.STOMACH, _CHEST)
    if size.breast:
        for side in (1.0, -1.0):
            gland = Ellipsoid((side * 80, 104, 460), (34 * size.breast**0.5, 20 * size.breast, 32 * size.breast**0.5))
            result += parts([gland], Tissue.BREAST, (Tissue.FAT,))
    return result


def _heart_parts(rng: np.random.Generator, exponent: float) -> list[Part]:
    """Pericardial fat, left ventricle (a shell open at its base), right ventricle and both atria."""
    scale = float(rng.uniform(0.88, 1.12))
    shift = rng.normal(0.0, 4.0, 3)
    turn = (float(rng.normal(0, 8)), float(rng.normal(0, 8)), float(rng.normal(0, 8)))
    pivot = np.array([-16.0, 24.0, 448.0]) + shift
    whirl = rotation(turn)

    def at(x: float, y: float, z: float) -> Point:
        p = pivot + whirl @ (scale * (np.array([x, y, z]) - (-16.0, 24.0, 448.0)))
        return float(p[0]), float(p[1]), float(p[2])

    def blob(centre: Point, semi: Point, angles: Point = (0.0, 0.0, 0.0), e: float = 2.0) -> Ellipsoid:
        a, b, c = (scale * s for s in semi)
        return Ellipsoid(at(*centre), (a, b, c), (angles[0] + turn[0], angles[1] + turn[1], angles[2] + turn[2]), e)

    wall = float(rng.uniform(8.5, 13.0))
    axis: Point = (-20.0, 28.0, -38.0)  # the ventricle's long axis runs left, forward and down from its base
    over = (*_CHEST, Tissue.BLOOD_POOL)
    result = parts([blob((-16, 24, 446), (60, 50, 54), (0, 0, -30), exponent)], Tissue.VISCERAL_FAT, (*_CHEST,))
    result += parts(
        [blob((6, 44, 440), (36, 26, 38), (0, 25, -25))],
        Tissue.MYOCARDIUM if rng.random() < 0.3 else Tissue.BLOOD_POOL,
        over,
    )
    result += parts([blob((6, 44, 440), (33, 23, 35), (0, 25, -25))], Tissue.BLOOD_POOL)
    result += parts([blob((34, 20, 452), (22, 27, 33))], Tissue.BLOOD_POOL, over)
    result += parts([blob((-2, -12, 462), (32, 19, 24))], Tissue.BLOOD_POOL, over)
    ventricle = blob((-34, 26, 434), (47, 33, 33), axis)
    result += parts([ventricle], Tissue.MYOCARDIUM, (*over, Tissue.MYOCARDIUM))
    # The cavity lies towards the base, where it breaks through the wall into the atrium.
    base = rotation(ventricle.angles_deg) @ (0.28 * wall / 10.0 * 12.0 * scale, 0.0, 0.0)
    centre = np.asarray(ventricle.centre) + base
    cavity = Ellipsoid(
        (float(centre[0]), float(centre[1]), float(centre[2])), ventricle.shrunk(wall).semi, ventricle.angles_deg
    )
    result += parts([cavity], Tissue.BLOOD_POOL, rough=False)
    result += parts([blob((-6, 4, 452), (20, 18, 17))], Tissue.BLOOD_POOL, (Tissue.MYOCARDIUM, Tissue.VISCERAL_FAT))
    return result


def _vessel_parts(rng: np.random.Generator) -> list[Part]:
    """Aorta from the valve to its bifurcation, iliac arteries, both caval veins, pulmonary arteries."""
    wide = float(rng.uniform(0.85, 1.25))
    arch = tube(
        [(0, 18, 470), (12, 28, 510), (6, 16, 545), (-14, -12, 550), (-24, -42, 520), (-22, -46, 450), (-12, -36, 390),
         (-8, -20, 330), (-6, -10, 260), (-4, -12, 205)],
        [wide * r for r in (14.0, 15.0, 13.5, 12.5, 12.0, 11.5, 11.0, 10.0, 9.0, 8.5)],
        smooth=3,
    )  # fmt: skip
    veins = tube([(24, 24, 570), (28, 20, 520), (30, 18, 470)], 9.5, smooth=2)
    veins += tube([(24, 8, 430), (22, -8, 380), (20, -14, 300), (18, -14, 205)], [12, 11, 10, 10], smooth=2)
    lungs = tube([(-8, 30, 470), (-12, 14, 505), (-40, -14, 498), (-58, -22, 480)], [13, 12, 9, 6], smooth=2)
    lungs += tube([(-12, 12, 505), (20, -4, 498), (44, -16, 486), (60, -20, 474)], [12, 10, 8, 6], smooth=2)
    for side in (1.0, -1.0):
        lungs += tube(
            [(side * 6, -12, 205), (side * 30, -22, 160), (side * 56, 14, 105), (side * 78, 40, 60)],
            [7.5, 7, 6, 5.5],
            smooth=2,
        )
        lungs += tube([(side * 78, 40, 60), (side * 76, 30, -60), (side * 72, 0, -250)], [5.5, 5, 4], smooth=2)
    allowed = (*_CHEST, Tissue.FAT, Tissue.CARTILAGE)
    return parts([*arch, *veins, *lungs], Tissue.BLOOD_POOL, allowed, rough=False)


def _lung_tree(rng: np.random.Generator, side: float) -> list[Part]:
    """Vessels that branch from the hilum into one lung, thinning outwards."""
    hilum = np.array([side * 52.0, -20.0, 482.0])
    result: list[Part] = [
        Part(Ellipsoid((float(hilum[0]), -20.0, 482.0), (13, 16, 20)), Tissue.LUNG_VESSELS, (Tissue.LUNGS,))
    ]
    for _ in range(9):
        target = hilum + np.array([side * rng.uniform(5, 60), rng.uniform(-50, 70), rng.uniform(-110, 90)])
        middle = hilum + 0.5 * (target - hilum) + rng.normal(0, 8, 3)
        width = float(rng.uniform(3.0, 4.8))
        paths = [([hilum, middle, target], [width, 0.75 * width, 0.4 * width])]
        for _ in range(2):
            tip = middle + 0.6 * (target - hilum) * rng.uniform(0.5, 1.0) + rng.normal(0, 22, 3)
            paths.append(([middle, tip], [0.6 * width, 0.35 * width]))
        for path, radii in paths:
            points: list[Point] = [(float(p[0]), float(p[1]), float(p[2])) for p in path]
            result += parts(tube(points, radii), Tissue.LUNG_VESSELS, (Tissue.LUNGS,), rough=False)
    return result
