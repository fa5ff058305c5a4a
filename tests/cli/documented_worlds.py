"""Where each documented command is run: in small folders, in the order of its page, as typed.

A world is a folder to start from and the sections of pages whose commands are typed there, one after the other. What is
changed before a command runs stands here in sight: a name that is a placeholder, fewer steps of a training, fewer
patients. A command that is run nowhere is excused here, with the reason.
"""

import re
from typing import NamedTuple

from documented import LINES, PYTHON, Line

Changes = tuple[tuple[str, str], ...]
"""Regular expressions and what stands in the place of what they find."""

FEW_STEPS = "--set prior_optimiser.steps=2 --set denoiser_optimiser.steps=2 --set tell_unusual=false"
SMALL_NETWORKS = (
    "--set prior.widths=[4,8] --set denoiser.widths=[8,8] --set denoiser.attention_levels=[]"
    " --set denoiser.attention_head_width=8 --set denoiser.slab_half_width=1 --set denoiser.prior_half_width=0"
)
SMALL_STEPS = (
    "--set prior_optimiser.patch=[16,16,16] --set prior_optimiser.batch=1"
    " --set denoiser_optimiser.crop=16 --set denoiser_optimiser.batch=2"
)
SMALL = f"{FEW_STEPS} {SMALL_NETWORKS} {SMALL_STEPS}"
SMALL_MUMAP = (
    "--set method=our --set stages=1 --set our.under_widths=[4,8] --set our.head_width=4 --set our.over_widths=[4]"
    " --set under_optimiser.steps=2 --set under_optimiser.patch=[16,16,16]"
    " --set optimiser.steps=2 --set optimiser.patch=[16,16,16] --set optimiser.batch=1"
)
SHORT = "--set phantom.slices=[16,24] --set acquisition.phases=2 --scanner plain-5mm"
FEW_PATIENTS = f"--patients 4 {SHORT}"
SPLITS = "--set split.train=0.75 --set split.val=0.25 --set split.test=0.0"

EVERYWHERE: Changes = (
    ("--patients 40", f"{FEW_PATIENTS} {SPLITS}"),
    ("--patients 12", f"--patients 12 {SHORT}"),
    ("(--config cohort-(ndif|test))", rf"\1 {FEW_PATIENTS} {SPLITS} --dose 5 --set twins=false"),
    (r"(train (madm|ndif|prior) .*--config (tiny|tiny-ndif)$)", rf"\1 {FEW_STEPS}"),
    (r"^(evaluate .*)", r"\1 --workers 1"),
)


class World(NamedTuple):
    """A folder to start from and the sections that are typed in it.

    Attributes:
        name: in the name of the test.
        start: of the folder, a fixture `start_...`.
        sections: `page` or `page#heading`.
        changes: of this world alone.
        ends: commands, and the exit status that they are to have instead of 0.
        slow: not by default.
    """

    name: str
    start: str
    sections: tuple[str, ...]
    changes: Changes = ()
    ends: tuple[tuple[str, int], ...] = ()
    slow: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def lines(self) -> list[Line]:
        """Its commands, section by section, without those that are excused."""
        return [
            line
            for section in self.sections
            for line in LINES
            if section in (line.page, f"{line.page}#{line.section}") and reason(line) is None
        ]

    def status(self, line: Line) -> int:
        """The exit status that a command is to have."""
        return next((status for found, status in self.ends if re.search(found, line.text)), 0)

    def as_run(self, line: Line) -> list[str]:
        """The words that are run for a command."""
        if line.words[:2] == PYTHON:
            code = line.words[2]
            for found, instead in self.changes:
                code = re.sub(found, instead, code)
            return [*PYTHON, code]
        program, _, text = line.text.partition(" ")
        for found, instead in (*self.changes, *EVERYWHERE):
            text = re.sub(found, instead, text)
        return [program, *text.split()]


