"""What the databases do not know is taken in: after a crash, after a loss, or everything."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from backit.crypto.keys import SlotKeys
from backit.errors import Damaged, Unavailable
from backit.format.magic import KIB
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, SlotId
from backitd.store import FetchState, Store, StoreSettings
from backitd.store.files import Disk
from backitd.store.journal import Journal
from tests.backitd.clocks import FakeRandom
from tests.backitd.people import Person
from tests.backitd.store.boxes import Box, open_box, succession
from tests.backitd.store.spoiling import find, flip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backitd.store.boxes import Session

# What a table says, apart from numbers that only the database itself gives out.
CONTENTS = {
    "life": "SELECT incarnation FROM life",
    "account": "SELECT * FROM account",
    "statement": "SELECT * FROM statement",
    "session": "SELECT * FROM session",
    "snapshot": "SELECT * FROM snapshot",
    "domain": "SELECT domain, account, chunks FROM domain",
    "holding": "SELECT * FROM holding",
    "distrusted": "SELECT * FROM distrusted",
    "pack": "SELECT name, account, kind, size, doubt FROM pack",
    "chunk": (
        "SELECT d.domain, c.id, p.name, c.start, c.length, c.kind, c.state FROM chunk c"
        " JOIN domain d ON d.number = c.domain JOIN pack p ON p.number = c.pack"
    ),
}


def database_of(table: str) -> str:
    return "index" if table in ("domain", "holding", "distrusted", "pack", "chunk") else "catalog"


def rows(box: Box, table: str) -> list[tuple[object, ...]]:
    return sorted(box.query(database_of(table), CONTENTS[table]), key=repr)


def everything(box: Box) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows(box, table) for table in CONTENTS}


def busy(box: Box) -> None:
    """People, devices, changes, snapshots, trash: something for every table."""
    for name in ("anna", "bert"):
        person = box.person(name)
        machine = box.machine(person)
        box.machine(person, "second")
        kit = person.slot_statement(
            SlotId(person.random(16)), SlotKeys(b"kit".ljust(32)), 1, pb.SLOT_KIND_RECOVERY
        )
        new_password = person.slot_statement(person.slot, SlotKeys(b"new".ljust(32)), 2)
        box.store.put_statements(person.account, [kit, new_password])
        session = box.session(machine)
        first = session.backup(*(FakeRandom(f"{name}{n}")(3000) for n in range(40)))
        box.forward(1000)
        session = box.session(machine, machine.run(session.run.series))
        second = session.backup(
            *(FakeRandom(f"{name}{n}")(3000) for n in range(10, 50)), previous=first.header
        )
        box.forward(1000)
        order = person.order(first.snapshot.raw, 1, forgotten=True)
        box.store.forget(person.account, order)
        for number, forgotten in ((1, True), (2, False)):
            order = person.order(second.snapshot.raw, number, forgotten=forgotten)
            box.store.forget(person.account, order)
    box.store.put_statements(person.account, [machine.revocation()])
    box.settle()


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, dict[str, object]]]:
    """A rebuilt box, and what each table held before."""
    state = tmp_path_factory.mktemp("rebuilt")
    with open_box(state, settings=StoreSettings(pack_bytes=32 * KIB)) as box:
        busy(box)
        before: dict[str, object] = {**everything(box)}
        box.forward(100000)
        box.rebuild()
        yield box, before


@pytest.fixture
def rotated(session: Session) -> Session:
    """Anna's account after all that can rotate has rotated, a snapshot of before in the trash."""
    box, owner = session.box, session.machine.owner
    row = session.backup(b"file")
    lost = box.machine(owner, "lost")
    box.store.put_statements(owner.account, [lost.revocation()])
    box.store.forget(owner.account, owner.order(row.snapshot.raw, 1, forgotten=True))
    box.forward(1000)
    box.store.put_statements(
        owner.account,
        [
            *succession(owner),
            *(owner.epoch(number) for number in (2, 3)),
            session.machine.domain_statement(2),
            session.machine.certificate(2),
        ],
    )
    return session


