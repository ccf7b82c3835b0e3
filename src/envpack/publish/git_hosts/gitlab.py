"""Publishing in generic packages of a project on GitLab: ``gitlab:PROJECT``.

The name of a package is that of the environment, and its version the version and date of the release.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from envpack.publish.base import Release, Upload
from envpack.publish.git_hosts.api import Api
from envpack.publish.git_hosts.package import Package
from envpack.publish.git_hosts.pieces import joined, proved_checksum
from envpack.publish.git_hosts.project import PackageName, Project
from envpack.publish.names import parse_bundle_name
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, UsageError
from envpack.runtime.transport.documents import PARTS

LIMIT = 5_000 << 20
"""Bytes of a file at most: GitLab.com allows 5 GiB
(https://docs.gitlab.com/user/gitlab_com/#package-registry-limits), as other servers do by default."""

_TARGET = re.compile(
    r"gitlab:(?://)?([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)", re.IGNORECASE
)
_DATED = re.compile(r".+-[0-9]{8}(?:\.[0-9]+)?")

_HINTS = {
    401: "The token is not valid, or it has expired. Set GITLAB_TOKEN to a valid one, and run the command again.",
    403: "The token must have the scope 'api', and its user the role Developer.",
    404: "Compare the path of the project. The token must have access to it.",
}


class GitLabPackages:
    """The generic packages of a project, as `envpack.publish.base.Publisher` says."""

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
        """Take the target, and the environment variables that a job of GitLab has.

        Args:
            target: The target.
            environ: GITLAB_TOKEN or CI_JOB_TOKEN, and CI_API_V4_URL for another server than gitlab.com.
            insecure: Allow http without TLS to other hosts than this one.
            bundles: The names of all bundles that will be published; other packages are not listed then.
            limit: Bytes of a file at most; a larger bundle is cut.

        Raises:
            UsageError: The target or a variable is not valid.
        """
        found = _TARGET.fullmatch(target)
        if found is None:
            raise UsageError(
                f"{target} is not valid", hint="Write gitlab:GROUP/PROJECT, or gitlab: and its number."
            )
        headers = {}
        if environ.get("GITLAB_TOKEN"):
            headers["PRIVATE-TOKEN"] = environ["GITLAB_TOKEN"]
        elif environ.get("CI_JOB_TOKEN"):
            headers["JOB-TOKEN"] = environ["CI_JOB_TOKEN"]
        self._has_token = bool(headers)
        base = environ.get("CI_API_V4_URL") or "https://gitlab.com/api/v4"
        self._project = Project(Api(base, headers, _HINTS, insecure=insecure), found[1])
        self._bundles, self._limit = bundles, limit
        self._split: set[str] = set()
        self._digests: dict[str, str] = {}

    def check_token(self) -> None:
        """Raise UsageError where there is no token, which publishing needs."""
        if not self._has_token:
            raise UsageError(
                "publishing on GitLab needs a token", hint="Set GITLAB_TOKEN; a job has CI_JOB_TOKEN."
            )

    def address(self, name: str) -> str:
        file = name + PARTS if name in self._split else name
        return self._project.url(package_of(name), file)

    def files(self) -> Mapping[str, int]:
        """Return the files of packages with a dated version, each bundle in parts as one file."""
        found: dict[str, int] = {}
        wanted = {package_of(bundle) for bundle in self._bundles}
        for package in wanted or {None}:
            for id, name in self._project.packages(package):
                if not _DATED.fullmatch(name.version):
                    continue
                files = [file for file in self._project.files(id) if package_of(file.name) == name]
                counts = Counter(file.name for file in files)
                self._digests.update((file.name, file.sha256) for file in files if counts[file.name] == 1)
                seen, split = joined({file.name: file.size for file in files})
                found.update(seen)
                self._split |= split
        return found

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: There is none.
            DestinationError: There are several, which differ: GitLab allows that.
        """
        package = package_of(name)
        if package is None:
            raise FileNotFoundError(name)
        proved = proved_checksum(name, self._digests)
        if proved is not None:
            return proved
        digests = {
            file.sha256
            for id, _ in self._project.packages(package)
            for file in self._project.files(id)
            if file.name == name
        }
        if not digests:
            raise FileNotFoundError(name)
        if len(digests) > 1:
            raise DestinationError(
                f"{self.address(name)} is several files that differ", hint="Delete all but the oldest in GitLab."
            )
        return self._project.download(package, name)

    @contextmanager
    def reserve(self, claim: Upload, names: Sequence[str], *, resume: bool = False) -> Iterator[Release]:
        """Reserve the names by uploading ``claim``.

        GitLab can be told to refuse a second file of one name. Otherwise the oldest one counts.
        """
        package = package_of(claim.name)
        if package is None:
            raise UsageError(
                f"{claim.name.removesuffix(CHECKSUM)} has not the name of a release, with the version for GitLab",
                hint="'envpack release' gives such names: NAME-VERSION-YYYYMMDD-SUBDIR.tar.gz.",
            )
        self.check_token()
        release = Package(self._project, package, limit=self._limit, resume=resume)
        try:
            release.open(claim, names)
            yield release
        except BaseException:
            release.take_back()
            raise
        if release.in_parts:
            self._split.add(claim.name.removesuffix(CHECKSUM))

    def replace(self, file: Upload) -> None:
        raise DestinationError("files of packages on GitLab are not replaced")


def package_of(name: str) -> PackageName | None:
    """Return the package that a file belongs to, by the name of its bundle; None for other files."""
    end = -1
    while (end := name.find(".", end + 1)) >= 0:
        bundle = parse_bundle_name(f"{name[:end]}.tar.gz")
        if bundle is not None:
            return PackageName(bundle.name, bundle.stem[len(bundle.name) + 1 : -len(bundle.subdir) - 1])
    return None
