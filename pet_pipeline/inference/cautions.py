"""An input far from what the model was trained on: refused where it makes no sense, else said aloud."""

from collections.abc import Sequence

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.framing import Frame
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.defaults import DEFAULT_MODEL, NDIF_MODEL
from pet_pipeline.inference.distance import Distance
from pet_pipeline.inference.unusual import Alarm
from pet_pipeline.units import Unit

SPACING_RATIO = (0.25, 1.6)
"""Input spacing over the model's, beyond which the networks see a blockier or smoother image than in training; for a
model without a record of what it saw."""

LEAST_FIELD_MM = (200.0, 150.0, 150.0)
"""Smallest field of view (x, y, z) like those trained on: below it a trunk is cut and attenuation cannot be guessed.
For a model without a record of what it saw; with one, the extent of the body in the field is judged by it."""

LONGEST_FIELD_MM = 2200.0
"""Longer than any scanner's table travel: the spacing is probably wrong."""

FIELD_BOUNDS_MM = (60.0, 4000.0)
"""A field of view along any axis that a model of people can take at all: thicker than a mouse, no two scanners long."""

COARSEST_RATIO = 4.0
"""Input spacing over the model's, beyond which organs are a voxel or less and nothing can be told from the image."""


def refuse_grid(description: ModelDescription, geometry: Geometry, name: str) -> None:
    """Refuse a grid that the model cannot take.

    Args:
        description: the model.
        geometry: of the input, any orientation.
        name: how the message calls the input.

    Raises:
        InputRefused: voxels too large, or a field of view too small or too large for a person.
    """
    turned = geometry.reoriented(geometry.to_canonical())
    low, high = FIELD_BOUNDS_MM
    for axis, count, spacing, trained in zip(
        "xyz", turned.shape, turned.spacing_mm, description.grid.spacing_mm, strict=True
    ):
        if spacing > COARSEST_RATIO * trained:
            raise InputRefused(
                f"{name}: spacing {spacing:.4g} mm along {axis} found, a grid the model cannot take; needed are at "
                f"most {COARSEST_RATIO * trained:g} mm (mm is assumed: is the header in cm or m?)"
            )
        if not low <= count * spacing <= high:
            raise InputRefused(
                f"{name}: field of view {count * spacing:.4g} mm along {axis} found, a grid the model cannot take; "
                f"needed are {low:g} to {high:g} mm of a person"
            )


def refuse_other_correction(description: ModelDescription, corrected: bool | None, name: str) -> None:
    """Refuse an input that says it is corrected for attenuation where the model takes uncorrected ones, or the reverse.

    Args:
        description: the model.
        corrected: whether the input is; None: it does not say.
        name: how the message calls the input.

    Raises:
        InputRefused: the input is of the other kind.
    """
    wanted = description.condition == "input_ac"
    if corrected is None or corrected == wanted:
        return
    kinds = {True: "attenuation-corrected", False: "non-attenuation-corrected"}
    other = f", or --model {NDIF_MODEL if corrected else DEFAULT_MODEL}" if description.mumap is None else ""
    raise InputRefused(
        f"{name}: {kinds[corrected]} PET by its sidecar or header; {description.name} takes "
        f"{kinds[wanted]} PET: give that series{other}"
    )


def cautions(description: ModelDescription, geometry: Geometry, *, simulated: bool) -> list[str]:
    """Warnings about file and grid, one line each.

    Args:
        description: the model.
        geometry: of the input, any orientation.
        simulated: whether our simulator made the input.
    """
    found = []
    if description.demonstration and not simulated:
        found.append(
            f"{description.name} is a demonstration model trained on simulated patients, and this is not a simulated "
            f"scan: {description.intended_use}"
        )
    turned = geometry.reoriented(geometry.to_canonical())
    extent = [n * s for n, s in zip(turned.shape, turned.spacing_mm, strict=True)]
    if not description.seen:  # else `body_cautions` knows better
        for axis, have, trained in zip("xyz", turned.spacing_mm, description.grid.spacing_mm, strict=True):
            if not SPACING_RATIO[0] <= have / trained <= SPACING_RATIO[1]:
                found.append(
                    f"spacing {have:.3g} mm along {axis} is far from the {trained:g} mm trained on: expect less "
                    "accuracy"
                )
        for axis, have, least in zip("xyz", extent, LEAST_FIELD_MM, strict=True):
            if have < least:
                found.append(
                    f"field of view {have:.0f} mm along {axis}, trained on {least:g} mm and more: expect less accuracy"
                )
    if max(extent) > LONGEST_FIELD_MM:
        found.append(f"field of view {max(extent):.0f} mm: longer than any scanner's, is the spacing right?")
    return found


def require_record(description: ModelDescription) -> None:
    """Refuse `--strict` with a model that cannot tell what is unlike its training data.

    Raises:
        UsageError: so it is.
    """
    if not description.seen and description.unusual is None:
        raise UsageError(f"--strict: {description.name} has no record of what it was trained on; leave it out")


def refuse_unusual(far: Distance | None, alarms: Sequence[Alarm], name: str) -> None:
    """Refuse an input that is unlike what the model was trained on.

    Args:
        far: its distance from the training data; None where the model has no record.
        alarms: in which ways it is unusual besides.
        name: how the message calls the input.

    Raises:
        InputRefused: so it is.
    """
    if found := unlike(far, alarms):
        raise InputRefused(
            f"{name}: unlike what the model was trained on: {'; '.join(found)} (leave out --strict to have it all the "
            "same, with this as a warning)"
        )


def unlike(far: Distance | None, alarms: Sequence[Alarm]) -> list[str]:
    """How an input is unlike the training data, one line each."""
    return [*(str(place) for place in (far.outside if far is not None else ())), *map(str, alarms)]


def body_cautions(frame: Frame, unit: Unit, far: Distance | None, alarms: Sequence[Alarm] = ()) -> list[str]:
    """Warnings about the body that was found and what the networks will see of it, one line each.

    Args:
        frame: of the body.
        unit: of the volume, once its unit is known.
        far: its distance from the training data; None where the model has no record.
        alarms: in which ways it is unusual besides.
    """
    found = []
    if bool(frame.mask.all()):
        found.append(
            "no air found around the body (a crop?): the networks were trained with air around it, expect less accuracy"
        )
    if unit is Unit.RELATIVE:
        found.append("relative values: the result is relative too, not SUV")
    return found + unlike(far, alarms)
