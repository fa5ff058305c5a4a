"""Bones: spine, sternum, shoulder girdle, pelvis, long bones, as parts in reference millimetres."""

from itertools import pairwise

import numpy as np

from pet_pipeline.simulation.body_shapes import BodySize, arm_joints
from pet_pipeline.simulation.solids import Ellipsoid, Part, Point, Segment, Solid, bone, parts, tube
from pet_pipeline.simulation.tissues import Tissue

# Middle of the vertebral bodies: z, y (front of the back muscles), reference mm.
_SPINE_Z = np.array([110.0, 150.0, 240.0, 325.0, 450.0, 530.0, 600.0, 640.0, 700.0, 735.0])
_SPINE_Y = np.array([-60.0, -50.0, -42.0, -50.0, -66.0, -66.0, -52.0, -36.0, -18.0, -14.0])

# Heights of the discs from L5/S1 up to C1: 5 lumbar, 12 thoracic, 7 cervical vertebrae.
_DISCS = np.concatenate([np.linspace(150, 325, 6), np.linspace(325, 610, 13)[1:], np.linspace(610, 728, 8)[1:]])


def spine_y(z: float) -> float:
    """Front-back position (reference mm) of the vertebral bodies at height z."""
    return float(np.interp(z, _SPINE_Z, _SPINE_Y))


def spine_parts(rng: np.random.Generator) -> list[Part]:
    """Vertebrae with arches, discs, spinal cord and sacrum."""
    result: list[Part] = []
    cortex = float(rng.uniform(1.5, 2.5))
    for index, (low, high) in enumerate(pairwise(_DISCS.tolist())):
        z, y = 0.5 * (low + high), spine_y(0.5 * (low + high))
        share = float(np.clip(index / 22.0, 0.0, 1.0))
        a, b = 25.0 - 13.0 * share, 18.0 - 9.0 * share
        half = 0.5 * (high - low)
        gap = 2.0 if index < 17 else 1.0
        result += parts(
            [Ellipsoid((0, y, z), (a * 0.92, b * 0.92, half + 1), exponent=4.0)], Tissue.CARTILAGE, rough=False
        )
        body = Ellipsoid((0, y, z), (a, b, half - gap), exponent=4.0)
        # Behind the body: pedicles, laminae and the spinous process around the canal.
        back = y - b - 9.0
        arch: list[Solid] = [Ellipsoid((0, back, z), (17 - 6 * share, 14 - 4 * share, half * 0.6))]
        arch.append(Segment((0, back - 8, z), (0, back - 24 + 10 * share, z - half * 0.8), 4.5, 3.0))
        for side in (1.0, -1.0):
            arch.append(Segment((side * 12, back, z), (side * (36 - 16 * share), back - 4, z + 2), 4.5, 3.0))
        result += bone([body], cortex)
        result += bone(arch, cortex)
        result += parts([Ellipsoid((0, back + 1, z), (8, 7, half + 2), exponent=4.0)], Tissue.SPINAL_CORD, rough=False)
    sacrum: list[Solid] = [
        Ellipsoid((0, -58, 128), (50, 15, 22), (14, 0, 0), 2.6),
        Ellipsoid((0, -66, 104), (36, 13, 28), (10, 0, 0)),
        *tube([(0, -72, 84), (0, -74, 58), (0, -64, 32)], [19, 12, 4], smooth=2),
    ]
    result += bone(sacrum, 2.8)
    return result


def trunk_bone_parts() -> list[Part]:
    """Sternum, clavicles, scapulae."""
    result = bone(
        [Ellipsoid((0, 96, 492), (17, 6, 72), (-6, 0, 0), 3.0), Ellipsoid((0, 88, 560), (26, 7, 22), (-14, 0, 0))], 1.8
    )
    for side in (1.0, -1.0):
        result += bone(tube([(side * 16, 72, 570), (side * 70, 52, 588), (side * 140, 8, 590)], 6.5, smooth=3), 2.2)
        blade = Ellipsoid((side * 102, -80, 520), (42, 4.5, 62), (0, side * 8, side * -32), 2.5)
        spine = Segment((side * 75, -90, 545), (side * 150, -25, 588), 5.5, 7.0)
        result += bone([blade, spine], 2.4)
    return result


def pelvis_parts() -> list[Part]:
    """Iliac wings, acetabula, pubis, ischium."""
    result: list[Part] = []
    for side in (1.0, -1.0):
        wing = Ellipsoid((side * 92, -22, 148), (9, 60, 58), (0, side * 22, side * -38), 2.3)
        solids: list[Solid] = [
            wing,
            Segment((side * 52, -62, 140), (side * 84, -2, 72), 13, 18),
            Ellipsoid((side * 90, 0, 66), (29, 29, 29)),
            *tube([(side * 84, 12, 68), (side * 45, 48, 66), (side * 10, 52, 44)], [14, 9, 10]),
            *tube(
                [(side * 84, -14, 48), (side * 64, -38, 8), (side * 50, -10, 4), (side * 12, 46, 34)], [16, 15, 8, 8]
            ),
        ]
        result += bone(solids, 2.8)
    return result


def long_bone_parts(rng: np.random.Generator, size: BodySize) -> list[Part]:
    """Femora with head and neck, humeri, forearm bones."""
    result: list[Part] = []
    girth = float(rng.uniform(0.9, 1.1)) * (0.92 if size.female else 1.0)
    for side in (1.0, -1.0):
        top: Point = (side * 122, -8, 50)
        knee: Point = (side * 72, -2, -350)
        ends: list[Solid] = [
            Ellipsoid((side * 88, 0, 66), (23, 23, 23)),
            Segment((side * 88, 0, 66), top, 15, 17),
            Segment(top, (side * 118, -6, 10), 19, 16),
        ]
        # A ring of joint space parts head and socket.
        result += parts([Ellipsoid((side * 88, 0, 66), (25.5, 25.5, 25.5))], Tissue.CARTILAGE, rough=False)
        result += bone(ends, 2.5)
        result += bone([Segment((side * 118, -6, 10), knee, 15.5 * girth, 14 * girth)], 5.5)
        result += bone([Segment(knee, (side * 70, -2, -800), 16 * girth, 12 * girth)], 5.0)
        shoulder, elbow, hand = arm_joints(size, side)
        head = (shoulder[0] - side * 8, shoulder[1], shoulder[2])
        result += bone([Ellipsoid(head, (23, 23, 23))], 2.5)
        result += bone([Segment(head, elbow, 12.5 * girth, 11 * girth)], 4.2)
        for offset in (-9.0, 9.0):
            start = (elbow[0] + offset, elbow[1], elbow[2])
            end = (hand[0] + offset, hand[1], hand[2])
            result += bone([Segment(start, end, 7.5 * girth, 6.0 * girth)], 2.6)
    return result
