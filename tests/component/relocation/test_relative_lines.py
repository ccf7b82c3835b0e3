"""First lines that run the interpreter by its path from the script, in the languages that are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from envpack.prefix.relocate.shebang import direct_line, published_lines
from envpack.runtime.relocation.shebang import env_line, relative_lines

SOURCES = {
    "python3": b"import sys\nprint('python', sys.argv[1:])\n",
    "perl": b'print "perl @ARGV\\n";\n',
    "bash": b'echo bash "$@"\n',
    "ruby": b'puts "ruby " + ARGV.join(" ")\n',
    "lua5.4": b'print("lua", ...)\n',
    "node": b'console.log("node", process.argv.slice(2))\n',
}
PREFIX = b"/the prefix"


def lines(name: str, folder: bytes, body: bytes, arguments: bytes = b"") -> bytes:
    found = direct_line(b"#!" + PREFIX + b"/bin/" + name.encode() + arguments + b"\n" + body, [PREFIX])
    assert found is not None
    made = relative_lines(found.shebang, folder)
    assert made is not None
    return made


@pytest.mark.parametrize("folder", ["bin", "lib/demo"])
@pytest.mark.parametrize("name", SOURCES)
def test_a_script_runs_wherever_the_environment_is(tmp_path: Path, name: str, folder: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name}")
    root = tmp_path / "a place"
    (root / "bin").mkdir(parents=True)
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "bin" / name).write_text(f'#!/bin/sh\necho ran\nexec {program} "$@"\n')
    (root / "bin" / name).chmod(0o755)
    script = root / folder / "script"
    script.write_bytes(lines(name, folder.encode(), SOURCES[name]) + b"\n" + SOURCES[name])
    script.chmod(0o755)
    done = subprocess.run([script, "one", "a b"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ran\n") and "one" in done.stdout and "a b" in done.stdout


def test_a_python_script_is_found_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python3").symlink_to(shutil.which("python3") or "")
    script = tmp_path / "env/bin/script"
    script.write_bytes(lines("python3", b"bin", b"x", b" -s") + b"\nimport sys\nprint(sys.flags.no_user_site)\n")
    script.chmod(0o755)
    (tmp_path / "link").symlink_to(script)
    done = subprocess.run([tmp_path / "link"], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("name", ["python3", "perl", "bash", "ruby"])
def test_the_published_line_is_found_again(name: str) -> None:
    published = b"#!/placeholder/bin/" + name.encode()
    head = lines(name, b"bin", SOURCES[name]) + b"\n" + SOURCES[name]
    found = list(published_lines(head, PREFIX, b"/placeholder"))
    assert any(line == published and head[end:] == b"\n" + SOURCES[name] for end, line in found)


def test_an_interpreter_without_a_form_of_its_own_has_none() -> None:
    found = direct_line(b"#!" + PREFIX + b"/bin/octave --norc\n", [PREFIX])
    assert found is not None
    assert relative_lines(found.shebang, b"bin") is None
    assert env_line(found.shebang) == b"#!/usr/bin/env -S octave --norc"
