"""Where a patient's body comes from: a drawn phantom, or a real CT with its organ labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.ct import read_ct
from pet_pipeline.data.label_tables import table_beside
from pet_pipeline.data.resample import onto
from pet_pipeline.data.tables import read_rows
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Orientation
from pet_pipeline.physics.attenuation import DEFAULT_KVP
from pet_pipeline.simulation.anatomy import from_ct
from pet_pipeline.simulation.phantoms import Phantom, draw


@dataclass(frozen=True)
class AnatomyFiles:
    """A CT in HU, and labels of its organs with their table beside them.

    Attributes:
        ct: NIfTI file, HU.
        labels: NIfTI file; its table (`data.label_tables`) has the columns index and name.
    """

    ct: Path
    labels: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the body depends on: CT, its sidecar if there is one, labels and their table.

        Raises:
            InputRefused: there is no table.
        """
        sidecar = self.ct.with_name(f"{nifti.stem(self.ct)}.json")
        return self.ct, *([sidecar] if sidecar.is_file() else []), self.labels, self.table

    @property
    def table(self) -> Path:
        """The table of the labels.

        Raises:
            InputRefused: there is none.
        """
        found = table_beside(self.labels)
        if found is None:
            raise InputRefused(
                f"{self.labels}: no {nifti.stem(self.labels)}.tsv or dseg.tsv beside it, nor in the two folders above; "
                "needed is a table with columns index and name"
            )
        return found


def draw_body(
    rng: np.random.Generator, settings: CohortSettings, anatomy: AnatomyFiles | None, *, turn: int = 0
) -> Phantom:
    """A body: drawn from the settings' ranges, or with the shape of a CT and drawn uptake.

    Args:
        rng: randomness.
        settings: of the cohort.
        anatomy: the CT, or None.
        turn: which of the settings' pathologies a drawn body has.

    Raises:
        InputRefused: CT or labels that cannot be used.
        UsageError: a pathology, or another family of phantoms, for the body of a CT.
    """
    if anatomy is None:
        return draw(rng, family=settings.family, settings=settings.phantom, turn=turn)
    if settings.phantom.pathology is not None:
        raise UsageError("phantom.pathology is drawn into phantoms, not into a CT: leave out one of the two")
    if settings.family != "standard":
        raise UsageError(f"family {settings.family} is of drawn phantoms, not of a CT: leave out one of the two")
    ct = read_ct(anatomy.ct)
    labels, _ = nifti.read(anatomy.labels)
    orientation = ct.volume.geometry.to_canonical()
    turned, organs = (_oriented(v, orientation) for v in (ct.volume, onto(labels, ct.volume.geometry, nearest=True)))
    return from_ct(
        turned.data,
        np.rint(organs.data).astype(np.int16),
        read_label_table(anatomy.table),
        turned.geometry.spacing_mm,
        rng,
        settings.phantom,
        kvp=DEFAULT_KVP if ct.kvp is None else ct.kvp,
    )


def read_label_table(path: Path) -> dict[int, str]:
    """Name of each label.

    Raises:
        InputRefused: no table, the columns index and name are not there, or an index is no whole number.
    """
    rows = read_rows(path, needed=("index", "name"))
    try:
        return {int(row["index"]): row["name"] for row in rows}
    except ValueError as error:
        raise InputRefused(f"{path}: needed are the columns index (whole numbers) and name, tabs between") from error


def _oriented(volume: Volume, orientation: Orientation) -> Volume:
    turned = volume.oriented(orientation)
    return Volume(np.ascontiguousarray(turned.data), turned.geometry, turned.unit)
