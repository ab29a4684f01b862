"""The newest statements that this machine has seen, so that an appliance cannot go back to older
ones.

Going back would bring a replaced password, a revoked device or a succeeded owner to life again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backit.client import profile as files
from backit.client.home import read_private, write_private
from backit.client.ledger import check_not_older
from backit.errors import Damaged, NotFound
from backit.format.statement import StatementKind

if TYPE_CHECKING:
    from backit.client.home import Home
    from backit.client.ledger import Ledger

DEVICE_SEES = (
    StatementKind.ACCOUNT,
    StatementKind.EPOCH,
    StatementKind.DEVICE,
    StatementKind.REVOCATION,
)
PERSON_SEES = (*DEVICE_SEES, StatementKind.SLOT, StatementKind.DOMAIN)


def check(home: Home, profile: str, ledger: Ledger, *, is_person: bool) -> None:
    """Raises Untrusted if the appliance has gone back; else remembers what it shows now."""
    path = home.seen(profile)
    try:
        document = files.decode(path, read_private(path))
    except NotFound:
        document = dict[str, Any]()
    marks = _marks(document, ledger)
    check_not_older(marks, ledger, kinds=PERSON_SEES if is_person else DEVICE_SEES)
    now = marks | ledger.numbers()
    if now != marks:
        content = {"version": files.VERSION, "account": ledger.account.hex, "numbers": now}
        write_private(path, files.encode(content))


def _marks(document: dict[str, Any], ledger: Ledger) -> dict[str, int]:
    """What was seen of this very account. Raises Damaged."""
    if document.get("account") != ledger.account.hex:
        return {}
    try:
        numbers: dict[str, int] = document["numbers"]
        return {mark: int(number) for mark, number in numbers.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Damaged("the list of seen statements is none") from None
