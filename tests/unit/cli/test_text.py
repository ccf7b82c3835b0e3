"""Text for people: what could steer a terminal or hide is written out; amounts read well."""

from __future__ import annotations

import pytest

from envpack.cli.text import escape, human_date, human_time, plural, wrap


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("numpy", "numpy"),
        ("naïve 环境 🐍", "naïve 环境 🐍"),
        ("[red]numpy[/red]", "[red]numpy[/red]"),
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("up\x1b[2Aoverwrites", r"up\x1b[2Aoverwrites"),
        ("a\nb\rc", r"a\x0ab\x0dc"),
        ("evil\u202egnp.exe", r"evil\u202egnp.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("latin\udce9", r"latin\xe9"),
        ("lone\ud800", r"lone\ud800"),
        ("tab\there", "tab    here"),
    ],
)
def test_nothing_that_a_terminal_acts_on_is_printed(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_times_read_as_a_person_says_them(seconds: float, shown: str) -> None:
    assert human_time(seconds) == shown


def test_dates_are_utc_and_any_number_has_one() -> None:
    assert human_date(1766102400) == "2025-12-19 00:00 UTC"
    assert human_date(1 << 62) == f"{1 << 62} s since 1970"


def test_counts_have_their_noun() -> None:
    assert [plural(1, "file"), plural(43700, "file"), plural(2, "entry"), plural(2, "day")] == [
        "1 file",
        "43,700 files",
        "2 entries",
        "2 days",
    ]


def test_wrapping_keeps_paths_whole_and_a_pipe_gets_the_text_as_it_is() -> None:
    path = "/a/very/long/path/" + "x" * 60
    assert wrap(f"can't write {path}", 30, indent="  ", first="error: ") == ["error: can't write", f"  {path}"]
    assert wrap("a " * 100, None, first="error: ") == ["error: " + "a " * 100]
