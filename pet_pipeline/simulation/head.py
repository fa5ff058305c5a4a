"""Head and neck: skull, brain, airway, glands, as parts in reference millimetres."""

import numpy as np

from pet_pipeline.simulation.body_shapes import BodySize
from pet_pipeline.simulation.solids import Ellipsoid, Part, Segment, parts, tube
from pet_pipeline.simulation.tissues import Tissue

_NOT_BONE = (Tissue.MUSCLE, Tissue.FAT, Tissue.MEDIASTINUM, Tissue.VISCERAL_FAT)


def head_parts(rng: np.random.Generator, size: BodySize) -> list[Part]:
    """Skull with diploe, face bones, sinuses, brain, eyes, glands and the neck's airway and vessels."""
    e = min(size.exponents[0], 2.3)
    skull = float(rng.uniform(5.5, 8.0))
    vault = Ellipsoid((0, 2, 815), (71, 88, 82), exponent=e)
    result = parts([vault], Tissue.BONE, rough=False)
    result += parts([vault.shrunk(2.3)], Tissue.MARROW, rough=False)
    result += parts([vault.shrunk(skull - 2.3)], Tissue.BONE, rough=False)
    brain = vault.shrunk(skull)
    result += parts([brain], Tissue.CSF, rough=False)
    result += _brain_parts(rng, brain)
    # Face: maxilla and mandible, teeth, sinuses, eyes.
    jaw = [(-44.0, 30.0, 735.0), (-34.0, 72.0, 706.0), (0.0, 90.0, 700.0), (34.0, 72.0, 706.0), (44.0, 30.0, 735.0)]
    result += parts(tube(jaw, 6.5, smooth=3), Tissue.BONE)
    result += parts([Ellipsoid((0, 66, 738), (30, 24, 14))], Tissue.BONE)
    result += parts([Ellipsoid((0, 52, 745), (20, 26, 15)), Ellipsoid((0, 80, 772), (12, 18, 16))], Tissue.AIRWAY)
    for side in (1.0, -1.0):
        result += parts([Ellipsoid((side * 27, 66, 762), (13, 14, 14))], Tissue.AIRWAY)
        result += parts([Ellipsoid((side * 32, 78, 790), (13, 13, 13))], Tissue.CONTENTS, rough=False)
        result += parts([Ellipsoid((side * 50, 10, 737), (11, 17, 20))], Tissue.SALIVARY_GLANDS, _NOT_BONE)
        result += parts([Ellipsoid((side * 26, 48, 702), (10, 15, 9))], Tissue.SALIVARY_GLANDS, _NOT_BONE)
        result += parts([Ellipsoid((side * 15, 24, 722), (6, 8, 10))], Tissue.TONSILS, _NOT_BONE)
        result += parts([Ellipsoid((side * 18, 12, 628), (9, 9, 20))], Tissue.THYROID, _NOT_BONE)
        vessels = tube([(side * 22, 6, 600), (side * 27, 4, 660), (side * 30, -2, 730)], [6.0, 5.5, 4.5], smooth=2)
        result += parts(vessels, Tissue.BLOOD_POOL, _NOT_BONE)
    throat = tube([(0, 22, 752), (0, 8, 728), (0, 8, 690), (0, 12, 655), (0, 4, 610)], [10, 9, 8, 9, 9], smooth=2)
    return result + parts(throat, Tissue.AIRWAY)


def _brain_parts(rng: np.random.Generator, brain: Ellipsoid) -> list[Part]:
    """Grey mantle over white matter, folded by many gyri, deep nuclei, ventricles, cerebellum."""
    allowed = (Tissue.CSF,)
    grey = brain.shrunk(2.0)
    result = parts([grey], Tissue.BRAIN, allowed, rough=False)
    inner = grey.shrunk(float(rng.uniform(9.0, 13.0)))
    result += parts([inner], Tissue.WHITE_MATTER, (Tissue.BRAIN,))
    a, b, c = inner.semi
    x0, y0, z0 = inner.centre
    # Fingers of grey matter (sulci) reach into the white matter from all sides.
    for _ in range(70):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        start = np.array([x0, y0, z0]) + 1.05 * direction * (a, b, c)
        depth = float(rng.uniform(10.0, 24.0))
        end = start - depth * direction + rng.normal(0.0, 5.0, 3)
        result += parts(
            [Segment(tuple(start), tuple(end), 5.0, 2.5)], Tissue.BRAIN, (Tissue.WHITE_MATTER,), rough=False
        )
    wide = float(rng.uniform(0.7, 1.6))
    for side in (1.0, -1.0):
        result += parts([Ellipsoid((side * 22, 6, 800), (11, 22, 14))], Tissue.BRAIN)
        result += parts([Ellipsoid((side * 12, -10, 798), (9, 13, 9))], Tissue.BRAIN)
        horn = tube([(side * 8, 34, 812), (side * 11, 0, 822), (side * 20, -32, 812)], 4.5 * wide, smooth=2)
        result += parts(horn, Tissue.CSF, (Tissue.BRAIN, Tissue.WHITE_MATTER), rough=False)
        result += parts(
            [Ellipsoid((side * 24, -52, 766), (24, 20, 17))],
            Tissue.BRAIN,
            (Tissue.CSF, Tissue.BRAIN, Tissue.WHITE_MATTER),
        )
    result += parts([Ellipsoid((0, -20, 805), (1.6, 80, 60))], Tissue.CSF, (Tissue.BRAIN,), rough=False)
    result += parts([Segment((0, -22, 775), (0, -16, 738), 13, 9)], Tissue.WHITE_MATTER)
    return result
