"""Channels that require a login: from the URL, from ~/.netrc, and never in a lock."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.build.build import build_prefix
from envpack.build.location import choose_prefix
from envpack.lock.inputs import load_input
from envpack.lock.model import write_lock
from envpack.lock.solve import PackageSources, solve_lock
from envpack.runtime.errors import BuildError
from envpack.spec.parse import parse_spec
from support.servers import serving

SPEC = "name: x\nchannels: ['{url}']\ndependencies: [only]\nenvpack: {{platform: linux-64}}\n"


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    """The address of a channel with one package that has no file, which only the user 'me' may read."""
    buffer = io.BytesIO()
    index = {"name": "only", "version": "1", "build": "0", "build_number": 0, "subdir": "noarch", "depends": []}
    with tarfile.open(fileobj=buffer, mode="w:bz2") as archive:
        for name, content in (("info/index.json", index), ("info/paths.json", {"paths": [], "paths_version": 1})):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    package = buffer.getvalue()
    record = {**index, "sha256": hashlib.sha256(package).hexdigest(), "size": len(package)}
    noarch = {"info": {"subdir": "noarch"}, "packages": {"only-1-0.tar.bz2": record}}
    data = {
        "/noarch/repodata.json": json.dumps(noarch).encode(),
        "/linux-64/repodata.json": json.dumps({"info": {"subdir": "linux-64"}, "packages": {}}).encode(),
        "/noarch/only-1-0.tar.bz2": package,
    }
    with serving(data, user=f"Basic {base64.b64encode(b'me:s3cret').decode()}") as files:
        yield files.url


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("NETRC", "RATTLER_AUTH_FILE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def log_in(home: Path) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    (home / ".netrc").chmod(0o600)


def test_a_password_in_a_channel_is_used_and_not_written_to_the_lock(closed, home, tmp_path):
    spec = parse_spec(SPEC.format(url=closed.replace("://", "://me:s3cret@")), "x.yml")
    lock = solve_lock(spec)
    path = tmp_path / "x.lock"
    assert write_lock(lock, path)
    text = path.read_text()
    assert "s3cret" not in text
    assert "@" not in text
    again = load_input(path)
    with pytest.raises(BuildError, match=r"can't be installed: failed to fetch only-1-0") as caught:
        build_prefix(again, choose_prefix(tmp_path / "w"), cache_dir=tmp_path / "cache")
    assert "~/.netrc" in caught.value.hint
    log_in(home)
    built = build_prefix(again, choose_prefix(tmp_path / "w"), cache_dir=tmp_path / "cache")
    assert (built.prefix / "conda-meta" / "only-1-0.json").is_file()


def test_a_channel_is_read_with_the_login_of_netrc(closed, home):
    spec = parse_spec(SPEC.format(url=closed), "x.yml")
    with pytest.raises(BuildError, match="requires other credentials"):
        solve_lock(spec)
    log_in(home)
    assert [record.name.normalized for record in solve_lock(spec).platform("linux-64").conda] == ["only"]
    assert solve_lock(spec, sources=PackageSources([closed])).platform("linux-64").conda


def test_a_lock_without_credentials_says_so(channel_url, tmp_path):
    lock = solve_lock(
        parse_spec("name: x\ndependencies: [python]\n", "x.yml"), sources=PackageSources([channel_url])
    )
    assert not write_lock(lock, tmp_path / "x.lock")


@pytest.mark.parametrize("wanted", ["{url}::only >=9", "{url}::absent"])
def test_a_password_is_not_in_the_explanation_of_the_solver(closed, wanted):
    url = closed.replace("://", "://me:s3cret@")
    spec = parse_spec(SPEC.format(url=url).replace("[only]", f"['{wanted.format(url=url)}']"), "x.yml")
    with pytest.raises(BuildError, match="can't be satisfied") as caught:
        solve_lock(spec)
    assert "s3cret" not in json.dumps(caught.value.as_dict())


def test_a_password_is_not_in_the_name_of_a_package_that_a_channel_does_not_list(closed, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"@EXPLICIT\n{closed.replace('://', '://me:s3cret@')}/noarch/only-2-0.tar.bz2\n")
    with pytest.raises(BuildError) as caught:
        load_input(path)
    assert caught.value.details == [f"{path}:2: {closed.replace('://', '://***@')} does not list only-2-0.tar.bz2"]
