"""Every magic number, version and limit of the format, on one screen (FORMAT.md section 1)."""

from __future__ import annotations

from enum import IntEnum

VERSION = 1

STATEMENT_MAGIC = b"BKST"
RECORD_MAGIC = b"BKRC"
PACK_MAGIC = b"BKPK"
PACK_END_MAGIC = b"BKPE"

KIB = 1024
MIB = 1024 * KIB

RECORD_LIMIT = 5 * MIB
PLAINTEXT_LIMIT = 4 * MIB
REFERENCES_LIMIT = 8192
STATEMENT_LIMIT = 64 * KIB
SNAPSHOT_BODY_LIMIT = MIB
SNAPSHOT_BODY_MIN = KIB
PACK_TARGET = 32 * MIB
PACK_LIMIT = 128 * MIB

# Files with less data than this go into bundles.
LARGE_FILE = 512 * KIB

# What a node may hold; where a writer ends one is in backit.engine.
ENTRIES_LIMIT = 400
EXTENTS_LIMIT = 1024
CHILDREN_LIMIT = 1024
INLINE_EXTENTS_LIMIT = 64
ENTRY_LIMIT = 3 * MIB
NAME_LIMIT = 255
DIRECTORY_LIMIT = 256 * KIB
LEVEL_LIMIT = 15

# Message limit of the API: one record with room to spare.
MESSAGE_LIMIT = 8 * MIB


class Kind(IntEnum):
    """What a record holds."""

    DATA = 1
    NODE = 2
