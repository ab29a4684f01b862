"""Signing up: an invite is spent exactly when its account stands. One at a time."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from backit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.format.statement import Statement
    from backit.ids import AccountId
    from backitd.auth.invites import Invites
    from backitd.store import AccountRow, Store

log = logging.getLogger(__name__)


class Signup:
    """The way in for new accounts. `is_open`: without an invite."""

    def __init__(self, store: Store, invites: Invites, *, is_open: bool) -> None:
        self._store = store
        self._invites = invites
        self._lock = threading.Lock()
        self.is_open = is_open
        invites.settle(self._exists)

    def create(
        self, account: AccountId, invite: str, statements: Sequence[Statement]
    ) -> AccountRow:
        """A new account. Raises InviteNeeded, AlreadyExists or StatementInvalid."""
        with self._lock:
            # An account that stands needs no invite: this may be the same call again, its answer
            # lost. The store sees to it that it says the same.
            if self.is_open or self._exists(account):
                return self._store.create_account(account, statements)
            claim = self._invites.claim(invite, account)
            try:
                row = self._store.create_account(account, statements)
            except BaseException:
                if not self._exists(account):
                    self._invites.release(claim)
                raise
            self._invites.spend(claim)
        log.info("new account %s", account)
        return row

    def _exists(self, account: AccountId) -> bool:
        try:
            self._store.account(account)
        except NotFound:
            return False
        return True
