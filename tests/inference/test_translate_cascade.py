"""`--cascade`: each stage starts from the mean of the last one's prior and result; the paths are those of the last."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pet import SHAPE, phantom_array

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.data.volume import Volume
from pet_pipeline.diffusion.multiview import Task, ViewDenoiser, sample_volume
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.errors import UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.api import translate
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.types import View
from pet_pipeline.units import Unit


@pytest.fixture(scope="module")
def translator(tiny_model: Path) -> Translator:
    return Translator.load(tiny_model, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(phantom_array(), Geometry.regular(SHAPE, (5.0, 5.0, 5.0)), Unit.SUV)


def test_stages_close_in_on_what_the_network_wants_by_half_of_what_is_left() -> None:
    """A network that makes 0.5 prior + 1 of any prior wants 2; a stage alone leaves half of the way, averaged 3/4."""
    halfway = ViewDenoiser(View.AXIAL, lambda slab: slab[:, -1:], lambda x, t, prior: 0.5 * prior + 1.0, 0, 0)
    sampler = SamplerSettings(views=("axial",), steps=1, start="noise")
    task = Task(torch.zeros(4, 4, 4), Objective("x0"), prior=torch.zeros(4, 4, 4))
    for stage in range(4):
        result = sample_volume(task, [halfway], sampler, torch.Generator().manual_seed(stage))
        prior = 2.0 * (1.0 - 0.75**stage)
        torch.testing.assert_close(result, torch.full((4, 4, 4), 0.5 * prior + 1.0))
        task = task.continued(result)
    with pytest.raises(ValueError, match="prior"):
        replace(task, prior=None).continued(result)


def test_one_stage_is_a_plain_translation_and_more_are_each_their_own(translator: Translator, volume: Volume) -> None:
    each = [translator.translate(volume, TranslateOptions(cascade=n)).volume.data for n in (1, 2, 3)]
    np.testing.assert_array_equal(each[0], translator.translate(volume).volume.data)
    assert np.abs(each[1] - each[0]).max() > 1e-3
    assert np.abs(each[2] - each[1]).max() > 1e-3
    again = translator.translate(volume, TranslateOptions(cascade=3, batch_slices=3)).volume.data
    np.testing.assert_allclose(again, each[2], atol=1e-4)
    twice = translator.translate(volume.with_data(np.float32(2) * volume.data), TranslateOptions(cascade=3)).volume.data
    np.testing.assert_allclose(twice, 2.0 * each[2], rtol=1e-3, atol=1e-3)


def test_the_paths_that_are_told_are_the_last_stage_s(translator: Translator, volume: Volume) -> None:
    told: dict[int, np.ndarray] = {}
    made = translator.translate(
        volume, TranslateOptions(cascade=2, paths=3), on_path=lambda number, path: told.update({number: path.data})
    )
    assert sorted(told) == [0, 1, 2]
    np.testing.assert_allclose(np.mean(list(told.values()), axis=0), made.volume.data, atol=1e-4)


def test_a_calibration_does_not_hold_for_a_cascade(translator: Translator, volume: Volume) -> None:
    made = translator.translate(volume, TranslateOptions(cascade=2, uncertainty=True))
    assert any("not calibrated" in line for line in made.warnings)


def test_a_cascade_that_would_do_nothing_is_refused(translator: Translator, volume: Volume) -> None:
    with pytest.raises(UsageError, match="without stages"):
        translator.translate(volume, TranslateOptions(cascade=2, prior_only=True))
    blind = {view: _Blind(network) for view, network in translator.denoisers.items()}
    unseeing = replace(translator, denoisers=blind)
    with pytest.raises(UsageError, match="--start prior"):
        unseeing.sampler(TranslateOptions(cascade=2, start="noise"))
    unseeing.sampler(TranslateOptions(cascade=2, start="prior"))


class _Blind:
    """A denoiser that takes no slices of a prior."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.settings = network.settings.model_copy(update={"prior_half_width": -1, "residual_on_prior": False})


def test_it_stands_in_the_sidecar(translator: Translator, make_pet: Callable[..., Path], tmp_path: Path) -> None:
    source = make_pet("in/scan.nii.gz", units="SUV")
    assert translate(source, tmp_path / "out", translator, cascade=2)[0].status == "done"
    assert '"cascade": 2' in (tmp_path / "out" / "scan_acsd.json").read_text()
    assert translate(source, tmp_path / "out", translator)[0].status == "failed"  # another way: left alone
