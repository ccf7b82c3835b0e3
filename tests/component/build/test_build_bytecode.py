"""Byte code depends on its source alone: not on the prefix, the number of processes, or what else is compiled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from envpack.build.bytecode import SOURCE_MTIME, compile_prefix
from envpack.runtime.errors import BuildError


def pythons() -> list[Any]:
    """This Python, and every other CPython from 3.8 on that pyenv has here: by default the first and the last."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python")):
        version = ".".join(path.parts[-3].split(".")[:2])
        if int(version.split(".")[1]) >= 8:
            found.setdefault(version, str(path))
    ordered = [found[version] for version in sorted(found, key=lambda version: int(version.split(".")[1]))]
    few = {ordered[0], sys.executable, ordered[-1]}
    return [
        pytest.param(python, id=Path(python).parts[-3], marks=[] if python in few else [pytest.mark.long])
        for python in ordered
    ]


SOURCE = b"""\
import os, json
X = {"os", "json", "a", "b"} | {1, 2.5, None}
def f(name, value="json", *, os=os):
    return name in {"prefix", "value", "json"} and [i for i in (1, 2, 3)], "same string", b"bytes", 10**30
def g(x):
    return x in {"225", "426"} or x in {"225", "226", "426"}
def h(x):
    return x in {"225", "226", "426"}
"""
CHARACTERS = b"X = '\xc3\xa9', '\\\"', 'setcomp', ''\n"
# keeps strings of these two in Python's memory: of Python's own, of names, of another way to write them
BEFORE = b"\xc3\xa9: object = {x for x in ('225', '226', '426', '\"')}\n"


def make(folder: Path, python: str, extra: bool) -> Path:
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(os.path.realpath(python))
    library = folder / "lib" / f"python{version}" / "site-packages"
    (library / "package").mkdir(parents=True)
    for i in range(20):
        (library / "package" / f"m{i:02}.py").write_bytes(SOURCE.replace(b"same", b"same%d" % i))
    (library / "package" / "characters.py").write_bytes(CHARACTERS)
    if extra:
        for i in range(7):
            (library / f"extra{i}.py").write_bytes(SOURCE + BEFORE)
    (library / "wrong.py").write_text("print 'Python 2'\n")
    (library / "empty.py").write_text("")
    return library


def compiled(library: Path) -> dict[str, bytes]:
    return {path.relative_to(library).as_posix(): path.read_bytes() for path in library.rglob("*.pyc")}


@pytest.mark.parametrize("python", pythons())
def test_the_same_sources_give_the_same_byte_code_everywhere(tmp_path, python):
    short, long = tmp_path / "a", tmp_path / "a-much-longer-folder" / "prefix"
    one, two = make(short, python, False), make(long, python, True)
    result = compile_prefix(short, short / "bin" / "python", workers=1)
    compile_prefix(long, long / "bin" / "python", workers=3)
    first, second = compiled(one), compiled(two)
    assert len(first) == 22 and set(first) < set(second)
    assert [name for name in first if first[name] != second[name]] == []
    relative = one.relative_to(short).as_posix()
    assert result.invalid == (f"{relative}/wrong.py",)


@pytest.mark.parametrize("python", pythons())
def test_a_source_that_crashes_python_does_not_stop_the_others(tmp_path, python):
    """Python 3.8 and 3.9 overflow their stack."""
    library = make(tmp_path / "a", python, False)
    (library / "deep.py").write_text("a" + ".b" * 300_000)
    result = compile_prefix(tmp_path / "a", tmp_path / "a" / "bin" / "python", workers=1)
    names = {Path(name).name for name in (*result.compiled, *result.invalid)}
    assert names == {
        "deep.py",
        "wrong.py",
        "empty.py",
        "characters.py",
        *(f"m{number:02}.py" for number in range(20)),
    }
    assert len(compiled(library)) == len(result.compiled) >= 22


