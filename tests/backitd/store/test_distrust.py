"""What a revoked device sent too late is read by its owner, and relied on by no other device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from backit.errors import ReferencesMissing
from tests.backitd.store.spoiling import find, flip

if TYPE_CHECKING:
    from tests.backitd.store.boxes import Box, Chunk, Session

pytestmark = pytest.mark.logs_warnings


@dataclass
class Domain:
    """A laptop and a stolen machine in one domain, and what each has sent before and after."""

    box: Box
    laptop: Session
    stolen: Session
    early: Chunk
    late: Chunk
    leaf: Chunk
    root: Chunk
    theft: int

    def revoke(self, since: int | None = None) -> None:
        owner = self.laptop.machine.owner
        moment = self.theft if since is None else since
        self.box.store.put_statements(owner.account, [self.stolen.machine.revocation(moment)])

    def missing(self) -> list[str]:
        self.box.settle()
        names = {self.early: "early", self.late: "late", self.leaf: "leaf", self.root: "root"}
        return [list(names.values())[at] for at in self.laptop.missing(*names)]


@pytest.fixture
def domain(session: Session) -> Domain:
    box, owner = session.box, session.machine.owner
    machine = owner.machine("stolen").join(session.machine)
    box.store.put_statements(owner.account, [machine.certificate(1)])
    stolen = box.session(machine)
    early, late = stolen.data(b"early" * 900), stolen.data(b"late" * 900)
    stolen.upload(early)
    box.forward(100)
    theft = int(box.clock.now())
    stolen.upload(late)
    # The laptop found "late" there, and has built on it.
    leaf = session.node(b"leaf", early, late)
    root = session.node(b"root", leaf)
    session.upload(leaf, root)
    return Domain(box, session, stolen, early, late, leaf, root, theft)


def again(domain: Domain) -> Chunk:
    """The laptop's own record of what the stolen machine had sent."""
    return domain.laptop.data(b"late" * 900)


def test_what_came_too_late_is_missing_with_all_that_rests_on_it(domain: Domain) -> None:
    assert domain.missing() == []
    domain.revoke()
    assert domain.missing() == ["late", "leaf", "root"]


def test_it_can_still_be_read(domain: Domain) -> None:
    domain.revoke()
    chunks = [domain.early, domain.late, domain.leaf, domain.root]
    assert domain.box.all_present(domain.laptop.machine, chunks)
    machine = domain.laptop.machine
    ids = [chunk.id for chunk in chunks]
    assert domain.box.store.find_lost(machine.owner.account, machine.domain, ids) == []


def test_a_revocation_from_now_on_costs_nothing(domain: Domain) -> None:
    domain.box.forward(1)
    domain.revoke(int(domain.box.clock.now()))
    assert domain.missing() == []


def test_no_snapshot_is_committed_on_it(domain: Domain) -> None:
    domain.revoke()
    with pytest.raises(ReferencesMissing):
        domain.laptop.commit(domain.root)
    domain.laptop.upload(again(domain))
    domain.box.settle()
    domain.laptop.commit(domain.root)


def test_a_trusted_copy_takes_its_place(domain: Domain) -> None:
    domain.revoke()
    copy = again(domain)
    domain.laptop.upload(copy)
    assert domain.missing() == []
    assert domain.box.all_present(domain.laptop.machine, [copy])


def test_what_is_on_its_way_is_too_late_as_well(domain: Domain) -> None:
    chunk = domain.stolen.data(b"on its way")
    upload = domain.stolen.begin_upload()
    upload.put([chunk.record])
    domain.revoke()
    upload.finish()
    domain.box.settle()
    assert domain.laptop.missing(chunk) == [0]


@pytest.mark.parametrize("copied", [False, True])
def test_a_rebuilt_index_distrusts_the_same(domain: Domain, copied: bool) -> None:  # noqa: FBT001
    domain.revoke()
    if copied:
        domain.laptop.upload(again(domain))
    expected = domain.missing()
    domain.box.rebuild()
    domain.laptop = domain.box.session(domain.laptop.machine)
    assert domain.missing() == expected == ([] if copied else ["late", "leaf", "root"])


def test_a_revocation_that_a_crash_cut_off_is_applied_at_the_next_start(domain: Domain) -> None:
    domain.revoke()
    expected = domain.missing()
    domain.box.query("index", "UPDATE chunk SET state = 1", "DELETE FROM distrusted")
    domain.box.reopen()
    domain.laptop = domain.box.session(domain.laptop.machine)
    assert domain.missing() == expected


def test_a_pack_that_does_not_say_who_sent_it_is_not_trusted(domain: Domain) -> None:
    pack = find(domain.box, domain.late)[0]
    flip(pack, -1)
    domain.revoke()
    assert domain.missing() == ["late", "leaf", "root"]
