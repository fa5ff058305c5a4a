"""Small PET files, good and bad, made from bytes up: nothing of the package is used here."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

SHAPE = (30, 22, 20)
SPACING_MM = 10.0

# Byte offsets in a NIfTI-1 header (nifti1.h)
PIXDIM = 76
QFORM_CODE = 252
SFORM_CODE = 254
SROW_X = 280


def affine(spacing_mm: float = SPACING_MM, shape: tuple[int, ...] = SHAPE) -> npt.NDArray[np.float64]:
    """RAS+ with the centre of the grid at the origin."""
    result = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    result[:3, 3] = [-(n - 1) / 2.0 * spacing_mm for n in (*shape, 1)[:3]]
    return result


def body(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.float32]:
    """A torso in SUV that no flip maps onto itself: liver on the right, lung on the left, a hot spot low in front."""
    grid = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")

    def blob(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> npt.NDArray[np.bool_]:
        return np.asarray(sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1.0)

    image = np.full(shape, 0.01)
    image[blob((0.0, 0.0, 0.0), (0.75, 0.75, 3.0))] = 0.8
    image[blob((0.35, 0.0, 0.1), (0.3, 0.5, 0.5))] = 2.2
    image[blob((-0.35, -0.1, 0.4), (0.25, 0.5, 0.5))] = 0.4
    image[blob((-0.2, 0.3, -0.6), (0.2, 0.2, 0.2))] = 6.0
    noise = np.random.default_rng(seed).gamma(25.0, 1.0 / 25.0, shape)  # relative noise of 20 %
    return (image * noise).astype(np.float32)


def save(
    path: Path,
    data: npt.NDArray[Any],
    placed: npt.NDArray[np.float64] | None = None,
    *,
    codes: tuple[int, int] = (1, 1),
    kind: type[nib.Nifti1Image] = nib.Nifti1Image,
    endianness: str = "<",
    units: tuple[str, str] = ("mm", "sec"),
    scale: tuple[float, float] | None = None,
) -> Path:
    """Write a NIfTI file.

    Args:
        path: where to.
        data: stored in its own type; with `scale`, what is meant, stored as int16.
        placed: voxel to patient mm.
        codes: qform and sform code.
        kind: NIfTI-1 or NIfTI-2.
        endianness: `<` or `>`.
        units: of space and time.
        scale: slope and intercept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    placed = affine(shape=data.shape) if placed is None else placed
    stored = data if scale is None else np.round((data - scale[1]) / scale[0]).astype(np.int16)
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(stored.dtype)
    image = kind(stored, placed, header)
    image.set_qform(placed, code=codes[0])
    image.set_sform(placed, code=codes[1])
    image.header.set_xyzt_units(*units)
    if scale is not None:
        image.header.set_slope_inter(*scale)
        # nibabel would choose a slope of its own on saving: write the parts by hand.
        with path.open("wb") as file:
            image.header["vox_offset"] = 352
            image.header["magic"] = b"n+1"
            file.write(image.header.binaryblock + b"\0\0\0\0")
            file.write(stored.astype(stored.dtype.newbyteorder(endianness)).tobytes(order="F"))
        return path
    nib.save(image, path)
    return path


def patch(path: Path, offset: int, kind: str, *values: float) -> Path:
    """Overwrite bytes of an uncompressed little-endian file."""
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(values)}{kind}", content, offset, *values)
    path.write_bytes(content)
    return path


@dataclass(frozen=True)
class Loaded:
    """A NIfTI file as its bytes say, header fields included."""

    data: npt.NDArray[np.float64]
    header: Any
    slope: float
    intercept: float

    @classmethod
    def of(cls, path: Path) -> "Loaded":
        """Read the whole file."""
        image = nib.load(path)
        assert isinstance(image, nib.Nifti1Pair)
        # nibabel clears the header's own scl_slope when it loads; the proxy keeps what the file says.
        proxy = image.dataobj
        return cls(np.asarray(image.get_fdata()), image.header, float(proxy.slope), float(proxy.inter))

    def forms(self) -> dict[str, Any]:
        """qform and sform with their codes; None for a form that is not set."""
        qform, qcode = self.header.get_qform(coded=True)
        sform, scode = self.header.get_sform(coded=True)
        return {"qform": qform, "qcode": int(qcode), "sform": sform, "scode": int(scode)}
