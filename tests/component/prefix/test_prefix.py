"""A real environment, installed by rattler and changed by uv and by hand, read and stored file by file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import Entry, PrefixContents, Stored
from envpack.prefix.owners.ownership import source_of
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.relocation.relocation import splices
from envpack.runtime.relocation.splice import splice
from support.paths_tables import table_to_json
from support.real_environments import SITE, conda_install, imported_code, path_of_length, uv_install

PACKAGES = ["python", "requests", "rich", "click", "pip"]
EDITED, DELETED = f"{SITE}/requests/sessions.py", f"{SITE}/idna/codec.py"
SCRIPT = "bin/written-by-hand"
DESTINATION = b"/opt/somewhere else/env"
COMPILE = """
import os, py_compile, sys
for path in sys.argv[1:]:  # each in a process of its own: marshal's bytes depend on what a process compiled before
    if os.fork() == 0:
        py_compile.compile(path, doraise=True)
        os._exit(0)
    assert os.wait()[1] == 0, path
"""
PLACEHOLDERS = (b"placehold_placehold", b"_h_env_placehold", b"envpack_placeholder")


def build(channel_url: str, prefix: Path, cache: Path) -> Path:
    conda_install([channel_url], prefix, [*PACKAGES, "relocation-samples"], cache)
    uv_install(prefix, "click<8.1", "rich<14", "--no-deps")
    sources = sorted(source for name in ("click", "rich") for source in (prefix / SITE / name).rglob("*.py"))
    # before Python 3.11 the order of sets in byte-code, and so its bytes, follow PYTHONHASHSEED
    command = [prefix / "bin/python", "-c", COMPILE, *sources]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    return prefix


@dataclass(frozen=True)
class Everything:
    """An environment read, and every file of it stored."""

    contents: PrefixContents
    stored: dict[str, tuple[Entry, Stored]]

    @property
    def prefix(self) -> bytes:
        return os.fsencode(self.contents.prefix)

    def deployed(self, path: str, destination: bytes) -> bytes:
        stored = self.stored[path][1]
        data = b"".join(stored.pieces)
        return splice(data, splices(stored.relocation, destination)) if stored.relocation else data

    def group(self, path: str) -> str:
        return next(g.id for g in self.contents.groups for entry in g.entries if entry.path == path)


def store_everything(prefix: Path) -> Everything:
    contents = read_prefix(prefix)
    normalizer = FileNormalizer(contents.prefix, contents)
    entries = [entry for group in contents.groups for entry in group.entries if entry.type == "file"]

    def one(entry: Entry) -> tuple[str, tuple[Entry, Stored]]:
        data = entry.content if entry.content is not None else (prefix / entry.path).read_bytes()
        return entry.path, (entry, normalizer.normalize(entry, data))

    with ThreadPoolExecutor(2) as pool:
        return Everything(contents, dict(pool.map(one, entries)))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefix")


@pytest.fixture(scope="module")
def everything(channel_url: str, work: Path) -> Everything:
    prefix = build(channel_url, path_of_length(work, 220), work / "cache")
    with (prefix / EDITED).open("a") as edited:
        edited.write(f"\n# {prefix}/edited\n")
    (prefix / DELETED).unlink()
    (prefix / SCRIPT).write_text(f"#!{prefix}/bin/python\nimport sys\nprint(sys.prefix)\n")
    (prefix / SCRIPT).chmod(0o700)
    return store_everything(prefix)


def published(everything: Everything) -> dict[str, str]:
    """Digests by path of all that conda packages published, read from the records with nothing of envpack."""
    found: dict[str, str] = {}
    for record in (everything.contents.prefix / "conda-meta").glob("*.json"):
        for path in json.loads(record.read_bytes())["paths_data"]["paths"]:
            if path["path_type"] == "hardlink":
                found[path["_path"]] = path["sha256"]
    return found


def test_every_unchanged_conda_file_is_stored_as_published(everything: Everything) -> None:
    replaced = {*everything.contents.replaced, EDITED, DELETED, *everything.contents.missing}
    expected = {path: sha256 for path, sha256 in published(everything).items() if path not in replaced}
    assert len(expected) > 2000
    different = [path for path, sha256 in expected.items() if everything.stored[path][1].sha256 != sha256]
    assert different == []
    for path in expected:
        stored = everything.stored[path][1]
        assert hashlib.sha256(b"".join(stored.pieces)).hexdigest() == stored.sha256


def test_what_changed_is_reported(everything: Everything) -> None:
    contents = everything.contents
    modified = [path for path, (_, stored) in everything.stored.items() if stored.modified]
    assert modified == [EDITED]
    assert DELETED in contents.missing
    assert all(path == DELETED or "/click" in path or "/rich" in path for path in contents.missing)
    assert f"{SITE}/click/core.py" in contents.replaced
    assert SCRIPT in contents.foreign
    assert [remark for _, stored in everything.stored.values() for remark in stored.unrelocatable] == []


def test_files_pip_put_over_conda_s_belong_to_pip_with_their_byte_code(everything: Everything) -> None:
    assert everything.group(f"{SITE}/click/core.py").startswith("pypi:click-8.0")
    tag = sys.implementation.cache_tag
    assert everything.group(f"{SITE}/click/__pycache__/core.{tag}.pyc").startswith("pypi:click-8.0")
    assert everything.group(f"{SITE}/requests/api.py").startswith("conda:requests-")
    packages = {g.package.name for g in everything.contents.groups if g.package and g.package.kind == "pypi"}
    assert packages == {"click", "rich"}


def test_every_path_of_the_tree_is_in_exactly_one_group(everything: Everything) -> None:
    root = everything.contents.prefix
    paths = [entry.path for group in everything.contents.groups for entry in group.entries]
    on_disk = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}
    assert len(paths) == len(set(paths))
    assert set(paths) == on_disk - {"CACHEDIR.TAG"}


def test_no_stored_byte_depends_on_where_the_environment_was_built(everything: Everything) -> None:
    mentioning = [path for path, (_, s) in everything.stored.items() if everything.prefix in b"".join(s.pieces)]
    assert mentioning == []


def test_a_deployment_has_neither_the_build_prefix_nor_a_placeholder(everything: Everything) -> None:
    for path in everything.stored:
        deployed = everything.deployed(path, DESTINATION)
        assert everything.prefix not in deployed, path
        assert not any(placeholder in deployed for placeholder in PLACEHOLDERS), path


NO_FACTS = (
    "co_lnotab",
    "co_lines",
    "co_positions",
    "co_branches",
    "co_consts",
)  # methods, and what is seen to below
FACTS = [name for name in dir(CodeType) if name.startswith("co_") and name not in NO_FACTS]


def facts(code: CodeType) -> list[object]:
    """All that a code object holds: marshal's bytes depend on the process, too."""
    values = [getattr(code, name) for name in FACTS]
    return [
        *values,
        [facts(each) if isinstance(each, CodeType) else (type(each), each) for each in code.co_consts],
    ]


