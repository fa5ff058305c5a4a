"""Several paths of one volume: their mean is the result, what they and their views differ by is the spread.

CMDM (Zhou et al. 2024) draws the shortcut from several noises; its map is the standard deviation between paths. A path
has a second spread at no cost: what its views say by themselves before they are one. Both are kept apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.diffusion.multiview import Progress, Task, ViewDenoiser, sample_paths

OnPath = Callable[[int, Tensor], None]
"""Called with each path's number, from 0, and what is averaged of it (x, y, z). A path drawn again, because memory ran
out, is told again."""


class Spread:
    """Mean and variance of any number of volumes in one pass; memory does not grow with their number.

    Welford's update, m_n = m_(n-1) + (x - m_(n-1)) / n and S_n = S_(n-1) + (x - m_(n-1)) (x - m_n), loses no digits
    where the mean is large against the spread.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.empty(0)
        self._squares = torch.empty(0)

    def add(self, volume: Tensor) -> None:
        """Take in one more volume, of the shape of the first; it is not kept."""
        self._count += 1
        if self._count == 1:
            self._mean, self._squares = volume.clone(), torch.zeros_like(volume)
            return
        off = volume - self._mean
        self._mean.add_(off, alpha=1.0 / self._count)
        self._squares.addcmul_(off, volume - self._mean)

    @property
    def mean(self) -> Tensor:
        """Of the volumes.

        Raises:
            ValueError: there is none.
        """
        if self._count < 1:
            raise ValueError("the mean of no volume; needed is one at least")
        return self._mean

    @property
    def variance(self) -> Tensor | None:
        """Their variance, without bias (n - 1 below); None of fewer than two volumes."""
        return None if self._count < 2 else self._squares / (self._count - 1)


@dataclass(frozen=True, eq=False)
class Paths:
    """What several paths have in common and what they differ by; all (x, y, z).

    Attributes:
        mean: of the paths.
        between_paths: variance of the paths; None of one path.
        between_views: variance of the views' own results, averaged over the paths; None of one view.
    """

    mean: Tensor
    between_paths: Tensor | None
    between_views: Tensor | None


@torch.inference_mode()
def average_paths(
    task: Task,
    denoisers: Sequence[ViewDenoiser],
    settings: SamplerSettings,
    generators: Sequence[torch.Generator],
    of_sample: Callable[[Tensor], Tensor],
    *,
    views_apart: bool = False,
    batch_slices: int,
    feature_bytes: int,
    progress: Progress | None = None,
    on_path: OnPath | None = None,
) -> Paths:
    """Draw a path from every generator and take them together one at a time.

    Args:
        task: the volume to translate.
        denoisers: the networks.
        settings: of every path.
        generators: of each path; a path depends on its own and on nothing else.
        of_sample: from a normalised sample to what is averaged, e.g. activity; what it gives is not kept.
        views_apart: whether the views' own results are compared, too.
        batch_slices: slices a network call.
        feature_bytes: memory for the condition's features, which all paths share.
        progress: told after every network call.
        on_path: told each path.
    """
    paths, within, views = Spread(), Spread(), Spread()
    samples = sample_paths(
        task, denoisers, settings, generators, batch_slices=batch_slices, feature_bytes=feature_bytes,
        progress=progress, on_view=(lambda x_0: views.add(of_sample(x_0))) if views_apart else None,
    )  # fmt: skip
    for number, sample in enumerate(samples):
        path = of_sample(sample)
        paths.add(path)
        if on_path is not None:
            on_path(number, path)
        if (variance := views.variance) is not None:
            within.add(variance)
        views = Spread()
    compared = views_apart and len(settings.views) > 1
    return Paths(paths.mean, paths.variance, within.mean if compared else None)
