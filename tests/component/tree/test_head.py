"""The manifest and the paths table of a tree are read only if they have the digests that are recorded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from envpack.runtime.commands.deploy import deploy
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.layout import DEPLOYMENT_PATH, DIGEST_PATH, MANIFEST_PATH, OWN_PATHS, PATHS_PATH
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import check_record, prefix_limit, read_head, read_manifest
from support.bundle_factory import file, make_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "b.tar.gz", {"environment": [file("lib/a", b"1")]})
    deploy(tmp_path / "b.tar.gz", tmp_path / "x", reporter=Reporter())
    return tmp_path / "x"


def test_a_head_is_read(root: Path) -> None:
    manifest, table, digest = read_head(root)
    assert "lib/a" in [record.path for record in table]
    assert manifest == read_manifest(root)
    assert digest == hashlib.sha256((root / MANIFEST_PATH).read_bytes()).hexdigest()
    check_record(root, digest)


@pytest.mark.parametrize(
    ("path", "what"), [(MANIFEST_PATH, "manifest"), (DIGEST_PATH, "manifest"), (PATHS_PATH, "paths table")]
)
def test_a_changed_file_is_named(root: Path, path: str, what: str) -> None:
    (root / path).write_bytes((root / path).read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=rf"the {what} in .* was changed"):
        read_head(root)
    if what == "manifest":
        with pytest.raises(IntegrityError, match=r"the manifest in .* was changed"):
            read_manifest(root)


@pytest.mark.parametrize("path", [MANIFEST_PATH, DIGEST_PATH, PATHS_PATH])
def test_a_missing_file_is_named(root: Path, path: str) -> None:
    (root / path).unlink()
    with pytest.raises(FormatError, match=path):
        read_head(root)


def test_what_is_no_tree_is_an_error_with_the_caller_s_hint(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        read_manifest(tmp_path, hint="Give another one.")
    assert caught.value.hint == "Give another one."
    assert prefix_limit(tmp_path) == (None, "")


def test_the_record_of_the_deployment_must_have_the_same_digest(root: Path) -> None:
    digest = read_head(root).manifest_sha256
    record = json.loads((root / DEPLOYMENT_PATH).read_bytes())
    for content in (json.dumps({**record, "manifest_sha256": "0" * 64}), "[]", "{"):
        (root / DEPLOYMENT_PATH).unlink()
        (root / DEPLOYMENT_PATH).write_text(content)
        with pytest.raises(IntegrityError):
            check_record(root, digest)
    (root / DEPLOYMENT_PATH).unlink()
    check_record(root, digest)  # after a plain tar -x there is none


def test_own_paths_are_in_no_paths_table(root: Path) -> None:
    assert not OWN_PATHS & {record.path for record in read_head(root).table}
