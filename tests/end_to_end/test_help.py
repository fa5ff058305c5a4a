"""`--help` of every command: at once, and without the heavy libraries."""

import re
import resource
import statistics
import subprocess
import sys

import pytest
from commandline import ENVIRONMENT, REPOSITORY, pet_pipeline

VERBS = [
    "doctor", "demo", "simulate", "check", "plan", "train", "distil", "translate", "mumap", "mumap-bank", "evaluate",
    "report", "reconstruct", "convert", "manifest", "models", "federated",
]  # fmt: skip
COMMANDS = [
    [],
    *([verb] for verb in VERBS),
    ["manifest", "create"],
    *(["models", verb] for verb in ("list", "show", "verify", "export")),
    *(["convert", verb] for verb in ("ct", "mumap")),
    *(["federated", verb] for verb in ("simulate", "init", "approve", "run", "resume", "status", "logs", "stop")),
    *(["federated", *verb] for verb in (("server", "start"), ("site", "keygen"), ("site", "start"))),
]
HEAVY = {"torch", "monai", "skimage", "SimpleITK", "scipy", "matplotlib", "nibabel", "tensorboard", "flwr"}

SHOW_AND_TELL = """
import sys
from pet_pipeline.cli.app import main
try:
    main()
finally:
    print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "pet-pipeline")
def test_help_is_quick_and_light(command: list[str]) -> None:
    seconds = []
    for _ in range(3):
        before = _processor_seconds()
        done = subprocess.run(
            [sys.executable, "-c", SHOW_AND_TELL, *command, "--help"],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        # The processor's time, not the clock's: what else the machine does is not the command's fault.
        seconds.append(_processor_seconds() - before)
        assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    loaded = set(re.findall(r"^LOADED (.*)$", done.stderr, re.MULTILINE)[0].split())
    assert not loaded & HEAVY
    assert statistics.median(seconds) < 1.0, seconds


def test_every_verb_is_listed_with_what_it_does() -> None:
    listing = pet_pipeline("--help").stdout
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b\s+\w+", listing), verb


def test_version_and_nonsense() -> None:
    version = pet_pipeline("--version")
    assert version.status == 0
    assert re.search(r"\d+\.\d+\.\d+", version.stdout)
    nonsense = pet_pipeline("nonsense")
    assert nonsense.status == 2
    assert "nonsense" in nonsense.stderr
    assert "Traceback" not in nonsense.stderr
