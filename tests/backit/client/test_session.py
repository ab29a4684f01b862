"""Promises of a backup's session: whom it trusts, what it signs, and that going back is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backit.client import session as sessions
from backit.client.sender import Sender
from backit.client.session import Session, restored, series_of, turned_back
from backit.crypto.keys import SigningKey
from backit.crypto.primitives import Suite
from backit.engine.tree import TreeBuilder
from backit.errors import (
    DeviceRevoked,
    HeadMoved,
    Invalid,
    SeriesBusy,
    StatementInvalid,
    Untrusted,
)
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import cache_pb2, statement_pb2
from backit.ids import ChunkId, SeriesId
from backit.v1 import snapshots_pb2
from tests.backit.client.household import keys_of
from tests.backit.client.interruptions import between
from tests.backit.client.stand_in import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backit.client.household import Household
    from tests.backitd.people import Machine

SERIES = SeriesId(b"s" * 16)


def open_for(house: Household, series: SeriesId = SERIES) -> Session:
    return sessions.open_session(house.device, house.keys, series, house.ledger)


def send_empty_tree(house: Household, session: Session) -> ChunkId:
    """The root of the tree of no entries, uploaded."""
    sender = Sender(house.device, session.lease, session.seal, house.keys.domain, workers=1)
    root = TreeBuilder(house.keys.domain, sender.node).finish()
    sender.close()
    return root.chunk


def commit(house: Household, session: Session) -> None:
    body = statement_pb2.SnapshotBody(sources=[b"/home"], host="laptop")
    root = send_empty_tree(house, session)
    sessions.commit(house.device, house.keys, session, root, body, complete=True)


def test_the_series_is_that_of_the_paths_on_this_device(house: Household) -> None:
    keys = house.keys
    assert series_of(keys, [b"/a", b"/b"]) == series_of(keys, [b"/b", b"/a"])
    others = [series_of(keys, [b"/a"]), series_of(keys, [b"/a/b"]), series_of(keys, [b"/a", b"/c"])]
    assert len({series_of(keys, [b"/a", b"/b"]), *others}) == 4
    other = keys_of(house.person.machine("other"))
    assert series_of(other, [b"/a"]) != series_of(keys, [b"/a"])


def test_aegis_is_used_where_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(text: str | None) -> Callable[..., str]:
        def read_text(*_arguments: Any, **_options: Any) -> str:
            if text is None:
                raise FileNotFoundError
            return text

        return read_text

    for text, suite in [
        ("flags\t\t: fpu aes avx\n", Suite.AEGIS256),
        ("Features\t: fp asimd aes pmull\n", Suite.AEGIS256),
        ("flags\t\t: fpu vaesx\n", Suite.XCHACHA20_POLY1305),
        (None, Suite.XCHACHA20_POLY1305),
    ]:
        monkeypatch.setattr(Path, "read_text", read(text))
        assert sessions.choose_suite() is suite


def test_each_session_has_a_key_of_its_own_that_only_the_person_opens(house: Household) -> None:
    first, second = open_for(house), open_for(house, SeriesId(b"t" * 16))
    assert first.seal.key != second.seal.key
    assert first.seal.session != second.seal.session
    commit(house, first)
    commit(house, second)
    for each in house.history.all():
        assert each.body.host == "laptop"
    assert {house.keyring.session_key(packet) for packet in packets(house)} == {
        first.seal.key,
        second.seal.key,
    }


def packets(house: Household) -> list[Statement]:
    listed = house.owner.snapshots.ListSnapshots(snapshots_pb2.ListSnapshotsRequest())
    return [statement.parse(each.session) for each in listed.snapshots]


def test_snapshots_of_a_series_form_a_chain(house: Household) -> None:
    for _ in range(3):
        commit(house, open_for(house))
    chain = house.history.all()
    assert [each.counter for each in chain] == [1, 2, 3]
    assert [each.previous for each in chain] == [None, chain[0].id, chain[1].id]
    head = open_for(house).head
    assert head is not None
    assert (head.snapshot, head.counter) == (chain[2].id, 3)


def test_a_snapshot_names_the_heads_of_the_other_series(house: Household) -> None:
    for _ in range(2):
        commit(house, open_for(house))
    commit(house, open_for(house, SeriesId(b"t" * 16)))
    (newest,) = (each for each in house.history.all() if each.series != SERIES)
    (seen,) = newest.body.seen_heads
    (before,) = (each for each in house.history.all() if each.counter == 2)
    assert (seen.series_id, seen.counter, seen.snapshot_id) == (SERIES.raw, 2, before.id.raw)


def test_one_backup_of_a_series_at_a_time(house: Household) -> None:
    open_for(house)
    with pytest.raises(SeriesBusy):
        open_for(house)


def test_a_revoked_device_gets_no_session(house: Household) -> None:
    house.person_puts(house.machine.revocation())
    with pytest.raises(DeviceRevoked):
        open_for(house)


def test_a_head_that_has_moved_is_told_to_the_caller(house: Household) -> None:
    commit(house, open_for(house))
    late = open_for(house)
    stale = Session(late.lease, late.series, late.seal, None, late.others)
    with pytest.raises(HeadMoved):
        commit(house, stale)


def header(machine: Machine, series: SeriesId, number: int, key: SigningKey | None = None) -> bytes:
    """The header of some snapshot, signed by the machine or with another key."""
    run = machine.run(series)
    fields = statement_pb2.SnapshotHeaderBody(
        device_id=machine.device.raw,
        series_id=series.raw,
        previous=bytes(32) if number > 1 else b"",
        session_id=run.session.raw,
        domain_id=machine.domain.raw,
        root=bytes(32),
        sealed_hash=bytes(32),
    )
    return statement.make(
        StatementKind.SNAPSHOT, machine.owner.account, number, fields, key or machine.key
    ).encoded


def session_with(house: Household, lease: snapshots_pb2.Lease) -> Session:
    """What a session is when the appliance answers so."""

    def lie(_real: object, _request: object) -> snapshots_pb2.Lease:
        return lease

    lying = between(house.device, CreateLease=lie)
    return sessions.open_session(lying, house.keys, SERIES, house.ledger)


def lease_with_head(encoded: bytes) -> snapshots_pb2.Lease:
    return snapshots_pb2.Lease(name=LEASE, head=snapshots_pb2.Snapshot(header=encoded))


def test_the_head_of_another_series_is_refused(house: Household) -> None:
    other = header(house.machine, SeriesId(b"o" * 16), 3)
    with pytest.raises(Untrusted, match="another series"):
        session_with(house, lease_with_head(other))


def test_a_head_that_this_device_has_not_signed_is_refused(house: Household) -> None:
    forged = header(house.machine, SERIES, 3, SigningKey(bytes(32)))
    with pytest.raises(StatementInvalid, match="signature"):
        session_with(house, lease_with_head(forged))


@pytest.mark.parametrize("encoded", [b"", b"garbage" * 30])
def test_a_head_that_is_none_is_refused(house: Household, encoded: bytes) -> None:
    with pytest.raises(Invalid):
        session_with(house, lease_with_head(encoded))


def test_another_statement_in_place_of_the_head_is_refused(house: Household) -> None:
    packet = house.machine.run(SERIES).session_statement
    with pytest.raises(Invalid, match="no snapshot header"):
        session_with(house, lease_with_head(packet.encoded))


def test_heads_of_other_series_count_only_if_their_devices_signed_them(house: Household) -> None:
    """What the appliance makes up must neither keep us from our backup nor be written down."""
    good = header(house.machine, SeriesId(b"g" * 16), 7)
    forged = header(house.machine, SeriesId(b"f" * 16), 2**63, SigningKey(bytes(32)))
    stranger = header(house.person.machine("stranger"), SeriesId(b"x" * 16), 9)
    packet = house.machine.run(SERIES).session_statement.encoded
    newer = bytearray(good)
    newer[4] = 2
    heads = [forged, good, b"garbage", stranger, packet, bytes(newer)]
    session = session_with(house, snapshots_pb2.Lease(name=LEASE, other_heads=heads))
    assert [(each.subject, each.number) for each in session.others] == [(b"g" * 16, 7)]


def marks(**counters: int) -> cache_pb2.Watermarks:
    rows = [
        cache_pb2.CachedSeries(series_id=name.encode() * 16, counter=counter)
        for name, counter in sorted(counters.items())
    ]
    return cache_pb2.Watermarks(series=rows)


def shown(house: Household, head: int, **others: int) -> Session:
    """A session whose appliance shows these counters; the series' own is `head`."""
    lease = snapshots_pb2.Lease(
        name=LEASE,
        other_heads=[
            header(house.machine, SeriesId(name.encode() * 16), counter)
            for name, counter in others.items()
        ],
    )
    if head:
        lease.head.header = header(house.machine, SERIES, head)
    return session_with(house, lease)


