"""Trees whose difficulty is what things are called: bytes, lengths, look-alikes, order."""

import os
import random
import unicodedata
from pathlib import Path

from tests.fidelity.registry import generator

AWKWARD = (
    b"new\nline",
    b"\n",
    b"carriage\rreturn",
    b"tab\t",
    b"bell\a and \x1b[31mescape",
    b" leading space",
    b"trailing space ",
    b" ",
    b"'",
    b'"',
    b"`id`",
    b"$HOME",
    b"$(reboot)",
    b"~",
    b"~root",
    b"-",
    b"--",
    b"-rf",
    b"--delete",
    b"*",
    b"?",
    b"[a-z]",
    b"{a,b}",
    b"!",
    b"#comment#",
    b"%s%n%x",
    b"back\\slash",
    b"\\#012",
    b"a:b",
    b"host:path",
    b"snapshot@latest",
    b"..a",
    b"...",
    b".hidden",
    b"trailing.",
    b"CON",
    b"NUL.txt",
    b"a;b&c|d>e<f",
    b"\x7f",
)


@generator()
def names_of_every_byte(root: Path, rng: random.Random) -> None:
    """Each byte that may stand in a name, alone and in company; most are not UTF-8."""
    for value in range(1, 256):
        byte = bytes([value])
        if byte not in b"/.":
            _put(root, byte, rng)
        if byte != b"/":
            _put(root, b"a" + byte + b"z", rng)
    for name in (
        b"\xff\xfe",
        b"\xc3",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
    ):
        _put(root, name, rng)
        _folder(root, b"dir-" + name, rng)


@generator()
def names_of_255_bytes(root: Path, rng: random.Random) -> None:
    """As long as a name can be: one more byte for a temporary name and it breaks."""
    for name in (b"x" * 255, b"\xff" * 255, "é".encode() * 127 + b"e", "日".encode() * 85):
        _put(root, name, rng)
    for name in (b"d" * 255, b"\xfe" * 255):
        _folder(root, name, rng)
    for length in (239, 240, 250, 254):
        _put(root, b"n" * length, rng)
    (root / ("s" * 255)).symlink_to("x" * 255)


@generator()
def names_awkward(root: Path, rng: random.Random) -> None:
    """Names that shells, terminals, patterns, options and other systems trip over."""
    for name in AWKWARD:
        _put(root, name, rng)
        _folder(root, b"in " + name, rng)
    _folder(root, b"-d", rng)
    unicode = (
        "\u202egpj.exe",
        "\ufeffmark",
        "e\u200bmpty",
        "👩\u200d👩\u200d👧",
        "\u2028",
        "日本語",
    )
    for text in unicode:
        _put(root, text.encode(), rng)


@generator()
def names_alike(root: Path, rng: random.Random) -> None:
    """Pairs that some systems take for one name: composed and decomposed, upper and lower case."""
    for text in ("é", "Å", "ñandú", "각", "ệ"):
        for form in ("NFC", "NFD"):
            _put(root, unicodedata.normalize(form, text).encode() + b".txt", rng)
            _folder(root, unicodedata.normalize(form, text).encode(), rng)
    for name in (
        b"readme",
        b"README",
        b"ReadMe",
        "straße".encode(),
        b"strasse",
        b"STRASSE",
    ):
        _put(root, name, rng)
    for name in (b"Folder", b"folder", b"FOLDER"):
        _folder(root, name, rng)


@generator()
def names_in_odd_order(root: Path, rng: random.Random) -> None:
    """Names whose order depends on whether '/' or the whole path is compared."""
    for name in (b"a", b"a\x01", b"a ", b"a-b", b"a.", b"a.b", b"a0", b"aa", b"\x01", b"\xff"):
        _folder(root, name, rng)
        _folder(root / os.fsdecode(name), b"a", rng)
        _put(root, name + b"!", rng)
        _put(root, name + b"\x01\x01", rng)
    for length in range(1, 60):
        _put(root, b"p" * length, rng)
    prefix = b"the same two hundred bytes".ljust(200, b".")
    for number in range(50):
        _put(root, prefix + b"%d" % number, rng)


def _put(folder: Path, name: bytes, rng: random.Random) -> None:
    (folder / os.fsdecode(name)).write_bytes(b"content of " + name + rng.randbytes(4))


def _folder(folder: Path, name: bytes, rng: random.Random) -> None:
    inner = folder / os.fsdecode(name)
    inner.mkdir()
    _put(inner, b"inside", rng)
