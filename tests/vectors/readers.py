"""How the code is asked about each object: one reader a folder.

A reader raises what the code raises; for a good case it also checks that what comes out is what the
case says, and that writing it again gives the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from backit.crypto import keys, passphrase, primitives
from backit.crypto.keys import (
    DomainKeys,
    RootKey,
    SigningKey,
    SlotKeys,
    VaultKey,
    WrapContext,
)
from backit.crypto.passphrase import Cost
from backit.crypto.primitives import Suite
from backit.format import message, node, pack, record, snapshot, statement
from backit.format.compression import Compressor
from backit.format.magic import Kind
from backit.format.padding import padded_length
from backit.format.record import Plain, Seal
from backit.format.statement import StatementKind
from backit.ids import AccountId, ChunkId, DeviceId, DomainId, SessionId
from tests.vectors.case import unhex

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vectors.case import Case, Scalar


class Recorded(Compressor):
    """Compresses to what the case says: vectors do not depend on a version of zstd."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self._payload = payload

    def compress(self, plaintext: primitives.Buffer) -> bytes | None:
        return None if self._payload == plaintext else self._payload


def domain_keys(case: Case) -> DomainKeys:
    domain = case.bytes("domain") if "domain" in case.fields else bytes(16)
    return DomainKeys(DomainId(domain), case.bytes("domain_secret"))


def read_keys(case: Case) -> None:
    secret = case.bytes("secret")
    made = KEYS_OF[case.name.partition("/")[2].removesuffix("-short")](secret)
    assert secret.hex() not in repr(made)
    found = {"secret": secret.hex(), "expect": case.expect, **values_of(made)}
    assert found == case.fields


KEYS_OF: dict[str, Callable[[bytes], RootKey | DomainKeys | SlotKeys | SigningKey | VaultKey]] = {
    "root": RootKey,
    "domain": lambda secret: DomainKeys(DomainId(bytes(16)), secret),
    "slot": SlotKeys,
    "device": SigningKey,
    "vault": lambda secret: VaultKey(1, secret),
}


def values_of(
    made: RootKey | DomainKeys | SlotKeys | SigningKey | VaultKey,
) -> dict[str, str | int]:
    match made:
        case RootKey():
            return {"public": made.owner.public.hex(), "wrap_key": made.wrap_key.hex()}
        case SlotKeys():
            return {"public": made.login.public.hex(), "slot_key": made.key.hex()}
        case SigningKey():
            return {"public": made.public.hex(), "cache_key": keys.cache_key(made).hex()}
        case VaultKey():
            return {"public": made.public.hex()}
        case DomainKeys():
            return {
                "data_id_key": made.data_id_key.hex(),
                "node_id_key": made.node_id_key.hex(),
                "content_key": made.content_key.hex(),
                "content_list_key": made.content_list_key.hex(),
                "boundary_key": made.boundary_key.hex(),
                "chunker_seed": made.chunker_seed,
            }


def read_passphrase(case: Case) -> None:
    cost = Cost(case.number("memory_kib"), case.number("passes"))
    stretched = passphrase.stretch(case.text("password"), case.bytes("salt"), cost)
    assert stretched == case.bytes("secret")


def read_slot_commitment(case: Case) -> None:
    slot = SlotKeys(case.bytes("secret"))
    found = slot.commitment(case.bytes("salt"), case.number("memory_kib"), case.number("passes"))
    assert found == case.bytes("commitment")


def read_wrapped(case: Case) -> None:
    account = AccountId(case.bytes("account"))
    context = WrapContext(
        account, case.number("kind"), case.bytes("subject"), case.number("number")
    )
    wrapped, key = case.bytes("wrapped"), case.bytes("key")
    found = primitives.unwrap(key, wrapped, context.associated())
    assert found == case.bytes("secret")
    nonce = wrapped[: primitives.WRAP_NONCE_BYTES]
    assert primitives.wrap(key, nonce, found, context.associated()) == wrapped


def read_session_key(case: Case) -> None:
    vault = VaultKey(1, case.bytes("vault_secret"))
    found = keys.open_session_key(vault, case.bytes("sealed_key"), case.bytes("commitment"))
    assert found == case.bytes("secret")
    assert keys.session_commitment(found) == case.bytes("commitment")


def read_login(case: Case) -> None:
    key = SigningKey(case.bytes("seed"))
    parts = case.bytes("challenge"), case.bytes("fingerprint"), case.text("name")
    signature = key.answer(*parts)
    assert keys.login_message(*parts) == case.bytes("message")
    assert signature == case.bytes("signature")
    assert primitives.verifies(key.public, case.bytes("message"), signature)


def read_succession(case: Case) -> None:
    account = AccountId(case.bytes("account"))
    found = keys.succession_message(account, case.number("number"), case.bytes("owner_key"))
    assert found == case.bytes("message")


def read_enrolment(case: Case) -> None:
    found = keys.enrolment_code(case.bytes("device_key"), case.bytes("box_key"))
    assert found == case.text("code")


def read_chunk_id(case: Case) -> None:
    made = DomainKeys(DomainId(bytes(16)), case.bytes("secret"))
    plaintext = case.bytes("plaintext")
    if "references" in case.fields:
        table = [ChunkId(unhex(each)) for each in case.list("references")]
        found = record.node_id(made, table, plaintext)
    else:
        found = record.data_id(made, plaintext)
    assert found.raw == case.bytes("id")


