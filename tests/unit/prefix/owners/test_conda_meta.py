"""Records of conda packages: what is read of them, and how they leave the build machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from envpack.prefix.model import Published
from envpack.prefix.owners.conda_meta import (
    Claim,
    portable_record,
    portable_text,
    portable_url,
    read_record,
    scrub,
)
from envpack.runtime.errors import PackError

SHA = "ab" * 32


def record(**fields: Any) -> bytes:
    document = {"name": "demo", "version": "1.0", "build": "py_0", "build_number": 0, "subdir": "noarch", **fields}
    return json.dumps(document).encode()


def paths(*items: dict[str, Any]) -> dict[str, Any]:
    return {"paths_data": {"paths_version": 1, "paths": list(items)}}


def test_the_package_and_what_it_published() -> None:
    hard = {"_path": "lib/a", "path_type": "hardlink", "sha256": SHA, "size_in_bytes": 7}
    patched = {
        **hard,
        "_path": "bin/a",
        "prefix_placeholder": "/ph",
        "file_mode": "text",
        "sha256_in_prefix": "cd",
    }
    data = record(
        url="https://user:pw@conda.example/t/tk-123/main/noarch/demo-1.0-py_0.conda",
        channel="https://conda.example/t/tk-123/main",
        license="MIT",
        sha256=SHA,
        timestamp=1700000000123,
        **paths(hard, patched),
    )
    read = read_record("conda-meta/demo-1.0-py_0.json", data)
    assert read.package.segment == "conda:demo-1.0-py_0"
    assert read.package.url == "https://conda.example/main/noarch/demo-1.0-py_0.conda"
    assert read.package.channel == "https://conda.example/main"
    assert (read.package.license, read.package.sha256, read.made) == ("MIT", SHA, 1700000000)
    assert read.claims["lib/a"] == Claim(Published(SHA, 7))
    assert read.claims["bin/a"] == Claim(Published(SHA, 7, b"/ph", "text"), "cd")


def test_what_installers_generate_was_never_published() -> None:
    script = {"_path": "bin/a", "path_type": "unix_python_entry_point"}
    read = read_record(
        "x", record(**paths({**script, "sha256": SHA}, {**script, "_path": "b", "sha256_in_prefix": SHA}))
    )
    assert read.claims == {"bin/a": Claim(recorded=SHA), "b": Claim(recorded=SHA)}


def test_byte_code_folders_and_unlinked_files_are_not_missed() -> None:
    items: list[dict[str, Any]] = [
        {"_path": "a.pyc", "path_type": "pyc_file"},
        {"_path": "b.pyc", "path_type": "hardlink", "sha256": SHA},
        {"_path": "c", "path_type": "directory"},
        {"_path": "d", "path_type": "hardlink", "sha256": SHA, "no_link": True},
        {"_path": "e", "path_type": "softlink", "sha256": SHA},
    ]
    claims = read_record("x", record(**paths(*items))).claims
    assert [path for path, claim in claims.items() if claim.expected] == ["e"]


def test_a_package_older_than_paths_json_has_its_list_of_files() -> None:
    assert list(read_record("x", record(files=["lib/a", "bin/b"], paths_data=None)).claims) == ["lib/a", "bin/b"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "Expecting value"),
        (b"\xff", "UTF-8"),
        (b"[" * 100000, "nested too deeply"),
        (b"[]", "an object"),
        (b"{}", "'name'"),
        (record(version=1), "'version'"),
        (record(files=[1]), "'files'"),
        (record(paths_data=[1]), "'paths_data'"),
        (record(paths_data={"paths": [1]}), "'paths_data.paths'"),
        (record(paths_data={"paths": [{}]}), "'_path'"),
    ],
)
def test_a_broken_record_is_named(data: bytes, problem: str) -> None:
    with pytest.raises(PackError) as caught:
        read_record("conda-meta/demo-1.0-py_0.json", data)
    assert "conda-meta/demo-1.0-py_0.json" in caught.value.message
    assert problem in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("url", "portable"),
    [
        ("conda-forge", "conda-forge"),
        ("https://conda.anaconda.org/conda-forge/", "https://conda.anaconda.org/conda-forge/"),
        ("https://u:p@h.example:8443/c?sig=secret#x", "https://h.example:8443/c"),
        ("https://h.example/t/abc-123", "https://h.example"),
        ("https://h.example/team/t/x", "https://h.example/team/t/x"),
        ("https://h.example/api/repo/t/tk-123-456/chan", "https://h.example/api/repo/chan"),
        ("https://h.example/api/t/tk-1f0e", "https://h.example/api"),
        ("file:///home/me/channel", "file:///local-channel"),
        ("/home/me/channel/", "file:///local-channel"),
        ("file:///home/me/ch/linux-64/a-1-0.conda", "file:///local-channel/linux-64/a-1-0.conda"),
        ("/home/me/a-1-0.tar.bz2", "file:///local-channel/me/a-1-0.tar.bz2"),
        ("", ""),
    ],
)
def test_urls_lose_secrets_and_the_build_machine_s_folders(url: str, portable: str) -> None:
    assert portable_url(url) == portable


def test_a_written_record_says_nothing_of_the_build_machine_and_keeps_what_tools_need() -> None:
    items = [
        {"_path": "b", "path_type": "hardlink", "sha256": SHA, "sha256_in_prefix": "cd", "size_in_bytes": 1,
         "prefix_placeholder": "/ph", "file_mode": "text"},
        {"_path": "c", "path_type": "hardlink", "sha256": SHA, "sha256_in_prefix": SHA, "size_in_bytes": 1},
        {"_path": "a", "path_type": "unix_python_entry_point", "sha256": SHA, "size_in_bytes": 9},
    ]  # fmt: skip
    document = json.loads(
        record(
            extracted_package_dir="/home/me/pkgs/demo",
            package_tarball_full_path="/home/me/pkgs/demo.conda",
            link={"source": "/home/me/pkgs/demo", "type": 3},
            url="file:///home/me/ch/noarch/demo.conda",
            channel="/home/me/ch",
            requested_spec="https://u:p@h/t/tok/c::demo",
            requested_specs=["demo[url=file:///home/me/ch/noarch/demo.conda]", "/home/me/ch::demo >=1"],
            auth="secret",
            depends=["python"],
            **paths(*items),
        )
    )
    written = portable_record(document)
    assert not any(word in written for word in (b"/home/me", b"/ph", b"u:p", b"tok", b"secret"))
    read = json.loads(written)
    assert read["link"] == {"source": "", "type": 1}
    assert read["depends"] == ["python"]
    assert read["requested_specs"] == [
        "demo[url=file:///local-channel/noarch/demo.conda]",
        "file:///local-channel::demo >=1",
    ]
    assert read["paths_data"]["paths"] == [
        {"_path": "a", "path_type": "unix_python_entry_point"},
        {"_path": "b", "path_type": "hardlink", "sha256": SHA},
        {"_path": "c", "path_type": "hardlink", "sha256": SHA, "sha256_in_prefix": SHA, "size_in_bytes": 1},
    ]
    shuffled = dict(reversed(document.items()))
    assert portable_record(shuffled) == written
    assert portable_record(read) == written


def test_pixi_s_records_without_a_link_stay_without() -> None:
    assert json.loads(portable_record({"link": None}))["link"] is None


@pytest.mark.parametrize(
    ("line", "portable"),
    [
        (b"# cmd: /home/me/miniforge3/bin/conda create -n x python", b"# cmd: conda create -n x python"),
        (
            b"# cmd: conda create --file=/me/e.yml -f '/a/b.y'",
            b"# cmd: conda create --file=e.yml -f 'b.y'",
        ),
        (
            b"# cmd: conda install -p /opt/env /opt/env/x.conda",
            b"# cmd: conda install -p /opt/env /opt/env/x.conda",
        ),
        (b"+file:///home/me/channel/noarch::rich-15-0", b"+file:///local-channel/noarch::rich-15-0"),
        (b"+file:///local-channel/linux-64::x-1-0",) * 2,
        (b"+defaults/linux-64::x-1-0",) * 2,
        (
            b"# update specs: ['/home/me/c::numpy', 'a>=1']",
            b"# update specs: ['file:///local-channel::numpy', 'a>=1']",
        ),
        (b"# cmd: conda install -c https://h.example/c/d x",) * 2,
    ],
)
def test_history_and_specs_lose_the_places_of_the_build_machine(line: bytes, portable: bytes) -> None:
    assert portable_text(b"==> 2024-01-01 <==\n" + line + b"\n", [b"/opt/env"]) == (
        b"==> 2024-01-01 <==\n" + portable + b"\n"
    )


def test_history_knows_the_environments_own_path_with_its_blanks() -> None:
    text = b"# cmd: conda create -p /home/my me/env -c '/home/my me/env/channel' /home/my me/environment\n"
    assert portable_text(text, [b"/home/my me/env", b"/home/my me"]) == text
    assert portable_text(text, [b"/home/my me/env"]) == text.replace(
        b" /home/my me/environment", b" my me/environment"
    )


def test_history_loses_passwords_and_nothing_else() -> None:
    text = b"# cmd: conda install -c https://me:pw@h.example/t/tk-1/c -c https://h.example/c x\n+defaults::x-1-0\n"
    assert scrub(text) == text.replace(b"me:pw@", b"").replace(b"/t/tk-1", b"")
    below = b"channels: ['https://me:p@ss@h.example/api/t/tk-1/c', https://h/packages/source/t/tqdm/x.tar.gz]\n"
    assert scrub(below) == below.replace(b"me:p@ss@", b"").replace(b"/t/tk-1", b"")
