"""The uncertainty map of a translation: its grid, unit, sources and words; calibrated by the model's own numbers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny_pet import SHAPE, phantom_array

from pet_pipeline.configs.uncertainty import LATER_SIGNS, SIGNS, Calibration, Curve
from pet_pipeline.data.volume import Volume
from pet_pipeline.diffusion.multipath import Paths
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.recalibration import OFFSET
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.batch import run
from pet_pipeline.inference.jobs import collect
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator
from pet_pipeline.inference.uncertainty import CONTRAST_MM, LABEL, POOLING_MM, contrast, pooled_deviation, signs_of
from pet_pipeline.models.weights import ModelFolder
from pet_pipeline.units import Unit


@pytest.fixture(scope="module")
def translator(tiny_model: Path) -> Translator:
    return Translator.load(tiny_model, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(phantom_array(), Geometry.regular(SHAPE, (5.0, 5.0, 5.0)), Unit.SUV)


FLAT = Curve(places=(1.0,), factors=(1.0,))

STRAIGHT = Curve(places=(0.0, 99.99), factors=(OFFSET, 100.0))
"""Its factor is the sign itself, and `OFFSET`."""


def calibrating(translator: Translator, **changes: object) -> Translator:
    """The same model with a calibration that triples the spread."""
    fields = {
        "sampler": translator.model.description.sampler,
        "paths": 1,
        "level": 3.0,
        "curves": dict.fromkeys(SIGNS, FLAT) | {"spread": STRAIGHT},
        "half_widths": {50: 0.7, 80: 1.3, 95: 2.2},
        "region_half_widths": {50: 0.3, 80: 0.9, 95: 1.4},
        "reference": "noise_free",
    }
    calibration = Calibration.model_validate(fields | changes)
    description = translator.model.description.model_copy(update={"calibration": calibration})
    return replace(translator, model=ModelFolder(translator.model.path, description))


def test_asking_for_it_alters_no_voxel_of_the_result(translator: Translator, volume: Volume) -> None:
    plain = translator.translate(volume)
    assert plain.uncertainty is None
    asked = translator.translate(volume, TranslateOptions(uncertainty=True))
    np.testing.assert_array_equal(asked.volume.data, plain.volume.data)
    assert asked.uncertainty is not None
    assert asked.uncertainty.volume.geometry.matches(volume.geometry)
    assert asked.uncertainty.sources == ("views",)
    body = asked.frame.mask.sum()
    assert (asked.uncertainty.volume.data > 0).sum() >= body
    assert any("views disagree" in line for line in asked.warnings)


def test_paths_are_averaged_and_the_first_is_the_single_one(translator: Translator, volume: Volume) -> None:
    each = [translator.translate(volume, TranslateOptions(paths=n)).volume.data for n in (1, 2, 3)]
    second = 2.0 * each[1] - each[0]  # of the mean of two
    third = 3.0 * each[2] - 2.0 * each[1]
    for one, other in ((each[0], second), (each[0], third), (second, third)):
        assert np.abs(one - other).max() > 1e-3
    again = translator.translate(volume, TranslateOptions(paths=3, batch_slices=3)).volume.data
    np.testing.assert_allclose(again, each[2], atol=1e-4)
    many = translator.translate(volume, TranslateOptions(paths=3, uncertainty=True, views=("axial",))).uncertainty
    assert many is not None
    assert many.sources == ("paths",)


def test_twice_the_activity_is_twice_the_uncertainty(translator: Translator, volume: Volume) -> None:
    model = calibrating(translator)
    options = TranslateOptions(uncertainty=True)
    once, twice = (
        model.translate(volume.with_data(factor * volume.data), options).uncertainty
        for factor in (np.float32(1), np.float32(2))
    )
    assert once is not None
    assert twice is not None
    np.testing.assert_allclose(twice.volume.data, 2.0 * once.volume.data, rtol=1e-4, atol=1e-5)


def test_calibration_is_applied_inside_the_body_alone(translator: Translator, volume: Volume) -> None:
    options = TranslateOptions(uncertainty=True)
    bare, known = (one.translate(volume, options) for one in (translator, calibrating(translator)))
    assert bare.uncertainty is not None
    assert known.uncertainty is not None
    inside = known.frame.inverse(known.frame.mask.astype(np.float32), Unit.SUV).data > 0.999
    scale = known.normalisation["scale"] * known.normalisation["gain"]
    expected = 3.0 * (bare.uncertainty.volume.data + OFFSET * scale)
    np.testing.assert_allclose(known.uncertainty.volume.data[inside], expected[inside], rtol=1e-4)
    outside = known.frame.inverse(known.frame.mask.astype(np.float32), Unit.SUV).data == 0.0
    np.testing.assert_allclose(known.uncertainty.volume.data[outside], bare.uncertainty.volume.data[outside], rtol=1e-6)
    facts = known.uncertainty.facts()
    assert facts["calibrated"] is True
    assert facts["interval_half_widths_sd"] == {"50 %": 0.7, "80 %": 1.3, "95 %": 2.2}
    assert facts["region_mean_half_widths_sd"] == {"50 %": 0.3, "80 %": 0.9, "95 %": 1.4}
    assert not {"interval_half_widths_sd", "region_mean_half_widths_sd"} & bare.uncertainty.facts().keys()
    assert bare.uncertainty.facts()["label"] == LABEL
    assert any("not calibrated" in line for line in bare.warnings)
    assert not any("not calibrated" in line for line in known.warnings)


@pytest.mark.parametrize("asked", [{"paths": 2}, {"steps": 1}])
def test_a_calibration_for_another_sampling_is_not_applied(
    translator: Translator, volume: Volume, asked: dict[str, int]
) -> None:
    found = calibrating(translator).translate(volume, TranslateOptions.model_validate({"uncertainty": True} | asked))
    assert found.uncertainty is not None
    assert found.uncertainty.calibration is None
    assert any("is for 1 path" in line for line in found.warnings)


def test_variances_add_up_and_are_pooled() -> None:
    spacing = (5.0, 2.5, 2.5)
    even = Paths(torch.zeros(9, 9, 9), torch.full((9, 9, 9), 9.0), torch.full((9, 9, 9), 16.0))
    np.testing.assert_allclose(pooled_deviation(even, spacing), 5.0, rtol=1e-6)
    point = torch.zeros(41, 81, 81)
    point[20, 40, 40] = 1.0
    pooled = pooled_deviation(Paths(point, None, point), spacing).astype(np.float64) ** 2
    assert pooled.sum() == pytest.approx(1.0, rel=1e-3)
    for axis in range(3):
        place = (np.arange(pooled.shape[axis]) - pooled.shape[axis] // 2) * spacing[axis]
        spread = (pooled.sum(axis=tuple({0, 1, 2} - {axis})) * place**2).sum()
        assert np.sqrt(spread) == pytest.approx(POOLING_MM, rel=0.03)


def test_signs_are_multiples_of_the_scale_and_an_edge_is_steep() -> None:
    activity = np.zeros((40, 20, 20), np.float32)
    activity[20:] = 6.0
    spread, condition = (np.full(activity.shape, value, np.float32) for value in (0.5, 0.7))
    signs = signs_of(activity, spread, condition, 0.3, 2.0, (5.0, 2.5, 2.5))
    assert tuple(signs) == SIGNS
    np.testing.assert_array_equal(signs["activity"], activity / 2.0)
    np.testing.assert_array_equal(signs["spread"], 0.25)
    np.testing.assert_allclose(signs["condition"], 0.7, rtol=1e-6)  # has its own scale already
    np.testing.assert_array_equal(signs["noise"], np.float32(0.3))
    np.testing.assert_allclose(signs["edge"][:, 3, 4][[5, 19, 20, 35]], [0.0, 1.5, 1.5, 0.0])  # over 5 mm, mean of two


def test_contrast_is_what_stands_out_of_its_surroundings_and_has_no_unit() -> None:
    spacing = (5.0, 2.5, 2.5)
    x, y, z = np.meshgrid(
        *((np.arange(n) - n // 2) * s for n, s in zip((31, 61, 61), spacing, strict=True)), indexing="ij"
    )
    radius = np.sqrt(x**2 + y**2 + z**2)
    for spread, hotter in ((8.0, True), (60.0, False)):
        blob = (1.0 + 2.0 * np.exp(-0.5 * (radius / spread) ** 2)).astype(np.float32)
        found = contrast(blob, spacing)
        there, around = ((1.0 + 2.0 * (spread**2 / (spread**2 + mm**2)) ** 1.5) for mm in CONTRAST_MM)
        assert found[15, 30, 30] == pytest.approx(there / around - 1.0, abs=0.02)
        assert bool(found[15, 30, 30] > 0.3) is hotter
        np.testing.assert_allclose(contrast(3.0 * blob, spacing), found, rtol=1e-3, atol=1e-5)
    assert contrast(np.full((9, 9, 9), 2.0, np.float32), spacing).max() < 1e-5
    assert contrast(1.0 / blob, spacing).min() == 0.0


def test_what_has_no_spread_is_refused(translator: Translator, volume: Volume) -> None:
    with pytest.raises(UsageError, match="--paths 2"):
        translator.translate(volume, TranslateOptions(uncertainty=True, views=("axial",)))
    with pytest.raises(UsageError, match="without a spread"):
        translator.translate(volume, TranslateOptions(uncertainty=True, prior_only=True))


def test_a_calibration_that_makes_no_sense_is_refused(translator: Translator) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Curve(places=(1.0, 1.0), factors=(1.0, 2.0))
    with pytest.raises(ValueError, match="one a place"):
        Curve(places=(1.0, 2.0), factors=(1.0,))
    with pytest.raises(ValueError, match="needed are activity, spread, edge, condition"):
        calibrating(translator, curves={"spread": FLAT})
    older = dict.fromkeys(set(SIGNS) - set(LATER_SIGNS), FLAT)
    assert calibrating(translator, curves=older).model.description.calibration is not None
    for widths in ("half_widths", "region_half_widths", "noisy_half_widths"):
        with pytest.raises(ValueError, match="50, 80, 95"):
            calibrating(translator, **{widths: {80: 1.3}})


def test_map_and_sidecars_lie_beside_the_result(
    translator: Translator, make_pet: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_pet("in/scan.nii.gz", units="SUV")

    def once(**options: object) -> str:
        jobs = collect([source.parent], tmp_path / "out")
        wishes = TranslateOptions.model_validate(options)
        overwrite = options == {"paths": 1}
        return run(jobs, TranslateWork(translator, wishes, InputOptions(), overwrite))[0].status

    assert once(uncertainty=True, paths=2) == "done"
    deviation = tmp_path / "out" / "scan_acsd_std.nii.gz"
    image, result = (nib.load(path) for path in (deviation, tmp_path / "out" / "scan_acsd.nii.gz"))
    np.testing.assert_array_equal(image.affine, result.affine)
    assert image.shape == result.shape
    assert float(np.asarray(image.dataobj).max()) > 0.0
    own, main = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("scan_acsd_std", "scan_acsd"))
    assert own["label"] == LABEL
    assert (own["calibrated"], own["sources"], own["paths"]) == (False, ["paths", "views"], 2)
    assert own["Units"] == main["Units"] == "g/mL"
    assert main["uncertainty"]["label"] == LABEL
    assert (main["options"]["paths"], main["options"]["uncertainty"]) == (2, True)
    assert once(uncertainty=True, paths=2) == "skipped"
    deviation.unlink()
    assert once(uncertainty=True, paths=2) == "done"
    assert deviation.is_file()
    assert once(paths=2) == "failed"  # another wish: what lies there is left alone
    assert once(paths=1) == "done"  # with overwrite
    assert not deviation.exists()
    assert not deviation.with_name("scan_acsd_std.json").exists()
