"""The calls of GitHub's REST interface for releases and their assets.

Source: https://docs.github.com/rest/releases, version 2022-11-28 of the interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from envpack.publish.git_hosts.api import Api, Body, same_security
from envpack.publish.git_hosts.pieces import Piece
from envpack.runtime.errors import DestinationError

_PAGE = 100
_MOST_PAGES = 100
"""GitHub lists 10,000 releases at most."""


@dataclass(frozen=True)
class Asset:
    """A file of a release. ``digest`` is "" where the server is too old to know it."""

    id: int
    name: str
    size: int
    uploaded: bool
    digest: str

    @property
    def sha256(self) -> str:
        """Return the digest in hex; "" where it is not known."""
        return self.digest.removeprefix("sha256:") if self.digest.startswith("sha256:") else ""


@dataclass(frozen=True)
class HostedRelease:
    """A release of a repository. The assets are those that are uploaded."""

    id: int
    tag: str
    draft: bool
    immutable: bool
    upload_url: str
    assets: tuple[Asset, ...]


class Repository:
    """A repository, by its owner and name with a slash between."""

    def __init__(self, api: Api, name: str) -> None:
        self.name = name
        self._api, self._path = api, f"/repos/{name}"

    def published(self, tag: str) -> HostedRelease | None:
        """Return the published release of a tag; None where there is none.

        Raises:
            DestinationError: The server refuses the request; also from all other methods.
        """
        try:
            return _release(self._api.ask("GET", f"{self._path}/releases/tags/{quote(tag, safe='')}").json())
        except FileNotFoundError:
            return None

    def releases(self) -> Iterator[HostedRelease]:
        """Yield all releases, the newest first; drafts are among them if the token may write."""
        for page in range(1, _MOST_PAGES + 1):
            try:
                found = _list(self._api.ask("GET", f"{self._path}/releases?per_page={_PAGE}&page={page}").json())
            except FileNotFoundError:
                raise DestinationError(
                    f"there is no repository {self.name}, or the token has no access to it",
                    hint="Compare the name. A token needs access to the contents of a private repository.",
                ) from None
            yield from map(_release, found)
            if len(found) < _PAGE:
                return

    def release(self, id: int) -> HostedRelease | None:
        """Return a release; None where it was deleted."""
        try:
            return _release(self._api.ask("GET", f"{self._path}/releases/{id}").json())
        except FileNotFoundError:
            return None

    def create_draft(self, tag: str, commit: str) -> HostedRelease:
        """Create a draft. There can be several with one tag.

        Args:
            tag: The tag, which is created when the draft is published, if there is none.
            commit: The commit of the tag; "" for the last one of the default branch.

        Raises:
            UnansweredError: It is not known whether it was created.
        """
        fields = {"tag_name": tag, "name": tag, "draft": True, **({"target_commitish": commit} if commit else {})}
        return _release(self._api.ask("POST", f"{self._path}/releases", Body.of(fields), repeat=False).json())

    def publish(self, id: int) -> None:
        """Publish a draft; nothing is changed where it is published."""
        answer = self._api.ask("PATCH", f"{self._path}/releases/{id}", Body.of({"draft": False}))
        if _release(answer.json()).draft:
            raise DestinationError(f"GitHub did not publish the draft in {self.name}", hint="Publish it by hand.")

    def delete_release(self, id: int) -> None:
        self._api.ask("DELETE", f"{self._path}/releases/{id}")

    def assets(self, release: HostedRelease) -> dict[str, Asset]:
        """Return the assets of a release by their names, also those whose upload is not finished."""
        found: dict[str, Asset] = {}
        for page in range(1, _MOST_PAGES + 1):
            try:
                where = f"{self._path}/releases/{release.id}/assets?per_page={_PAGE}&page={page}"
                values = _list(self._api.ask("GET", where).json())
            except FileNotFoundError:
                raise DestinationError(
                    f"the release {release.tag} of {self.name} was deleted meanwhile",
                    hint="Run the command again.",
                ) from None
            found.update((asset.name, asset) for asset in map(_asset, values))
            if len(values) < _PAGE:
                break
        return found

    def upload(self, release: HostedRelease, piece: Piece) -> Asset:
        """Upload an asset, once.

        Raises:
            RefusedError: The name is taken (status 422), or the release is immutable.
            UnansweredError: It is not known whether it was uploaded.
        """
        where = release.upload_url.partition("{")[0]
        if not same_security(self._api.base, where):
            raise DestinationError("GitHub names a server without TLS for uploads")
        body = Body(piece.size, piece.chunks)
        answer = self._api.ask("POST", f"{where}?name={quote(piece.name, safe='')}", body, repeat=False)
        return _asset(answer.json())

    def download(self, asset: Asset) -> bytes:
        """Return the content of an asset.

        Raises:
            FileNotFoundError: It was deleted.
        """
        where = f"{self._path}/releases/assets/{asset.id}"
        return self._api.ask("GET", where, accept="application/octet-stream").body

    def delete(self, asset: Asset) -> None:
        self._api.ask("DELETE", f"{self._path}/releases/assets/{asset.id}")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _unexpected()
    return value


def _release(value: Any) -> HostedRelease:
    try:
        return HostedRelease(
            _as(value["id"], int),
            _as(value["tag_name"], str),
            _as(value["draft"], bool),
            value.get("immutable") is True,  # GitHub Enterprise Server does not have it in all versions
            _as(value["upload_url"], str),
            tuple(asset for asset in map(_asset, value.get("assets") or ()) if asset.uploaded),
        )
    except (LookupError, TypeError, AttributeError):
        raise _unexpected() from None


def _asset(value: Mapping[str, Any]) -> Asset:
    try:
        digest = value.get("digest")
        return Asset(
            _as(value["id"], int),
            _as(value["name"], str),
            _as(value["size"], int),
            value["state"] == "uploaded",
            digest if isinstance(digest, str) else "",
        )
    except (LookupError, TypeError, AttributeError):
        raise _unexpected() from None


def _as(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _unexpected() -> DestinationError:
    return DestinationError("the server's response is not one of GitHub's", hint="Check GITHUB_API_URL.")
