"""Uploads: what is acknowledged, what is refused, what is dropped, and how much waits."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from backit.crypto.primitives import Buffer
from backit.errors import (
    Invalid,
    LeaseEnded,
    RecordInvalid,
    ReferencesMissing,
    Unsupported,
)
from backit.format import record
from backit.format.compression import Compressor
from backit.format.magic import KIB, MIB
from backit.format.record import Seal
from backit.ids import ChunkId
from backitd.clock import SystemClock
from backitd.store import FetchState, StoreSettings
from backitd.store.files import Disk
from tests.backitd.clocks import FakeRandom
from tests.backitd.store.boxes import Box, Chunk, Listener, Session, open_box
from tests.patience import until

SMALL_PACKS = StoreSettings(pack_bytes=64 * KIB)


def blocks(session: Session, count: int, size: int = 4 * KIB, seed: str = "0") -> list[Chunk]:
    random = FakeRandom(seed)
    return [session.data(random(size)) for _ in range(count)]


def test_what_was_acknowledged_is_there_after_reopening(session: Session) -> None:
    chunks = blocks(session, 20)
    root = session.node(b"root", *chunks)
    session.upload(*chunks, root)
    session.box.reopen()
    assert session.box.all_present(session.machine, [*chunks, root])


def test_a_box_at_rest_holds_its_databases_once(session: Session) -> None:
    logs = [session.box.state / f"{name}.db-wal" for name in ("index", "catalog")]
    first, second = session.begin_upload(), session.begin_upload()
    for upload, chunk in zip((first, second), blocks(session, 2), strict=True):
        upload.put([chunk.record])
    first.finish()
    assert logs[0].stat().st_size, "another upload runs: its writes go on into the log"
    second.finish()
    assert [log.stat().st_size for log in logs] == [0, 0]


def test_acknowledgements_are_cumulative_and_reach_the_last_message(tmp_path: Path) -> None:
    with open_box(tmp_path, settings=SMALL_PACKS) as box:
        session = box.new_session()
        upload = session.begin_upload()
        listener = Listener(upload)
        for chunk in blocks(session, 100):
            upload.put([chunk.record])
        upload.finish()
        numbers = listener.join()
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 100
        assert len(numbers) > 1, "acknowledged while it ran"
        assert listener.error is None


def test_an_acknowledged_message_is_readable_while_the_upload_still_runs(session: Session) -> None:
    upload = session.begin_upload()
    listener = Listener(upload)
    (chunk,) = blocks(session, 1)
    upload.put([chunk.record])
    upload.flush()
    listener.wait_for(1)
    assert session.box.all_present(session.machine, [chunk])
    assert session.missing(chunk) == []
    upload.finish()


def test_an_idle_pack_is_closed_without_being_asked(tmp_path: Path) -> None:
    settings = StoreSettings(idle_seconds=0.01, age_seconds=600)
    with open_box(tmp_path, settings=settings, clock=SystemClock()) as box:
        session = box.new_session()
        upload = session.begin_upload()
        listener = Listener(upload)
        (chunk,) = blocks(session, 1)
        upload.put([chunk.record])
        listener.wait_for(1)
        upload.finish()


def test_a_pack_does_not_stay_open_for_ever_under_a_trickle(tmp_path: Path) -> None:
    settings = StoreSettings(idle_seconds=600, age_seconds=0.05)
    with open_box(tmp_path, settings=settings, clock=SystemClock()) as box:
        session = box.new_session()
        upload = session.begin_upload()
        listener = Listener(upload)
        for number, chunk in enumerate(blocks(session, 3), start=1):
            upload.put([chunk.record])
            listener.wait_for(number)
        upload.finish()


def test_a_pack_of_nodes_does_not_hold_back_acknowledgements_for_ever(tmp_path: Path) -> None:
    """Until its first message is durable none after it is acknowledged."""
    settings = StoreSettings(pack_bytes=64 * KIB, idle_seconds=600, age_seconds=0.05)
    with open_box(tmp_path, settings=settings, clock=SystemClock()) as box:
        session = box.new_session()
        upload = session.begin_upload()
        listener = Listener(upload)
        upload.put([session.node(b"empty").record])
        for chunk in blocks(session, 40):
            upload.put([chunk.record])
        listener.wait_for(41)
        upload.finish()


def test_chunks_remember_the_lease_they_were_born_under(box: Box) -> None:
    machine = box.machine(box.person())
    for _ in range(2):
        session = box.session(machine)
        (chunk,) = blocks(session, 1, seed=str(session.lease.generation))
        session.upload(chunk)
        query = f"SELECT generation FROM chunk WHERE id = x'{chunk.id}'"
        assert box.query("index", query) == [(session.lease.generation,)]


def test_a_message_may_carry_many_records_and_none(session: Session) -> None:
    chunks = blocks(session, 5)
    upload = session.begin_upload()
    listener = Listener(upload)
    upload.put([])
    upload.put([chunk.record for chunk in chunks])
    upload.put([])
    upload.finish()
    assert listener.join()[-1] == 3
    assert session.box.all_present(session.machine, chunks)


def test_a_record_that_is_live_already_is_dropped_and_acknowledged(session: Session) -> None:
    chunks = blocks(session, 3)
    session.upload(*chunks)
    before = session.box.packs()
    upload = session.begin_upload()
    listener = Listener(upload)
    for chunk in chunks:
        upload.put([chunk.record])
    upload.finish()
    assert listener.join()[-1] == 3
    assert session.box.packs() == before


def test_a_record_sent_twice_in_one_upload_is_stored_once(session: Session) -> None:
    (chunk,) = blocks(session, 1)
    upload = session.begin_upload()
    upload.put([chunk.record, chunk.record])
    upload.put([chunk.record])
    upload.finish()
    usage = session.box.store.usage(session.machine.owner.account)
    assert usage.chunks == 1
    assert usage.stored_bytes < 2 * len(chunk.record)


@pytest.mark.parametrize("at", [0, 5, 8, 30, 60, 100, 110, 200, -1])
def test_a_flipped_bit_in_a_record_ends_the_upload(session: Session, at: int) -> None:
    good, bad = blocks(session, 2)
    damaged = bytearray(bad.record)
    damaged[at] ^= 1
    upload = session.begin_upload()
    upload.put([good.record])
    with pytest.raises((RecordInvalid, Unsupported)):
        upload.put([bytes(damaged)])
        upload.finish()
    assert session.box.states(session.machine, [bad]) == [FetchState.MISSING]


def test_garbage_ends_the_upload(session: Session) -> None:
    for garbage in (b"", b"x", b"BKRC" * 100, bytes(1000)):
        upload = session.begin_upload()
        with pytest.raises((RecordInvalid, Unsupported)):
            upload.put([garbage])
            upload.finish()


def forge(seal: Seal, chunk: ChunkId, *references: ChunkId) -> bytes:
    """A sound record that says of itself what no honest client says."""
    compressor = Compressor()
    return bytes(
        record.seal_record(
            seal,
            chunk,
            b"forged",
            nonce=bytes(32),
            compressor=compressor,
            references=references or None,
        )
    )


@pytest.mark.parametrize("lie", ["domain", "session"])
def test_a_record_of_another_domain_or_session_is_refused(box: Box, lie: str) -> None:
    person = box.person()
    mine = box.session(box.machine(person, "laptop"))
    other = box.session(box.machine(person, "server")).run.seal
    seal = mine.run.seal
    if lie == "domain":
        seal = dataclasses.replace(seal, domain=other.domain)
    else:
        seal = dataclasses.replace(seal, session=other.session)
    upload = mine.begin_upload()
    with pytest.raises(RecordInvalid):
        upload.put([forge(seal, ChunkId(b"x" * 32))])
        upload.finish()


def test_a_truncated_record_is_refused(session: Session) -> None:
    (chunk,) = blocks(session, 1)
    for length in (10, 115, 200, len(chunk.record) - 1):
        upload = session.begin_upload()
        with pytest.raises(RecordInvalid):
            upload.put([chunk.record[:length]])
            upload.finish()


def test_what_came_before_an_error_and_was_acknowledged_stays(tmp_path: Path) -> None:
    with open_box(tmp_path, settings=SMALL_PACKS) as box:
        session = box.new_session()
        upload = session.begin_upload()
        listener = Listener(upload)
        chunks = blocks(session, 100)
        for chunk in chunks:
            upload.put([chunk.record])
        with pytest.raises(RecordInvalid):
            upload.put([b"garbage"])
            upload.finish()
        numbers = listener.join()
        assert isinstance(listener.error, RecordInvalid)
        assert numbers, "something had become durable"
        assert box.all_present(session.machine, chunks[: numbers[-1]])


# Rule 1: a live node has a live subtree


def test_a_node_with_an_unknown_reference_is_refused(session: Session) -> None:
    there, absent = blocks(session, 2)
    node = session.node(b"node", there, absent)
    upload = session.begin_upload()
    upload.put([there.record])
    upload.put([node.record])
    with pytest.raises(ReferencesMissing) as refused:
        upload.finish()
    assert refused.value.missing == (absent.id,)
    assert session.missing(there, node) == [1]
    assert len(session.box.packs()) == 1, "the refused pack is gone"


def test_nothing_of_a_pack_with_a_refused_node_is_indexed(session: Session) -> None:
    (absent,) = blocks(session, 1)
    fine, bad = session.node(b"fine"), session.node(b"bad", absent)
    upload = session.begin_upload()
    upload.put([fine.record, bad.record])
    with pytest.raises(ReferencesMissing):
        upload.finish()
    assert session.missing(fine, bad) == [0, 1]


def test_a_node_whose_reference_came_before_it_in_the_same_upload_is_accepted(
    session: Session,
) -> None:
    (data,) = blocks(session, 1)
    leaf = session.node(b"leaf", data)
    root = session.node(b"root", leaf)
    session.upload(data, leaf, root)
    assert session.missing(data, leaf, root) == []


def test_the_order_of_data_and_nodes_in_an_upload_is_free(session: Session) -> None:
    """Data packs are closed first."""
    (data,) = blocks(session, 1)
    leaf = session.node(b"leaf", data)
    session.upload(leaf, data)
    assert session.missing(data, leaf) == []


def test_a_node_before_the_node_it_uses_is_refused(session: Session) -> None:
    leaf = session.node(b"leaf")
    root = session.node(b"root", leaf)
    upload = session.begin_upload()
    upload.put([root.record])
    upload.put([leaf.record])
    with pytest.raises(ReferencesMissing):
        upload.finish()


def test_a_node_cannot_use_itself(session: Session) -> None:
    """Ids are the device's word; a cycle would look complete and be nothing."""
    seal = session.run.seal
    one, two = ChunkId(b"1" * 32), ChunkId(b"2" * 32)
    for cycle in ([forge(seal, one, one)], [forge(seal, one, two), forge(seal, two, one)]):
        upload = session.begin_upload()
        upload.put(cycle)
        with pytest.raises(ReferencesMissing):
            upload.finish()


