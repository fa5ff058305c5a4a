"""What Flower runs: a ClientApp at every site, a ServerApp at the coordinator. Both only pass on what they get."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import load
from pet_pipeline.errors import PetPipelineError
from pet_pipeline.federated.codec import decode_order, encode_reply
from pet_pipeline.federated.fleet import GridFleet
from pet_pipeline.federated.limits import BeyondLimits
from pet_pipeline.federated.rounds import Coordinator, Report
from pet_pipeline.federated.site import Site
from pet_pipeline.types import Ticker

SITE_FILE = "site-file"
"""Key of the node's configuration: the path of `site.yaml`."""

FOLDER, RESUME, PLAN, PROGRESS = "folder", "resume", "plan.yaml", "progress.log"
"""Keys of a run's configuration; files in its folder: what is to be trained, a line a round."""

REFUSED = "refused or failed; the site's own audit.jsonl and supernode.log say why"
"""All that a coordinator is told of what went wrong at a site, but for orders beyond its limits."""

log = logging.getLogger(__name__)

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()  # type: ignore[untyped-decorator]
def answer(message: Message, context: Context) -> Message:
    """Do what an order asks, within the limits of the site's own `site.yaml`.

    Flower sends the coordinator the text of whatever is raised here, so the reasons stay in the site's own logs: they
    may name cases, files and numbers of them.

    Raises:
        PetPipelineError: the order is beyond the limits, which is told, or anything else went wrong, which is not.
    """
    try:
        site = Site.load(Path(str(context.node_config[SITE_FILE])), _logged)
        return Message(encode_reply(site.answer(decode_order(message.content))), reply_to=message)
    except BeyondLimits:
        raise
    except Exception:
        log.exception("refused")
        raise PetPipelineError(REFUSED) from None


@server_app.main()  # type: ignore[untyped-decorator]
def coordinate(grid: Grid, context: Context) -> None:
    """Run or resume the plan in the folder that the run's configuration names."""
    folder = Path(str(context.run_config[FOLDER]))
    plan = load(FederatedSettings, folder / PLAN)
    Coordinator(plan, GridFleet(grid), folder, reporter(folder)).run(resume=bool(context.run_config[RESUME]))


def reporter(folder: Path) -> Report:
    """Writes a run's lines into its folder."""

    def report(line: str) -> None:
        with (folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    return report


@contextmanager
def _logged(description: str, total: float) -> Iterator[Ticker]:
    log.info("%s: %g to do", description, total)

    def tick(done: float = 1, note: str = "") -> None:
        log.debug("%s: %g more, %s", description, done, note)

    yield tick
