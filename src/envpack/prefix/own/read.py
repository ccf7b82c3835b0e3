"""The own files of a bundle, as they lie in the directories of their author.

They come from directories beside the environment, not from packages, and change more often than packages do. In a
segment of their own, an upgrade after a change of the code reads nothing else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from envpack.prefix.model import SOURCE_MTIME, Entry, Group
from envpack.prefix.own.ids import APP
from envpack.prefix.scan.outputs import without_output
from envpack.prefix.scan.walk import GENERATED, FileStat, Outside, file_stat, walk, warn_of_privileged
from envpack.runtime.errors import PackError, UsageError
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.limits import MAX_MTIME
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter, human_size

APP_PATH = "app"
"""Path of an application in the environment, unless another one is given."""

_SECRETS = re.compile(
    r"(?:^|/)(?:\.env|\.env\.(?!example$|sample$|template$|dist$)[^/]+|\.netrc|\.pgpass|\.pypirc|\.npmrc|\.git-credentials"
    r"|\.aws/credentials|\.docker/config\.json|\.kube/config|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?)$"
)
"""Files with passwords or keys by the names that their programs give them: dotenv; curl(1), --netrc; libpq's
password file; packaging.python.org, .pypirc; docs.npmjs.com, npmrc; git-credential-store(1); the AWS CLI; docker
login; kubectl; ssh-keygen(1). Examples of .env have none by convention."""

_PATH = re.compile(r"(?!\.\.?(?:/|$))[A-Za-z0-9._+-]+(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._+-]+)*")
"""ASCII, because Python before 3.13 reads .pth files in the encoding of the locale."""


@dataclass(frozen=True)
class OwnFiles:
    """Files that become one group.

    Attributes:
        id: Id of the group: `FILES`, or `APP` and the path of the application.
        sources: Files and directories, by their path in the environment.
    """

    id: str
    sources: Mapping[str, Path]


def application(directory: Path, path: str) -> OwnFiles:
    """Return the own files of an application: all of ``directory``, at ``path`` in the environment."""
    return OwnFiles(f"{APP}{path}", {path: directory})


def parse_application(text: str) -> OwnFiles:
    """Return the application that ``DIR`` or ``DIR:PATH`` names.

    Raises:
        UsageError: There is no such directory, or the application can't be at this path.
    """
    directory, path = text, APP_PATH
    if ":" in text and not Path(text).exists():
        directory, _, path = text.rpartition(":")
    if problem := path_problem(path):
        raise UsageError(f"--app {text}: {problem}")
    if not Path(directory).is_dir():
        raise UsageError(f"--app {text}: {directory} is not a directory")
    return application(Path(directory), path)


def path_problem(path: str) -> str:
    """Return why own files can't be at a path of the environment; "" when they can."""
    if not _PATH.fullmatch(path):
        return "expected a path in the environment, such as app or etc/app.yml, of letters, digits and . _ + - /"
    if path in GENERATED or path.split("/")[0] in (OWN_FOLDER, "conda-meta"):
        return "this path is used by conda or by envpack itself"
    return ""


@dataclass(frozen=True)
class OwnRules:
    """The treatment of own files.

    Attributes:
        keep: Returns whether a path of the environment is packed.
        outside: How to treat links that lead out of a directory.
        others: Files that are not packed where they lie in a directory: the bundle that is written, and its base.
        newest: Latest time of files, in seconds since 1970; None: no limit.
        seen: Receives the paths of links that lead out and are packed unchanged.
        privileged: Receives the paths of files with setuid, setgid or capabilities.
    """

    keep: Callable[[str], bool]
    outside: Outside
    others: tuple[Path, ...]
    newest: int | None = None
    seen: list[str] = field(default_factory=list)
    privileged: list[str] = field(default_factory=list)


def read_own_files(own: Sequence[OwnFiles], rules: OwnRules, reporter: Reporter) -> list[Group]:
    """Return the groups of own files; only the status of files is read.

    Files keep the time of their last change: from it, servers of static files derive whether a browser has the
    latest version. The limit makes bundles reproducible (https://reproducible-builds.org/docs/archives/).

    Left out are directories of version control and of byte-code, environments, and directories with a CACHEDIR.TAG
    (https://bford.info/cachedir/).

    Args:
        own: The files of each group.
        rules: Their treatment.
        reporter: Receives progress.

    Raises:
        PackError: A source does not exist, is neither file nor directory, or can't be read; or nothing is there.
    """
    if not own:
        return []
    with reporter.step("Reading own files", unit="files") as step:
        groups = [_group(each, rules) for each in own]
        entries = [entry for group in groups for entry in group.entries]
        step.detail = f"{len(entries)} files, {human_size(sum(entry.size for entry in entries))}"
    warn_of_privileged(rules.privileged, reporter)
    secret = sorted(entry.path for entry in entries if entry.type == "file" and _SECRETS.search(entry.path))
    if secret:
        shown = ", ".join(secret[:3]) + (f" and {len(secret) - 3} more" if secret[3:] else "")
        reporter.warn(
            f"by their names, files with passwords or keys are packed: {shown}. All who have the bundle can read "
            "them; leave them out with --exclude, or 'exclude' in the spec"
        )
    return groups


