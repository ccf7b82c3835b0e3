"""The page of image-to-video, as a person uses it in a browser."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from system_trial.browser import Browser, find_browser

FIELD = "document.querySelector('input[type=file]')"
CHOSEN = "document.querySelector('img[src^=\"data:image\"]') !== null"
PROMPT = "document.querySelector('textarea')"
SUBMIT = "[...document.querySelectorAll('button')].find(button => button.innerText.trim() == 'Submit')"
VIDEO = "document.querySelector('video')"
SHOWN = f"{VIDEO} && {VIDEO}.readyState >= 2 && [{VIDEO}.videoWidth, {VIDEO}.videoHeight, {VIDEO}.duration]"


def video_of_page(url: str, picture: str, folder: Path) -> str:
    """Open the page, choose a picture, press Submit, and return what video the browser then has.

    Args:
        url: The URL of the page.
        picture: The picture, a PNG in base64.
        folder: Where its file is written.

    Raises:
        StepError: No video appears, or the browser can't play it.
    """
    program = find_browser()
    if program is None:
        return "not opened: no Chromium here"
    path = folder / "picture.png"
    path.write_bytes(base64.b64decode(picture))
    with Browser(program) as browser:
        browser.open(url)
        browser.wait(f"{FIELD} && {SUBMIT} && true", "the form")
        browser.choose_file(FIELD, path)
        browser.wait(CHOSEN, "the picture")
        browser.write(PROMPT, "the sea")
        begin = time.monotonic()
        browser.value(f"{SUBMIT}.click()")
        width, height, duration = browser.wait(SHOWN, "the video")
        version = browser.call("Browser.getVersion")["product"]
        return f"{version}: a video of {width}x{height}, {duration:.1f} s, after {time.monotonic() - begin:.1f} s"
