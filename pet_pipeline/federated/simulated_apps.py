"""What Flower runs in its own simulation, on Ray: any node does the work of the site that an order names.

Nodes of Flower's simulation have no names and no configuration of their own, so the order says whose it is. These apps
are not those of real sites, whose guard refuses a bundle that names them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import load
from pet_pipeline.federated.apps import FOLDER, PLAN, reporter
from pet_pipeline.federated.codec import decode_order, encode_order, encode_reply
from pet_pipeline.federated.exchange import Order
from pet_pipeline.federated.fleet import GridFleet
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.federated.simulation import on_bar
from pet_pipeline.federated.site import Site

SITES, STEPS = "sites", "steps.tsv"
"""Key of the run's configuration: the sites' names; file in a site's folder: steps done and a note, a line each."""

client_app = ClientApp()
server_app = ServerApp()


@dataclass
class SimulatedFleet(GridFleet):
    """One node a site, in order of their names. Nothing is lost on the way between them: no site is asked again."""

    again_s: float = math.inf

    names: Sequence[str] = ()

    def present(self) -> Sequence[str]:
        """All of them, as soon as there are so many nodes."""
        nodes = sorted(node.node_id for node in self.grid.get_nodes())
        self._node_of = dict(zip(self.names, nodes, strict=True)) if len(nodes) == len(self.names) else {}
        return sorted(self._node_of)

    def _record(self, site: str, order: Order) -> RecordDict:
        record = encode_order(order)
        record[SITES] = ConfigRecord({SITES: site})
        return record


@client_app.train()  # type: ignore[untyped-decorator]
def answer(message: Message, context: Context) -> Message:
    """Do what an order asks, as the site that it names."""
    name = str(message.content.config_records[SITES][SITES])
    root = Path(str(context.run_config[FOLDER])) / "sites" / name

    def tick(name: str, done: float = 1, note: str = "") -> None:  # noqa: ARG001
        with (root / STEPS).open("a", encoding="utf-8") as file:
            file.write(f"{done:g}\t{note}\n")

    site = Site.load(root / "site.yaml", on_bar(name, tick))
    return Message(encode_reply(site.answer(decode_order(message.content))), reply_to=message)


@server_app.main()  # type: ignore[untyped-decorator]
def coordinate(grid: Grid, context: Context) -> None:
    """Run the plan in the folder that the run's configuration names, or go on with it; it was claimed before."""
    folder = Path(str(context.run_config[FOLDER]))
    names = str(context.run_config[SITES]).split(",")
    plan = load(FederatedSettings, folder / PLAN)
    Coordinator(plan, SimulatedFleet(grid, names=names), folder, reporter(folder)).run(resume=True)
