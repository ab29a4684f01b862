"""The ledger: an account's statements as its owner signed them, whatever the appliance says.

The appliance hands statements out; only those that the pinned owner, or a rightful successor, has
signed get in here (FORMAT.md section 3). `seen` keeps the appliance from going back to an older
state. Nothing is decrypted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from backit.crypto import primitives
from backit.crypto.keys import succession_message
from backit.errors import Damaged, Invalid, NotFound, StatementInvalid, Untrusted
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, DomainId, SlotId
from backit.v1 import accounts_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backit.client.remote import Appliance

Body = TypeVar("Body", bound=statement.Body)


@dataclass(frozen=True, slots=True)
class Signed(Generic[Body]):
    """A statement that its signer has been checked for."""

    number: int
    body: Body
    encoded: bytes


@dataclass(slots=True)
class Ledger:
    """One account, as its owner has signed it: the newest statement of each subject."""

    account: AccountId
    user: str
    owner_key: bytes
    owner_number: int
    # All that the account has had, oldest first.
    owners: tuple[bytes, ...]
    slots: dict[SlotId, Signed[pb.SlotBody]] = field(
        default_factory=dict[SlotId, Signed[pb.SlotBody]]
    )
    epochs: dict[int, Signed[pb.EpochBody]] = field(default_factory=dict[int, Signed[pb.EpochBody]])
    domains: dict[DomainId, Signed[pb.DomainBody]] = field(
        default_factory=dict[DomainId, Signed[pb.DomainBody]]
    )
    devices: dict[DeviceId, Signed[pb.DeviceBody]] = field(
        default_factory=dict[DeviceId, Signed[pb.DeviceBody]]
    )
    revocations: dict[DeviceId, Signed[pb.RevocationBody]] = field(
        default_factory=dict[DeviceId, Signed[pb.RevocationBody]]
    )

    @property
    def newest_epoch(self) -> int:
        """The epoch that backups are sealed to. Raises NotFound."""
        if not self.epochs:
            raise NotFound(f"account {self.account} has no epoch")
        return max(self.epochs)

    def device(self, wanted: DeviceId) -> Signed[pb.DeviceBody]:
        """Raises NotFound."""
        if wanted not in self.devices:
            raise NotFound(f"account {self.account} has no device {wanted}")
        return self.devices[wanted]

    def find_device(self, text: str) -> DeviceId:
        """The device with this label, id, or beginning of an id. Raises NotFound, Invalid if
        ambiguous.
        """
        labelled = [each for each, signed in self.devices.items() if signed.body.label == text]
        trusted = [each for each in labelled if each not in self.revocations]
        by_id = [each for each in self.devices if text and each.hex.startswith(text.lower())]
        found = trusted or labelled or by_id
        if not found:
            raise NotFound(f"there is no device {text!r}")
        if len(found) > 1:
            raise Invalid(f"device {text!r} is ambiguous: {', '.join(each.hex for each in found)}")
        return found[0]

    def open_slots(self) -> Iterator[tuple[SlotId, Signed[pb.SlotBody]]]:
        """The slots that have not been removed."""
        for slot, signed in self.slots.items():
            if not signed.body.removed:
                yield slot, signed

    def signed(self) -> Iterator[tuple[StatementKind, bytes, Signed[statement.Body]]]:
        """(kind, subject, statement) of everything but the account statement and the epochs."""
        for slot, a in self.slots.items():
            yield StatementKind.SLOT, slot.raw, Signed(a.number, a.body, a.encoded)
        for domain, b in self.domains.items():
            yield StatementKind.DOMAIN, domain.raw, Signed(b.number, b.body, b.encoded)
        for device, c in self.devices.items():
            yield StatementKind.DEVICE, device.raw, Signed(c.number, c.body, c.encoded)
        for device, d in self.revocations.items():
            yield StatementKind.REVOCATION, device.raw, Signed(d.number, d.body, d.encoded)

    def numbers(self) -> dict[str, int]:
        """The number of the newest statement of each subject, by "kind-subject"."""
        marks = {"account-": self.owner_number}
        if self.epochs:
            marks["epoch-"] = self.newest_epoch
        for kind, subject, signed in self.signed():
            marks[f"{kind.name.lower()}-{subject.hex()}"] = signed.number
        return marks

    def check_signed(self, found: Statement) -> None:
        """Raises Damaged unless an owner of the account has signed it."""
        if found.account != self.account:
            raise Damaged(f"{_name(found)}: belongs to another account")
        _signer(found, self.owners)

    def accept(self, found: Statement) -> None:
        """Take a statement whose signature has been checked, if it is newer than what is here."""
        match found.body:
            case pb.SlotBody():
                _keep(self.slots, SlotId(found.subject), found, found.body)
            case pb.EpochBody():
                _keep(self.epochs, found.number, found, found.body)
            case pb.DomainBody():
                _keep(self.domains, DomainId(found.subject), found, found.body)
            case pb.DeviceBody():
                _keep(self.devices, DeviceId(found.subject), found, found.body)
            case pb.RevocationBody():
                _keep(self.revocations, DeviceId(found.subject), found, found.body)
            case _:
                raise Damaged(f"{_name(found)}: does not belong into an account's list")


Key = TypeVar("Key")


def _keep(kept: dict[Key, Signed[Body]], key: Key, found: Statement, body: Body) -> None:
    if key not in kept or kept[key].number < found.number:
        kept[key] = Signed(found.number, body, found.encoded)


def fetch(appliance: Appliance) -> list[bytes]:
    """Everything the appliance hands out about the caller's account, checked by nobody yet."""
    encoded: list[bytes] = []
    token = ""
    while True:
        page = appliance.accounts.ListStatements(
            accounts_pb2.ListStatementsRequest(page_token=token)
        )
        encoded.extend(page.statements)
        token = page.next_page_token
        if not token:
            return encoded


