"""`convert ct`: closed forms of the scale, other grids and orientations, couch, places that do not meet, provenance."""

import json
from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data import nifti
from pet_pipeline.data.ct import CtImage, read_ct
from pet_pipeline.data.pseudo_ct import write_series
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, PartialFailure, UsageError
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.inference.ct_conversion import Grid, convert_ct, ct_to_mumap, read_grid
from pet_pipeline.units import Unit

CT_SHAPE, CT_SPACING = (160, 120, 30), (2.0, 2.0, 3.0)
PET_SHAPE, PET_SPACING = (72, 56, 20), (5.0, 5.0, 5.0)


def ct_volume(*, couch: bool = True) -> Volume:
    """An ellipse of 40 HU with lungs and bone on a couch, air around; 320 x 240 x 90 mm around the origin."""
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(CT_SHAPE, CT_SPACING, strict=True)),
                          indexing="ij")  # fmt: skip
    hu = np.full(CT_SHAPE, -1000.0)
    if couch:
        hu[(np.abs(x) < 140.0) & (y < -92.0) & (y > -110.0)] = -930.0
        hu[(np.abs(x) < 140.0) & (np.abs(y + 94.0) < 1.5)] = -300.0
    body = (x / 130.0) ** 2 + (y / 90.0) ** 2 < 1.0
    hu[body] = 40.0
    hu[((np.abs(x) - 60.0) / 40.0) ** 2 + (y / 50.0) ** 2 < 1.0] = -800.0
    hu[(x**2 + (y + 45.0) ** 2) < 16.0**2] = 800.0
    return Volume(hu.astype(np.float32), Geometry.regular(CT_SHAPE, CT_SPACING), Unit.HU)


def pet_volume() -> Volume:
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(PET_SHAPE, PET_SPACING, strict=True)),
                          indexing="ij")  # fmt: skip
    body = (x / 130.0) ** 2 + (y / 90.0) ** 2 < 1.0
    return Volume(body.astype(np.float32), Geometry.regular(PET_SHAPE, PET_SPACING), Unit.SUV)


def as_image(volume: Volume, kvp: float | None = 120.0) -> CtImage:
    return CtImage(volume, Path("ct.nii.gz"), "0" * 64, kvp, None, ())


def as_grid(volume: Volume) -> Grid:
    return Grid(volume.geometry, None, volume, Path("pet.nii.gz"))


def at(volume: Volume, *place_mm: float) -> float:
    """The voxel at a place in the patient."""
    index = np.linalg.solve(volume.geometry.affine, [*place_mm, 1.0])[:3]
    i, j, k = (round(value) for value in index)
    return float(volume.data[i, j, k])


@pytest.mark.parametrize("kvp", [80.0, 120.0, 140.0])
def test_organs_have_the_values_of_the_scale(kvp: float) -> None:
    made = ct_to_mumap(as_image(ct_volume()), as_grid(pet_volume()), kvp=kvp)
    a, b = {80.0: (3.64e-5, 6.26e-2), 120.0: (5.10e-5, 4.71e-2), 140.0: (5.64e-5, 4.08e-2)}[kvp]
    soft = 9.6e-5 * 1040.0 if kvp != 140.0 else a * 1040.0 + b
    assert made.volume.unit is Unit.CM1
    assert made.volume.geometry.matches(pet_volume().geometry)
    assert at(made.volume, 0.0, 20.0, 0.0) == pytest.approx(soft, abs=2e-4)
    assert at(made.volume, 60.0, 0.0, 0.0) == pytest.approx(9.6e-5 * 200.0, abs=2e-4)
    assert at(made.volume, 0.0, -45.0, 0.0) == pytest.approx(a * 1800.0 + b, rel=0.02)
    assert at(made.volume, 150.0, 0.0, 0.0) == pytest.approx(0.0, abs=1e-6)


