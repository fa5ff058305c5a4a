"""An input as the networks see it: framed, described, prepared, its scale taken. One way for every kind of model."""

from dataclasses import dataclass

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.descriptors import describe
from pet_pipeline.data.framing import Frame, frame_body
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.data.volume import Volume
from pet_pipeline.inference.distance import Distance, distance
from pet_pipeline.inference.unusual import Alarm, Watch
from pet_pipeline.physics.water import preparation
from pet_pipeline.types import Float32Array


@dataclass(frozen=True, eq=False)
class Framed:
    """A volume brought to a model's grid.

    Attributes:
        frame: where the body is.
        condition: in the body's box (x, y, z), prepared, in the volume's unit.
        normalisation: whose scale is of that condition.
        noise_level: of the volume in the body (`data.descriptors`).
        far: from the training data; None where the model has no record of it.
        alarms: in which ways it is unusual besides; none where the model cannot tell.
    """

    frame: Frame
    condition: Float32Array
    normalisation: Normalisation
    noise_level: float
    far: Distance | None
    alarms: tuple[Alarm, ...] = ()


def framed(volume: Volume, description: ModelDescription, *, multiple: int, watch: Watch | None = None) -> Framed:
    """Find the body, describe it, prepare the condition as in training and take its scale.

    Args:
        volume: PET in SUV or relative units, on any unsheared grid.
        description: of the model.
        multiple: what the sides of the box must be multiples of.
        watch: what tells unusual inputs, if the model has it.

    Raises:
        InputRefused: no activity in the body.
    """
    frame, box = frame_body(volume, description.grid.spacing_mm, multiple=multiple)
    described = describe(frame, box)
    far = distance(description.seen, described) if description.seen else None
    alarms = () if watch is None else watch.alarms(frame, box)
    prepare = preparation(description.normalisation, description.grid)
    if prepare is not None:
        box = prepare(box, frame.mask)
    normalisation = Normalisation.fit(box, frame.mask, description.normalisation)
    return Framed(frame, box, normalisation, described.noise_level, far, alarms)
