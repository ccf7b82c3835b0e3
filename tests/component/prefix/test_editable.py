"""Editable installs are found by what Python would import from outside, and nothing else is taken for one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import PrefixContents
from envpack.prefix.owners.editable import without_lines
from envpack.runtime.errors import PackError
from support.small_prefix import SmallPrefix

SITE = "lib/python3.11/site-packages"


@pytest.fixture
def made(tmp_path: Path) -> SmallPrefix:
    made = SmallPrefix(tmp_path / "env")
    made.write("bin/python3.11", "", 0o755)
    made.write(f"{SITE}/README.txt", "")
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/src/demo").mkdir(parents=True)
    (tmp_path / "project/pyproject.toml").write_text("")
    return tmp_path / "project"


def distribution(made: SmallPrefix, name: str, files: dict[str, str], direct_url: object = None) -> None:
    folder = f"{name}-1.0.dist-info"
    files = {**files, f"{folder}/METADATA": f"Name: {name}\nVersion: 1.0\n"}
    if direct_url is not None:
        files[f"{folder}/direct_url.json"] = json.dumps(direct_url)
    files[f"{folder}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{folder}/RECORD"))
    for path, text in files.items():
        made.write(os.path.normpath(f"{SITE}/{path}"), text)


def alarms(made: SmallPrefix) -> list[str]:
    try:
        read_prefix(made.path)
    except PackError as error:
        return list(error.details)
    return []


def paths(contents: PrefixContents) -> set[str]:
    return {entry.path for group in contents.groups for entry in group.entries}


# --- false alarms (conda-pack #66, #75) ---


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# /outside\n",
        "import os; p = '/outside'\n",
        "import sys, types, os; m = '{site}'\n",
        ".\n",
        "./demo.egg\n",
        "../../../share/lib\n",
        "{site}\n",
        "{prefix}\n",
        "{link}/share\n",
        "/nowhere/at/all\n",
        "\n\n   \n",
        "__import__('x')\n",
    ],
)
def test_path_files_that_stay_inside_are_no_editable_installs(
    made: SmallPrefix, tmp_path: Path, text: str
) -> None:
    made.write("share/lib/x.py", "")
    made.write(f"{SITE}/demo.egg", "")
    (tmp_path / "link").symlink_to("env", target_is_directory=True)
    text = text.format(site=made.path / SITE, prefix=made.path, link=tmp_path / "link")
    made.write(f"{SITE}/matplotlib-nspkg.pth", text)
    assert alarms(made) == []


@pytest.mark.parametrize(
    "direct_url",
    [
        {"url": "file://{project}", "dir_info": {}},
        {"url": "file://{project}", "dir_info": {"editable": False}},
        {"url": "file://{project}/x.whl", "archive_info": {}},
        {"url": "file:///home/conda/feedstock_root/work", "dir_info": {"editable": True}},
        {"url": "file://{prefix}/src/demo", "dir_info": {"editable": True}},
        {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git"}},
        {"url": None, "dir_info": {"editable": True}},
        [],
        "text",
    ],
)
def test_what_was_installed_from_a_folder_or_lies_inside_is_none(
    made: SmallPrefix, project: Path, direct_url: object
) -> None:
    made.write("src/demo/x.py", "")
    text = json.dumps(direct_url).replace("{project}", str(project)).replace("{prefix}", str(made.path))
    distribution(made, "demo", {"demo.py": ""}, json.loads(text))
    assert alarms(made) == []


def test_leftovers_of_other_pythons_and_vendored_folders_are_not_looked_at(
    made: SmallPrefix, project: Path
) -> None:
    made.write("lib/python3.9/site-packages/old.pth", f"{project}/src\n")
    made.write(f"{SITE}/pkg/_vendor/x.pth", f"{project}/src\n")
    assert alarms(made) == []


def test_an_environment_without_python_imports_nothing(tmp_path: Path, project: Path) -> None:
    made = SmallPrefix(tmp_path / "bare")
    made.write(f"{SITE}/x.pth", f"{project}/src\n")
    assert alarms(made) == []


# --- what is one ---


def test_every_kind_is_listed_with_its_source_all_at_once(
    made: SmallPrefix, project: Path, tmp_path: Path
) -> None:
    src = str(project / "src")
    editable = {"url": project.as_uri(), "dir_info": {"editable": True}}
    distribution(made, "direct", {"__editable__.direct-1.0.pth": f"{src}\n"}, editable)
    made.write(f"{SITE}/develop.egg-link", f"{src}\n../")
    made.write(f"{SITE}/easy-install.pth", f"import sys; sys.__plen = len(sys.path)\n{src}\n./x.egg\n{tmp_path}\n")
    made.write(f"{SITE}/conda.pth", f"{src}\n/nowhere\n")
    made.write(f"{SITE}/relative.pth", os.path.relpath(src, made.path / SITE) + "\n")
    made.write(f"{SITE}/__editable__.f-1.pth", "import __editable___f_1_finder; __editable___f_1_finder.install()")
    made.write(f"{SITE}/__editable___f_1_finder.py", f"MAPPING: dict[str, str] = {{'f': '{src}/demo'}}\n")
    assert alarms(made) == [
        f"__editable___f_1_finder: {src}/demo ({SITE}/__editable__.f-1.pth)",
        f"conda: {src} ({SITE}/conda.pth)",
        f"develop: {src} ({SITE}/develop.egg-link)",
        f"direct: {project} ({SITE}/direct-1.0.dist-info/direct_url.json)",
        f"easy-install: {tmp_path} ({SITE}/easy-install.pth)",
        f"relative: {src} ({SITE}/relative.pth)",
    ]


def test_a_source_whose_name_is_written_as_a_url(made: SmallPrefix, tmp_path: Path) -> None:
    folder = tmp_path / "my prójects"
    folder.mkdir()
    distribution(made, "demo", {}, {"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert alarms(made) == [f"demo: {folder} ({SITE}/demo-1.0.dist-info/direct_url.json)"]


def test_skipping_leaves_out_what_is_there_for_them_and_nothing_else(made: SmallPrefix, project: Path) -> None:
    src = str(project / "src")
    editable = {"url": project.as_uri(), "dir_info": {"editable": True}}
    distribution(made, "direct", {"direct.pth": f"{src}\n", "../../../bin/direct": "#!/x"}, editable)
    distribution(made, "other", {"other.py": ""})
    made.write(f"{SITE}/develop.egg-link", f"{src}\n.")
    made.write(
        "bin/develop", "#!/x/bin/python\n# EASY-INSTALL-ENTRY-SCRIPT: 'develop','console_scripts','develop'\n"
    )
    made.write("bin/another", "#!/x/bin/python\n# EASY-INSTALL-ENTRY-SCRIPT: 'another','console_scripts','x'\n")
    made.write(f"{SITE}/easy-install.pth", f"{src}\n")
    made.write(f"{SITE}/mixed.pth", f"# kept\n{src}\n./kept\n")
    before = {str(path.relative_to(made.path)) for path in made.path.rglob("*") if path.is_file()}
    contents = read_prefix(made.path, editable="skip")
    gone = {
        f"{SITE}/direct.pth",
        *(f"{SITE}/direct-1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "direct_url.json")),
        "bin/direct",
        "bin/develop",
        f"{SITE}/develop.egg-link",
        f"{SITE}/easy-install.pth",
    }
    assert set(contents.left_out) == gone == before - paths(contents)
    assert contents.missing == ()
    mixed = next(e for g in contents.groups for e in g.entries if e.path == f"{SITE}/mixed.pth")
    assert mixed.content == b"# kept\n./kept\n"
    assert (made.path / SITE / "mixed.pth").read_text() == f"# kept\n{src}\n./kept\n"


def test_what_no_wheel_can_be_built_of_is_refused_before_any_is(made: SmallPrefix, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    made.write(f"{SITE}/mine.pth", f"{tmp_path}/scripts\n")

    def never(*arguments: object) -> Path:
        raise AssertionError

    with pytest.raises(PackError, match=r"pyproject\.toml") as caught:
        read_prefix(made.path, editable=never)
    assert caught.value.details == [f"mine: {tmp_path}/scripts ({SITE}/mine.pth)"]


def test_a_path_file_without_anything_left_is_empty() -> None:
    assert without_lines("/a\n/b\n", frozenset({"/a"})) == "/b\n"
    assert without_lines("# x\n\n/a\n", frozenset({"/a"})) == ""
    plen = "import sys; sys.__plen = len(sys.path)\n/a\nimport sys; new=sys.path[sys.__plen:]\n"
    assert without_lines(plen, frozenset({"/a"})) == ""
    assert without_lines("import site_hook\n/a\n", frozenset({"/a"})) == "import site_hook\n"
