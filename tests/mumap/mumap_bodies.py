"""Small bodies of known shape for tests of the population prior: ellipses, lungs, a spine and ribs, 5 mm voxels."""

import numpy as np
from scipy import ndimage

from pet_pipeline.mumap.alignment import SPACING_MM, align
from pet_pipeline.mumap.bank import Body, MemberRecord, checksum, stored
from pet_pipeline.mumap.descriptors import describe
from pet_pipeline.physics.blur import smooth

SHAPE = (60, 44, 40)
TISSUE, LUNG, BONE = 0.098, 0.028, 0.14


def body(
    *,
    shape: tuple[int, int, int] = SHAPE,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scale: float = 1.0,
    width_mm: float = 115.0,
    depth_mm: float = 80.0,
    lungs: int = 2,
    turn: bool = False,
) -> np.ndarray:
    """A trunk that narrows towards the head, mu in cm^-1 (x, y, z), edges as a CT on a PET's grid shows them.

    Args:
        shape: voxels.
        centre_mm: of the body against the grid's centre.
        scale: of the body about its centre.
        width_mm: half-axis along x in its middle.
        depth_mm: half-axis along y.
        lungs: 2, 1 or none.
        turn: head and feet exchanged.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * 5.0 - c for n, c in zip(shape, centre_mm, strict=True)]
    x, y, z = np.meshgrid(*(a / scale for a in axes), indexing="ij")
    z = -z if turn else z
    narrow = 1.0 - 0.12 * np.tanh(z / 60.0)
    inside = (x / (width_mm * narrow)) ** 2 + (y / (depth_mm * narrow)) ** 2 < 1.0
    mu = np.where(inside, TISSUE, 0.0)
    for side in (-1, 1)[:lungs]:
        lung = ((x - side * 50) / 34) ** 2 + ((y - 5) / 48) ** 2 + ((z - 45) / 65) ** 2 < 1.0
        mu[lung & inside] = LUNG
    spine = (x**2 + (y + 0.62 * depth_mm) ** 2 < 15**2) & inside
    shell = np.abs((x / (width_mm * narrow * 0.86)) ** 2 + (y / (depth_mm * narrow * 0.84)) ** 2 - 1.0) < 0.09
    ribs = shell & (np.mod(z, 40.0) < 12.0) & (z > -20) & inside
    mu[spine | ribs] = BONE
    return smooth(mu.astype(np.float32), 5.0, SPACING_MM)


def estimate_of(mu: np.ndarray, fwhm_mm: float = 12.0) -> np.ndarray:
    """A stand-in for a network's estimate: bone half as bright, everything blurred."""
    faint = np.where(mu > 0.103, 0.103 + 0.5 * (mu - 0.103), mu).astype(np.float32)
    return smooth(faint, fwhm_mm, SPACING_MM)


def member(mu: np.ndarray, participant: str, *, site: str = "here", family: str = "standard") -> Body:
    """What a bank stores of a map."""
    aligned, frame = align(mu, SPACING_MM)
    values = stored(aligned.mu_cm1)
    record = MemberRecord(participant, site, family, values.shape, aligned.axis, checksum(values))
    return Body(record, values, describe(aligned, frame.mask))


def bent(mu: np.ndarray, amplitude_mm: float = 12.0) -> np.ndarray:
    """The map after a smooth bend that no affine transform makes."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=float) for n in mu.shape), indexing="ij")
    shift = amplitude_mm / 5.0 * np.sin(2 * np.pi * z / 30.0)
    return ndimage.map_coordinates(mu, [x + shift, y + 0.5 * shift, z], order=1).astype(np.float32)
