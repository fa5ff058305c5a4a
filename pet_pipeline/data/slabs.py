"""2.5D slabs of a volume and their exact reassembly, as strided views: nothing is copied but one padded volume.

Slices of a view are stacked along that view's axis; the in-plane axes keep their order, so that with a volume (x, y, z)
axial slices have (H, W) = (x, y), coronal (x, z), sagittal (y, z).
"""

import torch.nn.functional as F
from torch import Tensor

from pet_pipeline.types import View


def slices_of(volume: Tensor, view: View) -> Tensor:
    """All slices of a view: (x, y, z) -> (S, 1, H, W), sharing the volume's memory."""
    return volume.movedim(view.axis, 0).unsqueeze(1)


def volume_of(slices: Tensor, view: View) -> Tensor:
    """The volume of which `slices` are all slices: (S, 1, H, W) -> (x, y, z), sharing their memory."""
    return slices.squeeze(1).movedim(0, view.axis)


def slabs_of(volume: Tensor, view: View, half_width: int) -> Tensor:
    """Each slice with its `half_width` neighbours on both sides, zero beyond the edge.

    Args:
        volume: (x, y, z).
        view: the direction of slicing.
        half_width: k; channel k of a slab is the slice itself.

    Returns:
        (S, 2k+1, H, W): overlapping strided views of one padded copy; read them, never write to them.
    """
    stack = volume.movedim(view.axis, 0)
    padded = F.pad(stack, (0, 0, 0, 0, half_width, half_width)) if half_width else stack
    return padded.unfold(0, 2 * half_width + 1, 1).movedim(-1, 1)
