"""The recovery kit: a slot secret as 24 words that people can print, type and read out.

The words carry the secret and a checksum, nothing else is needed to open an account with them; the
rest of the sheet says where. The secret comes in as an argument; nothing is sent or stored here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import segno
from mnemonic import Mnemonic

from backit.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

WORDS = 24
WORDS_IN_ROW = 4
QUIET_ZONE = 2


@dataclass(frozen=True, slots=True)
class Kit:
    """What is printed: the words, and where they open what."""

    secret: bytes = field(repr=False)
    user: str
    address: str
    ca_fingerprint: bytes

    def words(self) -> list[str]:
        return _language().to_mnemonic(self.secret).split(" ")

    def text(self, made: str) -> str:
        """The sheet to print, plain text of at most 80 columns; `made` is the day it was made."""
        words = self.words()
        rows = [
            "  ".join(
                f"{i + 1:2}. {words[i]:<10}" for i in range(start, start + WORDS_IN_ROW)
            ).rstrip()
            for start in range(0, WORDS, WORDS_IN_ROW)
        ]
        digits = self.ca_fingerprint.hex()
        return "\n".join(
            [
                "BackIT recovery kit, version 1",
                "",
                "Whoever has these words reads every backup of this account. Keep this sheet",
                "like a passport, away from the computer, and never as a file.",
                "",
                f"  user         {self.user}",
                f"  appliance    {self.address}",
                f"  fingerprint  {digits[:32]}",
                f"               {digits[32:]}",
                f"  made         {made}",
                "",
                *rows,
                "",
                *self._picture(),
                "",
                "To get back in:",
                f"  backitctl pair {self.address}",
                "  backitctl recovery-kit --use",
                "",
            ]
        )

    def _picture(self) -> list[str]:
        """The words as a QR code of half blocks, dark on light when printed."""
        code = segno.make(" ".join(self.words()), error="m", micro=False)
        rows = [[bool(module) for module in row] for row in code.matrix_iter(border=QUIET_ZONE)]
        if len(rows) % 2:
            rows.append([False] * len(rows[0]))
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return [("  " + _half_blocks(upper, lower)).rstrip() for upper, lower in pairs]


def _half_blocks(upper: Sequence[bool], lower: Sequence[bool]) -> str:
    shapes = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    return "".join(shapes[pair] for pair in zip(upper, lower, strict=True)).rstrip()


def parse(text: str) -> bytes:
    """The secret in words as people type them; numbers, commas and line ends do not matter.

    Raises Invalid, naming places but never words: they are a secret.
    """
    words = _words_in(text)
    if len(words) != WORDS:
        raise Invalid(f"a recovery kit has {WORDS} words, not {len(words)}")
    known = set(_language().wordlist)
    wrong = [str(place) for place, word in enumerate(words, 1) if word not in known]
    if wrong:
        raise Invalid(f"word {', '.join(wrong)} of the recovery kit is not one of the list")
    try:
        return bytes(_language().to_entropy(words))
    except ValueError:
        raise Invalid("the words do not fit together: one is wrong or out of order") from None


def is_complete(text: str) -> bool:
    """Whether no more words are to come."""
    return len(_words_in(text)) >= WORDS


def _words_in(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


@cache
def _language() -> Mnemonic:
    return Mnemonic("english")
