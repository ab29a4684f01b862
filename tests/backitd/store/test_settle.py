"""After damage: nodes above what is lost are read but not relied on, until it has come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.errors import ReferencesMissing, Unavailable
from backitd.store import FetchState, StoreSettings, settle
from tests.backitd.store.boxes import open_box
from tests.backitd.store.spoiling import find, flip

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backitd.store.boxes import Box, Chunk, Session

pytestmark = pytest.mark.logs_warnings


class Tree:
    """Two files, a leaf for each, a node above one, a root above all; each in a pack."""

    def __init__(self, session: Session) -> None:
        self.one, self.two = session.data(b"1" * 3000), session.data(b"2" * 3000)
        self.leaf_one = session.node(b"leaf one", self.one)
        self.leaf_two = session.node(b"leaf two", self.two)
        self.inner = session.node(b"inner", self.leaf_one)
        self.root = session.node(b"root", self.inner, self.leaf_two)
        self.above_one = [self.leaf_one, self.inner, self.root]
        self.nodes = [self.leaf_one, self.leaf_two, self.inner, self.root]
        self.everything = [self.one, self.two, *self.nodes]
        for chunk in self.everything:
            session.upload(chunk)


def quarantine(box: Box, chunk: Chunk) -> None:
    """As the index does it when damage was found, but nobody settles what follows."""
    box.query(
        "index",
        f"UPDATE chunk SET state = 3 WHERE id = x'{chunk.id}'",
        "UPDATE pack SET doubt = 1 WHERE kind = 2",
    )


def lose(session: Session, chunk: Chunk) -> None:
    """Damage it, and have that noticed."""
    path, start = find(session.box, chunk)
    flip(path, start + 150)
    assert session.box.states(session.machine, [chunk]) == [FetchState.DAMAGED]
    session.box.settle()


def test_nodes_above_lost_data_are_read_but_not_relied_on(session: Session) -> None:
    tree = Tree(session)
    lose(session, tree.one)
    missing = [tree.everything[at] for at in session.missing(*tree.everything)]
    assert missing == [tree.one, *tree.above_one]
    assert session.box.all_present(session.machine, [tree.two, *tree.nodes])
    lost = session.box.store.find_lost(
        session.machine.owner.account,
        session.machine.domain,
        [chunk.id for chunk in tree.everything],
    )
    assert [tree.everything[at] for at in lost] == [tree.one], "the nodes can be read"


def test_a_snapshot_with_a_hole_is_not_committed_as_if_it_had_none(session: Session) -> None:
    tree = Tree(session)
    lose(session, tree.one)
    with pytest.raises(ReferencesMissing) as refused:
        session.commit(tree.root)
    assert refused.value.missing == (tree.root.id,)


def test_a_commit_waits_for_what_it_rests_on(session: Session) -> None:
    """Damage is found, and in the same moment a snapshot above it is committed."""
    tree = Tree(session)
    quarantine(session.box, tree.one)  # and nobody has settled what follows
    with pytest.raises(ReferencesMissing):
        session.commit(tree.root)


def deaf(_settler: settle.Settler) -> None:
    """It is stuck with something else."""


def test_a_commit_does_not_wait_for_ever(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(session)
    quarantine(session.box, tree.one)
    monkeypatch.setattr(settle, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(settle.Settler, "ask", deaf)
    with pytest.raises(Unavailable):
        session.commit(tree.root)


def test_following_the_missing_ids_leads_to_what_was_lost(session: Session) -> None:
    """A client that knows no better: sends what it is told to, from the root down."""
    tree = Tree(session)
    lose(session, tree.one)
    by_id = {chunk.id: chunk for chunk in tree.everything}
    sent: list[Chunk] = [tree.root]
    for _ in range(10):
        try:
            session.upload(*reversed(sent))
            break
        except ReferencesMissing as refused:
            sent += [by_id[chunk] for chunk in refused.missing]
    assert sent == [tree.root, tree.inner, tree.leaf_one, tree.one]
    assert session.missing(*tree.everything) == []
    session.commit(tree.root)


def test_what_comes_back_makes_the_nodes_above_it_live_again(session: Session) -> None:
    tree = Tree(session)
    lose(session, tree.one)
    session.upload(tree.one)
    session.box.settle()
    assert session.missing(*tree.everything) == []
    session.commit(tree.root)


def test_a_lost_node_takes_those_above_it_along(session: Session) -> None:
    tree = Tree(session)
    lose(session, tree.inner)
    missing = [tree.everything[at] for at in session.missing(*tree.everything)]
    assert missing == [tree.inner, tree.root]


def test_a_lost_pack_is_followed_at_start(session: Session) -> None:
    tree = Tree(session)
    box = session.box
    path, _start = find(box, tree.one)
    box.store.close()
    path.unlink()
    for open_again in (box.reopen, box.rebuild):
        open_again()
        again = box.session(session.machine)
        missing = [tree.everything[at] for at in again.missing(*tree.everything)]
        assert missing == [tree.one, *tree.above_one]
        assert box.all_present(session.machine, [tree.two, *tree.nodes])


def test_settling_that_was_cut_off_is_finished_at_the_next_start(session: Session) -> None:
    tree = Tree(session)
    box = session.box
    quarantine(box, tree.one)
    assert not box.is_settled
    assert session.missing(tree.root) == []
    box.reopen()
    again = box.session(session.machine)
    missing = [tree.everything[at] for at in again.missing(*tree.everything)]
    assert missing == [tree.one, *tree.above_one]


def test_another_accounts_nodes_are_left_alone(tmp_path: Path) -> None:
    with open_box(tmp_path, settings=StoreSettings()) as box:
        anna, bert = box.new_session("anna"), box.new_session("bert")
        annas, berts = Tree(anna), Tree(bert)
        lose(anna, annas.one)
        assert bert.missing(*berts.everything) == []
        bert.commit(berts.root)


def test_uploads_beside_settling_never_leave_a_live_node_above_a_hole(tmp_path: Path) -> None:
    """While nodes are being settled, others arrive that use them."""
    with open_box(tmp_path) as box:
        session = box.new_session()
        tree = Tree(session)
        quarantine(box, tree.one)
        late = session.node(b"late", tree.inner)
        later = session.node(b"later", late)
        session.upload(late, later)  # tree.inner is still live: nobody has looked yet
        assert session.missing(late, later) == []
        box.reopen()
        again = box.session(session.machine)
        assert again.missing(late, later) == [0, 1]
