"""Where not to trust a picture: hatches over the least certain parts, which black-and-white print keeps.

Least certain is where the standard deviation is largest beside the predicted value. The limits are quantiles of the
body on a case's slices, so that a bare spread, which is far below the error, still shows where; captions say what they
are.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from pet_pipeline.types import BoolArray, FloatArray

SHARES = (0.10, 0.02)
"""Parts of the body, on the slices, that are hatched and cross-hatched."""

FLOOR_SUV = 0.5
"""Values below count as this much: in air and lung no deviation is small beside the value."""

SMOOTHING = 1.0
"""Standard deviation, pixels, by which the ratio is smoothed: hatches are no noise maps."""

LEAST_MM2 = 60.0
"""Smaller patches are left out: a hatch of a line or two is only clutter."""

Limits = tuple[float, float]
"""Deviation over value beyond which a place is hatched, and cross-hatched."""


def relative(deviation: FloatArray, prediction: FloatArray) -> FloatArray:
    """The deviation over the value on a plane, smoothed, float64."""
    ratio = deviation.astype(np.float64) / np.maximum(prediction.astype(np.float64), FLOOR_SUV)
    smooth: FloatArray = gaussian_filter(ratio, SMOOTHING)
    return smooth


def limits(ratios: Sequence[FloatArray], bodies: Sequence[BoolArray]) -> Limits:
    """What `SHARES` of the body exceed on planes, each with its own mask."""
    seen = np.concatenate([ratio[body] for ratio, body in zip(ratios, bodies, strict=True)])
    first, second = (float(np.quantile(seen, 1.0 - share)) if seen.size else np.inf for share in SHARES)
    return first, second


def outline(ratio: FloatArray, limit: float, spacing_mm: tuple[float, float]) -> str:
    """Where a plane (across, up) exceeds a limit, as an SVG path in mm from the picture's upper left; may be empty.

    The path has holes (`fill-rule: evenodd`), and is turned as `images.on_page` turns the picture.
    """
    from contourpy import contour_generator

    width_mm, height_mm = (n * s for n, s in zip(ratio.shape, spacing_mm, strict=True))
    closed = np.pad(ratio, 1)  # so that lines along the picture's edge are, too
    x = width_mm - (np.arange(-1, ratio.shape[0] + 1) + 0.5) * spacing_mm[0]
    y = height_mm - (np.arange(-1, ratio.shape[1] + 1) + 0.5) * spacing_mm[1]
    lines = contour_generator(x=x, y=y, z=closed.T).lines(limit)
    return "".join(
        "M" + "L".join(f"{a:.0f} {b:.0f}" for a, b in np.asarray(line)) + "Z"
        for line in lines
        if _area(np.asarray(line)) >= LEAST_MM2
    )


def _area(line: FloatArray) -> float:
    """Of a closed line (n, 2), by the shoelace rule."""
    x, y = line.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
