"""The page of ``envpack size --html`` in a real browser, where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest

from envpack.runtime.format.manifest import Package
from support.bundle_factory import file, make_bundle

HOSTILE = "<img src=x onerror=alert(1)>"
SIZES = {
    "lib/a.so": 400_000,
    "lib/b.py": 200_000,
    "lib/sub/c.h": 100_000,
    "lib/sub/d.pyc": 50_000,
    f"lib/{HOSTILE}": 50_000,
}


def browser_dom(page: Path, folder: Path) -> str:
    """Return the document after the script ran, as Chromium writes it; skip the test where it can't be started."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,800")
    done = subprocess.run(
        [program, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(folder)},
    )
    if done.returncode or "<html" not in done.stdout:
        pytest.skip(f"Chromium does not start here: {done.stderr[-300:]}")
    return done.stdout


class Cell(NamedTuple):
    label: str
    left: float
    top: float
    width: float
    height: float


class Cells(HTMLParser):
    """The cells of the map at the top level."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: list[Cell] = []
        self.tags: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        attributes = dict(attrs)
        if " top" in (attributes.get("class") or ""):
            numbers = dict(re.findall(r"(\w+): ([\d.]+)px", attributes["style"] or ""))
            places = (float(numbers[key]) for key in ("left", "top", "width", "height"))
            self.found.append(Cell(attributes["aria-label"] or "", *places))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    segments = {path: [file(path, os.urandom(size))] for path, size in SIZES.items()}
    packages = tuple(Package("conda", path.rpartition("/")[2], "1", segment=path, size=1) for path in SIZES)
    make_bundle(folder / "demo.tar.gz", segments, name="demo", version="1.0", packages=packages)
    done = subprocess.run(
        [sys.executable, "-m", "envpack", "size", "--html", folder / "demo.html", folder / "demo.tar.gz"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder / 'demo.html'}\n", "")
    return folder / "demo.html"


def test_areas_are_in_proportion_and_do_not_overlap(page: Path, tmp_path: Path) -> None:
    found = Cells(browser_dom(page, tmp_path)).found
    assert len(found) == len(SIZES)
    total = sum(cell.width * cell.height for cell in found)
    for cell, size in zip(found, sorted(SIZES.values(), reverse=True), strict=True):
        assert cell.width * cell.height / total == pytest.approx(size / sum(SIZES.values()), rel=0.01)
        assert max(cell.width / cell.height, cell.height / cell.width) < 5
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
            down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
            assert min(across, down) < 0.01


def test_names_stay_text_in_the_browser(page: Path, tmp_path: Path) -> None:
    found = Cells(browser_dom(page, tmp_path))
    assert "img" not in found.tags
    assert [cell for cell in found.found if cell.label.startswith(HOSTILE)]


def test_an_output_that_can_not_be_written(page: Path, tmp_path: Path) -> None:
    for output, code in ((tmp_path / "no/x.html", 10), ("-", 2), (tmp_path, 10)):
        done = subprocess.run(
            [sys.executable, "-m", "envpack", "size", "--html", output, page.with_name("demo.tar.gz")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
