"""Processes that train one network together: each works on its share of every batch, and all have the same weights.

Lightning Fabric starts and connects them, rather than accelerate: by itself on the GPUs of a machine (NCCL) and on CPUs
(gloo), and it finds those that Slurm or torchrun have started; accelerate's launcher needs MPI for several on CPUs.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pet_pipeline.errors import UsageError
from pet_pipeline.models.devices import choose

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PATIENCE = timedelta(hours=6)
"""How long a process waits for the others: the first alone validates, and writes the model at the end."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; without a fabric it is alone.

    Attributes:
        fabric: has launched; what connects the processes.
    """

    fabric: "Fabric | None" = None

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        return 0 if self.fabric is None else int(self.fabric.global_rank)

    @property
    def count(self) -> int:
        """How many there are, on all machines."""
        return 1 if self.fabric is None else int(self.fabric.world_size)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, validates and shows progress."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """The device of this process, by name: what was asked for if it is alone."""
        return asked if self.fabric is None else str(self.fabric.device)

    def share(self, batch: int) -> range:
        """Which examples of every batch are this process's; so many a process that the mean of means is the mean.

        Raises:
            UsageError: the processes cannot have equally many.
        """
        if batch % self.count:
            raise UsageError(
                f"a batch of {batch} in {self.count} processes: needed is a multiple of {self.count} "
                "(--set prior_optimiser.batch=... denoiser_optimiser.batch=...)"
            )
        return range(self.rank, batch, self.count)

    def join(self, network: nn.Module) -> nn.Module:
        """What to call in place of the network so that gradients are averaged over the processes."""
        return network if self.fabric is None else self.fabric.setup_module(network, move_to_device=False)

    def mean(self, value: Tensor) -> float:
        """Mean over the processes."""
        return float(value if self.fabric is None else self.fabric.all_reduce(value))

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Inside, the others begin when the first has ended."""
        if self.fabric is None:
            yield
        else:
            with self.fabric.rank_zero_first():
                yield

    def wait(self) -> None:
        """Until all have come here."""
        if self.fabric is not None:
            self.fabric.barrier()


ALONE = Processes()


def start(processes: int, machines: int, device: str) -> Processes:
    """Start the other processes of this machine with this one's command line, and meet those of the other machines.

    Args:
        processes: on this machine; each takes a GPU, or its part of the cores.
        machines: with so many processes each.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: no Lightning Fabric, a GPU by number, too few GPUs, or not what Slurm or torchrun started.
    """
    if processes * machines == 1:
        return ALONE
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise UsageError("several processes need Lightning Fabric: pip install 'pet-pipeline[multi]'") from error
    kind = choose(device).device
    if kind.index is not None:
        raise UsageError(f"device {device} with {processes * machines} processes: each takes its own; use cuda or auto")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets
    try:
        fabric = Fabric(
            accelerator=kind.type, devices=processes, num_nodes=machines, strategy=DDPStrategy(timeout=PATIENCE)
        )
        fabric.launch()
    except (MisconfigurationException, ValueError) as error:
        raise UsageError(f"{processes} processes on each of {machines} machines: {error}") from error
    return Processes(fabric)
