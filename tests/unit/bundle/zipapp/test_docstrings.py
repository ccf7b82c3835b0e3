"""Docstrings are left out of the runtime that bundles carry; code and line numbers stay."""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from pathlib import Path
from types import CodeType

import pytest

import envpack
from envpack.bundle.cache.cache_files import clear_cache
from envpack.bundle.zipapp.docstrings import without_docstrings
from envpack.bundle.zipapp.runtime_zip import runtime_zip

SOURCE = Path(envpack.__file__).parents[1]


class Drop(ast.NodeTransformer):
    """Drop statements that are only a string, as the module under test should."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        first = node.body[0] if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
        super().generic_visit(node)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and first is not None:
            line, column = first.lineno, first.col_offset
            end = column + len("pass")
            empty = ast.Pass(lineno=line, col_offset=column, end_lineno=line, end_col_offset=end)
            node.body = node.body or [empty]
            node.end_lineno, node.end_col_offset = node.body[-1].end_lineno, node.body[-1].end_col_offset
        return node


def lines(code: CodeType) -> list[object]:
    """Return the line of each instruction, in the code and in the code of its functions and classes."""
    inner = [lines(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return [code.co_name, code.co_firstlineno, list(code.co_lines()), inner]


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_runtime_is_compiled_as_without_its_docstrings_line_by_line() -> None:
    found = {name: data for name, data in members(runtime_zip()).items() if name.startswith("envpack/")}
    assert len(found) > 100
    for name, data in found.items():
        source = (SOURCE / name).read_bytes()
        if not name.endswith(".py"):
            assert data == source, name
            continue
        wanted = compile(Drop().visit(ast.parse(source)), name, "exec")
        code = compile(data, name, "exec")
        assert code == wanted and lines(code) == lines(wanted), name
        assert data.count(b"\n") == source.count(b"\n"), name
        assert without_docstrings(data) == data, name


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('"""A."""\nx = 1\n"""Its\nmeaning."""\n', "\nx = 1\n\n\n"),
        ("def f():\n    'A.'\n    return 1\n", None),
        ('def f():\n    r"""A\\."""\n    return 1\n', "def f():\n\n    return 1\n"),
        (
            'def f(  # of:\n    x,\n) -> int:  # one\n    """A."""\n    # more\n',
            "def f(  # of:\n    x,\n) -> int:  # one\n    pass\n    # more\n",
        ),
        ('x = "\'"\n"""A."""\ny = \'"""\'  # "\n"""B."""\n', 'x = "\'"\n\ny = \'"""\'  # "\n\n'),
        ("x = '''\n\"\"\"A.\"\"\"\n'''\n", None),
        ('x = "\\""\n"""A."""\n', 'x = "\\""\n\n'),
        ('x = """\n"""\ny = """\n"""\n', None),
        ('class A:\n    """A.\n\n    B.\n    """\n', "class A:\n    pass\n\n\n\n"),
        ('class A: """A."""\n', None),
        ('def f(): """A."""; return 1\n', None),
        ('if x:\n    """A."""\nelse:\n    """B."""\n', "if x:\n    pass\nelse:\n    pass\n"),
        ('def f():\n    """A."""  # why\n    f"{x}"\n', None),
        ('x = """\nno docstring\n"""\n', None),
        ('async def f():\n\t"""é."""\n\tawait x\n', "async def f():\n\n\tawait x\n"),
        ('class A:\r\n    """A."""\r\n    x = 1\r\n', "class A:\r\n\r\n    x = 1\r\n"),
        ('"""A."""', ""),
    ],
)
def test_a_docstring_goes_where_it_has_its_lines_to_itself(source: str, wanted: str | None) -> None:
    found = without_docstrings(source.encode())
    assert found.decode() == (source if wanted is None else wanted)
    compile(found, "x", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_zip_is_kept_in_the_cache_and_made_again_where_it_is_damaged(tmp_path: Path) -> None:
    def kept() -> Path:
        (path,) = (tmp_path / "1/runtime").iterdir()
        return path

    wanted = runtime_zip()
    for damage in (b"", b"x" * 100, hashlib.sha256(b"").digest() + b"x", None):
        runtime_zip.cache_clear()
        assert runtime_zip(tmp_path) == wanted
        assert kept().read_bytes()[32:] == wanted
        if damage is not None:
            kept().write_bytes(damage)
    (tmp_path / "1/runtime/of-another-version").write_bytes(b"")
    kept_before = sorted(tmp_path.glob("1/runtime/*"))
    runtime_zip.cache_clear()
    assert runtime_zip(tmp_path) == wanted and sorted(tmp_path.glob("1/runtime/*")) == kept_before
    clear_cache(tmp_path)
    assert [path.name for path in tmp_path.glob("1/runtime/*")] == ["of-another-version"]


def test_a_cache_that_cant_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"")
    runtime_zip.cache_clear()
    assert runtime_zip(tmp_path)
