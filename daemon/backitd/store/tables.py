"""The tables of both databases, a sentence for each column (the schema in prose).

Both are caches of the objects in STATE/store: a row is written after its object is durable and can
be made from it again. Only leases are not objects, and they end with the process. Queries live in
`catalog` and `index`.
"""

from __future__ import annotations

from enum import IntEnum

from peewee import BlobField, CompositeKey, FloatField, IntegerField, Model, TextField

# The tables of a file have a number (PRAGMA user_version). A step from an older number comes with
# the first change after a release.
CATALOG_SCHEMA = 1
INDEX_SCHEMA = 1


class State(IntEnum):
    """What a chunk is good for. Only a live one is ever relied on; 4 is for the collector."""

    LIVE = 1
    # A node that can be read, below which something is missing: a new copy must prove its
    # references.
    INCOMPLETE = 2
    # Its bytes were found damaged or gone. Missing for everyone until a new copy comes.
    QUARANTINED = 3
    # Sent by a device when it was not trusted any more: it can be read, and may hold anything.
    SUSPECT = 5


# catalog.db


class LifeTable(Model):
    """One row: whose cache this is."""

    # The id that the store began with. Another one in its marker makes this file worthless.
    incarnation = BlobField(primary_key=True)

    class Meta:
        table_name = "life"
        strict_tables = True
        without_rowid = True


class AccountTable(Model):
    """One row an account, from its account statements."""

    account = BlobField(primary_key=True)
    # The user name as the person writes it,
    user = TextField()
    # and as it is compared: rules.user_key.
    user_key = TextField(unique=True)
    # The owner key in force: that of the highest account statement.
    owner_key = BlobField()
    # When the box stored account statement 1 (Unix seconds): its file's modification time.
    created = IntegerField()

    class Meta:
        table_name = "account"
        strict_tables = True
        without_rowid = True


class StatementTable(Model):
    """Statements of kinds 1 to 6 and 9 that are stored; of slots and orders only the newest."""

    account = BlobField()
    # statement.StatementKind
    kind = IntegerField()
    # Empty where the subject is the account.
    subject = BlobField()
    number = IntegerField()
    encoded = BlobField()

    class Meta:
        table_name = "statement"
        strict_tables = True
        without_rowid = True
        primary_key = CompositeKey("kind", "subject", "account", "number")
        indexes = ((("account",), False),)


class SessionTable(Model):
    """Session statements: the key packets that records point to."""

    session = BlobField(primary_key=True)
    account = BlobField(index=True)
    encoded = BlobField()

    class Meta:
        table_name = "session"
        strict_tables = True
        without_rowid = True


class SnapshotTable(Model):
    """One row a snapshot, written last of all."""

    snapshot = BlobField(primary_key=True)
    account = BlobField()
    device = BlobField()
    series = BlobField()
    # The header's number: counts the snapshots of the series from 1.
    counter = IntegerField()
    session = BlobField()
    # When it was received (Unix seconds), as the receipt says.
    received = IntegerField()
    header = BlobField()
    receipt = BlobField()
    # When the newest order put it into the trash (Unix seconds: that object's time); null if kept.
    trashed = IntegerField(null=True)

    class Meta:
        table_name = "snapshot"
        strict_tables = True
        without_rowid = True
        indexes = (
            (("account", "received", "snapshot"), False),
            (("device", "series", "counter"), False),
        )


class LeaseTable(Model):
    """Backups that run. Emptied at start. Times are monotonic seconds of this process."""

    lease = BlobField(primary_key=True)
    account = BlobField()
    device = BlobField()
    series = BlobField()
    domain = BlobField()
    session = BlobField()
    # Head of the series when the lease began: what the backup may rely on. Null for the first.
    base = BlobField(null=True)
    # What is born under this lease carries its generation in the index.
    generation = IntegerField()
    created = FloatField()
    # Last sign of life.
    seen = FloatField()

    class Meta:
        table_name = "lease"
        without_rowid = True
        indexes = ((("device", "series"), True),)


CATALOG_TABLES: list[type[Model]] = [
    LifeTable,
    AccountTable,
    StatementTable,
    SessionTable,
    SnapshotTable,
    LeaseTable,
]


# index.db


class IndexLifeTable(Model):
    """One row: whose cache this is, and the last generation that was given out."""

    # As in the catalog.
    incarnation = BlobField(primary_key=True)
    # Counts leases. Not an object: a new index begins at 0 again, when no lease is alive.
    generation = IntegerField()

    class Meta:
        table_name = "life"
        strict_tables = True


class DomainTable(Model):
    """Domains by a short number."""

    number = IntegerField(primary_key=True)
    domain = BlobField(unique=True)
    # Whose it is: a record of the domain is for nobody else.
    account = BlobField(index=True)
    # How many rows of `chunk` it has.
    chunks = IntegerField()

    class Meta:
        table_name = "domain"
        strict_tables = True


class HoldingTable(Model):
    """What an account holds. Kept with every change: asking costs the same for everybody."""

    account = BlobField(primary_key=True)
    # Sum of pack.size.
    bytes = IntegerField()

    class Meta:
        table_name = "holding"
        strict_tables = True
        without_rowid = True


class PackTable(Model):
    """Packs by a short number."""

    number = IntegerField(primary_key=True)
    # BLAKE3 of the file: its name.
    name = BlobField(unique=True)
    account = BlobField()
    # magic.Kind of its records.
    kind = IntegerField()
    # Bytes of the file; 0 while the file is gone.
    size = IntegerField()
    # 0 is settled. Of a pack of nodes, above 0: something below them may have gone or come back
    # since they were last looked at; a later doubt has a higher number. `settle` clears it.
    doubt = IntegerField()

    class Meta:
        table_name = "pack"
        strict_tables = True
        indexes = ((("account", "kind", "doubt"), False),)


class ChunkTable(Model):
    """One row a chunk of a domain."""

    # Grows with time; marks are bitmaps over it.
    number = IntegerField(primary_key=True)
    # domain.number
    domain = IntegerField()
    # The chunk id (32 bytes).
    id = BlobField()
    # pack.number, and where in that file the record lies.
    pack = IntegerField()
    start = IntegerField()
    length = IntegerField()
    # magic.Kind
    kind = IntegerField()
    # State
    state = IntegerField()
    # Of the lease that it was born under; 0 if taken in. Means something while that lease lives.
    generation = IntegerField()

    class Meta:
        table_name = "chunk"
        strict_tables = True
        indexes = ((("domain", "id"), True),)


class DistrustedTable(Model):
    """Revoked devices whose late packs have been found: those that come later are looked at."""

    device = BlobField(primary_key=True)

    class Meta:
        table_name = "distrusted"
        strict_tables = True
        without_rowid = True


INDEX_TABLES: list[type[Model]] = [
    IndexLifeTable,
    DomainTable,
    HoldingTable,
    PackTable,
    ChunkTable,
    DistrustedTable,
]
