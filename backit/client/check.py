"""Checks that what the appliance keeps is whole: the chains of snapshots, every node, every chunk.

What is wrong comes out as findings that name the thing and the paths that suffer; nothing is
repaired. What has been opened here was really there and is what was saved; what was only asked for
is the appliance's word (DESIGN.md section 5).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.client.fetch import ChunkReader
from backit.engine.walk import Found
from backit.errors import BackitError
from backit.format import node as nodes
from backit.format.node import Node, split_key
from backit.v1 import chunks_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backit.client.history import History, Snapshot
    from backit.client.remote import Appliance
    from backit.client.vaults import Keyring
    from backit.ids import ChunkId, DomainId

ASK_AT_ONCE = 8192
OPEN_AT_ONCE = 1024
PATHS_KEPT = 20
# Data chunks of a domain that are opened in any case: where an appliance has lost one in 20 and
# says that it has them all, this meets a lost one with 95 %.
SAMPLED_MIN = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. `kind` is snapshot, receipt, series, domain, node or
    data.
    """

    kind: str
    name: str
    why: str
    paths: tuple[bytes, ...] = ()
    more_paths: int = 0


@dataclass(slots=True)
class Progress:
    """What has been looked at so far; read by others while it changes."""

    snapshots: int = 0
    nodes: int = 0
    chunks: int = 0
    opened_bytes: int = 0


@dataclass(slots=True)
class _Damage:
    """Why a chunk cannot be had, and who needs it."""

    kind: str
    why: str
    paths: set[bytes] = field(default_factory=set[bytes])
    more: int = 0

    def needed_by(self, path: bytes) -> None:
        if path in self.paths:
            return
        if len(self.paths) < PATHS_KEPT:
            self.paths.add(path)
        else:
            self.more += 1


class Check:
    """One check of everything that a person's account holds."""

    def __init__(self, appliance: Appliance, keyring: Keyring, history: History) -> None:
        self._appliance = appliance
        self._keyring = keyring
        self._history = history
        self.progress = Progress()

    def run(self, read_share: float = 0.0) -> Iterator[Finding]:
        """Every finding.

        `read_share` (0 to 1) of the data chunks is opened as well, at least SAMPLED_MIN.
        """
        everything, broken = self._history.readable(trashed=True)
        for name, error in broken:
            yield Finding("snapshot", name, str(error))
        yield from check_receipts(everything, self._appliance.receipt_key)
        yield from check_series(everything)
        kept = [each for each in everything if not each.trashed]
        self.progress.snapshots = len(everything)
        for domain in dict.fromkeys(each.domain for each in kept):
            members = [each for each in kept if each.domain == domain]
            yield from self._check_domain(domain, members, read_share)

    def _check_domain(
        self, domain: DomainId, members: Sequence[Snapshot], read_share: float
    ) -> Iterator[Finding]:
        try:
            keys = self._keyring.domain(domain)
        except BackitError as error:
            yield Finding("domain", domain.hex, str(error))
            return
        reader = ChunkReader(self._appliance, self._keyring, keys)
        try:
            data, damage = self._check_nodes(reader, [each.root for each in members])
            damage |= self._ask(domain, data)
            present = [chunk for chunk in data if chunk not in damage]
            damage |= self._open(reader, _sample(present, read_share))
            if damage:
                for root in {each.root for each in members}:
                    _blame(reader, root, damage)
        finally:
            reader.close()
        for chunk, found in sorted(damage.items()):
            paths = tuple(sorted(found.paths))
            yield Finding(found.kind, chunk.hex, found.why, paths, found.more)

    def _check_nodes(
        self, reader: ChunkReader, roots: Iterable[ChunkId]
    ) -> tuple[list[ChunkId], dict[ChunkId, _Damage]]:
        """Open every node once: the data chunks they use, and the nodes that do not open."""
        damage: dict[ChunkId, _Damage] = {}
        data: dict[ChunkId, None] = {}
        met = set(roots)
        waiting = list(met)
        while waiting:
            batch, waiting = waiting[-OPEN_AT_ONCE:], waiting[:-OPEN_AT_ONCE]
            for chunk, plain in reader.fetch(batch):
                try:
                    if isinstance(plain, BackitError):
                        raise plain
                    found = nodes.decode(plain, chunk)
                except BackitError as error:
                    damage[chunk] = _Damage("node", _why(chunk, error))
                    continue
                self.progress.nodes += 1
                below, used = _split(found)
                data.update(dict.fromkeys(used))
                fresh = [each for each in below if each not in met]
                met.update(fresh)
                waiting.extend(fresh)
        return list(data), damage

    def _ask(self, domain: DomainId, data: Sequence[ChunkId]) -> dict[ChunkId, _Damage]:
        lost: dict[ChunkId, _Damage] = {}
        for start in range(0, len(data), ASK_AT_ONCE):
            batch = data[start : start + ASK_AT_ONCE]
            answer = self._appliance.chunks.FindLost(
                chunks_pb2.FindLostRequest(
                    domain_id=domain.raw, chunk_ids=[chunk.raw for chunk in batch]
                )
            )
            for position in answer.lost:
                lost[batch[position]] = _Damage("data", "the appliance does not have it")
            self.progress.chunks += len(batch)
        return lost

    def _open(self, reader: ChunkReader, wanted: Sequence[ChunkId]) -> dict[ChunkId, _Damage]:
        broken: dict[ChunkId, _Damage] = {}
        for chunk, found in reader.chunks(wanted):
            if isinstance(found, BackitError):
                broken[chunk] = _Damage("data", _why(chunk, found))
            else:
                self.progress.opened_bytes += len(found)
        return broken


