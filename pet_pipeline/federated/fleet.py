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

AGAIN_S = 60.0
"""A site that is silent for so long, and for twice as long as any answer has taken so far, is asked again; then after
twice that, and so on.

What Flower has handed out once it never hands out again: an order or a reply that was lost with a connection, or with a
killed SuperLink, would be waited for until the round's time is over. A site does not train twice for the same order.
"""

MESSAGE_TYPE = "train"
"""Of all orders: what is asked is in the order itself."""


@dataclass
class _Asked:
    """A site whose answer is awaited.

    Attributes:
        order: that it was given.
        again: when it is to be asked next, s on the monotonic clock.
        pause_s: from then to the time after.
        ids: of the messages that it was sent.
    """

    order: Order
    again: float
    pause_s: float
    ids: set[str] = field(default_factory=set)


@dataclass
class GridFleet:
    """Sites that are connected to the SuperLink, by the names under which their keys were approved.

    Attributes:
        grid: Flower's.
        again_s: `AGAIN_S`.
    """

    grid: Grid
    again_s: float = AGAIN_S
    _node_of: dict[str, int] = field(default_factory=dict)
    _unanswered: set[str] = field(default_factory=set)
    _slowest_s: float = 0.0

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
        """Send the orders and yield what comes back within the time; who is silent is asked again, then left out.

        Flower tells of a site that died mid-work by an error reply, some 45 s later.
        """
        began, waiting = time.monotonic(), dict[str, _Asked]()
        pause_s = max(self.again_s, 2.0 * self._slowest_s)
        for site, order in orders.items():
            if site in self._node_of:
                waiting[site] = _Asked(order, began, pause_s)
            else:
                yield Failure(site, "is not connected")
        while waiting and (now := time.monotonic()) < began + timeout_s:
            for site in [site for site, one in waiting.items() if now >= one.again]:
                if not self._push(site, waiting[site], began + timeout_s - now):
                    del waiting[site]
                    yield Failure(site, "the SuperLink takes no order for it")
            for message in self._pull():
                # The source of an error reply is the SuperLink, so who it is about is known by what it answers.
                answers = message.metadata.reply_to_message_id
                self._unanswered.discard(answers)
                site = next((site for site, one in waiting.items() if answers in one.ids), "")
                if site:  # else of an order that was answered before
                    del waiting[site]
                    self._slowest_s = max(self._slowest_s, time.monotonic() - began)
                    yield _answer(message, site)
            if waiting:
                time.sleep(POLL_S)

    def _push(self, site: str, asked: _Asked, ttl_s: float) -> bool:
        """Send a site its order; False if the SuperLink will not have it. While it is away, the next look sends it."""
        message = Message(self._record(site, asked.order), self._node_of[site], MESSAGE_TYPE, ttl=ttl_s)
        try:
            sent = [one for one in self.grid.push_messages([message]) if one]
        except httpx.TransportError as error:
            log.warning("the SuperLink does not answer: %s", error)
            return True
        if asked.ids:
            log.warning("%s: silent, asked again", site)
        asked.ids.update(sent)
        self._unanswered.update(sent)
        asked.again, asked.pause_s = time.monotonic() + asked.pause_s, 2.0 * asked.pause_s
        return bool(sent)

    def _record(self, site: str, order: Order) -> RecordDict:  # noqa: ARG002
        """What is sent; a node is one site's, and need not be told which."""
        return encode_order(order)

    def _pull(self) -> list[Message]:
        """What was answered, by whomever: what is never taken would stay in the SuperLink's store."""
        try:
            return list(self.grid.pull_messages(sorted(self._unanswered))) if self._unanswered else []
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
