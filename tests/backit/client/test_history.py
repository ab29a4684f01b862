"""Promises of the list of snapshots: what was signed, by any of its names, damage hiding none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from backit.client.check import check_receipts
from backit.client.history import History, Snapshot
from backit.errors import BackitError, Damaged, Invalid, SnapshotNotFound
from backit.format import snapshot as snapshots
from backit.format import statement
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2
from backit.ids import ChunkId, SeriesId
from backit.v1 import snapshots_pb2
from tests.backit.client.interruptions import between

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backit.client.household import Household
    from tests.backitd.clients import Client
    from tests.backitd.daemons import Box
    from tests.backitd.people import Machine

Listed = snapshots_pb2.Snapshot


def commit(client: Client, machine: Machine, series: bytes, count: int = 1) -> None:
    """Some snapshots of an empty tree."""
    before = None
    for _ in range(count):
        run = machine.run(SeriesId(series))
        lease = client.lease(run)
        if lease.HasField("head"):
            before = statement.parse(lease.head.header)
        root, encoded = run.node(b"", ())
        client.upload_records(lease.name, [encoded])
        header, body = run.snapshot(ChunkId(root.raw), before)
        client.commit(lease.name, header, body)
        before = header


@dataclass
class Scene:
    """A household with two machines, called laptop and desk, and their snapshots."""

    house: Household
    box: Box
    desk: Machine
    # Not one of the account's.
    stranger: Machine

    @property
    def history(self) -> History:
        return self.house.history

    def lying(self, lie: Callable[[list[Listed]], list[Listed]]) -> History:
        """The history as an appliance tells it that changes the list."""

        def list_snapshots(real: Callable[[Any], Any], request: Any) -> Any:
            page = real(request)
            changed = lie(list(page.snapshots))
            del page.snapshots[:]
            page.snapshots.extend(changed)
            return page

        lying = between(self.house.owner, ListSnapshots=list_snapshots)
        return History(lying, self.house.keyring)


@pytest.fixture
def scene(house: Household, box: Box) -> Scene:
    client = box.client()
    client.log_in_machine(house.machine)
    commit(client, house.machine, b"a" * 16, 2)
    box.clock.forward(10)
    desk = house.person.machine("desk")
    house.person_puts(*desk.statements())
    house.learn()
    other = box.client()
    other.log_in_machine(desk)
    commit(other, desk, b"b" * 16)
    box.clock.forward(10)
    commit(client, house.machine, b"a" * 16)
    return Scene(house, box, desk, house.person.machine("stranger"))


def names(found: list[Snapshot]) -> list[tuple[str, int]]:
    return [(each.label, each.counter) for each in found]


ALL = [("laptop", 1), ("laptop", 2), ("desk", 1), ("laptop", 3)]


def test_snapshots_come_oldest_first_whatever_the_appliance_says(scene: Scene) -> None:
    assert names(scene.history.all()) == ALL
    assert names(scene.lying(lambda listed: listed[::-1]).all()) == ALL


def test_each_is_opened_and_says_what_it_is(scene: Scene) -> None:
    first, second, other, last = scene.history.all()
    assert (first.previous, second.previous, last.previous) == (None, first.id, second.id)
    assert (other.device, other.domain) == (scene.desk.device, scene.desk.domain)
    assert [each.received - first.received for each in (second, other, last)] == [0, 10, 20]
    assert all(each.complete and not each.trashed for each in (first, second, other, last))
    assert last.body.host == "laptop"


def test_pages_are_put_together(scene: Scene) -> None:
    def one_at_a_time(real: Callable[[Any], Any], request: Any) -> Any:
        request.page_size = 1
        return real(request)

    paged = between(scene.house.owner, ListSnapshots=one_at_a_time)
    assert names(History(paged, scene.house.keyring).all()) == ALL


def test_the_trash_is_shown_to_who_asks(scene: Scene) -> None:
    first = scene.history.all()[0]
    order = scene.house.person.order(first.id.raw, 1, forgotten=True)
    request = snapshots_pb2.DeleteSnapshotRequest(order=order.encoded)
    scene.house.owner.snapshots.DeleteSnapshot(request)
    assert names(scene.history.all()) == ALL[1:]
    everything = scene.history.all(trashed=True)
    assert [(each.id == first.id) for each in everything] == [each.trashed for each in everything]
    with pytest.raises(SnapshotNotFound):
        scene.history.resolve(first.id.hex)
    assert scene.history.resolve(first.id.hex, trashed=True).id == first.id


def changed_at(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def resigned(scene: Scene, encoded: bytes) -> bytes:
    """The same header, signed by the other machine."""
    header = statement.parse(encoded)
    return statement.make(
        StatementKind.SNAPSHOT, header.account, header.number, header.body, scene.desk.key
    ).encoded


def of_stranger(scene: Scene, encoded: bytes) -> bytes:
    """The same header, naming a machine that the account does not have."""
    header = statement.parse(encoded)
    stranger = scene.stranger
    fields = statement_pb2.SnapshotHeaderBody()
    fields.CopyFrom(snapshots.header_body(header))
    fields.device_id = stranger.device.raw
    return statement.make(
        StatementKind.SNAPSHOT, header.account, header.number, fields, stranger.key
    ).encoded


def with_header(listed: Listed, encoded: bytes) -> None:
    listed.header = encoded
    if encoded:
        listed.name = f"snapshots/{statement.parse(encoded).digest.hex()}"


# What is done to the laptop's second snapshot; the other one is its first.
LIES: dict[str, Callable[[Scene, Listed, Listed], None]] = {
    "no header": lambda _scene, listed, _other: with_header(listed, b""),
    "a changed header": lambda _scene, listed, _other: setattr(
        listed, "header", changed_at(listed.header, 40)
    ),
    "the header of another": lambda _scene, listed, other: setattr(listed, "header", other.header),
    "another's signature": lambda scene, listed, _other: with_header(
        listed, resigned(scene, listed.header)
    ),
    "a stranger's": lambda scene, listed, _other: with_header(
        listed, of_stranger(scene, listed.header)
    ),
    "a session packet as header": lambda _scene, listed, _other: with_header(
        listed, listed.session
    ),
    "no body": lambda _scene, listed, _other: setattr(listed, "sealed_body", b""),
    "a changed body": lambda _scene, listed, _other: setattr(
        listed, "sealed_body", changed_at(listed.sealed_body, 50)
    ),
    "the body of another": lambda _scene, listed, other: setattr(
        listed, "sealed_body", other.sealed_body
    ),
    "no session": lambda _scene, listed, _other: setattr(listed, "session", b""),
    "the session of another": lambda _scene, listed, other: setattr(
        listed, "session", other.session
    ),
    "a changed session": lambda _scene, listed, _other: setattr(
        listed, "session", changed_at(listed.session, -70)
    ),
    "no receipt": lambda _scene, listed, _other: setattr(listed, "receipt", b""),
    "the receipt of another": lambda _scene, listed, other: setattr(
        listed, "receipt", other.receipt
    ),
    "a header as receipt": lambda _scene, listed, _other: setattr(listed, "receipt", listed.header),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_damaged_snapshot_is_named_and_hides_no_other(scene: Scene, lie: str) -> None:
    def change(listed: list[Listed]) -> list[Listed]:
        mine = sorted(
            (each for each in listed if b"a" * 16 in each.header),
            key=lambda each: statement.parse(each.header).number,
        )
        LIES[lie](scene, mine[1], mine[0])
        return listed

    history = scene.lying(change)
    found, broken = history.readable()
    assert names(found) == [ALL[0], *ALL[2:]]
    ((name, error),) = broken
    assert isinstance(error, Damaged)
    hexadecimal = name.removeprefix("snapshots/")
    assert hexadecimal in str(error)
    with pytest.raises(Damaged, match=hexadecimal):
        history.all()
    with pytest.raises(Damaged):
        history.resolve(hexadecimal[:12])
    assert history.resolve("latest").counter == 3


def test_what_was_opened_before_is_opened_again_only_if_it_is_told_otherwise(scene: Scene) -> None:
    def without_bodies(listed: list[Listed]) -> list[Listed]:
        for each in listed:
            each.ClearField("sealed_body")
        return listed

    def with_another_header(listed: list[Listed]) -> list[Listed]:
        listed[0].header, listed[1].header = listed[1].header, listed[0].header
        return listed

    known = {each.id.name: each for each in scene.history.all()}
    again, broken = scene.lying(without_bodies).readable(known=known)
    assert not broken
    assert all(each is known[each.id.name] for each in again)
    _found, broken = scene.lying(with_another_header).readable(known=known)
    assert len(broken) == 2
    first = again[0]
    order = scene.house.person.order(first.id.raw, 1, forgotten=True)
    request = snapshots_pb2.DeleteSnapshotRequest(order=order.encoded)
    scene.house.owner.snapshots.DeleteSnapshot(request)
    everything, _broken = scene.history.readable(trashed=True, known=known)
    assert [each.trashed for each in everything] == [each.id == first.id for each in everything]


def test_a_snapshot_of_a_revoked_machine_still_opens(scene: Scene) -> None:
    scene.house.person_puts(scene.desk.revocation())
    scene.house.learn()
    assert names(scene.history.all()) == ALL


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("latest", ("laptop", 3)),
        ("latest@laptop", ("laptop", 3)),
        ("latest@desk", ("desk", 1)),
        ("{desk}", ("desk", 1)),
        ("{desk:8}", ("desk", 1)),
        ("{DESK}", ("desk", 1)),
        ("{id}", ("laptop", 2)),
        ("{id:4}", ("laptop", 2)),
        ("{id:12}", ("laptop", 2)),
        ("{ID}", ("laptop", 2)),
    ],
)
def test_a_snapshot_goes_by_any_of_its_names(
    scene: Scene, name: str, expected: tuple[str, int]
) -> None:
    device, wanted = scene.desk.device.hex, scene.history.all()[1].id.hex
    for key, text in (("desk", device), ("DESK", device.upper())):
        name = name.replace(f"{{{key}}}", f"latest@{text}")
    name = name.replace("{desk:8}", f"latest@{device[:8]}")
    for key, text in (("id", wanted), ("ID", wanted.upper())):
        name = name.replace(f"{{{key}}}", text)
    for length in (4, 12):
        name = name.replace(f"{{id:{length}}}", wanted[:length])
    found = scene.history.resolve(name)
    assert (found.label, found.counter) == expected


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("latest@nobody", SnapshotNotFound),
        ("0" * 64, SnapshotNotFound),
        ("nonsense", SnapshotNotFound),
        ("", Invalid),
        ("abc", Invalid),
        ("newest@desk", Invalid),
        ("*" * 500, SnapshotNotFound),
    ],
)
def test_a_name_of_none_is_told(scene: Scene, name: str, error: type[BackitError]) -> None:
    with pytest.raises(error) as caught:
        scene.history.resolve(name)
    assert len(str(caught.value)) < 200


def test_an_account_without_snapshots_has_no_latest(house: Household) -> None:
    with pytest.raises(SnapshotNotFound, match="no snapshot yet"):
        house.history.resolve("latest")
    assert house.history.readable() == ([], [])


def test_a_beginning_that_fits_two_is_ambiguous(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backit.client.history.PREFIX_MIN", 0)
    with pytest.raises(Invalid, match="ambiguous: ") as caught:
        scene.history.resolve("")
    assert all(each.id.hex[:12] in str(caught.value) for each in scene.history.all())


def test_a_label_counts_more_than_the_beginning_of_an_id(scene: Scene, box: Box) -> None:
    """A machine may be called as another one's id begins."""
    odd = scene.house.person.machine(scene.desk.device.hex[:4])
    scene.house.person_puts(*odd.statements())
    scene.house.learn()
    client = box.client()
    client.log_in_machine(odd)
    commit(client, odd, b"c" * 16)
    assert scene.history.resolve(f"latest@{odd.label}").device == odd.device


