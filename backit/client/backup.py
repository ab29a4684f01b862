"""One backup run, from lease to commit, in two processes: one reads (reading.py), this one sends.

An interrupted run leaves nothing behind but chunks that the next run finds present. A run whose
relied-on chunks turn out to be gone is done once more, asking about each, and if need be a third
time without relying on anything.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backit.client import session as sessions
from backit.client.cache import Box, SeriesCache, WatermarkCache, as_far_as_readable
from backit.client.growth import Counts
from backit.client.job import Grown, Job, Start, Trust
from backit.client.problems import Problems
from backit.client.reading_host import ReadingHost
from backit.client.scan import Scanner
from backit.client.sender import Sender, Sent
from backit.crypto.keys import cache_key, encode_text
from backit.engine.merge import ParentCursor, is_unchanged
from backit.errors import Invalid, ReferencesMissing, Unavailable
from backit.format import message
from backit.format.magic import KIB, SNAPSHOT_BODY_LIMIT
from backit.format.v1 import statement_pb2 as pb
from backit.v1 import snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backit.client.cache import CachedHead
    from backit.client.device import DeviceKeys
    from backit.client.excludes import Excludes
    from backit.client.ledger import Ledger
    from backit.client.remote import Appliance
    from backit.client.scan import Batch
    from backit.client.session import Session
    from backit.engine.levels import ChildInfo
    from backit.engine.tree import Leaf
    from backit.ids import SnapshotId

# What a snapshot's body says beside paths, patterns and label: totals, heads of other series.
BODY_ROOM = 256 * KIB


@dataclass(frozen=True, slots=True)
class Source:
    """What to save: absolute paths, and what to leave out."""

    paths: tuple[bytes, ...]
    excludes: Excludes
    one_file_system: bool = False

    def scan(self, problems: Problems) -> Iterator[Batch]:
        scanner = Scanner(
            self.paths,
            excludes=self.excludes,
            one_file_system=self.one_file_system,
            report=problems.report,
        )
        return scanner.batches()


@dataclass(frozen=True, slots=True)
class Label:
    """What the snapshot will say about where it comes from. Raises Invalid for what is no text."""

    host: str
    program: str
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.host, self.program, *self.tags):
            encode_text(text, f"{text!a}: a label")


@dataclass(slots=True)
class Progress:
    """Where a run stands; read by others while it changes."""

    counts: Counts = field(default_factory=Counts)
    sent: Sent = field(default_factory=Sent)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did; `snapshot` is None after a dry run. `turned_back`: what makes one doubt that
    the appliance is what it was.
    """

    snapshot: SnapshotId | None
    totals: pb.Totals
    problems: Problems
    turned_back: tuple[str, ...] = ()


