"""Damage, drawn from a generator: to bytes, to text, and to what compressed containers hold inside."""

import gzip
import io
import zipfile
from collections.abc import Callable

import numpy as np
import pydicom
from nibabel import nifti1

Mutation = Callable[[bytes, np.random.Generator], bytes]

HOSTILE = (
    "-1", "0", "1e999", "-1e-320", "nan", "inf", "null", "true", "[]", "{}", '""', "n/a", "1099511627776", "9" * 5000,
    "../../escape", "/etc/passwd", "..", "a" * 300, "\\u0000", '"\\ud800"', "!!python/object/apply:os.system ['true']",
    "!!python/name:os.system", "!!timestamp x", "2026-13-45", "!!int 0x", "&a [*a]", "*nowhere", "[" * 3000,
    '{"a":' * 3000, "\t", "\r", "\x00", "\u2028", "\x1b[31m", "%", "? [1]", "<<: 1", "!!binary *", "Infinity",
)  # fmt: skip
"""Tokens that readers have been known to stumble over."""

_NUMBERS = (0, 1, -1, 2, 127, 255, 32767, 65535, -32768, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**62))
_DTYPES = ("<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<f4", "<f8")
_FLOATS = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e38, 1e-38)


def of_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three wounds: flipped bits, extreme numbers, cuts, holes, doubled and moved pieces."""
    out = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not out:
            return bytes(out)
        # Half of all wounds near the beginning: there the headers are.
        reach = len(out) if rng.random() < 0.5 else min(len(out), 600)
        at = int(rng.integers(reach))
        length = int(rng.integers(1, min(len(out), 4096) + 1))
        kind = rng.integers(7)
        if kind == 0:
            for place in rng.integers(0, reach, rng.integers(1, 9)):
                out[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at : at + 1] = bytes(rng.integers(0, 256, 1, dtype=np.uint8))
        elif kind == 2:
            number = _extreme(rng)
            out[at : at + len(number)] = number
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length]
        else:
            source = int(rng.integers(len(out)))
            out[at : at + length] = out[source : source + length]
    return bytes(out)


def of_text(content: bytes, rng: np.random.Generator) -> bytes:
    """A hostile token in the place of a word, or lines doubled, dropped or exchanged; sometimes damage to the bytes."""
    if rng.random() < 0.2:
        return of_bytes(content, rng)
    lines = content.decode().splitlines(keepends=True)
    for _ in range(rng.integers(1, 4)):
        at, other = (int(i) for i in rng.integers(0, len(lines), 2))
        kind = rng.integers(6)
        if kind == 0:
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 1:
            lines.insert(at, lines[other])
        elif kind == 2 and len(lines) > 1:
            del lines[at]
        else:
            lines[at] = _with_token(lines[at], rng)
    return "".join(lines).encode()


def of_block(name: str) -> Mutation:
    """Damage, as text, to one block of a YAML document: the key at its outermost level, and what belongs to it."""

    def mutate(content: bytes, rng: np.random.Generator) -> bytes:
        lines = content.decode().splitlines(keepends=True)
        start = lines.index(f"{name}:\n")
        end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith((" ", "-"))), len(lines))
        block = "".join(lines[start:end]).encode()
        return "".join(lines[:start]).encode() + of_text(block, rng) + "".join(lines[end:]).encode()

    return mutate


def gzipped(inner: Mutation) -> Mutation:
    """Damage to what is compressed; the compression itself stays whole."""
    return lambda content, rng: gzip.compress(inner(gzip.decompress(content), rng), 1)


def zipped(inner: Mutation, *, text: tuple[str, ...] = ()) -> Mutation:
    """Damage to one member of a zip file, whose own checksums are right again.

    Args:
        inner: done to the member.
        text: members (npy) that hold JSON as bytes: half of the damage is done to these, as text.
    """

    def mutate(content: bytes, rng: np.random.Generator) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        named = [name for name in members if name.removesuffix(".npy") in text]
        if named and rng.random() < 0.5:
            name = str(rng.choice(named))
            members[name] = _npy_of_text(members[name], rng)
        else:
            name = str(rng.choice(list(members)))
            kind = rng.integers(4)
            if kind == 0:
                del members[name]
            elif kind == 1:
                members[f"../{name}"] = members.pop(name)
            else:
                members[name] = inner(members[name], rng)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, member in members.items():
                archive.writestr(name, member)
        return packed.getvalue()

    return mutate


def of_nifti_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Extreme numbers in one to three fields of a NIfTI-1 header."""
    header = np.frombuffer(content[: nifti1.header_dtype.itemsize], nifti1.header_dtype)[0].copy()
    for _ in range(rng.integers(1, 4)):
        name = str(rng.choice([n for n in nifti1.header_dtype.names if header[n].dtype.kind in "if"]))
        values = np.atleast_1d(header[name]).copy()
        extremes = _FLOATS if values.dtype.kind == "f" else _NUMBERS
        with np.errstate(all="ignore"):
            values[rng.integers(values.size)] = np.asarray(extremes)[rng.integers(len(extremes))].astype(values.dtype)
        header[name] = values if header[name].ndim else values[0]
    mutated: bytes = header.tobytes()
    return mutated + content[nifti1.header_dtype.itemsize :]


