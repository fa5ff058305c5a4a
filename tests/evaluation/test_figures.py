"""The picture: right way round, right scale, right place."""

from dataclasses import replace

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.figures import MU, CasePicture, case_figure, focus_voxel, save_figure


@pytest.fixture
def picture() -> CasePicture:
    truth = np.zeros((20, 12, 30), np.float32)
    truth[3:17, 2:10, 2:28] = 1.0
    truth[14, 5, 20] = 9.0
    truth[5, 7, 10] = 6.0
    lesions = truth > 2.0
    return CasePicture(truth / 4, truth + 0.5, truth, (5.0, 5.0, 4.0), "sub-1", lesions=lesions, body=truth > 0)


def test_the_slice_goes_through_the_hottest_lesion_or_the_middle(picture):
    assert focus_voxel(picture) == (14, 5, 20)
    plain = CasePicture(picture.nac, picture.prediction, picture.truth, picture.spacing_mm, "x", body=picture.body)
    assert focus_voxel(plain)[1] in (5, 6)


def test_panels_show_what_their_titles_say(picture):
    figure = case_figure(picture)
    images = [a.images[0] for a in figure.axes if a.images and a.get_xlabel() == ""]
    panels = {(a.get_title(), a.images[0].get_cmap().name): a for a in figure.axes if a.images and a.get_title()}
    assert [title for title, _ in panels] == ["NAC input", "MADM", "Truth", "Difference"]
    assert len(images) >= 8
    truth, difference = panels["Truth", "gray_r"], panels["Difference", "RdBu_r"]
    np.testing.assert_array_equal(truth.images[0].get_array(), picture.truth[:, 5, :].T)
    np.testing.assert_allclose(difference.images[0].get_array(), 0.5)
    assert truth.images[0].get_clim() == (0.0, 7.0)
    assert difference.images[0].get_clim() == (-3.0, 3.0)
    # x grows towards the patient's right, which readers have on the left of the page; z grows upwards.
    assert truth.get_xlim()[0] > truth.get_xlim()[1]
    assert truth.get_ylim()[0] < truth.get_ylim()[1]
    assert truth.images[0].get_extent() == [0.0, 100.0, 0.0, 120.0]
    # NAC is brought to the truth's mean in the body.
    nac = panels["NAC input", "gray_r"].images[0].get_array()
    np.testing.assert_allclose(nac, picture.truth[:, 5, :].T, rtol=1e-5)


def test_a_mumaps_projected_difference_is_its_mean_in_the_body(picture):
    off = np.zeros_like(picture.truth)
    off[4, 2:6, 8] = 0.02  # half of this ray's way through the body
    off[4, 0, 9] = 0.05  # outside it
    drawn = replace(picture, prediction=picture.truth + off, scale=MU)
    (panel,) = (a for a in case_figure(drawn).axes if a.get_ylabel() == "mean along the ray in the body")
    shown = np.asarray(panel.images[0].get_array())
    assert shown[8, 4] == pytest.approx(0.01, rel=1e-5)
    assert np.count_nonzero(shown) == 1


def test_the_file_is_a_png_and_no_leftover_stays(picture, tmp_path):
    save_figure(case_figure(picture), tmp_path / "case.png", dpi=40)
    assert (tmp_path / "case.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in tmp_path.iterdir()] == ["case.png"]


def test_other_grids_are_refused(picture):
    with pytest.raises(InputRefused, match="one grid"):
        CasePicture(picture.nac[:-1], picture.prediction, picture.truth, picture.spacing_mm, "x")
