"""Signed pointers to the latest release: what a host that demands signatures refuses, and what others are told."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.codecs import FAST
from envpack.signing.bundle import sign_bundle
from envpack.signing.keys import SecretKey, new_key, secret_key_file
from support.command_line import Done, envpack
from support.sample_deployments import bundle, whole_version

LATEST = "demo-latest-linux-64.json"


@pytest.fixture
def key() -> SecretKey:
    return new_key()


@pytest.fixture
def root(tmp_path: Path, key: SecretKey) -> Path:
    """The root folder of a host that demands signatures of this key."""
    (tmp_path / "root/etc/envpack").mkdir(parents=True)
    (tmp_path / "root/etc/envpack/policy.toml").write_text(f'require = ["{key.public.text}"]')
    return tmp_path / "root"


def signed(folder: Path, version: str, day: str, key: SecretKey) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"demo-{version}-{day}-linux-64.tar.gz"
    shutil.move(bundle(folder, version), path)
    sign_bundle(path, key, "", FAST)
    return path


def publish(tmp_path: Path, path: Path, key: SecretKey, *more: object) -> Path:
    secret = tmp_path / "secret.key"
    secret.write_text(secret_key_file(key, ""))
    secret.chmod(0o600)
    done = envpack("publish", path, tmp_path / "place", "--key", secret, *more, HOME=str(tmp_path))
    assert done.code == 0, done.err
    return tmp_path / "place" / LATEST


def deploy(latest: Path, x: Path, root: Path) -> Done:
    return envpack("deploy", "--no-check", latest, x, root=root)


def test_a_signed_pointer_is_followed_and_says_how_long_it_is_valid(
    root: Path, key: SecretKey, tmp_path: Path
) -> None:
    latest = publish(tmp_path, signed(tmp_path / "dist", "1", "20251219", key), key)
    document = json.loads(latest.read_text())
    today = datetime.now(timezone.utc).date()
    assert date.fromisoformat(document["expires"]) - today in (timedelta(days=30), timedelta(days=29))
    done = deploy(latest, tmp_path / "x", root)
    assert done.code == 0, done.err
    assert whole_version(tmp_path / "x") == "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"signature": ""}, "requires a signature"),
        ({"expires": "2099-01-01"}, "the signature is not of this"),
        ({"bundle": "demo-2-20251220-linux-64.tar.gz"}, "the signature is not of this"),
        ({"signature": "untrusted"}, "is not a signature of minisign"),
    ],
)
def test_a_changed_pointer_is_refused(
    change: dict[str, Any], said: str, root: Path, key: SecretKey, tmp_path: Path
) -> None:
    latest = publish(tmp_path, signed(tmp_path / "dist", "1", "20251219", key), key)
    publish(tmp_path, signed(tmp_path / "dist", "2", "20251220", key), new_key())
    latest.write_text(json.dumps({**json.loads(latest.read_text()), **change}))
    done = deploy(latest, tmp_path / "x", root)
    assert done.code == 7 and (said in done.err or "not one of the accepted keys" in done.err), done.err
    assert not (tmp_path / "x").exists()


def test_an_expired_pointer_is_refused_until_it_is_published_again(
    root: Path, key: SecretKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envpack.cli.commands import sign

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(days=40)

    path = signed(tmp_path / "dist", "1", "20251219", key)
    with monkeypatch.context() as patch:
        patch.setattr(sign, "datetime", Earlier)
        latest = publish(tmp_path, path, key)
    done = deploy(latest, tmp_path / "x", root)
    assert done.code == 7 and "expired on" in done.err
    assert deploy(path, tmp_path / "by-name", root).code == 0
    publish(tmp_path, path, key, "--expires", "7")
    assert deploy(latest, tmp_path / "x", root).code == 0


def test_an_older_release_than_the_deployed_one_is_refused(root: Path, key: SecretKey, tmp_path: Path) -> None:
    latest = publish(tmp_path, signed(tmp_path / "dist", "1", "20251219", key), key)
    replayed = latest.read_bytes()
    publish(tmp_path, signed(tmp_path / "dist", "2", "20251220", key), key)
    assert deploy(latest, tmp_path / "x", root).code == 0
    latest.write_bytes(replayed)
    done = deploy(latest, tmp_path / "x", root)
    assert done.code == 7 and "demo-2-20251220-linux-64.tar.gz is deployed, which is newer" in done.err
    assert whole_version(tmp_path / "x") == "2"
    nobody = tmp_path / "no-policy"
    nobody.mkdir()
    done = deploy(latest, tmp_path / "x", nobody)
    assert done.code == 0 and "which is newer" in done.err


def test_another_signed_bundle_in_place_of_the_latest_is_refused(
    root: Path, key: SecretKey, tmp_path: Path
) -> None:
    old = signed(tmp_path / "dist", "1", "20251219", key)
    new = signed(tmp_path / "dist", "2", "20251220", key)
    latest = publish(tmp_path, new, key)
    for end in ("", ".minisig"):
        shutil.copy(f"{old}{end}", latest.with_name(new.name + end))
    for host in (root, tmp_path / "no-policy"):
        host.mkdir(exist_ok=True)
        done = deploy(latest, tmp_path / "x", host)
        assert done.code == 7 and "is not the bundle that" in done.err
        assert not (tmp_path / "x").exists()


def test_a_pointer_without_a_key_does_not_expire(tmp_path: Path, key: SecretKey) -> None:
    path = signed(tmp_path / "dist", "1", "20251219", key)
    done = envpack("publish", path, tmp_path / "place", "--expires", 3, HOME=str(tmp_path))
    assert done.code == 2 and "--expires needs a key" in done.err
    assert envpack("publish", path, tmp_path / "place", HOME=str(tmp_path)).code == 0
    document = json.loads((tmp_path / "place" / LATEST).read_text())
    assert (document["expires"], document["signature"]) == ("", "")
