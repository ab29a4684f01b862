"""From a name to a challenge, and from its signature to a token.

Unknown names look and cost like known ones: the same lookups, a salt that stays the same, a
signature checked against a key that nobody has. Which logins a new statement ends is decided here
too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.crypto.keys import login_message
from backit.crypto.passphrase import SALT_BYTES, STANDARD, Cost
from backit.errors import DeviceRevoked, LoginRefused, NotFound
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2
from backit.ids import AccountId, DeviceId, SlotId
from backitd.auth.challenges import User
from backitd.auth.principals import Device, Person
from backitd.store.rules import user_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.format.statement import Statement
    from backitd.auth.buckets import Buckets
    from backitd.auth.challenges import Challenges, Claimant
    from backitd.auth.principals import Caller, Principal
    from backitd.auth.tokens import Issued, Tokens
    from backitd.store import Store

log = logging.getLogger(__name__)

NOBODY = AccountId(bytes(16))


@dataclass(frozen=True, slots=True)
class Stretching:
    """What a user's password is stretched with."""

    salt: bytes
    cost: Cost


@dataclass(frozen=True, slots=True)
class Identity:
    """What a claimant would have to prove, and who they are if they do."""

    key: bytes
    principal: Principal | None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Decoy:
    """What unknown names are answered with, from a secret of the appliance: always the same."""

    secret: bytes = field(repr=False)

    def salt(self, user: str) -> bytes:
        """The same for all spellings of a name, as for known users."""
        named = b"salt\0" + user_key(user).encode()
        return primitives.keyed_digest(self.secret, named)[:SALT_BYTES]

    def key(self) -> bytes:
        """A public key whose secret half can be derived by nobody else."""
        return primitives.signing_public(primitives.keyed_digest(self.secret, b"login key\0"))


class Logins:
    """The way in for persons and devices."""

    def __init__(
        self,
        store: Store,
        *,
        challenges: Challenges,
        tokens: Tokens,
        names: Buckets,
        decoy: Decoy,
        ca_fingerprint: bytes,
    ) -> None:
        self._store = store
        self._challenges = challenges
        self._tokens = tokens
        self._names = names
        self._decoy = decoy
        self._decoy_key = decoy.key()
        self._stand_in = NOBODY
        self.ca_fingerprint = ca_fingerprint

    def challenge(self, claimant: Claimant) -> tuple[bytes, Stretching | None]:
        """A challenge, and for a user what the password slot needs."""
        stretching = self._stretching(claimant.user) if isinstance(claimant, User) else None
        return self._challenges.give(claimant), stretching

    def log_in(self, challenge: bytes, signature: bytes) -> Issued:
        """A token for whoever signed. Raises LoginRefused, DeviceRevoked or Throttled."""
        claimant = self._challenges.take(challenge)
        name = "" if claimant is None else claimant.name
        limited = user_key(name)
        self._names.take(limited)
        identity = self._identity(claimant)
        message = login_message(challenge, self.ca_fingerprint, name)
        signed = primitives.verifies(identity.key, message, signature)
        if not signed or identity.principal is None:
            raise LoginRefused("the login was refused")
        self._names.give_back(limited)
        if identity.revoked:
            raise DeviceRevoked(f"{identity.principal.name} was revoked")
        issued = self._tokens.issue(identity.principal)
        # A statement may have ended this login while it was made. Whoever stores one ends the
        # tokens after storing it, and we look again after issuing: one of the two sees the other.
        if self._identity(claimant) != identity:
            self._tokens.end(issued.caller)
            raise LoginRefused("the login was refused")
        log.info("login of %s to account %s", identity.principal.name, identity.principal.account)
        return issued

    def statements_stored(self, statements: Sequence[Statement], by: Caller) -> None:
        """End the logins that these statements end, save the one they came with."""
        for statement in statements:
            ended = self._tokens.end_where(partial(ends_login, statement), spare=by)
            if ended:
                log.info(
                    "%d logins of account %s ended by a new %s statement",
                    ended,
                    statement.account,
                    statement.kind.name.lower(),
                )

    def _stretching(self, user: str) -> Stretching:
        decoy = Stretching(self._decoy.salt(user), STANDARD)
        _account, slot = self._password_slot(user)
        if slot is None:
            return decoy
        return Stretching(slot.salt, Cost(slot.memory_kib, slot.passes))

    def _password_slot(self, user: str) -> tuple[AccountId, statement_pb2.SlotBody | None]:
        """For an unknown user somebody else's slot is looked up, so that it takes as long."""
        found = self._store.find_user(user)
        account = self._stand_in if found is None else found.account
        try:
            self._store.account(account)  # reads what find_user reads of a known user
            slot = self._store.password_slot(account)
        except NotFound:
            slot = None
        if found is None or slot is None or not isinstance(slot.body, statement_pb2.SlotBody):
            return account, None
        self._stand_in = account
        return account, slot.body

    def _identity(self, claimant: Claimant | None) -> Identity:
        found: Identity | None = None
        match claimant:
            case User():
                found = self._user(claimant.user)
            case SlotId():
                found = self._slot(claimant)
            case DeviceId():
                found = self._device(claimant)
            case None:
                pass
        return found or Identity(self._decoy_key, None)

    def _user(self, user: str) -> Identity | None:
        account, slot = self._password_slot(user)
        if slot is None:
            return None
        return Identity(slot.login_key, Person(account, SlotId(slot.slot_id)))

    def _slot(self, slot: SlotId) -> Identity | None:
        found = self._store.slot(slot)
        if found is None:
            return None
        account, statement = found
        if not isinstance(statement.body, statement_pb2.SlotBody):
            return None
        return Identity(statement.body.login_key, Person(account, slot))

    def _device(self, device: DeviceId) -> Identity | None:
        row = self._store.device(device)
        if row is None or not isinstance(row.statement.body, statement_pb2.DeviceBody):
            return None
        key = row.statement.body.device_key
        return Identity(key, Device(row.account, device), revoked=row.revoked is not None)


def ends_login(statement: Statement, principal: Principal) -> bool:
    """Whether a login of `principal` has to be made anew once the statement holds.

    A changed slot or device has another key; a revoked device has none; with a new owner key every
    person proves themselves again.
    """
    if statement.account != principal.account:
        return False
    match statement.kind, principal:
        case StatementKind.ACCOUNT, Person():
            return statement.number > 1
        case StatementKind.SLOT, Person():
            return statement.subject == principal.slot.raw
        case ((StatementKind.DEVICE | StatementKind.REVOCATION), Device()):
            return statement.subject == principal.device.raw
        case _:
            return False