def check_receipts(snapshots: Iterable[Snapshot], pinned: bytes) -> Iterator[Finding]:
    """That the appliance still answers for when it took each snapshot. At most one finding."""
    doubtful = [each for each in snapshots if not each.is_attested(pinned)]
    if doubtful:
        why = f"{len(doubtful)} receipts, its own first, are not by the key pinned at pairing"
        yield Finding("receipt", doubtful[0].id.hex, why)


def check_series(snapshots: Iterable[Snapshot]) -> Iterator[Finding]:
    """That each series is one unbroken chain: every snapshot names the one before it."""
    series: dict[tuple[bytes, bytes], list[Snapshot]] = {}
    for each in snapshots:
        series.setdefault((each.device.raw, each.series.raw), []).append(each)
    for members in series.values():
        before: Snapshot | None = None
        for each in sorted(members, key=lambda snapshot: snapshot.counter):
            if why := _broken_link(before, each):
                yield Finding("series", each.series.hex, f"snapshot {each.id}: {why}")
            before = each


def _broken_link(before: Snapshot | None, each: Snapshot) -> str:
    expected = before.counter + 1 if before else 1
    if each.counter > expected:
        return f"it is number {each.counter} of its series, and number {expected} is missing"
    if each.counter < expected:
        return f"it is a second number {each.counter} of its series"
    if each.previous != (before.id if before else None):
        return "it does not follow the snapshot before it"
    return ""


def _why(chunk: ChunkId, error: BackitError) -> str:
    """What was wrong, without the name that the finding has anyway."""
    return str(error).removeprefix(f"chunk {chunk}: ").removeprefix(f"node {chunk}: ")


def _split(found: Node) -> tuple[set[ChunkId], set[ChunkId]]:
    """The nodes and the data chunks that a node uses."""
    references = set(found.references)
    if not found.is_leaf:
        return references, set()
    trees = {
        found.references[entry.extent_tree - 1]
        for part in found.message.parts
        for entry in part.entries
        if entry.extent_tree
    }
    return trees, references - trees


def _sample(chunks: Sequence[ChunkId], share: float) -> Sequence[ChunkId]:
    """So many of them, picked so that nobody can know which."""
    if share >= 1:
        return chunks
    count = max(-int(-len(chunks) * share // 1), min(SAMPLED_MIN, len(chunks)))
    return secrets.SystemRandom().sample(chunks, count)


def _blame(reader: ChunkReader, root: ChunkId, damage: Mapping[ChunkId, _Damage]) -> None:
    """Tell each damaged chunk which paths of this tree need it."""

    def visit(chunk: ChunkId, first_key: bytes) -> None:
        if chunk in damage:
            damage[chunk].needed_by(_path_of(first_key))
            return
        (found,) = reader.load([chunk])
        if not found.is_leaf:
            for child in found.message.children:
                visit(found.references[child.node], child.first_key)
            return
        for directory, entry in nodes.entries(found):
            met = Found(directory, entry, found)
            for used in _chunks_of(reader, met, damage):
                if used in damage:
                    damage[used].needed_by(met.path)

    visit(root, b"")


def _chunks_of(
    reader: ChunkReader, met: Found, damage: Mapping[ChunkId, _Damage]
) -> Iterator[ChunkId]:
    """What one entry's content needs: its data chunks, and the nodes of its extent tree."""
    table = met.leaf.references
    yield from (table[extent.chunk] for extent in met.entry.extents)
    waiting = [table[met.entry.extent_tree - 1]] if met.entry.extent_tree else []
    while waiting:
        chunk = waiting.pop()
        yield chunk
        if chunk in damage:
            continue
        (found,) = reader.load([chunk])
        if found.is_leaf:
            yield from found.references
        else:
            waiting.extend(found.references)


def _path_of(first_key: bytes) -> bytes:
    """Where the entries below a node begin; the root node's begin at the root."""
    if not first_key:
        return b"/"
    directory, name = split_key(first_key)
    return b"/" + directory.replace(b"\0", b"/") + name
