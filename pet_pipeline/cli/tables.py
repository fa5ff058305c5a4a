"""Tables of scores on the terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pet_pipeline.evaluation.tables import Table


def print_table(table: "Table") -> None:
    """Print a table of strings on stdout, first column left, others right; ten columns of figures fit in 80 characters.

    Headers wrap where room is short, figures never.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    from pet_pipeline.cli.console import results

    drawn = RichTable(
        title=Text(table.title),
        caption=Text(table.caption),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for column, name in enumerate(table.header):
        longest = max((len(row[column]) for row in table.rows), default=0)
        drawn.add_column(Text(name), justify="left" if column == 0 else "right", min_width=longest)
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    results.print(drawn)
