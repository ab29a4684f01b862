"""The chain of a series: every break in it is found, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from backit.client.check import check_series
from backit.client.history import Snapshot
from backit.crypto.keys import SigningKey
from backit.format import statement
from backit.format.snapshot import snapshot_id
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, ChunkId, DeviceId, DomainId, SeriesId, SnapshotId

if TYPE_CHECKING:
    from collections.abc import Callable


SIGNING = SigningKey(bytes(32))


def make(series: bytes, counter: int, previous: SnapshotId | None) -> Snapshot:
    body = pb.SnapshotHeaderBody(
        device_id=bytes(16),
        series_id=series,
        previous=previous.raw if previous else b"",
        session_id=bytes(16),
        domain_id=bytes(16),
        root=bytes(32),
        sealed_hash=bytes(32),
        complete=True,
    )
    header = statement.make(StatementKind.SNAPSHOT, AccountId(bytes(16)), counter, body, SIGNING)
    return Snapshot(
        id=snapshot_id(header),
        header=header,
        device=DeviceId(bytes(16)),
        label="laptop",
        series=SeriesId(series),
        counter=counter,
        previous=previous,
        received=counter,
        complete=True,
        trashed=False,
        root=ChunkId(bytes(32)),
        domain=DomainId(bytes(16)),
        body=pb.SnapshotBody(),
    )


def chain(length: int, series: bytes = bytes(16)) -> list[Snapshot]:
    found: list[Snapshot] = []
    for counter in range(1, length + 1):
        found.append(make(series, counter, found[-1].id if found else None))
    return found


def test_whole_chains_have_no_findings() -> None:
    both = [*chain(5), *chain(3, bytes([1]) * 16)]
    assert list(check_series(reversed(both))) == []
    assert list(check_series([])) == []


def without_the_third(found: list[Snapshot]) -> list[Snapshot]:
    return found[:2] + found[3:]


def without_the_first(found: list[Snapshot]) -> list[Snapshot]:
    return found[1:]


def with_another_third(found: list[Snapshot]) -> list[Snapshot]:
    return [*found, make(bytes(16), 3, found[0].id)]


def with_a_swapped_predecessor(found: list[Snapshot]) -> list[Snapshot]:
    return [*found[:3], dataclasses.replace(found[3], previous=found[1].id), *found[4:]]


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (without_the_third, "number 3 is missing"),
        (without_the_first, "number 1 is missing"),
        (with_another_third, "second number 3"),
        (with_a_swapped_predecessor, "does not follow"),
    ],
)
def test_a_break_is_named(break_it: Callable[[list[Snapshot]], list[Snapshot]], why: str) -> None:
    findings = list(check_series(break_it(chain(5))))
    assert any(why in finding.why for finding in findings)
    assert {finding.name for finding in findings} == {bytes(16).hex()}
