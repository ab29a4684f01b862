"""Files that hold secrets: where they lie, who can read them, and that none is ever half there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from backit.client import home as homes
from backit.client.home import Home
from backit.errors import Invalid, NotFound, Refused

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_backit_home_holds_everything(tmp_path: Path) -> None:
    home = Home.find({"BACKIT_HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/elsewhere"})
    for folder in (home.config, home.state, home.cache, home.runtime):
        assert folder.is_relative_to(tmp_path)


def test_a_relative_backit_home_does_not_move_with_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home.find({"BACKIT_HOME": "here"})
    assert home.state.is_relative_to(tmp_path / "here")


def test_without_it_a_login_lies_in_the_runtime_folder(tmp_path: Path) -> None:
    home = Home.find({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert home.login("default").is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "-x", "a" * 65, "a\n", "\0"])
def test_a_profile_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    home = Home.find({"BACKIT_HOME": str(tmp_path)})
    with pytest.raises(Invalid):
        home.profile(name)


def test_what_is_written_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "secret"
    homes.write_private(path, b"content")
    assert (homes.read_private(path), mode(path), mode(path.parent)) == (b"content", 0o600, 0o700)


def test_a_loose_umask_changes_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        homes.write_private(tmp_path / "a" / "secret", b"content")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a" / "secret"), mode(tmp_path / "a")) == (0o600, 0o700)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    homes.write_private(path, b"content")
    path.chmod(0o640)
    with pytest.raises(Refused, match="secret"):
        homes.read_private(path)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused):
        homes.write_private(tmp_path / "link" / "secret", b"content")


@pytest.mark.root
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(Refused):
        homes.write_private(folder / "secret", b"content")


def test_a_failed_write_leaves_the_old_content_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    homes.write_private(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="gone"):
        homes.write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        homes.read_private(tmp_path / "none")
    assert not homes.remove_private(tmp_path / "none")


def test_what_was_removed_is_gone(tmp_path: Path) -> None:
    homes.write_private(tmp_path / "secret", b"content")
    assert homes.remove_private(tmp_path / "secret")
    assert not (tmp_path / "secret").exists()
