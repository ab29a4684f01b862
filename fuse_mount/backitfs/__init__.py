"""The program `backitfs`: snapshots as a read-only file system, for whoever holds the keys.

    cli ─> serve ─> operations ─┬─> catalogue, inodes     which snapshot, which number
                                ├─> view, layout          names, entries, where bytes lie (pure)
                                ├─> reader ─> cache       chunks at hand, or brought in a thread
                                └─> account               the appliance, through backit.client

One process a mount. Everything but `account` and what `cache` runs in threads happens on one trio
thread; what is at hand is answered there without waiting.
"""
