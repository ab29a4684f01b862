"""Everything durable: for many threads, and without a key; it stores what others sealed.

Order of writing. The objects under STATE/store are the truth, both databases are caches of them,
and nobody is told anything before the last step:

- statement: file, sync, link, sync of its folder; row.
- statements put together: an entry in the journal; each as above; the entry goes.
- session: file as above; row and lease in one transaction. Then records of it are taken.
- data: pack file, sync, link, sync of its folder; rows in the index; acknowledgement.
- nodes: as data, after the data they use. A node is live only if all it uses is live.
- snapshot: header and body; receipt; then row and end of the lease in one transaction.
- order to forget: file as above; row.

A crash between object and row is mended at the next start, which takes in what the databases do not
know. A crash before an object has its name leaves nothing.

Locks, and who holds them (x excludes; w is a writing transaction, r a reader's view):

    operation                          state  change  catalog  index  upload
    open, close, rebuild                 x
    create account, put statements               x       w
    create lease                                 x       w       w
    renew, touch, delete a lease                         w
    commit, forget                               x       w       r
    find missing                                         w       r
    put, flush, finish, acknowledge                                       x
    accept a pack                                                w
    quarantine, settle                                           w
    every look-up                                        r       r

*state* is a file lock and keeps other processes out. *change* is one mutex of the store, held over
checks, files and rows. A database has one writing connection, under a mutex of its own; readers see
what was committed before and wait for nobody. *upload* is the condition of one stream; nobody waits
for it while holding another. Locks are taken from left to right. Writing transactions of the index
come one after another, so that "its references are live" and "it is live now" are one step.
"""

from backitd.store.store import Store
from backitd.store.uploads import Upload
from backitd.store.values import (
    AccountRow,
    Clock,
    DeviceRow,
    Fetched,
    FetchState,
    Lease,
    SnapshotRow,
    StoreSettings,
    Usage,
)

__all__ = [
    "AccountRow",
    "Clock",
    "DeviceRow",
    "FetchState",
    "Fetched",
    "Lease",
    "SnapshotRow",
    "Store",
    "StoreSettings",
    "Upload",
    "Usage",
]
