"""Inputs that may not be read, or never come to an end: refused by name, at once; the others are translated."""

import os
from pathlib import Path

import pytest
import tiny_data_sets
from commands import as_plain_user, run
from translated_batch import Batch


def test_an_input_that_may_not_be_read(batch: Batch, tmp_path: Path) -> None:
    closed = tmp_path / "closed.nii.gz"
    closed.write_bytes(batch.scans[0].read_bytes())
    closed.chmod(0)
    out, said = tmp_path / "out", tmp_path / "said"
    options = ("--output", out, "--model", batch.model, "--device", "cpu", "--steps", 1)
    alone = run("translate", closed, *options, said=said, limit=as_plain_user)
    assert (alone.status, "Permission denied" in alone.said) == (3, True), alone.said
    some = run("translate", closed, *batch.scans, *options, said=said, limit=as_plain_user)
    assert (some.status, "1 of 4 inputs" in some.said) == (4, True), some.said
    assert len(batch.assert_nothing_half_written(out)) == len(batch.scans)


@pytest.mark.parametrize(
    "command",
    [
        ("translate", "PIPE", "--output", "OUT"),
        ("mumap", "PIPE", "--output", "OUT"),
        ("check", "PIPE"),
        ("evaluate", "PIPE", "PIPE", "--output", "OUT"),
        ("convert", "pet", "PIPE", "OUT.nii.gz"),
        ("convert", "ct", "PIPE", "OUT.nii.gz"),
        ("convert", "mumap", "PIPE", "OUT.hv", "--to", "interfile"),
        ("reconstruct", "PIPE", "--output", "OUT", "--mumap", "none"),
    ],
    ids=lambda command: " ".join(one for one in command if one.islower() and not one.startswith("-")),
)
def test_a_pipe_is_not_waited_for(command: tuple[str, ...], tmp_path: Path) -> None:
    """As a network drive that stalls: opening it for reading would block for ever."""
    pipe = tmp_path / "scan.nii.gz"
    os.mkfifo(pipe)
    named = [one.replace("PIPE", str(pipe)).replace("OUT", str(tmp_path / "out")) for one in command]
    refused = run(*named, said=tmp_path / "said", timeout_s=60.0)
    assert refused.status in (2, 3), refused.said
    assert str(pipe) in refused.said.replace("\n", "")


@pytest.mark.parametrize("what", ["--patients", "--scale", "inherited sidecar", "sidecar of an output"])
def test_a_pipe_elsewhere_is_not_waited_for(what: str, batch: Batch, tmp_path: Path) -> None:
    pipe, out, scan = tmp_path / "pipe", tmp_path / "out", batch.scans[0]
    command: tuple[object, ...] = ("translate", scan, "--output", out, "--model", batch.model, "--device", "cpu")
    if what == "--patients":
        tiny_data_sets.udpet(tmp_path / "set", participants=1)
        command = ("manifest", "create", tmp_path / "set", "--output", tmp_path / "m.tsv", "--patients", pipe)
    elif what == "--scale":
        command = (*command, "--scale", pipe)
    elif what == "inherited sidecar":
        pipe = tmp_path / "set" / "pet.json"
        named = tmp_path / "set" / "sub-1_pet.nii.gz"
        named.parent.mkdir()
        named.write_bytes(scan.read_bytes())
        (tmp_path / "set" / "dataset_description.json").write_text("{}")
        command = ("check", named, "--model", batch.model)
    else:
        pipe = out / "scan0_acsd.json"
        out.mkdir()
    os.mkfifo(pipe)
    refused = run(*command, said=tmp_path / "said", timeout_s=60.0)
    assert refused.status in (2, 3, 4), refused.said
    assert str(pipe).removesuffix(".json") in refused.said.replace("\n", "")


def test_a_pipe_beside_an_input_is_no_sidecar(batch: Batch, tmp_path: Path) -> None:
    scan = tmp_path / "in" / "scan0.nii.gz"
    scan.parent.mkdir()
    scan.write_bytes(batch.scans[0].read_bytes())
    os.mkfifo(scan.with_name("scan0.json"))
    os.mkfifo(scan.with_name("scan1.nii.gz"))  # in a folder, what is no file is passed over
    out = tmp_path / "out"
    options = ("--output", out, "--model", batch.model, "--device", "cpu", "--steps", 1)
    done = run("translate", scan.parent, *options, said=tmp_path / "said")
    assert done.status == 0, done.said
    assert batch.assert_nothing_half_written(out) == ["scan0_acsd.json"]
