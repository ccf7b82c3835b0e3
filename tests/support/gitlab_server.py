"""The part of GitLab's REST interface that is about generic packages, as its documentation describes it.

Sources: https://docs.gitlab.com/user/packages/generic_packages/ and https://docs.gitlab.com/api/packages/. A file
appears when its upload is complete. A package can have several files of one name, unless duplicates are refused,
and the newest is downloaded. Downloads are redirects to a storage.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.rest_server import (
    RefusalError,
    RestHandler,
    RestState,
    page_of,
    rest_serving,
    send_range,
)

TOKEN = "glpat-the-secret-token"
_P = r"/api/v4/projects/([^/]+)"
_PROJECTS = ("team/envs", "42")


@dataclass
class GitLab(RestState):
    """The packages of one project. ``deletes``: whether the token may delete files."""

    token: str = TOKEN
    public: bool = True
    duplicates: bool = True
    deletes: bool = True
    digests: bool = True
    packages: dict[int, dict[str, Any]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    alter: int = 0
    leaked: bool = False
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def environ(self, **more: str) -> dict[str, str]:
        return {"CI_API_V4_URL": f"{self.url}/api/v4", "GITLAB_TOKEN": TOKEN, "no_proxy": "127.0.0.1", **more}

    def add(self, name: str, version: str, file: str, content: bytes) -> dict[str, Any]:
        with self.lock:
            for package in self.packages.values():
                if (package["name"], package["version"]) == (name, version):
                    break
            else:
                package = {"id": next(self._ids), "name": name, "version": version, "package_type": "generic"}
                self.packages[package["id"]] = {**package, "files": []}
                package = self.packages[package["id"]]
            if not self.duplicates and any(each["file_name"] == file for each in package["files"]):
                raise RefusalError(400, {"message": "400 Bad request - Duplicate package is not allowed"})
            made = {"id": next(self._ids), "package_id": package["id"], "file_name": file, "size": len(content)}
            made["file_sha256"] = hashlib.sha256(content).hexdigest() if self.digests else None
            self.contents[made["id"]] = content
            package["files"].append(made)
            return made

    def seen(self) -> dict[str, bytes]:
        """Return what is downloaded, as ``name/version/file``."""
        return {
            f"{package['name']}/{package['version']}/{file['file_name']}": self.contents[file["id"]]
            for package in self.packages.values()
            for file in package["files"]
        }


def _state(handler: RestHandler, project: str, *, write: bool = False) -> GitLab:
    """Return the state, if the token and the project are right."""
    state: GitLab = handler.state  # type: ignore[assignment]
    stated = handler.headers.get("PRIVATE-TOKEN") or handler.headers.get("JOB-TOKEN")
    kind, _, both = (handler.headers.get("Authorization") or "").partition(" ")
    if kind == "Basic":
        stated = base64.b64decode(both).decode().partition(":")[2]
    if stated is not None and stated != state.token:
        raise RefusalError(401, {"message": "401 Unauthorized"})
    if project not in _PROJECTS or (stated is None and not state.public):
        raise RefusalError(404, {"message": "404 Project Not Found"})
    if write and stated is None:
        raise RefusalError(401, {"message": "401 Unauthorized"})
    return state


def _list(handler: RestHandler, project: str) -> Any:
    state, query = _state(handler, project), handler.query
    found = [
        {key: value for key, value in package.items() if key != "files"}
        for package in state.packages.values()
        if query.get("package_name", "") in package["name"]
        and query.get("package_version", package["version"]) == package["version"]
    ]
    return page_of(handler, found, 20)


def _package(state: GitLab, id: str) -> dict[str, Any]:
    if int(id) not in state.packages:
        raise RefusalError(404, {"message": "404 Not Found"})
    return state.packages[int(id)]


def _files(handler: RestHandler, project: str, id: str) -> Any:
    return page_of(handler, _package(_state(handler, project), id)["files"], 20)


def _upload(handler: RestHandler, project: str, name: str, version: str, file: str) -> Any:
    state = _state(handler, project, write=True)
    content = handler.body()
    if state.alter:
        state.alter -= 1
        content = content[:-1] + b"?"
    made = state.add(name, version, file, content)
    return 201, made if handler.query.get("select") == "package_file" else {"message": "201 Created"}


def _download(handler: RestHandler, project: str, name: str, version: str, file: str) -> Any:
    for package in _state(handler, project).packages.values():
        for each in reversed(package["files"]):
            if (package["name"], package["version"], each["file_name"]) == (name, version, file):
                storage = handler.state.url.replace("127.0.0.1", "localhost")
                raise RefusalError(302, headers={"Location": f"{storage}/storage/{each['id']}"})
    raise RefusalError(404, {"message": "404 Not Found"})


def _stored(handler: RestHandler, id: str) -> Any:
    state: GitLab = handler.state  # type: ignore[assignment]
    state.leaked |= any(name in handler.headers for name in ("Authorization", "PRIVATE-TOKEN", "JOB-TOKEN"))
    return send_range(handler, state.contents[int(id)])


def _delete(handler: RestHandler, project: str, id: str, file: str) -> Any:
    state = _state(handler, project, write=True)
    if not state.deletes:
        raise RefusalError(403, {"message": "403 Forbidden"})
    for each in (files := _package(state, id)["files"]):
        if each["id"] == int(file):
            files.remove(each)
            return 204, None
    raise RefusalError(404, {"message": "404 Not Found"})


def _delete_package(handler: RestHandler, project: str, id: str) -> Any:
    state = _state(handler, project, write=True)
    del state.packages[_package(state, id)["id"]]
    return 204, None


_FILE = rf"{_P}/packages/generic/([^/]+)/([^/]+)/([^/]+)"
_ROUTES = [
    ("GET", f"{_P}/packages", _list),
    ("DELETE", rf"{_P}/packages/(\d+)", _delete_package),
    ("GET", rf"{_P}/packages/(\d+)/package_files", _files),
    ("DELETE", rf"{_P}/packages/(\d+)/package_files/(\d+)", _delete),
    ("PUT", _FILE, _upload),
    ("GET", _FILE, _download),
    ("GET", r"/storage/(\d+)", _stored),
]


@contextmanager
def gitlab_serving(**how: Any) -> Iterator[GitLab]:
    """Serve a project without packages while the block runs."""
    state = GitLab(routes=_ROUTES, **how)
    with rest_serving(state):
        yield state
