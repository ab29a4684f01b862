"""The devices of an account: enrolled from this machine, asked for and approved, listed, revoked.

A machine that never sees the password asks (`ask`), shows a code, and waits; an open client
elsewhere compares the code and approves. The appliance carries both ways and is trusted in neither:
the code names the machine's keys for the person who approves, and the owner's code names whoever
approved for the machine.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backit.client import ledger, slots
from backit.client import profile as files
from backit.client.account import domain_statement
from backit.client.device import DeviceKeys, KeyFile
from backit.client.home import read_private, write_private
from backit.crypto import primitives
from backit.crypto.keys import DomainKeys, SigningKey, enrolment_code
from backit.errors import (
    AlreadyExists,
    Damaged,
    DeviceRevoked,
    EnrolmentNotFound,
    Invalid,
    Untrusted,
)
from backit.format import message, statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, DomainId, EnrolmentId, SlotId
from backit.v1 import devices_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backit.client.account import Person
    from backit.client.home import Home
    from backit.client.ledger import Ledger
    from backit.client.remote import Appliance

SECRET_BYTES = 32
LABEL_LIMIT = 64
OWNER_LABEL = b"BackIT v1 owner code\0"


def checked_label(text: str) -> str:
    """What a device may be called. Raises Invalid."""
    label = unicodedata.normalize("NFC", text).strip()
    if not label or len(label) > LABEL_LIMIT or not label.isprintable():
        raise Invalid(f"label {text[:80]!r}: 1 to {LABEL_LIMIT} printable characters")
    return label


def owner_code(owner_key: bytes) -> str:
    """What people compare before a machine believes who approved it: five groups of four digits."""
    digits = primitives.digest(OWNER_LABEL, owner_key).hex()[:20]
    return "-".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def enrol(person: Person, label: str, *, now: int) -> DeviceKeys:
    """Make this machine a write-only device with a domain of its own."""
    keys = DeviceKeys(
        DeviceId(os.urandom(DeviceId.LENGTH)),
        person.account,
        SigningKey(os.urandom(SECRET_BYTES)),
        DomainKeys(DomainId(os.urandom(DomainId.LENGTH)), os.urandom(SECRET_BYTES)),
        person.root.owner.public,
    )
    certificate = _certificate(keys, label, now)
    person.put(_first_statements(person, certificate, keys.domain))
    return keys


def make_full(person: Person, device: DeviceId) -> KeyFile:
    """Give a device a slot of its own: whoever has its key file opens the account without a
    password.

    Raises AlreadyExists if it has one.
    """
    for _slot, opened in person.ledger.open_slots():
        if opened.body.device_id == device.raw:
            raise AlreadyExists(f"device {device} is a full device already")
    signed = person.ledger.device(device)
    new = slots.key_file_slot(device)
    body = pb.DeviceBody()
    body.CopyFrom(signed.body)
    body.role = pb.DEVICE_ROLE_FULL
    statements = [slots.make(new, person.account, person.root, 1)]
    if body != signed.body:
        statements.append(_sign(person, StatementKind.DEVICE, signed.number + 1, body))
    person.put(statements)
    return KeyFile(new.slot, new.keys)


def revoke(person: Person, device: DeviceId, *, since: int) -> None:
    """Trust a device no more: nothing that it sent from `since` (Unix seconds) on is relied on. Its
    slots end too.

    Raises AlreadyExists if it was revoked before.
    """
    if device in person.ledger.revocations:
        raise AlreadyExists(f"device {device} has been revoked already")
    person.ledger.device(device)
    body = pb.RevocationBody(device_id=device.raw, since=since)
    ended = [
        slots.remove(slot, person.account, person.root, signed.number + 1)
        for slot, signed in person.ledger.open_slots()
        if signed.body.device_id == device.raw
    ]
    person.put([_sign(person, StatementKind.REVOCATION, 1, body), *ended])


@dataclass(frozen=True, slots=True)
class Listed:
    """A device as its owner signed it, and when the appliance last took a snapshot of it."""

    device: DeviceId
    label: str
    is_full: bool
    enrolled: datetime
    revoked: datetime | None
    last_snapshot: datetime | None


def listed(appliance: Appliance, book: Ledger) -> list[Listed]:
    """The devices by label. Only when a snapshot was taken is the appliance's word."""
    answer = appliance.devices.ListDevices(devices_pb2.ListDevicesRequest())
    last = {
        DeviceId.from_name(each.name): each.last_snapshot_time.ToDatetime(UTC)
        for each in answer.devices
        if each.HasField("last_snapshot_time")
    }
    found = [
        Listed(
            device,
            signed.body.label,
            is_full=signed.body.role == pb.DEVICE_ROLE_FULL,
            enrolled=datetime.fromtimestamp(signed.body.created, UTC),
            revoked=_revoked(book, device),
            last_snapshot=last.get(device),
        )
        for device, signed in book.devices.items()
    ]
    return sorted(found, key=lambda each: (each.label, each.device))