def test_edges_are_as_wide_as_asked() -> None:
    """A step smoothed by a Gaussian of FWHM w has a slope of height / (w 1.0645) in its middle."""
    for fwhm_mm in (8.0, 14.0):
        made = ct_to_mumap(as_image(ct_volume(couch=False)), fwhm_mm=fwhm_mm).volume
        line = made.data[:, 60, 15]
        slope = np.abs(np.diff(line[:30])).max() / CT_SPACING[0]
        assert slope == pytest.approx(9.6e-5 * 1040.0 / (fwhm_mm * 1.0645), rel=0.06)
    sharp = ct_to_mumap(as_image(ct_volume(couch=False)), fwhm_mm=0.0, keep_couch=True).volume
    np.testing.assert_allclose(np.unique(sharp.data)[[0, -2]], [0.0, 9.6e-5 * 1040.0], atol=1e-6)


@pytest.mark.parametrize("step_mm", [2.0, 1.0], ids=["as it is", "averaged first"])
def test_own_grid_and_pet_grid_agree_in_attenuation_and_place(step_mm: float) -> None:
    given = ct_volume(couch=False)
    if step_mm == 1.0:  # the same body in voxels half as wide
        fine = np.repeat(np.repeat(given.data, 2, axis=0), 2, axis=1)
        given = Volume(fine, Geometry.regular((320, 240, 30), (1.0, 1.0, 3.0)), Unit.HU)
    own = ct_to_mumap(as_image(given)).volume
    pet = ct_to_mumap(as_image(given), as_grid(pet_volume())).volume
    assert own.geometry.matches(given.geometry)
    assert pet.data.sum() * 125.0 == pytest.approx(own.data.sum() * own.geometry.voxel_ml * 1e3, rel=0.01)
    for axis in range(2):
        centres = [
            (np.arange(v.data.shape[axis]) - (v.data.shape[axis] - 1) / 2)
            * v.geometry.spacing_mm[axis]
            @ v.data.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64)
            / v.data.sum(dtype=np.float64)
            for v in (own, pet)
        ]
        assert centres[0] == pytest.approx(centres[1], abs=0.1)


@pytest.mark.parametrize("turn", [((1, 0, 2), (True, False, True)), ((2, 1, 0), (False, True, False))])
def test_orientation_of_ct_and_pet_do_not_matter(turn: tuple) -> None:
    straight = ct_to_mumap(as_image(ct_volume()), as_grid(pet_volume())).volume
    turned = ct_to_mumap(as_image(ct_volume().oriented(Orientation(*turn))), as_grid(pet_volume())).volume
    np.testing.assert_allclose(turned.data, straight.data, atol=1e-6)
    target = pet_volume().oriented(Orientation(*turn))
    onto_turned = ct_to_mumap(as_image(ct_volume()), as_grid(target)).volume
    assert onto_turned.geometry.matches(target.geometry)
    np.testing.assert_allclose(onto_turned.oriented(Orientation(*turn).inverse()).data, straight.data, atol=1e-6)


def test_the_couch_is_taken_out_or_kept() -> None:
    place = (0.0, -100.0, 0.0)
    without = ct_to_mumap(as_image(ct_volume()), as_grid(pet_volume())).volume
    kept = ct_to_mumap(as_image(ct_volume()), as_grid(pet_volume()), keep_couch=True).volume
    assert at(without, *place) < 0.002
    assert at(kept, *place) > 0.006
    np.testing.assert_allclose(at(without, 0.0, 20.0, 0.0), at(kept, 0.0, 20.0, 0.0), atol=1e-6)


