"""What a restore and the processes that write for it say to each other over a socket.

One byte, with which open handles of directories travel; then how much of the arena is the
chunk, and the orders. Back come the troubles, or the error that nobody expected. Both ends are this
program; values are pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from backit.client.whole import Whole

HEAD = b"\0"
# The kernel takes 253 handles with one message.
DIRECTORIES_MAX = 128


class Order(NamedTuple):
    """A file that is to be made: in which of the directories that came along, and where its content
    lies in the chunk.
    """

    directory: int
    start: int
    length: int
    whole: Whole


class Trouble(NamedTuple):
    """What befell the file of an order: it was made all the same, or it was not.

    `code` is not 0 for an errno that ends the run; later orders were not tried then.
    """

    order: int
    text: str
    is_made: bool
    code: int = 0
