"""The noise level of an input as the denoisers are told it, and where it comes from."""

from dataclasses import dataclass
from typing import Literal

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.liver import MEASURES

Source = Literal["automatic VOI", "given", "unknown"]


@dataclass(frozen=True)
class InputNoise:
    """What a model with noise embedding was told of one input; this is its record in the sidecar.

    Attributes:
        measure: nstd of attenuation-corrected input, nstd_nac of uncorrected; see `evaluation.liver`.
        value: the ratio; None where unknown.
        source: a VOI found in the image, the user's option, or nothing.
    """

    measure: str
    value: float | None
    source: Source

    @property
    def cautions(self) -> tuple[str, ...]:
        """A line of warning where the noise level is unknown."""
        if self.value is not None:
            return ()
        return (f"{self.measure} is unknown: no liver-like region was found or looked for; give --nstd if you know it",)


def input_noise(volume: Volume, description: ModelDescription, given: float | None) -> InputNoise:
    """The noise level of an input: the given one, else that of the liver-like region found in it.

    A model that was taught the dose's noise level (`noise_level: dose`) knows no other: without a given one it is told
    nothing.

    Args:
        volume: the input on its own grid.
        description: of the model: its condition decides which measure it is.
        given: by the user, in that measure.
    """
    measure = MEASURES[description.condition]
    if given is not None:
        return InputNoise(measure.name, given, "given")
    value = None if description.noise_level == "dose" else measure.of(volume)
    return InputNoise(measure.name, value, "unknown" if value is None else "automatic VOI")
