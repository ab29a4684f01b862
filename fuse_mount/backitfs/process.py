"""What the process does to itself before anything else: it must not be looked into while it holds
keys.

Called once, first, and before gRPC is imported.
"""

from __future__ import annotations

import ctypes
import os
import resource

PR_SET_DUMPABLE = 4
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
MIB = 1024 * 1024


def harden() -> None:
    """No core dumps, no debugger of the same user, files for the owner alone."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux; elsewhere there is nothing to ask
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # gRPC writes of handshakes that fail; people get our own words for that.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def tune_memory() -> None:
    """Keep freed buffers of about 1 MiB instead of giving each back: page faults are dear."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc; other libraries have their own ways
        mallopt(M_MMAP_THRESHOLD, 32 * MIB)
        mallopt(M_TRIM_THRESHOLD, 64 * MIB)
