"""The layout of the source: the imports that are allowed, and what runs where. One test for each rule."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "envpack"
MODULES = sorted(SOURCE.rglob("*.py"))

_RELEASE = {
    "contents",
    "publish",
    "signing",
    "interop",
    "build",
    "bundle",
    "prefix",
    "lock",
    "spec",
    "runtime",
}

PARTS = {
    "runtime": set(),
    "suggest": set(),
    "spec": {"suggest", "runtime"},
    "lock": {"spec", "runtime"},
    "prefix": {"runtime"},
    "bundle": {"prefix", "runtime"},
    "build": {"spec", "lock", "runtime"},
    "interop": {"bundle", "prefix", "runtime"},
    "contents": {"prefix", "runtime"},
    "audit": {"contents", "interop", "prefix", "runtime"},
    "publish": {"bundle", "signing", "runtime"},
    "release": _RELEASE,
    "cli": _RELEASE | {"audit", "config", "release"},
    "config": {"suggest", "runtime"},
    "signing": {"config", "suggest", "runtime"},
    "": {"cli", "runtime"},  # envpack/__init__.py and __main__.py
}
"""The parts that each part of envpack may import."""

ROOMS = (
    ("errors", "report", "version", "process"),
    ("fs",),
    ("parallel",),
    ("relocation",),
    ("transport",),
    ("format",),
    ("reader",),
    ("tree",),
    ("host",),
    ("extract",),
    ("deployment",),
    ("store",),
    ("metrics", "service"),
    ("commands",),
    ("command_table",),
    ("__main__",),
)
"""The folders of runtime/, from the bottom: each imports only from its own level and those below."""

ACTIVATION = {"errors"}
"""The modules that runtime/activation may import; any folder may import it."""

SPEC_USES = {"activation", "errors", "fs", "host", "report", "transport"}
"""The parts of the runtime that spec and lock may import: nothing of bundles."""

SPEC_SHARES = "envpack.runtime.format.services"
"""The words that specs and manifests have in common."""

LARGEST_FOLDER = 14
"""Modules in one folder, ``__init__`` and folders named commands apart."""

LARGEST_FILE = 350
"""Lines."""

FOLDERS_TO_MEND: set[str] = set()
FILES_TO_MEND: set[str] = set()
CIRCLES_TO_MEND: set[frozenset[str]] = set()

ENDS = {
    "build/install_worker.py": {"os._exit"},
    "runtime/parallel/processes.py": {"os._exit"},
    "runtime/process.py": {"os._exit"},
}
"""The only end of a process that another one started, and the command lines'."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def part_of(path: Path) -> str:
    first = name_of(path).split("/")[0]
    return "" if first in ("__init__.py", "__main__.py") else first.removesuffix(".py")


def module_of(path: Path) -> str:
    parts = ["envpack", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {module_of(path): path for path in MODULES}


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of everything a module imports, also inside functions and for type checking only."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@cache
def edges(path: Path) -> frozenset[str]:
    """The modules of envpack that a module imports."""
    found = set()
    for name in imports(path):
        while name and name not in KNOWN:
            name = name.rpartition(".")[0]
        found.add(name)
    return frozenset(found - {"", "envpack", module_of(path)})


def calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}


def runtime_modules() -> Iterator[Path]:
    return (path for path in MODULES if part_of(path) == "runtime")


def test_parts_import_only_what_they_may() -> None:
    assert {part_of(path) for path in MODULES} <= set(PARTS)
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in edges(path)
        if part_of(KNOWN[name]) not in PARTS[part_of(path)] | {part_of(path)}
    ]
    assert not wrong


def room_of(module: str) -> str:
    return module.split(".")[2]


def test_rooms_of_the_runtime_import_from_below_only() -> None:
    floors = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
    wrong = []
    for path in runtime_modules():
        if module_of(path) == "envpack.runtime":
            continue
        room = room_of(module_of(path))
        for name in edges(path) - {"envpack.runtime"}:
            other = room_of(name)
            if room == "activation":
                right = other in ACTIVATION | {room}
            else:
                right = other == "activation" or floors[other] <= floors[room]
            if not right:
                wrong.append(f"{name_of(path)} imports {name}")
    assert not wrong


def circle_in(needs: dict[str, set[str]]) -> list[str]:
    """The modules of one, each imported by the next; none when there is no circle."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checking count, too."""
    needs = {module: set(edges(path)) for module, path in KNOWN.items()}
    found: set[frozenset[str]] = set()
    while circle := circle_in(needs):
        found.add(frozenset(circle))
        for before, after in pairwise(circle):
            needs[after].discard(before)
    assert found == CIRCLES_TO_MEND


def test_specs_and_locks_know_nothing_of_bundles() -> None:
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        if part_of(path) in ("spec", "lock")
        for name in edges(path)
        if name.startswith("envpack.runtime.") and room_of(name) not in SPEC_USES and name != SPEC_SHARES
    ]
    assert not wrong


