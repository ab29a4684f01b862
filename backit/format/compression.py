"""Compression of chunks: zstd, or nothing where it would not help (FORMAT.md section 7).

A `Compressor` keeps one zstd context and belongs to one thread at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backports import zstd

from backit.errors import Damaged

if TYPE_CHECKING:
    from backit.crypto.primitives import Buffer

LEVEL = 3
# Level 3's own tables are four and eight times as large and fall out of the processor's cache
# beside a second thread's: measured in whole backups, see DESIGN.md section 7.
TUNING: dict[int, int] = {
    zstd.CompressionParameter.compression_level: LEVEL,
    zstd.CompressionParameter.hash_log: 15,
    zstd.CompressionParameter.chain_log: 14,
}
SAMPLE_BYTES = 32 * 1024
SAMPLE_LEVEL = 1
SAMPLE_WORTH = 0.97
# zstd sets the window aside before it has seen whether anything fills it.
WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 22}


class Compressor:
    """Compresses chunk after chunk with the same context: making one is dear."""

    def __init__(self) -> None:
        self._zstd = zstd.ZstdCompressor(options=TUNING)
        self._sampler = zstd.ZstdCompressor(level=SAMPLE_LEVEL)

    def compress(self, plaintext: Buffer) -> bytes | None:
        """One whole zstd frame, or None where a sample says that it is not worth it."""
        if len(plaintext) >= 4 * SAMPLE_BYTES:
            middle = len(plaintext) // 2
            sample = memoryview(plaintext)[middle : middle + SAMPLE_BYTES]
            shrunk = self._sampler.compress(sample, self._sampler.FLUSH_FRAME)
            if len(shrunk) > SAMPLE_WORTH * SAMPLE_BYTES:
                return None
        return self._zstd.compress(plaintext, self._zstd.FLUSH_FRAME)


def decompress(payload: Buffer, length: int) -> bytes:
    """Exactly `length` bytes, and no room for more, whatever the frame claims. Raises Damaged."""
    decompressor = zstd.ZstdDecompressor(options=WINDOW)
    try:
        plaintext = decompressor.decompress(payload, max_length=length)
        if len(plaintext) == length and not decompressor.eof:
            decompressor.decompress(b"", max_length=0)
    except zstd.ZstdError as error:
        raise Damaged(f"the compressed bytes do not decompress: {error}") from None
    if len(plaintext) != length or not decompressor.eof or decompressor.unused_data:
        raise Damaged(f"the compressed bytes do not make exactly {length} bytes")
    return plaintext