def _revoked(book: Ledger, device: DeviceId) -> datetime | None:
    signed = book.revocations.get(device)
    return None if signed is None else datetime.fromtimestamp(signed.body.since, UTC)


@dataclass(frozen=True, slots=True)
class Request:
    """This machine's wish to become a device, kept until it is granted."""

    enrolment: EnrolmentId
    user: str
    label: str
    signing: SigningKey
    box_secret: bytes = field(repr=False)
    poll_key: bytes = field(repr=False)

    @property
    def code(self) -> str:
        """What the person compares on the machine that approves."""
        return enrolment_code(self.signing.public, primitives.box_public(self.box_secret))

    def save(self, home: Home, profile: str) -> None:
        document = {
            "version": files.VERSION,
            "enrolment": self.enrolment.hex,
            "user": self.user,
            "label": self.label,
            "signing_seed": self.signing.seed.hex(),
            "box_secret": self.box_secret.hex(),
            "poll_key": self.poll_key.hex(),
        }
        write_private(home.request(profile), files.encode(document))

    @classmethod
    def load(cls, home: Home, profile: str) -> Request:
        """Raises NotFound."""
        path = home.request(profile)
        document = files.decode(path, read_private(path))
        try:
            return cls(
                EnrolmentId.from_hex(document["enrolment"]),
                document["user"],
                document["label"],
                SigningKey(bytes.fromhex(document["signing_seed"])),
                bytes.fromhex(document["box_secret"]),
                bytes.fromhex(document["poll_key"]),
            )
        except (KeyError, TypeError, ValueError, Invalid):
            raise Damaged(f"{path} does not hold an enrolment") from None


@dataclass(frozen=True, slots=True)
class Granted:
    """What came back: the device's keys, and whose account it claims to be in."""

    keys: DeviceKeys
    user: str
    label: str

    @property
    def owner_code(self) -> str:
        return owner_code(self.keys.owner_key)


def ask(appliance: Appliance, user: str, label: str) -> Request:
    """Ask to become a device of this user's account. Raises TooManyEnrolments."""
    signing, box_secret, poll_key = SigningKey(os.urandom(32)), os.urandom(32), os.urandom(32)
    answer = appliance.devices.CreateEnrolment(
        devices_pb2.CreateEnrolmentRequest(
            user=user,
            label=label,
            device_key=signing.public,
            box_key=primitives.box_public(box_secret),
            poll_key=poll_key,
        )
    )
    return Request(EnrolmentId.from_name(answer.name), user, label, signing, box_secret, poll_key)