class Backup:
    """Backs one source up from one device."""

    def __init__(
        self,
        appliance: Appliance,
        device: DeviceKeys,
        ledger: Ledger,
        source: Source,
        cache_folder: Path,
        *,
        workers: int = 2,
    ) -> None:
        self._appliance = appliance
        self._device = device
        self._ledger = ledger
        self._source = source
        self._workers = workers
        self._cache_folder = cache_folder
        box = Box(cache_key(device.signing))
        self._series = sessions.series_of(device, source.paths)
        self._trees = SeriesCache(cache_folder, box, self._series)
        self._watermarks = WatermarkCache(cache_folder, box)
        self.progress = Progress()

    def run(self, label: Label, reading: ReadingHost | None = None) -> Result:
        """Save everything and commit. Raises what ended the run.

        `reading` is a process to begin with, if one has been started already.
        """
        length = len(message.encode(self._body(label)))
        if length > SNAPSHOT_BODY_LIMIT - BODY_ROOM:
            raise Invalid(f"paths, patterns and label of {length} bytes: too many for a snapshot")
        for trust in (Trust.ALL, Trust.ASKING):
            with contextlib.suppress(ReferencesMissing):
                return self._run(label, trust, reading or ReadingHost())
            reading = None
        return self._run(label, Trust.NOTHING, ReadingHost())

    def dry_run(self) -> Result:
        """Compare the scan with the last tree on this device; reads no content, sends nothing."""
        self.progress = Progress()
        counts, problems = self.progress.counts, Problems()
        cursor = ParentCursor(self._leaves(self._trees.head()))
        for batch in self._source.scan(problems):
            self._appliance.checkpoint()
            counts.path = batch.directory
            for name, found in batch.entries:
                old = cursor.find(batch.directory, name)
                if old is None or not is_unchanged(old[1][old[2]][1], found):
                    counts.changed(found)
            counts.met(batch.entries)
        return Result(None, self._totals(problems), problems)

    def _run(self, label: Label, trust: Trust, reading: ReadingHost) -> Result:
        started = time.time_ns()
        with reading:
            watermarks = self._watermarks.load()
            session = sessions.open_session(
                self._appliance, self._device, self._series, self._ledger
            )
            try:
                turned_back = sessions.restored(self._appliance.incarnation, watermarks)
                turned_back += sessions.turned_back(session, watermarks)
                result = self._save(session, reading, label, started, trust=trust)
            except BaseException:
                self._give_back(session)
                raise
        counter = session.head.counter + 1 if session.head else 1
        watermarks.series.add(series_id=self._series.raw, counter=counter)
        try:
            self._watermarks.save(watermarks)
        except OSError as error:
            self._not_remembered(result.problems, (error.strerror or str(error)).lower())
        return replace(result, turned_back=(*turned_back, *result.turned_back))

    def _save(
        self,
        session: Session,
        reading: ReadingHost,
        label: Label,
        started: int,
        *,
        trust: Trust,
    ) -> Result:
        head = session.head.snapshot if session.head else None
        grown = self._send(session, reading, Start(head, trust))
        body = self._body(label)
        body.started, body.ended = started, time.time_ns()
        body.totals.CopyFrom(self._totals(grown.problems, grown.root))
        snapshot, doubts = sessions.commit(
            self._appliance,
            self._device,
            session,
            grown.root.chunk,
            body,
            complete=not grown.problems.failure_count,
        )
        why = reading.committed(snapshot, self.progress.sent.new_bytes)
        if why:
            self._not_remembered(grown.problems, why)
        return Result(snapshot, body.totals, grown.problems, tuple(doubts))

    def _send(self, session: Session, reading: ReadingHost, start: Start) -> Grown:
        """Everything below the root that this returns is on the appliance, and durable."""
        domain = self._device.domain
        sender = Sender(self._appliance, session.lease, session.seal, domain, workers=self._workers)
        try:
            self.progress = Progress(sent=sender.sent)
            grown = reading.grow(self._job(), start, sender, self.progress.counts)
            sender.close()
        except BaseException:
            sender.abort()
            raise
        return grown

    def _job(self) -> Job:
        return Job(
            paths=self._source.paths,
            patterns=tuple(self._source.excludes.patterns),
            skip_caches=self._source.excludes.skip_caches,
            one_file_system=self._source.one_file_system,
            domain=self._device.domain.domain,
            domain_secret=self._device.domain.secret,
            cache_key=cache_key(self._device.signing),
            cache_folder=self._cache_folder,
            series=self._series,
        )

    def _not_remembered(self, problems: Problems, why: str) -> None:
        """The snapshot stands all the same."""
        problems.skipped(
            os.fsencode(self._cache_folder), f"what the next run would go by was not written: {why}"
        )

    def _body(self, label: Label) -> pb.SnapshotBody:
        """What is known of it beforehand."""
        return pb.SnapshotBody(
            sources=self._source.paths,
            host=label.host,
            tags=label.tags,
            excludes=[os.fsencode(pattern) for pattern in self._source.excludes.patterns],
            program=label.program,
        )

    def _leaves(self, parent: CachedHead | None) -> Iterator[Leaf]:
        return as_far_as_readable(self._trees.leaves(parent.root)) if parent else iter(())

    def _totals(self, problems: Problems, root: ChildInfo | None = None) -> pb.Totals:
        """Without a root, what the scan has met."""
        counts, sent = self.progress.counts, self.progress.sent
        return pb.Totals(
            entries=root.count if root else counts.entries,
            files=counts.files,
            bytes=root.size if root else counts.content_bytes,
            changed_files=counts.changed_files,
            new_bytes=sent.new_bytes,
            stored_bytes=sent.stored_bytes,
            failed_files=problems.failure_count,
        )

    def _give_back(self, session: Session) -> None:
        """Best effort: a lease that is not given back ends by itself."""
        request = snapshots_pb2.DeleteLeaseRequest(name=session.lease)
        with self._appliance.tidying():
            try:
                self._appliance.snapshots.DeleteLease(request)
            except Unavailable:
                if not self._appliance.is_leaving:
                    raise
                # The interrupt that brought us here ended what was under way, this call too.
                self._appliance.snapshots.DeleteLease(request)
