"""The server's memory between rounds, on disk: `weights-*.safetensors`, and `state.json`, which makes them valid.

The JSON is written last, whole or not at all, and names its weights by their digest: a server killed at any moment goes
on from the last round that was finished.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from safetensors import SafetensorError

from pet_pipeline.data.files import parse_json, write_json
from pet_pipeline.errors import UsageError
from pet_pipeline.federated.exchange import Weights, digest
from pet_pipeline.federated.task import read_weights, write_weights


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Attributes:
        run: its name.
        seed: the server's secret, from which the noise of differential privacy is drawn.
        phase, round: the next ones.
        current: weights that the next round begins from.
        best: of this phase, those that the sites scored highest.
        best_score: mean PSNR, dB, of `best`; None before the first score.
        best_round: rounds behind `best`.
        memory: of the server's optimiser.
        finished: weights of the phases before.
        residual_scale: measured at the sites before the views' phase.
        simulated: whether every site so far has simulated patients.
        cases: site -> training cases in this phase, of those that are prepared for it.
        aggregates: rounds whose result was given out, for the accountant.
        done: all phases and personal models.
    """

    run: str
    seed: int
    phase: int = 0
    round: int = 0
    current: Weights = field(default_factory=dict, repr=False)
    best: Weights = field(default_factory=dict, repr=False)
    best_score: float | None = None
    best_round: int = 0
    memory: Weights = field(default_factory=dict, repr=False)
    finished: Weights = field(default_factory=dict, repr=False)
    residual_scale: float | None = None
    simulated: bool = True
    cases: Mapping[str, int] = field(default_factory=dict)
    aggregates: int = 0
    done: bool = False


FILE = "state.json"
"""Held by whoever runs the run."""

ARRAYS = ("current", "best", "memory", "finished")


def save(state: State, folder: Path) -> None:
    """Write the state; the one before is gone only when this one is whole."""
    arrays = {f"{group}/{name}": array for group in ARRAYS for name, array in getattr(state, group).items()}
    name = f"weights-{digest(arrays)[:16]}.safetensors"
    write_weights(folder / name, arrays)
    facts = {one.name: getattr(state, one.name) for one in fields(state) if one.name not in ARRAYS}
    write_json(folder / FILE, {**facts, "weights": name}, mode=0o600)  # holds the seed of the noise
    for old in folder.glob("weights-*.safetensors"):
        if old.name != name:
            old.unlink()


def load(folder: Path) -> State:
    """Read what `save` wrote.

    Raises:
        UsageError: there is nothing, or the weights are not those that the state names.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder}: holds no run to resume; start it without --resume")
    try:
        facts = dict(parse_json(path.read_text(encoding="utf-8")))
        name = str(facts.pop("weights"))
        arrays = read_weights(folder / name)
        if name != f"weights-{digest(arrays)[:16]}.safetensors":
            raise ValueError(f"{name} is missing or not what was written")
        groups: dict[str, dict[str, object]] = {group: {} for group in ARRAYS}
        for key, array in arrays.items():
            group, _, rest = key.partition("/")
            groups[group][rest] = array
        return State(**facts, **groups)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"{path}: damaged ({type(error).__name__}: {first}); restore the folder from a copy"
        ) from error
