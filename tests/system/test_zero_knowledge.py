"""Who has the box, the network or a machine that only writes has no name, content or key."""

import json
import os
import random
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from backports import zstd

from backit.client import account
from backit.client.device import DeviceKeys
from backit.client.home import Home
from backit.client.login import KeptLogin
from backit.client.profile import Profile
from backit.client.remote import Appliance
from backit.crypto.keys import SlotKeys
from backit.crypto.passphrase import Cost, stretch
from backit.format import statement
from backit.format.v1 import statement_pb2 as pb
from tests.programs import Box, Person
from tests.system import canary
from tests.system.canary import Canary
from tests.system.locks import locks_of, opened
from tests.system.sameness import assert_same
from tests.system.trees import MIB
from tests.system.wire import Way, tapped

PASSWORD = "nightingale quartz umbrella 47"
NEW_PASSWORD = "quicksand lantern parabola 83"
KINDS = {"session", "slot", "epoch", "domain", "body", "record"}


@dataclass(frozen=True)
class Story:
    """All that a person did, what nobody may know of it, and what was overheard meanwhile."""

    box: Box
    anna: Person
    source: Path
    canary: Canary
    overheard: dict[str, bytes]
    # Keys by what they are for.
    keys: dict[str, list[bytes]]


@pytest.fixture(scope="module")
def story(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("canary")
    source = folder / "source"
    source.mkdir()
    secrets = canary.plant(source, "zero knowledge")
    secrets.words |= {PASSWORD.encode(), NEW_PASSWORD.encode()}
    rng = random.Random("tags and hosts")
    anna = Person(folder / "home", PASSWORD)
    tags = ("--tag", secrets.word(rng), "--exclude", secrets.word(rng))
    if os.geteuid() == 0:  # a host name of her own, which the snapshots carry
        rename = 'hostname "$0"; exec "$@"'
        anna.prefix = ("unshare", "--uts", "sh", "-c", rename, secrets.word(rng))
    overheard: dict[str, bytes] = {}
    with tapped(box.port, listens_in=True) as tls, tapped(box.socket, listens_in=True) as plain:
        anna.joins(tls.address, "anna", "--label", "a machine")
        anna.logs_in()
        anna.backup(source, *tags)
        anna.restore(f"latest:{source}", folder / "restored")
        (source / secrets.word(rng)).write_bytes(secrets.content(rng.randbytes(MIB // 2)))
        anna.ctl("pair", plain.address, "--trust-first-use")
        anna.backup(source, *tags)
        anna.restore(f"latest:{source}", folder / "restored")
        rotate_password(anna)
        kit = anna.ctl("--json", "recovery-kit").json
        anna.ctl("check", "--read-data")
        overheard["TLS"] = bytes(tls.overheard[Way.TO_BOX] + tls.overheard[Way.TO_CLIENT])
        overheard["unix"] = bytes(plain.overheard[Way.TO_BOX] + plain.overheard[Way.TO_CLIENT])
    anna.ctl("pair", box.unix, "--trust-first-use")
    assert_same(source, folder / "restored")
    keys = keys_of(anna, box)
    for key in (key for each in keys.values() for key in each):
        secrets.key(key)
    secrets.words.add(str(kit["words"]).encode())
    return Story(box, anna, source, secrets, overheard, keys)


def rotate_password(anna: Person) -> None:
    """Change the password the way scripts do."""
    new = anna.home.with_name("new password")
    new.write_text(NEW_PASSWORD)
    replace(anna, environment={"BACKIT_NEW_PASSWORD_FILE": str(new)}).ctl("password")
    anna.write_password(NEW_PASSWORD)


def keys_of(anna: Person, box: Box) -> dict[str, list[bytes]]:
    """Every key of somebody who is logged in, by the client's own code."""
    home = Home.find({"BACKIT_HOME": str(anna.home)})
    profile = Profile.load(home, "default")
    profile = replace(profile, address=type(profile.address).parse(box.unix))
    login = json.loads(home.login("default").read_text())
    kept = KeptLogin.load(home, "default", int(login["ends"]) - 60)
    assert kept is not None
    device = DeviceKeys.load(home, "default")
    with Appliance.connect(profile, kept.credential, token=kept.token) as appliance:
        keyring = account.reopen(appliance, kept.credential, kept.slot, kept.root).keyring()
    files = (box.state / "store" / "accounts").glob("*/sessions/*")
    sessions = [keyring.session_key(statement.parse(file.read_bytes())) for file in files]
    return {
        "login": [kept.credential.key.seed, slot_key(box, NEW_PASSWORD)],
        "root": [kept.root.secret, kept.root.wrap_key, kept.root.owner.seed],
        "vault": [each.secret for each in keyring.vaults.values()],
        "session": sessions,
        "domain": [
            device.domain.secret,
            device.domain.data_id_key,
            device.domain.content_key,
            device.domain.content_list_key,
        ],
        "device": [device.signing.seed],
    }


def slot_key(box: Box, password: str) -> bytes:
    """What a password opens its slot with."""
    for file in (box.state / "store" / "accounts").glob("*/statements/slot-*"):
        body = statement.parse(file.read_bytes()).body
        assert isinstance(body, pb.SlotBody)
        if body.kind == pb.SLOT_KIND_PASSWORD:
            cost = Cost(body.memory_kib, body.passes)
            keys = SlotKeys(stretch(password, body.salt, cost))
            if keys.commitment(body.salt, body.memory_kib, body.passes) == body.commitment:
                return keys.key
    raise AssertionError("no slot for this password")


def test_nothing_on_the_box_shows_names_contents_or_keys(story: Story) -> None:
    story.box.stop()
    try:
        files = list(canary.files_below(story.box.folder))
        assert sum(file.stat().st_size for file in files) > 2 * MIB
        seen = {str(file): story.canary.seen_in(file.read_bytes()) for file in files}
        assert {name: found for name, found in seen.items() if found} == {}
        # Names of files could tell, too.
        names = " ".join(str(path) for path in story.box.folder.rglob("*")).encode()
        assert story.canary.seen_in(names) == []
    finally:
        story.box.start()


def test_the_running_databases_show_nothing_either(story: Story) -> None:
    story.anna.backup(story.source)
    files = [*story.box.state.glob("*.db*"), story.box.log]
    assert any(file.name.endswith("-wal") for file in files)
    for file in files:
        assert story.canary.seen_in(file.read_bytes()) == [], file


@pytest.mark.root
def test_the_memory_of_the_daemon_holds_no_secret(story: Story) -> None:
    story.anna.restore(f"latest:{story.source}", story.anna.home.with_name("again"))
    story.anna.backup(story.source)
    process = story.box.process
    assert process is not None
    rng = random.Random(3)
    some = [*rng.sample(sorted(story.canary.words), 10)]
    some += rng.sample(sorted(story.canary.windows), 10)
    some += [key for keys in story.keys.values() for key in keys[:1]]
    total = 0
    for piece in memory_of(process.pid):
        total += len(piece)
        assert [each for each in some if each in piece] == []
    assert total > 10 * MIB


def memory_of(pid: int) -> Iterator[bytes]:
    """What a process can write to, region by region."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[v" not in line:
                start, end = (int(number, 16) for number in found.groups())
                memory.seek(start)
                yield memory.read(end - start)


def test_the_network_shows_nothing(story: Story) -> None:
    for name, overheard in story.overheard.items():
        assert len(overheard) > MIB // 2, name
        assert story.canary.seen_in(overheard) == [], name
    # The tap works: records are there to be seen where TLS does not hide even them.
    assert b"BKRC" in story.overheard["unix"]
    assert b"BKRC" not in story.overheard["TLS"]


def test_the_search_would_find_what_it_looks_for(story: Story) -> None:
    file = next(path for path in story.source.rglob("*") if path.is_file())
    data = file.read_bytes()
    assert story.canary.seen_in(b"noise" + data[7:60] + b"noise")
    assert story.canary.seen_in(b"noise" + zstd.compress(data) + b"noise")
    assert story.canary.seen_in(str(file).encode())
    assert story.canary.seen_in(story.keys["root"][0].hex().encode())


@pytest.fixture
def thief(story: Story, tmp_path: Path) -> Person:
    """Somebody with everything a machine that only writes has on its disk, and nothing else."""
    shutil.copytree(story.anna.home, tmp_path / "loot")
    shutil.rmtree(tmp_path / "loot" / "run")
    found = Person(tmp_path / "loot", environment={"BACKIT_PASSWORD_FILE": ""})
    found.ctl("pair", story.box.unix, "--trust-first-use")
    return found


@pytest.mark.parametrize(
    "command",
    [
        ("restore", "latest", "--to", "{target}"),
        ("ls", "latest"),
        ("cat", "latest:{source}/file"),
        ("snapshots",),
        ("find", "*"),
        ("diff", "latest", "latest"),
        ("check", "--read-data"),
        ("forget", "latest"),
        ("stats",),
        ("recovery-kit",),
        ("keys", "rotate"),
        ("device", "list"),
    ],
    ids=lambda command: command[0],
)
def test_a_write_only_machine_is_refused_what_reads(
    story: Story, thief: Person, command: tuple[str, ...], tmp_path: Path
) -> None:
    words = [word.format(target=tmp_path / "out", source=story.source) for word in command]
    # It may know the account's machines, which the box knows as well; nothing else.
    thief.ctl(*words, expect=(0, 4) if command[0] == "device" else 4)
    assert not (tmp_path / "out").exists()


def test_a_write_only_machine_still_backs_up(thief: Person, source: Path) -> None:
    (source / "file").write_bytes(b"more")
    assert thief.backup(source)["failed"] == 0


def keys_in(folder: Path) -> set[bytes]:
    """Every key of 32 bytes that is written in these files."""
    found: set[bytes] = set()
    for file in canary.files_below(folder):
        coded = re.findall(rb"\b[0-9a-f]{64}\b", file.read_bytes())
        found |= {bytes.fromhex(each.decode()) for each in coded}
    return found


def test_no_key_on_a_write_only_machine_opens_anything(story: Story, thief: Person) -> None:
    locks = locks_of(story.box.state)
    assert {lock.kind for lock in locks} == KINDS
    device = DeviceKeys.load(Home.find({"BACKIT_HOME": str(thief.home)}), "default")
    keys = keys_in(thief.home)
    assert {device.signing.seed, device.domain.secret, device.owner_key} <= keys
    assert opened(locks, keys) == set()
    # Nor do any other 32 bytes that lie there, written in whatever way.
    small = {lock.kind: lock for lock in sorted(locks, key=lambda each: -len(each.sealed))}
    data = b"".join(file.read_bytes() for file in canary.files_below(thief.home / "state"))
    anywhere = [data[at : at + 32] for at in range(len(data) - 31)]
    assert [key for lock in small.values() for key in anywhere if lock.opens_with(key)] == []


def test_the_right_keys_open_everything(story: Story) -> None:
    locks = locks_of(story.box.state)
    keys = [key for kind in ("login", "root", "vault", "session") for key in story.keys[kind]]
    assert opened(locks, keys) == KINDS


def test_a_write_only_machine_keeps_no_content_and_no_clear_name(
    story: Story, thief: Person
) -> None:
    allowed = {key for each in ("device", "domain") for key in story.keys[each]}
    secrets = Canary(set(story.canary.words), story.canary.windows)
    for key in allowed:
        own = Canary()
        own.key(key)
        secrets.words -= own.words
    for file in canary.files_below(thief.home):
        assert secrets.seen_in(file.read_bytes()) == [], file
    assert socket.gethostname().encode() not in secrets.words
