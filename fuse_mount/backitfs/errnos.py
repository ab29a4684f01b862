"""The border between errors and errnos: one table."""

from __future__ import annotations

import errno

from backit import errors

# The class or its nearest ancestor here counts.
ERRNOS: dict[type[errors.BackitError], int] = {
    errors.BackitError: errno.EIO,
    errors.Refused: errno.EACCES,
    errors.Unsupported: errno.EOPNOTSUPP,
}


def errno_of(error: errors.BackitError) -> int:
    """What the table says of an error."""
    return next(ERRNOS[kind] for kind in type(error).__mro__ if kind in ERRNOS)
