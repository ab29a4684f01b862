"""A name, once given, stays; every name can be a folder's, and no two are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backit.ids import ChunkId, DeviceId, DomainId, SnapshotId
from backitfs.catalogue import LATEST, Catalogue, Listed, name_of, time_of

NANO = 1_000_000_000


def listed(number: int, *, device: int = 1, label: str = "vm", second: int = 1_000_000) -> Listed:
    return Listed(
        id=SnapshotId(number.to_bytes(32)),
        device=DeviceId(device.to_bytes(16)),
        label=label,
        started=second * NANO,
        root=ChunkId(bytes(32)),
        domain=DomainId(bytes(16)),
    )


def nothing(_chunk: ChunkId) -> None:
    return None


def names(catalogue: Catalogue) -> dict[bytes, list[bytes]]:
    return {name: list(folder.volumes) for name, folder in catalogue.folders.items()}


def test_snapshots_are_named_by_their_time() -> None:
    catalogue = Catalogue(nothing)
    catalogue.update([listed(1, second=0), listed(2, second=1_795_000_000)])
    assert names(catalogue) == {b"vm": [b"1970-01-01T00:00:00Z", b"2026-11-18T11:06:40Z"]}
    assert catalogue.folders[b"vm"].latest.listed.id == SnapshotId((2).to_bytes(32))


def test_what_comes_changes_no_name() -> None:
    catalogue = Catalogue(nothing)
    catalogue.update([listed(1), listed(2)])
    before = names(catalogue)
    catalogue.update([listed(1), listed(2), listed(3), listed(4, device=2)])
    after = names(catalogue)
    assert after[b"vm"][:2] == before[b"vm"]
    assert len(set(after[b"vm"])) == 3
    assert len(after) == 2


def test_what_goes_changes_no_name_and_can_still_be_found_by_number() -> None:
    catalogue = Catalogue(nothing)
    catalogue.update([listed(1), listed(2)])
    first, second = catalogue.volumes
    catalogue.update([listed(2)])
    assert list(catalogue.folders[b"vm"].volumes) == [second.name]
    assert catalogue.volume(first.slot) is first
    catalogue.update([])
    assert catalogue.folders == {}


def test_slots_and_folders_never_collide() -> None:
    catalogue = Catalogue(nothing)
    # Ids that begin alike: only their last bytes differ.
    catalogue.update([listed(number, device=number % 7 + 1) for number in range(1, 400)])
    slots = [volume.slot for volume in catalogue.volumes]
    assert len(set(slots)) == 399
    assert 0 not in slots
    assert len({folder.number for folder in catalogue.folders.values()}) == 7


@given(label=st.text(max_size=300))
def test_every_label_becomes_a_name_that_a_folder_can_have(label: str) -> None:
    name = name_of(label)
    assert 0 < len(name) <= 222
    assert name not in (b".", b"..")
    assert not set(b"/\0") & set(name)


@given(nanoseconds=st.integers(-(2**63), 2**63 - 1))
def test_every_time_becomes_a_name(nanoseconds: int) -> None:
    assert time_of(nanoseconds)
    assert b"/" not in time_of(nanoseconds)
    assert time_of(nanoseconds) != LATEST
