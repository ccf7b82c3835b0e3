"""The author's own files: where they may be in an environment, what they replace, and how Python finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.prefix.model import ENVIRONMENT, Entry, Group, PrefixContents
from envpack.prefix.own.ids import application_path, is_own
from envpack.prefix.own.place import add_own_files, import_path
from envpack.prefix.own.read import (
    OwnRules,
    application,
    parse_application,
    path_problem,
    read_own_files,
)
from envpack.runtime.errors import PackError, UsageError
from support.reporters import RecordingReporter


def files(*paths: str) -> tuple[Entry, ...]:
    return tuple(Entry(path, "file") for path in paths)


def environment(unowned: tuple[Entry, ...] = (), python: str = "bin/python3.11") -> PrefixContents:
    package = Group("conda:tool-1-0", None, files("bin/tool", "share/tool/data"))
    foreign = tuple(entry.path for entry in unowned)
    groups = (package, Group(ENVIRONMENT, None, unowned))
    return PrefixContents(Path("/env"), (b"/env",), groups, foreign=foreign, python=python)


def paths(contents: PrefixContents, id: str) -> list[str]:
    return [entry.path for group in contents.groups if group.id == id for entry in group.entries]


def test_an_application_is_the_last_group_with_a_file_that_puts_it_on_the_import_path():
    contents = add_own_files(environment(), [Group("app:app", None, files("app/main.py"))])
    assert [group.id for group in contents.groups] == ["conda:tool-1-0", "environment", "app:app"]
    pth = "lib/python3.11/site-packages/envpack-app.pth"
    assert paths(contents, "app:app") == ["app/main.py", pth]
    assert contents.groups[-1].entries[1].content == b"../../../app\n"


@pytest.mark.parametrize(
    "python, present, folder",
    [
        ("bin/python3.11", [], "lib/python3.11"),
        ("bin/python3.13", ["lib/python3.13t/os.py"], "lib/python3.13t"),
        ("bin/pypy3.9", [], "lib/pypy3.9"),
    ],
)
def test_the_import_path_is_that_of_the_interpreter(python: str, present: list[str], folder: str):
    (entry,) = import_path(["srv/web"], python, present).values()
    assert entry.path == f"{folder}/site-packages/envpack-srv-web.pth"
    assert entry.content == b"../../../srv/web\n"


def test_without_an_interpreter_there_is_no_import_path():
    contents = add_own_files(environment(python=""), [Group("app:app", None, files("app/main.sh"))])
    assert paths(contents, "app:app") == ["app/main.sh"]


def test_what_no_package_owns_gives_way():
    unowned = files("app/old.py", "etc/app.yml", "etc/other.yml", "conda-meta/history")
    unowned += (Entry("app/logs", "directory"), Entry("share/own", "directory"))
    own = [Group("files", None, files("etc/app.yml", "share/own/x")), Group("app:app", None, files("app/main.py"))]
    contents = add_own_files(environment(unowned), own)
    assert paths(contents, ENVIRONMENT) == ["etc/other.yml", "conda-meta/history"]
    assert contents.foreign == ("etc/other.yml", "conda-meta/history")


@pytest.mark.parametrize(
    "group, message",
    [
        (Group("files", None, files("bin/tool")), "bin/tool: in files and in conda:tool-1-0"),
        (Group("files", None, files("bin/tool/x")), "bin/tool: in files and in conda:tool-1-0"),
        (Group("files", None, files("share")), "share: in files, and a directory in conda:tool-1-0"),
        (
            Group("app:share", None, files("share/new")),
            "share: the directory of an application, but conda:tool-1-0",
        ),
    ],
)
def test_a_path_of_a_package_is_refused_and_both_are_named(group: Group, message: str):
    with pytest.raises(PackError) as caught:
        add_own_files(environment(), [group])
    assert any(line.startswith(message) for line in caught.value.details)


def test_two_applications_at_one_path_are_refused():
    group = Group("app:app", None, files("app/main.py"))
    with pytest.raises(PackError):
        add_own_files(environment(), [group, group])


@pytest.mark.parametrize(
    "path", ["", "/app", "..", "a/../b", "app/", ".envpack/x", "conda-meta", "bin/activate", "a b"]
)
def test_paths_that_own_files_can_t_have(path: str):
    assert path_problem(path)


@pytest.mark.parametrize("path", ["app", "srv/web-1.2", "etc/conda/deactivate.d/x.sh", ".streamlit", "a..b"])
def test_paths_that_own_files_can_have(path: str):
    assert not path_problem(path)


def test_an_application_is_given_as_directory_and_path(tmp_path: Path):
    assert parse_application(str(tmp_path)).sources == {"app": tmp_path}
    assert parse_application(f"{tmp_path}:srv/web").id == "app:srv/web"
    odd = tmp_path / "a:b"
    odd.mkdir()
    assert parse_application(str(odd)).sources == {"app": odd}
    for text in (f"{tmp_path}:", f"{tmp_path}:..", f"{tmp_path}/none"):
        with pytest.raises(UsageError):
            parse_application(text)


def test_own_segments_are_known_by_their_id():
    assert [is_own(id) for id in ("app:app", "files", "environment", "pypi:app-1")] == [True, True, False, False]
    assert application_path("app:srv/web") == "srv/web"
    assert application_path("files") == ""


SECRETS = (".env", ".env.local", "conf/.netrc", "keys/id_ed25519", ".aws/credentials")
OPEN = (".env.example", "keys/id_ed25519.pub", "environment.py", "credentials", "main.env")


@pytest.mark.parametrize("excluded", [(), SECRETS])
def test_files_with_passwords_by_their_name_are_packed_with_a_warning(tmp_path: Path, excluded: tuple[str, ...]):
    for name in (*SECRETS, *OPEN):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    reporter = RecordingReporter()
    rules = OwnRules(lambda path: path.removeprefix("app/") not in excluded, "error", ())
    (group,) = read_own_files([application(tmp_path, "app")], rules, reporter)
    packed = [entry.path for entry in group.entries if entry.type == "file"]
    assert packed == sorted(f"app/{name}" for name in {*SECRETS, *OPEN} - {*excluded})
    shown = "app/.aws/credentials, app/.env, app/.env.local and 2 more"
    assert [shown in text for text in reporter.warnings] == ([] if excluded else [True])
