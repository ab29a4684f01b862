"""Leases: one backup of a series at a time, alive as long as its device is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.errors import (
    DeviceRevoked,
    LeaseEnded,
    NotADevice,
    SeriesBusy,
    StatementInvalid,
)
from backit.format import statement as statements
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import DeviceId, LeaseId
from backitd.store import StoreSettings
from tests.backitd.store.boxes import open_box

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.backitd.store.boxes import Box, Session


def test_a_lease_says_what_it_stands_for(box: Box) -> None:
    session = box.new_session()
    lease, machine = session.lease, session.machine
    assert (lease.device, lease.domain) == (machine.device, machine.domain)
    assert (lease.series, lease.account) == (session.run.series, machine.owner.account)
    assert lease.session.encoded == session.run.session_statement.encoded
    assert lease.expires == box.clock.now() + 600
    assert (lease.head, lease.base, lease.other_heads) == (None, None, ())


def test_the_key_packet_is_there_before_the_lease_is(box: Box) -> None:
    session = box.new_session()
    account = session.machine.owner.account
    encoded = session.run.session_statement.encoded
    path = box.state / "store/accounts" / account.hex / "sessions" / session.run.session.hex
    assert path.read_bytes() == encoded
    for store in (box.store, box.reopen(), box.rebuild()):
        assert store.sessions(account, [session.run.session]) == [encoded]


def test_a_lease_knows_the_heads_of_the_account(box: Box) -> None:
    person = box.person()
    laptop, server = box.machine(person, "laptop"), box.machine(person, "server")
    first = box.session(laptop)
    head = first.backup(b"first")
    other = box.session(server)
    assert other.lease.head is None
    assert [s.encoded for s in other.lease.other_heads] == [head.header.encoded]
    again = box.session(laptop, laptop.run(first.run.series))
    assert again.lease.head is not None
    assert again.lease.head.snapshot == head.snapshot
    assert again.lease.base == head.snapshot
    assert again.lease.other_heads == ()


def test_generations_grow_and_never_come_again(box: Box) -> None:
    session = box.new_session()
    before = session.lease.generation
    box.reopen()
    assert box.session(session.machine).lease.generation > before


def test_a_second_lease_of_a_series_is_refused(box: Box) -> None:
    session = box.new_session()
    with pytest.raises(SeriesBusy):
        box.session(session.machine, session.machine.run(session.run.series))
    box.session(session.machine)  # another series is another backup


def test_a_silent_lease_is_taken_over_after_a_minute(box: Box) -> None:
    session = box.new_session()
    box.forward(59)
    with pytest.raises(SeriesBusy):
        box.session(session.machine, session.machine.run(session.run.series))
    box.forward(2)
    successor = box.session(session.machine, session.machine.run(session.run.series))
    with pytest.raises(LeaseEnded):
        session.missing()
    assert successor.missing() == []


@pytest.mark.parametrize("sign", ["renew", "find missing", "upload"])
def test_signs_of_life_keep_a_lease(box: Box, sign: str) -> None:
    session = box.new_session()
    for _ in range(10):
        box.forward(590)
        if sign == "renew":
            renewed = box.store.renew_lease(session.lease.lease, session.machine.device)
            assert renewed.expires == box.clock.now() + 600
        elif sign == "find missing":
            session.missing()
        else:
            upload = session.begin_upload()
            box.forward(5)
            upload.put([])
            upload.finish()
    box.forward(50)
    with pytest.raises(SeriesBusy):
        box.session(session.machine, session.machine.run(session.run.series))


def test_a_lease_ends_after_ten_silent_minutes(box: Box) -> None:
    session = box.new_session()
    box.forward(601)
    with pytest.raises(LeaseEnded):
        session.missing()
    with pytest.raises(LeaseEnded):
        session.begin_upload()
    with pytest.raises(LeaseEnded):
        box.store.renew_lease(session.lease.lease, session.machine.device)


def test_no_lease_lives_longer_than_its_greatest_age(tmp_path: Path) -> None:
    assert StoreSettings().lease_age_seconds == 7 * 24 * 3600
    with open_box(tmp_path, settings=StoreSettings(lease_age_seconds=3600)) as box:
        session = box.new_session()
        for _ in range(6):
            box.forward(599)
            box.store.renew_lease(session.lease.lease, session.machine.device)
        box.forward(7)
        with pytest.raises(LeaseEnded):
            box.store.renew_lease(session.lease.lease, session.machine.device)


def test_a_jump_of_the_wall_clock_ends_no_lease(box: Box) -> None:
    session = box.new_session()
    box.clock.time += 365 * 24 * 3600  # type: ignore[attr-defined]
    assert session.missing() == []


def test_a_lease_that_was_given_back_has_ended(box: Box) -> None:
    session = box.new_session()
    box.store.delete_lease(session.lease.lease, session.machine.device)
    with pytest.raises(LeaseEnded):
        session.missing()
    box.session(session.machine, session.machine.run(session.run.series))


def test_a_lease_is_its_devices_alone(box: Box) -> None:
    session = box.new_session()
    other = box.machine(session.machine.owner, "other")
    with pytest.raises(LeaseEnded):
        box.store.find_missing(session.lease.lease, other.device, [])
    with pytest.raises(LeaseEnded):
        box.store.delete_lease(session.lease.lease, other.device)
    assert session.missing() == []


def test_leases_do_not_outlive_the_process(box: Box) -> None:
    session = box.new_session()
    box.reopen()
    with pytest.raises(LeaseEnded):
        session.missing()
    box.session(session.machine, session.machine.run(session.run.series))


def test_a_revoked_device_loses_its_leases_and_gets_none(box: Box) -> None:
    session = box.new_session()
    owner = session.machine.owner
    box.store.put_statements(owner.account, [session.machine.revocation()])
    with pytest.raises(LeaseEnded):
        session.missing()
    with pytest.raises(DeviceRevoked):
        box.session(session.machine)


def test_a_stranger_gets_no_lease(box: Box) -> None:
    session = box.new_session()
    run = session.machine.run()
    with pytest.raises(NotADevice):
        box.store.create_lease(DeviceId(b"nobody's device!"), run.series, run.session_statement)
    with pytest.raises(LeaseEnded):
        box.store.find_missing(LeaseId(b"nobody's lease!!"), session.machine.device, [])


def another_device(session: Session) -> pb.SessionBody:
    return session_body(session, device_id=b"nobody's device!")


def another_domain(session: Session) -> pb.SessionBody:
    return session_body(session, domain_id=b"nobody's domain!")


def unknown_epoch(session: Session) -> pb.SessionBody:
    return session_body(session, epoch=2)


def taken_id(session: Session) -> pb.SessionBody:
    return session_body(session, session_id=session.run.session.raw)


def session_body(session: Session, **changes: object) -> pb.SessionBody:
    body = session.machine.run().session_statement.body
    assert isinstance(body, pb.SessionBody)
    for field, value in changes.items():
        setattr(body, field, value)
    return body


@pytest.mark.parametrize(
    "spoilt",
    [another_device, another_domain, unknown_epoch, taken_id],
)
def test_a_session_statement_that_is_wrong_is_refused(
    box: Box, spoilt: Callable[[Session], pb.SessionBody]
) -> None:
    session = box.new_session()
    machine = session.machine
    statement = statements.make(
        StatementKind.SESSION, machine.owner.account, 1, spoilt(session), machine.key
    )
    with pytest.raises(StatementInvalid):
        box.store.create_lease(machine.device, machine.run().series, statement)


def test_a_session_signed_by_another_key_is_refused(box: Box) -> None:
    session = box.new_session()
    machine = session.machine
    forged = statements.make(
        StatementKind.SESSION,
        machine.owner.account,
        1,
        session_body(session),
        machine.owner.root.owner,
    )
    with pytest.raises(StatementInvalid):
        box.store.create_lease(machine.device, machine.run().series, forged)


def test_sessions_of_another_account_are_not_told(box: Box) -> None:
    anna, bert = box.new_session("anna"), box.new_session("bert")
    account = bert.machine.owner.account
    found = box.store.sessions(account, [anna.run.session, bert.run.session])
    assert found == [bert.run.session_statement.encoded]
