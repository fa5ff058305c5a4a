"""OUR-Net, population prior, OUR-Net ...: the stages of a mu-map on a body's box, each on what the last one made.

Arrays only: who the networks are and where the bank lies is decided elsewhere (`inference.mumaps`, `training.mumap`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from pet_pipeline.errors import InputRefused
from pet_pipeline.models import prior_step
from pet_pipeline.models.devices import Compute
from pet_pipeline.types import BoolArray, Float32Array
from pet_pipeline.units import MU_WATER_CM1

if TYPE_CHECKING:
    from pet_pipeline.mumap.population import PopulationPrior

log = logging.getLogger(__name__)

WINDOW_VOXELS = 1_200_000
"""Largest window of a network that works at twice the resolution, voxels: about 1 GB. At four times, an eighth."""

REGION_MM = 20.0
"""Standard deviation of the neighbourhood over which confidence is averaged, and radius of what then falls back: the
edges of bones are always uncertain, and only a whole region without confidence is unlike the bank. Much wider, a chest
wall that fits well hides a lung that is not there."""

TISSUE_CM1 = 0.075
"""Where the first estimate is denser, the first stage sees tissue and no lung. Lungs, which it blurs and the prior
restores, have little confidence in everybody: counted in, they would set the floor so low that nothing is below it."""

Spacing = tuple[float, float, float]


class PriorSource(Protocol):
    """What makes population priors: a bank (`mumap.population.Bank`)."""

    def prior(
        self,
        estimate_cm1: Float32Array,
        spacing_mm: Spacing,
        *,
        exclude: str | None = None,
        k: int = 4,
        workers: int | None = None,
    ) -> "PopulationPrior":
        """The prior of an estimate (x, y, z), cm^-1, by its `k` most similar members, `exclude` never among them."""
        ...


@dataclass(frozen=True, eq=False)
class PriorMaps:
    """A population prior as the next stage takes it.

    Attributes:
        mumap_cm1: (x, y, z); the estimate itself where no member reaches.
        confidence: (x, y, z) in [0, 1].
        members: who was asked and what became of it, for the record.
        warnings: one line each.
    """

    mumap_cm1: Float32Array
    confidence: Float32Array
    members: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Cascaded:
    """What a cascade made of a patient.

    Attributes:
        mumap_cm1: (x, y, z), cm^-1.
        estimates_cm1: of every stage that ran, before anything falls back.
        priors: between the stages; empty without a bank.
        trust: (x, y, z) in [0, 1], the last stage's share of the result; None without a prior.
    """

    mumap_cm1: Float32Array
    estimates_cm1: tuple[Float32Array, ...]
    priors: tuple[PriorMaps, ...] = ()
    trust: Float32Array | None = None


def run(
    networks: Sequence[nn.Module],
    condition: Tensor,
    body: BoolArray,
    spacing_mm: Spacing,
    compute: Compute,
    *,
    source: PriorSource | None = None,
    k: int = 4,
    confidence_floor: float = 0.0,
    exclude: str | None = None,
    workers: int | None = None,
    on_part: Callable[[str], None] = lambda _: None,
) -> Cascaded:
    """All stages, in turn; where the population says nothing the first stage's estimate stands.

    Args:
        networks: of the stages; one that needs a prior ends the cascade before it where there is no `source`.
        condition: normalised PET in the body's box, (x, y, z), on `compute.device`.
        body: (x, y, z) of that box.
        spacing_mm: of the box's voxels.
        compute: device and precision.
        source: of population priors.
        k: members of a prior.
        confidence_floor: see `trust_in`.
        exclude: a participant that the prior must not use.
        workers: processes that register members.
        on_part: told "network" and "prior" as each is finished.

    Raises:
        OutOfMemory: not even the smallest window fits.
    """
    estimates: list[Float32Array] = []
    priors: list[PriorMaps] = []
    for network in networks:
        channels = channels_of(network)
        if channels == 4 and source is None:
            break
        if channels == 4 and source is not None:
            priors.append(population_prior(source, estimates[-1], spacing_mm, exclude=exclude, k=k, workers=workers))
            on_part("prior")
        before = (estimates[-1] if estimates else None, priors[-1] if channels == 4 else None)
        estimates.append(mumap_of(network, condition, *before, compute))
        on_part("network")
    if not priors:
        return Cascaded(estimates[-1], tuple(estimates))
    tissue = tissue_in(estimates[0], body)
    trust = trust_in(priors[-1].confidence, tissue, spacing_mm, confidence_floor)
    mixed = trust * estimates[-1] + (np.float32(1.0) - trust) * estimates[0]
    return Cascaded(mixed, tuple(estimates), tuple(priors), trust)


def channels_of(network: nn.Module) -> int:
    """How many input channels a stage's network takes: 1, 2 or 4."""
    return int(network.settings.inputs)  # type: ignore[union-attr, arg-type]


