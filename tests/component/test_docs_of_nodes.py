"""The commands of the pages about nodes and systems work as written; a directory stands for each node."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envpack.cli.app import COMMANDS
from envpack.runtime.format.services import Mount, Service
from envpack.spec.parse import parse_spec
from support.forked import envpack
from support.small_prefix import SmallPrefix

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
SPECS = sorted(path.stem for path in (REPOSITORY / "envspecs").glob("*.yml") if path.stem != "demo")
SERVER = """\
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
# A node is a directory: its home, and what its commands name below /opt.
SSH = """\
#!/bin/sh
node=$NODES/$1
shift
cd "$node/home" || exit 255
export HOME="$node/home"
exec sh -c "$(printf '%s' "$*" | sed "s|/opt|$node/opt|g")" </dev/null
"""
SCP = """\
#!/bin/sh
cp "$2" "$NODES/${3%%:*}/home/${3#*:}"
"""


def blocks(page: str, language: str = "sh") -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield re.findall(r"http://[\d.:]+", server.stdout.readline())[0]
        finally:
            server.terminate()


class Laptop:
    """The working directory of the page, and its nodes."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder, self.nodes = folder / "edit", folder / "nodes"
        self.names = [f"gpu{number:02}" for number in range(1, nodes + 1)]
        for name in self.names:
            (self.nodes / name / "home").mkdir(parents=True)
            (self.nodes / name / "opt/envs").mkdir(parents=True)
        programs = folder / "programs"
        programs.mkdir()
        for name, text in (("ssh", SSH), ("scp", SCP)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = {**os.environ, "PATH": path, "NODES": str(self.nodes)}
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            self.port = trial.getsockname()[1]

    def build(self) -> None:
        """Build what stands for the bundle of the page."""
        (self.folder / "dist").mkdir(parents=True)
        (self.folder / "src").mkdir()
        (self.folder / "src/main.py").write_text(SERVER)
        weights = self.folder.parent / "models"
        weights.mkdir()
        (weights / "weights").write_text("1")
        prefix = SmallPrefix(self.folder / "prefix")
        prefix.link("bin/python", sys.executable)
        prefix.write("lib/server.py", SERVER)
        prefix.pack(
            self.folder / "dist/qwen-edit-2509.1-20261127-linux-64.tar.gz",
            outside="keep",
            name="qwen-edit",
            version="2509.1",
            test=("true",),
            commands={"gpu": "echo a GPU", "serve": 'python "$CONDA_PREFIX/lib/server.py"'},
            services={"serve": Service(self.port, "/healthz", mounts=(str(weights),), stop=5)},
            mounts={str(weights): Mount(str(weights), 1, "the weights")},
        )

    def run(self, script: str, url: str) -> str:
        script = script.replace("https://bundles.example.org", url).replace(":8000/", f":{self.port}/")
        script = script.replace("seq -f 'gpu%02g' 10", f"seq -f 'gpu%02g' {len(self.names)}")
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def deployments(self) -> list[str]:
        return [name for name in self.names if (self.nodes / name / "opt/envs/qwen-edit").exists()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("nodes", [2, pytest.param(10, marks=pytest.mark.long)])
def test_the_page_of_the_ten_nodes_works_as_written(tmp_path: Path, nodes: int) -> None:
    laptop = Laptop(tmp_path, nodes)
    laptop.build()
    _, *steps, clean_up = blocks("nodes.md")
    with served(laptop.folder / "dist") as url:
        shown = laptop.run("\n".join(steps), url)
    assert laptop.deployments() == laptop.names
    assert not re.search(r": exit \d", shown)
    assert "a GPU" in shown and "2: qwen-edit 2509.2, current" in shown
    assert "qwen-edit 2509.1, generation 1, is at" in shown
    assert "platform" in (laptop.folder / f"{laptop.names[-1]}.txt").read_text()
    unit = (laptop.nodes / laptop.names[-1] / "home/.config/systemd/user/qwen-edit.service").read_text()
    assert f"{laptop.nodes}/{laptop.names[-1]}/opt/envs/qwen-edit/bin/serve-run" in unit
    laptop.run("dest=/opt/envs/qwen-edit\n" + clean_up, "")
    assert laptop.deployments() == []
    assert [list((laptop.nodes / name / "home").glob("*.pyz")) for name in laptop.names] == [[]] * nodes


def test_the_page_has_the_messages_and_exit_codes_that_one_sees(tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    laptop.build()
    page = (DOCS / "nodes.md").read_text(encoding="utf-8")
    bundle = next((laptop.folder / "dist").glob("*.tar.gz"))
    dest = tmp_path / "envs/qwen-edit"
    dest.parent.mkdir()

    def sees(message: str, command: str) -> None:
        line = ["bash", "-uc", command, "bash", bundle, dest]
        done = subprocess.run(line, cwd=laptop.folder, env=laptop.environ, capture_output=True, text=True)
        assert message in done.stderr
        row = next(row for row in page.splitlines() if row.startswith("|") and message in row)
        assert row.split("|")[2].strip() == str(done.returncode)

    sees("command not found", "LC_ALL=C; PATH=/nowhere; python3 runtime.pyz")
    subprocess.run(["bash", "-euc", 'tar -xOf "$0" .envpack/runtime.pyz >runtime.pyz', bundle], cwd=laptop.folder)
    with served(bundle.parent) as url:
        sees("the server responded 404", f'python3 runtime.pyz deploy {url}/other.tar.gz "$2"')
    sees("is truncated: ", 'head -c 20000 "$1" >cut.tar.gz; python3 runtime.pyz deploy cut.tar.gz "$2"')
    subprocess.run([sys.executable, "runtime.pyz", "deploy", bundle, dest], cwd=laptop.folder, check=True)
    with socket.create_server(("127.0.0.1", laptop.port)):
        sees("is taken by ", '"$2/bin/serve-run"')
    (tmp_path / "models/weights").unlink()
    sees("a mount is not as needed: ", '"$2/bin/serve-run"')
    (dest / "results.txt").touch()
    sees("has files that are not from a bundle or were edited", 'python3 runtime.pyz remove "$2"')


def test_the_page_puts_code_into_the_spec(tmp_path: Path) -> None:
    clone = tmp_path / "envpack"
    (clone / "examples/systems").mkdir(parents=True)
    (clone / "envspecs").mkdir()
    shutil.copy(REPOSITORY / "envspecs/qwen-edit.yml", clone / "envspecs")
    shutil.copytree(REPOSITORY / "examples/systems/qwen-edit", clone / "examples/systems/qwen-edit")
    *lines, last = blocks("nodes.md")[0].splitlines()
    assert last == "envpack release qwen-edit.yml"
    subprocess.run(["bash", "-euc", "\n".join(lines)], cwd=clone, check=True)
    spec = parse_spec((tmp_path / "edit/qwen-edit.yml").read_text("utf-8"), "qwen-edit.yml")
    assert dict(spec.app) == {"app": "src"} and (tmp_path / "edit/src/main.py").exists()


def uses() -> list[tuple[str, ...]]:
    """Return each command of the two pages with its options: module, command, options."""
    found = set()
    for page in ("nodes.md", "systems.md"):
        text = "\n".join(blocks(page) + blocks(page, "console"))
        text = re.sub(r"\S+/bin/\w+-run", "envpack.runtime run", text)
        for program, command, rest in re.findall(r"(envpack(?:\.runtime)?|runtime\.pyz) (\w+)([^|<>;\n]*)", text):
            module = "envpack" if program == "envpack" else "envpack.runtime"
            options = re.findall(r"(?<= )--?[a-z][a-z-]*", rest)
            found.add((module, command, *options))
    return sorted(found)


@pytest.mark.parametrize("use", uses(), ids=" ".join)
def test_the_commands_shown_have_these_options(use: tuple[str, ...]) -> None:
    module, command, *options = use
    assert module != "envpack" or command in COMMANDS
    if module == "envpack":
        done = envpack(command, "--help")
    else:
        words = [sys.executable, "-m", module, command, "--help"]
        done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [option for option in options if not re.search(rf"(?<!\S){option}\b", done.stdout)] == []


@pytest.mark.parametrize("name", SPECS)
def test_the_page_of_the_systems_follows_their_specs(name: str) -> None:
    page = (DOCS / "systems.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page.split(f"## {name}\n")[1], flags=re.MULTILINE)[0]
    spec = parse_spec((REPOSITORY / f"envspecs/{name}.yml").read_text("utf-8"), f"{name}.yml")
    assert f"envpack release envspecs/{name}.yml" in section
    assert f"dist/{name}-{spec.version}-DATE-linux-64.tar.gz /opt/envs/{name}" in section
    started = re.findall(rf"(?:envpack run )?/opt/envs/{name}(?:/bin/(\w+)-run| (\w+))", section)
    names = {one or other for one, other in started}
    assert "serve" in names and names <= set(spec.commands)
    assert (REPOSITORY / "examples/systems" / name / "main.py").exists()