def test_a_reference_into_another_domain_is_missing(box: Box) -> None:
    person = box.person()
    mine = box.session(box.machine(person, "laptop"))
    others = box.session(box.machine(person, "server"))
    (chunk,) = blocks(others, 1)
    others.upload(chunk)
    upload = mine.begin_upload()
    upload.put([mine.node(b"thief", chunk).record])
    with pytest.raises(ReferencesMissing):
        upload.finish()


# Ends


def test_an_aborted_upload_keeps_what_was_whole(session: Session) -> None:
    chunks = blocks(session, 3)
    upload = session.begin_upload()
    listener = Listener(upload)
    for chunk in chunks:
        upload.put([chunk.record])
    upload.abort()
    assert listener.join() == sorted(listener.numbers)
    kept = 3 - len(session.missing(*chunks))
    assert session.box.all_present(session.machine, chunks[:kept])


def test_closing_the_store_ends_uploads(session: Session) -> None:
    upload = session.begin_upload()
    listener = Listener(upload)
    upload.put([blocks(session, 1)[0].record])
    session.box.store.close()
    listener.join()
    with pytest.raises(Invalid):
        upload.put([])


def test_an_upload_ends_with_its_lease(session: Session) -> None:
    upload = session.begin_upload()
    session.box.forward(11 * 60)
    with pytest.raises(LeaseEnded):
        upload.put([blocks(session, 1)[0].record])
    with pytest.raises(LeaseEnded):
        upload.finish()


