"""Orders and replies survive Flower's records, and what is no reply becomes a failure of its site."""

import numpy as np
import pytest
from sphere_cohort import settings

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, RecordDict

from pet_pipeline.federated import codec
from pet_pipeline.federated.exchange import Order, Reply, digest

WEIGHTS = {
    "prior/a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "axial/b.weight": np.array([[[1e-30, -0.0]]], dtype=np.float32),
}


def test_an_order_comes_back_as_it_was() -> None:
    order = Order("run-1", "train", 1, 3, settings("keep_local=['a*']", "personal_steps=1"), WEIGHTS, score=True)
    back = codec.decode_order(codec.encode_order(order))
    assert (back.name, back.settings, back.score) == (order.name, order.settings, True)
    assert back.basis == order.basis
    assert digest(back.weights) == digest(WEIGHTS)


def test_a_reply_comes_back_under_the_name_that_the_server_knows() -> None:
    reply = Reply("calls-itself", "run-1/0/0/train", "0" * 64, WEIGHTS, 7, {"loss": 0.125})
    back = codec.decode_reply(codec.encode_reply(reply), "registered")
    assert back.site == "registered"
    assert (back.order, back.basis, back.cases, back.figures) == (reply.order, reply.basis, 7, {"loss": 0.125})
    assert digest(back.weights) == digest(WEIGHTS)


def test_an_order_with_settings_that_are_not_known_is_refused() -> None:
    record = codec.encode_order(Order("run-1", "train", 0, 0, settings()))
    facts = record.config_records[codec.FACTS]
    facts["settings"] = str(facts["settings"]).replace('"quorum"', '"evil"', 1)
    with pytest.raises(ValueError, match="evil"):
        codec.decode_order(record)


def test_a_record_that_is_no_reply_raises_what_the_fleet_catches() -> None:
    for record in (RecordDict(), RecordDict({codec.FACTS: ConfigRecord({"order": "x"})})):
        with pytest.raises((KeyError, TypeError, ValueError)):
            codec.decode_reply(record, "site-a")
