"""The part of GitHub's REST interface that is about releases, as its documentation and its users describe it.

Source: https://docs.github.com/rest/releases. A draft is seen with a token only, and several can have one tag.
An upload that is not finished leaves an asset in the state "starter", which lists of releases do not have. A
published release can be immutable. Downloads are redirects to a storage, whose URLs must not get the token.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.rest_server import (
    DroppedError,
    RefusalError,
    RestHandler,
    RestState,
    page_of,
    rest_serving,
    send_range,
)

TOKEN = "ghs_the-secret-token"
REPOSITORY = "team/bundles"
_R = "/api/repos/team/bundles/releases"


@dataclass
class GitHub(RestState):
    """The releases of one repository. ``immutable``: releases are that when they are published."""

    token: str = TOKEN
    immutable: bool = False
    digests: bool = True
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    alter: int = 0
    leaked: bool = False
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "GITHUB_API_URL": f"{self.url}/api",
            "GITHUB_SERVER_URL": self.url,
            "GITHUB_TOKEN": TOKEN,
            "no_proxy": "127.0.0.1",
            **more,
        }

    def new_release(self, tag: str, *, draft: bool = True, **fields: Any) -> dict[str, Any]:
        id = next(self._ids)
        self.releases[id] = {
            "id": id,
            "tag_name": tag,
            "draft": draft,
            "immutable": self.immutable and not draft,
            "upload_url": f"{self.url}/uploads/releases/{id}/assets{{?name,label}}",
            "all": [],
            **fields,
        }
        return self.releases[id]

    def add(self, release: dict[str, Any], name: str, content: bytes, state: str = "uploaded") -> dict[str, Any]:
        asset = {"id": next(self._ids), "name": name, "size": len(content), "state": state, "digest": None}
        if state == "uploaded" and self.digests:
            asset["digest"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.contents[asset["id"]] = content
        release["all"].append(asset)
        return asset

    def published(self) -> dict[str, bytes]:
        """Return what everybody sees: the files of published releases, as ``tag/name``."""
        return self._seen(draft=False)

    def drafts(self) -> dict[str, bytes]:
        return self._seen(draft=True)

    def _seen(self, *, draft: bool) -> dict[str, bytes]:
        return {
            f"{release['tag_name']}/{asset['name']}": self.contents[asset["id"]]
            for release in self.releases.values()
            if release["draft"] is draft
            for asset in release["all"]
            if asset["state"] == "uploaded"
        }


def _writes(handler: RestHandler) -> bool:
    """Return whether the token may write; refuse a wrong one."""
    stated = handler.headers.get("Authorization")
    if stated is not None and stated != f"Bearer {handler.state.token}":  # type: ignore[attr-defined]
        raise RefusalError(
            401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
        )
    return stated is not None


def _must_write(handler: RestHandler) -> GitHub:
    if not _writes(handler):
        raise RefusalError(404, {"message": "Not Found"})
    return handler.state  # type: ignore[return-value]


def _shown(release: dict[str, Any]) -> dict[str, Any]:
    uploaded = [asset for asset in release["all"] if asset["state"] == "uploaded"]
    return {**{key: value for key, value in release.items() if key != "all"}, "assets": uploaded}


def _release(state: GitHub, id: str) -> dict[str, Any]:
    if int(id) not in state.releases:
        raise RefusalError(404, {"message": "Not Found"})
    return state.releases[int(id)]


def _list(handler: RestHandler) -> Any:
    state: GitHub = handler.state  # type: ignore[assignment]
    writes = _writes(handler)
    seen = [_shown(release) for release in state.releases.values() if writes or not release["draft"]]
    return page_of(handler, sorted(seen, key=lambda release: -release["id"]), 30)


def _by_tag(handler: RestHandler, tag: str) -> Any:
    _writes(handler)
    for release in handler.state.releases.values():  # type: ignore[attr-defined]
        if release["tag_name"] == tag and not release["draft"]:
            return _shown(release)
    raise RefusalError(404, {"message": "Not Found"})


def _get(handler: RestHandler, id: str) -> Any:
    release = _release(handler.state, id)  # type: ignore[arg-type]
    if not _writes(handler) and release["draft"]:
        raise RefusalError(404, {"message": "Not Found"})
    return _shown(release)


def _create(handler: RestHandler) -> Any:
    state, asked = _must_write(handler), handler.json()
    with state.lock:
        commit = asked.get("target_commitish", "main")
        release = state.new_release(asked["tag_name"], draft=asked["draft"], target_commitish=commit)
    return 201, _shown(release)


def _patch(handler: RestHandler, id: str) -> Any:
    state = _must_write(handler)
    release, asked = _release(state, id), handler.json()
    with state.lock:
        others = [other for other in state.releases.values() if other is not release and not other["draft"]]
        if any(other["tag_name"] == release["tag_name"] for other in others):
            error = {"resource": "Release", "code": "already_exists", "field": "tag_name"}
            raise RefusalError(422, {"message": "Validation Failed", "errors": [error]})
        release["draft"] = asked["draft"]
        release["immutable"] = state.immutable
    return _shown(release)


def _delete_release(handler: RestHandler, id: str) -> Any:
    state = _must_write(handler)
    del state.releases[_release(state, id)["id"]]
    return 204, None


def _assets(handler: RestHandler, id: str) -> Any:
    release = _release(handler.state, id)  # type: ignore[arg-type]
    if not _writes(handler) and release["draft"]:
        raise RefusalError(404, {"message": "Not Found"})
    return page_of(handler, release["all"], 30)


def _upload(handler: RestHandler, id: str) -> Any:
    state = _must_write(handler)
    release = _release(state, id)
    name = re.sub(r"[^A-Za-z0-9._+-]+", ".", handler.query["name"])
    with state.lock:
        if release["immutable"]:
            raise RefusalError(422, {"message": "Cannot upload assets to an immutable release."})
        if any(asset["name"] == name for asset in release["all"]):
            error = {"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}
            raise RefusalError(422, {"message": "Validation Failed", "errors": [error]})
        begun = state.add(release, name, b"", "starter")
    content = handler.body()
    with state.lock:
        if begun not in release["all"]:
            raise DroppedError  # it was deleted meanwhile
        if state.alter:
            state.alter -= 1
            content = content[:-1] + b"?"
        release["all"].remove(begun)
        return 201, state.add(release, name, content)


def _asset(state: GitHub, id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    for release in state.releases.values():
        for asset in release["all"]:
            if asset["id"] == int(id):
                return release, asset
    raise RefusalError(404, {"message": "Not Found"})


def _get_asset(handler: RestHandler, id: str) -> Any:
    _writes(handler)
    _, asset = _asset(handler.state, id)  # type: ignore[arg-type]
    if handler.headers["Accept"] != "application/octet-stream":
        return asset
    raise RefusalError(302, headers={"Location": f"{_storage(handler)}/storage/{id}"})


def _storage(handler: RestHandler) -> str:
    return handler.state.url.replace("127.0.0.1", "localhost")


def _delete_asset(handler: RestHandler, id: str) -> Any:
    state = _must_write(handler)
    release, asset = _asset(state, id)
    if release["immutable"]:
        raise RefusalError(422, {"message": "Cannot delete asset from an immutable release."})
    release["all"].remove(asset)
    return 204, None


def _download(handler: RestHandler, tag: str, name: str) -> Any:
    for release in handler.state.releases.values():  # type: ignore[attr-defined]
        for asset in release["all"]:
            found = (release["draft"], release["tag_name"], asset["name"], asset["state"])
            if found == (False, tag, name, "uploaded"):
                raise RefusalError(302, headers={"Location": f"{_storage(handler)}/storage/{asset['id']}"})
    raise RefusalError(404, b"Not Found")


def _stored(handler: RestHandler, id: str) -> Any:
    state: GitHub = handler.state  # type: ignore[assignment]
    state.leaked |= "Authorization" in handler.headers
    return send_range(handler, state.contents[int(id)])


_ROUTES = [
    ("GET", _R, _list),
    ("POST", _R, _create),
    ("GET", f"{_R}/tags/([^/]+)", _by_tag),
    ("GET", rf"{_R}/(\d+)", _get),
    ("PATCH", rf"{_R}/(\d+)", _patch),
    ("DELETE", rf"{_R}/(\d+)", _delete_release),
    ("GET", rf"{_R}/(\d+)/assets", _assets),
    ("POST", r"/uploads/releases/(\d+)/assets", _upload),
    ("GET", rf"{_R}/assets/(\d+)", _get_asset),
    ("DELETE", rf"{_R}/assets/(\d+)", _delete_asset),
    ("GET", r"/team/bundles/releases/download/([^/]+)/([^/]+)", _download),
    ("GET", r"/storage/(\d+)", _stored),
]


@contextmanager
def github_serving(**how: Any) -> Iterator[GitHub]:
    """Serve a repository without releases while the block runs."""
    state = GitHub(routes=_ROUTES, **how)
    with rest_serving(state):
        yield state