@pytest.mark.parametrize("table", CONTENTS)
def test_a_rebuilt_table_equals_the_one_that_was(
    rebuilt: tuple[Box, dict[str, object]], table: str
) -> None:
    box, before = rebuilt
    assert before[table], "there is something to compare"
    assert rows(box, table) == before[table]


def test_every_table_is_compared_or_is_no_cache(box: Box) -> None:
    listing = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = {name for file in ("catalog", "index") for (name,) in box.query(file, listing)}
    assert names - {"lease"} == set(CONTENTS)


def test_what_was_rebuilt_can_be_used(rebuilt: tuple[Box, dict[str, object]]) -> None:
    box, _before = rebuilt
    box.new_session("carla").backup(b"file")


@pytest.mark.parametrize("lost", ["catalog.db", "index.db"])
def test_each_database_alone_can_be_lost(tmp_path: Path, lost: str) -> None:
    with open_box(tmp_path) as box:
        busy(box)
        before = everything(box)
        box.store.close()
        (box.state / lost).unlink()
        box.reopen()
        assert everything(box) == before


@pytest.mark.logs_warnings
@pytest.mark.parametrize("name", ["catalog.db", "index.db"])
def test_a_damaged_database_is_set_aside_and_made_again(session: Session, name: str) -> None:
    box = session.box
    row = session.backup(b"file")
    box.store.close()
    (box.state / name).write_bytes(b"garbage" * 5000)
    box.reopen()
    assert box.store.snapshot(session.machine.owner.account, row.snapshot) == row
    assert (box.state / f"{name}.damaged").exists()


@pytest.mark.logs_warnings
def test_the_databases_of_another_store_are_not_believed(tmp_path: Path) -> None:
    with open_box(tmp_path / "one") as one, open_box(tmp_path / "two") as two:
        row = one.new_session("anna").backup(b"anna's")
        session = two.new_session("bert")
        mine = session.backup(b"bert's")
        one.store.close()
        two.store.close()
        for name in ("catalog.db", "index.db"):
            shutil.copy(one.state / name, two.state / name)
        two.reopen()
        assert two.store.find_user("anna") is None
        account = session.machine.owner.account
        assert two.store.snapshot(account, mine.snapshot) == mine
        assert mine.snapshot != row.snapshot


def test_an_empty_mount_point_is_not_taken_for_a_new_store(session: Session) -> None:
    box = session.box
    row = session.backup(b"file")
    box.store.close()
    elsewhere = (box.state / "store").rename(box.state / "elsewhere")
    for attempt in (box.reopen, box.rebuild):
        with pytest.raises(Damaged):
            attempt()
    (box.state / "store").mkdir()
    with pytest.raises(Damaged):
        box.reopen()
    (box.state / "store").rmdir()
    elsewhere.rename(box.state / "store")
    box.reopen()
    assert box.store.snapshot(session.machine.owner.account, row.snapshot) == row


def test_one_process_at_a_time(box: Box) -> None:
    with pytest.raises(Unavailable):
        Store.open(box.state, clock=box.clock, random=box.random, settings=box.settings)
    box.reopen()


# After a crash between an object and its row


def forget_rows(box: Box, database: str, *queries: str) -> None:
    """As if the process had been killed before these rows were written."""
    box.query(database, *queries)
    box.reopen()


def test_a_pack_without_rows_is_taken_in(session: Session) -> None:
    chunks = [session.data(b"%d" % n * 100) for n in range(5)]
    root = session.node(b"root", *chunks)
    session.upload(*chunks, root)
    tables = ("chunk", "pack", "domain", "holding")
    forget_rows(session.box, "index", *(f"DELETE FROM {t}" for t in tables))
    again = session.box.session(session.machine)
    assert again.missing(*chunks, root) == []
    assert session.box.all_present(session.machine, [*chunks, root])


