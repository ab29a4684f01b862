"""What people type, stretched into a slot secret (FORMAT.md section 4).

Named parameter sets and the floor below which no parameters are believed, whoever sends them.
No prompts, no slots.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from backit.crypto import primitives
from backit.crypto.keys import encode_text
from backit.errors import Invalid, Refused

SALT_BYTES = 16
FLOOR_MEMORY_KIB = 64 * 1024
FLOOR_PASSES = 3
CEILING_MEMORY_KIB = 4 * 1024 * 1024
CEILING_PASSES = 32


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: memory in KiB and passes over it."""

    memory_kib: int
    passes: int


# 256 MiB, three passes: about half a second on a 2020s core (RFC 9106 leaves the choice to memory).
STANDARD = Cost(memory_kib=256 * 1024, passes=3)
FLOOR = Cost(memory_kib=FLOOR_MEMORY_KIB, passes=FLOOR_PASSES)
CEILING = Cost(memory_kib=CEILING_MEMORY_KIB, passes=CEILING_PASSES)


def stretch(password: str, salt: bytes, cost: Cost) -> bytes:
    """The slot secret (32 bytes) of a password.

    Raises Refused below the floor or above the ceiling: a box that asks for less wants to guess,
    one that asks for more wants to hang us. Raises Refused too if the memory is not to be had, and
    Invalid for a salt of the wrong length or a password that is empty or no text.
    """
    if not password:
        raise Invalid("the password is empty")
    if len(salt) != SALT_BYTES:
        raise Invalid(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    if cost.memory_kib < FLOOR_MEMORY_KIB or cost.passes < FLOOR_PASSES:
        raise Refused(
            f"password hashing of {cost.memory_kib} KiB and {cost.passes} passes is below the "
            f"floor of {FLOOR_MEMORY_KIB} KiB and {FLOOR_PASSES}"
        )
    if cost.memory_kib > CEILING_MEMORY_KIB or cost.passes > CEILING_PASSES:
        raise Refused(
            f"password hashing of {cost.memory_kib} KiB and {cost.passes} passes is absurd"
        )
    typed = encode_text(unicodedata.normalize("NFC", password), "a password")
    return primitives.argon2id(typed, salt, memory_kib=cost.memory_kib, passes=cost.passes)
