"""The fleet of real sites behind Flower's grid."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from pet_pipeline.federated.codec import decode_reply, encode_order
from pet_pipeline.federated.exchange import Failure, Order, Reply

log = logging.getLogger(__name__)

POLL_S = 1.0

MESSAGE_TYPE = "train"
"""Of all orders: what is asked is in the order itself."""


@dataclass
class GridFleet:
    """Sites that are connected to the SuperLink, by the names under which their keys were approved."""

    grid: Grid
    _node_of: dict[str, int] = field(default_factory=dict)

    def present(self) -> Sequence[str]:
        """Names of the sites that are online; none while the SuperLink itself is away."""
        try:
            nodes = list(self.grid.get_nodes())
        except httpx.HTTPError as error:
            log.warning("the SuperLink does not answer: %s", error)
            return []
        self._node_of = {node.name: node.node_id for node in nodes if node.name}
        return sorted(self._node_of)

    def ask(self, orders: Mapping[str, Order], timeout_s: float) -> Iterator[Reply | Failure]:
        """Send the orders and yield what comes back within the time; who is silent is left out.

        Flower tells of a site that died mid-work by an error reply, some 45 s later.
        """
        end = time.monotonic() + timeout_s
        waiting: dict[str, str] = {}
        for site, order in orders.items():
            if site not in self._node_of:
                yield Failure(site, "is not connected")
                continue
            message = Message(self._record(site, order), self._node_of[site], MESSAGE_TYPE, ttl=timeout_s)
            for message_id in self.grid.push_messages([message]):
                if message_id:
                    waiting[message_id] = site
        while waiting and time.monotonic() < end:
            for message in self._pull(list(waiting)):
                # The source of an error reply is the SuperLink, so who it is about is known by what it answers.
                site = waiting.pop(message.metadata.reply_to_message_id, "")
                if site:
                    yield _answer(message, site)
            if waiting:
                time.sleep(POLL_S)

    def _record(self, site: str, order: Order) -> RecordDict:  # noqa: ARG002
        """What is sent; a node is one site's, and need not be told which."""
        return encode_order(order)

    def _pull(self, message_ids: Sequence[str]) -> list[Message]:
        try:
            return list(self.grid.pull_messages(message_ids))
        except httpx.HTTPError as error:
            log.warning("the SuperLink does not answer: %s", error)
            return []


def _answer(message: Message, site: str) -> Reply | Failure:
    if message.has_error():
        return Failure(site, f"{message.error.reason} (code {message.error.code})")
    try:
        return decode_reply(message.content, site)
    except Exception as error:  # whatever a site sends, it ends no run
        return Failure(site, f"a reply that cannot be read: {type(error).__name__}: {error}")
