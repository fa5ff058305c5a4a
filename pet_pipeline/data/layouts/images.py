"""What a layout makes of a file: an image with its role in a scan."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Role = Literal["input", "input_ac", "target", "noise_free", "mumap", "labels", "sinogram", "ct"]
"""The manifest's column that a file may stand in. `input_ac` is a corrected PET of low dose, `target` one of full dose;
a `ct` stands in none: a mu-map is made of it first."""

ROLES: tuple[Role, ...] = get_args(Role)

PET_ROLES: tuple[Role, ...] = ("input", "input_ac", "target", "noise_free")

FULL_DOSE = 100.0


@dataclass(frozen=True)
class Image:
    """A file that has a role.

    Attributes:
        path: of the file.
        role: its column.
        participant: whose.
        scan: what names the scan in the data set, most general first: participant, session, run. A mu-map or label map
            may name less of it, and then belongs to every scan of that participant or session.
        dose: percent of the standard counts, of PET; None where nothing says it.
    """

    path: Path
    role: Role
    participant: str
    scan: tuple[str, ...]
    dose: float | None = None


@dataclass(frozen=True)
class LeftOut:
    """A file that is not in the manifest, and why."""

    path: Path
    reason: str


Classify = Callable[[Path, Path], Image | str]
"""(file, root of the data set) -> what it is, or why it is nothing, in a few words."""


def corrected_role(dose: float | None) -> Role:
    """What a corrected PET of a dose is: the target at full dose."""
    return "target" if dose == FULL_DOSE else "input_ac"
