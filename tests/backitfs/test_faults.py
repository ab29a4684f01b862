"""Nothing ends a mount but its end, and no end leaves a dead mount behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backit.format.magic import Kind
from tests.backitfs.mounts import alive, is_mounted, look, mount, mounted
from tests.patience import until
from tests.programs import BACKITCTL, COMMAND_SECONDS, Person
from tests.system import packs, trees

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.programs import Box


@pytest.fixture
def saved(anna: Person, source: Path) -> Path:
    """What every test here reads: its place below a snapshot."""
    trees.plant(source, "faults", files=30, large=0)
    for name in ("first", "second"):
        (source / name).write_bytes(trees.random_bytes(name, 2 * trees.MIB))
    anna.backup(source)
    return source.relative_to("/")


@pytest.fixture
def paused(box: Box) -> Iterator[Box]:
    """A box that will answer again, whatever the test does."""
    yield box
    if box.process is None:
        box.start()
    if box.process is not None:
        box.process.send_signal(signal.SIGCONT)


def test_a_read_waits_while_the_box_restarts(
    anna: Person, saved: Path, folder: Path, paused: Box
) -> None:
    with mounted(anna, folder) as found, ThreadPoolExecutor(1) as pool:
        seen = found.latest / saved
        assert {each.name for each in seen.iterdir()} >= {"first", "second"}
        paused.kill()
        read = pool.submit((seen / "first").read_bytes)
        # What is at hand is answered meanwhile.
        assert (seen / "first").stat().st_size == 2 * trees.MIB
        assert not read.done()
        paused.start()
        assert read.result(COMMAND_SECONDS) == trees.random_bytes("first", 2 * trees.MIB)
        assert (seen / "second").read_bytes() == trees.random_bytes("second", 2 * trees.MIB)
        assert "ERROR" not in found.log_text()


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_box_that_stays_away_is_an_error_and_comes_back(
    anna: Person, saved: Path, folder: Path, paused: Box, how: str
) -> None:
    with mounted(anna, folder, "--patience", "2") as found:
        seen = found.latest / saved
        assert (seen / "first").stat().st_size == 2 * trees.MIB
        if how == "stopped":
            assert paused.process is not None
            paused.process.send_signal(signal.SIGSTOP)
        else:
            paused.kill()
        with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is looked at
            (seen / "first").read_bytes()
        assert refused.value.errno == errno.EIO
        lines = [line for line in found.log_text().splitlines() if "ERROR" in line]
        assert len({line.partition("ERROR")[2] for line in lines}) == len(lines)
        assert str(saved / "first") in lines[0]
        assert found.folder.is_dir()
        if how == "stopped":
            assert paused.process is not None
            paused.process.send_signal(signal.SIGCONT)
        else:
            paused.start()
        expected = trees.random_bytes("first", 2 * trees.MIB)
        until(lambda: reads_as(seen / "first", expected), "the mount is back")


def reads_as(file: Path, expected: bytes) -> bool:
    try:
        return file.read_bytes() == expected
    except OSError:
        return False


def test_a_damaged_chunk_costs_its_own_bytes(
    anna: Person, box: Box, saved: Path, folder: Path
) -> None:
    before = {each.place.chunk for each in packs.stored_records(box.state)}
    source = folder.parent / "source"
    (source / "third").write_bytes(trees.random_bytes("third", 400_000))
    anna.backup(source)
    (victim,) = [
        each
        for each in packs.stored_records(box.state)
        if each.place.chunk not in before and each.kind is Kind.DATA
    ]
    at = victim.place.offset + victim.place.length // 2
    packs.flip_bit(victim.file, at)
    try:
        with mounted(anna, folder) as found:
            seen = found.latest / saved
            with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is looked at
                (seen / "third").read_bytes()
            assert refused.value.errno == errno.EIO
            assert str(saved / "third") in found.log_text()
            assert "damaged" in found.log_text()
            for name in ("first", "second"):
                assert (seen / name).read_bytes() == trees.random_bytes(name, 2 * trees.MIB)
            packs.flip_bit(victim.file, at)
            until(
                lambda: reads_as(seen / "third", trees.random_bytes("third", 400_000)),
                "what is whole again is read",
            )
    finally:
        if not reads_as(victim.file, victim.file.read_bytes()):
            packs.flip_bit(victim.file, at)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_end_leaves_a_dead_mount(
    anna: Person, saved: Path, folder: Path, how: signal.Signals
) -> None:
    with mounted(anna, folder) as found:
        in_use = os.open(found.latest / saved / "first", os.O_RDONLY)
        assert os.pread(in_use, 10, 0) == trees.random_bytes("first", 2 * trees.MIB)[:10]
        found.kill(how)
        until(lambda: not is_mounted(folder), "the mount is gone")
        with suppress(OSError):  # nobody is left who could be told
            os.close(in_use)
        assert list(folder.iterdir()) == []


def test_a_dead_mount_is_cleaned_up(anna: Person, saved: Path, folder: Path) -> None:
    for cleaner in ("mount", "umount"):
        dead = mount(anna, folder)
        for guard in guards_of(folder):
            os.kill(guard, signal.SIGKILL)
        dead.kill()
        with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is looked at
            folder.stat()
        assert refused.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        if cleaner == "mount":
            with mounted(anna, folder) as found:
                assert (found.latest / saved / "first").stat().st_size == 2 * trees.MIB
        else:
            anna.ctl("umount", folder)
        assert list(folder.iterdir()) == []


def guards_of(folder: Path) -> list[int]:
    """The processes that wait for the end of a mount, to clean up."""
    found = subprocess.run(
        ("pgrep", "-f", f"^/bin/sh .* {folder}$"), capture_output=True, text=True, check=True
    )
    return [int(line) for line in found.stdout.split()]


def test_umount_takes_the_mount_and_its_process_away(
    anna: Person, saved: Path, folder: Path
) -> None:
    found = mount(anna, folder)
    with (found.latest / saved / "first").open("rb"):
        name = Path("/proc/self/comm").read_text().strip()
        assert f"in use by {name} ({os.getpid()});" in anna.ctl("umount", folder, expect=1).errors
        assert alive(found.process)
    anna.ctl("umount", folder)
    found.wait()
    assert not is_mounted(folder)
    assert "no snapshots are mounted" in anna.ctl("umount", folder, expect=1).errors


def test_what_is_mounted_is_not_mounted_over(anna: Person, saved: Path, folder: Path) -> None:
    with mounted(anna, folder):
        assert "already" in anna.ctl("mount", folder, expect=1).errors
    (folder / "something").touch()
    assert "not empty" in anna.ctl("mount", folder, expect=2).errors
    assert "no such folder" in anna.ctl("mount", folder / "nowhere", expect=1).errors
    assert saved.parts


def test_a_mount_in_the_foreground_ends_with_its_command(
    anna: Person, saved: Path, folder: Path
) -> None:
    process = subprocess.Popen(
        (str(BACKITCTL), "mount", "--foreground", str(folder)),
        env=anna.variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    # While it is being mounted the signal would end the mounting: "interrupted", code 130.
    while b"Ctrl-C unmounts" not in (line := process.stdout.readline()):
        assert line, "it ended before it was mounted"
    assert look("ls", folder)
    process.send_signal(signal.SIGTERM)
    said, _nothing = process.communicate(timeout=COMMAND_SECONDS)
    assert process.returncode == 0, said
    assert not is_mounted(folder)
    assert saved.parts


def test_a_mount_ends_although_nobody_reads_that_it_is_there(
    anna: Person, saved: Path, folder: Path
) -> None:
    heard, told = os.pipe()
    os.set_blocking(told, False)
    with suppress(BlockingIOError):
        while True:
            os.write(told, bytes(4096))
    os.set_blocking(told, True)
    process = subprocess.Popen(
        (str(BACKITCTL), "mount", "--foreground", str(folder)),
        env=anna.variables,
        stdin=subprocess.DEVNULL,
        stdout=told,
        stderr=subprocess.DEVNULL,
    )
    waits_in = Path(f"/proc/{process.pid}/wchan")
    until(lambda: "pipe_write" in waits_in.read_text(), "it is mounted, and says so to nobody")
    assert is_mounted(folder)
    process.send_signal(signal.SIGTERM)
    assert process.wait(COMMAND_SECONDS) == 0
    assert not is_mounted(folder)
    os.close(told)
    os.close(heard)
    assert saved.parts


def test_a_login_that_fails_leaves_nothing_behind(anna: Person, saved: Path, folder: Path) -> None:
    """The program behind the mount is started before the account is opened."""
    anna.ctl("logout")
    anna.write_password("wrong")
    assert "password" in anna.ctl("mount", folder, expect=4).errors
    assert not is_mounted(folder)
    assert not [each for each in Path("/proc").glob("[0-9]*") if str(folder) in command_line(each)]
    assert saved.parts


def command_line(process: Path) -> str:
    with suppress(OSError):  # it has just ended
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def test_nothing_secret_can_be_seen_from_outside(anna: Person, saved: Path, folder: Path) -> None:
    anna.ctl("logout")
    with mounted(anna, folder) as found:
        for name in ("cmdline", "environ"):
            with suppress(PermissionError):  # its user may not look into it either
                content = Path(f"/proc/{found.process}/{name}").read_bytes()
                assert anna.password.encode() not in content
        assert (found.latest / saved / "first").read_bytes()[:1]
        # The login that mounted is not kept for anybody else.
        assert not list((anna.home / "run").glob("*.json"))


@pytest.mark.root
def test_others_are_let_in_as_far_as_modes_allow(anna: Person) -> None:
    def is_read(file: Path) -> bool:
        """By somebody who is not root."""
        other = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        return (
            subprocess.run((*other, "cat", file), capture_output=True, check=False).returncode == 0
        )

    with tempfile.TemporaryDirectory(dir="/var/tmp") as room:
        os.chmod(room, 0o755)  # noqa: S103 - the other user has to get in
        source, folder = Path(room) / "source", Path(room) / "mnt"
        for made in (source, folder):
            made.mkdir()
        for name, mode in (("open", 0o644), ("closed", 0o600)):
            (source / name).write_text(name)
            (source / name).chmod(mode)
        anna.backup(source)
        for option, expected in (("--allow-other", [True, False]), ("--patience=9", [False] * 2)):
            with mounted(anna, folder, option) as found:
                seen = found.latest / source.relative_to("/")
                assert (seen / "closed").read_text() == "closed"
                assert [is_read(seen / name) for name in ("open", "closed")] == expected


@pytest.mark.root
def test_a_person_without_rights_mounts(box: Box, saved: Path) -> None:
    """In a mount namespace where everybody may open /dev/fuse, as udev has it on a real machine."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as room:
        os.chmod(room, 0o755)  # noqa: S103 - the other user has to get in
        person = Person(Path(room) / "home")
        person.joins(box.tcp, "without rights")
        person.backup(Path("/") / saved)
        folder = Path(room) / "mnt"
        folder.mkdir()
        for path in Path(room).rglob("*"):
            os.chown(path, 65_534, 65_534, follow_symlinks=False)
        script = """
            set -e
            mknod "$1/fuse" c 10 229; chmod 666 "$1/fuse"; mount --bind "$1/fuse" /dev/fuse
            # May read everything, because the interpreter may lie where only root can.
            can="--inh-caps +dac_read_search --ambient-caps +dac_read_search"
            as="setpriv --reuid 65534 --regid 65534 --clear-groups $can"
            $as "$2" mount --owner me "$3"
            $as sh -c 'ls "$1"/*/latest/"$2"' sh "$3" "$4"
            ls "$3" 2>&1 || echo "root is kept out"
            $as "$2" umount "$3"
            $as "$2" mount --allow-other "$3" || echo "and so are others"
        """
        said = subprocess.run(
            ("unshare", "-m", "sh", "-c", script, "sh", room, BACKITCTL, folder, saved),
            env=person.variables,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    shown = said.stdout + said.stderr
    assert said.returncode == 0, shown
    assert "second" in said.stdout, shown
    assert "root is kept out" in said.stdout, shown
    assert "and so are others" in said.stdout, shown
    assert "user_allow_other" in said.stderr, shown
