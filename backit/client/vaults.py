"""The keyring of an unlocked account: vault keys of every epoch, domain keys, and so every session
key.

What it opens it takes from a `Ledger`, where every statement has been checked. No I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.crypto.keys import DomainKeys, RootKey, VaultKey, WrapContext, open_session_key
from backit.errors import Damaged, NotFound, StatementInvalid, WrongKey
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, DomainId

if TYPE_CHECKING:
    from backit.client.ledger import Ledger

SEALED_BOX = 1


def vault_context(account: AccountId, epoch: int) -> WrapContext:
    return WrapContext(account, StatementKind.EPOCH, b"", epoch)


def domain_context(account: AccountId, domain: DomainId, number: int) -> WrapContext:
    return WrapContext(account, StatementKind.DOMAIN, domain.raw, number)


class Keyring:
    """Opens sessions and domains for whoever holds the root key. Safe to share between threads."""

    def __init__(self, root: RootKey, ledger: Ledger) -> None:
        self.ledger = ledger
        self._root = root
        self._vaults = {epoch: self._open_vault(epoch) for epoch in ledger.epochs}
        self._domains: dict[DomainId, DomainKeys] = {}

    @property
    def account(self) -> AccountId:
        return self.ledger.account

    @property
    def vaults(self) -> dict[int, VaultKey]:
        """The vault keys by epoch. A root key that succeeded another has handed them on under new
        numbers.
        """
        return dict(self._vaults)

    def domain(self, wanted: DomainId) -> DomainKeys:
        """Raises NotFound; Damaged if the domain's secret does not open."""
        if wanted not in self._domains:
            signed = self.ledger.domains.get(wanted)
            if signed is None:
                raise NotFound(f"account {self.account} has no domain {wanted}")
            context = domain_context(self.account, wanted, signed.number)
            secret = self._unwrap(signed.body.wrapped_secret, context, f"domain {wanted}")
            self._domains[wanted] = DomainKeys(wanted, secret)
        return self._domains[wanted]

    def session_key(self, session: Statement) -> bytes:
        """The key of a backup run, once its device's signature has been checked.

        Raises Damaged, naming the session, whatever does not fit.
        """
        body = session.body
        if not isinstance(body, pb.SessionBody) or session.account != self.account:
            raise Damaged(
                f"a {session.kind.name.lower()} statement is no session of account {self.account}"
            )
        name = f"session {body.session_id.hex()}"
        device = self.ledger.devices.get(DeviceId(body.device_id))
        if device is None:
            raise Damaged(f"{name}: its device {body.device_id.hex()} is not one of the account")
        try:
            session.verify(device.body.device_key)
        except StatementInvalid as error:
            raise Damaged(f"{name}: {error}") from None
        if body.kem != SEALED_BOX:
            raise Damaged(
                f"{name}: its key is sealed in a way {body.kem} that this program does not know"
            )
        return self._open_session(name, body)

    def _open_session(self, name: str, body: pb.SessionBody) -> bytes:
        """Try the epoch's own vault key first, then the others: a succession renumbers them."""
        for epoch in sorted(self._vaults, key=lambda number: number != body.epoch):
            try:
                return open_session_key(self._vaults[epoch], body.sealed_key, body.commitment)
            except WrongKey:
                continue
        raise Damaged(f"{name}: its key does not open with the vault key of epoch {body.epoch}")

    def _open_vault(self, epoch: int) -> VaultKey:
        body = self.ledger.epochs[epoch].body
        name = f"epoch {epoch}"
        secret = self._unwrap(body.wrapped_vault_secret, vault_context(self.account, epoch), name)
        vault = VaultKey(epoch, secret)
        if not primitives.equal(vault.public, body.vault_key):
            raise Damaged(f"{name}: its secret is not that of its public key")
        return vault

    def _unwrap(self, wrapped: bytes, context: WrapContext, name: str) -> bytes:
        try:
            return primitives.unwrap(self._root.wrap_key, wrapped, context.associated())
        except WrongKey as error:
            raise Damaged(f"{name}: {error}") from None
