"""The benchmark, started by its path: `python tests/bench/run.py`. See `__main__.py`.

Puts the checkout on the import path, so that the benchmark's modules have the names that the
type checkers and pytest know them by.
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
runpy.run_module("tests.bench", run_name="__main__", alter_sys=True)
