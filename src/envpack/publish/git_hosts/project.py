"""The calls of GitLab's REST interface for generic packages and their files.

Sources: https://docs.gitlab.com/user/packages/generic_packages/ and https://docs.gitlab.com/api/packages/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from envpack.publish.git_hosts.api import Api, Body
from envpack.publish.git_hosts.pieces import Piece
from envpack.runtime.errors import DestinationError

_PAGE = 100
_MOST_PAGES = 1000


@dataclass(frozen=True)
class PackageName:
    """The name and the version of a package."""

    name: str
    version: str


@dataclass(frozen=True)
class PackageFile:
    """A file of a package; several can have one name. ``sha256`` is "" where the server does not state it."""

    id: int
    package: int
    name: str
    size: int
    sha256: str


class Project:
    """A project, by its number or its path.

    All methods raise DestinationError where the server refuses the request.
    """

    def __init__(self, api: Api, project: str) -> None:
        self._api, self._project, self._path = api, project, f"/projects/{quote(project, safe='')}"

    def url(self, package: PackageName | None, name: str = "") -> str:
        """Return the URL of a file, or that of all packages."""
        return self._api.base + (self._file(package, name) if package is not None else f"{self._path}/packages")

    def packages(self, wanted: PackageName | None = None) -> Iterator[tuple[int, PackageName]]:
        """Yield the numbers and names of generic packages: all, or one."""
        where = f"{self._path}/packages?package_type=generic"
        if wanted is not None:
            where += (
                f"&package_name={quote(wanted.name, safe='')}&package_version={quote(wanted.version, safe='')}"
            )
        for value in self._pages(where):
            try:
                found = PackageName(_as(value["name"], str), _as(value["version"], str))
                id = _as(value["id"], int)
            except (LookupError, TypeError):
                raise _unexpected() from None
            if wanted in (None, found):  # the server looks for names that contain it
                yield id, found

    def files(self, package: int) -> Iterator[PackageFile]:
        """Yield the files of a package, in the order of their upload."""
        try:
            values = list(self._pages(f"{self._path}/packages/{package}/package_files?order_by=id"))
        except FileNotFoundError:
            return  # deleted meanwhile
        yield from sorted(map(_package_file, values), key=lambda file: file.id)

    def _pages(self, where: str) -> Iterator[Any]:
        for page in range(1, _MOST_PAGES + 1):
            try:
                found = self._api.ask("GET", f"{where}&per_page={_PAGE}&page={page}").json()
            except FileNotFoundError:
                if "/package_files" in where:
                    raise
                raise DestinationError(
                    f"there is no project {self._project}, or the token has no access to it",
                    hint="Compare the path of the project. For a private project set GITLAB_TOKEN.",
                ) from None
            if not isinstance(found, list):
                raise _unexpected()
            yield from found
            if len(found) < _PAGE:
                return

    def upload(self, package: PackageName, piece: Piece) -> PackageFile:
        """Upload a file once; the package is created if there is none.

        Raises:
            RefusedError: For example where the name is taken and duplicates are not allowed (status 400).
            UnansweredError: It is not known whether it was uploaded.
        """
        where = f"{self._file(package, piece.name)}?select=package_file"
        return _package_file(self._api.ask("PUT", where, Body(piece.size, piece.chunks), repeat=False).json())

    def download(self, package: PackageName, name: str) -> bytes:
        """Return the content of the newest file of a name.

        Raises:
            FileNotFoundError: There is none.
        """
        return self._api.ask("GET", self._file(package, name), accept="*/*").body

    def delete(self, file: PackageFile) -> None:
        self._api.ask("DELETE", f"{self._path}/packages/{file.package}/package_files/{file.id}")

    def delete_package(self, package: int) -> None:
        self._api.ask("DELETE", f"{self._path}/packages/{package}")

    def _file(self, package: PackageName, name: str) -> str:
        parts = (quote(part, safe="") for part in (package.name, package.version, name))
        return f"{self._path}/packages/generic/{'/'.join(parts)}"


def _package_file(value: Any) -> PackageFile:
    try:
        return PackageFile(
            _as(value["id"], int),
            _as(value["package_id"], int),
            _as(value["file_name"], str),
            _as(value["size"], int),
            value.get("file_sha256") or "",
        )
    except (LookupError, TypeError, AttributeError):
        raise _unexpected() from None


def _as(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _unexpected() -> DestinationError:
    return DestinationError("the server's response is not one of GitLab's", hint="Check CI_API_V4_URL.")
