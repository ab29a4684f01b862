"""Orders about a snapshot are numbered by what the appliance shows, if an owner has signed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.client import trash
from backit.client.account import Person, user_credential
from backit.errors import Damaged
from backit.v1 import snapshots_pb2
from tests.backitd.people import Person as Stranger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backit.ids import SnapshotId
    from tests.backit.client.household import Household

NOW = 1_800_000_000


@pytest.fixture
def saved(house: Household, tmp_path: Path) -> SnapshotId:
    (tmp_path / "file").write_text("content")
    found = house.save(tmp_path / "file").snapshot
    assert found is not None
    return found


@pytest.fixture
def owner(house: Household) -> Person:
    person = house.person
    credential = user_credential(person.user, person.keys)
    return Person(house.owner, credential, person.slot, person.root, house.ledger)


def test_orders_follow_each_other(house: Household, owner: Person, saved: SnapshotId) -> None:
    for _round in range(2):
        assert trash.forget(owner, saved, now=NOW) is not None
        assert house.history.all() == []
        trash.undelete(owner, saved, now=NOW)
        (found,) = house.history.all()
        assert found.id == saved


def by_a_stranger(house: Household, saved: SnapshotId) -> bytes:
    stranger = Stranger("stranger")
    stranger.account = house.person.account
    return stranger.order(saved.raw, 2**64 - 1, forgotten=False).encoded


def of_another_snapshot(house: Household, saved: SnapshotId) -> bytes:
    return house.person.order(bytes(reversed(saved.raw)), 5, forgotten=False).encoded


def of_another_kind(house: Household, _saved: SnapshotId) -> bytes:
    return house.machine.revocation().encoded


@pytest.mark.parametrize("lie", [by_a_stranger, of_another_snapshot, of_another_kind])
def test_an_order_that_no_owner_gave_about_it_is_not_believed(
    house: Household,
    owner: Person,
    saved: SnapshotId,
    lie: Callable[[Household, SnapshotId], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = snapshots_pb2.Snapshot(order=lie(house, saved))

    def lie_about_it(_request: snapshots_pb2.GetSnapshotRequest) -> snapshots_pb2.Snapshot:
        return shown

    monkeypatch.setattr(owner.appliance.snapshots, "GetSnapshot", lie_about_it)
    with pytest.raises(Damaged):
        trash.forget(owner, saved, now=NOW)
    assert [each.id for each in house.history.all()] == [saved]
