"""The lines of a ``pip:`` section: requirements, and the options that pip allows in a requirements file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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
    "--use-feature": "--use-feature",
}
_FLAGS = {
    *("--no-index", "--pre", "--prefer-binary", "--require-hashes", "--no-require-hashes"),
    *("--no-build-isolation", "--no-deps"),
}
_PER_REQUIREMENT = {
    "--hash": "--hash",
    "-C": "--config-settings",
    "--config-settings": "--config-settings",
    "--config-setting": "--config-settings",
    "--global-option": "--global-option",
}
_HASHES = ("sha256", "sha384", "sha512")
"""The algorithms of --hash: pip's STRONG_HASHES (pip/_internal/utils/hashes.py)."""
_ATTACHED = re.compile(r"-C.")
_FOR_UV = ("--requirement", "--constraint", "--editable", "--no-binary", "--only-binary")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_REPOSITORY = re.compile(r"(?P<url>(?:git|hg|svn|bzr)\+[^#\s]+)#?(?P<fragment>\S*)$")
_SSH = re.compile(
    r"git\+(?!file:)([^/:\s]+@[^/:\s]+):(?!//)(?=\S)"
)  # git's own short form of ssh://USER@HOST/PATH
_HEAD = re.compile(r"(\bgit\+\S+?)@HEAD(?=[#;\s]|$)")  # git's name for what is taken anyway; uv does not know it
_SNAPSHOT = re.compile(r"(https://github\.com/[^/\s]+/[^/\s]+)/(tarball|zipball)/([^\s;#?]+)")
_NOT_A_NAME = re.compile(r"^(?:[.~]|[A-Za-z]:\\|file:|[^@]*/)|^[^@]+\.(?:whl|zip|tar\.\w+|tgz)$")
"""A path has its '/' anywhere, as for pip and uv; that of 'NAME @ URL' is behind the '@'."""
_QUOTED = re.compile(r"""['"\\]|\s\[""")
_REMARK = re.compile(r"\[.*\]")  # Azure's AutoML writes '-r URL [--no-deps]'; pip ignores every such word


@dataclass(frozen=True)
class PipLine:
    """One option (``option`` in its long form, with its ``value``) or one requirement (``option`` "").

    Attributes:
        text: The line, as `parse_line` reads it again.
        option: The option in its long form.
        value: Its value, without quotes.
        requirement: The requirement without its own options.
        hashes: The ``ALGORITHM:HEX`` that a requirement states, in lower case.
        settings: The ``KEY=VALUE`` for the build backend that a requirement states.
    """

    text: str
    option: str = ""
    value: str = ""
    requirement: str = ""
    hashes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the normalised project name of a requirement; "" where only a build can determine it."""
        if self.option or _is_location(self.requirement):
            return ""
        try:
            return canonicalize_name(Requirement(self.requirement).name)
        except InvalidRequirement:
            return ""

    @property
    def for_uv(self) -> tuple[str, ...]:
        """Return the lines that uv reads for this one; empty for options that are arguments of uv."""
        if not self.option:
            return (" ".join([self.requirement, *(f"--hash={text}" for text in self.hashes)]),)
        if self.option not in _FOR_UV:
            return ()
        several = self.option in ("--no-binary", "--only-binary")
        values = [value for value in self.value.split(",") if value] if several else [self.value]
        return tuple(f"{self.option} {value}" for value in values)


def _is_location(text: str) -> bool:
    return bool(_NOT_A_NAME.search(text.split(";")[0].strip()))


def logical_lines(items: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines of a section, each with the position of the item that it begins in, counted from 0.

    conda writes the items to a requirements file, so that one item can have several lines, and a backslash at the
    end of a line continues it in the next, also in the next item. A comment ends what is continued.

    Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/#line-continuations
    """
    begun: tuple[int, str] | None = None
    for position, line in ((at, line) for at, item in enumerate(items) for line in item.split("\n")):
        if line.lstrip().startswith("#"):
            yield from filter(None, [begun])
            begun = None
            continue
        at, text = (begun[0], begun[1] + line) if begun is not None else (position, line)
        begun = (at, text[:-1]) if text.endswith("\\") else None
        if begun is None:
            yield at, text
    if begun is not None:
        yield begun


def parse_line(text: str) -> tuple[PipLine, ...]:
    """Return what one line of the section says: nothing for a comment, several options where it has several.

    Raises:
        ValueError: The line is wrong; the message says what was expected.
    """
    text = _COMMENT.sub("", text).strip()
    if not text:
        return ()
    text = _SNAPSHOT.sub(_archive, _HEAD.sub(r"\1", _SSH.sub(r"git+ssh://\1/", text)))
    return tuple(_options(text)) if text.startswith("-") else (_requirement(text),)


def _archive(match: re.Match[str]) -> str:
    """Return the address of the same file under a name with a suffix, which uv requires.

    Source: https://docs.github.com/en/repositories/working-with-files/using-files/downloading-source-code-archives
    """
    suffix = ".tar.gz" if match[2] == "tarball" else ".zip"
    return f"{match[1]}/archive/{match[3]}{suffix}"


