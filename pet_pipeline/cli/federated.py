"""`pet-pipeline federated`: training across sites that keep their data. Wires the verbs, nothing else."""

import typer

from pet_pipeline.cli import federated_coordinator, federated_simulate, federated_site

app = typer.Typer(
    help="Train across hospitals that keep their data: try it on one machine, then run it for real.",
    no_args_is_help=True,
)

app.command()(federated_simulate.simulate)
for verb in ("init", "approve", "forget", "run", "resume", "status", "logs", "stop"):
    app.command(verb)(getattr(federated_coordinator, verb))
app.add_typer(federated_coordinator.server, name="server")
app.add_typer(federated_site.app, name="site")