def mumap_of(
    network: nn.Module,
    condition: Tensor,
    estimate_cm1: Float32Array | None,
    prior: PriorMaps | None,
    compute: Compute,
) -> Float32Array:
    """One stage's mu-map (x, y, z), cm^-1; window by window where the box is large.

    Args:
        network: 1, 2 or 4 input channels.
        condition: normalised PET (x, y, z).
        estimate_cm1: of the stage before; not looked at by a first stage.
        prior: made from that estimate; only looked at by a network of four channels.
        compute: device and precision.
    """
    count = channels_of(network)
    channels = [condition]
    if count > 1:
        if estimate_cm1 is None:
            raise ValueError(f"a network of {count} channels needs the last stage's estimate")
        channels.append(_relative(estimate_cm1, condition))
    if count > 2:
        if prior is None:
            raise ValueError(f"a network of {count} channels needs a population prior")
        channels += [
            _relative(prior.mumap_cm1, condition),
            torch.from_numpy(prior.confidence).to(condition),
        ]
    relative = prior_step.estimate_from(
        network,
        torch.stack(channels),
        compute,
        int(network.multiple),  # type: ignore[arg-type]
        window_voxels=window_voxels(network),
    )
    mumap: Float32Array = relative.cpu().numpy() * np.float32(MU_WATER_CM1)
    return mumap


def window_voxels(network: nn.Module) -> int:
    """The largest window of a network: an eighth for each doubling of the resolution beyond the first."""
    doublings = len(getattr(network.settings, "over_widths", ()))
    return prior_step.WINDOW_VOXELS if doublings == 0 else WINDOW_VOXELS // 8 ** (doublings - 1)


def population_prior(
    source: PriorSource,
    estimate_cm1: Float32Array,
    spacing_mm: Spacing,
    *,
    exclude: str | None,
    k: int,
    workers: int | None = None,
) -> PriorMaps:
    """The prior of an estimate; where the bank refuses it, the estimate itself without confidence, and a warning.

    Raises:
        ValueError: the bank used the participant it must not use, which would leak the answer.
    """
    try:
        found = source.prior(estimate_cm1, spacing_mm, exclude=exclude, k=k, workers=workers)
    except InputRefused as error:
        log.warning("no population prior: %s", error)
        nothing = np.zeros_like(estimate_cm1)
        return PriorMaps(estimate_cm1, nothing, (), (f"no population prior: {error}",))
    members = tuple(
        {
            "participant_id": member.participant_id,
            "similarity": round(float(member.similarity), 4),
            "weight": round(float(member.weight), 4),
            "seconds": round(float(member.seconds), 2),
            "outcome": str(member.outcome),
        }
        for member in found.members
    )
    if exclude is not None and any(member["participant_id"] == exclude for member in members):
        raise ValueError(f"the population prior of {exclude} was made with {exclude}'s own mu-map; that would leak")
    return PriorMaps(found.mumap, found.confidence, members, tuple(found.warnings))


def tissue_in(first_cm1: Float32Array, body: BoolArray) -> BoolArray:
    """Where a first stage's estimate (x, y, z), cm^-1, shows tissue: there the population may be unlike the patient."""
    return np.asarray(body & (first_cm1 > TISSUE_CM1))


def trust_in(confidence: Float32Array, tissue: BoolArray, spacing_mm: Spacing, floor: float) -> Float32Array:
    """The last stage's share of the result, (x, y, z) in [0, 1]: all where the region's confidence reaches `floor`.

    Below it the share falls, and at half of it nothing is left: such regions the stage hardly saw in training. All
    tissue within `REGION_MM` has the share of the worst region that it belongs to, or averaging would take its rim
    from every odd region. What is no tissue by the first estimate (`tissue_in`) is the last stage's wherever a member
    of the bank reaches.
    """
    regional = regional_confidence(confidence, tissue, spacing_mm)
    share = (regional > 0.0).astype(np.float32)
    if floor > 0.0:
        share = np.clip(2.0 * regional / np.float32(floor) - 1.0, 0.0, 1.0).astype(np.float32)
    worst = _worst_within(np.where(tissue, share, np.float32(1.0)), REGION_MM, spacing_mm)
    return np.where(tissue, worst, confidence > 0.0).astype(np.float32)


def regional_confidence(confidence: Float32Array, tissue: BoolArray, spacing_mm: Spacing) -> Float32Array:
    """Confidence averaged over the tissue within about `REGION_MM`, (x, y, z); zero far from any."""
    sigma = [REGION_MM / s for s in spacing_mm]
    inside = tissue.astype(np.float32)
    weight = ndimage.gaussian_filter(inside, sigma, truncate=3.0)
    mean = ndimage.gaussian_filter(confidence * inside, sigma, truncate=3.0)
    return np.where(weight > 1e-3, mean / np.maximum(weight, 1e-3), 0.0).astype(np.float32)


def _worst_within(share: Float32Array, radius_mm: float, spacing_mm: Spacing) -> Float32Array:
    """The least share (x, y, z) within a radius of each voxel; only the box around what is below 1 is looked at."""
    reach = [int(radius_mm / s) for s in spacing_mm]
    low = [np.flatnonzero((share < 1.0).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not low[0].size:
        return share
    x, y, z = (slice(max(int(o[0]) - n, 0), int(o[-1]) + n + 1) for o, n in zip(low, reach, strict=True))
    offsets = np.meshgrid(*(np.arange(-n, n + 1) * s for n, s in zip(reach, spacing_mm, strict=True)), indexing="ij")
    ball = sum(offset**2 for offset in offsets) <= radius_mm**2
    out = share.copy()
    out[x, y, z] = ndimage.minimum_filter(share[x, y, z], footprint=ball)
    return out


def _relative(mumap_cm1: Float32Array, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(mumap_cm1 / np.float32(MU_WATER_CM1))).to(like)
