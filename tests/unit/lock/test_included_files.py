"""The requirements files that a pip section includes, in the place of their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.lock.included_files import section_lines
from envpack.lock.pip import replaced_by_pip
from envpack.lock.solve import has_pip_requirements
from envpack.lock.stated_hashes import StatedHashes
from envpack.lock.uvtool import index_arguments
from envpack.spec.model import EnvSpec


def spec_with(folder: Path, *lines: str, **files: str) -> EnvSpec:
    for name, content in files.items():
        (folder / "deps").mkdir(exist_ok=True)
        (folder / "deps" / f"{name}.txt").write_text(content)
    return EnvSpec("x", pip=lines, directory=folder)


def for_uv(spec: EnvSpec) -> list[str]:
    return [text for line in section_lines(spec) for text in line.for_uv]


def test_paths_are_as_pip_has_them(tmp_path):
    spec = spec_with(
        tmp_path,
        *("six", "-r deps/a.txt", "idna"),
        a="-r b.txt\n-c limits.txt\n-c https://h/c.txt\n-r https://h/r.txt\n-e .\n./own\n",
        b="flask==2 \\\n  --hash=sha256:00\n-r a.txt\n-r ../deps/b.txt\n-r absent.txt\n",
    )
    assert for_uv(spec) == [
        "six",
        "flask==2 --hash=sha256:00",
        "--requirement deps/absent.txt",
        "--constraint deps/limits.txt",
        "--constraint https://h/c.txt",
        "--requirement https://h/r.txt",
        "--editable .",
        "./own",
        "idna",
    ]


def test_a_repository_in_a_file_is_read_as_in_the_section(tmp_path):
    spec = spec_with(tmp_path, "-r deps/a.txt", a="-e git+https://h/own.git@v1#egg=own\n")
    assert for_uv(spec) == ["own @ git+https://h/own.git@v1"]


def test_lines_that_only_uv_knows_are_left_to_it(tmp_path):
    spec = spec_with(tmp_path, "-r deps/a.txt", a="six>=1.*\n--other\nidna\n")
    assert for_uv(spec) == ["six>=1.*", "--other", "idna"]


def test_a_file_may_be_in_utf_16(tmp_path):
    spec = spec_with(tmp_path, "-r deps/a.txt", a="")
    (tmp_path / "deps" / "a.txt").write_bytes("six\r\nidna\r\n".encode("utf-16"))
    assert for_uv(spec) == ["six", "idna"]


def test_the_folder_of_a_file_may_be_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("DEPS", "deps")
    assert for_uv(spec_with(tmp_path, "-r ${DEPS}/a.txt", a="six\n")) == ["six"]


def test_options_in_a_file_count(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://other/simple")
    (tmp_path / "deps" / "wheels").mkdir(parents=True)
    content = "--require-hashes\n--pre\n-i https://h/simple\n-f wheels\n"
    lines = section_lines(spec_with(tmp_path, "-r deps/a.txt", a=content))
    assert StatedHashes.of(lines, tmp_path).required
    assert "--pre" in [line.option for line in lines]
    assert index_arguments(lines, None, tmp_path)[:4] == [
        *("--index-url", "https://h/simple"),
        *("--find-links", str(tmp_path / "deps" / "wheels")),
    ]


def test_a_pin_in_a_file_replaces_the_package_of_conda(tmp_path):
    lines = section_lines(spec_with(tmp_path, "-r deps/a.txt", a="numpy==1.26.4\nsix\n"))
    assert replaced_by_pip(lines, {"numpy": "2.1.0", "six": "1.17"}) == {"numpy"}


@pytest.mark.parametrize(("content", "expected"), [("# nothing\n", False), ("--pre\n", False), ("six\n", True)])
def test_a_file_without_requirements_needs_no_resolution(tmp_path, content, expected):
    assert has_pip_requirements(spec_with(tmp_path, "-r deps/a.txt", a=content)) is expected
