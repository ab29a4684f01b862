"""Whatever people mistype, and whoever answers instead of their box: a clear error, no loss."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests import programs
from tests.patience import until
from tests.programs import Box, Output, Person
from tests.system import trees
from tests.system.sameness import assert_same, unchanged
from tests.system.trees import MIB
from tests.system.wire import Way, tapped


@pytest.fixture(scope="module")
def saved(anna: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in anna's snapshots."""
    source = tmp_path_factory.mktemp("saved")
    trees.plant(source, "bad input", files=10, large=0)
    anna.backup(source)
    return source


def stranger(box: Box, tmp_path: Path) -> Person:
    """A machine that knows the box and nobody's account."""
    found = Person(tmp_path / "stranger", "not the right one")
    found.ctl("pair", box.unix, "--trust-first-use")
    return found


def refused(output: Output, *words: str) -> None:
    """It ended with 4, said why in a line, and was no accident."""
    assert output.code == 4
    assert "Traceback" not in output.errors
    assert all(word in output.errors for word in words), output.errors


@pytest.mark.parametrize("user", ["anna", "nobody"])
def test_a_wrong_password_and_a_wrong_name_look_the_same(
    box: Box, anna: Person, tmp_path: Path, user: str
) -> None:
    output = stranger(box, tmp_path).ctl("--json", "login", user, expect=4)
    assert output.reason == "LOGIN_REFUSED"
    assert user == anna.user or anna.ctl("whoami").code == 0


def test_an_empty_password_is_refused(anna: Person, saved: Path) -> None:
    forgetful = replace(
        anna, environment={"BACKIT_PASSWORD_FILE": "", "BACKIT_PASSWORD_COMMAND": "true"}
    )
    forgetful.ctl("logout")
    try:
        refused(forgetful.ctl("ls", f"latest:{saved}", expect=4), "empty")
    finally:
        anna.logs_in()


def test_a_wrong_fingerprint_is_refused(box: Box, tmp_path: Path) -> None:
    person = Person(tmp_path / "careful")
    output = person.ctl("pair", box.tcp, "--fingerprint", "00" * 32, expect=4)
    refused(output, "fingerprint")
    person.ctl("whoami", expect=1)
    person.ctl("pair", box.tcp, expect=4)


def test_the_right_fingerprint_is_taken(box: Box, tmp_path: Path) -> None:
    seen = Person(tmp_path / "first").ctl("--json", "pair", box.tcp, "--trust-first-use").json
    again = Person(tmp_path / "second")
    found = again.ctl("--json", "pair", box.tcp, "--fingerprint", seen["fingerprint"]).json
    assert found["fingerprint"] == seen["fingerprint"]


@pytest.mark.parametrize("way", ["unix", "tls"])
def test_another_box_at_the_same_address_is_refused(source: Path, tmp_path: Path, way: str) -> None:
    trees.plant(source, "impostor", files=3, large=0)
    with programs.running(tmp_path / "box") as box:
        address = box.unix if way == "unix" else box.tcp
        person = Person(tmp_path / "home")
        person.joins(address)
        person.backup(source)
        box.stop()
        shutil.move(box.state, tmp_path / "away")
        box.start()
        asked = replace(person, environment={"BACKIT_PASSWORD_COMMAND": f"touch {tmp_path}/asked"})
        for command in (("backup", source), ("snapshots",), ("login", "anna")):
            refused(asked.ctl(*command, expect=4))
        # Nobody was asked for a password before that was clear.
        assert not (tmp_path / "asked").exists()
        box.stop()
        shutil.rmtree(box.state)
        shutil.move(tmp_path / "away", box.state)
        box.start()
        person.backup(source)
        assert len(person.snapshots()) == 2


