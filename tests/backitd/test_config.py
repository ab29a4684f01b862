"""Promises of the settings: defaults without a file, and no mistake passes in silence."""

from pathlib import Path

import pytest

from backit.errors import Invalid
from backitd import config
from backitd.config import Config


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "backitd.toml"
    file.write_text(text, encoding="utf-8")
    return config.read(file)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Config()


def test_settings_reach_their_section(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        listen = ["unix:/run/x", "tcp:[::]:7443"]
        open_signup = true
        log_level = "debug"
        [login]
        token_seconds = 60
        [store]
        idle_seconds = 0.5
        """,
    )
    assert found.listen == ("unix:/run/x", "tcp:[::]:7443")
    assert found.open_signup
    assert found.login.token_seconds == 60.0
    assert found.store.idle_seconds == 0.5
    assert found.limits == Config().limits


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("opensignup = true", "opensignup"),
        ("[login]\ntoken = 3", "login.token"),
        ("[nonsense]", "nonsense"),
        ('open_signup = "yes"', "open_signup"),
        ("open_signup = 1", "open_signup"),
        ("login = 3", "login"),
        ('listen = "unix:/x"', "listen"),
        ("listen = [3]", "listen"),
        ("[limits]\nstreams = 1.5", "limits.streams"),
        ("[limits]\nstreams = -1", "limits.streams"),
        ("[limits]\nstreams = true", "limits.streams"),
        ('log_level = "loud"', "log_level"),
        ('socket_mode = "0999"', "socket_mode"),
        ("open_signup =", "TOML"),
    ],
)
def test_a_mistake_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(Invalid, match=named) as caught:
        read(tmp_path, text)
    assert "backitd.toml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"missing\.toml"):
        config.read(tmp_path / "missing.toml")
