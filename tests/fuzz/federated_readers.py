"""What server and sites read of each other: settings, memory, messages, bundles."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from harness import Reader
from mutations import of_bytes, of_text, zipped

from pet_pipeline.configs.federated import FederatedSettings, SiteSettings
from pet_pipeline.configs.loading import as_yaml, load
from pet_pipeline.federated import codec, guard, state
from pet_pipeline.federated.exchange import Order, Reply, digest
from pet_pipeline.federated.site import read_site

WEIGHTS = {"prior/a": np.arange(6, dtype=np.float32).reshape(2, 3), "prior/b": np.ones(4, dtype=np.float32)}

STATE_WEIGHTS = f"weights-{digest({f'current/{name}': array for name, array in WEIGHTS.items()})[:16]}.safetensors"

UNREADABLE = (KeyError, TypeError, ValueError)
"""What `codec` raises, by its documentation: the fleet makes it a failure of the site, the site a refusal."""


def _make_site(folder: Path) -> None:
    settings = SiteSettings(name="site-a", manifest=Path("data/manifest.tsv"), server="server.example:9092")
    (folder / "site.yaml").write_text(as_yaml(settings))


def _make_state(folder: Path) -> None:
    state.save(state.State(run="r", seed=7, current=WEIGHTS, best_score=30.0, cases={"a": 3}), folder)


def _make_message(folder: Path, record: RecordDict) -> None:
    """A record as files: facts as JSON, the bytes of each array as they travel."""
    (folder / "facts.json").write_text(json.dumps(dict(record.config_records[codec.FACTS]), indent=1))
    for index, array in enumerate(record.array_records[codec.ARRAYS].values()):
        (folder / f"{index}.npy").write_bytes(array.data)


def _message(folder: Path) -> RecordDict | None:
    """The record in the files; None where Flower's own record cannot hold such facts."""
    try:
        facts = ConfigRecord(json.loads((folder / "facts.json").read_bytes()))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    arrays = {
        name: Array(dtype="float32", shape=(2, 3), stype="numpy.ndarray", data=(folder / f"{index}.npy").read_bytes())
        for index, name in enumerate(WEIGHTS)
    }
    return RecordDict({codec.FACTS: facts, codec.ARRAYS: ArrayRecord(arrays)})


def _make_order(folder: Path) -> None:
    settings = load(FederatedSettings, "tiny-federated")
    _make_message(folder, codec.encode_order(Order("run", "train", 0, 1, settings, WEIGHTS)))


def _make_reply(folder: Path) -> None:
    _make_message(folder, codec.encode_reply(Reply("a", "run/0/1/train", "0" * 64, WEIGHTS, 7, {"loss": 0.5})))


def _read_order(folder: Path) -> None:
    if (record := _message(folder)) is not None:
        digest(codec.decode_order(record).weights)


def _read_reply(folder: Path) -> None:
    if (record := _message(folder)) is not None:
        digest(codec.decode_reply(record, "a").weights)


def _make_bundle(folder: Path) -> None:
    components = "".join(f'{name} = "{place}"\n' for name, place in guard.COMPONENTS.items())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        text = f'[project]\nname = "app"\nversion = "1"\n[tool.flwr.app.components]\n{components}'
        archive.writestr("pyproject.toml", text)
        archive.writestr(".info/CONTENT", "pyproject.toml\n")
    (folder / "app.fab").write_bytes(packed.getvalue())


MESSAGE = {"facts.json": (of_text,), "0.npy": (of_bytes,)}

FEDERATED = (
    Reader("site.yaml", _make_site, lambda f: as_yaml(read_site(f / "site.yaml")), {"site.yaml": (of_text,)}),
    Reader("state.json", _make_state, state.load, {"state.json": (of_text,), STATE_WEIGHTS: (of_bytes,)}),
    Reader("order", _make_order, _read_order, MESSAGE, UNREADABLE),
    Reader("reply", _make_reply, _read_reply, MESSAGE, UNREADABLE),
    Reader(
        "app bundle",
        _make_bundle,
        lambda f: guard.check_bundle((f / "app.fab").read_bytes()),
        {"app.fab": (of_bytes, zipped(of_text), zipped(of_bytes))},
    ),
)
