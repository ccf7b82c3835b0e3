from __future__ import annotations

import pytest

from envpack.runtime.tree.bytecode_files import is_bytecode_file


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("lib/__pycache__/m.cpython-312.pyc", True),
        ("lib/__pycache__/m.cpython-312.opt-1.pyc", True),
        ("lib/__pycache__/m.cpython-312.pyc.140234866", True),
        ("lib/__pycache__/m.f-12.py312.nbi", True),
        ("lib/__pycache__/m.f-12.py312.1.nbc", True),
        ("lib/__pycache__/notes.txt", False),
        ("lib/__pycache__/results/m.pyc", False),
        ("lib/__pycache__", False),
        ("lib/m.pyc", True),
        ("lib/m.pyo", True),
        ("lib/n.pyc", False),
        ("lib/n.pyo", False),
        ("lib/m.nbi", False),
    ],
)
def test_bytecode_is_recognised_by_its_folder_or_the_source_beside_it(path: str, expected: bool) -> None:
    assert is_bytecode_file(path, {"lib/m.py"}.__contains__) == expected
