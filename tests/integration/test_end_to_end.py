"""The main job: a spec becomes a bundle, the bundle an environment elsewhere that runs and shows no trace."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from envpack.spec.parse import parse_spec
from support.forked import envpack as forked
from support.real_environments import CLEAN
from support.trees import paths, snapshot

SPEC = """\
name: e2e
channels: [conda-forge]
dependencies:
  - python
  - charset-normalizer
  - click
  - markdown-it-py
  - relocation-samples
  - pip:
      - cowsay
variables:
  GREETING: "it's $HOME and \\"this\\""
envpack:
  version: "1.2"
  prune: [tests, headers]
  exclude:  # of Python what no test here is about
    - lib/lib*krb5*
    - lib/libcrypto.so*
    - lib/libsqlite3.so*
    - lib/libssl.so*
    - lib/python3*/config-3*/
    - lib/python3*/encodings/**/[cim]*
    - lib/python3*/lib-dynload/_codecs_*
    - lib/python3*/lib-dynload/_hashlib*
    - lib/python3*/lib-dynload/_sqlite3*
    - lib/python3*/lib-dynload/_ssl*
    - lib/python3*/lib-dynload/nis*
    - bin/2to3*
    - asyncio/
    - distutils/
    - lib2to3/
    - multiprocessing/
    - tkinter/
    - unittest/
    - xml/
  test:
    - python -c "import click, cowsay"
  commands:
    hello: python -c "print('hello')"
"""
REPOSITORY = Path(__file__).resolve().parents[2]
PLACEHOLDERS = (b"placehold_placehold", b"_h_env_placehold", b"envpack_placeholder")


@dataclass(frozen=True)
class Made:
    bundle: Path
    lock: Path
    work: Path


def envpack(*arguments: object, **environment: str) -> dict[str, object]:
    done = forked(*arguments, "--json", env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def made(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("e2e")
    spec, lock = folder / "e2e.yml", folder / "e2e.lock"
    spec.write_text(SPEC)
    envpack("lock", spec, "-c", channel_url, "-o", lock)
    bundle, work = folder / "e2e.tar.gz", folder / "work-of-the-build-machine"
    envpack("build", lock, "-o", bundle, "--work-dir", work, "--level", 1)
    return Made(bundle, lock, work)


@pytest.fixture(scope="module")
def deployed(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("envs") / "e2e"
    envpack("deploy", made.bundle, root)
    return root


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_file_has_a_trace_of_the_build_prefix_or_of_a_placeholder(made: Made, deployed: Path) -> None:
    forbidden = re.compile(b"|".join(map(re.escape, (*PLACEHOLDERS, os.fsencode(made.work)))))
    found = [
        name
        for name, path in paths(deployed, own=False).items()
        if path.is_file() and forbidden.search(path.read_bytes())
    ]
    assert found == []
    written_in = [
        name for name, path in paths(deployed, own=False).items() if os.fsencode(deployed) in path.read_bytes()
    ]
    assert any(name.endswith(".so.1.0") or ".so" in name for name in written_in)
    assert any(name.startswith("bin/") for name in written_in)
    assert any(name.endswith(".pyc") for name in written_in)


def test_the_table_of_the_bundle_does_not_show_the_build_machine(made: Made, deployed: Path) -> None:
    for name in ("paths.json", "manifest.json"):
        assert os.fsencode(made.work) not in (deployed / ".envpack" / name).read_bytes()


def test_every_script_runs_without_activation(deployed: Path) -> None:
    scripts = [path for path in (deployed / "bin").iterdir() if path.read_bytes()[:2] == b"#!"]
    ours = {"activate", "activate.fish", "activate.csh", "deactivate", "conda-unpack"}
    scripts = [path for path in scripts if path.name not in ours]
    assert {"cowsay", "markdown-it", "normalizer"} <= {path.name for path in scripts}
    for script in scripts:
        interpreter = script.read_bytes().split(b"\n")[0][2:].split()[0]
        assert interpreter == b"/bin/sh" or interpreter.startswith(os.fsencode(deployed)), script
        done = subprocess.run([script, "--help"], env=CLEAN, capture_output=True, stdin=subprocess.DEVNULL)
        assert done.returncode in (0, 1, 2), (script, done.stderr)
        assert b"Traceback" not in done.stderr, (script, done.stderr)
        assert b"bad interpreter" not in done.stderr


def test_strings_that_share_their_ends_are_all_right(deployed: Path) -> None:
    """The linker keeps ``relocation-samples/notes.txt`` as the end of a path in the prefix; filling that path up
    with NULs, as conda does, would empty it."""
    done = subprocess.run(
        [deployed / "bin/relocation-sample", "--tail"], env=CLEAN, capture_output=True, text=True
    )
    notes, tail = done.stdout.splitlines()
    assert tail == "tail=relocation-samples/notes.txt"
    assert Path(notes.partition("=")[2]).samefile(deployed / "share/relocation-samples/notes.txt")
    plain = subprocess.run([deployed / "bin/relocation-sample"], env=CLEAN, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr


def test_every_package_imports_and_nothing_is_compiled_on_the_way(deployed: Path) -> None:
    before = snapshot(deployed)
    code = """
