"""The shell line of a named command: a program gets the process for itself."""

from __future__ import annotations

import subprocess

import pytest

from envpack.runtime.service.command_line import shell_line


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("uvicorn app:app --port 8000", "exec uvicorn app:app --port 8000"),
        ("  python main.py", "exec python main.py"),
        ("python -c 'import a; a.b()'", "exec python -c 'import a; a.b()'"),
        ("python main.py > out 2>&1", "exec python main.py > out 2>&1"),
        ("A=1 B=/x/y python main.py", "A=1 B=/x/y exec python main.py"),
        ('A="b c" python main.py', 'A="b c" python main.py'),
        ("$CONDA_PREFIX/bin/tool", "exec $CONDA_PREFIX/bin/tool"),
        ("exec python main.py", "exec python main.py"),
        ("cd app && exec python main.py", "cd app && exec python main.py"),
        ("a | b", "a | b"),
        ("a; b", "a; b"),
        ("a &", "a &"),
        ("a\nb", "a\nb"),
        ("python main.py\n", "exec python main.py"),
        ("python main.py \\\n  --port 8000\n", "exec python main.py \\\n  --port 8000"),
        ("a \\\n  && b\n", "a \\\n  && b"),
        ("a # no \\\nb", "a # no \\\nb"),
        ("a\\\\\nb", "a\\\\\nb"),
        ("A=1 \\\nB=2 a", "A=1 \\\nB=2 a"),
        ("(a)", "(a)"),
        ("{ a; }", "{ a; }"),
        ("A=1", "A=1"),
        ("if true; then a; fi", "if true; then a; fi"),
        (". ./settings", ". ./settings"),
        ("echo 'not closed", "echo 'not closed"),
    ],
)
def test_only_a_simple_command_is_given_to_exec(command: str, line: str) -> None:
    assert shell_line(command, ()) == line


@pytest.mark.parametrize(
    "command", ["printf '%s|'", "A=1 printf '%s|'", "true && printf '%s|'", "printf \\\n '%s|'\n"]
)
def test_arguments_are_appended_as_they_are(command: str) -> None:
    arguments = ["a b", "", "$HOME", "'"]
    done = subprocess.run(
        ["/bin/sh", "-c", shell_line(command, arguments), "name", *arguments], capture_output=True, check=True
    )
    assert done.stdout.decode() == "a b||$HOME|'|"
