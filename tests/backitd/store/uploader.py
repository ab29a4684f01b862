"""A process that backs up until it is killed, and says what it was told. Started by test_kill.py.

Arguments: state folder, number of this life. Prints one line each: "sent CHUNK DIGEST-OF-RECORD"
before a record is handed over, "acknowledged N" (the first N that were sent), "committed SNAPSHOT".
"""

from __future__ import annotations

import secrets
import sys
import threading
from pathlib import Path

from backit.crypto import primitives
from backit.format.magic import KIB
from backitd.clock import SystemClock
from backitd.store import Store, StoreSettings, Upload
from tests.backitd.clocks import FakeRandom
from tests.backitd.people import Machine, Person
from tests.backitd.store.boxes import Chunk

SETTINGS = StoreSettings(pack_bytes=24 * KIB, takeover_seconds=0)


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - this is how it tells


def the_machine() -> Machine:
    """The same in every life, and in the test."""
    person = Person("anna", FakeRandom("kill"))
    return person.machine()


def relay(upload: Upload, sent_before: int) -> None:
    for number in upload.acknowledgements():
        say("acknowledged", sent_before + number)


def main(state: Path, life: int) -> None:
    machine = the_machine()
    machine.owner.random = FakeRandom(f"life {life}")
    store = Store.open(state, clock=SystemClock(), random=secrets.token_bytes, settings=SETTINGS)
    say("opened")
    sent = 0
    for turn in range(1000):
        run = machine.run()
        lease = store.create_lease(machine.device, run.series, run.session_statement)
        upload = store.upload(lease.lease, machine.device)
        listener = threading.Thread(target=relay, args=(upload, sent))
        listener.start()
        content = FakeRandom(f"life {life} turn {turn}")
        leaves = [Chunk(*run.data(content(4000))) for _ in range(20)]
        nodes = [Chunk(*run.node(content(50), [c.id for c in leaves[n::4]])) for n in range(4)]
        root = Chunk(*run.node(content(50), [node.id for node in nodes]))
        for chunk in [*leaves, *nodes, root]:
            say("sent", chunk.id, primitives.digest(chunk.record).hex())
            upload.put([chunk.record])
            sent += 1
        upload.finish()
        listener.join()
        header, body = run.snapshot(root.id)
        row = store.commit(lease.lease, machine.device, header, body)
        say("committed", row.snapshot)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