def test_an_appliance_that_goes_on_is_not_reported(house: Household) -> None:
    seen = marks(s=3, a=5)
    assert turned_back(shown(house, 3, a=6, b=1), seen) == []
    assert seen == marks(s=3, a=6, b=1)
    assert turned_back(shown(house, 4, a=6, b=1), seen) == []
    assert seen == marks(s=4, a=6, b=1)


def test_an_appliance_that_shows_less_than_before_is_reported(house: Household) -> None:
    seen = marks(s=3, a=5, b=2)
    assert turned_back(shown(house, 2, a=5), seen) == [
        f"series {(b'b' * 16).hex()}: there was snapshot 2, now 0",
        f"series {SERIES.hex}: there was snapshot 3, now 2",
    ]
    assert seen == marks(s=3, a=5, b=2), "what was seen stays seen"


def test_another_store_than_last_time_is_told_of_once() -> None:
    seen, first, second = cache_pb2.Watermarks(), b"1" * 16, b"2" * 16
    assert restored(first, seen) == []
    assert restored(first, seen) == []
    (told,) = restored(second, seen)
    assert first.hex() in told
    assert second.hex() in told
    assert restored(second, seen) == []


def test_an_appliance_without_a_head_has_turned_back_if_there_was_one(house: Household) -> None:
    seen = marks(s=1)
    assert turned_back(shown(house, 0), seen) == [
        f"series {SERIES.hex}: there was snapshot 1, now 0"
    ]
