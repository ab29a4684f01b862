"""Promises the repository keeps about itself: shape of the code, lock, documents, programs.

What a tool can check (style, types, imports, protos) is left to `make check`.
"""

import ast
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOTS = ["backit", "daemon/backitd", "ctl/backitctl", "fuse_mount/backitfs", "cloud/backitcloud"]
PACKAGES = [ROOT / folder for folder in ROOTS if (ROOT / folder).exists()]
GENERATED = [ROOT / "backit/v1", ROOT / "backit/format/v1"]

LONGEST_FILE = 400
LONGEST_FUNCTION = 80
# "backit/engine/chunker.py" or "backit/engine/chunker.py:cut" -> why it may be longer.
ALLOWED_LONGER: dict[str, str] = {}

# Each is where other projects' modules lost their shape.
SHAPELESS_NAMES = {"base", "common", "helpers", "manager", "misc", "types", "util", "utils"}

DOCUMENTS = [
    "README.md",
    "DESIGN.md",
    "FORMAT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE",
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules_below(*folders: Path) -> list[Path]:
    return [
        module
        for folder in folders
        for module in sorted(folder.rglob("*.py"))
        if not any(module.is_relative_to(generated) for generated in GENERATED)
    ]


MODULES = modules_below(*PACKAGES)


@pytest.mark.parametrize("module", [*MODULES, *modules_below(ROOT / "tests")], ids=name_of)
def test_each_module_says_what_lives_there(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_bytes()))
    assert docstring, f"{name_of(module)} does not open with a docstring"


def longer_than_allowed(module: Path) -> dict[str, int]:
    source = module.read_text(encoding="utf-8")
    lengths = {name_of(module): len(source.splitlines())}
    found = {name: length for name, length in lengths.items() if length > LONGEST_FILE}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                found[f"{name_of(module)}:{node.name}"] = length
    return found


def test_files_and_functions_stay_short() -> None:
    found: dict[str, int] = {}
    for module in MODULES:
        found |= longer_than_allowed(module)
    assert {name: lines for name, lines in found.items() if name not in ALLOWED_LONGER} == {}
    assert set(ALLOWED_LONGER) <= set(found), "an exception that nothing needs any more"


def test_no_module_has_a_shapeless_name() -> None:
    found = [name_of(m) for m in MODULES if {m.stem, m.parent.name} & SHAPELESS_NAMES]
    assert found == []


def test_each_folder_of_code_is_a_package() -> None:
    """A folder without __init__.py imports here and is missing from what we ship."""
    folders = {module.parent for package in PACKAGES for module in package.rglob("*.py")}
    assert [name_of(f) for f in sorted(folders) if not (f / "__init__.py").exists()] == []
    assert [name_of(p) for p in PACKAGES if not (p / "py.typed").exists()] == []


def test_packaging_and_tests_are_no_packages() -> None:
    """`packaging/__init__.py` would hide the library of that name; tests import by path."""
    found = [*(ROOT / "packaging").rglob("__init__.py"), *(ROOT / "tests").rglob("__init__.py")]
    assert found == []


def test_each_program_starts_and_explains_itself() -> None:
    scripts = sorted(distribution("backit").entry_points.names)
    assert {"backitctl", "backitd"} <= set(scripts)
    for script in scripts:
        command = [str(Path(sys.executable).parent / script), "--help"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (answer.returncode, answer.stderr) == (0, "")
        assert script in answer.stdout
        assert "usage" in answer.stdout.lower()


def requirements(file: str) -> set[str]:
    lines = (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines()
    names = (re.match(r"[\w.-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


@pytest.mark.parametrize(
    ("lock", "sources"), [("build.lock", ["build.in"]), ("all.lock", ["run.in", "dev.in"])]
)
def test_the_lock_pins_every_package_by_hash(lock: str, sources: list[str]) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    pinned = re.sub(r"\n +#.*", "", text).replace(" \\\n    ", " ").splitlines()
    line = re.compile(r"[\w.-]+==[\w.]+( ; [^#]+)?( --hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in pinned if not line.fullmatch(entry)] == []
    for source in sources:
        assert requirements(source) <= requirements(lock)


@pytest.mark.parametrize("lock", ["build.lock", "all.lock"])
def test_the_lock_names_no_place_to_fetch_from(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    assert re.findall(r"(?m)^.*(?:://|find-links|index-url|file:| @ ).*$", text) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_documents_are_there(document: str) -> None:
    assert (ROOT / document).read_text(encoding="utf-8").strip()


def markdown_files() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", markdown_files(), ids=name_of)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links: list[str] = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_each_promise_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    named: list[tuple[str, str]] = re.findall(r"`(tests/\S+\.py)::(\w*)`", text)
    assert len(named) == text.count("::") > 40
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file, _test in named}
    assert [pair for pair in named if f"def {pair[1]}(" not in sources[pair[0]]] == []


def make_targets() -> dict[str, str]:
    """Target -> its line of help."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets: list[str] = re.findall(r"(?m)^\.PHONY: (.*)$", text)[0].split()
    documented = re.findall(r"(?m)^([a-z]+):[^#\n]*## (.+)$", text)
    return dict.fromkeys(targets, "") | dict(documented)


def test_each_make_target_has_a_line_of_help() -> None:
    # What others need, and nobody types.
    inner = {"system", "servers"}
    assert [t for t, doc in make_targets().items() if not doc and t not in inner] == []
    answer = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    for target, doc in make_targets().items():
        assert not doc or re.search(rf"(?m)^make {target} +{re.escape(doc)}$", answer.stdout)


@pytest.mark.parametrize("document", markdown_files(), ids=name_of)
def test_documents_name_only_make_targets_that_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert set(re.findall(r"`(?:\w+=\S+ )?make ([a-z]+)", text)) <= set(make_targets())
