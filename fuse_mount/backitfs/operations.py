"""What the kernel asks and what it is answered: each call parses, asks one question, renders.

Nothing that goes wrong in a call may end the mount: every handler is `_guarded`, which turns our
errors into errnos by the table in errnos.py and logs what a caller would only see as a number.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyfuse3
from pyfuse3 import FUSEError

from backit.errors import BackitError
from backit.format.magic import MIB, NAME_LIMIT
from backit.format.v1 import tree_pb2 as pb
from backitfs import attributes
from backitfs.catalogue import Volume
from backitfs.errnos import errno_of
from backitfs.things import AFTER_PARENT, FIRST, Entry, Latest, Named, Thing

if TYPE_CHECKING:
    from pyfuse3 import (
        EntryAttributes,
        FileInfo,
        ReaddirToken,
        RequestContext,
        StatvfsData,
    )

    from backit.crypto.primitives import Buffer
    from backitfs.reader import OpenFile, Reader
    from backitfs.things import Things

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, Any]])

# In the handles of directories, which are no inode's number.
DIRECTORY = 1 << 63
# Problems that were logged, so that the kernel's second try does not log them again.
REMEMBERED = 1000


def _guarded(handler: Handler) -> Handler:
    """Errors become errnos, and nothing else gets out."""

    @wraps(handler)
    async def call(self: Operations, *about: Any) -> Any:
        self.calls[handler.__name__] += 1
        try:
            return await handler(self, *about)
        except FUSEError:
            raise
        except BackitError as error:
            self.report(handler.__name__, about[0], error)
            raise FUSEError(errno_of(error)) from None
        except Exception:
            log.exception("%s of inode %s", handler.__name__, about[0])
            raise FUSEError(errno.EIO) from None

    return cast("Handler", call)


@dataclass(slots=True)
class _OpenDirectory:
    """A directory for as long as one caller has it open.

    `shown` is what one above the snapshots shows: that must not change on the way. `end` is the
    position at which one in a snapshot ends, once that is known.
    """

    number: int
    thing: Thing
    shown: Sequence[Named] = ()
    end: int = -1


class Operations(pyfuse3.Operations):
    """One mount. Inode numbers say what they mean; the handle of a file is its number, because
    `read` is given nothing else.
    """

    def __init__(self, things: Things, reader: Reader) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self._things = things
        self._reader = reader
        self._files: dict[int, OpenFile] = {}
        self._directories: dict[int, _OpenDirectory] = {}
        self._handles = 0
        self._reported: dict[tuple[int, str], None] = {}

    @_guarded
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = await self._things.at(parent_inode)
        if name == b".":
            child: Thing | None = parent
        elif name == b"..":
            child = await self._things.parent(parent)
        else:
            child = await self._things.child(parent, name)
        if child is None:
            is_lasting = isinstance(parent, Volume | Entry)
            return attributes.absent(attributes.FOR_LONG if is_lasting else attributes.FOR_NOW)
        found = self._things.attributes(child)
        self._things.hold(found, child)
        return found

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._things.inodes.forget(inode_list)

    @_guarded
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._things.attributes(await self._things.at(inode))

    @_guarded
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        thing = await self._things.at(inode)
        if isinstance(thing, Latest):
            return thing.folder.latest.name
        if isinstance(thing, Entry) and thing.item.entry.target:
            return thing.item.entry.target
        raise FUSEError(errno.EINVAL)

    @_guarded
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise FUSEError(errno.EROFS)
        file = self._files.get(inode)
        if file is None:
            thing = await self._things.at(inode)
            if not isinstance(thing, Entry) or thing.item.entry.type != pb.FILE_TYPE_REGULAR:
                raise FUSEError(errno.EINVAL)
            # Somebody else may have opened it while this one waited.
            file = self._files.setdefault(inode, self._reader.open(*thing))
        file.opens += 1
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    @_guarded
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]
        return await self._reader.read(self._files[fh], off, size)

    @_guarded
    async def release(self, fh: int) -> None:
        file = self._files[fh]
        file.opens -= 1
        if not file.opens:
            del self._files[fh]
            self._reader.close(file)

    @_guarded
    async def flush(self, fh: int) -> None:
        raise FUSEError(errno.ENOSYS)  # the kernel does not ask again

    @_guarded
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        thing = await self._things.at(inode)
        directory = _OpenDirectory(inode, thing)
        if not isinstance(thing, Volume | Entry):
            directory.shown = await self._things.upper(thing)
        self._handles += 1
        handle = DIRECTORY | self._handles
        self._directories[handle] = directory
        return handle

    @_guarded
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        directory = self._directories[fh]
        thing = directory.thing
        if start_id == directory.end or not await self._list_dots(thing, start_id, token):
            return
        if isinstance(thing, Volume | Entry):
            directory.end = await self._list(thing, start_id, token)
            return
        for each in directory.shown[max(start_id - AFTER_PARENT, 0) :]:
            if not pyfuse3.readdir_reply(
                token, each.name, self._things.attributes(each.thing), each.next
            ):
                return

    @_guarded
    async def releasedir(self, fh: int) -> None:
        del self._directories[fh]

    @_guarded
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        thing = await self._things.at(inode)
        if isinstance(thing, Entry):
            for attribute in thing.item.entry.attributes:
                if attribute.name == name:
                    return attribute.value
        raise FUSEError(pyfuse3.ENOATTR)

    @_guarded
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        thing = await self._things.at(inode)
        if not isinstance(thing, Entry):
            return []
        return [attribute.name for attribute in thing.item.entry.attributes]

    @_guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        volumes = list(self._things.roster.volumes)
        found = pyfuse3.StatvfsData()
        found.f_bsize = MIB
        found.f_frsize = attributes.BLOCK
        size = sum(volume.listed.size for volume in volumes)
        found.f_blocks = -(-size // attributes.BLOCK)
        found.f_files = sum(volume.listed.entries for volume in volumes)
        found.f_namemax = NAME_LIMIT
        return found

    def report(self, operation: str, number: int, error: BackitError) -> None:
        """One line for what failed, naming the file; not again for the kernel's second try.

        `number` is an inode's or a handle.
        """
        if number in self._directories:
            number = self._directories[number].number
        key = number, str(error)
        if key in self._reported:
            return
        self._reported[key] = None
        if len(self._reported) > REMEMBERED:
            del self._reported[next(iter(self._reported))]
        log.error("%s of %s: %s", operation, self._things.shown(number), error)

    async def _list_dots(self, thing: Thing, start: int, token: ReaddirToken) -> bool:
        """From a position on; False if the kernel's buffer is full."""
        if start >= AFTER_PARENT:
            return True
        return all(
            pyfuse3.readdir_reply(token, dot.name, attributes.of_dot(dot.number), dot.next)
            for dot in (await self._things.dots(thing))[start:]
        )

    async def _list(self, thing: Volume | Entry, start: int, token: ReaddirToken) -> int:
        """What is in a directory of a snapshot, from a position on, until the kernel's buffer is
        full. Returns the position of its end, -1 if that was not reached.
        """
        if isinstance(thing, Entry):
            volume, inside = thing.volume, thing.item.inside
        else:
            volume, inside = thing, b""
        if start <= AFTER_PARENT:
            ordinal = await self._things.ask(volume, volume.tree.first_of, inside)
        else:
            ordinal = start - FIRST
        while True:
            page = await self._things.ask(volume, volume.tree.page, inside, ordinal)
            before = ordinal
            for item in page:
                number = self._things.inodes.number(volume.slot, item)
                found = attributes.of_item(item, number, self._things.owner)
                ordinal = item.ordinal + 1
                if not pyfuse3.readdir_reply(token, item.entry.name, found, ordinal + FIRST):
                    return -1
                self._things.inodes.hold(number, item)
            if ordinal == before:
                return ordinal + FIRST