def test_two_machines_of_one_label_are_told_apart_by_id_only(scene: Scene, box: Box) -> None:
    twin = scene.house.person.machine("desk")
    scene.house.person_puts(*twin.statements())
    scene.house.learn()
    client = box.client()
    client.log_in_machine(twin)
    commit(client, twin, b"c" * 16)
    with pytest.raises(Invalid, match="several devices"):
        scene.history.resolve("latest@desk")
    assert scene.history.resolve(f"latest@{twin.device.hex}").device == twin.device


def test_a_receipt_by_another_key_than_the_pinned_one_is_told_of(scene: Scene) -> None:
    """Whoever has the disks may have made it up since; the snapshot opens all the same."""
    found, pinned = scene.history.all(), scene.house.owner.receipt_key
    assert all(each.is_attested(pinned) for each in found)
    assert list(check_receipts(found, pinned)) == []
    other = scene.house.owner.receipt_key = scene.house.device.receipt_key = b"k" * 32
    assert not any(each.is_attested(other) for each in found)
    (finding,) = check_receipts(found, other)
    assert (finding.kind, finding.name) == ("receipt", found[0].id.hex)
    result = scene.house.save(scene.house.folder)
    assert any("pinned at pairing" in text for text in result.turned_back)
    assert len(scene.history.all()) == len(found) + 1
