"""How large a volume may be: asked before memory is taken, for a damaged or hostile header may claim anything."""

import os

from pet_pipeline.errors import InputRefused, UsageError

VARIABLE = "PET_PIPELINE_MAX_VOXELS"
"""Environment variable that sets another limit."""

MOST_VOXELS = 2**30
"""Of one volume: 4 GiB in float32, five times a total-body scan of 1.65 mm."""

UNPACKED_BYTES_PER_VOXEL = 16
"""A compressed file may unpack to this times the limit: 16 GiB."""


def most_voxels() -> int:
    """The limit: the environment variable's, else `MOST_VOXELS`.

    Raises:
        UsageError: the variable is no positive whole number.
    """
    text = os.environ.get(VARIABLE, str(MOST_VOXELS))
    if not text.isdecimal() or not int(text):
        raise UsageError(f"{VARIABLE}={text}: needed is a number of voxels, or no such variable ({MOST_VOXELS})")
    return int(text)


def refuse_too_large(voxels: int, name: str) -> None:
    """Refuse a volume of more voxels than the limit.

    Raises:
        InputRefused: so it is.
    """
    most = most_voxels()
    if voxels > most:
        raise InputRefused(f"{name}: {voxels} voxels found; at most {most} are read, unless {VARIABLE} says otherwise")
