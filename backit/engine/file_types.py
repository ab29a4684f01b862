"""What kinds of file a snapshot holds, and what stat calls them. Nothing here looks at a file."""

from __future__ import annotations

import stat

from backit.format.v1 import tree_pb2 as pb

FORMAT_MASK = 0o170000
REGULAR = stat.S_IFREG

FORMAT_OF = {
    pb.FILE_TYPE_REGULAR: stat.S_IFREG,
    pb.FILE_TYPE_DIRECTORY: stat.S_IFDIR,
    pb.FILE_TYPE_SYMLINK: stat.S_IFLNK,
    pb.FILE_TYPE_FIFO: stat.S_IFIFO,
    pb.FILE_TYPE_CHARACTER: stat.S_IFCHR,
    pb.FILE_TYPE_BLOCK: stat.S_IFBLK,
}
TYPE_OF = {format_: kind for kind, format_ in FORMAT_OF.items()}
DEVICES = (pb.FILE_TYPE_CHARACTER, pb.FILE_TYPE_BLOCK)


def file_type(mode: int) -> pb.FileType.ValueType | None:
    """The type an entry would have; None for sockets and what else cannot be saved."""
    return TYPE_OF.get(mode & FORMAT_MASK)


def full_mode(entry: pb.Entry) -> int:
    """The mode as stat gives it: permissions and type."""
    return FORMAT_OF[entry.type] | entry.mode
