"""What has to be there before a command can begin, and is not. `exits` knows what to do about each.

Their reasons are those of the core's errors they extend.
"""

from __future__ import annotations

from backit.errors import LoginNeeded, NotFound, Refused


class NotPaired(NotFound):
    """The profile does not exist."""


class NoAccount(NotFound):
    """The profile knows an appliance, but nobody's account."""


class NotEnrolled(LoginNeeded):
    """This machine is no device of the account."""


class NotConfirmed(Refused):
    """Somebody had to say yes, and nobody did."""
