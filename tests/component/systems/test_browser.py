"""The browser of ``make systems``, on a page of a real server; without a Chromium these are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from system_trial.browser import Browser, find_browser
from system_trial.server import serving
from system_trial.workshop import StepError

PAGE = """<!doctype html><meta charset="utf-8"><title>Form</title>
<input type="file"><textarea></textarea><p></p>
<script>
const [file, text, line] = ["input", "textarea", "p"].map(name => document.querySelector(name));
file.onchange = async () => { line.innerText = file.files[0].name + ": " + await file.files[0].text(); };
</script>
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium")
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    with serving(folder) as server, Browser(program) as browser:
        browser.open(f"{server.url}page.html")
        browser.wait("document.querySelector('p') && document.readyState == 'complete'", "the page")
        yield browser


def test_a_file_is_chosen_and_a_text_written(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "a b.txt"
    path.write_text("één", encoding="utf-8")
    browser.choose_file("file", path)
    assert browser.wait("line.innerText", "the file") == "a b.txt: één"
    browser.write("text", 'the "sea"')
    assert browser.value("text.value") == 'the "sea"'


def test_an_error_of_the_page_is_no_value(browser: Browser) -> None:
    assert browser.value("nothing.here") is None
    assert browser.value("[1, 2]") == [1, 2]


def test_an_error_of_the_browser_is_named(browser: Browser) -> None:
    with pytest.raises(StepError, match=r"No\.Such: 'No\.Such' wasn't found"):
        browser.call("No.Such")


def test_a_browser_that_ends_at_once_is_named() -> None:
    with Browser("false") as browser, pytest.raises(StepError, match=r"false: Target.createTarget"):
        browser.open("about:blank")
