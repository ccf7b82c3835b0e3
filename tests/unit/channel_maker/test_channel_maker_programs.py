"""Packages of programs from elsewhere, and second names of packages."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from channel_maker.aliases import parse_aliases, plan_aliases
from channel_maker.errors import ChannelError
from channel_maker.interpreter import ask
from channel_maker.package import Link
from channel_maker.programs import folder_files, parse_licences, parse_name, plan_programs, wheel_programs
from channel_maker.wheels import Wheel, plan_wheels
from support.compilers import compile_c
from support.tiny_wheels import write_wheel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prefix with one program, a shell script."""
    folder = tmp_path / "folder"
    (folder / "bin").mkdir(parents=True)
    script = folder / "bin/tool"
    script.write_text("#!/bin/sh\ntrue\n")
    script.chmod(0o755)
    return folder


def compiled(path: Path, *arguments: str | Path, source: str = "int main(void) { return 0; }\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.with_name(path.name + ".c")
    text.write_text(source)
    compile_c(text, "-o", path, *arguments)
    text.unlink()
    return path


def test_a_folder_keeps_its_places_modes_and_links(folder: Path) -> None:
    (folder / "share").mkdir()
    (folder / "share/data.txt").write_text("data")
    (folder / "bin/short").symlink_to("tool")
    (folder / "bin/absolute").symlink_to(folder / "bin/tool")
    files = {file.path: file for file in folder_files(folder)}
    assert set(files) == {"bin/tool", "bin/short", "bin/absolute", "share/data.txt"}
    assert files["bin/tool"].executable
    assert not files["share/data.txt"].executable
    assert files["bin/short"].source == files["bin/absolute"].source == Link("tool")


def test_a_folder_without_programs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    with pytest.raises(ChannelError, match="has no programs"):
        folder_files(tmp_path)


def test_a_link_that_leads_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    (folder / "bin/link").symlink_to("../../outside")
    with pytest.raises(ChannelError, match="leads out of the folder"):
        folder_files(folder)


def test_a_file_with_the_path_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "bin/tool").write_text(f"#!{folder}/bin/other\n")
    with pytest.raises(ChannelError, match="contains the path of its folder"):
        folder_files(folder)


def test_a_program_needs_its_libraries_beside_it(folder: Path) -> None:
    # stripped: the debug information of zig has the path of the folder
    flags = ("-s", "-shared", "-fPIC", "-Wl,-soname,libown.so")
    library = compiled(folder / "lib/libown.so", *flags, source="int own;\n")
    program = folder / "bin/program"
    source = "extern int own; int main(void) { return own; }\n"
    compiled(program, library, "-s", "-Wl,-rpath,$ORIGIN/../lib", source=source)
    assert {file.path for file in folder_files(folder)} == {"bin/tool", "bin/program", "lib/libown.so"}
    compiled(program, library, "-s", source=source)
    with pytest.raises(ChannelError, match=r"linked to libown\.so"):
        folder_files(folder)
    compiled(program, library, "-s", "-Wl,-rpath,$ORIGIN/../lib", source=source)
    library.unlink()
    with pytest.raises(ChannelError, match=r"linked to libown\.so"):
        folder_files(folder)


def test_the_programs_of_a_wheel_are_its_elf_files_without_libraries(tmp_path: Path) -> None:
    program = compiled(tmp_path / "hello")
    wheel = write_wheel(tmp_path, {"demo/__init__.py": "", "demo/LICENSE": "MIT"})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.write(program, "demo/binaries/hello")
        archive.write(program, "demo/libother.so.1")
    with zipfile.ZipFile(wheel) as archive:
        (file,) = wheel_programs(archive, wheel.name)
    assert (file.path, file.executable) == ("bin/hello", True)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.write(program, "demo/other/hello")
    with zipfile.ZipFile(wheel) as archive, pytest.raises(ChannelError, match="two programs of the name hello"):
        wheel_programs(archive, wheel.name)


def test_a_wheel_without_programs_is_refused(tmp_path: Path) -> None:
    wheel = Wheel(write_wheel(tmp_path, {"demo/__init__.py": ""}))
    plan = plan_programs("demo", "1.0", "", wheel, "linux-64")
    with pytest.raises(ChannelError, match="contains no programs for Linux"):
        plan.write(tmp_path / "out.conda", epoch=0)


def test_the_build_follows_the_content(folder: Path) -> None:
    first = plan_programs("tool", "1.0", "MIT", folder, "linux-64")
    assert (first.identity.name, first.identity.version, first.metadata.license) == ("tool", "1.0", "MIT")
    assert plan_programs("tool", "1.0", "MIT", folder, "linux-64").identity == first.identity
    (folder / "bin/tool").write_text("#!/bin/sh\nfalse\n")
    assert plan_programs("tool", "1.0", "MIT", folder, "linux-64").identity != first.identity


@pytest.mark.parametrize("text", ["ffmpeg=6.0", "ffmpeg==6.0"])
def test_a_name_has_a_version(text: str) -> None:
    assert parse_name(text) == ("ffmpeg", "6.0")


@pytest.mark.parametrize("text", ["ffmpeg", "ffmpeg=", "=6.0", "ffmpeg>=6", "../x=1", "FF=1"])
def test_a_name_without_a_version_is_refused(text: str) -> None:
    with pytest.raises(ChannelError, match="name and version"):
        parse_name(text)


def test_licences_and_second_names_have_two_parts() -> None:
    assert parse_licences(["ffmpeg=GPL-3.0-or-later"]) == {"ffmpeg": "GPL-3.0-or-later"}
    assert parse_aliases(["pytorch=Torch", "py-opencv=opencv_python"]) == {
        "pytorch": "torch",
        "py-opencv": "opencv-python",
    }
    for text in ("x", "x=", "=x"):
        with pytest.raises(ChannelError, match="is not a licence"):
            parse_licences([text])
        with pytest.raises(ChannelError, match="is not a second name"):
            parse_aliases([text])


def test_a_second_name_needs_exactly_the_first(tmp_path: Path) -> None:
    plans = plan_wheels([Wheel(write_wheel(tmp_path, {"demo.py": ""}))], ask(Path(sys.executable)))
    (alias,) = plan_aliases({"pydemo": "demo"}, plans)
    (demo,) = (plan.identity for plan in plans)
    assert alias.identity.name == "pydemo"
    assert (alias.identity.version, alias.identity.subdir) == (demo.version, demo.subdir)
    assert alias.metadata.depends == (f"demo {demo.version} {demo.build}",)
    with pytest.raises(ChannelError, match="no wheel of it"):
        plan_aliases({"pyother": "other"}, plans)
