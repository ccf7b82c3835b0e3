"""Lines of a pip section in every form that pip reads: several options, quotes, continued lines, hashes."""

from __future__ import annotations

import re

import pytest

from envpack.spec.parse import parse_spec
from envpack.spec.pip_lines import logical_lines, parse_line, parse_lines


def read(*items: str) -> list[tuple[str, str]]:
    return [(line.option, line.value or line.requirement) for line in parse_lines(items)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "--extra-index-url https://a/s --extra-index-url=https://b/s --pre",
            [("--extra-index-url", "https://a/s"), ("--extra-index-url", "https://b/s"), ("--pre", "")],
        ),
        ("-f wheels --no-index", [("--find-links", "wheels"), ("--no-index", "")]),
        ("--index-url 'https://h/?a=b c'", [("--index-url", "https://h/?a=b c")]),
        ('-e "./a b[x]"', [("--editable", "./a b[x]")]),
        ('-e "git+https://h/b.git@v1#egg=tool"', [("", "tool @ git+https://h/b.git@v1")]),
        ("-r https://h/r.txt [--no-deps]", [("--requirement", "https://h/r.txt")]),
        ("-e git+git@h:a/b.git@v1#egg=b", [("", "b @ git+ssh://git@h/a/b.git@v1")]),
        ("b @ git+git@h:a/b.git", [("", "b @ git+ssh://git@h/a/b.git")]),
        ("-e . -e git+https://h/b#egg=b", [("--editable", "."), ("", "b @ git+https://h/b")]),
        (
            "--use-feature=fast-deps --no-require-hashes",
            [("--use-feature", "fast-deps"), ("--no-require-hashes", "")],
        ),
        ("-e ${HOME}/x", [("--editable", "${HOME}/x")]),
        ("https://github.com/o/r/tarball/v1.2", [("", "https://github.com/o/r/archive/v1.2.tar.gz")]),
        ("r @ https://github.com/o/r/zipball/main", [("", "r @ https://github.com/o/r/archive/main.zip")]),
    ],
)
def test_a_line_may_have_several_options_and_quotes(text, expected):
    assert read(text) == expected
    assert read(*(line.text for line in parse_lines([text]))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-r a.txt b.txt", "unexpected 'b.txt' behind --requirement"),
        ("--pre torch", "unexpected 'torch' behind --pre"),
        ("--pre=1", "expected --pre without a value"),
        ('-e "./a b', "No closing quotation"),
        ("flask==1 --require-hash x", "'--require-hash' is no option of a requirement"),
        ("flask==1 --hash", "expected a value after --hash"),
        ("https://h/x.tar.gz --config-settings a=b", "expected a name before options of the build"),
        ("-e bzr+lp:x", "expected a repository as git+https://HOST/PATH"),
        ("flask==1 -i https://h/s --pre", "'- flask==1' and '- -i https://h/s --pre'"),
    ],
)
def test_what_would_be_lost_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_line(text)


def test_a_backslash_continues_a_line_also_in_the_next_item():
    items = ["a==1 \\", "--hash=sha256:00", "b\\\n>=2\nc", "d \\\n# ended \\\ne \\"]
    assert list(logical_lines(items)) == [
        (0, "a==1 --hash=sha256:00"),
        (2, "b>=2"),
        (2, "c"),
        (3, "d "),
        (3, "e "),
    ]


def test_an_item_of_several_lines_is_several_lines():
    text = "dependencies:\n- pip:\n  - |\n    a==1\n    # no\n    -i https://h/s --pre\n"
    text += "  - c \\\n  - --hash=sha256:AB\n"
    assert parse_spec(text, "e.yml").pip == ("a==1", "--index-url https://h/s", "--pre", "c --hash=sha256:AB")


def test_a_wrong_line_is_reported_at_its_item():
    with pytest.raises(Exception, match=r"^e\.yml:4: 'c d'"):
        parse_spec("dependencies:\n- pip:\n  - a\n  - |\n    b\n    c d\n", "e.yml")


