"""The table of a label volume is the nearest one, the volume's own before that of its folder."""

from pathlib import Path

from pet_pipeline.data.label_tables import table_beside


def test_the_nearest_table_counts_and_the_volumes_own_first(tmp_path: Path) -> None:
    labels = tmp_path / "set" / "sub-1" / "anat" / "sub-1_dseg.nii.gz"
    labels.parent.mkdir(parents=True)
    assert table_beside(labels) is None
    (tmp_path / "dseg.tsv").touch()  # three above: of something else
    assert table_beside(labels) is None
    folders = labels.parents
    for table in (
        folders[2] / "dseg.tsv",
        folders[2] / "sub-1_dseg.tsv",
        folders[1] / "dseg.tsv",
        folders[0] / "dseg.tsv",
        folders[0] / "sub-1_dseg.tsv",
    ):
        table.touch()
        assert table_beside(labels) == table
        assert table_beside(labels.with_name("sub-1_dseg.nii")) == table