def test_a_box_that_is_down_is_out_of_reach(source: Path, tmp_path: Path) -> None:
    trees.plant(source, "down", files=3, large=0)
    with programs.running(tmp_path / "box") as box:
        person = Person(tmp_path / "home")
        person.joins(box.tcp)
        box.stop()
        for command in (("backup", source), ("snapshots",), ("status",)):
            output = person.ctl(*command, expect=5)
            assert str(box.port) in output.errors
            assert "Traceback" not in output.errors
        box.start()
        person.backup(source)


@pytest.mark.parametrize("address", ["tcp:", "tcp:host:99999", "ftp:host:1", "tcp:[::1]:x"])
def test_an_address_that_is_none_is_wrong_usage(tmp_path: Path, address: str) -> None:
    Person(tmp_path / "home").ctl("pair", address, "--trust-first-use", expect=2)


def test_snapshots_that_are_not_there_are_named(anna: Person, saved: Path, tmp_path: Path) -> None:
    for name in ("feedfeed", "latest@nowhere", "0" * 64):
        output = anna.ctl("restore", name, "--to", tmp_path / "target", expect=1)
        assert name.partition("@")[2] in output.errors
        assert "no snapshot" in output.errors
    for name in ("", "ab", "no hex at all", "latest~1"):
        anna.ctl("ls", name, expect=(1, 2))
    assert not (tmp_path / "target").exists()
    assert anna.ctl("ls", f"latest:{saved}").code == 0


def test_a_path_that_is_not_in_the_snapshot_is_named(
    anna: Person, saved: Path, tmp_path: Path
) -> None:
    for command in (("ls",), ("cat",), ("restore", "--to", str(tmp_path / "target"))):
        output = anna.ctl(*command, f"latest:{saved}/not there", expect=1)
        assert "not there" in output.errors
    anna.ctl("cat", f"latest:{saved}/../etc", expect=2)
    anna.ctl("cat", f"latest:{saved}", expect=2)
    assert not (tmp_path / "target").exists()


def test_a_source_that_is_not_there_is_wrong_usage(anna: Person, tmp_path: Path) -> None:
    before = len(anna.snapshots())
    anna.ctl("backup", tmp_path / "nothing", expect=2)
    anna.ctl("backup", expect=2)
    assert len(anna.snapshots()) == before


def test_two_backups_of_the_same_paths_exclude_each_other(
    box: Box, newcomer: Person, source: Path, tmp_path: Path
) -> None:
    trees.plant(source, "twice", large=6 * MIB)
    with tapped(box.port) as wire:
        newcomer.ctl("pair", wire.address, "--trust-first-use")
        wire.hold(Way.TO_BOX, 3 * MIB)
        with newcomer.popen("--json", "backup", source) as first:
            try:
                assert wire.wait_held(first)
                newcomer.ctl("pair", box.tcp, "--trust-first-use")
                second = newcomer.ctl("--json", "backup", source, expect=1)
                assert second.reason == "SERIES_BUSY"
                # Other paths are nobody's business.
                newcomer.backup(source / "folder 1")
                wire.release()
                _output, errors = first.communicate(timeout=programs.COMMAND_SECONDS)
                assert (first.returncode, errors) == (0, b"")
            finally:
                first.kill()
    newcomer.backup(source)
    assert [each["number"] for each in newcomer.snapshots()] == [1, 1, 2]
    newcomer.restore(f"latest:{source}", tmp_path / "restored")
    assert_same(source, tmp_path / "restored")


