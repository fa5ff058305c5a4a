"""pet-pipeline: low-dose, non-attenuation-corrected PET to attenuation-corrected standard-dose PET.

`load_model`, `translate` and `make_mumaps` are the documented calls; they are looked up when first used, so that
importing the package does not import torch.
"""

from typing import TYPE_CHECKING, Any

from pet_pipeline._version import __version__

if TYPE_CHECKING:
    from pet_pipeline.inference.api import load_model, make_mumaps, translate

__all__ = ["__version__", "load_model", "make_mumaps", "translate"]


def __getattr__(name: str) -> Any:
    if name in ("load_model", "make_mumaps", "translate"):
        from pet_pipeline.inference import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