WORLDS = (
    World(
        "first files",
        "desk",
        ("README.md#Quick start", "README.md#Your own files"),
        (("scan.nii.gz (--output out-bqml)", r"scan-in-bqml.nii.gz \1"),),
        ends=(("--strict", 3),),  # these bodies are small: they are unlike the training data, and so refused
    ),
    World(
        "user guide",
        "desk",
        ("docs/user-guide.md#Check first", "docs/user-guide.md#Translate", "docs/user-guide.md#Models"),
        (
            ("INPUT", "scan.nii.gz"),
            ("--model MODEL", "--model runs/first/model"),
            ("--output DIR", "--output out"),
            (r"(models \w+) DIR", r"\1 runs/first/model"),
        ),
    ),
    World("unusual inputs", "desk", ("docs/unusual-inputs.md",)),
    World("uncertainty", "desk", ("docs/uncertainty.md",)),
    World("intervals and cascade", "desk", ("docs/cascade-and-priors.md",), (("(prior.kind=gan)", rf"\1 {SMALL}"),)),
    World("DICOM in short", "desk", ("README.md#DICOM",)),
    World("DICOM", "desk", ("docs/dicom.md",)),
    World(
        "scores",
        "scored",
        ("README.md#Score your own results", "docs/user-guide.md#Score", "docs/evaluation.md"),
        (
            ("PREDICTED REFERENCE", "out reference"),
            ("PRED REF", "out reference"),
            ("PRED ", "out "),
            ("LABELS", "labels"),
            ("--output DIR", "--output again"),
        ),
    ),
    World(
        "own pairs",
        "pairs",
        ("docs/own-data.md",),
        (
            ("(--config config.yaml)", rf"\1 {SMALL}"),
            ("FOLDER (.*--pattern)", r"OTHER \1"),
            ("manifest.tsv (--dose)", r"other.tsv \1"),
            ("DATASET", "FOLDER"),
        ),
    ),
    World(
        "conversions",
        "desk",
        (
            "docs/routes.md#2. Software that takes a CT: pseudo-CT in HU",
            "docs/routes.md#3. A vendor's console: pseudo-CT DICOM series",
            "docs/routes.md#4. STIR: Interfile",
            "docs/data-sets.md#BIDS, hedyPET",
        ),
    ),
    World("one task of a Slurm array", "desk", ("docs/scale.md#Shards: `--shard i/n`",)),
    World(
        "coordinator and site",
        "sites",
        ("docs/federated/site-it.md", "docs/federated/data.md", "docs/federated/index.md#Between real sites"),
        (
            ("/data/pet/", "cohort/"),
            ("/var/lib/pet-federated|SITE_FOLDER", "site"),
            ("site.key.pub", "site/site.key.pub"),
        ),
    ),
    World("tutorial", "nothing", ("docs/tutorial.md",), slow=True),
    World(
        "train, export, MONAI",
        "pairs",
        ("README.md#Train on your own pairs", "docs/export.md"),
        (
            ("(--config config.yaml)", rf"\1 {SMALL}"),
            ("translate scans/", "translate FOLDER/sub-01/pet"),
            ("export phantom-fdg-5mm --output bundle", "export phantom-fdg-5mm --output bundle-5mm"),
            ("export phantom-fdg-5mm (.* onnx)", r"export runs/own/model \1"),
            ("dataset_dir nii", "dataset_dir ../nii"),
        ),
        slow=True,
    ),
    World("maps in short", "desk", ("README.md#Attenuation maps without CT",), slow=True),
    World(
        "maps",
        "bodies",
        ("docs/mumap.md",),
        (
            ("(--config mumap-demo)", rf"\1 {SMALL_MUMAP}"),
            # the small one has no population prior
            ("calibrate --model runs/mumap/model", "calibrate --model phantom-mumap-5mm --output calibrated"),
        ),
        slow=True,
    ),
    World(
        "routes",
        "desk",
        ("docs/routes.md#Making a map", "docs/routes.md#0. Here: simulated counts"),
        (
            ("convert ct CT", "convert ct CT.nii.gz"),
            ("(mumap cohort/.*)", r"\1 --no-bank"),
            ("(--keep-couch)", r"\1 --overwrite"),
            ("sub-0001_sinogram.npz", "cohort/sub-5001/sub-5001_sinogram.npz"),
            ('map.nii.gz"', 'cohort/sub-5001/sub-5001_mumap.nii.gz"'),
        ),
        slow=True,
    ),
    World("the report", "scored", ("docs/report.md",), slow=True),
    World(
        "UDPET",
        "pairs",
        ("docs/data-sets.md#UDPET",),
        (("(--set target=target)", rf"\1 {SMALL}"),),
        slow=True,
    ),
    World(
        "one GPU",
        "pairs",
        ("docs/data-sets.md#From folder to manifest", "docs/one-gpu.md"),
        (("(--config madm-fast)", rf"\1 {SMALL}"),),
        slow=True,
    ),
    World(
        "noise level known",
        "desk",
        ("docs/ndif.md",),
        (
            ("simulate cohort", "simulate patients"),
            ("cohort/manifest", "patients/manifest"),
            ("(--config ndif-demo)", rf"\1 {SMALL}"),
        ),
        slow=True,
    ),
    World(
        "AC low dose, and a federation",
        "desk",
        ("README.md#Low-dose AC PET, and training across hospitals (young)",),
        slow=True,
    ),
    World("a federation on one machine", "sites", ("docs/federated/index.md#Try it on one machine",), slow=True),
    World(
        "training",
        "nothing",
        ("docs/training.md",),
        (
            ("--processes 8", f"--processes 2 --set device=cpu {SMALL} --set prior_optimiser.batch=2"),
            ("(distil .*)", rf"\1 {FEW_STEPS}"),
        ),
        slow=True,
    ),
    World("Ray", "desk", ("docs/scale.md#Ray: `--engine ray`",), ((" --ray-address FIRST:6379", ""),), slow=True),
)
"""Those that are not slow run by default."""

EXCUSED: Changes = (
    (
        "git clone|cd |make (demo|test|test-slow|ci|help)$",
        "the checkout itself; CI types `make test` and `make test-slow`",
    ),
    (r"(python3 -m venv|\S*pip install) ", "installs from the network"),
    ("podman ", "needs a container engine and a registry"),
    ("calculate_attenuation_coefficients ", "a program of STIR"),
    ("ray start ", "nodes of a cluster; tests/end_to_end/test_ray.py starts two"),
    ("python benchmarks/", "minutes to hours; test_documented_commands.py holds their options"),
    ("srun |MASTER_ADDR=|torchrun ", "several machines; tests/training/test_processes.py starts processes that meet"),
)
"""Commands that no test runs, and why."""


def reason(line: Line) -> str | None:
    """Why a command is not run; None if it must be."""
    return next((why for found, why in EXCUSED if re.match(found, line.text)), None)


def neither_run_nor_excused(lines: list[Line]) -> list[Line]:
    """Commands of which no world runs the like, and which nothing excuses."""
    run = {line.words for world in WORLDS for line in world.lines}
    return [line for line in lines if line.words not in run and reason(line) is None]