def _requirement(text: str) -> PipLine:
    requirement, *rest = re.split(r"\s+(?=-)", text, maxsplit=1)
    own, others = _own_options("".join(rest))
    if "${" not in requirement and not _is_location(requirement):  # uv expands ${NAME} itself
        try:
            Requirement(requirement)
        except InvalidRequirement as error:
            raise ValueError(_expected(str(error).splitlines()[0])) from None
    if others:
        if others[0].split("=")[0] not in {*_TAKES_VALUE, *_FLAGS}:
            raise ValueError(f"{others[0]!r} is no option of a requirement, expected --hash or --config-settings")
        raise ValueError(
            "options of the whole section go on a line of their own: "
            f"'- {requirement}' and '- {shlex.join(others)}'"
        )
    hashes = tuple(_hash(value) for option, value in own if option == "--hash")
    settings = tuple(
        f"--global-option={value}" if option == "--global-option" else value
        for option, value in own
        if option != "--hash"
    )
    line = PipLine(text, requirement=requirement, hashes=hashes, settings=settings)
    if settings and not line.name:
        raise ValueError("expected a name before options of the build: 'NAME @ URL --config-settings ...'")
    return line


def _hash(value: str) -> str:
    algorithm, colon, digest = value.lower().partition(":")
    if not colon or algorithm not in _HASHES:
        raise ValueError(f"--hash={value} is none that pip accepts: expected {', '.join(_HASHES)}, and ':HEX'")
    if not re.fullmatch(r"[0-9a-f]+", digest):
        raise ValueError(f"--hash={value} has other characters than hexadecimal digits")
    return f"{algorithm}:{digest}"


def _expected(reason: str) -> str:
    return f"expected a pip requirement such as flask==2.3.3, a path, a URL or an option ({reason})"


def _own_options(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options that only concern the requirement they stand behind, and the words of the others."""
    own, others, words = [], [], shlex.split(text)
    while words:
        word = words.pop(0)
        name, equals, value = ("-C", "=", word[2:]) if _ATTACHED.match(word) else word.partition("=")
        if name not in _PER_REQUIREMENT:
            others.append(word)
            continue
        if not equals and not words:
            raise ValueError(f"expected a value after {name}")
        own.append((_PER_REQUIREMENT[name], value if equals else words.pop(0)))
    return own, others


def _options(text: str) -> Iterator[PipLine]:
    """Yield the options of a line, whose words are separated and quoted as in a shell (pip uses shlex, too)."""
    words = shlex.split(text)
    found: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if _REMARK.fullmatch(word):
            continue
        if not word.startswith("-"):
            raise ValueError(f"unexpected {word!r} behind {found[-1][0]}, expected a line of its own, or quotes")
        found.append(_option(word, words))
    lines = [_option_line(option, value) for option, value in found]
    as_written = len(lines) == 1 and not _QUOTED.search(text)
    for line in lines:
        stated = text if as_written else shlex.join([line.option, *filter(None, [line.value])])
        yield line if line.text else replace(line, text=stated)


def _option(word: str, words: list[str]) -> tuple[str, str]:
    """Return an option in its long form with its value, which may be the next of the words and is then taken."""
    name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
    if name in _FLAGS:
        if equals:
            raise ValueError(f"expected {name} without a value")
        return name, ""
    if name not in _TAKES_VALUE and not name.startswith("--") and name[:2] in _TAKES_VALUE:
        name, equals, value = name[:2], "=", name[2:]  # -rfile
    if name not in _TAKES_VALUE:
        options = sorted({known for known in _TAKES_VALUE if known.startswith("--")} | _FLAGS)
        raise ValueError(f"{name} is not an option of a requirements file{nearest(name, options)}")
    if not equals and words:
        value = words.pop(0)
    if not value:
        raise ValueError(f"expected a value after {name}")
    return _TAKES_VALUE[name], value


def _option_line(option: str, value: str) -> PipLine:
    """Return the line for an option; its text is "" unless the option stands for a requirement."""
    if option == "--editable" and (match := _REPOSITORY.match(value)):
        return _repository(match)
    return PipLine("", option, value)


def _repository(match: re.Match[str]) -> PipLine:
    """Return ``NAME @ URL`` for an editable repository: a bundle has no checkout that could be edited.

    ``#egg=NAME`` is pip's (https://pip.pypa.io/en/stable/topics/vcs-support/).
    """
    parts = [part for part in match["fragment"].split("&") if part]
    name = next((unquote(part[4:]) for part in parts if part.startswith("egg=")), "")
    others = "&".join(part for part in parts if not part.startswith("egg="))
    if "://" not in match["url"]:
        raise ValueError("expected a repository as git+https://HOST/PATH or git+ssh://HOST/PATH")
    url = match["url"] + (f"#{others}" if others else "")
    text = f"{name} @ {url}" if name else url
    return PipLine(text, requirement=text)


def parse_lines(items: Iterable[str]) -> list[PipLine]:
    """Return all lines that are not comments; raise ValueError for the first wrong one."""
    return [line for _, text in logical_lines(items) for line in parse_line(text)]
