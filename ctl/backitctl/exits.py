"""The way out: what an error means for the exit code, and what to do about it. One table.

    0 done   1 failed   2 wrong usage   3 done, but some files were not saved or restored whole
    4 refused (password, rights)   5 appliance out of reach   130 interrupted

The core says what went wrong; advice is given here and nowhere else.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from backit import errors
from backitctl import missing
from backitctl.options import Settings

if TYPE_CHECKING:
    from backitctl.output import Output

DONE, FAILED, USAGE, PARTLY, REFUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


@dataclass(frozen=True, slots=True)
class Meaning:
    """An exit code, and advice for people."""

    code: int
    hint: str = ""


# The class or its nearest ancestor here counts.
MEANINGS: dict[type[errors.BackitError], Meaning] = {
    errors.BackitError: Meaning(FAILED),
    errors.Invalid: Meaning(USAGE),
    errors.StatementInvalid: Meaning(FAILED),
    errors.RecordInvalid: Meaning(FAILED),
    errors.Damaged: Meaning(FAILED, "`backitctl check` finds what else is damaged"),
    errors.WrongKey: Meaning(REFUSED),
    errors.Unsupported: Meaning(
        FAILED, "update the older of the two: this program or the appliance"
    ),
    errors.Refused: Meaning(REFUSED),
    errors.LoginNeeded: Meaning(REFUSED, "`backitctl login USER` logs in"),
    errors.LoginRefused: Meaning(
        REFUSED,
        "is the password right? `recovery-kit --use` gets in without; "
        "after a change elsewhere, `logout` and `login` again",
    ),
    errors.TooManyAttempts: Meaning(REFUSED, "wait a minute and try again"),
    errors.TooManyEnrolments: Meaning(REFUSED, "approve those that wait, or wait an hour"),
    errors.DeviceRevoked: Meaning(
        REFUSED, "`backitctl device enrol` makes this machine a new device"
    ),
    errors.InviteNeeded: Meaning(
        REFUSED, "`backitctl admin invite` on the appliance makes one; give it with --invite"
    ),
    errors.Untrusted: Meaning(
        REFUSED,
        "somebody may be in between, or the appliance was set up anew; "
        "ask its administrator before you pair again",
    ),
    missing.NotPaired: Meaning(FAILED, "`backitctl pair ADDRESS` makes it"),
    missing.NoAccount: Meaning(FAILED, "`backitctl signup USER` or `login USER` gives it one"),
    missing.NotEnrolled: Meaning(REFUSED, "`backitctl device enrol` makes it one"),
    missing.NotConfirmed: Meaning(REFUSED, "the command's --help says how to confirm in a script"),
    errors.SnapshotNotFound: Meaning(FAILED, "`backitctl snapshots` lists them"),
    errors.AlreadyExists: Meaning(FAILED),
    errors.StatementOutdated: Meaning(FAILED, "another machine was faster: try again"),
    errors.SeriesBusy: Meaning(FAILED, "wait until the other backup of these paths is done"),
    errors.LeaseEnded: Meaning(
        FAILED, "run the backup again: what was sent need not be sent again"
    ),
    errors.HeadMoved: Meaning(FAILED, "run the backup again: what was sent need not be sent again"),
    errors.ReferencesMissing: Meaning(
        FAILED, "run the backup again: what was sent need not be sent again"
    ),
    errors.NoSpace: Meaning(
        FAILED, "the appliance's disk is full: make room there, then run it again: it goes on"
    ),
    errors.QuotaExceeded: Meaning(
        FAILED, "the appliance's administrator can raise the quota; then run it again: it goes on"
    ),
    errors.TargetFull: Meaning(
        FAILED, "make room where the files go, on this machine, then run it again: it goes on"
    ),
    errors.Unavailable: Meaning(
        UNREACHABLE, "is the appliance on, and on this network? Then run it again: it goes on"
    ),
}


def meaning_of(error: errors.BackitError) -> Meaning:
    """What the table says of an error."""
    return next(MEANINGS[kind] for kind in type(error).__mro__ if kind in MEANINGS)


def run(tree: click.Group) -> int:
    """Run the command line and say what went wrong. Returns the exit code."""
    settings = Settings()
    try:
        # A command may return its code; click returns the code of its own early ends.
        code = tree.main(prog_name="backitctl", standalone_mode=False, obj=settings)
    except (click.Abort, KeyboardInterrupt):
        settings.output.failed("INTERRUPTED", "interrupted", "")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing can be said to them any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (errors.BackitError, click.ClickException, OSError) as error:
        return _explain(settings.output, error)
    return code if isinstance(code, int) else DONE


def _explain(output: Output, error: Exception) -> int:
    match error:
        case errors.BackitError():
            meaning = meaning_of(error)
            output.failed(error.reason, str(error), meaning.hint)
            return meaning.code
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "backitctl"
            output.failed("USAGE", error.format_message(), f"`{path} --help` explains")
            return USAGE
        case OSError():
            output.failed("LOCAL", f"{error.filename or 'this machine'}: {error.strerror}", "")
            return FAILED
        case _:
            output.failed("LOCAL", str(error), "")
            return FAILED
