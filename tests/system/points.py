"""Where in a run something is to happen: seeded points, dense where there is most to break."""

import os
import random

FULL = os.environ.get("BACKIT_FULL") == "1"
COUNT = 100 if FULL else 6
# Greetings, login and lease come in the first bytes of a run, its commit and good-bye in the last.
EDGE = 8_000


def points(seed: str, total: int, count: int = COUNT) -> list[int]:
    """So many numbers of bytes in a run of `total`: a sixth near each end, the rest all over it."""
    rng = random.Random(seed)
    edge = count // 6
    inner = count - 2 * edge
    step = max(1, (total - 2 * EDGE) // inner)
    return [
        *(rng.randrange(EDGE) for _ in range(edge)),
        *(EDGE + step * at + rng.randrange(step) for at in range(inner)),
        *(total - rng.randrange(EDGE) for _ in range(edge)),
    ]
