"""The runtime in a bundle has the part of nvidia-ml-py that it uses: whole, and with the same line numbers."""

from __future__ import annotations

import builtins
import dis
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

import pynvml  # type: ignore[import-untyped]  # it has no types
import pytest

import envpack
from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.bundle.zipapp.used_definitions import with_used_definitions

WHOLE = Path(pynvml.__file__).read_bytes()


@pytest.fixture(scope="module")
def reduced() -> bytes:
    with zipfile.ZipFile(io.BytesIO(runtime_zip())) as archive:
        return archive.read("pynvml.py")


def imported(source: bytes, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("reduced_pynvml")
    monkeypatch.setitem(sys.modules, "reduced_pynvml", module)
    exec(compile(source, "pynvml.py", "exec"), vars(module))
    return module


def functions(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname if hasattr(constant, "co_qualname") else constant.co_name, constant
            yield from functions(constant)


def test_what_the_runtime_uses_is_there_and_makes_the_same_errors(
    reduced: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = imported(reduced, monkeypatch)
    sources = Path(envpack.__file__).parent.joinpath("runtime").rglob("*.py")
    words = {word for source in sources for word in re.findall(r"\b(?:nvml|NVML)\w+", source.read_text())}
    used = words & vars(pynvml).keys()
    assert len(used) > 20 and used <= vars(module).keys()
    errors = {each.__name__: each for each in module.NVMLError.__subclasses__()}
    assert errors.keys() == {each.__name__ for each in pynvml.NVMLError.__subclasses__()} and len(errors) > 20
    assert str(module.NVMLError(module.NVML_ERROR_NO_PERMISSION)) == str(
        pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)
    )


def test_what_stays_has_all_that_it_refers_to(reduced: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    known = vars(imported(reduced, monkeypatch)).keys() | vars(builtins).keys()
    for name, code in functions(compile(reduced, "pynvml.py", "exec")):
        names = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
        assert names & vars(pynvml).keys() <= known, name


def test_it_is_a_small_part_with_the_same_licence_and_the_same_lines(reduced: bytes) -> None:
    assert len(reduced) < 60_000 < len(WHOLE)
    assert (
        reduced[: reduced.index(b"\nfrom ")] == WHOLE[: WHOLE.index(b"\nfrom ")] and b"Redistribution" in reduced
    )
    for kept, original in zip(reduced.splitlines(), WHOLE.splitlines(), strict=True):
        assert kept in (b"", original)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a = 1\nb = 2\n", "a = 1\n\n"),
        ("# licence\n\nb = 1\na = 1\n", "# licence\n\n\na = 1\n"),
        ("b = 1\na = [\n    b,\n]\nc = a\n", "b = 1\na = [\n    b,\n]\n\n"),
        ("def b():\n    return c\nc = 1\ndef a():\n    return b()\n", None),
        ("def d(f):\n    return f\n@d\ndef a():\n    pass\n@d\ndef b():\n    pass\n", "{0}{1}{2}{3}{4}\n\n\n"),
        ("class b:\n    pass\nclass a(b):\n    x = c\nc = 1\nclass d(a):\n    pass\n", "{0}{1}{2}{3}{4}\n\n"),
        ("import b\nif b:\n    c = 1\nc = 2\n", None),
        ("b = a = 1\nb = 2\n", None),
        ("a = b.c = 1\nb = 2\n", None),
        ("a = 1; b = 2\nb = 3\n", "a = 1; b = 2\n\n"),
        ("", ""),
    ],
)
def test_what_is_used_stays_with_what_it_needs(source: str, wanted: str | None) -> None:
    found = with_used_definitions(source.encode(), lambda name: name == "a").decode()
    assert found == (source if wanted is None else wanted.format(*source.splitlines(keepends=True)))
