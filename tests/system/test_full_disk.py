"""A disk that is full, the box's or the person's: a clear end, nothing lost, it goes on later."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.programs import Box, Person
from tests.system import trees
from tests.system.sameness import assert_same, contents, unchanged
from tests.system.trees import KIB, MIB

pytestmark = pytest.mark.root

# Small packs: room for a whole one has to be there before it is begun.
CONFIG = """
[store]
pack_bytes = 2097152
"""


class Disk:
    """A file system in memory whose size can be changed."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir()
        self.folder = folder
        options = f"size={size}"
        subprocess.run(("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder), check=True)

    def resize(self, size: int) -> None:
        options = f"remount,size={size}"
        subprocess.run(("mount", "-o", options, self.folder), check=True)

    def fill(self) -> Path:
        """Use up every byte; returns the file that has them."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for piece in (MIB, 4 * KIB):
                try:
                    while file.write(bytes(piece)):
                        pass
                except OSError:
                    continue
        return filler

    def unmount(self) -> None:
        subprocess.run(("umount", self.folder), check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", 24 * MIB)
    try:
        yield made
    finally:
        made.unmount()


@pytest.fixture
def box(disk: Disk, tmp_path: Path) -> Iterator[Box]:
    """A box on the small disk."""
    (tmp_path / "config.toml").write_text(CONFIG)
    arguments = ("--config", str(tmp_path / "config.toml"))
    with programs.running(disk.folder / "box", *arguments) as found:
        yield found


def test_a_box_that_runs_full_keeps_what_it_has_and_goes_on_later(
    newcomer: Person, source: Path, disk: Disk, tmp_path: Path
) -> None:
    small, large = source / "small", source / "large"
    for folder in (small, large):
        folder.mkdir()
    trees.plant(small, "full", large=2 * MIB)
    (large / "file").write_bytes(trees.random_bytes("full", 45 * MIB))
    newcomer.backup(small)
    output = newcomer.ctl("--json", "backup", large, expect=1)
    assert output.reason == "DISK_FULL"
    (listed,) = newcomer.snapshots()
    newcomer.restore(f"{listed['id']}:{small}", tmp_path / "restored")
    assert_same(small, tmp_path / "restored")
    # All that is left is what the packs that were thrown away had reserved.
    assert newcomer.ctl("--json", "status").json["free_bytes"] < 10 * MIB
    # What needs no room, or little, still works.
    newcomer.ctl("forget", listed["id"])
    newcomer.ctl("undelete", listed["id"])
    disk.resize(128 * MIB)
    summary = newcomer.backup(large)
    assert 20 * MIB < summary["stored_bytes"] < 36 * MIB
    newcomer.restore(f"latest:{large}", tmp_path / "large")
    assert_same(large, tmp_path / "large")
    assert newcomer.ctl("--json", "check", "--read-data").summary["findings"] == 0


def test_a_box_whose_disk_others_fill_to_the_last_byte_recovers(
    box: Box, newcomer: Person, source: Path, disk: Disk, tmp_path: Path
) -> None:
    trees.plant(source, "filled", large=MIB)
    newcomer.backup(source)
    filler = disk.fill()
    (source / "more").write_bytes(trees.random_bytes("more", 300 * KIB))
    for _ in range(2):
        output = newcomer.ctl("--json", "backup", source, expect=1)
        assert output.reason == "DISK_FULL"
        assert "the appliance's disk" in output.errors
    assert len(newcomer.snapshots()) == 1
    newcomer.restore(f"latest:{source}/large", tmp_path / "restored")
    assert (tmp_path / "restored" / "large").read_bytes() == (source / "large").read_bytes()
    filler.unlink()
    newcomer.backup(source)
    newcomer.restore(f"latest:{source}", tmp_path / "later")
    assert_same(source, tmp_path / "later")
    assert box.stop() == 0
    box.start()
    assert newcomer.ctl("--json", "check", "--read-data").summary["findings"] == 0


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with programs.running(tmp_path_factory.mktemp("roomy")) as found:
        yield found


def test_a_target_that_runs_full_has_whole_files_or_none_and_goes_on_later(
    roomy: Box, source: Path, disk: Disk, tmp_path: Path
) -> None:
    trees.plant(source, "target", files=200, large=30 * MIB)
    person = Person(tmp_path / "home")
    person.joins(roomy.unix)
    person.backup(source)
    target = disk.folder / "target"
    with unchanged(source):
        output = person.ctl("--json", "restore", f"latest:{source}", "--to", target, expect=1)
    assert output.reason == "TARGET_FULL"
    assert "this machine" in output.errors
    found = contents(target)
    assert found.items() <= contents(source).items()
    assert "large" not in found
    disk.resize(128 * MIB)
    person.restore(f"latest:{source}", target)
    assert_same(source, target)
