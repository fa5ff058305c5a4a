"""Texture features where they can be counted by hand, and in what way their library is called."""

import logging

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.evaluation import texture
from pet_pipeline.evaluation.case import Truth
from pet_pipeline.evaluation.challenges import score_texture, udpet
from pet_pipeline.evaluation.regions import Structure


@pytest.fixture
def halves() -> tuple[np.ndarray, np.ndarray]:
    """A cube of 4 voxels: two layers of SUV 1 below two of SUV 3; around it other values, which must not count."""
    image = np.random.default_rng(0).uniform(5.0, 9.0, (9, 8, 10)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[2:6, 2:6, 3:7] = True
    image[2:6, 2:6, 3:5], image[2:6, 2:6, 5:7] = 1.0, 3.0
    return image, mask


def test_features_of_two_layers_by_counting(halves):
    """Grey levels 1 and 100: pairs and runs are symmetric in the two, so means are those of the levels."""
    pytest.importorskip("mirp")
    found = texture.texture_features(*halves)
    assert found["texture_rms"] == pytest.approx(np.sqrt((1 + 9) / 2))
    assert found["texture_p90"] == pytest.approx(3.0)
    assert 1.0 <= found["texture_median"] <= 3.0
    assert found["texture_joint_average"] == pytest.approx((1 + 100) / 2)
    assert found["texture_high_grey_level_run_emphasis"] == pytest.approx((1 + 100**2) / 2)
    assert found["texture_zone_percentage"] == pytest.approx(2 / 64)


def test_voxels_outside_the_mask_do_not_count(halves):
    pytest.importorskip("mirp")
    image, mask = halves
    assert texture.texture_features(np.where(mask, image, 50.0), mask) == texture.texture_features(image, mask)


def test_the_library_leaves_logging_and_stdout_alone(halves, capsys, monkeypatch):
    pytest.importorskip("mirp")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # pytest's own would hide what the library does without one
    level = root.level
    texture.texture_features(*halves)
    assert (root.handlers, root.level) == ([], level)
    assert capsys.readouterr().out == ""


def test_rows_are_of_the_challenges_organs_and_of_wide_lesions(halves, monkeypatch):
    image, mask = halves
    called = []

    def features(volume, part):
        called.append(part.sum())
        return {"texture_rms": float(volume[part].mean()), "texture_zone_percentage": 0.5}

    monkeypatch.setattr("pet_pipeline.evaluation.udpet.texture_features", features)
    labels = np.where(mask, 1, 0)
    labels[0, 0, 0], labels[8, 7, 9], labels[7, 7, 7] = 2, 3, 4
    table = (
        Structure(1, "liver", "organ"), Structure(2, "spleen", "organ"), Structure(3, "lesion_1", "lesion"),
        Structure(4, "lesion_2", "lesion", diameter_mm=10.0),
    )  # fmt: skip
    truth = Truth(image, (4.0, 4.0, 4.0), labels, table)
    rows = score_texture("a", "m", image * 1.25, truth)
    assert {r.region for r in rows} == {"organ:liver", "lesion:lesion_2"}
    assert {r.metric: (r.value, r.unit) for r in rows if r.region == "organ:liver"} == {
        "texture_rms": (pytest.approx(2.5), "SUV"),
        "texture_rms_reference": (pytest.approx(2.0), "SUV"),
        "texture_zone_percentage": (0.5, "1"),
        "texture_zone_percentage_reference": (0.5, "1"),
    }
    scores = {s.name: s.value for s in udpet(rows).scores}
    assert scores["organs"] == pytest.approx(100 * (0.75 + 1.0) / 2)
    with pytest.raises(InputRefused, match="one grid"):
        score_texture("a", "m", image[:-1], truth)


def test_a_missing_extra_is_said(halves, monkeypatch):
    monkeypatch.setattr(texture, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'pet-pipeline\[texture\]'"):
        texture.texture_features(*halves)
    with pytest.raises(InputRefused, match="texture needs voxels"):
        texture.texture_features(halves[0], np.zeros_like(halves[1]))
