"""Promises of ChunkService over a real connection: what goes in comes out, lies stay out."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
import pytest

from backit.format import record
from backit.ids import ChunkId
from backit.v1 import appliance_pb2, snapshots_pb2
from backit.v1 import chunks_pb2 as pb
from backitd.store import StoreSettings
from tests.backitd import daemons
from tests.backitd.clients import Client, code, detail, opened, reason
from tests.backitd.daemons import WAIT, Box, wait_until
from tests.backitd.people import Machine, Person, Run

ROOT = Path(__file__).parents[3]


@dataclass
class Scene:
    """Somebody with a machine that is about to back up."""

    box: Box
    person: Person
    owner: Client
    machine: Machine
    device: Client
    run: Run
    lease: str

    def download(
        self, chunks: list[bytes], domain: bytes | None = None
    ) -> list[pb.DownloadResponse]:
        request = pb.DownloadRequest(
            domain_id=self.machine.domain.raw if domain is None else domain, chunk_ids=chunks
        )
        return list(self.owner.chunks.Download(request, metadata=self.owner.metadata))

    def missing(self, chunks: list[bytes]) -> list[int]:
        request = pb.FindMissingRequest(lease=self.lease, chunk_ids=chunks)
        answer = self.device.chunks.FindMissing(request, metadata=self.device.metadata)
        return list(answer.missing)


def first_backup(box: Box, user: str = "alice") -> Scene:
    person, owner = box.person(user)
    machine, device = box.machine(person, owner)
    run = machine.run()
    return Scene(box, person, owner, machine, device, run, device.lease(run).name)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with daemons.box() as box:
        yield first_backup(box)


def refusal(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def upload_threads() -> list[str]:
    names = ("upload", "sealer")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


def test_what_is_uploaded_can_be_downloaded(scene: Scene) -> None:
    data = [scene.run.data(bytes([number]) * 5000) for number in range(20)]
    node = scene.run.node(b"node", [chunk for chunk, _record in data])
    assert scene.device.upload_records(scene.lease, [one for _chunk, one in [*data, node]]) == 21
    records = {chunk.raw: one for chunk, one in [*data, node]}
    answers = scene.download(list(records))
    assert {answer.chunk_id: answer.record for answer in answers} == records
    assert len(answers) == 21


def test_the_largest_record_goes_through_and_back(scene: Scene) -> None:
    plaintext = b"".join(scene.person.random(1 << 20) for _ in range(4))
    chunk, encoded = scene.run.data(plaintext)
    scene.device.upload_records(scene.lease, [encoded])
    (answer,) = scene.download([chunk.raw])
    opened_record = record.open_record(
        answer.record, chunk, scene.run.key, scene.machine.domain_keys
    )
    assert opened_record.plaintext == plaintext


def test_a_quota_that_is_used_up_is_told_and_shown() -> None:
    quota = 8000
    config = replace(daemons.GENEROUS, store=StoreSettings(quota_bytes=quota))
    with daemons.box(config) as box:
        person, owner = box.person()
        machine, device = box.machine(person, owner)
        run = machine.run()
        lease = device.lease(run).name
        device.upload_records(lease, [run.data(b"1" * 4000)[1]])
        error = refusal(lambda: device.upload_records(lease, [run.data(person.random(9000))[1]]))
        assert (code(error), reason(error)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "QUOTA_EXCEEDED",
        )
        status = owner.appliance.GetStatus(
            appliance_pb2.GetStatusRequest(), metadata=owner.metadata
        )
        assert status.quota_bytes == quota
        assert 0 < status.stored_bytes < quota


def test_nodes_may_come_together_in_one_message(scene: Scene) -> None:
    nodes = [scene.run.node(bytes([number]), []) for number in range(50)]
    message = pb.UploadRequest(records=[one for _chunk, one in nodes])
    answers = list(scene.device.upload(scene.lease, [message]))
    assert [answer.acknowledged for answer in answers] == [1]
    assert scene.missing([chunk.raw for chunk, _one in nodes]) == []


def test_a_flush_is_acknowledged_while_the_stream_stays_open(scene: Scene) -> None:
    go_on = threading.Event()
    _chunk, encoded = scene.run.data(b"x")

    def messages() -> Iterator[pb.UploadRequest]:
        yield pb.UploadRequest(records=[encoded], flush=True)
        go_on.wait(WAIT)
        yield pb.UploadRequest(flush=True)

    answers = scene.device.upload(scene.lease, messages())
    assert next(answers).acknowledged == 1
    go_on.set()
    assert [answer.acknowledged for answer in answers][-1:] == [2]


def test_missing_chunks_are_found_by_position(scene: Scene) -> None:
    chunk, encoded = scene.run.data(b"here")
    scene.device.upload_records(scene.lease, [encoded])
    assert scene.missing([b"a" * 32, chunk.raw, b"b" * 32]) == [0, 2]


def test_lost_chunks_are_found_for_the_person_without_a_lease(scene: Scene) -> None:
    chunk, encoded = scene.run.data(b"here")
    scene.device.upload_records(scene.lease, [encoded])

    def lost(domain: bytes) -> list[int]:
        request = pb.FindLostRequest(domain_id=domain, chunk_ids=[b"a" * 32, chunk.raw])
        return list(scene.owner.chunks.FindLost(request, metadata=scene.owner.metadata).lost)

    assert lost(scene.machine.domain.raw) == [0]
    assert lost(bytes(16)) == [0, 1]


def test_every_id_is_answered_once_also_where_there_is_no_chunk(scene: Scene) -> None:
    chunk, encoded = scene.run.data(b"here")
    scene.device.upload_records(scene.lease, [encoded])
    answers = scene.download([b"a" * 32, chunk.raw])
    states = {answer.chunk_id: (answer.state, answer.record) for answer in answers}
    assert states == {
        b"a" * 32: (pb.DownloadResponse.STATE_MISSING, b""),
        chunk.raw: (pb.DownloadResponse.STATE_UNSPECIFIED, encoded),
    }
    assert len(answers) == 2


def test_nobody_downloads_from_another_accounts_domain(scene: Scene) -> None:
    chunk, encoded = scene.run.data(b"mine")
    scene.device.upload_records(scene.lease, [encoded])
    _other, client = scene.box.person("mallory")
    request = pb.DownloadRequest(domain_id=scene.machine.domain.raw, chunk_ids=[chunk.raw])
    (answer,) = client.chunks.Download(request, metadata=client.metadata)
    assert (answer.state, answer.record) == (pb.DownloadResponse.STATE_MISSING, b"")


@pytest.mark.logs_warnings
def test_a_flipped_bit_on_disk_damages_one_chunk_and_no_other(scene: Scene) -> None:
    good, bad = scene.run.data(b"good"), scene.run.data(b"bad")
    scene.device.upload_records(scene.lease, [good[1], bad[1]])
    (pack,) = (path for path in (scene.box.state / "store/packs").glob("*/*"))
    flip(pack, bad[1])
    states = {answer.chunk_id: answer.state for answer in scene.download([good[0].raw, bad[0].raw])}
    assert states == {
        good[0].raw: pb.DownloadResponse.STATE_UNSPECIFIED,
        bad[0].raw: pb.DownloadResponse.STATE_DAMAGED,
    }
    assert scene.missing([good[0].raw, bad[0].raw]) == [1]


def flip(pack: Path, encoded: bytes) -> None:
    """One bit of this record."""
    content = bytearray(pack.read_bytes())
    content[content.index(encoded) + 120] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)


def test_sessions_come_back_for_their_ids(scene: Scene) -> None:
    request = pb.GetSessionsRequest(session_ids=[scene.run.session.raw, bytes(16)])
    answer = scene.owner.chunks.GetSessions(request, metadata=scene.owner.metadata)
    assert list(answer.sessions) == [scene.run.session_statement.encoded]


# Lies


def lying_records(scene: Scene) -> dict[str, bytes]:
    _chunk, good = scene.run.data(b"plain")
    other = scene.person.machine("other")
    flipped = bytearray(good)
    flipped[150] ^= 1
    return {
        "bytes that were changed": bytes(flipped),
        "a shorter record": good[:-1],
        "a longer record": good + b"\0",
        "nothing": b"",
        "noise": b"BKRC\1" + bytes(1000),
        "another machine's domain": other.run().data(b"plain")[1],
        "another session": scene.machine.run().data(b"plain")[1],
    }


def test_a_record_that_lies_is_refused_and_the_stream_with_it(scene: Scene) -> None:
    for lie, encoded in lying_records(scene).items():
        error = refusal(partial(scene.device.upload_records, scene.lease, [encoded]))
        assert code(error) is grpc.StatusCode.INVALID_ARGUMENT, lie
        assert reason(error) == "RECORD_INVALID", lie
    wait_until(lambda: not upload_threads())


def test_a_record_of_a_later_version_is_refused_as_such(scene: Scene) -> None:
    later = bytearray(scene.run.data(b"plain")[1])
    later[4] = 2
    error = refusal(lambda: scene.device.upload_records(scene.lease, [bytes(later)]))
    assert reason(error) == "VERSION_UNSUPPORTED"


def test_a_node_with_missing_references_is_refused_and_they_are_named(scene: Scene) -> None:
    missing = sorted(ChunkId(scene.person.random(32)) for _ in range(300))
    _chunk, node = scene.run.node(b"node", missing)
    error = refusal(lambda: scene.device.upload_records(scene.lease, [node]))
    assert (code(error), reason(error)) == (grpc.StatusCode.ABORTED, "REFERENCES_MISSING")
    named = pb.MissingReferences()
    assert detail(error, named)
    assert len(named.chunk_ids) == 128
    assert {ChunkId(raw) for raw in named.chunk_ids} < set(missing)


@pytest.mark.parametrize(
    "messages",
    [
        [pb.UploadRequest()],
        [pb.UploadRequest(lease="leases/xyz")],
        [pb.UploadRequest(lease="leases/" + "0" * 32, flush=True)],
        [],
    ],
)
def test_an_upload_that_begins_wrong_is_refused(
    scene: Scene, messages: list[pb.UploadRequest]
) -> None:
    error = refusal(
        lambda: list(scene.device.chunks.Upload(iter(messages), metadata=scene.device.metadata))
    )
    assert reason(error) == "REQUEST_INVALID"


def test_an_upload_under_no_lease_is_refused(scene: Scene) -> None:
    error = refusal(lambda: list(scene.device.upload("leases/" + "0" * 32, [])))
    assert reason(error) == "LEASE_ENDED"


@pytest.mark.parametrize(
    "message",
    [
        pb.UploadRequest(lease="leases/" + "0" * 32),
        pb.UploadRequest(records=[b"x"] * 8193),
        pb.UploadRequest(records=[bytes(5 * 1024 * 1024 + 1)]),
    ],
)
def test_a_message_out_of_bounds_ends_the_stream(scene: Scene, message: pb.UploadRequest) -> None:
    error = refusal(lambda: list(scene.device.upload(scene.lease, [message])))
    assert reason(error) == "REQUEST_INVALID"
    wait_until(lambda: not upload_threads())


def test_an_oversized_message_is_refused_by_grpc_and_leaves_no_threads(scene: Scene) -> None:
    message = pb.UploadRequest(records=[bytes(5 * 1024 * 1024), bytes(5 * 1024 * 1024)])
    error = refusal(lambda: list(scene.device.upload(scene.lease, [message])))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    wait_until(lambda: not upload_threads())
    huge = pb.FindMissingRequest(lease=scene.lease, chunk_ids=[bytes(9 * 1024 * 1024)])
    error = refusal(lambda: scene.device.chunks.FindMissing(huge, metadata=scene.device.metadata))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bulk_questions_are_bounded(scene: Scene) -> None:
    many = [number.to_bytes(32, "big") for number in range(8193)]
    assert reason(refusal(lambda: scene.missing(many))) == "REQUEST_INVALID"
    assert reason(refusal(lambda: scene.download(many))) == "REQUEST_INVALID"
    assert len(scene.missing(many[:-1])) == 8192
    assert len(scene.download(many[:-1])) == 8192
    sessions = pb.GetSessionsRequest(session_ids=[one[:16] for one in many[:1025]])
    error = refusal(lambda: scene.owner.chunks.GetSessions(sessions, metadata=scene.owner.metadata))
    assert reason(error) == "REQUEST_INVALID"


def test_asking_for_a_chunk_twice_in_one_download_is_refused(scene: Scene) -> None:
    error = refusal(lambda: scene.download([bytes(32), bytes(32)]))
    assert reason(error) == "REQUEST_INVALID"


# Streams that end in the middle


class Held:
    """An upload that has sent one record and stays open until it is let go."""

    def __init__(self, scene: Scene, client: Client) -> None:
        self.go_on = threading.Event()
        self.chunk, encoded = scene.run.data(scene.person.random(1000))

        def messages() -> Iterator[pb.UploadRequest]:
            yield pb.UploadRequest(records=[encoded], flush=True)
            self.go_on.wait(WAIT)

        self.call = client.chunks.Upload(opened(scene.lease, messages()), metadata=client.metadata)
        assert next(self.call).acknowledged == 1
        assert upload_threads()


def test_a_cancelled_upload_leaves_no_threads_and_keeps_what_was_acknowledged(scene: Scene) -> None:
    held = Held(scene, scene.device)
    held.call.cancel()
    wait_until(lambda: not upload_threads())
    held.go_on.set()
    assert scene.missing([held.chunk.raw]) == []


def test_a_broken_connection_leaves_no_threads(scene: Scene) -> None:
    client = scene.box.client()
    client.token = scene.device.token
    held = Held(scene, client)
    client.channel.close()
    wait_until(lambda: not upload_threads())
    held.go_on.set()


SENDER = """
import sys, time
from tests.backitd.clients import Client
from backit.v1.chunks_pb2 import UploadRequest

