"""The program `backitfs`. Nothing else."""

from backitfs.cli import main

if __name__ == "__main__":
    main(prog_name="backitfs")