def test_python_takes_the_byte_code_when_the_source_has_the_bundles_time(tmp_path):
    library = make(tmp_path / "a", sys.executable, False)
    compile_prefix(tmp_path / "a", tmp_path / "a" / "bin" / "python")
    (pyc,) = (library / "package" / "__pycache__").glob("m00.*.pyc")
    before = pyc.read_bytes()
    os.utime(library / "package" / "m00.py", (SOURCE_MTIME, SOURCE_MTIME))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import package.m00 as m; print(m.f.__code__.co_filename)"
    )
    command = [sys.executable, "-v", "-c", script, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(library / "package" / "m00.py")
    assert f"code object from '{pyc}'" in done.stderr
    assert pyc.read_bytes() == before


def test_published_byte_code_stays_and_stray_byte_code_goes(tmp_path):
    prefix = tmp_path / "a"
    library = make(prefix, sys.executable, False)
    tag = sys.implementation.cache_tag
    cache = library / "package" / "__pycache__"
    cache.mkdir()
    relative = cache.relative_to(prefix).as_posix()
    size = (library / "package" / "m00.py").stat().st_size.to_bytes(4, "little")
    published = b"magc" + bytes(4) + (1700000000).to_bytes(4, "little") + size + b"as published"
    for name in ("m00", "m01", "m02"):
        (cache / f"{name}.{tag}.pyc").write_bytes(published)
    outside = tmp_path / "package-cache.pyc"
    os.link(cache / f"m01.{tag}.pyc", outside)
    (library / "package" / "m02.py").write_bytes(SOURCE + b"changed = True\n")
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "x.json").write_text(
        f'{{"files": ["{relative}/m00.{tag}.pyc", "{relative}/m02.{tag}.pyc"]}}'
    )
    result = compile_prefix(prefix, prefix / "bin" / "python")
    assert [Path(name).name for name in result.valid] == ["m00.py"]
    assert (cache / f"m00.{tag}.pyc").read_bytes() == published
    assert (cache / f"m01.{tag}.pyc").read_bytes() != published
    assert (cache / f"m02.{tag}.pyc").read_bytes() != published
    assert outside.read_bytes() == published


def test_a_python_that_does_not_run_is_reported(tmp_path):
    library = make(tmp_path / "a", sys.executable, False)
    python = tmp_path / "a" / "bin" / "python"
    python.unlink()
    python.write_text("#!/bin/sh\necho no such machine >&2; exit 1\n")
    python.chmod(0o755)
    with pytest.raises(BuildError, match="the environment's Python does not run: bin/python") as caught:
        compile_prefix(tmp_path / "a", python)
    assert caught.value.details == ["no such machine"]
    assert compiled(library) == {}


BUILD = """\
import sys
from contextlib import contextmanager
from pathlib import Path
from envpack.build.build import build_prefix
from envpack.build.location import choose_prefix
from envpack.lock.solve import PackageSources
from envpack.runtime.report import Reporter
from envpack.spec.parse import parse_spec
class Telling(Reporter):
    @contextmanager
    def step(self, title, total=None, unit="bytes"):
        print(title, flush=True)
        with super().step(title, total, unit) as step:
            yield step
spec = parse_spec("dependencies: [python, pip, rich, requests]", "x.yml")
work = Path(sys.argv[1])
options = dict(sources=PackageSources([sys.argv[2]]), cache_dir=work / "cache", reporter=Telling())
build_prefix(spec, choose_prefix(work), **options)
"""


@pytest.mark.parametrize("stage", ["Linking conda packages", "Byte-compiling"])
def test_an_interrupt_ends_a_build_and_leaves_no_prefix(tmp_path, channel_url, stage):
    command = [sys.executable, "-c", BUILD, str(tmp_path), channel_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.strip() == stage:
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        errors = process.stderr.read()
    assert process.returncode == -signal.SIGINT, errors
    assert list((tmp_path / "p").iterdir()) == []
    shutil.rmtree(tmp_path)
