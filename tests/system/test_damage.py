"""Bits that flip and files that vanish on the box: named, never restored, healed if possible."""

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backit.format.magic import Kind
from tests import programs
from tests.fidelity import manifest
from tests.fidelity.manifest import Manifest
from tests.programs import Box, Output, Person
from tests.system import trees
from tests.system.forger import rehashed
from tests.system.packs import Stored, flip_bit, session_of, stored_records
from tests.system.sameness import assert_held, assert_same, contents


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box that each test may spoil."""
    with programs.running(tmp_path / "box") as found:
        yield found


@contextmanager
def at_rest(box: Box) -> Generator[None]:
    """The state folder is nobody's for a block."""
    assert box.stop() == 0
    yield
    box.start()


@dataclass(frozen=True)
class Saved:
    """A source with one snapshot, and where its records lie."""

    person: Person
    box: Box
    source: Path
    before: Manifest
    snapshot: str

    @property
    def place(self) -> str:
        return f"{self.snapshot}:{self.source}"

    def records(self, kind: Kind) -> list[Stored]:
        """The longest first."""
        session = session_of(self.box.state, self.snapshot)
        mine = (each for each in stored_records(self.box.state) if each.session == session)
        found = [each for each in mine if each.kind is kind]
        return sorted(found, key=lambda each: -each.place.length)

    def assert_named(self, output: Output, name: str) -> None:
        """The command failed because of this thing, and says so."""
        assert name in output.text + output.errors
        assert "Traceback" not in output.errors

    def assert_healed(self, tmp_path: Path) -> None:
        """What was damaged is whole again, in the old snapshot too."""
        self.person.restore(self.place, tmp_path / "healed")
        assert_held(self.before, tmp_path / "healed")
        assert self.person.ctl("--json", "check", "--read-data").summary["findings"] == 0


def save(person: Person, box: Box, source: Path) -> Saved:
    snapshot = person.backup(source)["snapshot"]
    return Saved(person, box, source, manifest.scan(source), snapshot)


@pytest.fixture
def saved(box: Box, newcomer: Person, source: Path) -> Saved:
    # However the account's key cuts the victim, its longest record is the longest of all.
    trees.plant(source, "saved", files=20, large=0)
    (source / "victim").write_bytes(trees.random_bytes("victim", 700 * trees.KIB))
    return save(newcomer, box, source)