def _group(own: OwnFiles, rules: OwnRules) -> Group:
    entries: dict[str, Entry] = {}
    for path, source in own.sources.items():
        if problem := path_problem(path):
            raise PackError(f"{source} can't be packed at {path!r}: {problem}")
        for entry in _read(path, source, rules):
            if entry.path in entries:
                raise PackError(f"{entry.path} in the environment is given twice: {source} has it, too")
            entries[entry.path] = entry
    if not entries:
        raise PackError(f"there are no files to pack in {', '.join(map(str, own.sources.values()))}")
    return Group(own.id, None, sorted_entries(entries.values()))


def _read(path: str, source: Path, rules: OwnRules) -> Iterator[Entry]:
    place = os.path.realpath(source)
    try:
        status = os.stat(place)
    except OSError as problem:
        raise PackError(f"can't read {source}: {problem.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        yield from _directory(path, Path(place), rules)
    elif not stat.S_ISREG(status.st_mode):
        raise PackError(f"{source} is neither a file nor a directory")
    elif not os.access(place, os.R_OK):
        raise PackError(f"can't read {source}: Permission denied")
    else:
        yield _file(path, place, file_stat(status), rules)


def _file(path: str, place: str, facts: FileStat, rules: OwnRules) -> Entry:
    mode = 0o755 if facts.executable else 0o644
    changed = facts.stamp[0] // 10**9
    mtime = max(SOURCE_MTIME, min(changed, MAX_MTIME if rules.newest is None else rules.newest))
    return Entry(path, "file", mode, facts.size, mtime, place=place, stamp=facts.stamp)


def _directory(path: str, directory: Path, rules: OwnRules) -> Iterator[Entry]:
    left_out = _is_left_out(directory)

    def keep(below: str) -> bool:
        return not left_out(below) and rules.keep(f"{path}/{below}")

    chosen: Callable[[str], bool] | None = keep
    for other in rules.others:
        chosen = without_output(chosen, directory, other)
    tree = walk(directory, chosen, [os.fsencode(directory)], rules.outside)
    for below, facts in tree.files.items():
        yield _file(f"{path}/{below}", tree.places.get(below, f"{directory}/{below}"), facts, rules)
    for below in filter(keep, tree.generated):  # which are generated in an environment only
        place = f"{directory}/{below}"
        yield _file(f"{path}/{below}", place, file_stat(os.stat(place)), rules)
    for below, target in tree.links.items():
        yield Entry(f"{path}/{below}", "symlink", target=target)
    for below, mode in tree.folders.items():
        yield Entry(f"{path}/{below}", "directory", mode & 0o777 | stat.S_IRWXU)
    rules.privileged.extend(f"{path}/{below}" for below in tree.privileged)
    rules.seen.extend(f"{path}/{below}" for below in tree.outside)


_NOT_CODE = frozenset({".git", ".hg", ".svn", "__pycache__"})
_CACHE = b"Signature: 8a477f597d28d172789f06886806bc55"


def _is_left_out(root: Path) -> Callable[[str], bool]:
    """Return a function that returns whether a path below ``root`` is, or lies in, what no application needs."""

    @cache
    def directory(path: str) -> bool:
        parent, _, name = path.rpartition("/")
        return (bool(parent) and directory(parent)) or name in _NOT_CODE or _is_tool_s(root / path)

    def left_out(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in _NOT_CODE or (bool(folder) and directory(folder))  # .git is a file in a worktree

    return left_out


def _is_tool_s(directory: Path) -> bool:
    """Return whether a directory is an environment, or a cache by its tag."""
    if (directory / "pyvenv.cfg").is_file() or (directory / "conda-meta").is_dir():
        return True
    tag = directory / "CACHEDIR.TAG"
    return tag.is_file() and read_file(tag, len(_CACHE)) == _CACHE


def sorted_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries in the order of a group."""
    return tuple(sorted(entries, key=lambda entry: os.fsencode(entry.path)))
