"""A wheel's files and metadata, where conda has them."""

from __future__ import annotations

import base64
import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from channel_maker.errors import ChannelError
from channel_maker.interpreter import ask
from channel_maker.package import Inline, PackageFile
from channel_maker.wheel_files import EntryPoint, Layout, parse_entry_points, rewrite_shebang, wheel_files
from channel_maker.wheels import Wheel, WheelPlan, plan_wheels
from support.tiny_wheels import write_wheel

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
ALL_PLACES = {
    "demo/__init__.py": "x = 1\n",
    "demo-1.0.data/scripts/tool": "#!python -E\nprint(1)\n",
    "demo-1.0.data/scripts/tool.sh": "#!/bin/sh\ntrue\n",
    "demo-1.0.data/purelib/pure.py": "",
    "demo-1.0.data/platlib/plat.py": "",
    "demo-1.0.data/data/share/demo/file.txt": "text",
}


def make_wheel(folder: Path, files: Mapping[str, str], **how: str) -> Wheel:
    return Wheel(write_wheel(folder, files, **how))


def plan(wheel: Wheel, *others: Wheel) -> WheelPlan:
    return plan_wheels([wheel, *others], ask(Path(sys.executable)))[0]


def files_of(wheel: Wheel, layout: Layout) -> dict[str, PackageFile]:
    with wheel.opened() as archive:
        files = wheel_files(archive, wheel.dist_info, layout, wheel.name, wheel.entry_points)
    return {file.path: file for file in files}


def text_of(file: PackageFile) -> str:
    assert isinstance(file.source, Inline)
    return file.source.data.decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("[console_scripts]\ntool = demo.cli:main\n", (EntryPoint("tool", "demo.cli", "main"),)),
        ("[console_scripts]\nTool=demo:App.run [color]\n", (EntryPoint("Tool", "demo", "App.run"),)),
        ("[other]\nplugin = demo:%(x)s\n[gui_scripts]\nwin = demo:gui\n", (EntryPoint("win", "demo", "gui"),)),
        ("[console_scripts]\na:b = demo:x\n", (EntryPoint("a:b", "demo", "x"),)),
    ],
)
def test_scripts_are_read_from_entry_points(text: str, expected: tuple[EntryPoint, ...]) -> None:
    assert parse_entry_points(text) == expected


@pytest.mark.parametrize("text", ["[console_scripts]\n../x = demo:main", "[console_scripts]\nx = demo", "x = y"])
def test_an_entry_point_that_can_not_become_a_script_is_refused(text: str) -> None:
    with pytest.raises(ChannelError):
        parse_entry_points(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"#!python\nx", b"#!/P/bin/python\nx"),
        (b"#!pythonw\nx", b"#!/P/bin/python\nx"),
        (b"#!python -E -s\nx", b"#!/P/bin/python -E -s\nx"),
        (b"#!python", b"#!/P/bin/python"),
        (b"#!python\r\nx", b"#!/P/bin/python\r\nx"),
        (b"#!python3.11\nx", None),
        (b"#!/usr/bin/env python\nx", None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_only_a_wheels_own_shebang_is_rewritten(before: bytes, after: bytes | None) -> None:
    assert rewrite_shebang(before, "/P") == after


def test_a_pure_wheel_becomes_noarch_with_its_scripts_declared(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, ALL_PLACES, entry_points="[console_scripts]\nrun = demo:main\n")
    made = plan(wheel)
    assert made.identity.subdir == "noarch"
    assert made.identity.build.startswith("pyh")
    assert made.metadata.noarch_python
    assert made.metadata.entry_points == ("run = demo:main",)
    files = files_of(wheel, Layout(None, "/P"))
    info = "site-packages/demo-1.0.dist-info"
    assert set(files) == {
        "site-packages/demo/__init__.py",
        "site-packages/pure.py",
        "site-packages/plat.py",
        "python-scripts/tool",
        "python-scripts/tool.sh",
        "share/demo/file.txt",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "INSTALLER", "RECORD")),
    }
    assert text_of(files["python-scripts/tool"]) == "#!/P/bin/python -E\nprint(1)\n"
    assert [path for path, file in files.items() if file.prefix_mode] == ["python-scripts/tool"]
    assert files["python-scripts/tool.sh"].executable
    assert text_of(files[f"{info}/INSTALLER"]) == "conda\n"
    recorded = {row[0]: row[1] for row in csv.reader(text_of(files[f"{info}/RECORD"]).splitlines())}
    assert (
        recorded["../../../bin/run"]
        == recorded["../../../bin/tool"]
        == recorded["demo-1.0.dist-info/RECORD"]
        == ""
    )
    assert recorded["../../../bin/tool.sh"].startswith("sha256=")
    assert recorded["../../../share/demo/file.txt"].startswith("sha256=")
    assert len(recorded) == len(files) + 1


