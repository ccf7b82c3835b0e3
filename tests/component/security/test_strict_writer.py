"""An environment that pack accepts can be deployed: the writer refuses all that the reader refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.cli.option_groups import PackOptions
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.errors import PackError, UsageError
from envpack.runtime.report import Reporter
from support.small_prefix import SmallPrefix


def record(made: SmallPrefix, **facts: object) -> None:
    document = {"name": "a", "version": "1", "build": "0", "files": [], **facts}
    made.write("conda-meta/a-1-0.json", json.dumps(document))


def pack(made: SmallPrefix, tmp_path: Path, settings: PackSettings) -> Path:
    output = tmp_path / "b.tar.gz"
    pack_prefix(made.path, output, settings=settings, reporter=Reporter())
    return output


PACKED: dict[str, Callable[[SmallPrefix], object]] = {
    "time beyond 64 bits": lambda made: record(made, timestamp=10**30),
    "time in the year 10000": lambda made: record(made, timestamp=253402300800 * 1000),
    "time as a truth value": lambda made: record(made, timestamp=True),
    "file of the year 2500": lambda made: os.utime(made.path / "lib/x", (16725225600, 16725225600)),
    "file before 1970": lambda made: os.utime(made.path / "lib/x", (-1, -1)),
    "link that stays inside": lambda made: made.link("lib/y", "../lib/x"),
}


@pytest.mark.parametrize("change", PACKED.values(), ids=PACKED)
def test_what_is_packed_can_be_deployed(change: Callable[[SmallPrefix], object], tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    made.write("lib/x", "x")
    change(made)
    bundle = pack(made, tmp_path, PackSettings())
    assert deploy(bundle, tmp_path / "to", reporter=Reporter()).files > 0
    assert (tmp_path / "to/lib/x").read_text() == "x"


def climb(made: SmallPrefix) -> None:
    """Make two links that are inside each, and lead out together."""
    made.write("a/b/file", "")
    made.link("up", "a/b")
    made.link("out", "up/../../x")
    made.link("deep", "up/../../..")


REFUSED: dict[str, Callable[[SmallPrefix], object]] = {
    "file with the name of envpack's folder": lambda made: made.write(".envpack", "x"),
    "link with the name of envpack's folder": lambda made: made.link(".envpack", "lib"),
    "folder in the place of envpack's script": lambda made: made.write("bin/activate/x", "x"),
    "name of a temporary file": lambda made: made.write("lib/.x.envpack-new", "x"),
    "long text": lambda made: record(made, version="1" * 5000),
    "links that lead out together": climb,
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_no_reader_takes_is_not_packed(change: Callable[[SmallPrefix], object], tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    change(made)
    with pytest.raises(PackError):
        pack(made, tmp_path, PackSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "n" * 5000},
        {"version": "a\0b"},
        {"created": 1 << 63},
        {"created": -1},
        {"test": ("x" * (1 << 21),)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_no_reader_takes_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    made.write("lib/x", "x")
    with pytest.raises(PackError, match="could read"):
        pack(made, tmp_path, replace(PackSettings(), **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", ["99999999999999999999", "\u00b2", "-1", "yesterday"])
def test_a_time_of_creation_that_is_none_is_refused(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        PackOptions().settings("demo", "1")
