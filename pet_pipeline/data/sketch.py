"""A coarse picture of an input: how a body is built and where its activity is, without the detail that is its own."""

import numpy as np

from pet_pipeline.data.body import block_means
from pet_pipeline.data.framing import Frame
from pet_pipeline.types import Float32Array

CELL_MM = 30.0
"""Side of a cell, about: a liver fills dozens, a lesion one, and of the noise of 5 % dose a few percent are left."""

LEAST_BODY = 0.5
"""Share of body from which on a cell counts for the median."""

_LEAST = 1e-3


def sketch(frame: Frame, box: Float32Array) -> Float32Array:
    """Activity over its median and the share of body, cell by cell, in the body's bounding box: (2, x, y, z).

    The activity is asinh(a / median), so that a bladder of SUV 100 does not own the picture; both are zero in air.

    Args:
        frame: of the body.
        box: the input inside it (x, y, z), any linear unit, with activity in the body (`describe` refuses others).
    """
    body = coarse(frame, frame.mask.astype(np.float32))
    return drawn(coarse(frame, box * frame.mask), body)


def coarse(frame: Frame, box: Float32Array) -> Float32Array:
    """Means over the cells of the body's bounding box, of anything (x, y, z) in the frame's box."""
    bounds = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(frame.mask))
    x, y, z = (max(1, round(CELL_MM / spacing)) for spacing in frame.grid.spacing_mm)
    return block_means(np.ascontiguousarray(box[bounds]), (x, y, z))


def drawn(activity: Float32Array, body: Float32Array) -> Float32Array:
    """The sketch (2, x, y, z) of activity and share of body, both cell by cell (x, y, z)."""
    inside = activity[body >= LEAST_BODY]
    median = float(np.median(inside)) if inside.size else 0.0
    return np.stack([np.arcsinh(activity / np.float32(max(median, _LEAST * float(activity.max()) + 1e-12))), body])
