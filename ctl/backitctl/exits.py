"""The way out: what an error means for the exit code, and what to do about it. One table.

    0 done   1 failed   2 wrong usage   3 done, but some files were not saved or restored whole
    4 refused (password, rights)   5 appliance out of reach   130 interrupted

The core says what went wrong; advice is given here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from backit import errors
from backit.client import surprise
from backitctl import interrupts, missing
from backitctl.interrupts import INTERRUPTS
from backitctl.options import Settings

if TYPE_CHECKING:
    from backitctl.output import Output

REPORT = (
    "this is a fault of the program: please report it, with what the same command says with --debug"
)
DONE, FAILED, USAGE, PARTLY, REFUSED, UNREACHABLE = range(6)
INTERRUPTED = interrupts.EXIT_CODE


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
    _quieten(settings.output)
    try:
        # A command may return its code; click returns the code of its own early ends.
        code = tree.main(prog_name="backitctl", standalone_mode=False, obj=settings)
    except (click.Abort, KeyboardInterrupt):
        return _interrupted(settings.output)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing can be said to them any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody gets a traceback unasked
        if INTERRUPTS.stop.is_set():  # which has ended what was under way, so it failed
            return _interrupted(settings.output)
        return _explain(settings, error)
    return code if isinstance(code, int) else DONE


def _interrupted(output: Output) -> int:
    output.failed("INTERRUPTED", "interrupted", "")
    return INTERRUPTED


def _quieten(output: Output) -> None:
    """What happens behind our back is told like anything else, or not at all.

    Libraries log what ends their threads; the call that this breaks fails by itself.
    """

    def in_thread(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is not None:
            _tell(output, what.exc_value)
            output.warning(f"in the background: {surprise.told(what.exc_value)}")

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        if what.exc_value is not None:
            _tell(output, what.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    if not surprise.is_wanted():
        logging.getLogger().addHandler(logging.NullHandler())


def _tell(output: Output, error: BaseException) -> None:
    if surprise.is_wanted():
        output.traceback(surprise.explained(error))


def _explain(settings: Settings, error: Exception) -> int:
    output = settings.output
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
        case click.ClickException():
            output.failed("LOCAL", str(error), "")
            return FAILED
        case _:
            _tell(output, error)
            what = f"{settings.doing}: {surprise.told(error)}"
            output.failed(errors.Internal.reason, what, REPORT)
            return FAILED
