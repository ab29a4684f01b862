"""Which small files share a chunk (FORMAT.md section 7).

Files are bundled in scan order, because neighbours are read together again. Where a bundle ends
depends on the content of the file before the end, so that after a change the boundaries fall back
into step.
"""

from __future__ import annotations

from itertools import accumulate, repeat

from backit.format.magic import KIB, MIB

BUNDLE_MIN = 512 * KIB
BUNDLE_MAX = 4 * MIB

_ONE = 1 << 64
_FACTOR = 18410750438167365632  # 2^64 exp(-1/512)


def _thresholds() -> tuple[int, ...]:
    """T(0) to T(512): below which a hash ends the bundle after a file of so many KiB."""
    kept = accumulate(repeat(_FACTOR, 512), lambda k, factor: k * factor >> 64, initial=_ONE)
    return tuple(_ONE - k for k in kept)


THRESHOLDS = _thresholds()


def bundle_ends(held: int, size: int, content_hash: bytes) -> bool:
    """Whether a bundle of `held` bytes ends after its last file, of `size` bytes and this hash."""
    if held < BUNDLE_MIN:
        return False
    number = int.from_bytes(content_hash[:8], "little")
    return number < THRESHOLDS[min((size + KIB - 1) // KIB, 512)]


def bundle_overflows(held: int, size: int) -> bool:
    """Whether a file of `size` bytes no longer fits."""
    return held > 0 and held + size > BUNDLE_MAX
