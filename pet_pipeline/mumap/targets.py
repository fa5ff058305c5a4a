"""What a mu-map network learns and a population bank holds: a patient's mu-map without the couch."""

from pet_pipeline.data.couch import without_couch
from pet_pipeline.data.manifest import Case
from pet_pipeline.data.mumap_files import read_mumap
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import UsageError


def body_mumap(case: Case) -> Volume:
    """The mu-map of a manifest's row without its couch, cm^-1, on the file's own grid turned to RAS+.

    Labels are not asked: on simulated patients, where they are known, `without_couch` agrees with them to 0.3 % of the
    attenuation in all.

    Raises:
        UsageError: the row has no mu-map.
        InputRefused: a file that cannot be read, or is no mu-map in cm^-1.
    """
    if case.mumap is None:
        raise UsageError(f"{case.case_id}: the manifest has no mumap; needed is one a row: convert ct makes them")
    volume, _ = read_mumap(case.mumap)
    turned = volume.canonical()
    return turned.with_data(without_couch(turned.data, turned.geometry.spacing_mm))
