"""Packed on however many cores: one ordinary gzip stream, always of the same bytes."""

import gzip
import io
import zlib

import numpy as np
import pytest

from pet_pipeline.data import packing


def _stream(pieces: list[bytes]) -> bytes:
    file = io.BytesIO()
    packing.write_gzip(file, pieces)
    return file.getvalue()


@pytest.mark.parametrize("sizes", [[], [0], [1], [500_000] * 7, [3_000_001, 5, 2_000_000]])
def test_what_is_packed_comes_back(sizes: list[int]) -> None:
    noise = np.random.default_rng(0)
    pieces = [noise.integers(0, 16, size, dtype=np.uint8).tobytes() for size in sizes]
    packed = _stream(pieces)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)  # of one stream alone: what follows it would be left over
    assert unpacker.decompress(packed) == b"".join(pieces)
    assert unpacker.eof
    assert not unpacker.unused_data
    assert gzip.decompress(packed) == b"".join(pieces)  # which checks length and checksum


def test_the_bytes_do_not_depend_on_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [bytes(range(256)) * 3000] * 9
    streams = set()
    for cores in (1, 2, 5):
        monkeypatch.setattr(packing, "available_cores", lambda cores=cores: cores)
        streams.add(_stream(pieces))
    assert len(streams) == 1
    assert len(streams.pop()) < 0.1 * sum(map(len, pieces))