import importlib, importlib.metadata, sys
top = {str(file).split("/")[0] for found in importlib.metadata.distributions() for file in found.files or ()}
names = sorted({name.removesuffix(".py") for name in top if name.removesuffix(".py").isidentifier()})
for name in [*names, *sorted(sys.stdlib_module_names - {"antigravity", "this", "idlelib", "turtledemo"})]:
    try:
        importlib.import_module(name)
    except ImportError as problem:
        if name in names and not name.startswith("_"):
            raise
print(*names)
"""
    done = subprocess.run(
        [deployed / "bin/python", "-c", code], env=CLEAN, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert {"charset_normalizer", "click", "cowsay", "markdown_it"} <= set(done.stdout.split())
    assert snapshot(deployed) == before


def test_activation_sets_the_variables_and_the_commands_are_shown(deployed: Path) -> None:
    script = f'. "{deployed}/bin/activate" && printf "%s\\n" "$GREETING" "$CONDA_PREFIX" && command -v cowsay'
    done = subprocess.run(["/bin/sh", "-c", script], env=CLEAN, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['it\'s $HOME and "this"', str(deployed), f"{deployed}/bin/cowsay"]
    assert json.loads((deployed / "conda-meta/state").read_text())["env_vars"]["GREETING"].startswith("it's")


@dataclass(frozen=True)
class Moved:
    """A deployment at another place than it was made for, and what it was before."""

    first: Path
    second: Path
    before: object


@pytest.fixture(scope="module")
def moved(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    folder = tmp_path_factory.mktemp("moved")
    root = folder / "an env"
    envpack("deploy", made.bundle, root)
    before = snapshot(root, own=False)
    return Moved(root, root.rename(folder / "second"), before)


@pytest.mark.parametrize("first_use", ["activate", "conda-unpack"])
def test_tar_and_first_use_give_what_deploy_gives(made: Made, moved: Moved, first_use: str) -> None:
    root = moved.first
    root.mkdir()
    subprocess.run(["tar", "-xzf", made.bundle, "-C", root], check=True)
    call = f'. "{root}/bin/activate"' if first_use == "activate" else f'"{root}/bin/conda-unpack"'
    subprocess.run(["bash", "-c", call], env={"PATH": "/usr/bin:/bin"}, check=True)
    assert snapshot(root, own=False) == moved.before
    done = subprocess.run([root / "bin/cowsay", "-t", "ok"], env=CLEAN, capture_output=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(root)


def test_a_moved_deployment_gets_its_new_prefix_when_it_is_activated(moved: Moved) -> None:
    subprocess.run(["bash", "-c", f'. "{moved.second}/bin/activate" && cowsay -t ok'], env=CLEAN, check=True)
    traces = [
        name
        for name, path in paths(moved.second, own=False).items()
        if os.fsencode(moved.first) in path.read_bytes()
    ]
    assert traces == []


def test_an_application_added_to_the_bundle_is_imported_wherever_it_lies(made: Made, tmp_path: Path) -> None:
    code, bundle = tmp_path / "code", tmp_path / "with-code.tar.gz"
    code.mkdir()
    (code / "serve.py").write_text("import click\nprint(__file__, click.__name__)\n")
    envpack("pack", "--base", made.bundle, "--app", code, "--bundle-version", "1.3", "-o", bundle)
    first, second = tmp_path / "first", tmp_path / "elsewhere" / "second"
    envpack("deploy", bundle, first)

    def served(*command: object) -> str:
        words = list(map(str, command))
        return subprocess.run(words, capture_output=True, text=True, env=CLEAN, cwd="/", check=True).stdout

    assert served(first / "bin/python", "-m", "serve") == f"{first}/app/serve.py click\n"
    envpack("move", first, second)
    assert (
        served("/bin/sh", "-c", f". {second}/bin/activate && python -m serve") == f"{second}/app/serve.py click\n"
    )
    served("tar", "-xf", bundle, f"--one-top-level={tmp_path}/by-tar")
    assert served(tmp_path / "by-tar/bin/python", "-m", "serve") == f"{tmp_path}/by-tar/app/serve.py click\n"


def test_published_files_are_stored_as_published(made: Made, deployed: Path) -> None:
    from envpack.runtime.reader.bundle import open_bundle

    with open_bundle(made.bundle) as opened:
        assert opened.manifest.changes.modified == ()
        assert opened.manifest.changes.missing == ()
        kinds = {package.kind for package in opened.manifest.packages}
    assert kinds == {"conda", "pypi"}


def test_conda_s_records_are_read_by_rattler(deployed: Path) -> None:
    from rattler import PrefixRecord

    records = [PrefixRecord.from_path(path) for path in (deployed / "conda-meta").glob("*.json")]
    assert {"python", "charset-normalizer", "click"} <= {record.name.normalized for record in records}


def test_the_same_lock_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    output = tmp_path / "e2e.tar.gz"
    envpack("build", made.lock, "-o", output, "--work-dir", tmp_path / "w", "--level", 1)
    assert digest(output) == digest(made.bundle)


@pytest.mark.long
def test_packing_a_prefix_twice_gives_the_same_bytes(deployed: Path, tmp_path: Path) -> None:
    for name in ("1", "2"):
        envpack("pack", "-p", deployed, "-o", tmp_path / f"{name}.tar.zst")
    assert digest(tmp_path / "1.tar.zst") == digest(tmp_path / "2.tar.zst")
    envpack("deploy", tmp_path / "1.tar.zst", tmp_path / "again")
    done = subprocess.run([tmp_path / "again/bin/cowsay", "-t", "ok"], env=CLEAN, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert os.fsencode(deployed) not in b"".join(
        path.read_bytes() for path in paths(tmp_path / "again", own=False).values() if path.is_file()
    )


def readme_spec() -> str:
    (text,) = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return textwrap.dedent(text)


def demo_spec() -> str:
    return (REPOSITORY / "envspecs/demo.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("spec", "command", "output"),
    [
        (readme_spec(), "lock", "demo.lock"),
        pytest.param(demo_spec(), "build", "demo.tar.gz", marks=pytest.mark.long),
    ],
    ids=["README", "demo"],
)
def test_the_first_specs_give_no_warning_on_the_demos_channel(
    spec: str, command: str, output: str, channel_url: str, tmp_path: Path
) -> None:
    """What is to be built of the README's is among what is built of the other."""
    (tmp_path / "demo.yml").write_text(spec)
    words = [sys.executable, "-m", "envpack", command, tmp_path / "demo.yml", "-c", channel_url, "-o", output]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    if command == "build":
        envpack("deploy", tmp_path / output, tmp_path / "env")


def test_the_demo_has_all_packages_of_the_readme_s_spec() -> None:
    readme, demo = (parse_spec(text, "demo.yml") for text in (readme_spec(), demo_spec()))
    assert set(readme.dependencies) <= set(demo.dependencies)
    assert {line.split()[0] for line in readme.pip} <= {line.split()[0] for line in demo.pip}