def test_many_backups_at_once_lose_nothing(
    box: Box, newcomer: Person, source: Path, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        (source / name).mkdir()
        trees.plant(source / name, name, files=40, large=2 * MIB)
    running = [newcomer.popen("backup", source / name) for name in ("one", "two", "three")]
    for each in running:
        _output, errors = each.communicate(timeout=programs.COMMAND_SECONDS)
        assert each.returncode == 0, errors
    for found in newcomer.snapshots():
        name = Path(found["sources"][0]["path"]).name
        newcomer.restore(f"{found['id']}:{source / name}", tmp_path / name)
        assert_same(source / name, tmp_path / name)
    assert {each["complete"] for each in newcomer.snapshots()} == {True}
    assert box.process is not None


def test_a_home_that_cannot_be_read_or_is_damaged_says_so(
    box: Box, source: Path, tmp_path: Path
) -> None:
    (source / "file").write_bytes(b"data")
    person = Person(tmp_path / "home")
    person.joins(box.unix, "somebody with a damaged home")
    profile = person.home / "config" / "profiles" / "default.json"
    device = person.home / "state" / "devices" / "default.json"
    for file in (profile, device):
        kept = file.read_bytes()
        later = kept.replace(b'"version": 1', b'"version": 2')
        assert later != kept
        for damage in (b"", b"{}", b"\xff\xfe", kept[:-20], later):
            file.write_bytes(damage)
            output = person.ctl("backup", source, expect=1)
            assert file.name in output.errors
            assert "Traceback" not in output.errors
        file.write_bytes(kept)
    person.backup(source)


def test_a_home_of_somebody_else_is_refused(box: Box, source: Path, tmp_path: Path) -> None:
    (source / "file").write_bytes(b"data")
    person = Person(tmp_path / "home")
    person.joins(box.unix, "somebody with a locked home")
    locked = person.home / "state" / "devices" / "default.json"
    locked.chmod(0)
    reader = person
    if os.geteuid() == 0:  # even root has to obey modes then
        reader = replace(
            person, prefix=("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        )
    output = reader.ctl("backup", source, expect=(1, 4))
    assert "default.json" in output.errors
    # What others could read as well is not used.
    locked.chmod(0o644)
    assert person.ctl("backup", source, expect=(0, 4)).code == 4
    locked.chmod(0o600)
    person.backup(source)


def test_a_store_of_a_later_format_is_left_alone(source: Path, tmp_path: Path) -> None:
    trees.plant(source, "later format", files=3, large=0)
    with programs.running(tmp_path / "box") as box:
        person = Person(tmp_path / "home")
        person.joins(box.unix)
        person.backup(source)
        box.stop()
        (marker,) = (box.state / "store").glob("store*")
        kept = marker.read_bytes()
        marker.chmod(0o600)
        marker.write_bytes(kept.replace(b"format = 1", b"format = 2"))
        with unchanged(box.state / "store"):
            with pytest.raises(programs.Failed, match="format 2"):
                box.start()
            box.stop()
        marker.write_bytes(kept)
        box.start()
        assert len(person.snapshots()) == 1


def test_a_lost_cache_costs_time_only(newcomer: Person, source: Path, tmp_path: Path) -> None:
    trees.plant(source, "lost cache", files=30, large=2 * MIB)
    newcomer.backup(source)
    cache = newcomer.home / "cache"
    for file in [path for path in cache.rglob("*") if path.is_file()]:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
    again = newcomer.backup(source)
    assert again["failed"] == 0
    shutil.rmtree(cache)
    again = newcomer.backup(source)
    assert again["stored_bytes"] < 2 * MIB
    newcomer.restore(f"latest:{source}", tmp_path / "restored")
    assert_same(source, tmp_path / "restored")
    assert newcomer.ctl("--json", "check", "--read-data").summary["findings"] == 0


def test_a_reader_that_goes_away_is_no_accident(anna: Person, saved: Path) -> None:
    with anna.popen("ls", "-r", "latest") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait(60) in (0, 1)
    assert b"Traceback" not in errors
    assert saved.exists()


def test_an_interrupted_question_ends_with_130(anna: Person, saved: Path) -> None:
    waiting = replace(
        anna,
        home=anna.home,
        environment={"BACKIT_PASSWORD_FILE": "", "BACKIT_PASSWORD_COMMAND": "sleep 600"},
    )
    with unchanged(saved), waiting.popen("password") as process:
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: bool(child.read_text().split()), "the question is asked")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
