"""``services`` and ``mounts`` in the JSON of a manifest: what is written is read, and nothing wrong is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from envpack.runtime.errors import FormatError
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.format.manifest_json import manifest_from_json, manifest_to_json
from envpack.runtime.format.services import Mount, Service

PLAIN = Manifest(
    "demo", "1.0", "linux-64", 1, "a test", "gzip", 0, 0, 0, "0" * 64, (), (), commands={"serve": "x"}
)
FULL = replace(
    PLAIN,
    services={
        "serve": Service(8000, "/healthz", ("/models",), {"A": "b"}, "logs", 1.5),
        "other": Service(ready="http://[::1]:9000/"),
    },
    mounts={"/models": Mount("/models", 10**9, "weights"), "/data": Mount("/data")},
)


def test_they_are_read_as_they_were_written() -> None:
    assert manifest_from_json(manifest_to_json(FULL)) == FULL


def test_only_what_is_stated_is_written() -> None:
    assert not {"services", "mounts"} & json.loads(manifest_to_json(PLAIN)).keys()
    document = json.loads(manifest_to_json(FULL))
    assert document["services"]["other"] == {"ready": "http://[::1]:9000/"}
    assert document["mounts"] == {"/models": {"size": 10**9, "why": "weights"}, "/data": {}}


def test_keys_of_a_later_version_are_ignored() -> None:
    document = json.loads(manifest_to_json(FULL))
    document["services"]["other"]["later"] = [1]
    document["mounts"]["/data"]["later"] = {}
    assert manifest_from_json(json.dumps(document).encode()) == FULL


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ([], "an object expected"),
        ({"../x": {}}, "'../x' is not a name of a command"),
        ({"a": []}, "a: an object expected"),
        ({"a": {"port": 0}}, "a.port: expected a port from 1 to 65535"),
        ({"a": {"port": True}}, "a.port: expected a port from 1 to 65535"),
        ({"a": {"port": "80"}}, "a.port: expected a port from 1 to 65535"),
        ({"a": {"ready": "/"}}, "a.ready: a path without a port"),
        ({"a": {"ready": "http://127.0.0.1:99999/"}}, "a.ready: expected a path"),
        ({"a": {"ready": "http://127.0.0.999/"}}, "a.ready: expected a path"),
        ({"a": {"ready": "http://127.0.0.\N{ARABIC-INDIC DIGIT ONE}/"}}, "a.ready: expected a path"),
        ({"a": {"ready": "http://127.0.0.1@example.org/"}}, "a.ready: expected a path"),
        ({"a": {"ready": "http://127.0.0.1.example.org/"}}, "a.ready: expected a path"),
        ({"a": {"port": 1, "ready": "/a b"}}, "a.ready: expected a path"),
        ({"a": {"mounts": "/m"}}, "a.mounts: expected a list of paths"),
        ({"a": {"mounts": ["m"]}}, "a.mounts: expected an absolute path"),
        ({"a": {"mounts": ["/m\n"]}}, "a.mounts: expected an absolute path"),
        ({"a": {"env": {"A=B": ""}}}, "a.env: expected names"),
        ({"a": {"env": {"A": 1}}}, "a.env: expected texts"),
        ({"a": {"log": "/var"}}, "a.log: expected a directory"),
        ({"a": {"log": "a/../../b"}}, "a.log: expected a directory"),
        ({"a": {"stop": 0}}, "a.stop: expected a time"),
        ({"a": {"stop": 1e9}}, "a.stop: expected a time"),
        ({"a": {"stop": True}}, "a.stop: expected a time"),
    ],
)
def test_a_wrong_service_is_refused(services: Any, message: str) -> None:
    document = {**json.loads(manifest_to_json(PLAIN)), "services": services}
    with pytest.raises(FormatError, match="services") as caught:
        manifest_from_json(json.dumps(document).encode())
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ({"models": {}}, "expected an absolute path"),
        ({"/a/../b": {}}, "expected an absolute path"),
        ({"/a/": {}}, "'/a/' is not an absolute path in its normal form"),
        ({"/a": {"size": -1}}, "/a.size: expected a size in bytes"),
        ({"/a": {"size": 1.5}}, "/a.size: expected a size in bytes"),
        ({"/a": {"why": 1}}, "/a.why: expected text"),
    ],
)
def test_a_wrong_mount_is_refused(mounts: Any, message: str) -> None:
    document = {**json.loads(manifest_to_json(PLAIN)), "mounts": mounts}
    with pytest.raises(FormatError, match="mounts") as caught:
        manifest_from_json(json.dumps(document).encode())
    assert message in caught.value.message
