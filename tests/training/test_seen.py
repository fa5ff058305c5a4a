"""What a model saw: percentiles over the training inputs alone, framed as translation frames them."""

import nibabel as nib
import numpy as np
import pytest
import yaml

from pet_pipeline.configs.loading import as_yaml
from pet_pipeline.configs.model import ModelDescription, SeenRange
from pet_pipeline.configs.schema import GridSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.descriptors import TERMS, describe
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.training import seen
from pet_pipeline.training.seen import cases_seen, seen_ranges

GRID = GridSettings()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Nine balls of 40 mm and more, ever noisier; the last, of another split, is far noisier and larger."""
    root = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    radius_mm = np.sqrt(((np.indices((40, 40, 40)) - 19.5) ** 2).sum(0)) * 4.0
    cases = []
    for number in range(9):
        last = number == 8
        ball = radius_mm < (70.0 if last else 40.0 + 2.0 * number)
        noise = rng.normal(0.0, 0.9 if last else 0.1 + 0.05 * number, ball.shape)
        path = root / f"p{number}.nii.gz"
        nib.save(nib.Nifti1Image((ball * (1.0 + noise)).astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0])), path)
        cases.append(Case(f"p{number}", f"sub-{number}", "test", "val" if last else "train", path))
    return Manifest(root, tuple(cases))


def test_ranges_are_the_percentiles_over_the_training_cases(cohort: Manifest) -> None:
    ticks: list[int] = []
    found = seen_ranges(cohort, GRID, workers=2, on_case=lambda: ticks.append(1))
    assert list(found) == list(TERMS)
    assert len(ticks) == 8
    described = []
    for case in cohort.cases[:8]:
        volume, _ = nifti.read(case.input)
        described.append(describe(*frame_body(volume, GRID.spacing_mm, multiple=16)))
    for name, spread in found.items():
        expected = np.percentile([getattr(one, name) for one in described], [1, 50, 99])
        assert (spread.p01, spread.median, spread.p99) == pytest.approx(tuple(expected), rel=1e-3)
    assert found["noise_level"].p99 < 0.5
    assert found["spacing_z_mm"] == SeenRange(p01=4.0, median=4.0, p99=4.0)
    assert seen_ranges(cohort, GRID, split="val")["body_ml"].p01 > found["body_ml"].p99


def test_of_many_cases_a_random_part_is_looked_at_always_the_same(
    cohort: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MOST_CASES", 3)
    chosen = cases_seen(cohort)
    assert len(chosen) == 3
    assert chosen == cases_seen(cohort)
    assert all(case.split == "train" for case in chosen)


def test_a_manifest_without_training_cases_is_refused(cohort: Manifest) -> None:
    with pytest.raises(UsageError, match="no test case in the manifest; needed is one at least"):
        seen_ranges(cohort, GRID, split="test")


def test_the_description_keeps_it_and_one_without_is_still_read(cohort: Manifest) -> None:
    plain = ModelDescription(name="m", version="1", networks={})
    before = yaml.safe_load(as_yaml(plain))
    del before["seen"]
    assert ModelDescription.model_validate(before) == plain
    full = plain.model_copy(update={"seen": seen_ranges(cohort, GRID)})
    assert ModelDescription.model_validate(yaml.safe_load(as_yaml(full))) == full


def test_a_range_that_falls_is_refused() -> None:
    with pytest.raises(ValueError, match="must not fall"):
        SeenRange(p01=2.0, median=1.0, p99=3.0)
