"""Reads 4 KiB at 1,000 random places of the one file below a folder. A program, to be timed."""

import os
import random
import sys
from pathlib import Path

READS, SIZE = 1000, 4096


def main(folder: Path) -> None:
    (path,) = (each for each in folder.rglob("*") if each.is_file())
    draw = random.Random(1)
    fd = os.open(path, os.O_RDONLY)
    length = os.fstat(fd).st_size
    for _ in range(READS):
        if len(os.pread(fd, SIZE, draw.randrange(length - SIZE))) != SIZE:
            sys.exit("a read came short")
    os.close(fd)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