def test_a_flipped_bit_in_content_costs_one_file(saved: Saved, box: Box, tmp_path: Path) -> None:
    victim = saved.records(Kind.DATA)[0]
    with at_rest(box):
        flip_bit(victim.file, victim.place.offset + victim.place.length // 2)
    output = saved.person.restore(saved.place, tmp_path / "restored", expect=3)
    (failed,) = output.named("failed")
    assert failed["path"] == str(tmp_path / "restored" / "victim")
    assert victim.place.chunk.hex in failed["why"]
    assert victim.file.name in box.log_text()
    expected = contents(saved.source)
    original = expected.pop("victim")
    assert contents(tmp_path / "restored") == expected
    with saved.person.popen("cat", f"{saved.place}/victim") as process:
        data, _errors = process.communicate(timeout=60)
        assert process.returncode == 1
    assert original.startswith(data)
    check = saved.person.ctl("--json", "check", "--read-data", expect=1)
    (finding,) = check.named("finding")
    assert (finding["kind"], finding["name"]) == ("data", victim.place.chunk.hex)
    assert [each["path"] for each in finding["paths"]] == [str(saved.source / "victim")]
    # Read again, it is sent again: the box knows by now that it lost it.
    (saved.source / "victim").touch()
    assert saved.person.backup(saved.source)["new_bytes"] > 0
    saved.assert_healed(tmp_path)


def test_a_record_of_a_later_version_is_named_and_nothing_is_guessed(
    saved: Saved, box: Box, tmp_path: Path
) -> None:
    victim = saved.records(Kind.DATA)[0]
    with at_rest(box):
        victim.replace(rehashed(victim.read(), 4, b"\2"))
    output = saved.person.restore(saved.place, tmp_path / "restored", expect=3)
    (failed,) = output.named("failed")
    assert victim.place.chunk.hex in failed["why"]
    assert "record of version 2" in box.log_text()
    expected = contents(saved.source)
    del expected["victim"]
    assert contents(tmp_path / "restored") == expected


def test_a_flipped_bit_in_a_node_is_named_and_the_rest_is_found(
    saved: Saved, box: Box, tmp_path: Path
) -> None:
    nodes = saved.records(Kind.NODE)
    with at_rest(box):
        for node in nodes:
            flip_bit(node.file, node.place.offset + node.place.length // 2)
    output = saved.person.restore(saved.place, tmp_path / "restored", expect=(1, 3))
    assert any(node.place.chunk.hex in output.errors + output.text for node in nodes)
    found = contents(tmp_path / "restored") if (tmp_path / "restored").exists() else {}
    assert found.items() <= contents(saved.source).items()
    check = saved.person.ctl("--json", "check", expect=1)
    assert {each["kind"] for each in check.named("finding")} == {"node"}
    # Nothing can be taken over from a tree that the box does not have: it is made again.
    shutil.rmtree(saved.person.home / "cache")
    newest = saved.person.backup(saved.source)["snapshot"]
    saved.person.restore(f"{newest}:{saved.source}", tmp_path / "newest")
    assert_same(saved.source, tmp_path / "newest")


@pytest.mark.parametrize("kind", Kind)
def test_what_is_lost_is_sent_again_by_the_next_backup_which_reads_nothing_else(
    saved: Saved, box: Box, tmp_path: Path, kind: Kind
) -> None:
    victims = saved.records(kind)
    with at_rest(box):
        for victim in victims if kind is Kind.NODE else victims[:1]:
            flip_bit(victim.file, victim.place.offset + victim.place.length // 2)
    saved.person.ctl("check", "--read-data", expect=1)
    again = saved.person.backup(saved.source)
    assert again["changed_files"] == (0 if kind is Kind.NODE else 1)
    assert again["stored_bytes"] > 0
    if kind is Kind.DATA:
        saved.assert_healed(tmp_path)
    # Folders above the source may have changed since: the nodes need not be quite the same.
    saved.person.restore(f"{again['snapshot']}:{saved.source}", tmp_path / "again")
    assert_same(saved.source, tmp_path / "again")


def test_files_that_shared_a_lost_chunk_are_read_again(
    box: Box, newcomer: Person, source: Path, tmp_path: Path
) -> None:
    # Together less than BUNDLE_MIN: one bundle, whatever the account's key for cuts is.
    trees.plant(source, "shared", files=40, large=0)
    saved = save(newcomer, box, source)
    (bundle,) = saved.records(Kind.DATA)
    with at_rest(box):
        flip_bit(bundle.file, bundle.place.offset + bundle.place.length // 2)
    check = saved.person.ctl("--json", "check", "--read-data", expect=1)
    (finding,) = check.named("finding")
    suffer = len(finding["paths"]) + finding["more_paths"]
    assert suffer == 40
    (saved.source / "folder 1" / "fresh").write_bytes(b"fresh")
    again = saved.person.backup(saved.source)
    assert again["changed_files"] == suffer + 1
    saved.person.restore(f"{again['snapshot']}:{saved.source}", tmp_path / "again")
    assert_same(saved.source, tmp_path / "again")


def test_a_flipped_bit_in_a_snapshot_hides_no_other(saved: Saved, box: Box, tmp_path: Path) -> None:
    second = saved.person.backup(saved.source)["snapshot"]
    third = saved.person.backup(saved.source)["snapshot"]
    (folder,) = (box.state / "store" / "accounts").glob(f"*/snapshots/{second}")
    with at_rest(box):
        flip_bit(folder / "body", 60)
    listed = saved.person.ctl("--json", "snapshots", expect=1)
    assert {each["id"] for each in listed.json["snapshots"]} == {saved.snapshot, third}
    saved.assert_named(saved.person.ctl("snapshots", expect=1), second)
    saved.assert_named(saved.person.ctl("ls", second[:10], expect=1), second)
    check = saved.person.ctl("--json", "check", expect=1)
    assert second in " ".join(each["name"] for each in check.named("finding"))
    for name in (saved.snapshot, third):
        saved.person.restore(f"{name}:{saved.source}", tmp_path / name)
        assert_same(saved.source, tmp_path / name)
    # The next backup needs only the one before it.
    saved.person.backup(saved.source)
    with at_rest(box):
        flip_bit(folder / "body", 60)
    assert len(saved.person.snapshots()) == 4


@pytest.mark.parametrize("part", ["header", "receipt"])
def test_a_damaged_part_of_a_snapshot_is_named_by_a_rebuild(
    saved: Saved, box: Box, part: str
) -> None:
    (folder,) = (box.state / "store" / "accounts").glob(f"*/snapshots/{saved.snapshot}")
    second = saved.person.backup(saved.source)["snapshot"]
    with at_rest(box):
        flip_bit(folder / part, 70)
        assert box.rebuild() == 0
    assert saved.snapshot in box.log_text()
    output = saved.person.ctl("--json", "snapshots", expect=(0, 1))
    assert second in {each["id"] for each in output.json["snapshots"]}
    saved.person.backup(saved.source)
    with at_rest(box):
        flip_bit(folder / part, 70)
        box.rebuild()
    assert len(saved.person.snapshots()) == 3


def test_a_damaged_slot_opens_nothing_and_the_kit_still_does(
    saved: Saved, box: Box, tmp_path: Path
) -> None:
    person = saved.person
    kit = person.ctl("--json", "recovery-kit").json
    person.ctl("logout")
    account = box.state / "store" / "accounts" / account_of(box, saved.snapshot)
    slot = max(account.glob("statements/slot-*"), key=lambda file: file.stat().st_size)
    whole = slot.read_bytes()
    with at_rest(box):
        flip_bit(slot, 150)
        box.rebuild()
    assert slot.read_bytes() == whole, "there are two of each, and one mends the other"
    both = (slot, account / "copies" / slot.name)
    with at_rest(box):
        for file in both:
            flip_bit(file, 150)
        box.rebuild()
    assert slot.name in box.log_text()
    refused = person.ctl("--json", "snapshots", expect=(1, 4))
    assert "Traceback" not in refused.errors
    # The machine needs no slot.
    (saved.source / "more").write_bytes(b"more")
    person.backup(saved.source)
    with at_rest(box):
        for file in both:
            flip_bit(file, 150)
        box.rebuild()
    person.restore(f"latest:{saved.source}", tmp_path / "restored")
    assert_same(saved.source, tmp_path / "restored")
    assert kit


def account_of(box: Box, snapshot: str) -> str:
    (folder,) = (box.state / "store" / "accounts").glob(f"*/snapshots/{snapshot}")
    return folder.parent.parent.name


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def spoil_directory(file: Path) -> None:
    flip_bit(file, file.stat().st_size - 100)


def spoil_head(file: Path) -> None:
    flip_bit(file, 5)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "truncated": truncate,
    "spoilt in its directory": spoil_directory,
    "spoilt in its head": spoil_head,
}


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pack_costs_what_is_in_it_until_it_is_sent_again(
    saved: Saved, box: Box, tmp_path: Path, damage: str, *, forgetful: bool
) -> None:
    other = saved.source / "in another pack"
    other.write_bytes(b"saved later")
    later = saved.person.backup(saved.source)["snapshot"]
    pack = saved.records(Kind.DATA)[0].file
    with at_rest(box):
        DAMAGES[damage](pack)
    output = saved.person.restore(f"{later}:{saved.source}", tmp_path / "restored", expect=(0, 3))
    found = contents(tmp_path / "restored")
    assert found["in another pack"] == b"saved later"
    assert found.items() <= contents(saved.source).items()
    failed = {Path(each["path"]).name for each in output.named("failed")}
    assert len(found) + len(failed) == len(contents(saved.source))
    if output.code:
        assert pack.name in box.log_text()
        check = saved.person.ctl("--json", "check", "--read-data", expect=1)
        assert {each["kind"] for each in check.named("finding")} == {"data"}
    else:
        assert damage.startswith("spoilt")
    if forgetful:
        # A machine that has lost its memory reads everything, and sends what is not there.
        shutil.rmtree(saved.person.home / "cache")
    newest = saved.person.backup(saved.source)["snapshot"]
    saved.person.restore(f"{newest}:{saved.source}", tmp_path / "newest")
    assert_same(saved.source, tmp_path / "newest")
    # A large file's chunks are the same in every snapshot; bundles depend on what else is there.
    saved.person.restore(f"{saved.place}/victim", tmp_path / "healed")
    assert contents(tmp_path / "healed") == {"victim": contents(saved.source)["victim"]}