def test_options_of_a_requirement_are_known():
    (line,) = parse_line(
        "Tool[x]==1 ; python_version > '3' --hash=sha256:AB --hash sha512:00 -C a=b -Cc=d --global-option=c"
    )
    assert line.requirement == "Tool[x]==1 ; python_version > '3'"
    assert (line.name, line.hashes) == ("tool", ("sha256:ab", "sha512:00"))
    assert line.settings == ("a=b", "c=d", "--global-option=c")
    assert line.for_uv == ("Tool[x]==1 ; python_version > '3' --hash=sha256:ab --hash=sha512:00",)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("--no-binary=a,b", ("--no-binary a", "--no-binary b")),
        ("--only-binary :all:", ("--only-binary :all:",)),
        ('-e "./a b"', ("--editable ./a b",)),
        ("--no-index", ()),
        ("--use-feature=x", ()),
    ],
)
def test_uv_reads_an_option_as_it_knows_it(text, lines):
    (line,) = parse_line(text)
    assert line.for_uv == lines


def test_several_pip_sections_are_one():
    text = "dependencies:\n- pip: [a, -i https://h/s]\n- python\n- pip: [b]\n"
    assert parse_spec(text, "e.yml").pip == ("a", "-i https://h/s", "b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("allow-pypi-requests: true\npip-repositories: [https://h/s]\n", ("--extra-index-url https://h/s",)),
        (
            "allow-pypi-requests: false\npip-repositories: [https://h/s, https://i/s]\n",
            ("--index-url https://h/s", "--extra-index-url https://i/s"),
        ),
        ("allow-pypi-requests: false\n", ("--no-index",)),
    ],
)
def test_pypi_may_be_excluded_as_in_conda_lock(text, expected):
    assert parse_spec(f"dependencies: [python]\n{text}", "e.yml").pip == expected


def test_dependencies_of_other_platforms_are_left_out_as_mamba_does():
    text = "- sel(linux): gdb >=1\n- sel(unix): make\n- sel(osx): lldb\n- sel(win): pywin32\n"
    assert parse_spec(f"dependencies:\n{text}", "e.yml").dependencies == ("gdb >=1", "make")


@pytest.mark.parametrize("value", ["md5:00", "sha1:00", "00", "sha256", "blake2b:00"])
def test_only_hashes_that_pip_accepts_are_read(value: str) -> None:
    with pytest.raises(
        ValueError, match=f"--hash={value} is none that pip accepts: expected sha256, sha384, sha512"
    ):
        parse_line(f"tool==1 --hash={value}")


@pytest.mark.parametrize("value", ["sha256:", "sha256:xyz", "sha512:sha512:00"])
def test_a_hash_is_hexadecimal(value: str) -> None:
    with pytest.raises(ValueError, match="other characters than hexadecimal digits"):
        parse_line(f"tool==1 --hash={value}")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "libs/mypkg",
            "mypkg/",
            "libs/mypkg[extra]",
            "file:./x",
            "file:x",
            "file:///srv/x",
            "./x",
            "../x",
            ".",
            "~/x",
        ),
        *("libs/my-pkg ; python_version > '3'", "libs/a.b/c@v1", "git+https://git@h/x.git@main"),
    ],
)
def test_paths_and_urls_are_locations_as_pip_and_uv_take_them(text: str) -> None:
    (line,) = parse_line(text)
    assert (line.requirement, line.name, line.for_uv) == (text, "", (text,))


@pytest.mark.parametrize("text", ["mypkg @ libs/mypkg", "mypkg[extra]@file:./x", "mypkg; sys_platform == 'a/b'"])
def test_a_slash_behind_a_name_belongs_to_its_url_or_marker(text: str) -> None:
    (line,) = parse_line(text)
    assert line.name == "mypkg"


@pytest.mark.parametrize("text", ["my pkg", "flask=2", "[extra]"])
def test_what_is_no_requirement_and_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a pip requirement such as"):
        parse_line(text)