def test_a_snapshot_without_a_row_is_taken_in(session: Session) -> None:
    row = session.backup(b"file")
    forget_rows(session.box, "catalog", "DELETE FROM snapshot")
    assert session.box.store.snapshot(session.machine.owner.account, row.snapshot) == row


def test_an_account_without_rows_is_taken_in(session: Session) -> None:
    account = session.machine.owner.account
    before = session.box.store.account(account)
    tables = ("account", "statement", "session")
    forget_rows(session.box, "catalog", *(f"DELETE FROM {table}" for table in tables))
    assert session.box.store.account(account) == before
    session.box.session(session.machine)


def test_an_order_without_a_row_is_taken_in(session: Session) -> None:
    owner = session.machine.owner
    row = session.backup(b"file")
    session.box.forward(500)
    gone = session.box.store.forget(owner.account, owner.order(row.snapshot.raw, 1, forgotten=True))
    session.box.forward(500)
    forget_rows(
        session.box,
        "catalog",
        "DELETE FROM statement WHERE kind = 9",
        "UPDATE snapshot SET trashed = NULL",
    )
    assert session.box.store.snapshot(owner.account, row.snapshot) == gone


def test_a_commit_that_was_cut_off_before_its_receipt_does_not_exist(session: Session) -> None:
    box, account = session.box, session.machine.owner.account
    row = session.backup(b"file")
    path = box.state / "store/accounts" / account.hex / "snapshots" / row.snapshot.hex
    box.store.close()
    (path / "receipt").unlink()
    (box.state / "catalog.db").unlink()
    box.reopen()
    assert box.store.snapshots(account, trashed=True, after="", limit=10) == []
    again = box.session(session.machine, session.run)
    committed = box.store.commit(
        again.lease.lease, session.machine.device, row.header, row.sealed_body
    )
    assert committed.snapshot == row.snapshot


def test_an_old_slot_that_a_crash_left_is_gone_after_the_next_start(session: Session) -> None:
    owner, box = session.machine.owner, session.box
    folder = box.state / "store/accounts" / owner.account.hex / "statements"
    old = folder / f"slot-{owner.slot}-1"
    content = old.read_bytes()
    box.store.put_statements(
        owner.account, [owner.slot_statement(owner.slot, SlotKeys(b"new".ljust(32)), 2)]
    )
    assert not old.exists()
    for open_again in (box.reopen, box.rebuild):
        old.write_bytes(content)
        open_again()
        assert not old.exists()
        found = box.store.password_slot(owner.account)
        assert found is not None
        assert found.number == 2


def test_statements_put_together_come_true_together(session: Session) -> None:
    """Killed after the journal's entry, before any of their files."""
    owner, box = session.machine.owner, session.box
    second = owner.machine("second")
    journal = Journal(Disk(), box.state)
    journal.write(owner.account, second.statements(), int(box.clock.now()))
    assert box.store.device(second.device) is None
    box.reopen()
    assert box.store.device(second.device) is not None
    assert journal.entries() == []


