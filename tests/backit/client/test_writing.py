"""The processes that write small files for a restore: how they begin, fail and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backit.client.imprint import Metadata
from backit.client.orders import DIRECTORIES_MAX, Order
from backit.client.whole import Whole
from backit.client.writing_host import FILES_MIN, WritingHost, WritingHosts
from backit.crypto import primitives
from backit.errors import Internal
from tests.backit.client.shelf import NUMERIC, Item, Saver, directory_entry, file_entry, restore
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(32)
CONTENT = b"what is to be written"


@pytest.fixture
def host() -> Iterator[WritingHost]:
    with closing(WritingHost(KEY)) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def order(name: bytes, *, mode: int = 0o640, content_hash: bytes | None = None) -> Order:
    wanted = Metadata(mode, os.getuid(), os.getgid(), 1_700_000_000_123_456_789, 0, ())
    if content_hash is None:
        content_hash = primitives.keyed_digest(KEY, CONTENT)
    whole = Whole(
        name, wanted, content_hash, None, inherits=False, replace=False, over_directory=False
    )
    return Order(0, 0, len(CONTENT), whole)


def processes() -> set[int]:
    """Those that write for this one; one that has just been started may not say so yet."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"backit.client.writing" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(int(child))
    return found


def test_a_file_is_written_as_ordered(host: WritingHost, place: int, tmp_path: Path) -> None:
    orders = [order(b"one"), order(b"two", mode=0o4711)]
    assert host.write(memoryview(CONTENT), [place], orders) == []
    for name, mode in (("one", 0o640), ("two", 0o4711)):
        found = (tmp_path / name).stat()
        assert (tmp_path / name).read_bytes() == CONTENT
        assert found.st_mode & 0o7777 == mode
        assert found.st_mtime_ns == 1_700_000_000_123_456_789


def test_a_file_that_fails_stops_no_other(host: WritingHost, place: int, tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"somebody else's")
    orders = [order(b"taken"), order(b"wrong", content_hash=bytes(32)), order(b"good")]
    troubles = host.write(memoryview(CONTENT), [place], orders)
    assert [(each.order, each.is_made, each.code) for each in troubles] == [
        (0, False, 0),
        (1, False, 0),
    ]
    assert "file exists" in troubles[0].text
    assert "hash" in troubles[1].text
    assert (tmp_path / "taken").read_bytes() == b"somebody else's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "taken"]


def test_what_nobody_expected_is_told_without_a_traceback(
    host: WritingHost, place: int, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = Order(7, 0, 1, order(b"a secret name").whole)
    with pytest.raises(Internal, match=r"unexpected IndexError at backit\.client\.writing:"):
        host.write(memoryview(CONTENT), [place], [secret])
    assert host.write(memoryview(CONTENT), [place], [order(b"good")]) == [], "it goes on"
    assert capfd.readouterr().err == ""


def test_a_process_that_was_killed_is_an_error_and_no_wait(host: WritingHost, place: int) -> None:
    assert host.write(memoryview(CONTENT), [place], [order(b"first")]) == []
    for process in processes():
        os.kill(process, signal.SIGKILL)
    with pytest.raises(Internal, match="ended unexpectedly"):
        host.write(memoryview(CONTENT), [place], [order(b"never")])


def is_running(process: Path) -> bool:
    """One that has ended may stay until somebody asks for its code, but has no command line."""
    try:
        return bool((process / "cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


PARENT = """
import time
from backit.client.writing_host import WritingHost
host = WritingHost(bytes(32))
host.write(memoryview(b""), [], [])
print(host._process.pid, flush=True)
time.sleep(600)
"""


def test_no_process_outlives_the_restore_it_writes_for() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        writing = Path("/proc", parent.stdout.readline().strip())
        assert is_running(writing)
        parent.kill()
        until(lambda: not is_running(writing), "it has ended")


def test_a_few_files_are_not_worth_a_process() -> None:
    with closing(WritingHosts(KEY, after=100)) as hosts:
        assert hosts.take(FILES_MIN - 1) is None
        assert hosts.take(100) is None
        assert processes() == set()
        host = hosts.take(FILES_MIN)
        assert (host is not None) == (len(os.sched_getaffinity(0)) > 1)
    assert processes() == set()


@pytest.mark.usefixtures("written_apart")
def test_a_process_that_is_idle_is_taken_again(place: int) -> None:
    with closing(WritingHosts(KEY, after=0)) as hosts:
        first = hosts.take(FILES_MIN)
        assert first is not None
        second = hosts.take(FILES_MIN)
        assert second is not None
        until(lambda: len(processes()) == 2, "two processes that say what they run")
        hosts.give_back(first)
        assert hosts.take(FILES_MIN) is first
        assert second.write(memoryview(CONTENT), [place], [order(b"one")]) == []
    assert processes() == set()


@pytest.mark.usefixtures("written_apart")
def test_who_may_start_no_process_writes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_arguments: object, **_options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    saver = Saver()
    root = saver.save([Item(b"", file_entry(b"file", CONTENT), CONTENT)])
    result = restore(root, saver.shelf, tmp_path / "target", options=NUMERIC)
    assert result.is_whole
    assert (tmp_path / "target" / "file").read_bytes() == CONTENT


@pytest.mark.usefixtures("written_apart")
def test_one_chunk_may_go_to_more_folders_than_one_message_takes(tmp_path: Path) -> None:
    names = [b"d%03d" % number for number in range(2 * DIRECTORIES_MAX + 3)]
    folders = [Item(b"", directory_entry(name)) for name in names]
    files = [Item(name + b"\0", file_entry(b"file", name + b"'s"), name + b"'s") for name in names]
    saver = Saver()
    root = saver.save([*folders, *files])
    result = restore(root, saver.shelf, tmp_path / "target", options=NUMERIC)
    assert result.is_whole
    for name in names:
        assert (tmp_path / "target" / name.decode() / "file").read_bytes() == name + b"'s"
    assert processes() == set()
