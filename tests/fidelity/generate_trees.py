"""Trees as people have them: a git checkout, a database, and everything mixed at random."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

from tests.fidelity.commands import run
from tests.fidelity.registry import Need, generator


# Its index holds inode numbers and times, so no two are equal.
@generator(Need.GIT, repeatable=False)
def git_checkout(root: Path, rng: random.Random) -> None:
    """A repository with history, branches, a pack, loose objects and uncommitted work."""
    work = root / "project"
    work.mkdir()
    env = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "Anna Example" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "anna@example.org" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_DATE": "1700000000 +0200" for who in ("AUTHOR", "COMMITTER")},
    }

    def git(*words: str) -> None:
        run("git", "-C", work, *words, env=env)

    git("init", "--quiet", "--initial-branch=main")
    (work / "source").mkdir()
    for number in range(6):
        (work / "source" / f"part{number}.py").write_text(f"print({rng.random()})\n" * 40)
        git("add", "--all")
        git("commit", "--quiet", "--message", f"part {number}")
    (work / "main.py").symlink_to("source/part0.py")
    (work / "source" / "part1.py").chmod(0o755)
    git("checkout", "--quiet", "-b", "feature/links")
    git("add", "--all")
    git("commit", "--quiet", "--message", "links")
    git("gc", "--quiet")
    (work / "source" / "part2.py").write_text("loose = True\n")
    git("commit", "--quiet", "--all", "--message", "loose")
    git("tag", "v1")
    (work / "source" / "part3.py").write_text("uncommitted = True\n")
    (work / "untracked").write_bytes(rng.randbytes(300))


# The log carries random salts.
@generator(repeatable=False)
def sqlite_database(root: Path, rng: random.Random) -> None:
    """A database at rest, and one with its write-ahead log as a crash would leave it."""
    for name, mode in (("at_rest.db", "DELETE"), ("live.db", "WAL")):
        database = sqlite3.connect(root / name)
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE letters (id INTEGER PRIMARY KEY, body BLOB)")
        rows = [(rng.randbytes(rng.randrange(2_000)),) for _ in range(500)]
        database.executemany("INSERT INTO letters (body) VALUES (?)", rows)
        database.commit()
        if mode == "WAL":
            (root / "crashed").mkdir()
            for path in sorted(root.glob("live.db*")):
                shutil.copy(path, root / "crashed")
        database.close()


@generator(Need.USER_XATTRS)
def mixture(root: Path, rng: random.Random) -> None:
    """Several hundred entries of random kinds, names, modes, times and attributes."""
    folders, files = [root], list[Path]()
    for number in range(600):
        path = rng.choice(folders) / os.fsdecode(_name(rng) + b"%d" % number)
        draw = rng.random()
        if draw < 0.2:
            path.mkdir()
            folders.append(path)
        elif draw < 0.3:
            path.symlink_to(os.fsdecode(_name(rng)))
        elif draw < 0.35:
            os.mkfifo(path)
        elif draw < 0.45 and files:
            os.link(rng.choice(files), path)
        else:
            _file(path, rng)
            files.append(path)
    for path in files:
        path.chmod(rng.randrange(0o400, 0o1000))
        os.utime(path, ns=(0, rng.randrange(4 * 10**18)))
    for path in reversed(folders[1:]):
        path.chmod(rng.randrange(0o700, 0o1000))
        os.utime(path, ns=(0, rng.randrange(4 * 10**18)))


def _name(rng: random.Random) -> bytes:
    letters = [byte for byte in range(1, 256) if byte != ord("/")]
    return bytes(rng.choices(letters, k=rng.choice((1, 5, 20, 200))))


def _file(path: Path, rng: random.Random) -> None:
    with path.open("wb") as file:
        if rng.random() < 0.2:
            file.seek(rng.randrange(1 << 20))
        file.write(rng.randbytes(int(rng.paretovariate(0.6) * 50) % (1 << 19)))
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        os.setxattr(path, b"user." + _name(rng)[:100], rng.randbytes(rng.randrange(100)))