def poll(appliance: Appliance, request: Request) -> Granted | None:
    """What became of the wish; None while it waits. Raises EnrolmentNotFound once it has ended."""
    answer = appliance.devices.GetEnrolment(
        devices_pb2.GetEnrolmentRequest(name=request.enrolment.name, poll_key=request.poll_key)
    )
    if answer.state != devices_pb2.Enrolment.STATE_APPROVED:
        return None
    plain = primitives.box_open(request.box_secret, answer.sealed_secrets)
    secrets = message.decode(pb.DeviceSecrets, plain)
    account, device = AccountId(secrets.account_id), DeviceId(secrets.device_id)
    book = ledger.verify(ledger.parse(answer.statements), secrets.owner_key, account)
    certificate = book.device(device).body
    if (
        device.raw != request.enrolment.raw
        or certificate.device_key != request.signing.public
        or certificate.domain_id != secrets.domain_id
    ):
        raise Untrusted(f"enrolment {request.enrolment}: what was approved is not this machine")
    domain = DomainKeys(DomainId(secrets.domain_id), secrets.domain_secret)
    keys = DeviceKeys(device, account, request.signing, domain, book.owner_key)
    return Granted(keys, book.user, certificate.label)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A machine that waits to be approved."""

    enrolment: EnrolmentId
    label: str
    device_key: bytes
    box_key: bytes

    @property
    def code(self) -> str:
        return enrolment_code(self.device_key, self.box_key)


def waiting(person: Person) -> Iterator[Waiting]:
    answer = person.appliance.devices.ListEnrolments(devices_pb2.ListEnrolmentsRequest())
    for each in answer.enrolments:
        yield Waiting(EnrolmentId.from_name(each.name), each.label, each.device_key, each.box_key)


def find_waiting(person: Person, code: str) -> Waiting:
    """The machine that shows this code. Raises EnrolmentNotFound."""
    typed = "".join(c for c in code.lower() if c.isalnum())
    for each in waiting(person):
        if primitives.equal(each.code.replace("-", "").encode(), typed.encode()):
            return each
    raise EnrolmentNotFound(f"no machine that waits shows the code {code[:40]!r}")


def approve(person: Person, wish: Waiting, *, now: int) -> DeviceId:
    """Make a waiting machine a write-only device, and hand it its secrets, sealed to it."""
    device = DeviceId(wish.enrolment.raw)
    domain = DomainKeys(DomainId(os.urandom(DomainId.LENGTH)), os.urandom(SECRET_BYTES))
    certificate = pb.DeviceBody(
        device_id=device.raw,
        label=checked_label(wish.label),
        device_key=wish.device_key,
        role=pb.DEVICE_ROLE_WRITE_ONLY,
        domain_id=domain.domain.raw,
        created=now,
    )
    secrets = pb.DeviceSecrets(
        account_id=person.account.raw,
        device_id=device.raw,
        domain_id=domain.domain.raw,
        domain_secret=domain.secret,
        owner_key=person.root.owner.public,
    )
    statements = _first_statements(person, certificate, domain)
    person.appliance.devices.ApproveEnrolment(
        devices_pb2.ApproveEnrolmentRequest(
            name=wish.enrolment.name,
            statements=[each.encoded for each in statements],
            sealed_secrets=primitives.box_seal(wish.box_key, message.encode(secrets)),
        )
    )
    for each in statements:
        person.ledger.accept(each)
    return device


def slots_of(book: Ledger, device: DeviceId) -> list[SlotId]:
    """The key file slots of a device."""
    return [slot for slot, signed in book.open_slots() if signed.body.device_id == device.raw]


def _certificate(keys: DeviceKeys, label: str, now: int) -> pb.DeviceBody:
    return pb.DeviceBody(
        device_id=keys.device.raw,
        label=checked_label(label),
        device_key=keys.signing.public,
        role=pb.DEVICE_ROLE_WRITE_ONLY,
        domain_id=keys.domain.domain.raw,
        created=now,
    )


def _first_statements(
    person: Person, certificate: pb.DeviceBody, domain: DomainKeys
) -> list[Statement]:
    return [
        domain_statement(person.account, person.root, domain.domain, domain.secret, 1),
        _sign(person, StatementKind.DEVICE, 1, certificate),
    ]


def _sign(person: Person, kind: StatementKind, number: int, body: statement.Body) -> Statement:
    return statement.make(kind, person.account, number, body, person.root.owner)


def follow_owner(appliance: Appliance, keys: DeviceKeys) -> tuple[DeviceKeys, Ledger]:
    """The account as this device may believe it; trusts whoever its owner has passed it on to.

    Raises Untrusted, Damaged; DeviceRevoked if this device has been revoked.
    """
    book = ledger.verify(ledger.parse(ledger.fetch(appliance)), keys.owner_key, keys.account)
    if keys.device in book.revocations:
        raise DeviceRevoked(f"device {keys.device} has been revoked")
    if not primitives.equal(book.owner_key, keys.owner_key):
        keys = keys.trust(book.owner_key)
    return keys, book