def test_air_beyond_the_ct_and_places_that_do_not_meet() -> None:
    ct = ct_volume()
    made = ct_to_mumap(as_image(ct), as_grid(pet_volume()))
    assert any("covers 90% of the PET's slices" in warning for warning in made.warnings)
    assert not made.volume.data[:, :, 0].any()
    assert made.volume.data[:, :, 1].any()
    affine = ct.geometry.affine.copy()
    affine[2, 3] += 60.0
    half = ct_to_mumap(as_image(Volume(ct.data, Geometry(CT_SHAPE, affine), Unit.HU)), as_grid(pet_volume()))
    assert not half.volume.data[:, :, :10].any()
    affine[2, 3] += 300.0
    with pytest.raises(InputRefused, match="outside the field of view"):
        ct_to_mumap(as_image(Volume(ct.data, Geometry(CT_SHAPE, affine), Unit.HU)), as_grid(pet_volume()))
    aside = ct.geometry.affine.copy()
    aside[0, 3] += 140.0
    moved = ct_to_mumap(as_image(Volume(ct.data, Geometry(CT_SHAPE, aside), Unit.HU)), as_grid(pet_volume()))
    assert any("another patient, or moved" in warning for warning in moved.warnings)


def test_tube_voltage_by_option_header_or_assumption() -> None:
    ct = ct_volume()
    assert (ct_to_mumap(as_image(ct, 100.0)).kvp, ct_to_mumap(as_image(ct, 100.0)).kvp_from) == (100.0, "header")
    by_option = ct_to_mumap(as_image(ct, 100.0), kvp=140.0)
    assert (by_option.kvp, by_option.kvp_from) == (140.0, "option")
    assert any("the option is used" in warning for warning in by_option.warnings)
    assumed = ct_to_mumap(as_image(ct, None))
    assert (assumed.kvp, assumed.kvp_from) == (120.0, "assumed")
    assert any("120 kVp is assumed" in warning for warning in assumed.warnings)
    with pytest.raises(InputRefused, match="70 kVp; the scale is known for 80, 100"):
        ct_to_mumap(as_image(ct, 70.0))
    with pytest.raises(UsageError, match="90 kVp"):
        ct_to_mumap(as_image(ct), kvp=90.0)


def test_a_ct_without_a_patient_is_refused() -> None:
    hu = np.full(CT_SHAPE, -1000.0, dtype=np.float32)
    hu[:, 30:33] = -100.0
    with pytest.raises(InputRefused, match="no body found"):
        ct_to_mumap(as_image(ct_volume().with_data(hu)))


def test_files_have_provenance_and_are_not_made_twice(tmp_path: Path) -> None:
    nifti.write(tmp_path / "ct.nii.gz", ct_volume())
    (tmp_path / "ct.json").write_text('{"KVP": 100, "ContrastBolusAgent": "iodine"}')
    nifti.write(tmp_path / "pet.nii.gz", pet_volume())
    out = tmp_path / "out" / "mumap.nii.gz"
    first = convert_ct(tmp_path / "ct.nii.gz", out, pet=tmp_path / "pet.nii.gz")
    assert first.status == "done"
    facts = json.loads((tmp_path / "out" / "mumap.json").read_text())
    assert (facts["Units"], facts["Couch"], facts["KVP"], facts["KVPSource"]) == ("cm-1", False, 100.0, "header")
    assert any("iodine" in warning for warning in facts["warnings"])
    assert facts["input"]["unit"] == "hu"
    assert facts["options"]["fwhm_mm"] == 5.0
    written, template = nifti.read(out)
    assert template.geometry.matches(pet_volume().geometry)
    np.testing.assert_array_equal(
        written.data, ct_to_mumap(read_ct(tmp_path / "ct.nii.gz"), read_grid(tmp_path / "pet.nii.gz")).volume.data
    )
    assert convert_ct(tmp_path / "ct.nii.gz", out, pet=tmp_path / "pet.nii.gz").status == "skipped"
    with pytest.raises(PartialFailure, match="left untouched"):
        convert_ct(tmp_path / "ct.nii.gz", out, pet=tmp_path / "pet.nii.gz", keep_couch=True)
    again = convert_ct(
        tmp_path / "ct.nii.gz", out, pet=tmp_path / "pet.nii.gz", keep_couch=True, overwrite=True
    )  # fmt: skip
    assert again.status == "done"
    assert json.loads((tmp_path / "out" / "mumap.json").read_text())["Couch"] is True
    assert not list(out.parent.glob(".*"))


