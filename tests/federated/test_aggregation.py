"""The server's rules: against Flower's own strategies, and where the answer is known."""

import numpy as np
import pytest

from pet_pipeline.configs.federated import ServerUpdate
from pet_pipeline.federated import aggregation
from pet_pipeline.federated.exchange import Weights


def weights(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(3, 2)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}


RULES = {
    "fedavg": ServerUpdate(),
    "fedavgm": ServerUpdate(name="fedavgm", learning_rate=0.7, momentum=0.8),
    "fedadam": ServerUpdate(name="fedadam", learning_rate=0.3, momentum=0.8, beta_2=0.95, tau=0.01),
}


@pytest.mark.parametrize("name", RULES)
def test_three_rounds_equal_flowers_own_strategy(name: str) -> None:
    flwr_app = pytest.importorskip("flwr.app")
    strategies = pytest.importorskip("flwr.serverapp.strategy")
    rule = RULES[name]
    theirs = {
        "fedavg": lambda: strategies.FedAvg(),
        "fedavgm": lambda: strategies.FedAvgM(server_learning_rate=0.7, server_momentum=0.8),
        "fedadam": lambda: strategies.FedAdam(eta=0.3, beta_1=0.8, beta_2=0.95, tau=0.01),
    }[name]()
    cases = {"one": 3, "two": 5}
    ours, memory = weights(0), {}
    flowers = flwr_app.ArrayRecord({key: flwr_app.Array(array) for key, array in ours.items()})
    for round_ in range(3):
        replies = {site: weights(10 * round_ + n) for n, site in enumerate(cases, start=1)}
        if name == "fedadam":
            theirs.current_arrays = {key: array.numpy() for key, array in flowers.items()}
        elif name == "fedavgm":
            theirs.current_arrays = flowers
        messages = []
        for site, arrays in replies.items():
            content = flwr_app.RecordDict(
                {
                    "arrays": flwr_app.ArrayRecord({key: flwr_app.Array(array) for key, array in arrays.items()}),
                    "metrics": flwr_app.MetricRecord({"num-examples": cases[site]}),
                }
            )
            messages.append(_message(content))
        flowers, _ = theirs.aggregate_train(round_ + 1, messages)
        change = aggregation.mean_change(ours, replies, cases)
        ours, memory = aggregation.step(rule, ours, change, memory, round_)
        for key, array in ours.items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, flowers[key].numpy(), rtol=2e-5, atol=2e-6)


def _message(content: object) -> object:
    from flwr.app import Message
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    asked = Message(content, dst_node_id=2, message_type="train")
    return Message(content, reply_to=asked)


def test_the_order_of_the_replies_does_not_show_in_a_single_bit() -> None:
    replies = {f"site-{n}": weights(n) for n in range(1, 6)}
    shares = {site: float(n) for n, site in enumerate(replies, start=1)}
    one = aggregation.mean_change(weights(0), replies, shares)
    other = aggregation.mean_change(weights(0), dict(reversed(replies.items())), shares)
    assert all((one[name] == other[name]).all() for name in one)


def test_equal_shares_give_the_plain_mean_and_shares_weigh() -> None:
    zero = {"a": np.zeros(2, np.float32)}
    replies = {"one": {"a": np.ones(2, np.float32)}, "two": {"a": np.full(2, 3.0, np.float32)}}
    assert aggregation.mean_change(zero, replies, {"one": 1.0, "two": 1.0})["a"].tolist() == [2.0, 2.0]
    assert aggregation.mean_change(zero, replies, {"one": 3.0, "two": 1.0})["a"].tolist() == [1.5, 1.5]
