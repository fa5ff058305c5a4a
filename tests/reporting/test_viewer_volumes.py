"""Volumes for the viewer: in place, within their budget, and left out aloud."""

import gzip
import json
import re

import nibabel as nib
import numpy as np
import pytest
from result_maker import HOT, SHAPE, SPACING_MM, labels, make_result, volumes

from pet_pipeline.errors import InputRefused
from pet_pipeline.reporting import viewer
from pet_pipeline.reporting.page import missing_parts, write_report
from pet_pipeline.reporting.viewer import niivue_gzip_base64, save_volumes


def _read(path, name: str) -> nib.Nifti1Image:
    with np.load(path) as stored:
        return nib.Nifti1Image.from_bytes(gzip.decompress(stored[name].tobytes()))


def test_a_volume_keeps_its_place_and_its_values(tmp_path):
    made = volumes()
    save_volumes(tmp_path / "v.npz", made["reference"], {"m": made["first"]}, SPACING_MM, labels=labels())
    image = _read(tmp_path / "v.npz", "reference")
    assert image.header.get_zooms() == pytest.approx(SPACING_MM)
    data = np.asarray(image.dataobj)
    assert data.max() == pytest.approx(9.0, abs=0.006)
    hot = np.unravel_index(int(data.argmax()), data.shape)
    centre = [(i - (n - 1) / 2) * s for i, n, s in zip(HOT, SHAPE, SPACING_MM, strict=True)]
    assert (image.affine @ [*hot, 1.0])[:3] == pytest.approx(centre, abs=1e-3)


def test_large_volumes_are_averaged_until_they_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "CASE_BYTES", 20_000)
    rng = np.random.default_rng(0)
    reference = rng.uniform(1.0, 5.0, (40, 36, 50)).astype(np.float32)
    save_volumes(tmp_path / "v.npz", reference, {"m": reference + 1.0}, (4.0, 4.0, 6.0))
    with np.load(tmp_path / "v.npz") as stored:
        assert sum(stored[n].size for n in stored.files if n != "facts") <= 20_000
    image, other = _read(tmp_path / "v.npz", "reference"), _read(tmp_path / "v.npz", "prediction0")
    zooms = image.header.get_zooms()
    assert max(zooms) / min(zooms) < 1.5, "voxels become cubes"
    assert np.prod(image.shape) * np.prod(zooms) == pytest.approx(40 * 36 * 50 * 96.0, rel=1e-5)
    assert np.asarray(image.dataobj).mean() == pytest.approx(reference.mean(), abs=0.01)
    assert (np.asarray(other.dataobj) - np.asarray(image.dataobj)).mean() == pytest.approx(1.0, abs=0.01)


def test_grids_must_agree(tmp_path):
    made = volumes()
    with pytest.raises(InputRefused, match="one grid"):
        save_volumes(tmp_path / "v.npz", made["reference"], {"m": made["first"][1:]}, SPACING_MM)
    assert not list(tmp_path.iterdir())


def test_the_library_is_what_it_says():
    import base64

    code = gzip.decompress(base64.b64decode(niivue_gzip_base64())).decode()
    assert "niivue" in code[:400]
    assert "</script" not in code.lower()


def _embedded(text: str) -> dict:
    return json.loads(re.search(r'id="viewer-data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_holds_the_volumes_and_says_what_is_left_out(tmp_path, monkeypatch):
    folder = make_result(tmp_path, 4, viewer=True)
    data = _embedded(write_report(folder, viewer=True).read_text())
    assert [case["slug"] for case in data["cases"]] == [f"sub-000{i}" for i in range(1, 5)]
    assert set(data["cases"][0]["volumes"]) == {"reference", "prediction0", "prediction1", "uncertainty0"}
    size = sum(len(v) * 3 // 4 for v in data["cases"][0]["volumes"].values())
    monkeypatch.setattr(viewer, "PAGE_BYTES", int(2.5 * size))
    text = write_report(folder, viewer=True).read_text()
    assert len(_embedded(text)["cases"]) == 2
    assert "2 cases left out of the viewer" in text


def test_without_kept_volumes_the_page_says_what_to_do(tmp_path):
    folder = make_result(tmp_path, 1)
    text = write_report(folder, viewer=True).read_text()
    assert "No volumes were kept" in text
    assert "viewer-library" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "no volumes of sub-0001" in missing_parts(folder, viewer=True)[0]


def test_the_viewer_is_only_there_when_asked(tmp_path):
    folder = make_result(tmp_path, 1, viewer=True)
    text = write_report(folder).read_text()
    assert 'id="viewer"' not in text
    assert len(text) < 1_000_000
