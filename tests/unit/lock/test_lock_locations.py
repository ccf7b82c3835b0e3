"""Locations of pip packages in the lock files of pixi, rattler and conda-lock, in all their formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.build.pip import pylock
from envpack.lock.inputs import load_input
from envpack.lock.locations import parse_location
from envpack.lock.model import Lock, LockedPypi, read_lock
from envpack.runtime.errors import BuildError, SpecError, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "ab" * 32
CHANNEL = "https://conda.example.org/main/"


@pytest.mark.parametrize(
    ("written", "location"),
    [
        (f"git+https://h/a/b?subdirectory=sub&rev=main#{COMMIT}", f"git+https://h/a/b@{COMMIT}#subdirectory=sub"),
        (f"git+https://h/a/b.git?tag=v1#{COMMIT}", f"git+https://h/a/b.git@{COMMIT}"),
        (f"git+https://h/a/b?rev={COMMIT}", f"git+https://h/a/b@{COMMIT}"),
        (f"direct+git+https://h/a/b@v1#{COMMIT}", f"git+https://h/a/b@{COMMIT}"),
        (f"git+ssh://git@h/a/b.git?branch=x/y#{COMMIT}", f"git+ssh://git@h/a/b.git@{COMMIT}"),
        (f"git+ssh://git@h/a/b.git@{COMMIT}", f"git+ssh://git@h/a/b.git@{COMMIT}"),
        (f"git+file:///srv/x@{COMMIT}#subdirectory=a/b", f"git+file:///srv/x@{COMMIT}#subdirectory=a/b"),
        ("direct+https://h/b.zip", "https://h/b.zip"),
        ("direct+https://h/b.zip#subdirectory=py", "https://h/b.zip#subdirectory=py"),
        ("https://h/b-1-py3-none-any.whl?x=1", "https://h/b-1-py3-none-any.whl?x=1"),
        ("./pkg", "/project/pkg"),
        ("../pkg", "/pkg"),
        (".", "/project"),
        ("/srv/pkg", "/srv/pkg"),
    ],
)
def test_each_form_becomes_one(written, location):
    assert parse_location(written, Path("/project")) == (location, "")
    assert parse_location(location, Path("/elsewhere")) == (location, "")


def test_a_hash_is_found_beside_a_subdirectory():
    written = f"https://h/b.zip#subdirectory=py&sha256={SHA256}"
    assert parse_location(written, Path("/")) == ("https://h/b.zip#subdirectory=py", SHA256)
    assert parse_location(f"https://h/b.zip#sha256={SHA256}", Path("/")) == ("https://h/b.zip", SHA256)


def test_a_repository_without_its_commit_is_refused():
    with pytest.raises(ValueError, match=r"git\+https://h/a\?rev=main has no commit"):
        parse_location("git+https://h/a?rev=main", Path("/"))
    with pytest.raises(ValueError, match=r"git\+https://\*\*\*@h/a has no commit"):
        parse_location("git+https://me:pw@h/a", Path("/"))


def test_the_subdirectory_of_an_archive_is_what_uv_builds():
    text = pylock([LockedPypi("b", "1", "https://h/b.zip#subdirectory=py", SHA256)])
    assert 'archive = { url = "https://h/b.zip"' in text
    assert 'subdirectory = "py" }' in text


def pixi_lock(folder: Path, version: int, packages: str, *, environments: str = "default") -> Path:
    """Write a pixi.lock with one folder for all environments, as each version of the format states it."""
    head = f"version: {version}\n"
    if version == 7:
        head += "platforms:\n- name: linux-64\n- name: osx-arm64\n"
    head += "environments:\n"
    for name in environments.split():
        head += f"  {name}:\n    channels:\n    - url: {CHANNEL}\n    indexes: [https://pypi.example.org/simple]\n"
        head += "    packages:\n      linux-64:\n      - pypi: ./pkg\n"
        if version > 5:
            head += f"      osx-arm64:\n      - {SOURCES[version]}\n"
    path = folder / "pixi.lock"
    path.write_text(f"{head}packages:\n{packages}")
    return path


SOURCE = "  version: 0.1.0\n  build: h0\n  subdir: osx-arm64\n"
SOURCES = {6: "conda: ./source", 7: "conda_source: own[0123abcd] @ ./source"}
PACKAGES = {
    4: f"- kind: pypi\n  name: mypkg\n  version: 0.1.0\n  path: ./pkg\n  sha256: {SHA256}\n  editable: true\n",
    5: f"- kind: pypi\n  name: mypkg\n  version: 0.1.0\n  path: ./pkg\n  sha256: {SHA256}\n",
    6: f"- {SOURCES[6]}\n  name: own\n{SOURCE}- pypi: ./pkg\n  name: mypkg\n  version: 0.1.0\n  editable: true\n",
    7: f"- {SOURCES[7]}\n{SOURCE}- pypi: ./pkg\n  name: mypkg\n",
}


@pytest.mark.parametrize("version", PACKAGES)
def test_a_folder_has_no_version_until_it_is_built(tmp_path, version):
    lock = read_lock(pixi_lock(tmp_path, version, PACKAGES[version]))
    assert lock.platform("linux-64").pypi == (LockedPypi("mypkg", "", str(tmp_path / "pkg")),)
    assert "\nversion =" not in pylock(lock.platform("linux-64").pypi)


@pytest.mark.parametrize("version", [6, 7])
def test_a_source_package_is_refused_for_its_own_platform_only(tmp_path, version):
    lock = read_lock(pixi_lock(tmp_path, version, PACKAGES[version]))
    assert lock.platform("linux-64").pypi
    with pytest.raises(SpecError, match=r"own is a source package \(\./source\)"):
        lock.platform("osx-arm64")


def test_one_of_several_environments_is_chosen(tmp_path):
    path = pixi_lock(tmp_path, 6, PACKAGES[6], environments="serve train")
    assert load_input(path, "train").platform("linux-64").pypi  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="has no environment 'default'") as caught:
        load_input(path)
    assert caught.value.hint == "Choose one with --environment: serve, train."


def named_platforms(folder: Path, names: str) -> Path:
    """Write a pixi.lock with platforms of the same subdir, each with a package of its own name."""
    head = "version: 7\nplatforms:\n" + "".join(f"- name: {name}\n  subdir: linux-64\n" for name in names.split())
    head += f"environments:\n  default:\n    channels:\n    - url: {CHANNEL}\n    packages:\n"
    head += "".join(f"      {name}:\n      - pypi: ./{name}\n" for name in names.split())
    path = folder / "pixi.lock"
    path.write_text(
        head + "packages:\n" + "".join(f"- pypi: ./{name}\n  name: {name}\n" for name in names.split())
    )
    return path


@pytest.mark.parametrize(
    ("names", "taken"), [("gpu", "gpu"), ("linux-64 gpu", "linux-64"), ("gpu linux-64", "linux-64")]
)
def test_a_platform_is_known_by_its_subdir(tmp_path, names, taken):
    lock = read_lock(named_platforms(tmp_path, names))
    assert [package.name for package in lock.platform("linux-64").pypi] == [taken]


def test_several_platforms_of_one_subdir_are_refused(tmp_path):
    lock = read_lock(named_platforms(tmp_path, "cpu gpu"))
    with pytest.raises(SpecError, match="several platforms with the subdir linux-64"):
        lock.platform("linux-64")


def test_the_only_environment_needs_no_name(tmp_path):
    lock = read_lock(pixi_lock(tmp_path, 6, PACKAGES[6], environments="serve"))
    assert lock.spec.name == f"{tmp_path.name}-serve"


def test_a_spec_has_no_environments(tmp_path):
    path = tmp_path / "environment.yml"
    path.write_text("dependencies: [python]\n")
    with pytest.raises(UsageError, match="has no environments to choose from"):
        load_input(path, "train")


def conda_lock(folder: Path, channels: str, package: str) -> Path:
    path = folder / "conda-lock.yml"
    path.write_text(
        f"version: 1\nmetadata: {{channels: {channels}, platforms: [linux-64], sources: [e.yml]}}\n"
        f"package:\n- {{name: x, version: '1', manager: pip, platform: linux-64, dependencies: {{}}, {package}}}\n"
    )
    return path


@pytest.mark.parametrize(
    ("channels", "urls"),
    [
        ("[conda-forge]", ("https://conda.anaconda.org/conda-forge/",)),
        ("[{url: conda-forge, used_env_vars: []}]", ("https://conda.anaconda.org/conda-forge/",)),
        (
            "[{url: 'https://h/c', used_env_vars: []}, bioconda]",
            ("https://h/c/", "https://conda.anaconda.org/bioconda/"),
        ),
        ("['https://h/t/$LOCK_TOKEN/c']", ("https://h/t/secret/c/",)),
    ],
)
def test_channels_of_conda_lock_are_names_or_urls(tmp_path, channels, urls, monkeypatch):
    monkeypatch.setenv("LOCK_TOKEN", "secret")
    lock = load_input(conda_lock(tmp_path, channels, f"url: 'https://h/x-1.zip', hash: {{sha256: {SHA256}}}"))
    assert lock.channels == urls  # type: ignore[union-attr]


@pytest.mark.parametrize("where", ["channel", "package", "list"])
def test_a_variable_that_is_not_set_is_an_error(where, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCK_HOST", raising=False)
    hosts = {"channel": "h", "package": "h", where: "${LOCK_HOST}"}
    if where == "list":
        path = tmp_path / "list.txt"
        path.write_text("@EXPLICIT\n# pip x @ https://${LOCK_HOST}/x-1-py3-none-any.whl\n")
    else:
        package = f"url: 'https://{hosts['package']}/x-1.zip', hash: {{sha256: {SHA256}}}"
        path = conda_lock(tmp_path, f"['https://{hosts['channel']}/c']", package)
    with pytest.raises(SpecError) as caught:
        load_input(path).platform("linux-64")  # type: ignore[union-attr]
    assert "needs the variable LOCK_HOST, which is not set" in caught.value.message
    assert caught.value.hint == "Set it: export LOCK_HOST=..."


def test_a_repository_of_conda_lock_keeps_its_subdirectory(tmp_path):
    package = f"url: 'git+https://h/x.git@{COMMIT}#subdirectory=py', hash: {{sha256: {COMMIT}}}"
    lock = load_input(conda_lock(tmp_path, "[]", package))
    expected = LockedPypi("x", "1", f"git+https://h/x.git@{COMMIT}#subdirectory=py")
    assert lock.platform("linux-64").pypi == (expected,)  # type: ignore[union-attr]


BROKEN = {
    "a repository without a commit": ("git+https://h/y.git", "has no commit, expected"),
    "no package of conda": ("https://h/y.zip", "y: 'https://h/y.zip' is not the URL of a conda package"),
    "a variable that is not set": ("https://${LOCK_HOST}/y-1-0.conda", "needs the variable LOCK_HOST"),
    "a channel that is not there": (
        "file:///no/such/linux-aarch64/y-1-0.conda",
        "no conda channel at file:///no/such",
    ),
}


@pytest.mark.parametrize(("url", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_fault_of_one_platform_of_conda_lock_concerns_only_that_platform(tmp_path, url, reason, monkeypatch):
    monkeypatch.delenv("LOCK_HOST", raising=False)
    path = conda_lock(tmp_path, "[]", f"url: 'https://h/x-1.zip', hash: {{sha256: {SHA256}}}")
    manager = "pip" if url.startswith("git+") else "conda"
    other = f"- {{name: y, version: '1', manager: {manager}, platform: linux-aarch64, url: '{url}'}}\n"
    path.write_text(path.read_text().replace("[linux-64]", "[linux-64, linux-aarch64]") + other)
    lock = load_input(path)
    assert isinstance(lock, Lock)
    assert lock.platform("linux-64").pypi == (LockedPypi("x", "1", "https://h/x-1.zip", SHA256),)
    assert lock.platform("linux-64") is lock.platform("linux-64")
    assert lock.only_platform is None
    with pytest.raises((SpecError, BuildError), match=reason):
        lock.platform("linux-aarch64")
    with pytest.raises(SpecError, match="not linux-32"):
        lock.platform("linux-32")


def test_pip_packages_in_the_comments_of_an_explicit_list_are_locked(tmp_path):
    path = tmp_path / "conda-linux-64.lock"
    path.write_text(
        "# Generated by conda-lock.\n# pip packages are below\n@EXPLICIT\n"
        f"# pip Class_Resolver @ https://h/class_resolver-0.3.8-py3-none-any.whl --hash=sha256:{SHA256}\n"
        f"# pip antlr4 @ https://h/antlr4-4.9.3.tar.gz#sha256={SHA256}\n"
        "# pip tomli @ https://h/tomli-2.0.1-py3-none-any.whl#md5=None\n"
        f"# pip own @ git+https://h/own@{COMMIT}\n"
    )
    lock = load_input(path)
    (platform,) = lock.platforms.values()
    assert platform.pypi == (
        LockedPypi("antlr4", "4.9.3", "https://h/antlr4-4.9.3.tar.gz", SHA256),
        LockedPypi("class-resolver", "0.3.8", "https://h/class_resolver-0.3.8-py3-none-any.whl", SHA256),
        LockedPypi("own", "", f"git+https://h/own@{COMMIT}"),
        LockedPypi("tomli", "2.0.1", "https://h/tomli-2.0.1-py3-none-any.whl"),
    )


def test_a_pip_package_without_a_url_is_refused(tmp_path):
    path = tmp_path / "e.txt"
    path.write_text(f"@EXPLICIT\n# pip flask === 2.0 --hash=sha256:{SHA256}\n")
    with pytest.raises(SpecError, match=r"e\.txt:2: expected NAME @ URL"):
        load_input(path)
