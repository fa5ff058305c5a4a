"""A mu-map model's uncertainty calibrated on cases with a mu-map that it has not learnt from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pet_pipeline.configs.uncertainty import MumapCalibration
from pet_pipeline.data import nifti
from pet_pipeline.data.body import crop
from pet_pipeline.data.couch import patient_mask
from pet_pipeline.data.manifest import Case
from pet_pipeline.data.mumap_files import mumap_onto
from pet_pipeline.data.resample import onto
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.recalibration import Voxels
from pet_pipeline.inference.calibration import MOST_VOXELS, fitted
from pet_pipeline.inference.mumaps import MumapMaker
from pet_pipeline.models.weights import ModelFolder, describe_anew
from pet_pipeline.mumap.targets import body_mumap
from pet_pipeline.seeding import generator
from pet_pipeline.units import MU_WATER_CM1


def measure_mumap(maker: MumapMaker, case: Case) -> Voxels:
    """Make a case's mu-map and compare it with the case's own, in voxels of the patient drawn at random.

    Raises:
        InputRefused: an input that cannot be read, or in which no body is found.
        UsageError: a model without a population prior.
    """
    assert case.input is not None
    volume, _ = nifti.read(case.input)
    made = maker.make(volume, case_id=case.case_id)
    if made.uncertainty is None or made.cascaded is None:
        raise UsageError(f"{maker.description.name}: without a population prior nothing tells its errors")
    frame = made.frame
    truth = crop(mumap_onto(body_mumap(case), frame.grid).data, frame.start, frame.shape)
    body = np.flatnonzero(patient_mask(truth, frame.grid.spacing_mm) & frame.mask)
    if body.size > MOST_VOXELS:
        body = generator(0, "calibration", case.case_id).choice(body, MOST_VOXELS, replace=False)
    regions = np.zeros(body.size, np.int64)
    if case.labels is not None:
        labels = onto(nifti.read(case.labels)[0], frame.grid, nearest=True)
        regions = np.rint(crop(labels.data, frame.start, frame.shape)).ravel()[body].astype(np.int64)
    error = (made.cascaded.mumap_cm1 - truth).ravel()[body] / np.float32(MU_WATER_CM1)
    return Voxels({name: sign.ravel()[body] for name, sign in made.uncertainty.signs.items()}, error, regions)


def with_calibration(maker: MumapMaker, calibration: MumapCalibration, destination: Path) -> ModelFolder:
    """A copy of a loaded model at `destination` (which may be its own folder) that tells the error of its maps."""
    cascade = maker.cascade.model_copy(update={"calibration": calibration})
    return describe_anew(maker.model, destination, {"mumap": cascade})


def calibrate_mumaps(
    maker: MumapMaker, cases: Sequence[Case], *, on_case: Callable[[str], None] = lambda _: None
) -> MumapCalibration:
    """Fit what tells the errors of a model's mu-maps.

    Args:
        maker: the loaded model, with a population prior.
        cases: with mu-maps, of at least two participants whom the model has not learnt from.
        on_case: told the name of each case when it is done.

    Raises:
        UsageError: too few participants, or a model without a population prior.
    """
    measured: dict[str, list[Voxels]] = {}
    for case in cases:
        measured.setdefault(case.participant_id, []).append(measure_mumap(maker, case))
        on_case(case.case_id)
    return MumapCalibration.model_validate(fitted(measured, cases))
