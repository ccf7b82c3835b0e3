"""Settings of S3 from environment variables and the files of the AWS command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.publish.object_store.aws import aws_settings
from envpack.runtime.errors import UsageError

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
FOUND = {"access_key_id": "key", "secret_access_key": "secret"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = one\naws_secret_access_key = 1%/s\n\n"
        "[other]\naws_access_key_id = two\naws_secret_access_key = 2\naws_session_token = 3\n"
    )
    (folder / "config").write_text(
        "[default]\nregion = eu-north-1\n\n[profile other]\nendpoint_url = https://minio.example.org\n"
        "s3 =\n  max_concurrent_requests = 20\n\n[profile sso]\nsso_session = corp\n"
    )
    return tmp_path


def test_keys_of_the_environment_come_first(home: Path) -> None:
    assert aws_settings({**KEYS, "HOME": str(home)}) == {**FOUND, "region": "eu-north-1"}


def test_without_any_setting_obstore_looks_for_a_role(tmp_path: Path) -> None:
    assert aws_settings({"HOME": str(tmp_path)}) == {}
    assert aws_settings({}) == {}


def test_the_endpoint_of_s3_comes_before_that_of_all_services() -> None:
    environ = {"AWS_ENDPOINT_URL_S3": "https://a", "AWS_ENDPOINT_URL": "https://b", "AWS_DEFAULT_REGION": "c"}
    assert aws_settings(environ) == {"endpoint": "https://a", "region": "c"}


def test_a_profile_has_keys_region_and_endpoint(home: Path) -> None:
    assert aws_settings({"HOME": str(home)}) == {
        "access_key_id": "one",
        "secret_access_key": "1%/s",
        "region": "eu-north-1",
    }
    assert aws_settings({"HOME": str(home), "AWS_PROFILE": "other"}) == {
        "access_key_id": "two",
        "secret_access_key": "2",
        "session_token": "3",
        "endpoint": "https://minio.example.org",
    }


def test_the_keys_of_a_pod_are_not_replaced_by_those_of_a_profile(home: Path) -> None:
    environ = {"HOME": str(home), "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    assert aws_settings(environ) == {"region": "eu-north-1"}


def test_a_profile_without_static_keys_is_explained(home: Path) -> None:
    with pytest.raises(UsageError, match="'sso' has no keys, but sso_session") as caught:
        aws_settings({"HOME": str(home), "AWS_PROFILE": "sso"})
    assert "export-credentials" in caught.value.hint
    assert aws_settings({"HOME": str(home), "AWS_PROFILE": "sso", **KEYS}) == FOUND


def test_a_profile_that_is_missing_is_an_error(home: Path) -> None:
    with pytest.raises(UsageError, match="no AWS profile 'none'"):
        aws_settings({"HOME": str(home), "AWS_PROFILE": "none"})


def test_files_have_the_paths_of_their_variables(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    assert aws_settings(environ) == FOUND


def test_a_broken_file_is_named_and_its_text_not_shown(home: Path) -> None:
    (home / ".aws/credentials").write_text("[default\nthe-secret\n")
    with pytest.raises(UsageError, match="is not a valid file of AWS settings") as caught:
        aws_settings({"HOME": str(home)})
    assert "the-secret" not in str(caught.value)
