"""How the engine is asked about its vectors: where content is cut, and how trees grow."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backit.crypto.keys import DomainKeys
from backit.engine.bundle import THRESHOLDS, bundle_ends, bundle_overflows
from backit.engine.chunker import Chunker
from backit.engine.extents import ExtentsBuilder, list_hash
from backit.engine.leaf import Extent, NewEntry
from backit.engine.tree import TreeBuilder
from backit.format import message
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId, DomainId
from tests.vectors import engine_cases
from tests.vectors.node_cases import HASH

if TYPE_CHECKING:
    from backit.engine.levels import Sealable
    from tests.vectors.case import Case


def domain_keys(case: Case) -> DomainKeys:
    return DomainKeys(DomainId(bytes(16)), case.bytes("domain_secret"))


def read_bundle(case: Case) -> None:
    if "thresholds" in case.fields:
        assert [f"{each:x}" for each in THRESHOLDS] == case.list("thresholds")
        return
    bundles: list[list[int]] = []
    bundle: list[int] = []
    for size, content_hash in engine_cases.bundle_files(case.text("seed")):
        if bundle_overflows(sum(bundle), size):
            bundles.append(bundle)
            bundle = []
        bundle.append(size)
        if bundle_ends(sum(bundle), size, content_hash):
            bundles.append(bundle)
            bundle = []
    assert [len(each) for each in bundles] == case.list("files")
    assert [sum(each) for each in bundles] == case.list("sizes")


def read_chunker(case: Case) -> None:
    length, period = case.number("length"), case.number("period")
    data = memoryview(engine_cases.cut_data(case.text("seed"), length, period))
    chunks = Chunker(domain_keys(case)).cut(data, is_last=True)
    assert [len(chunk) for chunk in chunks] == case.list("cuts")
    assert b"".join(chunks) == data


def levels_of(nodes: list[Sealable]) -> list[int]:
    """How many nodes there are of each level."""
    counts = Counter(message.decode(pb.Node, each.plaintext).level for each in nodes)
    return [counts[level] for level in range(len(counts))]


def read_tree(case: Case) -> None:
    nodes: list[Sealable] = []
    builder = TreeBuilder(domain_keys(case), nodes.append)
    for directory, name, data in engine_cases.rows(case.text("recipe")):
        entry = pb.Entry(name=name, type=pb.FILE_TYPE_FIFO)
        extents = [Extent(ChunkId(chunk), offset, length) for chunk, offset, length in data or ()]
        if data is not None:
            size = sum(extent.length for extent in extents)
            entry = pb.Entry(name=name, type=pb.FILE_TYPE_REGULAR, size=size, content_hash=HASH)
        builder.add(NewEntry(directory, entry, extents))
    root = builder.finish()
    assert root.chunk.raw == case.bytes("root")
    assert (root.count, root.size) == (case.number("count"), case.number("size"))
    assert levels_of(nodes) == case.list("nodes")


def read_extents(case: Case) -> None:
    nodes: list[Sealable] = []
    builder = ExtentsBuilder(domain_keys(case), nodes.append)
    run = engine_cases.run_of_extents(case.number("count"), case.number("kinds"))
    for chunk, offset, length in run:
        builder.add(Extent(ChunkId(chunk), offset, length))
    inline, root = builder.finish()
    extents = [Extent(ChunkId(chunk), offset, length) for chunk, offset, length in run]
    assert list_hash(domain_keys(case), *extents) == case.bytes("content_hash")
    assert not inline
    assert root is not None
    assert root.raw == case.bytes("root")
    assert levels_of(nodes) == case.list("nodes")
