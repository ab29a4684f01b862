"""An account stores no more than its quota; what it has stored stays, and others do not suffer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from backit.errors import Conflict, QuotaExceeded
from backit.format.magic import KIB
from backit.ids import AccountId
from backitd.store import StoreSettings
from backitd.store.quota import Quota
from tests.backitd.clocks import FakeRandom
from tests.backitd.store.boxes import Box, open_box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backitd.store.boxes import Chunk, Session

QUOTA = 200 * KIB
# What a pack needs besides its records.
AROUND = 4 * KIB


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    settings = StoreSettings(pack_bytes=32 * KIB, quota_bytes=QUOTA)
    with open_box(tmp_path, settings=settings) as opened:
        yield opened


def used(session: Session) -> int:
    return session.box.store.usage(session.machine.owner.account).stored_bytes


def chunks(session: Session, size: int, name: str = "") -> list[Chunk]:
    """About so many bytes, 10 KiB each."""
    random = FakeRandom(f"chunks{name}")
    return [session.data(random(10 * KIB)) for _ in range(size // (10 * KIB))]


def fill(session: Session) -> list[Chunk]:
    """Upload until there is no room; what was stored."""
    sent = chunks(session, 2 * QUOTA)
    upload = session.begin_upload()
    with pytest.raises(QuotaExceeded):
        for chunk in sent:
            upload.put([chunk.record])
        upload.finish()
    upload.abort()
    missing = set(session.missing(*sent))
    return [chunk for at, chunk in enumerate(sent) if at not in missing]


def test_no_more_than_the_quota_is_stored(session: Session) -> None:
    stored = fill(session)
    assert stored, "what came before the limit is there"
    assert session.box.all_present(session.machine, stored)
    assert QUOTA / 2 < used(session) <= QUOTA + AROUND
    usage = session.box.store.usage(session.machine.owner.account)
    assert usage.quota_bytes == QUOTA


def test_streams_of_one_account_share_its_quota(session: Session) -> None:
    other = session.box.session(session.box.machine(session.machine.owner, "second"))
    uploads = [(each, each.begin_upload()) for each in (session, other)]
    refused = 0
    for each, upload in uploads:
        try:
            for chunk in chunks(each, QUOTA * 3 // 4, each.machine.label):
                upload.put([chunk.record])
            upload.finish()
        except QuotaExceeded:
            refused += 1
        upload.abort()
    assert refused == 1
    assert used(session) <= QUOTA + AROUND


def test_what_is_there_already_needs_no_room(session: Session) -> None:
    stored = fill(session)
    session.upload(*stored)
    assert session.missing(*stored) == []


def test_the_trash_counts(session: Session) -> None:
    files = chunks(session, QUOTA * 3 // 4)
    root = session.node(b"root", *files)
    session.upload(*files, root)
    row = session.commit(root)
    owner = session.machine.owner
    before = used(session)
    session.box.store.forget(owner.account, owner.order(row.snapshot.raw, 1, forgotten=True))
    assert used(session) == before
    again = session.box.session(session.machine)
    with pytest.raises(QuotaExceeded):
        again.upload(*chunks(again, QUOTA // 2, "more"))


def test_an_upload_that_was_given_up_takes_no_room(session: Session) -> None:
    for attempt in range(5):
        upload = session.begin_upload()
        # Less than a pack, so that nothing of it is kept.
        for chunk in chunks(session, 20 * KIB, f"given up {attempt}"):
            upload.put([chunk.record])
        upload.abort()
    session.upload(*chunks(session, QUOTA - used(session) - 6 * AROUND))


def test_what_is_being_stored_is_never_counted_twice() -> None:
    """Whoever asks between the two is not refused for what is on neither side of the limit."""
    account, stored = AccountId(bytes(16)), 0
    quota = Quota(100, lambda _account: stored)
    quota.take(account, 60)
    with ThreadPoolExecutor(1) as pool:
        with quota.storing(account, 60):
            stored = 60
            asked = pool.submit(quota.take, account, 40)
        asked.result()
    with pytest.raises(QuotaExceeded):
        quota.take(account, 1)
    quota.give_up(account, 40)
    quota.take(account, 40)


def test_what_could_not_be_stored_stays_counted_until_it_is_given_up() -> None:
    account = AccountId(bytes(16))
    quota = Quota(100, lambda _account: 0)
    quota.take(account, 60)
    with pytest.raises(Conflict), quota.storing(account, 60):
        raise Conflict("the index refuses it")
    with pytest.raises(QuotaExceeded):
        quota.take(account, 41)
    quota.give_up(account, 60)
    quota.take(account, 100)


def test_another_account_has_its_own(session: Session) -> None:
    fill(session)
    other = session.box.new_session("bert")
    other.upload(*chunks(other, QUOTA // 2))


def test_without_a_quota_there_is_none(tmp_path: Path) -> None:
    assert StoreSettings().quota_bytes == 0
    with open_box(tmp_path / "free", settings=StoreSettings(pack_bytes=32 * KIB)) as free:
        session = free.new_session()
        session.upload(*chunks(session, 2 * QUOTA))
        assert used(session) > QUOTA
