"""How the house is laid out: which part may import which, and what runs where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "envpack"

# what each part may import of the others; envpack.runtime.{errors,report} and the version are for everyone
ALLOWED = {
    "runtime": set(),
    "spec": {"runtime"},
    "lock": {"spec", "runtime"},
    "prefix": {"spec", "runtime"},
    "bundle": {"prefix", "runtime"},
    "build": {"spec", "lock", "runtime"},
    "interop": {"bundle", "prefix", "runtime"},
    "release": {"signing", "interop", "build", "bundle", "prefix", "lock", "spec", "runtime"},
    "cli": {"config", "signing", "release", "interop", "build", "bundle", "prefix", "lock", "spec", "runtime"},
    "config": {"runtime"},
    "signing": {"config", "runtime"},
    "": {"cli", "runtime"},  # envpack/__init__.py and __main__.py
}
BUNDLE_WORDS = {"model", "reader", "extract", "deploy", "settle", "relocate", "tar", "codec"}
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return "" if first in ("__init__.py", "__main__.py") else first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Full names of everything a module imports, also inside functions and for type checking only."""
    package = ["envpack", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def names(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_every_part_of_the_tree_has_its_rule() -> None:
    assert {part_of(path) for path in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=names)
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    used = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("envpack.") and (SOURCE / name.split(".")[1]).with_suffix("").exists()
    }
    assert used - {part} <= ALLOWED[part], f"{names(path)} imports what stands above it"


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in ("spec", "lock")], ids=names)
def test_specs_and_locks_know_nothing_of_bundles(path: Path) -> None:
    runtime = {name.split(".")[2] for name in imports(path) if name.startswith("envpack.runtime.")}
    assert not runtime & BUNDLE_WORDS


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) == "interop"], ids=names)
def test_archives_of_other_tools_are_read_by_rules_of_our_own(path: Path) -> None:
    """What Python's modules refuse depends on its patch release; write.py names an error of zipfile's."""
    assert not {"tarfile", "shutil.unpack_archive"} & set(imports(path))
    assert "zipfile" not in imports(path) or path.name == "write.py"


ENDS = (SOURCE / "runtime" / "parallel" / "processes.py", SOURCE / "runtime" / "process.py")
"""A forked process's only end, and the command lines'."""


@pytest.mark.parametrize("path", MODULES, ids=names)
def test_only_the_command_line_prints_exits_and_imports_typer_and_rich(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    if part_of(path) not in ("cli", ""):
        assert not roots & {"typer", "click", "rich"}
        if path not in (SOURCE / "runtime" / "__main__.py", SOURCE / "runtime" / "report.py"):
            ends = {"os._exit"} if path in ENDS else set()
            assert not calls(path) & {"print", "sys.exit", "exit", "quit", "os._exit"} - ends


def calls(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


RUNTIME = [path for path in MODULES if part_of(path) == "runtime"]


@pytest.mark.parametrize("path", RUNTIME, ids=names)
def test_the_runtime_needs_nothing_but_the_standard_library(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)} - {"envpack"}
    since_3_14 = {"compression"}  # PEP 784
    assert roots <= sys.stdlib_module_names | since_3_14 | {"pynvml"}


@pytest.mark.parametrize("path", RUNTIME, ids=names)
def test_the_runtime_is_written_in_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def module_of(path: Path) -> str:
    parts = ["envpack", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_at_once(body: Sequence[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """What a module imports when it is imported: not in functions, and not for type checking only."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imported_at_once(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from imported_at_once(getattr(node, field, ()))
            for handler in getattr(node, "handlers", ()):
                yield from imported_at_once(handler.body)


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {module_of(path): path for path in MODULES}
    needs: dict[str, set[str]] = {}
    for module, path in known.items():
        found: set[str] = set()
        for node in imported_at_once(ast.parse(path.read_text(encoding="utf-8")).body):
            targets = [alias.name for alias in node.names]
            assert isinstance(node, ast.Import) or node.level == 0, f"{names(path)} imports relatively"
            if isinstance(node, ast.ImportFrom):
                targets = [str(node.module), *(f"{node.module}.{name}" for name in targets)]
            found.update(name for name in targets if name in known)
        needs[module] = found - {module}
    TopologicalSorter(needs).prepare()  # raises CycleError, with the modules of the circle


def test_help_loads_nothing_heavy() -> None:
    """`envpack --help` answers at once because only the parser is loaded, and no command's own imports."""
    script = (
        "import sys\n"
        "sys.argv = ['envpack', '--help']\n"
        "from envpack.cli.app import run\n"
        "try:\n    run()\n"
        "finally:\n    print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {
        "rattler",
        "rich",
        "yaml",
        "lief",
        "zstandard",
        "isal",
        "deflate",
        "conda_pack",
        "pydantic",
        "asyncio",
    }
    assert "inspect" in done.stdout
    assert not set(done.stderr.split()) & heavy
