"""Where the distributions of a bundle come from, as its manifest states it."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from envpack.release.make import Recipe, build_bundle
from envpack.runtime.report import Reporter
from support.tiny_wheels import write_wheel

PYPROJECT = """\
[project]
name = "own"
version = "1.0"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import shutil

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("own-1.0-py3-none-any.whl", folder).rpartition("/")[2]
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def repository(folder: Path) -> tuple[str, str]:
    """The address and the commit of a repository with the project 'own' in its folder 'below'."""
    (folder / "below").mkdir(parents=True)
    write_wheel(folder / "below", {"own.py": "x = 1\n"}, name="own")
    (folder / "below/pyproject.toml").write_text(PYPROJECT)
    (folder / "below/backend.py").write_text(BACKEND)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-C", str(folder)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return folder.as_uri(), commit.stdout.strip()


def test_the_manifest_states_the_url_the_digest_and_the_commit(tmp_path: Path, channel_url: str) -> None:
    index = tmp_path / "index"
    (index / "simple/demo").mkdir(parents=True)
    wheel = write_wheel(index, {"demo.py": "x = 1\n"})
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (index / "simple/demo/index.html").write_text(f'<a href="/{wheel.name}#sha256={digest}">{wheel.name}</a>')
    url, commit = repository(tmp_path / "repository")
    spec = tmp_path / "x.yml"
    with serving(index) as host:
        spec.write_text(
            f"channels: ['{channel_url}']\ndependencies:\n- python\n- pip:\n"
            f"  - --index-url http://me:secret@{host}/simple/\n  - demo\n"
            f"  - own @ git+{url}#subdirectory=below\n"
        )
        recipe = Recipe(spec, dict(os.environ), work=tmp_path / "work", cache=False, test=False)
        made = build_bundle(recipe, tmp_path / "x.tar.zst", Reporter())
        packages = {package.name: package for package in made.manifest.packages if package.kind == "pypi"}
        demo, own = packages["demo"], packages["own"]
        assert (demo.url, demo.sha256) == (f"http://{host}/{wheel.name}", digest)
        assert (own.url, own.sha256, own.commit) == ("", "", commit)  # the path of a folder stays private