def of_dicom(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three attributes of a DICOM file deleted, emptied or with a value of another kind; nested ones too."""
    image = pydicom.dcmread(io.BytesIO(content))
    for _ in range(rng.integers(1, 4)):
        places = [(owner, element.tag) for owner in _nested(image) for element in owner]
        owner, tag = places[int(rng.integers(len(places)))]
        kind = rng.integers(4)
        if kind == 0:
            del owner[tag]
        elif kind == 1:
            owner[tag] = pydicom.DataElement(tag, "LO", str(rng.choice(np.asarray(HOSTILE[:20], dtype=object))))
        elif kind == 2:
            owner[tag] = pydicom.DataElement(tag, "US", int(rng.choice([0, 1, 2, 65535])))
        else:
            owner[tag] = pydicom.DataElement(tag, "FD", float(rng.choice(_FLOATS)))
    out = io.BytesIO()
    image.save_as(out, implicit_vr=False, little_endian=True)
    return out.getvalue()


def _nested(data: pydicom.Dataset) -> list[pydicom.Dataset]:
    """A data set and those in its sequences."""
    inner = [item for element in data if element.VR == "SQ" for item in element.value]
    return [data, *(deeper for item in inner for deeper in _nested(item))]


def _npy_of_text(content: bytes, rng: np.random.Generator) -> bytes:
    """A npy file of bytes or of one string, damaged as text."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    is_bytes = array.dtype == np.uint8
    text = of_text(array.tobytes() if is_bytes else str(array).encode(), rng)
    changed = np.frombuffer(text, dtype=np.uint8) if is_bytes else np.asarray(text.decode(errors="replace"))
    out = io.BytesIO()
    np.save(out, changed, allow_pickle=False)
    return out.getvalue()


def _extreme(rng: np.random.Generator) -> bytes:
    dtype = np.dtype(str(rng.choice(_DTYPES)))
    if dtype.kind == "f":
        return np.asarray(rng.choice(_FLOATS), dtype).tobytes()
    return np.asarray(int(rng.choice(np.asarray(_NUMBERS, dtype=np.int64))), "i8").astype(dtype).tobytes()


def _with_token(line: str, rng: np.random.Generator) -> str:
    token = str(rng.choice(np.asarray(HOSTILE, dtype=object)))
    for separator in ("\t", ": ", '": ', ", ", " "):
        parts = line.rstrip("\n").split(separator)
        if len(parts) > 1:
            parts[int(rng.integers(len(parts)))] = token
            return separator.join(parts) + "\n"
    return token + "\n"
