"""What holds of every input of a kind, drawn by Hypothesis: good ones are read exactly, others refused in one line."""

import gzip
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from harness import attempt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from readers import READERS, SIDECAR

from pet_pipeline.configs import yaml_text
from pet_pipeline.data import nifti
from pet_pipeline.data.input_units import resolve_unit, to_suv
from pet_pipeline.data.manifest import COLUMNS, MISSING, SPLITS, Case, Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

exactly = settings(max_examples=60, derandomize=True, deadline=None)
"""The same examples at every run."""

READER = {reader.name: reader for reader in READERS}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a test: each writes its files anew."""
    return tmp_path_factory.mktemp("examples")


def _made(name: str, folder: Path) -> Path:
    """A subfolder with the reader's good input."""
    below = folder / name
    if not below.exists():
        below.mkdir()
        READER[name].make(below)
    return below


# --- NIfTI

STORED = ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8")
MM_PER_UNIT = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3}


@st.composite
def good_images(draw: st.DrawFn) -> tuple[bytes, bytes, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Header, voxels as stored, their values, the affine in mm, axes of length 1: of either version and byte order."""
    order, kind = draw(st.sampled_from("<>")), draw(st.sampled_from(STORED))
    shape = draw(st.tuples(*[st.integers(2, 4)] * 3))
    ones = (1,) * draw(st.integers(0, 2))
    header = draw(st.sampled_from((nib.Nifti1Header, nib.Nifti2Header)))(endianness=order)
    header.set_data_dtype(np.dtype(kind).newbyteorder(order))
    header.set_data_shape((*shape, *ones))
    spacing = draw(st.tuples(*[st.floats(0.5, 20.0, width=32)] * 3))
    axes = draw(st.permutations(range(3)))
    affine = np.zeros((4, 4))
    for column, row in enumerate(axes):
        affine[row, column] = spacing[column] * draw(st.sampled_from((-1.0, 1.0)))
    affine[:, 3] = *draw(st.tuples(*[st.floats(-900.0, 900.0, width=32)] * 3)), 1.0
    forms = draw(st.sampled_from(("sform", "qform", "both")))
    if forms != "qform":
        header.set_sform(affine, 1)
    header.set_qform(affine, 0 if forms == "sform" else 1)
    unit = draw(st.sampled_from(tuple(MM_PER_UNIT)))
    header.set_xyzt_units(unit)
    affine[:3] *= MM_PER_UNIT[unit]
    elements = {"allow_nan": False, "allow_infinity": False, "width": 32} if kind[0] == "f" else {}
    stored = draw(arrays.arrays(np.dtype(kind), shape, elements=st.floats(-1e6, 1e6, **elements) if elements else None))
    slope = draw(st.sampled_from((0.0, 1.0, -2.5, 1e-3)))  # 0: none
    inter = draw(st.sampled_from((0.0, -1024.0, 0.125)))
    header["scl_slope"], header["scl_inter"] = slope, inter
    values = stored.astype(np.float64) * float(header["scl_slope"]) + inter if slope else stored
    gap = 16 * draw(st.integers(0, 2))
    header["vox_offset"] = header.single_vox_offset + gap
    lead = header.binaryblock + bytes(int(header["vox_offset"]) - len(header.binaryblock))
    return lead, stored.astype(stored.dtype.newbyteorder(order)).tobytes("F"), values.astype(np.float32), affine, ones


@exactly
@given(good_images(), st.booleans())
def test_a_good_image_is_read_and_written_exactly(folder: Path, image: Any, packed: bool) -> None:
    lead, stored, values, affine, ones = image
    path = folder / ("scan.nii.gz" if packed else "scan.nii")
    path.write_bytes(gzip.compress(lead + stored, 1) if packed else lead + stored)
    volume, template = nifti.read(path)
    assert volume.data.dtype == np.float32
    assert np.array_equal(volume.data, values)
    assert np.allclose(volume.geometry.affine, affine, rtol=1e-5, atol=1e-3)
    again = folder / "again.nii.gz"
    nifti.write(again, volume, template)
    written, kept = nifti.read(again)
    assert np.array_equal(written.data, values)
    assert (kept.trailing, kept.xyzt_units) == (ones, template.xyzt_units)
    assert (kept.srow, kept.quaternion, kept.pixdim) == (template.srow, template.quaternion, template.pixdim)


@exactly
@given(good_images(), st.data())
def test_a_part_of_an_image_is_refused(folder: Path, image: Any, data: st.DataObject) -> None:
    content = image[0] + image[1]
    path = folder / "part.nii"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert attempt(lambda: nifti.read(path), folder) == "refused"


# --- manifest

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and text != MISSING
)
IDS = WORDS.filter(lambda text: not set(text) & {"/", "\\"} and text not in (".", ".."))


@exactly
@example(["a", "b"], "p", "a site in\u2028two lines", "x\x85y", 5.0)
@given(
    st.lists(IDS, min_size=1, max_size=4, unique=True), WORDS, WORDS, WORDS,
    st.floats(0.0, 100.0, exclude_min=True, width=16) | st.just(math.nan),
)  # fmt: skip
def test_a_manifest_says_what_was_written(
    folder: Path, ids: list[str], participant: str, site: str, scanner: str, dose: float
) -> None:
    path = folder / "scan.nii.gz"
    path.touch()
    cases = [
        Case(name, participant, site, SPLITS[0], path, dose=dose, scanner=scanner, extra={"vendor": scanner})
        for name in ids
    ]
    Manifest(folder, tuple(cases)).save(folder / "manifest.tsv")
    loaded = Manifest.load(folder / "manifest.tsv").cases
    assert [case.case_id for case in loaded] == ids
    for case in loaded:
        assert (case.participant_id, case.site, case.scanner) == (participant, site, scanner)
        assert case.extra == {"vendor": scanner}
        assert case.input == path
        assert case.dose == pytest.approx(dose, rel=1e-5, nan_ok=True)


@exactly
@given(st.lists(st.fixed_dictionaries({}, optional={name: st.text(max_size=6) for name in COLUMNS}), max_size=3))
def test_any_table_is_a_manifest_or_refused(folder: Path, rows: list[dict[str, str]]) -> None:
    below = _made("manifest", folder)
    lines = ["\t".join(COLUMNS), *("\t".join(row.get(name, "n/a") for name in COLUMNS) for row in rows)]
    (below / "manifest.tsv").write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    assert attempt(lambda: READER["manifest"].read(below), below) in ("accepted", "refused")


# --- YAML


@exactly
@given(JSON)
def test_plain_values_come_back_from_yaml(value: Any) -> None:
    expected = json.dumps(value, sort_keys=True)  # nan is not itself
    assert json.dumps(yaml_text.parse(yaml.safe_dump(value)), sort_keys=True) == expected


@exactly
@given(st.text() | st.text(":-[]{}&*!|>#%@,?'\" \n\tab01.", max_size=40))
def test_any_text_is_plain_yaml_or_an_error_of_one_line(text: str) -> None:
    with suppress(ValueError):
        for value in _values(yaml_text.parse(text)):
            assert type(value).__module__ in ("builtins", "datetime")
        return
    with pytest.raises(ValueError, match=r"\Anot valid YAML: [^\n]*\Z"):
        yaml_text.parse(text)


def _values(value: Any) -> Iterator[Any]:
    yield value
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _values(one)


# --- sidecars

BQ_PER_UNIT = {"Bq": 1.0, "kBq": 1e3, "MBq": 1e6, "GBq": 1e9, "mCi": 37e6}


@exactly
@given(
    st.floats(20.0, 1000.0), st.floats(3.0, 300.0), st.floats(0.0, 7200.0), st.sampled_from(tuple(BQ_PER_UNIT))
)  # fmt: skip
def test_the_words_of_a_sidecar_do_not_matter_to_suv(mbq: float, kg: float, seconds: float, unit: str) -> None:
    """BIDS's words in any unit of activity, and dcm2niix's, against the definition."""
    expected = kg * 1e3 / (mbq * 1e6 * 0.5 ** (seconds / 6586.2))
    volume = Volume(
        np.full((2, 2, 2), 1.0 / expected, np.float32), Geometry.regular((2, 2, 2), (4.0, 4.0, 4.0)), Unit.UNKNOWN
    )
    times = {"Units": "Bq/mL", "PatientWeight": kg, "InjectionStart": -seconds, "ScanStart": 0.0}
    bids = {"InjectedRadioactivity": mbq * 1e6 / BQ_PER_UNIT[unit], "InjectedRadioactivityUnits": unit}
    for facts in ({**times, **bids}, {**times, "RadionuclideTotalDose": mbq * 1e6}):
        stated, _ = resolve_unit(volume, "scan", option=None, sidecar=facts)
        assert stated is Unit.BQML
        assert to_suv(volume, stated, "scan", sidecar=facts)[1] == pytest.approx(expected, rel=1e-6)


@exactly
@given(st.dictionaries(st.sampled_from([*SIDECAR, "RadionuclideTotalDose", "ScanStart"]), JSON, min_size=1, max_size=3))
def test_any_value_in_a_sidecar_is_taken_or_refused(folder: Path, changes: dict[str, Any]) -> None:
    below = _made("sidecar", folder)
    (below / "scan.json").write_text(json.dumps(SIDECAR | changes))
    assert attempt(lambda: READER["sidecar"].read(below), below) in ("accepted", "refused")
