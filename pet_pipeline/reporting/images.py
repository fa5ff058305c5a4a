"""Planes as small indexed PNGs inside the page: inverted grey, diverging and sequential scales.

Pictures hold no text: captions and colour bars are text of the page, which scales, prints and can be read aloud.
"""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pet_pipeline.types import FloatArray

Scale = Literal["inverted", "grey", "difference", "uncertainty", "counts"]

STOPS: dict[Scale, tuple[str, ...]] = {
    "inverted": ("#ffffff", "#000000"),
    "grey": ("#000000", "#ffffff"),
    "difference": (
        "#053061", "#2166ac", "#4393c3", "#92c5de", "#d6e8f2", "#ffffff",
        "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f",
    ),
    "uncertainty": ("#ffffff", "#fdf0c5", "#fbcb6b", "#ea8c26", "#b04c0b", "#5a2406"),
    "counts": ("#ffffff", "#dbe9f6", "#a6cbe3", "#5aa1cf", "#2171b5", "#08306b"),
}  # fmt: skip
"""Evenly spaced colours of each scale, low to high, mixed linearly between: the colour bars use the same."""


def on_page(plane: FloatArray) -> FloatArray:
    """A plane (across, up) as rows of a picture: head or front up, the patient's right (or front) on the left."""
    return np.flip(plane.T, axis=(0, 1))


def png(plane: FloatArray, scale: Scale, low: float, high: float, *, levels: int = 256) -> bytes:
    """A plane (across, up) as an indexed PNG of `levels` colours from `low` to `high`; values beyond are cut.

    Args:
        plane: values, NaN is drawn as `low`.
        scale: which colours.
        low: value of the first colour.
        high: value of the last colour, above `low`.
        levels: number of colours, at most 256: fewer make smaller files.
    """
    from PIL import Image

    if scale == "difference":
        levels -= 1 - levels % 2  # an odd number: zero has a colour of its own, white
    steps = (on_page(plane.astype(np.float32)) - low) * (levels / (high - low))
    index = np.nan_to_num(steps).clip(0, levels - 1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(index, mode="L").save(stream, format="PNG", optimize=True)
    return _with_palette(stream.getvalue(), palette(scale, levels).tobytes())


def _with_palette(grey: bytes, colours: bytes) -> bytes:
    """A grey PNG as an indexed one, its values the indices.

    Libraries write indexed pictures without the row filters that suit grey ones, a quarter larger: so the header's
    colour type is turned from 0 (grey) to 3 (indexed), and the palette put behind it (PNG, section 11.2).
    """
    end = 8 + 25  # signature, then IHDR: length, name, 13 bytes, checksum
    header = grey[16:25] + b"\3" + grey[26:29]
    return grey[:8] + _chunk(b"IHDR", header) + _chunk(b"PLTE", colours) + grey[end:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def palette(scale: Scale, levels: int) -> npt.NDArray[np.uint8]:
    """The scale's colours, (levels, 3), 0 to 255."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in STOPS[scale]], dtype=np.float64)
    places = np.linspace(0.0, len(stops) - 1, levels)
    mixed = np.stack([np.interp(places, np.arange(len(stops)), stops[:, channel]) for channel in range(3)], axis=1)
    return np.rint(mixed).astype(np.uint8)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Bytes as an address that needs no second file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def gradient(scale: Scale) -> str:
    """The scale as a CSS gradient, low on the left."""
    return f"linear-gradient(to right, {', '.join(STOPS[scale])})"


def shrunk(plane: FloatArray, spacing_mm: tuple[float, float], high_px: int) -> FloatArray:
    """A plane (across, up) resampled to square pixels and `high_px` of them up, by averages: for thumbnails."""
    across_mm, up_mm = plane.shape[0] * spacing_mm[0], plane.shape[1] * spacing_mm[1]
    width = max(round(high_px * across_mm / up_mm), 1)
    return averaged(averaged(plane.astype(np.float32), width, 0), high_px, 1)


def averaged(plane: FloatArray, size: int, axis: int) -> FloatArray:
    """`size` averages along one axis of an array: exact where a new pixel covers parts of old ones."""
    length = plane.shape[axis]
    edges = np.linspace(0.0, length, size + 1)
    shape: Sequence[int] = [n + (1 if a == axis else 0) for a, n in enumerate(plane.shape)]
    summed: npt.NDArray[Any] = np.zeros(shape, dtype=np.float64)
    inner = [slice(None)] * plane.ndim
    inner[axis] = slice(1, None)
    summed[tuple(inner)] = np.cumsum(plane, axis=axis, dtype=np.float64)
    whole = np.floor(edges).astype(int).clip(0, length - 1)
    part = np.expand_dims(edges - whole, tuple(a for a in range(plane.ndim) if a != axis))
    at = summed.take(whole, axis) * (1.0 - part) + summed.take(whole + 1, axis) * part
    result: FloatArray = np.diff(at, axis=axis) / (length / size)
    return result
