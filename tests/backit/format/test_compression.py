"""What is compressed comes back, exactly as long as it is said to be."""

from __future__ import annotations

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from backit.errors import Damaged
from backit.format.compression import SAMPLE_BYTES, Compressor, decompress
from backit.format.magic import KIB, PLAINTEXT_LIMIT
from tests.backit.format.samples import COMPRESSOR, PLAINTEXTS, noise


@given(plaintext=PLAINTEXTS)
def test_what_is_compressed_comes_back(plaintext: bytes) -> None:
    payload = COMPRESSOR.compress(plaintext)
    assert payload is not None
    assert decompress(payload, len(plaintext)) == plaintext


@pytest.mark.parametrize("length", [1, 128 * KIB - 1, 128 * KIB, 1 << 20, PLAINTEXT_LIMIT])
def test_chunks_of_every_length_come_back(length: int) -> None:
    plaintext = (b"all work and no play makes jack a dull boy " * (length // 40 + 1))[:length]
    payload = COMPRESSOR.compress(memoryview(plaintext))
    assert payload is not None
    assert len(payload) < max(100, length / 10)
    assert decompress(payload, length) == plaintext


def test_what_would_not_shrink_is_not_tried() -> None:
    assert COMPRESSOR.compress(noise(1 << 20)) is None
    assert COMPRESSOR.compress(bytes(1 << 20)) is not None


def test_short_chunks_are_always_tried() -> None:
    assert COMPRESSOR.compress(noise(4 * SAMPLE_BYTES - 1)) is not None


@given(plaintext=PLAINTEXTS, length=st.integers(0, 600))
def test_any_other_length_is_refused(plaintext: bytes, length: int) -> None:
    payload = Compressor().compress(plaintext)
    assert payload is not None
    if length != len(plaintext):
        with pytest.raises(Damaged):
            decompress(payload, length)


@given(garbage=st.binary(max_size=100), length=st.integers(0, 1000))
def test_garbage_is_refused(garbage: bytes, length: int) -> None:
    frame = b"\x28\xb5\x2f\xfd" + garbage
    for payload in (garbage, frame):
        try:
            found = decompress(payload, length)
        except Damaged:
            continue
        assert len(found) == length


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 23}
    compressor = zstd.ZstdCompressor(options=options)
    payload = compressor.compress(b"a" * 100) + compressor.compress(b"", compressor.FLUSH_FRAME)
    with pytest.raises(Damaged, match="too much memory"):
        decompress(payload, 100)
