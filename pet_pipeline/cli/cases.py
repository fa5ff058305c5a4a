"""What became of the files of a batch, on the terminal or as JSON; then the error that the batch ends with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pet_pipeline.inference.outcomes import Outcome

COLOURS = {"done": "green", "skipped": "cyan", "refused": "yellow", "failed": "red"}


def report(results: "Sequence[Outcome]", *, json: bool) -> None:
    """Print one line a case, warnings and reasons on stderr.

    Raises:
        PetPipelineError: a case was refused or failed.
    """
    from rich.markup import escape

    from pet_pipeline.cli.console import messages, print_json
    from pet_pipeline.cli.console import results as stdout
    from pet_pipeline.inference.outcomes import failure

    if json:
        print_json({"cases": [result.as_json() for result in results]})
    for result in () if json else results:
        path = result.source if result.exit_status else result.target
        stdout.print(
            f"[{COLOURS[result.status]}]{result.status}[/] {escape(str(path))}", highlight=False, soft_wrap=True
        )
        # a single failure is what the command ends with; it need not be said twice
        if result.message and result.status != "skipped" and (len(results) > 1 or result.exit_status == 0):
            messages.print(f"  {result.message}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    error = failure(results)
    if error is not None:
        raise error