def test_written_back_to_where_it_was_built_every_file_is_what_it_was(everything: Everything) -> None:
    for path, (entry, stored) in everything.stored.items():
        # installers move the ends of strings in binaries, a deployment does not
        rewritten = stored.relocation is not None and (stored.relocation.shebang or stored.relocation.padded)
        if entry.content is None and not rewritten:
            original = (everything.contents.prefix / path).read_bytes()
            deployed = everything.deployed(path, everything.prefix)
            if path.endswith(".pyc"):
                source = f"{os.fsdecode(everything.prefix)}/{source_of(path)}"
                codes = [facts(imported_code(data, source)) for data in (original, deployed)]
                assert codes[0] == codes[1], path
                original, deployed = original[:8], deployed[:8]
            assert deployed == original, path


def test_scripts_of_every_installer_run_from_the_deployed_interpreter(everything: Everything) -> None:
    for path in ("bin/pip", "bin/pygmentize", SCRIPT):
        assert everything.deployed(path, b"/e").startswith(b"#!/e/bin/python"), path
        long_line = everything.deployed(path, DESTINATION).split(b"\n")
        assert long_line[0] == b"#!/bin/sh" and long_line[1].startswith(
            b"'''exec' \"" + DESTINATION + b"/bin/python"
        )


def test_a_second_environment_elsewhere_is_stored_as_the_same_bytes(
    everything: Everything, channel_url: str, work: Path
) -> None:
    other = store_everything(build(channel_url, path_of_length(work / "elsewhere", 180), work / "cache"))
    changed = {EDITED, DELETED, SCRIPT}
    first = {path: stored.sha256 for path, (_, stored) in everything.stored.items() if path not in changed}
    second = {path: stored.sha256 for path, (_, stored) in other.stored.items() if path not in changed}
    assert first == second
    assert [g.id for g in other.contents.groups] == [g.id for g in everything.contents.groups]


def test_an_environment_that_was_deployed_is_proved_and_packed_again(
    everything: Everything, tmp_path: Path
) -> None:
    root = tmp_path / "deployed"
    for path in everything.stored:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(everything.deployed(path, os.fsencode(root)))
        place.chmod(everything.stored[path][0].mode)
    records = tuple(
        PathRecord(path, "file", entry.mode, stored.size, stored.sha256, relocation=stored.relocation)
        for path, (entry, stored) in everything.stored.items()
    )
    (root / PATHS_PATH).parent.mkdir()
    (root / PATHS_PATH).write_bytes(table_to_json(PathsTable({"all": records})))
    again = store_everything(root)
    assert [path for path, (_, stored) in again.stored.items() if stored.modified] == [EDITED]
    python_files = {path for path in again.stored if not path.endswith(".pyc")}
    assert {
        path for path in python_files if again.stored[path][1].sha256 != everything.stored[path][1].sha256
    } == set()
