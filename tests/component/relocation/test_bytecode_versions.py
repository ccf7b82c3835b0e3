"""Byte-code of every Python that is here: deployed, its own Python runs it and finds nothing to compile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import Stored
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.runtime.relocation.relocation import splices
from envpack.runtime.relocation.splice import splice

SITE = "lib/python3/site-packages"
LONG_PLACE = "long/" + "x" * 150
MODULE = """\
'''Built in {prefix}/doc, and text that is not ASCII: ü.'''
import os
ROOT = '{prefix}'
PATHS = ('{prefix}/lib:{prefix}/bin', '{prefix}/é', b'{prefix}/bytes', 'x' * 3, 1 << 80, -1.5, 2j, ..., None)
TABLE = {{'{prefix}/key': [frozenset({{1, 2}})]}}
def outer(argument='{prefix}/default'):
    def inner(*args, key=ROOT, **more):
        try:
            return [argument for name in args if name in {{'{prefix}/in', 'b'}}]
        finally:
            os.getpid()
    return inner
class Type:
    '{prefix}/docstring'
    slice = [1, 2, 3][0:2]
    async def method(self): return await self
"""
CHECK = """\
import marshal, sys, types
sys.path.insert(0, sys.argv[1])
import sample
def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)
with open(sample.__cached__, 'rb') as file:
    code = marshal.loads(file.read()[16:])
assert {c.co_filename for c in codes(code)} == {sample.__file__}, {c.co_filename for c in codes(code)}
assert sample.__file__ == sys.argv[1] + '/sample.py'
prefix = sys.argv[2]
assert sample.ROOT == prefix
assert sample.PATHS[:3] == (prefix + '/lib:' + prefix + '/bin', prefix + '/é', (prefix + '/bytes').encode())
assert sample.outer()('a') == [] and sample.outer.__defaults__ == (prefix + '/default',)
if not sys.flags.optimize:
    assert sample.Type.__doc__ == prefix + '/docstring' and (prefix + '/doc,') in sample.__doc__
"""


def pythons() -> list[str]:
    """This Python, and others from 3.8 on: those of PATH and of pyenv."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    places = [path for minor in range(8, 16) if (path := shutil.which(f"python3.{minor}"))]
    places += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))]
    for path in places:
        asked = "import sys; print('%d.%d' % sys.version_info[:2])"
        answer = subprocess.run([path, "-c", asked], capture_output=True, text=True)
        version = answer.stdout.strip()
        if answer.returncode == 0 and int(version.partition(".")[2]) >= 8:
            found.setdefault(version, path)
    return list(found.values())


