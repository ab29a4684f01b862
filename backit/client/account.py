"""An account, from the person's side: made, opened, its password changed, its keys rotated.

Whoever opens an account gets a `Person`: the root key, the ledger that its owner signed, and the
connection they came by. Statements are made and signed here and in `devices`. Passwords come in as
arguments; nothing is prompted, printed or written to files here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.client import ledger, slots
from backit.client.remote import Credential
from backit.client.vaults import Keyring, domain_context, vault_context
from backit.crypto import passphrase, primitives
from backit.crypto.keys import RootKey, SlotKeys, succession_message
from backit.crypto.passphrase import STANDARD, Cost
from backit.errors import Conflict, Damaged, NotFound, Untrusted, WrongKey
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DomainId, SlotId
from backit.v1 import accounts_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.client.ledger import Ledger
    from backit.client.remote import Appliance

SECRET_BYTES = 32


@dataclass(slots=True)
class Person:
    """Somebody whose account is open, over a connection that is logged in as them."""

    appliance: Appliance
    credential: Credential
    slot: SlotId
    root: RootKey = field(repr=False)
    ledger: Ledger

    @property
    def account(self) -> AccountId:
        return self.ledger.account

    def keyring(self) -> Keyring:
        return Keyring(self.root, self.ledger)

    def put(self, statements: Sequence[Statement]) -> None:
        """Have the appliance store statements, all or none, and take them into the ledger."""
        request = accounts_pb2.PutStatementsRequest(statements=[s.encoded for s in statements])
        self.appliance.accounts.PutStatements(request)
        for each in statements:
            if each.kind is not StatementKind.ACCOUNT:
                self.ledger.accept(each)


def user_credential(user: str, keys: SlotKeys) -> Credential:
    return Credential(f"user:{user}", keys.login)


def sign_up(
    appliance: Appliance, user: str, password: str, *, invite: str, now: int, cost: Cost = STANDARD
) -> Person:
    """Make an account: owner, password slot, first epoch. `now` in Unix seconds.

    Raises AlreadyExists, InviteNeeded.
    """
    account, root = AccountId(os.urandom(AccountId.LENGTH)), RootKey(os.urandom(SECRET_BYTES))
    slot = slots.password_slot(password, slots.new_id(), cost)
    body = pb.AccountBody(user=user, owner_key=root.owner.public, created=now)
    first = [
        statement.make(StatementKind.ACCOUNT, account, 1, body, root.owner),
        slots.make(slot, account, root, 1),
        _epoch(account, root, 1, os.urandom(SECRET_BYTES), now),
    ]
    request = accounts_pb2.CreateAccountRequest(
        account_id=account.raw, invite=invite, statements=[s.encoded for s in first]
    )
    appliance.accounts.CreateAccount(request)
    return open_with(appliance, user_credential(user, slot.keys), slot.keys)


def open_with_password(appliance: Appliance, user: str, password: str) -> Person:
    """Open an account. Raises LoginRefused for a wrong name or password."""
    challenge = appliance.challenge(f"user:{user}")
    cost = Cost(challenge.memory_kib, challenge.passes)
    keys = SlotKeys(passphrase.stretch(password, challenge.salt, cost))
    credential = user_credential(user, keys)
    appliance.login(credential, challenge)
    person = _open(appliance, credential, keys)
    if person.ledger.user.casefold() != user.casefold():
        raise Untrusted(
            f"the appliance answers for {user!r} with the account of {person.ledger.user!r}"
        )
    return person


def open_with(appliance: Appliance, credential: Credential, keys: SlotKeys) -> Person:
    """Open an account with a slot's secret: a key file's, a kit's, or a password's already
    stretched.
    """
    appliance.login(credential)
    return _open(appliance, credential, keys)


def open_with_kit(appliance: Appliance, secret: bytes) -> Person:
    """Open an account with the secret in a recovery kit. Raises LoginRefused."""
    keys = SlotKeys(secret)
    return open_with(appliance, Credential(slots.recovery_id(secret).name, keys.login), keys)


def reopen(appliance: Appliance, credential: Credential, slot: SlotId, root: RootKey) -> Person:
    """Open an account whose root key was kept since an earlier login."""
    return Person(appliance, credential, slot, root, _own_ledger(appliance, root))


def _open(appliance: Appliance, credential: Credential, keys: SlotKeys) -> Person:
    found = ledger.parse(ledger.fetch(appliance))
    try:
        opened = slots.unlock(found, keys)
    except WrongKey as error:
        # The login succeeded, so the key is right: the slot is not what it was when it was made.
        raise Damaged(f"the slot that {credential.name} logs in with: {error}") from None
    verified = _verified(found, opened.root, appliance.account)
    return Person(appliance, credential, opened.slot, opened.root, verified)


def _own_ledger(appliance: Appliance, root: RootKey) -> Ledger:
    return _verified(ledger.parse(ledger.fetch(appliance)), root, appliance.account)


def _verified(found: Sequence[Statement], root: RootKey, account: AccountId | None) -> Ledger:
    """The ledger, if whoever holds this root key is the owner of now."""
    verified = ledger.verify(found, root.owner.public, account)
    if not primitives.equal(verified.owner_key, root.owner.public):
        raise Untrusted(f"account {verified.account}: this root key is that of before its rotation")
    return verified


def change_password(person: Person, password: str, cost: Cost = STANDARD) -> None:
    """Replace the password's slot, and so the login key. The old password opens nothing any more.

    No remedy for a known password: who has the old slot and the old password has the root key. That
    is what `rotate` is for.
    """
    slot, number = _password_slot(person.ledger)
    new = slots.password_slot(password, slot, cost)
    person.put([slots.make(new, person.account, person.root, number + 1)])
    # The login ended with the slot that it was made with.
    person.credential, person.slot = user_credential(person.ledger.user, new.keys), slot
    person.appliance.login(person.credential)


def make_kit(person: Person, *, replace: bool) -> bytes:
    """Make a recovery slot and return its secret; with `replace`, all earlier kits end."""
    secret = os.urandom(SECRET_BYTES)
    new = slots.make(slots.recovery_slot(secret), person.account, person.root, 1)
    ended = [
        slots.remove(slot, person.account, person.root, signed.number + 1)
        for slot, signed in person.ledger.open_slots()
        if replace and signed.body.kind == pb.SLOT_KIND_RECOVERY
    ]
    person.put([new, *ended])
    return secret


def rotate_epoch(person: Person, *, now: int) -> int:
    """Begin a new epoch: what devices write from their next backup on is sealed to its key."""
    number = person.ledger.newest_epoch + 1
    person.put([_epoch(person.account, person.root, number, os.urandom(SECRET_BYTES), now)])
    return number


def rotate_root(person: Person, password: str, *, now: int, cost: Cost = STANDARD) -> int:
    """A new root key, owner, epoch and password slot; every other slot ends. Returns the new epoch.

    All that the old root key wrapped or signed and that is still needed is wrapped and signed anew;
    the vault keys of earlier epochs are handed on under new numbers, before the new epoch.
    """
    old, root, book = person.keyring(), RootKey(os.urandom(SECRET_BYTES)), person.ledger
    number = book.owner_number + 1
    slot, _number = _password_slot(book)
    new = slots.password_slot(password, slot, cost)
    statements = [
        _account(person, root, number, now),
        *_slots_again(person, root, new),
        *_epochs_again(old, root, now),
        *_domains_again(old, root),
        *_devices_again(book, root),
    ]
    request = accounts_pb2.PutStatementsRequest(statements=[s.encoded for s in statements])
    person.appliance.accounts.PutStatements(request)
    person.root, person.credential, person.slot = root, user_credential(book.user, new.keys), slot
    person.appliance.login(person.credential)
    person.ledger = _own_ledger(person.appliance, root)
    return person.ledger.newest_epoch


def _account(person: Person, root: RootKey, number: int, now: int) -> Statement:
    message = succession_message(person.account, number, root.owner.public)
    body = pb.AccountBody(
        user=person.ledger.user,
        owner_key=root.owner.public,
        created=now,
        succession=person.root.owner.sign(message),
    )
    return statement.make(StatementKind.ACCOUNT, person.account, number, body, root.owner)


def _slots_again(person: Person, root: RootKey, password: slots.NewSlot) -> Iterator[Statement]:
    """The password's slot with the new root key in it; every other one is gone, also those removed
    before.
    """
    for slot, signed in person.ledger.slots.items():
        if slot == password.slot:
            yield slots.make(password, person.account, root, signed.number + 1)
        else:
            yield slots.remove(slot, person.account, root, signed.number + 1)


def _epochs_again(old: Keyring, root: RootKey, now: int) -> Iterator[Statement]:
    number = old.ledger.newest_epoch
    secrets = [vault.secret for _epoch_number, vault in sorted(old.vaults.items())]
    for secret in [*secrets, os.urandom(SECRET_BYTES)]:
        number += 1
        yield _epoch(old.account, root, number, secret, now)


def _domains_again(old: Keyring, root: RootKey) -> Iterator[Statement]:
    for domain, signed in old.ledger.domains.items():
        secret = old.domain(domain).secret
        yield domain_statement(old.account, root, domain, secret, signed.number + 1)


def _devices_again(book: Ledger, root: RootKey) -> Iterator[Statement]:
    for device, signed in book.devices.items():
        if device in book.revocations:
            continue  # the certificate of a revoked device is final
        yield statement.make(
            StatementKind.DEVICE, book.account, signed.number + 1, signed.body, root.owner
        )


def _epoch(account: AccountId, root: RootKey, number: int, secret: bytes, now: int) -> Statement:
    context = vault_context(account, number)
    nonce = os.urandom(primitives.WRAP_NONCE_BYTES)
    body = pb.EpochBody(
        vault_key=primitives.box_public(secret),
        wrapped_vault_secret=primitives.wrap(root.wrap_key, nonce, secret, context.associated()),
        created=now,
    )
    return statement.make(StatementKind.EPOCH, account, number, body, root.owner)


def domain_statement(
    account: AccountId, root: RootKey, domain: DomainId, secret: bytes, number: int
) -> Statement:
    """A domain's secret, wrapped under the root key."""
    context = domain_context(account, domain, number)
    nonce = os.urandom(primitives.WRAP_NONCE_BYTES)
    wrapped = primitives.wrap(root.wrap_key, nonce, secret, context.associated())
    body = pb.DomainBody(domain_id=domain.raw, wrapped_secret=wrapped)
    return statement.make(StatementKind.DOMAIN, account, number, body, root.owner)


def _password_slot(book: Ledger) -> tuple[SlotId, int]:
    found = [
        (slot, signed.number)
        for slot, signed in book.open_slots()
        if signed.body.kind == pb.SLOT_KIND_PASSWORD
    ]
    if not found:
        raise NotFound(f"account {book.account} has no password")
    if len(found) > 1:
        raise Conflict(f"account {book.account} has {len(found)} passwords")
    return found[0]
