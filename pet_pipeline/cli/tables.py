"""Tables of scores on the terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pet_pipeline.evaluation.tables import Table


def print_table(table: "Table") -> None:
    """Print a table of strings on stdout, first column left, others right."""
    from rich.table import Table as RichTable
    from rich.text import Text

    from pet_pipeline.cli.console import results

    drawn = RichTable(
        title=Text(table.title), caption=Text(table.caption), title_justify="left", caption_justify="left"
    )
    for column, name in enumerate(table.header):
        drawn.add_column(Text(name), justify="left" if column == 0 else "right")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    results.print(drawn)
