"""``commands:`` and ``mounts:`` of a spec, and ``requires: {gpu: ...}``."""

from __future__ import annotations

import pytest

from envpack.runtime.errors import SpecError
from envpack.runtime.format.services import Mount, Service
from envpack.spec.model import EnvSpec
from envpack.spec.parse import parse_spec

FULL = """\
envpack:
  requires: {gpu: optional}
  mounts:
    /models: {size: 60 GB, why: weights}
    /data/:
  commands:
    convert: python -m app.convert
    shown: {run: python -m app.show}
    serve:
      run: uvicorn app:app --port 8000
      port: 8000
      ready: /healthz
      mounts: [/models, /models/]
      env: {WORKERS: 2}
      log: ./logs/
      stop: 2m
"""


def test_a_command_is_a_text_or_says_how_it_is_run():
    spec = parse_spec(FULL, "e.yml")
    assert spec.commands == {
        "convert": "python -m app.convert",
        "shown": "python -m app.show",
        "serve": "uvicorn app:app --port 8000",
    }
    assert spec.services == {"serve": Service(8000, "/healthz", ("/models",), {"WORKERS": "2"}, "logs", 120)}
    assert spec.services["serve"].ready_url == "http://127.0.0.1:8000/healthz"
    assert spec.mounts == {"/models": Mount("/models", 60 * 10**9, "weights"), "/data": Mount("/data")}
    assert spec.requires.as_dict() == {"gpu": "optional"}


def test_they_survive_the_json_of_a_lock():
    spec = parse_spec(FULL, "e.yml")
    again = EnvSpec.from_dict(spec.as_dict())
    assert again == spec
    assert again.digest() == spec.digest()
    assert parse_spec(FULL.replace("2m", "1m"), "e.yml").digest() != spec.digest()


def test_a_spec_without_them_has_the_digest_that_it_had():
    plain = parse_spec("name: e\nenvpack:\n  commands: {a: b}\n", "e.yml")
    assert plain.as_dict().keys() == {"name", "version", "commands"}


SERVE = "envpack:\n  commands:\n    serve:\n      run: x\n      "
WRONG = [
    ("envpack:\n  commands:\n    serve: {port: 1}\n", 3, "command serve has no 'run', expected its shell command"),
    ("envpack:\n  commands:\n    serve: {run: ''}\n", 3, "command serve: run is empty, expected a shell command"),
    ("envpack:\n  commands:\n    serve: []\n", 3, "command serve is a list, expected text"),
    (SERVE + "ports: 1\n", 5, "'ports' is not a key of a command; did you mean 'port'?"),
    (SERVE + "port: 0\n", 5, "command serve: port is '0', expected a port from 1 to 65535"),
    (SERVE + "port: 65536\n", 5, "command serve: port is '65536', expected a port from 1 to 65535"),
    (SERVE + "port: http\n", 5, "command serve: port is 'http', expected a port from 1 to 65535"),
    (SERVE + "ready: /\n", 5, "command serve: ready is a path, which needs a 'port' too"),
    (
        SERVE + "ready: http://example.org/\n",
        5,
        "command serve: ready is 'http://example.org/', expected a path such as \"/healthz\", or a URL such as "
        '"http://127.0.0.1:8000/healthz"',
    ),
    (
        SERVE + "mounts: [models]\n",
        5,
        "command serve: mounts: a mount is 'models', expected an absolute path such as",
    ),
    (SERVE + "mounts: [/a/../b]\n", 5, "command serve: mounts: a mount is '/a/../b', expected an absolute path"),
    (SERVE + "env: {A B: x}\n", 5, "'A B' is not a valid name of a variable, expected letters, digits and _"),
    (SERVE + "env: {PATH: x}\n", 5, "'PATH' is reserved for shells and activation scripts"),
    (SERVE + "log: /var/log\n", 5, "command serve: log is '/var/log', expected a directory below the working"),
    (SERVE + "log: ../logs\n", 5, "command serve: log is '../logs', expected a directory below the working"),
    (SERVE + "stop: 30\n", 5, "command serve: stop is '30', expected a time with its unit, such as \"30s\" or"),
    (SERVE + "stop: 0s\n", 5, "command serve: stop is '0s', expected a time from 1 second to 24 hours"),
    ("envpack:\n  mounts:\n    models: {}\n", 3, "mount 'models': expected an absolute path such as /models"),
    (
        "envpack:\n  mounts:\n    /models: {size: 60}\n",
        3,
        'mount /models: size is \'60\', expected a size with its unit such as "40 GB" or "64 GiB"',
    ),
    ("envpack:\n  mounts:\n    /models: {sizes: 1}\n", 3, "'sizes' is not a key of a mount; did you mean 'size'?"),
    ("envpack:\n  mounts:\n    /a: {}\n    /a/: {}\n", 4, "mount /a is given twice"),
    ("envpack:\n  requires: {gpu: maybe}\n", 2, "requires gpu is 'maybe', expected optional or required"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG, ids=[message[:60] for _, _, message in WRONG])
def test_a_mistake_is_reported_with_its_line_and_what_was_expected(text, line, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "e.yml")
    assert caught.value.message.startswith(f"e.yml:{line}: {message}")