@pytest.mark.parametrize(
    ("optimised", "destination"),
    [
        pytest.param(False, "with blank/and-ünïcode", id="blank"),
        pytest.param(True, LONG_PLACE, id="-OO-long"),
        pytest.param(False, "d", id="short", marks=pytest.mark.long),
        pytest.param(False, LONG_PLACE, id="long", marks=pytest.mark.long),
        pytest.param(True, "d", id="-OO-short", marks=pytest.mark.long),
        pytest.param(True, "with blank/and-ünïcode", id="-OO-blank", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("python", pythons(), ids=lambda path: "-".join(Path(path).parts[-3:]))
def test_its_own_python_imports_it_from_where_it_was_deployed(
    python: str, optimised: bool, destination: str, tmp_path: Path
) -> None:
    prefix = tmp_path / ("built-" + "p" * 100)
    source = prefix / SITE / "sample.py"
    source.parent.mkdir(parents=True)
    (prefix / "conda-meta").mkdir()
    source.write_text(MODULE.format(prefix=prefix), encoding="utf-8")
    flags = ["-OO"] if optimised else []
    subprocess.run([python, *flags, "-m", "compileall", "-q", str(source)], check=True)

    contents = read_prefix(prefix)
    normalizer = FileNormalizer(contents.prefix, contents)
    root = tmp_path / destination
    files = {}
    for entry in (entry for group in contents.groups for entry in group.entries if entry.type == "file"):
        stored = normalizer.normalize(entry, (prefix / entry.path).read_bytes())
        assert stored.unrelocatable == ()
        assert stored.relocation is not None
        data = splice(b"".join(stored.pieces), splices(stored.relocation, str(root).encode()))
        assert str(prefix).encode() not in data
        files[root / entry.path] = data, stored.mtime
    assert [path.suffix for path in files] == [".pyc", ".py"]
    for path, (data, mtime) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (mtime, mtime))

    done = subprocess.run(
        [python, *flags, "-X", "utf8", "-c", CHECK, str(root / SITE), str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for path, (data, _) in files.items():
        assert path.read_bytes() == data, f"{path} was compiled again"


PLAIN = """\
def outer():
    def inner():
        return [(lambda: 1 // 0)() for _ in 'a']
    return inner()
class Type:
    def method(self): return self
"""
IMPORT = """\
import sys, traceback
sys.path.insert(0, sys.argv[1])
import sample
try:
    sample.outer()
except ZeroDivisionError as error:
    for frame in traceback.extract_tb(error.__traceback__)[1:]:
        assert frame.filename == sample.__file__ and frame.line, frame
assert sample.Type.method.__code__.co_filename == sample.__file__ == sys.argv[1] + '/sample.py'
"""


def stored_module(prefix: Path, python: str, flags: list[str]) -> dict[str, Stored]:
    source = prefix / SITE / "sample.py"
    source.parent.mkdir(parents=True)
    (prefix / "conda-meta").mkdir()
    source.write_text(PLAIN)
    subprocess.run([python, *flags, "-m", "compileall", "-q", str(source)], check=True)
    contents = read_prefix(prefix)
    normalizer = FileNormalizer(contents.prefix, contents)
    entries = [entry for group in contents.groups for entry in group.entries if entry.type == "file"]
    assert [Path(entry.path).suffix for entry in entries] == [".pyc", ".py"]
    return {entry.path: normalizer.normalize(entry, (prefix / entry.path).read_bytes()) for entry in entries}


@pytest.mark.parametrize("optimised", [False, True], ids=["", "-OO"])
@pytest.mark.parametrize("python", pythons(), ids=lambda path: "-".join(Path(path).parts[-3:]))
def test_byte_code_that_only_names_its_source_fits_everywhere_as_it_is(
    python: str, optimised: bool, tmp_path: Path
) -> None:
    flags = ["-OO"] if optimised else []
    files = stored_module(tmp_path / "built", python, flags)
    elsewhere = stored_module(tmp_path / ("p" * 150) / ("p" * 150), python, flags)
    assert {path: stored.sha256 for path, stored in files.items()} == {
        path: stored.sha256 for path, stored in elsewhere.items()
    }
    root = tmp_path / "deployed"
    for path, stored in files.items():
        assert stored.relocation is None and not stored.unrelocatable
        data = b"".join(stored.pieces)
        assert str(tmp_path).encode() not in data and b"placehold" not in data
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        os.utime(root / path, (stored.mtime, stored.mtime))
    subprocess.run([python, *flags, "-c", IMPORT, str(root / SITE)], check=True)
    for path, stored in files.items():
        assert (root / path).read_bytes() == b"".join(stored.pieces), f"{path} was compiled again"


@pytest.mark.parametrize(
    "name", ["sample.pyc", "__pycache__/sample.cpython-311-pytest-8.2.0.pyc", "__pycache__/sample.other-1.pyc"]
)
def test_byte_code_that_no_import_of_its_source_takes_gets_the_path_written_in(name: str, tmp_path: Path) -> None:
    prefix = tmp_path / "built"
    stored_module(prefix, sys.executable, [])
    place = prefix / SITE / name
    (cached,) = (prefix / SITE / "__pycache__").iterdir()
    cached.rename(place)
    contents = read_prefix(prefix)
    normalizer = FileNormalizer(contents.prefix, contents)
    (entry,) = (each for group in contents.groups for each in group.entries if each.path.endswith(".pyc"))
    stored = normalizer.normalize(entry, place.read_bytes())
    assert stored.relocation is not None and stored.relocation.marshal
