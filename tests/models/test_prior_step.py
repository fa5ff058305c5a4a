"""The prior in windows, and what happens when memory runs out."""

import logging

import pytest
import torch
from torch import Tensor, nn

from pet_pipeline.errors import OutOfMemory
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.memory import halving, is_out_of_memory
from pet_pipeline.models.prior_step import estimate, window_shape

CPU = Compute(torch.device("cpu"), "fp32", "test")


class Local(nn.Module):
    """Something with the reach of one voxel, and a list of the windows it saw."""

    def __init__(self, limit: int = 10**9) -> None:
        super().__init__()
        self.blur = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.blur.weight, 1.0 / 27.0)
        self.limit = limit
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape[2:]))
        if x.numel() > self.limit:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return torch.as_tensor(self.blur(x))


def _volume(z: int) -> Tensor:
    return torch.randn((16, 8, z), generator=torch.Generator().manual_seed(0))


def test_window_shapes_halve_the_longest_side_in_multiples() -> None:
    assert window_shape((96, 64, 400), 8, 10**9) == (96, 64, 400)
    assert window_shape((96, 64, 400), 8, 1_500_000) == (96, 64, 200)
    assert window_shape((96, 64, 200), 8, 700_000) == (96, 64, 104)
    assert window_shape((64, 64, 64), 16, 1) == (16, 16, 16)


def test_windows_give_what_the_whole_gives_without_a_seam() -> None:
    prior, volume = Local(), _volume(96)
    whole = estimate(prior, volume, CPU, 4)
    assert prior.seen == [(16, 8, 96)]
    parts = estimate(prior, volume, CPU, 4, window_voxels=16 * 8 * 32)
    assert set(prior.seen[1:]) == {(16, 8, 24)}
    assert parts.shape == whole.shape
    # Where a window ends, the next one weighs e^5 times as much: of a blur by one voxel next to no seam is left.
    assert float((parts - whole).abs().max()) < 5e-3


def test_a_volume_that_does_not_fit_is_taken_in_smaller_windows() -> None:
    prior = Local(limit=16 * 8 * 30)
    result = estimate(prior, _volume(96), CPU, 4)
    assert prior.seen[0] == (16, 8, 96)
    assert prior.seen[-1] == (16, 8, 24)
    assert torch.isfinite(result).all()
    with pytest.raises(OutOfMemory):
        estimate(Local(limit=1), _volume(16), CPU, 4)


def test_halving_stops_at_the_least_and_passes_other_errors(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def never(size: int) -> None:
        tried.append(size)
        raise MemoryError

    with caplog.at_level(logging.ERROR), pytest.raises(OutOfMemory, match="--things"):
        halving(never, 11, "--things", least=2)
    assert tried == [11, 5, 2]

    def broken(size: int) -> None:
        raise RuntimeError("shapes do not agree")

    with pytest.raises(RuntimeError, match="shapes"):
        halving(broken, 8, "--things")


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"))
    assert not is_out_of_memory(RuntimeError("shapes do not agree"))
    assert not is_out_of_memory(ValueError("out of memory"))
