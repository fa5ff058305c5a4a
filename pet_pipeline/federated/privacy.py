"""Central differential privacy of sites: clipped changes, equal weights, Gaussian noise, an accountant.

The sum of the clipped changes has sensitivity C to one site's being there or not. Noise of standard deviation z C on
the sum keeps the noise multiplier z whatever the number of replies: a site that drops out costs accuracy, not privacy.
"""

from collections.abc import Mapping

import numpy as np

from pet_pipeline.configs.federated import FederatedSettings, PrivacySettings
from pet_pipeline.errors import UsageError
from pet_pipeline.federated.exchange import Weights
from pet_pipeline.seeding import generator


def norm(change: Weights) -> float:
    """Euclidean norm over all arrays together."""
    return float(np.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in change.values())))


def clipped(change: Weights, longest: float) -> Weights:
    """The change, shortened to the norm `longest` where it is longer."""
    factor = min(1.0, longest / max(norm(change), 1e-30))
    return {name: array * factor for name, array in change.items()}


def private_change(
    current: Weights, replies: Mapping[str, Weights], settings: PrivacySettings, seed: int, *names: str | int
) -> Weights:
    """Mean of the clipped changes with noise on their sum; float64.

    Args:
        current: weights that the round began from.
        replies: site -> its weights; clipped again here, whatever the site did.
        settings: clipping norm and noise multiplier.
        seed: known to the server alone: who knows it can take the noise away.
        *names: of the round; with the seed they decide the noise, so that a resumed run draws the same.
    """
    deviation = settings.noise_multiplier * settings.clip_norm
    total = {name: generator(seed, *names, name).normal(0.0, deviation, array.shape) for name, array in current.items()}
    for site in sorted(replies):
        change = {name: replies[site][name].astype(np.float64) - array for name, array in current.items()}
        for name, part in clipped(change, settings.clip_norm).items():
            total[name] = total[name] + part
    return {name: array / len(replies) for name, array in total.items()}


def epsilon(settings: PrivacySettings, rounds: int) -> float:
    """Epsilon after so many rounds in which every site is asked, by Renyi accounting (dp-accounting).

    Raises:
        UsageError: the extra `privacy` is not installed.
    """
    try:
        import dp_accounting
    except ImportError as error:
        raise UsageError(
            "differential privacy needs an accountant: pip install 'pet-pipeline[federated,privacy]'"
        ) from error
    if not rounds:
        return 0.0
    accountant = dp_accounting.rdp.RdpAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    accountant.compose(dp_accounting.GaussianDpEvent(settings.noise_multiplier), rounds)
    return float(accountant.get_epsilon(settings.delta))


def planned_rounds(settings: FederatedSettings) -> int:
    """Rounds of the whole plan, all phases together."""
    return sum(settings.rounds(phase) for phase in range(len(settings.phases)))


def check_budget(settings: FederatedSettings) -> float | None:
    """Epsilon of the whole plan; None without privacy.

    Raises:
        UsageError: it is beyond `max_epsilon`.
    """
    if settings.privacy is None:
        return None
    rounds = planned_rounds(settings)
    spent = epsilon(settings.privacy, rounds)
    if spent > settings.privacy.max_epsilon:
        raise UsageError(
            f"privacy: {rounds} rounds with noise_multiplier {settings.privacy.noise_multiplier:g} spend epsilon "
            f"{spent:.2f}, max_epsilon is {settings.privacy.max_epsilon:g}; more noise, fewer rounds or a larger budget"
        )
    return spent
