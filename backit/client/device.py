"""The keys of this machine as a device, and the files they lie in (0600).

A write-only device has `DeviceKeys` alone, which open nothing; a full one keeps a slot's secret as
well. Talking to the appliance is `devices`' business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backit.client import profile as files
from backit.client.home import read_private, remove_private, write_private
from backit.client.remote import Credential
from backit.crypto.keys import DomainKeys, SigningKey, SlotKeys
from backit.errors import Damaged, Invalid, NotFound
from backit.ids import AccountId, DeviceId, DomainId, SlotId

if TYPE_CHECKING:
    from backit.client.home import Home


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """What a device backs up with: its own key, its domain's, and the owner key that it trusts."""

    device: DeviceId
    account: AccountId
    signing: SigningKey
    domain: DomainKeys
    owner_key: bytes

    @property
    def credential(self) -> Credential:
        """How the device logs in."""
        return Credential(self.device.name, self.signing)

    def trust(self, owner_key: bytes) -> DeviceKeys:
        """The same keys, with the owner's successor pinned."""
        return replace(self, owner_key=owner_key)

    def save(self, home: Home, profile: str) -> None:
        document = {
            "version": files.VERSION,
            "device": self.device.hex,
            "account": self.account.hex,
            "signing_seed": self.signing.seed.hex(),
            "domain": self.domain.domain.hex,
            "domain_secret": self.domain.secret.hex(),
            "owner_key": self.owner_key.hex(),
        }
        write_private(home.device(profile), files.encode(document))

    @classmethod
    def load(cls, home: Home, profile: str) -> DeviceKeys:
        """Raises NotFound if this machine is no device of the profile."""
        path = home.device(profile)
        try:
            document = files.decode(path, read_private(path))
        except NotFound:
            raise NotFound(f"this machine is no device of profile {profile!r}") from None
        try:
            domain = DomainId.from_hex(document["domain"])
            return cls(
                DeviceId.from_hex(document["device"]),
                AccountId.from_hex(document["account"]),
                SigningKey(bytes.fromhex(document["signing_seed"])),
                DomainKeys(domain, bytes.fromhex(document["domain_secret"])),
                bytes.fromhex(document["owner_key"]),
            )
        except (KeyError, TypeError, ValueError, Invalid):
            raise Damaged(f"{path} does not hold a device's keys") from None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The slot of a full device: opens the account without a password."""

    slot: SlotId
    keys: SlotKeys

    @property
    def credential(self) -> Credential:
        """How a person logs in with it."""
        return Credential(self.slot.name, self.keys.login)

    def save(self, home: Home, profile: str) -> None:
        document = {
            "version": files.VERSION,
            "slot": self.slot.hex,
            "secret": self.keys.secret.hex(),
        }
        write_private(home.key_file(profile), files.encode(document))

    @classmethod
    def load(cls, home: Home, profile: str) -> KeyFile | None:
        """None if this machine is no full device."""
        path = home.key_file(profile)
        try:
            document = files.decode(path, read_private(path))
        except NotFound:
            return None
        try:
            slot = SlotId.from_hex(document["slot"])
            return cls(slot, SlotKeys(bytes.fromhex(document["secret"])))
        except (KeyError, TypeError, ValueError, Invalid):
            raise Damaged(f"{path} does not hold a slot's secret") from None


def forget(home: Home, profile: str) -> None:
    """This machine is no device any more: its keys go."""
    remove_private(home.key_file(profile))
    remove_private(home.device(profile))
