"""File names as BIDS has them: entities (`sub-01`, `rec-nacstat`) and a suffix, taken apart and put together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9]+)")
_DOSE = re.compile(r"dose(\d+)(?:p(\d+))?")
_PATIENT = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)(?=[_/]|$)")


@dataclass(frozen=True)
class BidsName:
    """A file's name without its extension.

    Attributes:
        entities: name -> label, in the order of the file name.
        suffix: the last part: pet, ct, dseg.
    """

    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def parse(cls, stem: str) -> "BidsName | None":
        """The parts of a name; None where it is no BIDS name of a participant, or has an entity twice.

        Example:
            >>> BidsName.parse("sub-01_rec-nacstat_pet").entities
            {'sub': '01', 'rec': 'nacstat'}
        """
        found = entities_of(stem)
        return None if found is None or next(iter(found[0]), "") != "sub" else cls(*found)

    def described(self, description: str) -> "BidsName":
        """The same name with another `desc`, which BIDS puts last."""
        others = {name: label for name, label in self.entities.items() if name != "desc"}
        return BidsName({**others, "desc": description}, self.suffix)

    def __str__(self) -> str:
        return "_".join([*(f"{name}-{label}" for name, label in self.entities.items()), self.suffix])


def entities_of(stem: str) -> tuple[dict[str, str], str] | None:
    """Entities and suffix of a name with or without a participant; None where it is no such name.

    Example:
        >>> entities_of("rec-nacstat_pet"), entities_of("my scan")
        (({'rec': 'nacstat'}, 'pet'), None)
    """
    *parts, suffix = stem.split("_")
    entities = {match[1]: match[2] for match in map(_ENTITY.fullmatch, parts) if match}
    return (entities, suffix) if len(entities) == len(parts) and suffix.isalnum() else None


def dose_tag(percent: float) -> str:
    """dose05, dose100, dose02p5: letters and digits only, as BIDS asks.

    Example:
        >>> dose_tag(5.0), dose_tag(100.0), dose_tag(2.5)
        ('dose05', 'dose100', 'dose02p5')
    """
    whole, _, part = f"{percent:g}".partition(".")
    return f"dose{int(whole):02d}" + (f"p{part}" if part else "")


def dose_of(tag: str) -> float | None:
    """The percentage that `dose_tag` wrote; None for any other text.

    Example:
        >>> dose_of("dose05"), dose_of("dose02p5"), dose_of("smoothed")
        (5.0, 2.5, None)
    """
    match = _DOSE.fullmatch(tag)
    return None if match is None else float(f"{match[1]}.{match[2] or 0}")


def patient_of(name: str) -> str:
    """The patient of a file's name: its BIDS `sub-...` part if there is one, else the whole name.

    Example:
        >>> patient_of("sub-0001_rec-nacstat_desc-dose05_pet"), patient_of("case7")
        ('sub-0001', 'case7')
    """
    found = _PATIENT.search(name)
    return found.group(1) if found else name
