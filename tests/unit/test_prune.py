"""Pruning leaves out what a profile or a glob names, and nothing a program needs."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from envpack.prefix.prune import select, translate
from envpack.spec import PRUNE_PROFILES

SITE = "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("share/doc/**", "share/doc/a/b.txt", True),
        ("share/doc", "share/doc/a/b.txt", True),
        ("share/doc/", "share/doc/a", True),
        ("share/doc/**", "share/docs/a", False),
        ("*.a", "lib/libx.a", False),
        ("**/*.a", "lib/x/libx.a", True),
        ("**/*.a", "libx.a", True),
        ("**/tests/**", f"{SITE}/x/tests/t.py", True),
        ("**/tests/**", f"{SITE}/x/contests/t.py", False),
        ("lib/python*/test/**", "lib/python3.11/test/t.py", True),
        ("lib/python*/test/**", "lib/python3.11/site-packages/test/t.py", False),
        ("lib/lib[ab].so", "lib/liba.so", True),
        ("lib/lib[!ab].so", "lib/liba.so", False),
        ("lib/lib?.so", "lib/lib/.so", False),
        ("{bin,sbin}/x", "sbin/x", True),
        ("a.b", "axb", False),
        ("dir/{a,b", "dir/{a,b", True),
    ],
)
def test_globs_mean_what_the_documentation_says(glob, path, matches):
    assert bool(re.fullmatch(translate(glob), path)) is matches


@pytest.mark.parametrize(
    ("profile", "path", "goes"),
    [
        ("tests", "lib/python3.11/test/test_os.py", True),
        ("tests", f"{SITE}/numpy/_core/tests/test_array.py", True),
        ("tests", f"{SITE}/numpy/_core/tests/_natype.py", False),
        ("tests", f"{SITE}/numpy/testing/__init__.py", False),
        ("tests", f"{SITE}/django/test/client.py", False),
        ("tests", f"{SITE}/torch/testing/_internal/common.py", False),
        ("docs", "share/man/man1/python.1", True),
        ("docs", "share/zoneinfo/UTC", False),
        ("headers", "include/zlib.h", True),
        ("headers", "include/python3.11/pyconfig.h", False),
        ("headers", f"{SITE}/torch/include/ATen/ATen.h", False),
        ("static", "lib/libz.a", True),
        ("static", "lib/libz.so.1", False),
        ("bytecode", "lib/python3.11/__pycache__/os.cpython-311.pyc", True),
        ("bytecode", "lib/python3.11/os.py", False),
    ],
)
def test_profiles_take_what_they_say_and_leave_what_runs(profile, path, goes):
    assert (path in select([path], prune=[profile]).dropped) is goes


def test_include_wins_over_exclude_and_profiles_and_the_reason_is_told():
    paths = ["share/doc/a", "share/doc/LICENSE", "bin/python", "lib/libx.a"]
    selection = select(paths, exclude=["lib"], include=["share/doc/LICENSE"], prune=["docs", "static"])
    assert selection.kept == ("share/doc/LICENSE", "bin/python")
    assert selection.dropped == {"share/doc/a": "prune: docs", "lib/libx.a": "exclude: lib"}


def test_profiles_never_take_the_records_of_what_is_installed_but_exclude_may():
    paths = ["conda-meta/tests/x.a", f"{SITE}/x.dist-info/tests/RECORD"]
    assert select(paths, prune=PRUNE_PROFILES).dropped == {}
    assert set(select(paths, exclude=["conda-meta/**"]).dropped) == {paths[0]}


def test_every_profile_a_spec_may_name_has_rules_with_reason_and_source():
    text = resources.files("envpack.prefix").joinpath("prune.json").read_text(encoding="utf-8")
    profiles = json.loads(text)["profiles"]
    assert set(profiles) == set(PRUNE_PROFILES)
    for profile in profiles.values():
        for rule in profile["drop"] + profile["keep"]:
            assert set(rule) == {"glob", "reason", "source"} and all(rule.values())