@pytest.mark.logs_warnings
def test_a_damaged_journal_entry_is_left_and_named(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    box = session.box
    path = box.state / "journal" / ("ab" * 16)
    path.write_bytes(b"garbage" * 20)
    box.reopen()
    assert path.name in caplog.text
    assert path.exists()


@pytest.mark.logs_warnings
def test_a_signup_that_was_cut_off_is_no_account(box: Box) -> None:
    person = Person("anna")
    first = person.first_statements()
    box.store.create_account(person.account, first)
    box.store.close()
    for place in ("statements", "copies"):
        (box.state / "store/accounts" / person.account.hex / place / "account-0-1").unlink()
    (box.state / "catalog.db").unlink()
    box.reopen()
    assert box.store.find_user("anna") is None
    box.store.create_account(person.account, first)
    assert box.store.find_user("anna") is not None


# Losses


@pytest.mark.logs_warnings
def test_a_pack_brings_back_the_key_packet_of_its_records(session: Session) -> None:
    box, account = session.box, session.machine.owner.account
    session.upload(session.data(b"file"))
    path = box.state / "store/accounts" / account.hex / "sessions" / session.run.session.hex
    content = path.read_bytes()
    box.store.close()
    path.unlink()
    box.rebuild()
    assert path.read_bytes() == content
    assert box.store.sessions(account, [session.run.session]) == [content]


@pytest.mark.logs_warnings
@pytest.mark.parametrize("kind", ["statements", "sessions"])
def test_objects_that_were_lost_are_written_again_from_the_catalog(
    session: Session, kind: str
) -> None:
    box = session.box
    folder = box.state / "store/accounts" / session.machine.owner.account.hex / kind
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    box.store.close()
    shutil.rmtree(folder)
    box.reopen()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_rotated_account_is_rebuilt_whole(rotated: Session) -> None:
    box, owner = rotated.box, rotated.machine.owner
    before, statements = everything(box), box.store.statements(owner.account)
    box.rebuild()
    assert everything(box) == before
    assert box.store.statements(owner.account) == statements
    assert box.store.account(owner.account).owner_key == owner.root.owner.public


@pytest.mark.logs_warnings
@pytest.mark.parametrize("place", ["statements", "copies"])
@pytest.mark.parametrize("at", [2, 40, -1], ids=["head", "body", "signature"])
def test_no_statement_is_lost_by_one_rotten_file(rotated: Session, place: str, at: int) -> None:
    """Any of them: without the owner's key nothing else could be checked, without others read."""
    box, account = rotated.box, rotated.machine.owner.account
    folder = box.state / "store/accounts" / account.hex / place
    names = sorted(path.name for path in folder.iterdir())
    content = {name: (folder / name).read_bytes() for name in names}
    before = everything(box)
    for name in names:
        flip(folder / name, at)
    box.rebuild()
    assert everything(box) == before
    assert {name: (folder / name).read_bytes() for name in names} == content, "it was mended"


@pytest.mark.logs_warnings
@pytest.mark.parametrize("place", ["statements", "copies"])
def test_no_statement_is_lost_with_one_folder(rotated: Session, place: str) -> None:
    box, account = rotated.box, rotated.machine.owner.account
    folder = box.state / "store/accounts" / account.hex / place
    content = {path.name: (path.read_bytes(), path.stat().st_mtime) for path in folder.iterdir()}
    before = everything(box)
    for open_again in (box.reopen, box.rebuild):
        shutil.rmtree(folder)
        open_again()
        assert everything(box) == before
        found = {path.name: (path.read_bytes(), path.stat().st_mtime) for path in folder.iterdir()}
        assert found == content, "it was written again, as old as it was"


@pytest.mark.logs_warnings
def test_a_damaged_object_is_named_and_costs_nobody_else(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    box = session.box
    bert = box.new_session("bert").machine.owner
    row = session.backup(b"file")
    owner = session.machine.owner
    folder = box.state / "store/accounts" / owner.account.hex
    slot = f"slot-{owner.slot}-1"
    names = [f"statements/{slot}", f"copies/{slot}", f"sessions/{session.run.session}"]
    for name in names:
        flip(folder / name, 40)
    box.rebuild()
    for name in names:
        assert name.split("/")[1].removesuffix("-1") in caplog.text
    assert box.store.find_user("bert") is not None
    assert box.store.account(bert.account).user == "bert"
    assert box.store.slot(owner.slot) is None
    assert box.store.snapshot(owner.account, row.snapshot).header == row.header


@pytest.mark.logs_warnings
def test_a_forged_statement_in_the_store_is_not_believed(session: Session) -> None:
    box, owner = session.box, session.machine.owner
    thief = box.person("thief")
    box.store.close()
    folder = box.state / "store/accounts" / owner.account.hex / "statements"
    owners_key, owner.root = owner.root, thief.root
    forged = owner.slot_statement(SlotId(b"f" * 16), owner.keys, 1, pb.SLOT_KIND_RECOVERY)
    owner.root = owners_key
    (folder / f"slot-{(b'f' * 16).hex()}-1").write_bytes(forged.encoded)
    box.reopen()
    assert box.store.slot(SlotId(b"f" * 16)) is None


@pytest.mark.logs_warnings
def test_files_of_others_are_left_alone(session: Session) -> None:
    box = session.box
    strange = [
        box.state / "store/accounts/lost+found",
        box.state / "store/accounts" / session.machine.owner.account.hex / "statements/note",
        box.state / "store/packs/ab/note",
        box.state / "store/packs/ab" / ("cd" * 32),
    ]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for open_again in (box.reopen, box.rebuild):
        open_again()
        assert all(path.read_text() == "mine" for path in strange)


@pytest.mark.logs_warnings
def test_a_pack_without_its_end_is_searched_for_records(session: Session) -> None:
    chunks = [session.data(FakeRandom(str(n))(3000)) for n in range(6)]
    session.upload(*chunks)
    path, start = find(session.box, chunks[2])
    for at in (-1, -30, -80, 20, 6):
        flip(path, at)
    flip(path, start + 5)
    session.box.rebuild()
    states = session.box.states(session.machine, chunks)
    assert states[2] in (FetchState.MISSING, FetchState.DAMAGED)
    assert states[:2] + states[3:] == [FetchState.PRESENT] * 5


@pytest.mark.logs_warnings
def test_a_pack_whose_account_is_unknown_waits(session: Session) -> None:
    """Its account's folder is lost; when that comes back, the pack is taken in."""
    box = session.box
    chunk = session.data(b"file")
    session.upload(chunk)
    box.store.close()
    folder = box.state / "store/accounts" / session.machine.owner.account.hex
    elsewhere = folder.rename(box.state / "elsewhere")
    box.rebuild()
    box.store.close()
    elsewhere.rename(folder)
    box.reopen()
    assert box.all_present(session.machine, [chunk])


def test_a_store_that_was_copied_whole_opens(session: Session, tmp_path: Path) -> None:
    box = session.box
    row = session.backup(b"file")
    box.store.close()
    shutil.copytree(box.state / "store", tmp_path / "copy/store")
    with open_box(tmp_path / "copy") as copy:
        found = copy.store.snapshot(session.machine.owner.account, row.snapshot)
        assert found.sealed_body == row.sealed_body
        assert copy.store.incarnation != box.store.incarnation, "clients are to notice"
    before = box.store.incarnation
    assert (box.reopen().incarnation, box.rebuild().incarnation) == (before, before)
    # Restored over itself from that copy.
    box.store.close()
    shutil.rmtree(box.state / "store")
    shutil.copytree(tmp_path / "copy/store", box.state / "store")
    assert box.reopen().incarnation != before
    account = session.machine.owner.account
    assert box.store.snapshot(account, row.snapshot).sealed_body == row.sealed_body


def test_drafts_of_a_killed_process_are_swept(session: Session) -> None:
    box = session.box
    account: AccountId = session.machine.owner.account
    drafts = [
        box.state / "store/packs/.draft-1",
        box.state / "store/accounts" / account.hex / "statements/.draft-2",
        box.state / "store/accounts" / account.hex / "sessions/.draft-3",
    ]
    for draft in drafts:
        draft.write_bytes(os.urandom(100))
    box.reopen()
    assert [draft for draft in drafts if draft.exists()] == []


def test_rebuilding_twice_changes_nothing(session: Session) -> None:
    session.backup(*(FakeRandom(str(n))(1000) for n in range(10)))
    session.box.rebuild()
    once = everything(session.box)
    session.box.rebuild()
    assert everything(session.box) == once