target, token, lease = sys.argv[1:]
record = sys.stdin.buffer.read()
client = Client(target)
client.token = token

def messages():
    yield UploadRequest(records=[record], flush=True)
    time.sleep(100)

for answer in client.upload(lease, messages()):
    print(answer.acknowledged, flush=True)
"""


def test_a_client_that_is_killed_leaves_no_threads(scene: Scene) -> None:
    chunk, encoded = scene.run.data(b"x")
    target = scene.box.addresses[0]
    with subprocess.Popen(
        [sys.executable, "-c", SENDER, target, scene.device.token, scene.lease],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as sender:
        assert sender.stdin is not None
        assert sender.stdout is not None
        sender.stdin.write(encoded)
        sender.stdin.close()
        assert sender.stdout.readline() == b"1\n"
        assert upload_threads()
        sender.kill()
    wait_until(lambda: not upload_threads())
    assert scene.missing([chunk.raw]) == []


def test_revoking_a_device_ends_its_running_upload(scene: Scene) -> None:
    _chunk, encoded = scene.run.data(b"x")
    revoked = threading.Event()

    def messages() -> Iterator[pb.UploadRequest]:
        yield pb.UploadRequest(records=[encoded], flush=True)
        revoked.wait(WAIT)
        yield pb.UploadRequest(records=[encoded], flush=True)

    call = scene.device.upload(scene.lease, messages())
    assert next(call).acknowledged == 1
    scene.owner.put([scene.machine.revocation()])
    revoked.set()
    assert reason(refusal(lambda: list(call))) == "LOGIN_NEEDED"
    wait_until(lambda: not upload_threads())


def test_an_upload_keeps_its_login_alive(scene: Scene) -> None:
    _chunk, encoded = scene.run.data(b"x")

    def messages() -> Iterator[pb.UploadRequest]:
        for _ in range(3):
            scene.box.clock.forward(500)
            renew = snapshots_pb2.RenewLeaseRequest(name=scene.lease)
            scene.device.snapshots.RenewLease(renew, metadata=scene.device.metadata)
            yield pb.UploadRequest(records=[encoded], flush=True)

    assert [a.acknowledged for a in scene.device.upload(scene.lease, messages())][-1] == 3


def test_a_download_that_is_let_go_gives_its_thread_back(scene: Scene) -> None:
    data = [scene.run.data(scene.person.random(500_000)) for _ in range(30)]
    scene.device.upload_records(scene.lease, [one for _chunk, one in data])
    request = pb.DownloadRequest(
        domain_id=scene.machine.domain.raw, chunk_ids=[chunk.raw for chunk, _one in data]
    )
    for _ in range(100):  # more than there are threads for streams
        call = scene.owner.chunks.Download(request, metadata=scene.owner.metadata)
        next(call)
        call.cancel()
    assert len(scene.download([data[0][0].raw])) == 1


def test_uploads_cannot_keep_others_waiting() -> None:
    """All threads for streams are taken; every other kind of call is still answered."""
    limits = replace(daemons.GENEROUS.limits, streams=4, streams_per_account=4)
    with daemons.box(replace(daemons.GENEROUS, limits=limits)) as box:
        scene = first_backup(box)
        held = [Held(scene, scene.device) for _ in range(4)]
        waiting = scene.device.upload(scene.lease, [])
        assert scene.missing([bytes(32)]) == [0]
        box.person("bob")
        for one in held:
            one.go_on.set()
        assert list(waiting) == []
        wait_until(lambda: not upload_threads())


def test_one_account_cannot_have_all_streams() -> None:
    """What it opens beyond its share waits for its own; another person's backup goes through."""
    limits = replace(daemons.GENEROUS.limits, streams=4, streams_per_account=3)
    with daemons.box(replace(daemons.GENEROUS, limits=limits)) as box:
        greedy, bob = first_backup(box, "greedy"), first_backup(box, "bob")
        held = [Held(greedy, greedy.device) for _ in range(3)]
        waiting = [greedy.device.upload(greedy.lease, []) for _ in range(5)]
        chunk, encoded = bob.run.data(b"bob's")
        assert bob.device.upload_records(bob.lease, [encoded]) == 1
        assert [one.chunk_id for one in bob.download([chunk.raw])] == [chunk.raw]
        for one in held:
            one.go_on.set()
        assert [list(call) for call in waiting] == [[]] * 5
        wait_until(lambda: not upload_threads())
