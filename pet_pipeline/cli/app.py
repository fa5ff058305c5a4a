"""The command `pet-pipeline`: wires the verbs, sets up logging, turns errors into exit statuses. Nothing else."""

import io
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import click
import typer

from pet_pipeline import __version__
from pet_pipeline.cli import (
    calibrate,
    check,
    convert,
    demo,
    distil,
    doctor,
    evaluate,
    federated,
    manifest,
    models,
    mumap,
    mumap_bank,
    plan,
    reconstruct,
    report,
    simulate,
    train,
    translate,
)
from pet_pipeline.cli.console import configure_logging, messages
from pet_pipeline.errors import OutOfMemory, PetPipelineError, is_disk_full, is_out_of_memory, make_room

EXIT_UNFORESEEN = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="pet-pipeline",
    help="Low-dose, non-attenuation-corrected PET to attenuation-corrected standard-dose PET.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pet-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; twice for debugging.")] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")] = False,
    log_file: Annotated[
        Path | None, typer.Option(help="Write the whole log, tracebacks included, to this file.")
    ] = None,
) -> None:
    """Set up what all verbs share."""
    configure_logging(-1 if quiet else verbose, log_file)


for verb in (
    doctor, demo, simulate, check, plan, train, distil, calibrate, translate, mumap, evaluate, report, reconstruct,
):  # fmt: skip
    app.command()(getattr(verb, verb.__name__.rsplit(".", 1)[-1]))
app.add_typer(manifest.app, name="manifest")
app.add_typer(models.app, name="models")
app.add_typer(convert.app, name="convert")
app.add_typer(mumap_bank.app, name="mumap-bank")
app.add_typer(federated.app, name="federated")


def main() -> None:
    """Run the command line and leave with the exit status that tells the kind of failure."""
    log = logging.getLogger("pet_pipeline")
    # Schedulers and shutdowns end a program so: it is left as at Ctrl-C, nothing half-written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no UTF-8: it is shown escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
        if status == EXIT_INTERRUPTED:  # how typer passes an interrupt on
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except PetPipelineError as error:
        _say(str(error))
        log.debug("refused", exc_info=True)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted: finished outputs stay; the same command goes on from here")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if is_out_of_memory(error):
            log.debug("out of memory", exc_info=True)
            _say("out of memory: close other programs, use --batch-slices 1 or a smaller field of view")
            sys.exit(OutOfMemory.exit_status)
        if is_disk_full(error):
            log.debug("disk full", exc_info=True)
            _say(str(make_room(error)))
            sys.exit(PetPipelineError.exit_status)
        first = (str(error).strip().splitlines() or [""])[0]
        _say(f"unforeseen: {type(error).__name__}: {first} (--log-file FILE keeps the traceback)")
        log.debug("unforeseen", exc_info=True)
        sys.exit(EXIT_UNFORESEEN)


def _say(line: str) -> None:
    messages.print(f"pet-pipeline: {line}", style="bold red", highlight=False, markup=False, soft_wrap=True)