def test_an_upload_keeps_its_lease_alive(session: Session) -> None:
    upload = session.begin_upload()
    for _ in range(20):
        session.box.forward(5 * 60)
        upload.put([])
    upload.finish()
    assert session.missing() == []


class StuckDisk(Disk):
    """Its writes wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, fd: int, buffers: Sequence[Buffer]) -> int:
        until(self.gate.is_set, "the gate opens")
        return super().write(fd, buffers)


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """A sender that is faster than the disk is stopped."""
    disk = StuckDisk()
    with open_box(tmp_path, settings=StoreSettings(queue_bytes=MIB), disk=disk) as box:
        session = box.new_session()
        chunks = blocks(session, 40, 256 * KIB)
        disk.gate.clear()
        upload = session.begin_upload()
        sent: list[int] = []
        arrived = threading.Semaphore(0)

        def send() -> None:
            for number, chunk in enumerate(chunks):
                upload.put([chunk.record])
                sent.append(number)
                arrived.release()

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(MIB // (256 * KIB) - 1):
            until(lambda: arrived.acquire(blocking=False), "the queue takes it")
        # One is in the writer's hands, the one that went over the bound waits with its sender.
        assert not arrived.acquire(timeout=0.5) or len(sent) <= MIB // (256 * KIB) + 1
        assert len(sent) <= MIB // (256 * KIB) + 1
        disk.gate.set()
        until(lambda: not sender.is_alive(), "all are sent")
        upload.finish()
        assert box.all_present(session.machine, chunks)


def test_several_uploads_run_at_once(tmp_path: Path) -> None:
    with open_box(tmp_path, settings=SMALL_PACKS) as box:
        person = box.person()
        sessions = [box.session(box.machine(person, f"machine {n}")) for n in range(4)]
        work = [blocks(session, 80, seed=str(n)) for n, session in enumerate(sessions)]
        failures: list[BaseException] = []

        def run(session: Session, chunks: list[Chunk]) -> None:
            try:
                root = session.node(b"root", *chunks)
                session.upload(*chunks, root)
                session.commit(root)
            except BaseException as error:  # noqa: BLE001 - shown by the assertion
                failures.append(error)

        threads = [
            threading.Thread(target=run, args=(session, chunks))
            for session, chunks in zip(sessions, work, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        box.reopen()
        for session, chunks in zip(sessions, work, strict=True):
            assert box.all_present(session.machine, chunks)
        assert box.store.usage(person.account).snapshots == 4


def test_two_streams_of_one_lease_may_send_the_same(tmp_path: Path) -> None:
    with open_box(tmp_path, settings=SMALL_PACKS) as box:
        session = box.new_session()
        chunks = blocks(session, 60)
        uploads = [session.begin_upload(), session.begin_upload()]

        def run(number: int) -> None:
            for chunk in chunks:
                uploads[number].put([chunk.record])
            uploads[number].finish()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.missing(*chunks) == []
        assert box.all_present(session.machine, chunks)
        assert box.store.usage(session.machine.owner.account).chunks == 60