def test_archives_of_other_tools_are_read_by_rules_of_our_own() -> None:
    """What Python's modules refuse depends on its patch release; write.py names an error of zipfile's."""
    allowed = {"interop/write.py": {"zipfile"}}
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        if part_of(path) == "interop"
        for name in imports(path)
        & {"tarfile", "zipfile", "shutil.unpack_archive"} - allowed.get(name_of(path), set())
    ]
    assert not wrong


def test_only_the_command_line_prints_exits_and_imports_typer_and_rich() -> None:
    wrong = []
    for path in MODULES:
        if part_of(path) in ("cli", ""):
            continue
        roots = {name.split(".")[0] for name in imports(path)}
        wrong += [f"{name_of(path)} imports {root}" for root in roots & {"typer", "click", "rich"}]
        if name_of(path) not in ("runtime/__main__.py", "runtime/report.py"):
            ends = calls(path) & {"print", "sys.exit", "exit", "quit", "os._exit"} - ENDS.get(name_of(path), set())
            wrong += [f"{name_of(path)} calls {end}" for end in ends]
    assert not wrong


READERS = {
    "runtime/parallel/resources.py",  # of the kernel's files
    "runtime/activation/variables.py",  # imports nothing, and opens without waiting
    "cli/commands/schema.py",  # envpack's own files, as below
    "lock/pip.py",
    "build/bytecode.py",
    "bundle/cache/signature.py",
    "bundle/zipapp/runtime_zip.py",
    "prefix/needs/rules.py",
    "prefix/scan/prune.py",
    "prefix/relocate/residual_mentions.py",
}
"""The modules that read files by a way of their own."""


def test_files_are_opened_for_reading_by_fs_io() -> None:
    """`open_regular` refuses a pipe and does not wait for a writer. ``open`` has its opener, or writes."""
    wrong = []
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call) or name_of(path) in READERS | {"runtime/fs/io.py"}:
                continue
            called = ast.unparse(node.func)
            if called.endswith((".read_bytes", ".read_text")) and not called.startswith("resources."):
                wrong.append(f"{name_of(path)}:{node.lineno} calls {called}")
            if called == "open" or (called.endswith(".open") and ast.unparse(node).endswith("open('rb')")):
                modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                writes = any(isinstance(mode, str) and mode[0] in "wx" for mode in modes)
                if not writes and "opener" not in [keyword.arg for keyword in node.keywords]:
                    wrong.append(f"{name_of(path)}:{node.lineno} calls {called}")
    assert not wrong


def test_the_runtime_needs_nothing_but_the_standard_library() -> None:
    since_3_14 = {"compression"}  # PEP 784
    known = sys.stdlib_module_names | since_3_14 | {"pynvml", "envpack"}
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in runtime_modules()
        for name in imports(path)
        if name.split(".")[0] not in known
    ]
    assert not wrong


def test_the_runtime_is_written_in_python_3_8() -> None:
    for path in runtime_modules():
        ast.parse(path.read_text(encoding="utf-8"), name_of(path), feature_version=(3, 8))


def test_a_package_has_a_docstring_and_nothing_else_in_its_init() -> None:
    """So that zipimport and the activation stay fast, and a command loads the modules that it names, no others."""
    wrong = [
        name_of(path)
        for path in MODULES
        if path.name == "__init__.py" and name_of(path) not in ("__init__.py", "runtime/activation/__init__.py")
        if len(tree_of(path).body) != 1 or not ast.get_docstring(tree_of(path))
    ]
    assert not wrong


def test_folders_are_small() -> None:
    found = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    large = {
        f"{name_of(folder)}/"
        for folder, count in found.items()
        if count > LARGEST_FOLDER and folder.name != "commands"
    }
    assert large == FOLDERS_TO_MEND


def test_files_are_short() -> None:
    long = {name_of(path) for path in MODULES if len(path.read_text().splitlines()) > LARGEST_FILE}
    assert long == FILES_TO_MEND


def test_modules_of_tests_have_different_names() -> None:
    """pytest imports them by their file names alone."""
    found = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name, count in found.items() if count > 1] == []


def test_help_loads_nothing_heavy() -> None:
    """`envpack --help` answers at once because only the parser is loaded, and no command's own imports."""
    script = (
        "import sys\n"
        "from envpack.cli.app import main\n"
        "from envpack.cli.console import Console\n"
        "main(['--help'], Console.of_process())\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('envpack.')), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded, own = (set(line.split()) for line in done.stderr.splitlines())
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
        "packaging",
    }
    assert "inspect" in done.stdout
    assert "typer" in loaded
    assert not loaded & heavy
    rooms = {name.split(".")[1] for name in own}
    assert rooms == {"cli", "runtime"}
