"""Where a large file is cut: by its content, so that an insertion moves only the cuts near it.

FastCDC (Xia et al., "The Design of Fast Content Defined Chunking for Data Deduplication Based
Storage Systems", IEEE TPDS 2020) with the parameters of FORMAT.md section 7. Only this module
imports pyfastcdc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfastcdc import FastCDC

from backit.format.magic import KIB, MIB

if TYPE_CHECKING:
    from backit.crypto.keys import DomainKeys

CUT_MIN = 256 * KIB
CUT_AVERAGE = MIB
CUT_MAX = 4 * MIB


class Chunker:
    """Cuts one stream of bytes, window by window. Not for several threads at once."""

    def __init__(self, keys: DomainKeys) -> None:
        self._cdc = FastCDC(
            CUT_AVERAGE,
            min_size=CUT_MIN,
            max_size=CUT_MAX,
            normalized_chunking=1,
            seed=keys.chunker_seed,
        )

    def cut(self, window: memoryview, *, is_last: bool) -> list[memoryview]:
        """The chunks that certainly end inside the window, in order.

        What is left behind the last one belongs at the front of the next window: its cut depends on
        bytes not seen yet. With `is_last` nothing is left. A window below CUT_MAX that is not the
        last may give no chunk.
        """
        chunks = [chunk.data for chunk in self._cdc.cut_buf(window)]
        if not is_last and chunks and len(chunks[-1]) < CUT_MAX:
            chunks.pop()
        return chunks
