"""Devices and precisions by name, and by trying."""

from pathlib import Path

import pytest
import torch

from pet_pipeline.errors import UsageError
from pet_pipeline.models import devices


def test_auto_takes_bf16_where_the_processor_has_it_and_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset({"avx2", "avx512_bf16"}))
    assert devices.choose("cpu").precision == "bf16"
    monkeypatch.setattr(devices, "_computes", lambda *_: False)
    broken = devices.choose("cpu")
    assert (broken.precision, "tried" in broken.reason) == ("fp32", True)
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset({"avx2"}))
    assert devices.choose("cpu").precision == "fp32"


@pytest.mark.parametrize(("features", "warned"), [({"avx2"}, True), ({"avx512_bf16"}, False)])
def test_emulated_bf16_is_done_when_asked_for_and_warned_of(
    features: set[str], warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset(features))
    assert devices.choose("cpu", "bf16").precision == "bf16"
    assert ("fp32 is several times faster" in caplog.text) == warned


def test_cpu_features_are_read_from_the_kernel(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert devices.cpu_features(listing) == {"fpu", "avx2", "amx_bf16"}
    assert devices.cpu_features(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(
    ("device", "precision", "word"),
    [("tpu", "auto", "tpu"), ("cuda:x", "auto", "cuda:x"), ("cpu", "fp8", "fp8"), ("cpu", "fp16", "GPU")],
)
def test_what_is_not_here_is_said(device: str, precision: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        devices.choose(device, precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here_is_refused_and_auto_does_without() -> None:
    with pytest.raises(UsageError, match="doctor"):
        devices.choose("cuda")
    assert devices.choose("auto").device.type == "cpu"


def test_networks_run_in_the_chosen_precision_without_gradients() -> None:
    layer = torch.nn.Conv2d(4, 4, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        compute = devices.choose("cpu", precision)
        with compute.networks():
            result = layer(torch.ones(1, 4, 8, 8))
        assert result.dtype == dtype
        assert not result.requires_grad
