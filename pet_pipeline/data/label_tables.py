"""Where the table lies that names the labels of a volume."""

from pathlib import Path

from pet_pipeline.data.nifti import stem

ABOVE = 2
"""Folders above that of the labels that may hold the table of all of them, as those of a data set share one."""


def table_beside(labels: Path) -> Path | None:
    """The table of a label volume: X.tsv of X.nii.gz, else dseg.tsv; in its folder, else in one of the two above it.

    Args:
        labels: NIfTI file; it need not be there.

    Returns:
        The nearest one, or None.
    """
    for folder in (labels.parent, *list(labels.parent.parents)[:ABOVE]):
        for name in (f"{stem(labels)}.tsv", "dseg.tsv"):
            if (folder / name).is_file():
                return folder / name
    return None
