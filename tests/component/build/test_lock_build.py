"""From a spec to a prefix with real packages: the local channel, PyPI, source distributions made here."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml

from envpack.build.build import build_prefix
from envpack.build.bytecode import SOURCE_MTIME
from envpack.build.location import choose_prefix
from envpack.lock.formats.explicit import explicit_text
from envpack.lock.inputs import load_input
from envpack.lock.model import Lock, LockedPypi, read_lock, write_lock
from envpack.lock.solve import PackageSources, solve_lock
from envpack.runtime.errors import BuildError, SpecError
from envpack.spec.model import EnvSpec
from envpack.spec.parse import parse_spec
from support.compilers import compiler, variables
from support.reporters import RecordingReporter
from support.trees import contents

PLATFORM = "linux-64"
SPEC = """\
name: sample
dependencies:
  - python
  - charset-normalizer
  - click
  - pip:
      - cowsay==6.1
      - charset-normalizer >1
      - ./compiled
variables: {GREETING: "hello 'you'"}
envpack:
  version: "2.0"
  requires: {glibc: "2.28", cuda: "11.8"}
  test: [cowsay -t ok]
"""
C_SOURCE = """\
/* What is used of CPython's stable ABI: a distribution's Python comes without its headers. */
typedef struct _object PyObject;
typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
typedef struct { const char *name; PyCFunction function; int flags; const char *text; } PyMethodDef;
typedef struct { long references; void *type; void *init; long index; void *copy; } PyModuleDef_Base;
typedef struct {
  PyModuleDef_Base base; const char *name; const char *text; long size; PyMethodDef *methods; void *others[4];
} PyModuleDef;
extern PyObject *PyUnicode_FromString(const char *);
extern PyObject *PyModule_Create2(PyModuleDef *, int);
enum { METH_NOARGS = 4, PYTHON_ABI_VERSION = 3 };
char place[] = PREFIX "/share/x"; /* no literal: lld puts these into an order that depends on their text */
static PyObject *where(PyObject *self, PyObject *args) { return PyUnicode_FromString(place); }
static PyMethodDef methods[] = {{"where", where, METH_NOARGS, ""}, {0}};
static PyModuleDef module = {{1}, "compiled", "", -1, methods};
PyObject *PyInit_compiled(void) { return PyModule_Create2(&module, PYTHON_ABI_VERSION); }
"""
SETUP = """\
import sys
from setuptools import Extension, setup
options = {
    "define_macros": [("PREFIX", '"%s"' % sys.base_prefix)],
    "extra_compile_args": ["-g0"],  # debug information and the build id tell the folder it was compiled in
    "extra_link_args": ["-Wl,--build-id=none"],
}
setup(name="compiled", version="1.0", ext_modules=[Extension("compiled", ["compiled.c"], **options)])
"""


@pytest.fixture(scope="module", autouse=True)
def build_with_the_compiler_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # one word, since setuptools splits CC at blanks
    program = tmp_path_factory.mktemp("compiler") / "cc"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(compiler())} "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        # a distribution's Python links with options of GNU ld, which zig's linker does not have
        for name, value in {**variables(), "CC": str(program), "LDSHARED": f"{program} -shared"}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "compiled").mkdir()
    (folder / "compiled" / "setup.py").write_text(SETUP)
    (folder / "compiled" / "compiled.c").write_text(C_SOURCE)
    (folder / "sample.yml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def lock(project, channel_url) -> Lock:
    spec = load_input(project / "sample.yml")
    assert isinstance(spec, EnvSpec)
    return solve_lock(spec, sources=PackageSources([channel_url]))


@pytest.fixture(scope="module")
def built(lock, tmp_path_factory, cache):
    work = tmp_path_factory.mktemp("one")
    result = build_prefix(lock, choose_prefix(work), cache_dir=cache)
    yield result
    shutil.rmtree(work)


def run(result, *command: str) -> str:
    env = {"PYTHONDONTWRITEBYTECODE": "1"}  # its byte code is for a deployment, and would be replaced here
    return subprocess.run(command, cwd="/", check=True, capture_output=True, text=True, env=env).stdout


def test_the_lock_is_exact_and_pip_leaves_alone_what_conda_gives(lock):
    locked = lock.platform(PLATFORM)
    assert {"python", "charset-normalizer", "click"} <= {record.name.normalized for record in locked.conda}
    assert all(record.sha256 for record in locked.conda)
    assert [(package.name, bool(package.sha256)) for package in locked.pypi] == [
        ("compiled", False),
        ("cowsay", True),
    ]


def test_a_lock_file_is_read_back_the_same_and_carries_the_spec(lock, project):
    path = project / "sample.lock"
    write_lock(lock, path)
    again = load_input(path)
    assert isinstance(again, Lock)
    assert again.spec == lock.spec
    assert again.spec_digest == lock.spec.digest()
    assert again.channels == lock.channels
    assert again.platform(PLATFORM).pypi == lock.platform(PLATFORM).pypi
    assert [(r.url, r.sha256, r.depends) for r in again.platform(PLATFORM).conda] == [
        (r.url, r.sha256, r.depends) for r in lock.platform(PLATFORM).conda
    ]
    assert "- pypi: ./compiled\n" in path.read_text()
    assert "__cuda=11.8" in path.read_text()


def test_the_prefix_is_long_and_works(built, lock):
    assert len(os.fsencode(built.prefix)) == 220
    assert built.python is not None
    script = "import charset_normalizer.md as md, click, cowsay, compiled; print(md.__file__, compiled.where())"
    assert run(built, str(built.python), "-c", script).strip().endswith(f".so {built.prefix}/share/x")
    assert "ok" in run(built, str(built.prefix / "bin" / "cowsay"), "-t", "ok")
    state = json.loads((built.prefix / "conda-meta" / "state").read_text())
    assert state["env_vars"] == {"GREETING": "hello 'you'"}
    for record in lock.platform(PLATFORM).conda:
        assert list((built.prefix / "conda-meta").glob(f"{record.name.normalized}-*.json"))
    assert [path.name for path in built.prefix.parent.iterdir()] == [built.prefix.name]


def test_the_history_has_the_requested_specs_and_names_packages_as_conda_does(built, lock):
    history = (built.prefix / "conda-meta" / "history").read_text().splitlines()
    assert history[0].startswith("==> ") and history[1] == "# cmd: envpack build"
    assert history[-1] == "# update specs: ['python', 'charset-normalizer', 'click']"
    installed = [line.partition("::")[2] for line in history if line.startswith("+")]
    assert sorted(installed) == sorted(
        f"{record.name.normalized}-{record.version}-{record.build}" for record in lock.platform(PLATFORM).conda
    )


def test_the_records_list_the_byte_code_that_the_build_made(built):
    found = {}
    for path in (built.prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_text())
        assert len(record["files"]) == len(set(record["files"]))
        assert {item["_path"] for item in record["paths_data"]["paths"]} == set(record["files"])
        found[record["name"]] = [name for name in record["files"] if name.endswith(".pyc")]
        assert all((built.prefix / name).is_file() for name in record["files"])
    assert any("/click/__pycache__/" in name for name in found["click"])
    assert any("/charset_normalizer/__pycache__/" in name for name in found["charset-normalizer"])
    assert not any("cowsay" in name for names in found.values() for name in names)


def test_building_again_elsewhere_gives_the_same_files(built, lock, tmp_path, cache):
    work = tmp_path / "another-folder-of-another-length"
    again = build_prefix(lock, choose_prefix(work), cache_dir=cache)
    one, two = contents(built.prefix), contents(again.prefix)
    assert one.keys() == two.keys()
    ours, theirs = os.fsencode(built.prefix), os.fsencode(again.prefix)
    differ = [name for name in one if one[name].replace(ours, theirs) != two[name]]
    # the records hold hashes of files that hold the prefix: the packer writes these anew
    assert [name for name in differ if not name.startswith("conda-meta/")] == []


def test_a_folder_that_was_built_from_is_left_as_it_was(built, project):
    assert not (project / "compiled" / "build").exists()


def test_the_caches_are_left_as_they_were_published(built, cache):
    for file in (cache / "pkgs").rglob("*.py"):
        assert os.fsencode(built.prefix) not in file.read_bytes()
    for package in (path for path in (cache / "pkgs").iterdir() if path.is_dir()):
        published = {entry["_path"] for entry in json.loads((package / "info/paths.json").read_text())["paths"]}
        assert {str(path.relative_to(package)) for path in package.rglob("*.pyc")} <= published
    assert not any("compiled" in path.name for path in (cache / "uv").rglob("*.so"))


def test_every_module_has_byte_code_that_records_the_bundles_time(built):
    assert built.compiled is not None and len(built.compiled.compiled) > 20
    published = {name for name in built.compiled.valid if "/site-packages/" not in name}
    assert len(published) > 500  # of the package python
    for name in built.compiled.compiled:
        folder, _, module = name.rpartition("/")
        (pyc,) = (built.prefix / folder / "__pycache__").glob(f"{module[:-3]}.cpython-*.pyc")
        header = pyc.read_bytes()[:16]
        assert int.from_bytes(header[8:12], "little") == SOURCE_MTIME
        assert int.from_bytes(header[12:16], "little") == (built.prefix / name).stat().st_size


def test_record_has_no_hash_of_what_relocation_changes_and_no_trace_of_the_build_machine(built, project):
    (site,) = built.prefix.glob("lib/python*/site-packages")
    record = (site / "compiled-1.0.dist-info" / "RECORD").read_text().splitlines()
    assert [line.split(",")[1] for line in record if line.startswith("compiled.")] == [""]
    cowsay = (site / "cowsay-6.1.dist-info" / "RECORD").read_text()
    assert "../../../bin/cowsay,,\n" in cowsay
    for name in (line.split(",")[0] for line in record):
        assert (site / name).exists()
    for file in site.glob("*.dist-info/*.json"):
        assert str(project) not in file.read_text()


def test_an_explicit_list_builds_the_same_packages(lock, tmp_path, cache):
    path = tmp_path / "pinned.txt"
    path.write_text(explicit_text(lock.platform(PLATFORM), PLATFORM))
    again = load_input(path)
    assert isinstance(again, Lock)
    assert again.spec.name == "pinned"
    assert [(r.url, r.sha256, r.noarch.python) for r in again.platform(PLATFORM).conda] == [
        (r.url, r.sha256, r.noarch.python) for r in lock.platform(PLATFORM).conda
    ]


def test_an_explicit_list_with_another_hash_or_an_unknown_package_is_refused(lock, tmp_path):
    text = explicit_text(lock.platform(PLATFORM), PLATFORM)
    first = lock.platform(PLATFORM).conda[0]
    assert first.md5 is not None
    text = text.replace(first.md5.hex(), "0" * 32).replace("/click-", "/click-0")
    path = tmp_path / "pinned.txt"
    path.write_text(text)
    with pytest.raises(BuildError, match=r"2 of \d+ packages in .* do not match") as caught:
        load_input(path)
    assert any(f"{path}:3: {first.file_name} has md5" in line for line in caught.value.details)
    assert any("does not list click-0" in line for line in caught.value.details)
    path.write_text(f"@EXPLICIT\n{first.url}\nnumpy=1.2\n")
    with pytest.raises(SpecError, match=r"pinned\.txt:3: 'numpy=1\.2', expected the URL"):
        load_input(path)


def test_a_conda_lock_file_is_a_lock(lock, tmp_path):
    packages = [
        {
            "name": record.name.normalized,
            "version": str(record.version),
            "manager": "conda",
            "platform": PLATFORM,
            "dependencies": {},
            "url": record.url,
            "hash": {"md5": record.md5.hex(), "sha256": record.sha256.hex()},
            "category": "main",
            "optional": False,
        }
        for record in lock.platform(PLATFORM).conda
    ]
    (cowsay,) = (package for package in lock.platform(PLATFORM).pypi if package.name == "cowsay")
    pip = dict(packages[0], name="cowsay", version="6.1", manager="pip", url=cowsay.location)
    pip["hash"] = {"sha256": cowsay.sha256}
    dev = dict(packages[0], name="black", category="dev")
    metadata = {"platforms": [PLATFORM, "osx-64"], "channels": [{"url": lock.channels[0]}], "sources": []}
    path = tmp_path / "conda-lock.yml"
    path.write_text(yaml.safe_dump({"version": 1, "metadata": metadata, "package": [*packages, pip, dev]}))
    reporter = RecordingReporter()
    again = load_input(path, reporter=reporter)
    assert isinstance(again, Lock)
    assert reporter.warnings == [f"{path}: packages of other categories than 'main' are left out: 1 of 'dev'"]
    assert again.platform(PLATFORM).pypi == (cowsay,)
    assert [r.url for r in again.platform(PLATFORM).conda] == [r.url for r in lock.platform(PLATFORM).conda]


def test_a_pixi_lock_is_read_by_environment_and_refused_without_that_environment(lock, tmp_path):
    from rattler.lock import LockChannel, LockFile, LockPlatform

    platform = LockPlatform(PLATFORM)
    file = LockFile([platform])
    for name in ("default", "serve"):
        file.set_channels(name, [LockChannel(lock.channels[0])])
    for record in lock.platform(PLATFORM).conda:
        file.add_conda_package("serve", platform, record)
    folder = tmp_path / "service"
    folder.mkdir()
    file.to_path(folder / "pixi.lock")
    serve = read_lock(folder / "pixi.lock", "serve")
    assert serve.spec.name == "service-serve"
    assert len(serve.platform(PLATFORM).conda) == len(lock.platform(PLATFORM).conda)
    with pytest.raises(SpecError, match="has no environment 'prod'") as caught:
        read_lock(folder / "pixi.lock", "prod")
    assert "default, serve" in caught.value.hint


def test_a_damaged_lock_is_refused(tmp_path):
    path = tmp_path / "x.lock"
    path.write_text("version: 99\nenvironments: {}\npackages: []\n")
    with pytest.raises(SpecError, match=r"x\.lock is not a lock file in a known format: .*99"):
        load_input(path)


def test_half_a_pair_of_surrogates_in_the_settings_of_a_lock_is_damage(tmp_path):
    path = tmp_path / "x.lock"
    write_lock(Lock(EnvSpec(name="x", variables={"A": "\U0001f600"}), ()), path)
    assert read_lock(path).spec.variables == {"A": "\U0001f600"}
    path.write_text(path.read_text().replace("\\ude00", ""))
    with pytest.raises(SpecError, match=r"x\.lock:1: the line '# envpack: \.\.\.' is damaged \(.*surrogate"):
        load_input(path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def refused(text: str, channel_url: str | list[str], tmp_path: Path, **options: object) -> BuildError:
    """The error of building a spec, which must leave nothing behind."""
    work = tmp_path / "work"
    channels = [channel_url] if isinstance(channel_url, str) else channel_url
    spec = parse_spec(text, str(tmp_path / "wrong.yml"))
    with pytest.raises(BuildError) as caught:
        build_prefix(spec, choose_prefix(work), sources=PackageSources(channels), **options)
    assert not work.exists() or list((work / "p").iterdir()) == []
    return caught.value


def test_a_package_that_is_not_there_is_named(channel_url, tmp_path):
    error = refused("dependencies: [python, nonesuch >=2]\n", channel_url, tmp_path)
    assert error.message.endswith("No candidates were found for nonesuch >=2")
    assert channel_url in error.hint


def test_near_names_and_versions_that_exist_are_listed(channel_url, tmp_path):
    error = refused("dependencies: [numppy, 'click >=99', python, qqqqqq]\n", channel_url, tmp_path)
    assert "no channel has a package called numppy; did you mean numpy?" in error.details
    assert "no channel has a package called qqqqqq; a package of PyPI belongs in the 'pip:' list" in error.details
    (line,) = (
        line for line in error.details if line.startswith("click >=99 matches none of the versions of click: ")
    )
    assert line.rpartition(": ")[2][0].isdigit()
    assert not any("python" in line for line in error.details)


def test_a_conflict_is_explained_by_the_solver(channel_url, tmp_path):
    error = refused("dependencies: [numpy, python <3]\n", channel_url, tmp_path)
    assert "can't be satisfied on linux-64" in error.message
    assert "python <3" in error.message + " ".join(error.details)


def test_a_channel_that_is_not_there_is_named(tmp_path):
    error = refused("dependencies: [python]\n", (tmp_path / "nowhere").as_uri(), tmp_path)
    assert error.message.startswith(f"there is no conda channel at file://{tmp_path}/nowhere")


def test_a_channel_that_can_not_be_reached_is_named(tmp_path):
    error = refused("dependencies: [python]\n", "http://127.0.0.1:9/channel", tmp_path)
    assert error.message.startswith("the channel http://127.0.0.1:9/channel/ can't be read")
    assert "refused" in error.message + " ".join(error.details)


@pytest.mark.parametrize("served", ["file", "http"])
def test_a_changed_package_is_refused(lock, channel, tmp_path, served):
    copy = tmp_path / "channel"
    shutil.copytree(channel, copy, copy_function=os.link)
    (record,) = (r for r in lock.platform(PLATFORM).conda if r.name.normalized == "click")
    damaged = copy / record.subdir / record.file_name
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content + b"x")
    spec = parse_spec("name: x\ndependencies: [click]\n", "x.yml")
    with serving(copy) as address, pytest.raises(BuildError) as caught:
        url = copy.as_uri() if served == "file" else address
        build_prefix(
            spec, choose_prefix(tmp_path / "w"), sources=PackageSources([url]), cache_dir=tmp_path / "cache"
        )
    assert caught.value.message == f"{record.file_name} is not the package that was locked"
    assert record.sha256 is not None and record.sha256.hex() in " ".join(caught.value.details)
    assert not (tmp_path / "w" / "p").exists() or list((tmp_path / "w" / "p").iterdir()) == []


def test_a_changed_wheel_is_refused(lock, tmp_path, cache):
    locked = lock.platform(PLATFORM)
    changed = [LockedPypi(p.name, p.version, p.location, "0" * 64) for p in locked.pypi if p.name == "cowsay"]
    wrong = Lock(lock.spec, lock.channels, {PLATFORM: type(locked)(locked.conda, tuple(changed))})
    with pytest.raises(BuildError, match="the pip section of sample can't be installed") as caught:
        build_prefix(wrong, choose_prefix(tmp_path), cache_dir=cache)
    assert "Hash mismatch" in " ".join(caught.value.details)
    assert list((tmp_path / "p").iterdir()) == []


def test_a_source_distribution_that_does_not_build_shows_its_log(channel_url, tmp_path, cache):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "setup.py").write_text(
        "from setuptools import setup, Extension\n"
        "setup(name='broken', version='1', ext_modules=[Extension('broken', ['broken.c'])])\n"
    )
    (tmp_path / "broken" / "broken.c").write_text("#error this is not C today\n")
    text = "name: x\ndependencies: [python, pip: [./broken]]\n"
    error = refused(text, channel_url, tmp_path, cache_dir=cache)
    assert error.message.startswith("the pip section of x can't be installed: Failed to build")
    assert any("this is not C today" in line for line in error.details)


def test_pip_requirements_that_exclude_each_other_are_explained(channel_url, tmp_path):
    text = "name: x\ndependencies: [python, pip: [cowsay==6.1, cowsay==6.0]]\n"
    error = refused(text, channel_url, tmp_path)
    assert error.message.startswith("the pip section of x can't be resolved: Because you require cowsay")


def test_a_pip_section_without_python_is_refused(channel_url, tmp_path):
    error = refused("name: x\ndependencies: [pip: [cowsay]]\n", channel_url, tmp_path)
    assert error.message == "x has a pip section but no Python to install it into"


def test_pip_replaces_a_conda_package_only_when_the_section_asks_for_another_version(channel_url):
    spec = parse_spec("name: x\ndependencies: [python, click, pip: [click==8.1.7]]\n", "x.yml")
    reporter = RecordingReporter()
    lock = solve_lock(spec, sources=PackageSources([channel_url]), reporter=reporter)
    assert [(package.name, package.version) for package in lock.platform(PLATFORM).pypi] == [("click", "8.1.7")]
    assert "no pip in its dependencies" in reporter.notes[0]
    assert "pip replaces click" in reporter.notes[1]


def test_links_pages_of_pips_own_settings_are_looked_at(channel_url, tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    spec = parse_spec("name: x\ndependencies: [python, pip: [cowsay==6.1]]\n", "x.yml")
    (found,) = solve_lock(spec, sources=PackageSources([channel_url])).platform(PLATFORM).pypi
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(BuildError):
        solve_lock(spec, sources=PackageSources([channel_url]), cache_dir=tmp_path / "empty")
    monkeypatch.delenv("UV_OFFLINE")
    command = ["-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), found.location]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    monkeypatch.setenv("UV_OFFLINE", "1")
    spec = parse_spec("name: x\ndependencies: [python, pip: [--no-index, cowsay==6.1]]\n", "x.yml")
    (local,) = (
        solve_lock(spec, sources=PackageSources([channel_url]), cache_dir=tmp_path / "empty")
        .platform(PLATFORM)
        .pypi
    )
    assert local.location.startswith(f"file://{wheels}/")
    assert local.sha256 == found.sha256


def test_another_platform_than_the_machines_is_locked_but_not_built(tmp_path, channel_url):
    spec = parse_spec("name: x\ndependencies: [rich]\nenvpack: {platform: linux-aarch64}\n", "x.yml")
    with pytest.raises(BuildError, match="an environment for linux-aarch64 can't be built on linux-64"):
        build_prefix(spec, choose_prefix(tmp_path), sources=PackageSources([channel_url]))


def test_a_prefix_that_is_in_use_is_not_touched(tmp_path, lock):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    with pytest.raises(BuildError, match="exists and is not empty"):
        build_prefix(lock, tmp_path / "used")
    assert (tmp_path / "used" / "file").read_text() == "mine"