def parse(encoded: Iterable[bytes]) -> list[Statement]:
    """Raises Damaged for what is no statement."""
    try:
        return [statement.parse(each) for each in encoded]
    except (StatementInvalid, Invalid) as error:
        raise Damaged(f"the appliance hands out a statement that is none: {error}") from None


def verify(found: Sequence[Statement], pinned: bytes, account: AccountId | None = None) -> Ledger:
    """The ledger of these statements.

    `pinned` is an owner key that the caller trusts; whoever it has passed the account on to is
    trusted too. Raises Untrusted if the account belongs to somebody else, Damaged for a statement
    that its owner did not sign: the appliance has changed it, by accident or on purpose.
    """
    accounts = sorted(
        (each for each in found if isinstance(each.body, pb.AccountBody)), key=_number
    )
    if not accounts:
        raise Damaged("the appliance hands out no account statement")
    owners = _owners(accounts)
    if pinned not in owners:
        owners = [*_predecessor(accounts[0], pinned), *owners]
    newest = accounts[-1]
    if account is not None and newest.account != account:
        raise Untrusted(f"the appliance speaks of account {newest.account}, not {account}")
    body = _account_body(newest)
    ledger = Ledger(newest.account, body.user, body.owner_key, newest.number, tuple(owners))
    # Revocations first: they say which certificates are final.
    for each in sorted(found, key=lambda one: one.kind is not StatementKind.REVOCATION):
        if each.account != ledger.account:
            raise Damaged(f"{_name(each)}: belongs to another account")
        if each.kind is not StatementKind.ACCOUNT and _stands(each, owners, ledger):
            ledger.accept(each)
    return ledger


def _stands(found: Statement, owners: Sequence[bytes], ledger: Ledger) -> bool:
    """Whether the statement counts. Raises Damaged if its owner has not signed it."""
    signer = _signer(found, owners)
    if signer == ledger.owner_key:
        return True
    match found.kind:
        case StatementKind.REVOCATION:
            return True  # nobody takes one back, so it is never made anew
        case StatementKind.DEVICE if DeviceId(found.subject) in ledger.revocations:
            return True  # the certificate of a revoked device is final
        case StatementKind.EPOCH:
            return False  # its vault key was handed on under a higher number
        case _:
            raise Damaged(f"{_name(found)}: is signed by an owner that has been succeeded")


def _signer(found: Statement, owners: Sequence[bytes]) -> bytes:
    """Which owner signed it, the newest asked first. Raises Damaged."""
    for owner in reversed(owners):
        try:
            found.verify(owner)
        except StatementInvalid:
            continue
        return owner
    raise Damaged(f"{_name(found)}: the account's owner has not signed it")


def _owners(accounts: Sequence[Statement]) -> list[bytes]:
    """The owner keys, oldest first, each made so by the one before. Raises Damaged."""
    owners: list[bytes] = []
    for each in accounts:
        body = _account_body(each)
        try:
            each.verify(body.owner_key)
        except StatementInvalid as error:
            raise Damaged(f"{_name(each)}: {error}") from None
        if owners and not _succeeds(each, owners[-1]):
            raise Damaged(f"{_name(each)}: its owner was not made so by the one before")
        owners.append(body.owner_key)
    return owners


def _predecessor(first: Statement, pinned: bytes) -> list[bytes]:
    if first.number > 1 and _succeeds(first, pinned):
        return [pinned]
    raise Untrusted(
        f"account {first.account}: its owner is neither the pinned one nor made so by it"
    )


def _succeeds(found: Statement, previous: bytes) -> bool:
    body = _account_body(found)
    message = succession_message(found.account, found.number, body.owner_key)
    return primitives.verifies(previous, message, body.succession)


def _account_body(found: Statement) -> pb.AccountBody:
    if not isinstance(found.body, pb.AccountBody):
        raise Damaged(f"{_name(found)}: is no account statement")
    return found.body


def _number(found: Statement) -> int:
    return found.number


def _name(found: Statement) -> str:
    subject = found.subject.hex() or found.account.hex
    return f"{found.kind.name.lower()} statement {subject} number {found.number}"


def check_not_older(
    marks: Mapping[str, int], ledger: Ledger, *, kinds: Iterable[StatementKind]
) -> None:
    """Raises Untrusted if the ledger lacks something that was seen before, of the kinds that it
    should show.
    """
    now = ledger.numbers()
    shown = {kind.name.lower() for kind in kinds}
    for mark, number in marks.items():
        if mark.partition("-")[0] in shown and now.get(mark, 0) < number:
            raise Untrusted(
                f"the appliance shows an older state than this machine has seen: {mark} number "
                f"{now.get(mark, 0)}, not {number}"
            )
