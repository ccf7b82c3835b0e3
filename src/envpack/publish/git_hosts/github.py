"""Publishing in releases on GitHub: ``github:OWNER/REPO@TAG``, or without tag a release for each bundle.

All files of a release are uploaded to a draft, which nobody else sees, and then it is published. Files can also be
added to a published release, unless it is immutable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from envpack.publish.base import Release, Upload
from envpack.publish.git_hosts.api import Api
from envpack.publish.git_hosts.draft import Draft
from envpack.publish.git_hosts.pieces import joined, proved_checksum
from envpack.publish.git_hosts.repository import Asset, HostedRelease, Repository
from envpack.publish.names import SUFFIXES
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, UsageError
from envpack.runtime.transport.documents import PARTS

LIMIT = 1_945 << 20
"""Bytes of an asset at most: 1.9 GiB, where GitHub allows less than 2 GiB.
Source: https://docs.github.com/repositories/releasing-projects-on-github/about-releases
"""

_TARGET = re.compile(r"github:(?://)?([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)(?:@(.*))?", re.IGNORECASE)
_TAG = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\@{]+")
"""Names of tags, more strictly than ``git check-ref-format``."""

_HINTS = {
    **dict.fromkeys((301, 302, 307, 308), "The repository was renamed or moved: use its present name."),
    401: "The token is not valid, or it has expired. Set GITHUB_TOKEN to a valid one, and run the command again.",
    403: "The token must have the permission to write contents: 'contents: write' in a workflow.",
    404: "Compare the name of the repository. The token must have the permission to write contents.",
}


class GitHubReleases:
    """Releases of a repository, as `envpack.publish.base.Publisher` says."""

    replaces = False

    def __init__(
        self,
        target: str,
        environ: Mapping[str, str],
        *,
        insecure: bool = False,
        bundles: Sequence[str] = (),
        limit: int = LIMIT,
    ) -> None:
        """Take the target, and the environment variables that a workflow of GitHub has, or a user of ``gh``.

        Args:
            target: The target.
            environ: GITHUB_TOKEN or GH_TOKEN; GITHUB_API_URL and GITHUB_SERVER_URL for GitHub Enterprise.
            insecure: Allow http without TLS to other hosts than this one.
            bundles: The names of all bundles that will be published: a draft is published after the last.
            limit: Bytes of an asset at most; a larger bundle is cut.

        Raises:
            UsageError: The target or a variable is not valid.
        """
        found = _TARGET.fullmatch(target)
        if found is None or (found[2] is not None and not _TAG.fullmatch(found[2])):
            raise UsageError(f"{target} is not valid", hint="Write github:OWNER/REPO@TAG or github:OWNER/REPO.")
        self._tag = found[2] or ""
        self._token = environ.get("GH_TOKEN") or environ.get("GITHUB_TOKEN") or ""
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        base = environ.get("GITHUB_API_URL") or "https://api.github.com"
        self._repository = Repository(Api(base, headers, _HINTS, insecure=insecure), found[1])
        self._server = (environ.get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/")
        own = environ.get("GITHUB_REPOSITORY", "").lower() == found[1].lower()
        self._commit = environ.get("GITHUB_SHA", "") if own else ""
        self._bundles, self._limit = bundles, limit
        self._known: dict[str, Asset] = {}
        self._tags: dict[str, str] = {}
        self._split: set[str] = set()

    def check_token(self) -> None:
        """Raise UsageError where there is no token, which publishing needs."""
        if not self._token:
            raise UsageError(
                "publishing on GitHub needs a token", hint="Set GITHUB_TOKEN, for example to $(gh auth token)."
            )

    def address(self, name: str) -> str:
        base = f"{self._server}/{self._repository.name}/releases"
        if not name:
            return base
        tag = self._tag or self._tags.get(name) or _stem(name)
        file = name + PARTS if name in self._split else name
        return f"{base}/download/{quote(tag, safe='')}/{quote(file, safe='')}"

    def files(self) -> Mapping[str, int]:
        """Return the files of published releases, each bundle in parts as one file."""
        found: dict[str, int] = {}
        for release in self._releases(draft=False):
            assets = {asset.name: asset.size for asset in self._learn(release)}
            sizes, split = joined(assets)
            self._split |= split
            for name, size in sizes.items():
                if name not in found:
                    found[name], self._tags[name] = size, release.tag
        return found

    def read(self, name: str) -> bytes:
        if name not in self._known:
            for release in self._releases(draft=True):
                self._learn(release)
        asset = self._known.get(name)
        if asset is None:
            raise FileNotFoundError(name)
        names = (name, name.removesuffix(CHECKSUM))
        proved = proved_checksum(name, {each: self._known[each].sha256 for each in names if each in self._known})
        if proved is not None:
            return proved
        try:
            return self._repository.download(asset)
        except FileNotFoundError:
            del self._known[name]
            raise

    @contextmanager
    def reserve(self, claim: Upload, names: Sequence[str], *, resume: bool = False) -> Iterator[Release]:
        """Reserve the names by uploading ``claim``: a release can't have two files of one name."""
        self.check_token()
        tag = self._tag or _stem(claim.name)
        self._tags.update(dict.fromkeys((claim.name, *names), tag))
        bundle = claim.name.removesuffix(CHECKSUM)
        bundles = {bundle, *self._bundles} if self._tag else {bundle}
        draft = Draft(self._repository, tag, bundles, limit=self._limit, resume=resume)
        try:
            draft.open(self._found(tag), self._commit, claim, names)
            yield draft
        except BaseException:
            draft.take_back()
            raise
        finally:
            self._known.clear()
            if draft.in_parts:
                self._split.add(bundle)

    def replace(self, file: Upload) -> None:
        raise DestinationError("files of a release on GitHub are not replaced")  # it may be immutable

    def _found(self, tag: str) -> Callable[[], Sequence[HostedRelease]]:
        return lambda: list(self._of_tag(tag))

    def _releases(self, *, draft: bool) -> Iterator[HostedRelease]:
        found = self._of_tag(self._tag) if self._tag else self._repository.releases()
        return (release for release in found if draft or not release.draft)

    def _of_tag(self, tag: str) -> Iterable[HostedRelease]:
        published = self._repository.published(tag)
        if published is not None:
            return [published]
        return [release for release in self._repository.releases() if release.tag == tag]

    def _learn(self, release: HostedRelease) -> Iterable[Asset]:
        assets: Iterable[Asset] = release.assets
        if self._tag:
            assets = [asset for asset in self._repository.assets(release).values() if asset.uploaded]
        for asset in assets:
            self._known.setdefault(asset.name, asset)
        return assets


def _stem(name: str) -> str:
    """Return the name of a bundle without its suffix, from the name of a file beside it."""
    ends = [name.find(suffix) for suffix in SUFFIXES.values() if name.find(suffix) > 0]
    return name[: min(ends)] if ends else name
