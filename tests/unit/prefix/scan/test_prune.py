"""Pruning leaves out what a profile or a glob names, and nothing a program needs."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from envpack.prefix.scan.prune import Selection, profiles, translate
from envpack.spec.model import PRUNE_PROFILES

SITE = "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("share/doc/**", "share/doc/a/b.txt", True),
        ("share/doc", "share/doc/a/b.txt", True),
        ("share/doc/", "share/doc/a", True),
        ("share/doc", "lib/share/doc/a", False),
        ("/share", "share/a", True),
        ("/share", "lib/share", False),
        ("tests", f"{SITE}/x/tests/t.py", True),
        ("tests", f"{SITE}/x/contests/t.py", False),
        ("tests/", f"{SITE}/x/tests/t.py", True),
        ("tests/", f"{SITE}/x/tests", False),
        ("tests/", f"{SITE}/x/tests/", True),
        ("./bin/x", "bin/x", True),
        ("*/share/doc/*", "share/doc/a", False),
        ("lib/**/x", "lib/x", True),
        ("lib/**/x", "lib/a/b/x", True),
        ("lib/a**b", "lib/a/b", False),
        ("**", "bin/x", True),
        ("**/", "top", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("\\!x", "!x", True),
        ("[z-a]", "z", False),
        ("[]x", "[]x", True),
        ("[a-", "[a-", True),
        ("", "x", False),
        ("/", "x", False),
        ("share/doc/**", "share/docs/a", False),
        ("*.a", "lib/libx.a", True),
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
    assert bool(Selection(prune=[profile]).reason(path)) is goes


def reasons(selection, paths):
    return {path: reason for path in paths if (reason := selection.reason(path))}


def test_include_wins_over_exclude_and_profiles_and_the_reason_is_reported():
    paths = ["share/doc/a", "share/doc/LICENSE", "bin/python", "lib/libx.a"]
    selection = Selection(exclude=["lib"], include=["LICENSE"], prune=["docs", "static"])
    assert reasons(selection, paths) == {"share/doc/a": "prune: docs", "lib/libx.a": "exclude: lib"}


def test_the_last_glob_that_matches_decides_as_in_gitignore():
    selection = Selection(exclude=["*.a", "!libkept.a", "lib/secret/"])
    paths = ["lib/libx.a", "lib/libkept.a", "lib/secret/libkept.a", "lib/secret"]
    assert reasons(selection, paths) == {
        "lib/libx.a": "exclude: *.a",
        "lib/secret/libkept.a": "exclude: lib/secret/",
    }


def test_what_each_rule_took_is_counted_and_globs_that_took_nothing_are_named():
    selection = Selection(exclude=["*/share/doc/*", "*.a", "lib"], include=["bin/x", "b.a"], prune=["docs"])
    kept = [path for path in ["share/doc/a", "lib/a.a", "lib/b.a", "bin/x"] if selection(path)]
    assert kept == ["lib/b.a", "bin/x"]
    assert selection.dropped == {"prune: docs": 1, "exclude: lib": 1}
    assert selection.idle() == ["*/share/doc/*", "bin/x"]


def test_profiles_never_take_the_records_of_what_is_installed_but_exclude_may():
    paths = ["conda-meta/tests/x.a", f"{SITE}/x.dist-info/tests/RECORD"]
    assert reasons(Selection(prune=PRUNE_PROFILES), paths) == {}
    assert set(reasons(Selection(exclude=["conda-meta/**"]), paths)) == {paths[0]}


def test_a_selection_without_rules_says_so():
    assert not Selection(include=["x"])
    assert Selection(prune=["docs"]) and Selection(exclude=["x"])


def test_every_profile_a_spec_may_name_has_rules_with_reason_and_source():
    text = resources.files("envpack.prefix.scan").joinpath("prune.json").read_text(encoding="utf-8")
    profiles = json.loads(text)["profiles"]
    assert set(profiles) == set(PRUNE_PROFILES)
    for profile in profiles.values():
        for rule in profile["drop"] + profile["keep"]:
            assert set(rule) == {"glob", "reason", "source"} and all(rule.values())


PYTHON_H = "include/python3.11/Python.h"


@pytest.mark.parametrize(
    ("present", "kept", "dropped"),
    [
        ("lib/python3.11/site-packages/triton/x.py", [PYTHON_H], ["include/zlib.h", "lib/libz.a"]),
        ("lib/python3.11/site-packages/torch/x.py", [PYTHON_H], ["include/zlib.h"]),
        (
            "bin/x86_64-conda-linux-gnu-gcc",
            [PYTHON_H, "include/zlib.h", "lib/libz.a", "lib/gcc/x/13/libgcc.a"],
            ["share/x.a"],
        ),
        ("bin/nvcc", [PYTHON_H, "include/cuda.h", "targets/x86_64-linux/lib/libcudart_static.a"], ["lib/libz.a"]),
        ("lib/python3.11/site-packages/cupy/x.py", ["include/cuda.h"], [PYTHON_H]),
        ("bin/python", ["include/python3.11/pyconfig.h"], [PYTHON_H, "lib/libz.a"]),
    ],
)
def test_what_a_compiler_at_run_time_needs_is_not_pruned(tmp_path, present, kept, dropped):
    file = tmp_path / present
    file.parent.mkdir(parents=True)
    file.touch()
    selection = Selection(prune=["headers", "static"])
    names = selection.keep_for_compilers(tmp_path)
    assert bool(names) is (present != "bin/python")
    assert [path for path in kept if not selection(path)] == []
    assert [path for path in dropped if selection(path)] == []


def test_exclude_removes_also_what_a_compiler_needs(tmp_path):
    (tmp_path / "lib/python3.11/site-packages/triton").mkdir(parents=True)
    selection = Selection(prune=["headers"], exclude=["include/**"])
    assert selection.keep_for_compilers(tmp_path) == ["Triton"]
    assert not selection(PYTHON_H)


def test_profiles_without_headers_ask_for_no_compilers(tmp_path):
    (tmp_path / "lib/python3.11/site-packages/triton").mkdir(parents=True)
    assert Selection(prune=["docs"]).keep_for_compilers(tmp_path) == []


def test_compilers_are_found_among_paths_as_in_a_prefix(tmp_path):
    paths = ["bin/x86_64-conda-linux-gnu-gcc", "lib/python3.11/site-packages/triton/__init__.py", "bin/gccx"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    selections = Selection(prune=["headers"]), Selection(prune=["headers"])
    names = selections[0].keep_for_compilers(tmp_path)
    assert names == selections[1].keep_for_compilers_among(paths) == ["a C compiler", "Triton"]
    assert selections[1](PYTHON_H)
    assert Selection(prune=["docs"]).keep_for_compilers_among(paths) == []


def test_profiles_are_those_of_the_spec():
    assert tuple(profiles()) == tuple(PRUNE_PROFILES)
