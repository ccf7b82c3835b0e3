"""What went wrong in an object store, in words for people.

The texts of obstore's errors are not shown: they hold whole requests, and signatures with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError

from envpack.publish.object_store.address import Address
from envpack.runtime.errors import EnvpackError

ERRORS = (BaseError, OSError, ValueError)
"""What the functions of obstore raise."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>|\"?code\"?: \"([A-Za-z]{1,64})\"")


class Reason(NamedTuple):
    """A reason, and what to do about it."""

    text: str
    hint: str


_KEYS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or run 'gcloud auth application-default login'.",
    "az": "Set AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID.",
}
_AGAIN = "Get new credentials, and run the command again: what was written is kept or replaced."
_REGION = Reason("the bucket is in another region", "Set AWS_REGION to the region of the bucket.")
_NO_BUCKET = Reason("there is no such bucket", "Create it first, or compare its name and the endpoint.")
_DENIED = Reason(
    "permission denied",
    "The account must be allowed to read, write, list and delete there, on S3: s3:GetObject, s3:PutObject, "
    "s3:ListBucket, s3:DeleteObject, s3:AbortMultipartUpload.",
)
_EXPIRED = Reason("the credentials have expired", _AGAIN)
_NO_CONDITIONS = Reason(
    "the store does not know conditional writes (If-None-Match)",
    "Use a newer version of its software: without them, two publishers could take one name.",
)
_BUSY = Reason("the store is overloaded or failed", "Try again later: the release is then continued.")

REASONS: Mapping[str, Reason] = {
    "NoSuchBucket": _NO_BUCKET,
    "ContainerNotFound": _NO_BUCKET,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AuthorizationPermissionMismatch": _DENIED,
    "AuthorizationFailure": _DENIED,
    "InvalidAccessKeyId": Reason("the access key is unknown", "Compare AWS_ACCESS_KEY_ID and the endpoint."),
    "SignatureDoesNotMatch": Reason(
        "the secret key does not belong to the access key", "Compare AWS_SECRET_ACCESS_KEY."
    ),
    "AuthenticationFailed": Reason("the credentials are not valid there", "Compare the key and the account."),
    "InvalidAuthenticationInfo": Reason("the credentials are not valid there", "Compare the key and the account."),
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": Reason("the session token is not valid", "Compare AWS_SESSION_TOKEN, or unset it."),
    "RequestTimeTooSkewed": Reason("the clock of this host is wrong", "Set the time, for example with NTP."),
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "NotImplemented": _NO_CONDITIONS,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "ServerBusy": _BUSY,
    "EntityTooLarge": Reason("the bundle is too large for the store", "S3 takes 5 TB, others less."),
    "QuotaExceeded": Reason("the quota of the account is used up", "Delete what is not needed there."),
}
"""Reasons by the codes of errors: those of S3
(https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), which GCS has, too, and of Azure
(https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes)."""

_METADATA = ("169.254.169.254", "fd00:ec2::254", "metadata.google.internal", "/latest/api/token")
"""Where a virtual machine of a cloud gets credentials: asked last, where there are no others."""


def is_missing(problem: Exception) -> bool:
    """Return whether a file is missing, and not its bucket."""
    return isinstance(problem, FileNotFoundError) and REASONS.get(_code(str(problem))) is not _NO_BUCKET


def reason_of(problem: Exception, scheme: str) -> Reason:
    """Return why a request failed."""
    text = str(problem)
    if any(host in text for host in _METADATA):
        return Reason("no credentials were found", _KEYS[scheme])
    code = _code(text)
    if code in REASONS:
        return REASONS[code]
    found = _STATUS.search(text)
    status = found[1] if found else ""
    if isinstance(problem, (PermissionDeniedError, UnauthenticatedError)) or status in ("401", "403"):
        return _DENIED
    if isinstance(problem, NotSupportedError) or status == "501":
        return _NO_CONDITIONS
    if status in ("301", "307"):
        return _REGION
    if status:
        busy = status == "429" or status.startswith("5")
        shown = f"the server responded {status}" + (f" ({code})" if code else "")
        return Reason(shown, _BUSY.hint if busy else "Compare the address with the settings of the store.")
    if isinstance(problem, FileNotFoundError):
        return Reason("there is no such file", "Compare the address with the one where it was published.")
    if "certificate" in text:
        return Reason("the certificate of the server is not trusted", "Set SSL_CERT_FILE to the authority's.")
    if "timed out" in text or "TimedOut" in text or "Timeout" in text:
        return Reason("the server did not respond in time", _BUSY.hint)
    if "builder error" in text:
        return Reason("an address without TLS is not used", "Use https, or allow it with --insecure.")
    if "HTTP error" in text or "HttpError" in text:
        return Reason("the server can't be reached, or the connection was lost", "Check the endpoint.")
    return Reason(f"the request failed ({type(problem).__name__})", "Check the settings in docs/releasing.md.")


def failure(problem: Exception, address: Address, verb: str, kind: type[EnvpackError]) -> EnvpackError:
    """Return the error to raise for one of obstore's.

    Args:
        problem: One of `ERRORS`.
        address: The address of the bucket or file.
        verb: What failed: "write to", "read", "list".
        kind: The class of the error.
    """
    reason = reason_of(problem, address.scheme)
    return kind(f"can't {verb} {address}: {reason.text}", hint=reason.hint)


def _code(text: str) -> str:
    found = _CODE.search(text)
    return (found[1] or found[2] or "") if found else ""
