"""Where the log goes: the journal if systemd listens, else standard error.

What is logged never holds what people type, tokens, keys, invites or requests: names of methods,
ids of accounts and devices, reasons and numbers.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def to_journal() -> bool:
    """Whether standard error is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not inode:
        return False
    try:
        stderr = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(stderr.st_dev), str(stderr.st_ino))


def set_up(level: str) -> None:
    """Log from `level` ("debug" to "error") on; from libraries, what matters to an administrator.

    A library's own debugging shows what it works on: peewee's, for one, the values in its queries.
    """
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    if to_journal():
        try:
            journal = importlib.import_module("systemd.journal")
        except ImportError:
            pass  # standard error leads to the journal as well, only without levels
        else:
            handler = journal.JournalHandler(SYSLOG_IDENTIFIER="backitd")
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("backit", "backitd"):
        logging.getLogger(ours).setLevel(level.upper())
