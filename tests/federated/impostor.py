"""Sites made by hand: they speak Flower's own protocol with a registered key, and answer whatever a test wants."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supernode import node_auth_http_interceptor
from flwr.supernode.fleet_http_connection import http_request_response

from pet_pipeline.federated.codec import decode_order, encode_reply
from pet_pipeline.federated.exchange import Order, Reply

Answer = Callable[[Order], Reply | None]

LOOK_S = 0.3


@contextmanager
def impostors(
    port: int, folders: Mapping[str, Path], answers: Mapping[str, Answer], after: Callable[[], None] = lambda: None
) -> Iterator[list[str]]:
    """Sites of these folders, connected and answering one after the other in a thread; yields what they were asked.

    `after` is called after each answer.
    """
    asked: list[str] = []
    end = threading.Event()
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(_connected(port, folder)) for name, folder in folders.items()}

        def work() -> None:
            while not end.wait(LOOK_S):
                for name, node in nodes.items():
                    if order := node.serve(answers[name]):
                        asked.append(f"{name}: {order}")
                        after()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield asked
        finally:
            end.set()
            thread.join()


@dataclass(frozen=True)
class _Node:
    calls: tuple[Any, ...]

    def serve(self, answer: Answer) -> str | None:
        """Take a message, if there is one, and answer it or not; its order's name."""
        _, receive, send, _, _, pull, push, confirm = self.calls
        if (got := receive()) is None:
            return None
        head, tree = got
        run = head.metadata.run_id
        message = pull_and_inflate_object_from_tree(
            tree, lambda one: pull(run, one), lambda one: confirm(run, one), return_type=Message
        )
        message.metadata.__dict__.update(head.metadata.__dict__)
        order = decode_order(message.content)
        if (reply := answer(order)) is not None:
            sent = Message(encode_reply(reply), reply_to=message)
            sent.metadata.__dict__["_message_id"] = sent.object_id
            objects, tree = get_all_nested_objects(sent), get_object_tree(sent)
            wanted, session = send(sent, tree, 0.1)
            push_objects(objects, lambda one, data: push(run, session, one, data), object_ids_to_push=wanted)
        return order.name


@contextmanager
def _connected(port: int, folder: Path) -> Iterator[_Node]:
    key = load_ssh_private_key((folder / "site.key").read_bytes(), password=None)
    with http_request_response(
        f"localhost:{port}", False, str(folder / "ca.crt"), (key, key.public_key()), max_retries=20
    ) as calls:
        yield _Node(calls)


@dataclass
class SentTwice:
    """Keeps the signed requests of a kind as they leave, headers and all, and sends the last one again when told to."""

    path: str
    requests: list[httpx.Request] = field(default_factory=list)
    answers: list[httpx.Response] = field(default_factory=list)

    def __enter__(self) -> "SentTwice":
        kept = self._kept = node_auth_http_interceptor.NodeAuthHttpInterceptor.intercept

        def watched(interceptor: Any, context: Any, call_next: Callable[[Any], httpx.Response]) -> httpx.Response:
            def send(context: Any) -> httpx.Response:
                if context.request.url.path.endswith(self.path):
                    self.requests.append(context.request)
                    self._again = lambda: call_next(context)
                return call_next(context)

            return kept(interceptor, context, send)

        node_auth_http_interceptor.NodeAuthHttpInterceptor.intercept = watched
        return self

    def __exit__(self, *_: object) -> None:
        node_auth_http_interceptor.NodeAuthHttpInterceptor.intercept = self._kept

    def again(self) -> None:
        """Send the last such request once more, with the same signature."""
        self.answers.append(self._again())
