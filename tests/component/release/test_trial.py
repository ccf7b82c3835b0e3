"""The tests of a spec run before a bundle is published: in the packed files, at another path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack.publish.local import LocalFolder
from envpack.release.make import Recipe, build_bundle
from envpack.release.new_release import release_bundle
from envpack.runtime.errors import DeploymentTestError
from envpack.runtime.report import Reporter
from support.conda_packages import Channel
from support.reporters import RecordingReporter


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Returns the recipe of a spec with one package and the given tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    channel = Channel(tmp_path / "channel")
    channel.add("tool", {"bin/tool": "#!/bin/sh\necho @PREFIX@\n", "include/tool.h": "", "share/x": ""})
    channel.index()

    def make(command: str, prune: str = "[]", **settings: object) -> Recipe:
        spec = tmp_path / "demo.yml"
        spec.write_text(
            f"channels: ['{channel.url}']\ndependencies: [tool]\n"
            f"envpack: {{test: ['{command}'], prune: {prune}}}\n"
        )
        return Recipe(spec, dict(os.environ), work=tmp_path / "work", **settings)  # type: ignore[arg-type]

    return make


def test_a_test_that_passes_runs_where_the_bundle_is_unpacked(recipe, tmp_path):
    reporter = RecordingReporter()
    test = 'test "$(tool)" = "$CONDA_PREFIX" && case $CONDA_PREFIX in */test) ;; *) false; esac'
    made = build_bundle(recipe(test.replace("'", "''")), tmp_path / "out.tar.gz", reporter)
    assert Path(made.bundle).is_file()
    assert any(step.startswith("Testing: test ") for step in reporter.steps)


@pytest.mark.parametrize("publish", ["build", "release"])
def test_nothing_is_published_when_a_test_fails(recipe, tmp_path, publish):
    out = tmp_path / "out"
    out.mkdir()
    failing = recipe("echo the reason; false")
    with pytest.raises(DeploymentTestError, match="no bundle was written") as caught:
        if publish == "build":
            build_bundle(failing, out, Reporter())
        else:
            release_bundle(failing, LocalFolder(out), Reporter())
    assert caught.value.details == ["the reason"]
    assert "--no-test" in caught.value.hint
    assert list(out.iterdir()) == []


def test_a_test_finds_what_was_left_out(recipe, tmp_path):
    with pytest.raises(DeploymentTestError):
        build_bundle(recipe("test -e include/tool.h", "[headers]"), tmp_path / "out.tar.gz", Reporter())


def test_tests_can_be_skipped(recipe, tmp_path):
    assert Path(build_bundle(recipe("false", test=False), tmp_path / "out.tar.gz", Reporter()).bundle).is_file()
