"""The lines of a ``pip:`` section: requirements, and the options that pip allows in a requirements file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envpack.suggest import nearest

# https://pip.pypa.io/en/stable/reference/requirements-file-format/#supported-options
_TAKES_VALUE = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--pypi-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "-r": "--requirement",
    "--requirement": "--requirement",
    "-c": "--constraint",
    "--constraint": "--constraint",
    "-e": "--editable",
    "--editable": "--editable",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--trusted-host": "--trusted-host",
}
_FLAGS = {"--no-index", "--pre", "--prefer-binary", "--require-hashes", "--no-build-isolation", "--no-deps"}
_PER_REQUIREMENT = re.compile(r"\s--(?:hash|config-settings?|global-option)[=\s]\S+")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_REPOSITORY = re.compile(r"(?P<url>(?:git|hg|svn|bzr)\+[^#\s]+)#?(?P<fragment>\S*)$")
_HEAD = re.compile(r"(\bgit\+\S+?)@HEAD(?=[#;\s]|$)")  # git's name for what is taken anyway; uv does not know it
_NOT_A_NAME = re.compile(r"^(?:[./~]|[A-Za-z]:\\|\w[\w+.-]*://)|^[^@]+\.(?:whl|zip|tar\.\w+|tgz)$")


@dataclass(frozen=True)
class PipLine:
    """One line: an option (``option`` in its long form, with its ``value``) or a requirement (``option`` "")."""

    text: str
    option: str = ""
    value: str = ""

    @property
    def name(self) -> str:
        """Return the normalised project name of a requirement; "" where only a build can determine it."""
        if self.option or _is_location(self.text):
            return ""
        try:
            return canonicalize_name(Requirement(_bare(self.text)).name)
        except InvalidRequirement:
            return ""


def _bare(text: str) -> str:
    return _PER_REQUIREMENT.sub("", text).strip()


def _is_location(text: str) -> bool:
    return bool(_NOT_A_NAME.search(text.split(";")[0].strip()))


def parse_line(text: str) -> PipLine | None:
    """Return one line of the section, None for a comment.

    Raises:
        ValueError: The line is wrong; the message says what was expected.
    """
    text = _COMMENT.sub("", text).strip()
    if not text:
        return None
    text = _HEAD.sub(r"\1", text)
    if text.startswith("-"):
        return _option(text)
    if "${" not in text and not _is_location(text):  # pip and uv expand ${NAME} themselves
        try:
            Requirement(_bare(text))
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            if (option := _trailing_option(text)) is not None:
                raise ValueError(
                    "options of the whole section go on a line of their own: "
                    f"'- {text.split(' -')[0].strip()}' and '- {option}'"
                ) from None
            raise ValueError(
                f"expected a pip requirement such as flask==2.3.3, a path, a URL or an option ({reason})"
            ) from None
    return PipLine(text)


def _trailing_option(text: str) -> str | None:
    """Return the options behind a requirement, None when there are none that a line of its own may have."""
    _, found, rest = _bare(text).partition(" -")
    option = f"-{rest}".strip()
    return option if found and re.split(r"[=\s]", option)[0] in {*_TAKES_VALUE, *_FLAGS} else None


def _option(text: str) -> PipLine:
    parts = re.split(r"[=\s]" if text.startswith("--") else r"\s", text, maxsplit=1)
    option, value = parts[0], parts[1].strip() if len(parts) > 1 else ""
    if option in _FLAGS:
        if value:
            raise ValueError(f"expected {option} without a value")
        return PipLine(text, option)
    if option not in _TAKES_VALUE and not text.startswith("--") and text[:2] in _TAKES_VALUE:
        option, value = text[:2], text[2:].strip()  # -rfile, -i=URL: pip's short forms
    if option not in _TAKES_VALUE:
        options = sorted({name for name in _TAKES_VALUE if name.startswith("--")} | _FLAGS)
        raise ValueError(f"{option} is not an option of a requirements file{nearest(option, options)}")
    if not value:
        raise ValueError(f"expected a value after {option}")
    if _TAKES_VALUE[option] == "--editable" and (match := _REPOSITORY.match(value)):
        return _repository(match)
    return PipLine(text, _TAKES_VALUE[option], value)


def _repository(match: re.Match[str]) -> PipLine:
    """Return ``NAME @ URL`` for an editable repository: a bundle has no checkout that could be edited.

    ``#egg=NAME`` is pip's (https://pip.pypa.io/en/stable/topics/vcs-support/).
    """
    parts = [part for part in match["fragment"].split("&") if part]
    name = next((unquote(part[4:]) for part in parts if part.startswith("egg=")), "")
    others = "&".join(part for part in parts if not part.startswith("egg="))
    url = match["url"] + (f"#{others}" if others else "")
    return PipLine(f"{name} @ {url}" if name else url)


def parse_lines(lines: Iterable[str]) -> list[PipLine]:
    """Return all lines that are not comments; raise ValueError for the first wrong one."""
    return [line for line in map(parse_line, lines) if line is not None]
