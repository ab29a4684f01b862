"""Settings: defaults, then the configuration file, then the command line; one frozen Config.

The file is TOML. A key that does not exist, or has another type than its default, is refused: a
setting that is silently ignored is worse than a daemon that does not start.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from backit.errors import Invalid
from backitd.store import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")

MIB = 1024 * 1024
TYPE_NAMES = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSettings:
    """[login]: how long things hold and how often they may be tried."""

    challenge_seconds: float = 120.0
    token_seconds: float = 900.0
    # Calls without a login, per address (everybody on a unix socket is one address).
    address_burst: int = 200
    address_per_second: float = 5.0
    # Failed logins, per name.
    name_burst: int = 20
    name_per_second: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """[limits]: threads by what they serve, and patience."""

    streams: int = 32  # uploads and downloads at once; the rest waits for its turn
    streams_per_account: int = 8  # of these for one account
    lookups: int = 16
    control: int = 16
    strangers: int = 8
    streams_per_connection: int = 64
    connections: int = 512
    request_seconds: float = 20.0  # for a request to arrive once it was announced
    stop_seconds: float = 10.0  # for calls to end once the daemon stops


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """[memory]: what glibc keeps of freed memory. Bytes; 0 leaves glibc's own choice."""

    mmap_threshold: int = 32 * MIB
    trim_threshold: int = 256 * MIB
    arenas: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What can be set. Sections are tables of the file."""

    listen: tuple[str, ...] = ()
    socket_mode: str = "0666"  # of unix sockets: they grant nothing by themselves
    admin_socket: str = ""  # empty: admin.sock in the state folder
    open_signup: bool = False
    log_level: str = "info"
    login: LoginSettings = field(default_factory=LoginSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    store: StoreSettings = field(default_factory=StoreSettings)

    def __post_init__(self) -> None:
        if self.log_level not in LOG_LEVELS:
            raise Invalid(f"log_level: {self.log_level!r} is none of {', '.join(LOG_LEVELS)}")
        if not (self.socket_mode.isdecimal() and set(self.socket_mode) <= set("01234567")):
            raise Invalid(f"socket_mode: {self.socket_mode!r} is no octal number such as 0660")


def read(path: Path) -> Config:
    """Raises Invalid, naming file and key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"reading the configuration {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path} is not TOML: {error}") from None
    try:
        return _fill(Config(), table, "")
    except Invalid as error:
        raise Invalid(f"{path}: {error}") from None


def _fill(section: S, table: Mapping[str, Any], where: str) -> S:
    """The section with what the table says. Raises Invalid for unknown keys and wrong types."""
    known = {item.name: getattr(section, item.name) for item in fields(section)}
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise Invalid(f"there is no setting {where}{key}")
        changes[key] = _value(known[key], value, where + key)
    return replace(section, **changes)


def _value(default: Any, value: Any, name: str) -> Any:
    if is_dataclass(default):
        if not isinstance(value, dict):
            raise Invalid(f"{name} has to be a table: [{name}]")
        return _fill(cast("DataclassInstance", default), cast("dict[str, Any]", value), f"{name}.")
    if isinstance(default, tuple):
        items = cast("list[object]", value) if isinstance(value, list) else [None]
        if not all(isinstance(item, str) for item in items):
            raise Invalid(f"{name} has to be a list of texts")
        return tuple(items)
    return _plain(default, value, name)


def _plain(default: float | str, value: Any, name: str) -> float | str:
    """A number, a text, true or false: of the default's type, and not below zero."""
    kind = type(default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise Invalid(f"{name} has to be {TYPE_NAMES[kind]}, not {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise Invalid(f"{name} cannot be negative")
    return value