def test_a_dicom_series_gives_the_map_of_its_nifti(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    ct = ct_volume()
    write_series(tmp_path / "ct", ct, kvp=100)
    by_series = ct_to_mumap(read_ct(tmp_path / "ct"), as_grid(pet_volume()))
    by_volume = ct_to_mumap(as_image(ct, 100.0), as_grid(pet_volume()))
    assert (by_series.kvp, by_series.kvp_from) == (100.0, "header")
    np.testing.assert_allclose(by_series.volume.data, by_volume.volume.data, atol=1e-5)


@pytest.mark.parametrize("given", ["series", "file"])
def test_hu_are_those_of_the_ct(given: str, tmp_path: Path) -> None:
    ct, source = ct_volume(), tmp_path / ("ct" if given == "series" else "ct.nii.gz")
    if given == "series":
        pydicom = pytest.importorskip("pydicom")
        write_series(source, ct, kvp=100)
        images = sorted((pydicom.dcmread(path) for path in source.iterdir()), key=lambda i: i.ImagePositionPatient[2])
        stored = [image.pixel_array.T * image.RescaleSlope + image.RescaleIntercept for image in images]
        expected = np.stack(stored, axis=-1)[::-1, ::-1]  # to the right, the front, the head
    else:
        nifti.write(source, ct.with_data(np.where(ct.data == -1000.0, np.float32(-2048.0), ct.data)))  # padding
        expected = ct.data
    out = tmp_path / "hu.nii.gz"
    assert convert_ct(source, out, unit=Unit.HU).status == "done"
    written = nifti.read(out)[0].canonical()
    np.testing.assert_array_equal(written.data, expected)
    assert written.geometry.matches(ct.geometry)
    facts = json.loads((tmp_path / "hu.json").read_text())
    assert (facts["Units"], facts["Couch"], facts["options"]) == ("HU", True, {"unit": "hu", "grid": None})
    assert facts.get("KVP") == (100.0 if given == "series" else None)
    again = read_ct(out)  # what it writes is a CT to it
    np.testing.assert_array_equal(again.volume.canonical().data, expected)
    assert again.kvp == facts.get("KVP")
    assert convert_ct(source, out, unit=Unit.HU).status == "skipped"
    with pytest.raises(PartialFailure, match="left untouched"):
        convert_ct(source, out)


def test_hu_on_the_grid_of_a_pet(tmp_path: Path) -> None:
    nifti.write(tmp_path / "ct.nii.gz", ct_volume())
    nifti.write(tmp_path / "pet.nii.gz", pet_volume())
    convert_ct(tmp_path / "ct.nii.gz", tmp_path / "hu.nii.gz", pet=tmp_path / "pet.nii.gz", unit=Unit.HU)
    hu = nifti.read(tmp_path / "hu.nii.gz")[0]
    assert hu.geometry.matches(pet_volume().geometry)
    assert at(hu, 0.0, 20.0, 0.0) == pytest.approx(40.0, abs=0.01)
    assert at(hu, 60.0, 0.0, 0.0) == pytest.approx(-800.0, abs=0.01)
    assert at(hu, 0.0, -45.0, 0.0) == pytest.approx(800.0, abs=0.01)
    np.testing.assert_array_equal(hu.data[:, :, 0], -1000.0)  # beyond the CT
    for option in ({"kvp": 120.0}, {"fwhm_mm": 5.0}, {"keep_couch": True}):
        with pytest.raises(UsageError, match="of mu-maps"):
            convert_ct(tmp_path / "ct.nii.gz", tmp_path / "b.nii.gz", unit=Unit.HU, **option)  # type: ignore[arg-type]


def test_a_pet_or_a_map_given_as_ct_is_refused(tmp_path: Path) -> None:
    nifti.write(tmp_path / "pet.nii.gz", pet_volume().with_data(pet_volume().data * 5.0 + 0.1))
    with pytest.raises(InputRefused, match="a PET"):
        convert_ct(tmp_path / "pet.nii.gz", tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()
