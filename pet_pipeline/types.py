"""Array aliases, the three views of a volume, and how progress is told."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
"""Any floating array; docstrings give axes and units."""

Float32Array = npt.NDArray[np.float32]

IntArray = npt.NDArray[np.integer[Any]]

BoolArray = npt.NDArray[np.bool_]

Preparation = Callable[[Float32Array, BoolArray], Float32Array]
"""(condition, body), both (x, y, z) -> the condition that the networks see."""


class Ticker(Protocol):
    """Counts finished pieces of a piece of work: called after each, with a word about it if there is one."""

    def __call__(self, done: float = 1, note: str = "") -> None:
        """Count `done` more pieces."""
        ...


class NamedTicker(Protocol):
    """Counts those of several pieces of work at once."""

    def __call__(self, name: str, done: float = 1, note: str = "") -> None:
        """Count `done` more pieces of `name`."""
        ...


class View(Enum):
    """A direction of slicing. Volumes are (x, y, z): x left-right, y back-front, z feet-head."""

    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    AXIAL = "axial"

    @property
    def axis(self) -> int:
        """The volume axis along which this view's slices are stacked: sagittal 0, coronal 1, axial 2."""
        return {"sagittal": 0, "coronal": 1, "axial": 2}[self.value]
