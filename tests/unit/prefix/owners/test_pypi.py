"""Distributions of pip and its like, from what they leave in site-packages."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from envpack.prefix.owners.conda_meta import Claim
from envpack.prefix.owners.pypi import Distribution, metadata_folder, metadata_folders, read_distribution
from envpack.runtime.errors import PackError

SITE = "lib/python3.11/site-packages"
FOLDER = f"{SITE}/demo_pkg-1.0.dist-info"


def read(files: Mapping[str, bytes], folder: str = FOLDER) -> Distribution:
    return read_distribution(
        folder, [f"{folder}/{name}" for name in files], lambda path: files[path.rpartition("/")[2]]
    )


def test_record_lists_modules_scripts_and_data_with_their_digests() -> None:
    rows = (
        b"demo/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\r\n"
        b"demo/__pycache__/__init__.cpython-311.pyc,,\r\n"
        b"../../../bin/demo,sha256=bad!,1\r\n"
        b'"demo/a,b.txt",md5=0123,1\r\n'
        b"../../../../../../../etc/passwd,,\r\n"
        b"/etc/shadow,,\r\n"
        b"demo_pkg-1.0.dist-info/RECORD,,\r\n"
    )
    claims = read({"RECORD": rows}).claims
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert claims == {
        f"{SITE}/demo/__init__.py": Claim(recorded=empty),
        f"{SITE}/demo/__pycache__/__init__.cpython-311.pyc": Claim(expected=False),
        "bin/demo": Claim(),
        f"{SITE}/demo/a,b.txt": Claim(),
        f"{FOLDER}/RECORD": Claim(),
    }


def test_everything_in_the_metadata_folder_belongs_to_it_listed_or_not() -> None:
    assert f"{FOLDER}/REQUESTED" in read({"RECORD": b"", "REQUESTED": b""}).claims


def test_installed_files_of_an_egg_are_relative_to_it() -> None:
    folder = f"{SITE}/demo-1.0.egg-info"
    listed = b"../demo/a.py\n../../../../bin/demo\nPKG-INFO\n"
    distribution = read({"PKG-INFO": b"Name: demo\nVersion: 1.0\n", "installed-files.txt": listed}, folder)
    assert {f"{SITE}/demo/a.py", "bin/demo", f"{folder}/PKG-INFO"} <= set(distribution.claims)
    assert distribution.record == f"{folder}/PKG-INFO"


def test_metadata_of_distutils_is_a_file_by_itself() -> None:
    path = f"{SITE}/demo-1.0-py3.11.egg-info"
    distribution = read_distribution(path, [path], lambda _: b"Name: Demo\nVersion: 1.0\n")
    assert (distribution.package.name, distribution.package.version) == ("Demo", "1.0")
    assert distribution.claims == {path: Claim()} and distribution.record == path
    assert read_distribution(path, [path], lambda _: b"").package.name == "demo"


def test_an_egg_has_all_that_is_in_it() -> None:
    egg = f"{SITE}/demo-1.0-py3.11.egg"
    paths = [f"{egg}/EGG-INFO/PKG-INFO", f"{egg}/demo.py"]
    assert {metadata_folder(path) for path in paths} == {f"{egg}/EGG-INFO"}
    distribution = read_distribution(f"{egg}/EGG-INFO", paths, lambda _: b"Version: 1.0\n")
    assert (distribution.package.name, distribution.package.version) == ("demo", "1.0")
    assert set(distribution.claims) == set(paths) and distribution.record == paths[0]


@pytest.mark.parametrize(
    ("metadata", "license"),
    [
        (b"License-Expression: MIT OR Apache-2.0\nLicense: x\n", "MIT OR Apache-2.0"),
        (b"License: BSD 3-Clause\n", "BSD 3-Clause"),
        (
            b"License: The text\n        of a licence\nClassifier: License :: OSI Approved :: MIT License\n",
            "MIT License",
        ),
        (b"License: UNKNOWN\n", ""),
        (b"", ""),
    ],
)
def test_name_version_and_license_come_from_the_metadata(metadata: bytes, license: str) -> None:
    head = b"Metadata-Version: 2.1\nName: Demo.Pkg\nVersion: 1.0\n" + metadata + "\nBody: é\n".encode()
    package = read({"METADATA": head, "INSTALLER": b"uv\n"}).package
    assert (package.kind, package.name, package.version, package.license) == ("pypi", "Demo.Pkg", "1.0", license)
    assert package.segment == "pypi:Demo.Pkg-1.0"


def test_a_folder_without_metadata_is_named_by_itself() -> None:
    package = read({"RECORD": b""}).package
    assert (package.name, package.version) == ("demo_pkg", "1.0")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("direct", "url", "sha256", "commit"),
    [
        ({"url": "https://me:pw@git.example/x.git", "vcs_info": {}}, "https://git.example/x.git", "", ""),
        (
            {"url": "https://h.example/x", "vcs_info": {"vcs": "git", "commit_id": COMMIT}, "subdirectory": "a/b"},
            "https://h.example/x#subdirectory=a/b",
            "",
            COMMIT,
        ),
        (
            {"url": "https://h.example/x.whl?sig=1", "archive_info": {"hashes": {"sha256": DIGEST.upper()}}},
            "https://h.example/x.whl",
            DIGEST,
            "",
        ),
        ({"url": "file:///home/me/x.whl", "archive_info": {"hash": f"sha256={DIGEST}"}}, "", DIGEST, ""),
        ({"url": "https://h.example/x", "archive_info": {"hash": "md5=abc"}}, "https://h.example/x", "", ""),
        ({"url": "https://h.example/x", "vcs_info": {"commit_id": "; rm"}}, "https://h.example/x", "", ""),
        ({"url": "https://h.example/x", "archive_info": []}, "https://h.example/x", "", ""),
        ({"url": "https://h.example/x", "archive_info": [1]}, "", "", ""),
        ({"url": "file:///home/me/x"}, "", "", ""),
        ([], "", "", ""),
    ],
)
def test_the_origin_is_published_without_secrets_and_folders(
    direct: object, url: str, sha256: str, commit: str
) -> None:
    package = read({"direct_url.json": json.dumps(direct).encode()}).package
    assert (package.url, package.sha256, package.commit) == (url, sha256, commit)


def test_a_broken_direct_url_gives_no_origin() -> None:
    assert read({"direct_url.json": b"broken"}).package.url == ""


def test_a_broken_record_is_named() -> None:
    with pytest.raises(PackError, match=r"demo_pkg-1\.0\.dist-info/RECORD"):
        read({"RECORD": b'a,b\n"' + b"x" * 200000})


def test_only_metadata_of_site_packages_counts_not_what_packages_vendor() -> None:
    folders = metadata_folders(
        [
            f"{FOLDER}/METADATA",
            f"{FOLDER}/RECORD",
            f"{SITE}/old-1.egg-info/PKG-INFO",
            f"{SITE}/setuptools/_vendor/wheel-0.4.dist-info/METADATA",
            "lib/python3/dist-packages/d-1.dist-info/RECORD",
            "share/data/site-packages/deep/er/x-1.dist-info/RECORD",
        ]
    )
    assert folders == [FOLDER, f"{SITE}/old-1.egg-info", "lib/python3/dist-packages/d-1.dist-info"]