def test_a_binary_wheel_is_tied_to_its_python_with_scripts_as_files(tmp_path: Path) -> None:
    files = {**ALL_PLACES, "demo-1.0.data/headers/demo.h": ""}
    wheel = make_wheel(
        tmp_path, files, tag=f"{TAG}-{TAG}-linux_x86_64", entry_points="[gui_scripts]\nrun = demo:A.b\n"
    )
    made = plan(wheel)
    major, minor = MINOR.split(".")
    assert made.identity.subdir != "noarch"
    assert made.identity.build.startswith(f"py{major}{minor}h")
    assert made.metadata.depends == (f"python >={MINOR},<{major}.{int(minor) + 1}.0a0",)
    assert made.metadata.entry_points == ()
    found = files_of(wheel, Layout(MINOR, "/P"))
    assert {"bin/run", "bin/tool", f"lib/python{MINOR}/site-packages/plat.py"} <= set(found)
    assert f"include/python{MINOR}/demo/demo.h" in found
    assert found["bin/run"].prefix_mode == "text"
    script = text_of(found["bin/run"])
    assert script.startswith("#!/P/bin/python\n")
    assert "from demo import A\n" in script
    assert "A.b()" in script


@pytest.mark.parametrize("tag", [f"{TAG}-none-any", "py3-none-linux_x86_64", f"{TAG}-abi3-linux_x86_64"])
def test_what_is_not_for_every_python_and_platform_is_not_noarch(tmp_path: Path, tag: str) -> None:
    assert plan(make_wheel(tmp_path, {}, tag=tag)).identity.subdir != "noarch"


def test_headers_need_a_known_python(tmp_path: Path) -> None:
    assert plan(make_wheel(tmp_path, {"demo-1.0.data/headers/demo.h": ""})).identity.subdir != "noarch"


def test_dependencies_carry_ranges_markers_extras_and_the_python_range(tmp_path: Path) -> None:
    metadata = (
        "Requires-Python: >=3.8\n"
        "Requires-Dist: Click_Thing<9,>=8\n"
        "Requires-Dist: other[fast]\n"
        "Requires-Dist: colorama; sys_platform == 'win32'\n"
        "Requires-Dist: pytest; extra == 'test'\n"
        "Requires-Dist: tomli; python_version < '3.9'\n"
    )
    other = make_wheel(tmp_path, {}, name="other", metadata="Requires-Dist: speedups==1.0; extra == 'fast'\n")
    made = plan(make_wheel(tmp_path, {}, metadata=metadata), other)
    assert made.metadata.depends == ("click-thing <9a0,>=8", "other", "speedups ==1.0", "python >=3.8,>=3.9")


def test_another_content_or_another_dependency_is_another_build(tmp_path: Path) -> None:
    builds = set()
    for number, (files, metadata) in enumerate([({}, ""), ({"a.py": ""}, ""), ({}, "Requires-Dist: b\n")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        builds.add(plan(make_wheel(folder, files, metadata=metadata)).identity.build)
    assert len(builds) == 3


def test_a_wheel_fits_only_the_pythons_of_its_tags_and_requires_python(tmp_path: Path) -> None:
    here = ask(Path(sys.executable))
    assert make_wheel(tmp_path, {}).fits(here)
    assert make_wheel(tmp_path, {}, tag=f"{TAG}-{TAG}-manylinux1_x86_64").fits(here) == (here.subdir == "linux-64")
    assert not make_wheel(tmp_path, {}, tag="cp27-cp27m-linux_x86_64").fits(here)
    assert not make_wheel(tmp_path, {}, tag="py3-none-win_amd64").fits(here)
    assert not make_wheel(tmp_path, {}, name="old", metadata="Requires-Python: <3\n").fits(here)


def test_a_wheel_whose_bytes_are_not_those_it_recorded_is_refused(tmp_path: Path) -> None:
    zeros = base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()
    wheel = make_wheel(tmp_path, {"demo.py": "x"}, record=f"demo.py,sha256={zeros},1\n")
    with pytest.raises(ChannelError, match=r"demo-1\.0.*demo\.py is damaged"):
        plan(wheel).write(tmp_path / "out.conda", epoch=0)


@pytest.mark.parametrize(
    "path", ["../outside.py", "/etc/passwd", "demo-1.0.data/data/../../x", "demo-1.0.data/data/info/x"]
)
def test_a_file_with_a_path_outside_the_package_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ChannelError):
        plan(make_wheel(tmp_path, {path: ""})).write(tmp_path / "out.conda", epoch=0)


def test_two_files_for_one_path_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"x.py": "", "demo-1.0.data/purelib/x.py": ""})
    with pytest.raises(ChannelError, match="twice"):
        plan(wheel).write(tmp_path / "out.conda", epoch=0)


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(ChannelError, match=r"demo-1\.0"):
        plan(Wheel(path))
    with pytest.raises(ChannelError, match=r"notes\.txt"):
        plan(Wheel(tmp_path / "notes.txt"))
