"""Files that cannot be read, change or vanish while they are saved cost nobody the rest."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.patience import until
from tests.programs import Person
from tests.system import trees
from tests.system.sameness import assert_same, contents
from tests.system.trees import MIB

# Even root has to obey the modes of files then.
NO_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")

# Writes the file full of one byte, in place, then of the next one, and so on.
REWRITER = """
import itertools, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for generation in itertools.cycle(range(1, 256)):
    for at in range(0, int(sys.argv[2]), 65536):
        os.pwrite(fd, bytes([generation]) * 65536, at)
"""
# Folders with finished files appear in the first place, made in the second, and vanish again.
CHURNER = """
import itertools, os, shutil, sys
for number in itertools.count():
    made, shown = (f"{place}/{number % 40:02}" for place in (sys.argv[2], sys.argv[1]))
    os.makedirs(made + "/below")
    for each in ("one", "two", "below/three"):
        with open(f"{made}/{each}", "wb") as file:
            file.write(os.urandom(9_000))
    shutil.rmtree(shown, ignore_errors=True)
    os.rename(made, shown)
"""


@contextmanager
def busy(script: str, *arguments: str | Path) -> Generator[None]:
    """Have a Python script at work for a block."""
    worker = subprocess.Popen((sys.executable, "-c", script, *map(str, arguments)))
    try:
        yield
        assert worker.poll() is None, "it was to work for as long as the block"
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


def test_an_unreadable_file_is_reported_and_everything_else_saved(
    anna: Person, source: Path, tmp_path: Path
) -> None:
    trees.plant(source, "unreadable")
    (source / "locked").write_bytes(b"nobody reads this")
    (source / "locked").chmod(0)
    (source / "closed").mkdir()
    (source / "closed" / "inside").write_bytes(b"nor this")
    (source / "closed").chmod(0)
    reader = replace(anna, prefix=NO_OVERRIDE) if os.geteuid() == 0 else anna
    try:
        output = reader.ctl("--json", "backup", source, expect=3)
    finally:
        (source / "closed").chmod(0o700)
    failed = {each["path"]: each["why"] for each in output.named("failed")}
    assert set(failed) == {str(source / "locked"), str(source / "closed")}
    assert all("ermission" in why for why in failed.values())
    assert output.summary["failed"] == 2
    assert anna.snapshots()[-1]["complete"] is False
    anna.restore(f"latest:{source}", tmp_path / "restored")
    expected = contents(source)
    del expected["closed/inside"], expected["locked"]
    assert contents(tmp_path / "restored") == expected
    # What can be read again is saved again, and the snapshot is whole.
    (source / "locked").chmod(0o600)
    again = anna.backup(source)
    assert (again["failed"], again["changed_files"]) == (0, 2)
    anna.restore(f"latest:{source}", tmp_path / "later")
    assert_same(source, tmp_path / "later")


def test_a_socket_is_reported_and_harms_nothing(anna: Person, source: Path, tmp_path: Path) -> None:
    trees.plant(source, "socket", files=3, large=0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "listening"))
    output = anna.ctl("backup", source)
    assert "listening: socket" in output.errors
    anna.restore(f"latest:{source}", tmp_path / "restored")
    assert_same(source, tmp_path / "restored")


def test_a_file_that_changes_is_consistent_or_reported(
    anna: Person, source: Path, tmp_path: Path
) -> None:
    size = 24 * MIB
    changing = source / "changing"
    changing.write_bytes(b"\1" * size)
    trees.plant(source, "changing", files=20, large=0)
    with busy(REWRITER, changing, str(size)):
        until(lambda: changing.read_bytes()[:1] > b"\2", "the file changes")
        output = anna.ctl("--json", "backup", source, expect=(0, 3))
    anna.restore(f"latest:{source}", tmp_path / "restored")
    restored = contents(tmp_path / "restored")
    generations = set(restored.pop("changing"))
    original = contents(source)
    del original["changing"]
    assert restored == original
    if output.code:
        (failed,) = output.named("failed")
        assert failed["path"] == str(changing)
        (listed,) = anna.ctl("--json", "ls", f"latest:{changing}").json["entries"]
        assert listed["inconsistent"]
    else:
        assert len(generations) == 1
    # Nobody writes any more: now it is saved whole.
    anna.backup(source)
    anna.restore(f"latest:{source}", tmp_path / "later")
    assert_same(source, tmp_path / "later")


def test_files_that_come_and_go_do_not_fail_a_backup(
    anna: Person, source: Path, tmp_path: Path
) -> None:
    trees.plant(source, "churn", files=200, large=0)
    (source / "churn").mkdir()
    with busy(CHURNER, source / "churn", tmp_path / "made"):
        until((source / "churn" / "39").exists, "files come and go")
        for _ in range(3):
            assert anna.backup(source)["failed"] == 0
    anna.restore(f"latest:{source}", tmp_path / "restored")
    kept = {path: data for path, data in contents(source).items() if not path.startswith("churn/")}
    restored = contents(tmp_path / "restored")
    assert {path: data for path, data in restored.items() if not path.startswith("churn/")} == kept
    anna.backup(source)
    anna.restore(f"latest:{source}", tmp_path / "later")
    assert_same(source, tmp_path / "later")
