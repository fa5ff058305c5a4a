"""Orders and replies as Flower's records and back: arrays as arrays, all else as plain text and numbers.

Flower's records hold no pickles: an array travels as NumPy's own format, which is read without.
"""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.data import archives
from pet_pipeline.data.files import parse_json
from pet_pipeline.federated.exchange import Order, Reply, Weights

FACTS, ARRAYS = "facts", "arrays"


def encode_order(order: Order) -> RecordDict:
    """An order as a record."""
    facts = {
        "run": order.run,
        "kind": order.kind,
        "phase": order.phase,
        "round": order.round,
        "settings": order.settings.model_dump_json(),
        "score": order.score,
    }
    return RecordDict({FACTS: ConfigRecord(facts), ARRAYS: _encode(order.weights)})


def decode_order(record: RecordDict) -> Order:
    """The order that `encode_order` wrote; its settings are checked against the schema.

    Raises:
        ValueError: settings that this version does not know; KeyError: a part is missing.
    """
    facts = record.config_records[FACTS]
    return Order(
        str(facts["run"]),
        str(facts["kind"]),  # type: ignore[arg-type]  # an unknown kind is refused by the site
        int(facts["phase"]),
        int(facts["round"]),
        FederatedSettings.model_validate_json(str(facts["settings"])),
        _decode(record),
        bool(facts["score"]),
    )


def encode_reply(reply: Reply) -> RecordDict:
    """A reply as a record. The site's name is not in it: the server knows who answers by the registered key."""
    facts = {
        "order": reply.order,
        "basis": reply.basis,
        "cases": reply.cases,
        "figures": json.dumps(dict(reply.figures)),
    }
    return RecordDict({FACTS: ConfigRecord(facts), ARRAYS: _encode(reply.weights)})


def decode_reply(record: RecordDict, site: str) -> Reply:
    """The reply that `encode_reply` wrote, from the site that the server knows it came from.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    facts = record.config_records[FACTS]
    figures = {str(name): float(value) for name, value in dict(parse_json(str(facts["figures"]))).items()}
    return Reply(site, str(facts["order"]), str(facts["basis"]), _decode(record), int(facts["cases"]), figures)


def _encode(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(array)) for name, array in weights.items()})


def _decode(record: RecordDict) -> Weights:
    return {name: archives.array(one.data) for name, one in record.array_records[ARRAYS].items()}
