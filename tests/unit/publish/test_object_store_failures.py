"""What is said about an error of an object store. The texts are shortened ones of obstore and of the services."""

from __future__ import annotations

import pytest

pytest.importorskip("obstore")

from obstore.exceptions import GenericError, PermissionDeniedError

from envpack.publish.object_store.address import Address
from envpack.publish.object_store.connect import check_endpoint
from envpack.publish.object_store.failures import REASONS, failure, is_missing, reason_of
from envpack.runtime.errors import DestinationError, UsageError

REQUEST = "Error performing PUT https://s3.example.org/b/x?X-Amz-Signature=0f3a9c in 2ms - "


def answered(status: str, code: str) -> str:
    return f"{REQUEST}Server returned non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (PermissionDeniedError(answered("403 Forbidden", "AccessDenied")), "permission denied"),
        (PermissionDeniedError(answered("403 Forbidden", "InvalidAccessKeyId")), "key is unknown"),
        (PermissionDeniedError(answered("403 Forbidden", "SignatureDoesNotMatch")), "secret key"),
        (GenericError(answered("400 Bad Request", "ExpiredToken")), "expired"),
        (GenericError(answered("400 Bad Request", "AuthorizationHeaderMalformed")), "another region"),
        (GenericError(f"{REQUEST}Received redirect without LOCATION, status code: 301"), "another region"),
        (GenericError(answered("404 Not Found", "NoSuchBucket")), "no such bucket"),
        (FileNotFoundError(answered("404 Not Found", "ContainerNotFound")), "no such bucket"),
        (GenericError(answered("501 Not Implemented", "NotImplemented")), "conditional writes"),
        (GenericError(answered("503 Slow Down", "SlowDown")), "overloaded"),
        (GenericError(answered("418 I'm a teapot", "Other")), "responded 418 (Other)"),
        (GenericError(f"{REQUEST}HTTP error: error sending request"), "can't be reached"),
        (GenericError(f"{REQUEST}HTTP error: request or response body error: operation timed out"), "in time"),
        (GenericError("Error performing PUT http://169.254.169.254/latest/api/token in 1ms"), "no credentials"),
        (GenericError("anything else"), "the request failed"),
    ],
)
def test_a_reason_is_found_and_nothing_secret_shown(problem: Exception, reason: str) -> None:
    assert reason in reason_of(problem, "s3").text
    error = failure(problem, Address("s3", "b", "x"), "write to", DestinationError)
    assert error.message.startswith("can't write to s3://b/x: ")
    assert error.hint and "0f3a9c" not in f"{error.message}{error.hint}"


def test_every_reason_has_a_hint() -> None:
    assert all(reason.text and reason.hint.endswith(".") for reason in REASONS.values())


def test_a_missing_bucket_is_not_a_missing_file() -> None:
    assert is_missing(FileNotFoundError(answered("404 Not Found", "NoSuchKey")))
    assert is_missing(FileNotFoundError("status code: 404 Not Found"))  # to HEAD, which has no body
    assert not is_missing(FileNotFoundError(answered("404 Not Found", "NoSuchBucket")))
    assert not is_missing(GenericError("404"))


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost"])
def test_http_is_for_this_host(endpoint: str) -> None:
    assert check_endpoint(endpoint, insecure=False)
    assert not check_endpoint("", insecure=False) and not check_endpoint("https://minio", insecure=False)


def test_http_elsewhere_is_allowed_by_name_only() -> None:
    with pytest.raises(UsageError, match="http://minio:9000 has no TLS") as caught:
        check_endpoint("http://minio:9000", insecure=False)
    assert "--insecure" in caught.value.hint
    assert check_endpoint("http://minio:9000", insecure=True)


@pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://minio", "https://", "https://a:b@minio", "http://[a"])
def test_an_endpoint_must_be_a_url_without_a_password(endpoint: str) -> None:
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL is not a valid URL"):
        check_endpoint(endpoint, insecure=True)
