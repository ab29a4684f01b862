"""Every kind of file but sockets has a type, and its mode comes back as stat gave it."""

from __future__ import annotations

import stat as st

import pytest

from backit.engine.file_types import file_type, full_mode
from backit.format.v1 import tree_pb2 as pb


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (st.S_IFREG, pb.FILE_TYPE_REGULAR),
        (st.S_IFDIR, pb.FILE_TYPE_DIRECTORY),
        (st.S_IFLNK, pb.FILE_TYPE_SYMLINK),
        (st.S_IFIFO, pb.FILE_TYPE_FIFO),
        (st.S_IFCHR, pb.FILE_TYPE_CHARACTER),
        (st.S_IFBLK, pb.FILE_TYPE_BLOCK),
        (st.S_IFSOCK, None),
    ],
)
def test_everything_but_a_socket_has_a_type(mode: int, kind: int | None) -> None:
    assert file_type(mode | 0o644) == kind


@pytest.mark.parametrize("kind", [each for each in pb.FileType.values() if each])
def test_a_mode_comes_back_whole(kind: pb.FileType.ValueType) -> None:
    mode = full_mode(pb.Entry(type=kind, mode=0o4751))
    assert (file_type(mode), st.S_IMODE(mode)) == (kind, 0o4751)