def read_id_text(case: Case) -> None:
    text = case.text("text")
    found = DeviceId.from_hex(text)
    assert found.raw == case.bytes("raw")
    assert (str(found), found.name) == (text, f"devices/{text}")
    assert DeviceId.from_name(found.name) == found


def read_padding(case: Case) -> None:
    assert [padded_length(length) for length in case.list("lengths")] == case.list("padded")


def read_statement(case: Case) -> None:
    encoded = case.bytes("statement")
    found = statement.parse(encoded)
    found.verify(case.bytes("signer"))
    kind, account = StatementKind(case.number("kind")), AccountId(case.bytes("account"))
    assert (found.kind, found.account) == (kind, account)
    assert found.number == case.number("number")
    assert fields_of(found.body) == unwrapped(case.table("body"))
    signer = SigningKey(case.bytes("seed"))
    assert statement.make(kind, account, found.number, found.body, signer) == found
    assert found.digest == primitives.digest(encoded)


def fields_of(body: statement.Body) -> dict[str, str | int]:
    """Every field that is not left out, bytes in hexadecimal."""
    listed = cast("list[tuple[object, object]]", body.ListFields())
    values = {str(getattr(field, "name", "")): value for field, value in listed}
    return {
        name: value.hex() if isinstance(value, bytes) else cast("str | int", value)
        for name, value in values.items()
    }


def unwrapped(values: dict[str, Scalar]) -> dict[str, Scalar]:
    return {
        name: value.replace("\n", "") if isinstance(value, str) else value
        for name, value in values.items()
    }


def read_record(case: Case) -> None:
    encoded, wanted = case.bytes("record"), ChunkId(case.bytes("chunk"))
    made, key = domain_keys(case), case.bytes("session_key")
    found = record.open_record(encoded, wanted, key, made)
    table = tuple(ChunkId(unhex(each)) for each in case.list("references"))
    assert found == Plain(Kind(case.number("kind")), table, case.bytes("plaintext"))
    if case.fields["stored"] != "ok":
        return  # nobody would have written it like this
    header = record.parse(encoded)
    assert record.references(encoded, header) == table
    assert header.encode() == encoded[: record.HEAD.size]
    session = SessionId(case.bytes("session"))
    suite = Suite(case.number("suite"))
    assert (header.suite, header.session, header.epoch) == (suite, session, case.number("epoch"))
    again = bytes(
        record.seal_record(
            Seal(suite, made.domain, header.epoch, session, key),
            wanted,
            found.plaintext,
            nonce=case.bytes("nonce"),
            compressor=Recorded(case.bytes("payload")),
            references=table if header.kind is Kind.NODE else None,
        )
    )
    assert again == encoded


def read_stored_record(case: Case) -> None:
    """As who holds no key reads it."""
    record.parse(case.bytes("record"))


def read_node(case: Case) -> None:
    table = tuple(ChunkId(unhex(each)) for each in case.list("references"))
    kind = Kind(case.number("kind")) if "kind" in case.fields else Kind.NODE
    plaintext, chunk = case.bytes("plaintext"), ChunkId(case.bytes("id"))
    found = node.decode(Plain(kind, table, plaintext), chunk)
    assert record.node_id(domain_keys(case), table, plaintext) == chunk
    assert message.encode(found.message) == plaintext
    assert found.references == table
    keys_found = (
        [node.entry_key(directory, entry.name) for directory, entry in node.entries(found)]
        if found.is_leaf
        else [child.first_key for child in found.message.children if child.first_key]
    )
    assert [key.hex() for key in keys_found] == case.list("keys")
    assert (node.first_key(found), node.last_key(found)) == (
        (keys_found[0], keys_found[-1]) if keys_found else (b"", b"")
    )
    assert [node.entry_key(*node.split_key(key)) for key in keys_found] == keys_found


def read_pack(case: Case) -> None:
    encoded = case.bytes("pack")
    foot = encoded[-pack.FOOT.size :]
    offset, length = pack.directory_range(foot, len(encoded))
    listed = encoded[offset : offset + length]
    found = pack.parse_directory(encoded[: pack.HEAD.size], listed, foot)
    account, kind = AccountId(case.bytes("account")), Kind(case.number("kind"))
    assert (found.account, found.kind) == (account, kind)
    assert [session.hex() for session in found.sessions] == case.list("sessions")
    records = [encoded[each.offset : each.offset + each.length] for each in found.places]
    assert [each.hex() for each in records] == case.list("records")
    for place, each in zip(found.places, records, strict=True):
        header = record.parse(each)
        assert (place.chunk, place.domain) == (header.chunk, header.domain)
    head = pack.encode_head(account, kind, case.bytes("random"))
    end = pack.encode_end(found.sessions, found.places, offset)
    assert head + b"".join(records) + end == encoded
    naming = pack.Naming(head)
    for each in records:
        naming.add(each)
    assert naming.finish(end).raw == case.bytes("name")


def read_snapshot(case: Case) -> None:
    header = statement.parse(case.bytes("header"))
    header.verify(case.bytes("device")) if case.is_good else None
    key = case.bytes("session_key")
    found = snapshot.open_body(header, case.bytes("body"), key)
    assert snapshot.snapshot_id(header).raw == case.bytes("id")
    assert [source.hex() for source in found.sources] == case.list("sources")
    assert message.encode(found) == case.bytes("plaintext")
    associated = snapshot.body_context(header.account, snapshot.header_body(header), header.number)
    again = snapshot.seal_body(
        found,
        associated,
        suite=Suite(case.number("suite")),
        key=key,
        nonce=case.bytes("nonce"),
    )
    assert again == case.bytes("body")
