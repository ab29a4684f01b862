"""Commits the tree of this device's newest snapshot again and again. A program, to be run with the
settings of `backitctl`; the argument says how often.
"""

import os
import sys
import time

from backit.client import session as sessions
from backit.format.snapshot import header_body
from backit.format.v1 import statement_pb2 as pb
from backit.ids import ChunkId
from backitctl import opening
from backitctl.options import Settings

PATH = b"/again"


def main(count: int) -> None:
    with opening.device(Settings()) as (appliance, keys, ledger):
        series = sessions.series_of(keys, (PATH,))
        for _ in range(count):
            session = sessions.open_session(appliance, keys, series, ledger)
            root = ChunkId(header_body(session.others[0]).root)
            now = time.time_ns()
            body = pb.SnapshotBody(sources=[PATH], host=os.uname().nodename, started=now, ended=now)
            sessions.commit(appliance, keys, session, root, body, complete=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
