"""Connections to object stores by obstore, which is an extra: ``pip install 'conda-envpack[cloud]'``."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envpack.publish.object_store.address import Address
from envpack.publish.object_store.aws import aws_settings
from envpack.runtime.errors import UsageError
from envpack.runtime.fs.io import read_file
from envpack.runtime.transport.redact import printable_url
from envpack.runtime.version import __version__

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SMALL_SECONDS = 20
"""Seconds for a request for a small file."""
PART_SECONDS = 300
"""Seconds for the upload of one part of a bundle: four of 8 MiB at once need 0.9 Mbit/s."""
RETRIES = 4
_RETRY_SECONDS = 120
_MAX_CERTIFICATES = 8 << 20
_CERTIFICATES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables with the path of certificates to trust, too, those of a company's proxy for example."""


def client_library() -> ModuleType:
    """Return the module ``obstore``.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import obstore
    except ImportError:
        raise UsageError(
            "object stores need the package obstore, which is not installed",
            hint="Install it: pip install 'conda-envpack[cloud]'",
        ) from None
    return obstore


def connect(
    address: Address, environ: Mapping[str, str], *, insecure: bool = False, seconds: int = SMALL_SECONDS
) -> ObjectStore:
    """Return the store of an address; its paths begin at the prefix. No request is made.

    Args:
        address: The address.
        environ: Environment variables, with the credentials and the endpoint.
        insecure: Allow http without TLS to other hosts than this one.
        seconds: Time for a request.

    Raises:
        UsageError: obstore is not installed, or the settings are not valid.
    """
    client_library()
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    retries: RetryConfig = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    common: dict[str, Any] = {"prefix": address.prefix or None, "retry_config": retries}
    try:
        if address.scheme == "s3":
            settings = aws_settings(environ)
            plain = check_endpoint(settings.get("endpoint", ""), insecure=insecure)
            client = _client(environ, seconds, plain=plain)
            config: Any = {**settings, "disable_bulk_delete": True}  # which some servers do not have
            return S3Store(address.bucket, config=config, client_options=client, **common)
        client = _client(environ, seconds, plain=insecure)
        if address.scheme == "gs":
            return GCSStore(address.bucket, client_options=client, **common)
        return AzureStore(address.bucket, client_options=client, **common)
    except (BaseError, ValueError, OSError) as problem:  # its text may hold a part of a key
        missing = "Account must be specified" in str(problem)
        what = "the name of the account is missing" if missing else "the settings of the store are not valid"
        hint = "Set AZURE_STORAGE_ACCOUNT_NAME." if missing else _HINTS[address.scheme]
        raise UsageError(f"can't use {address}: {what}", hint=hint) from None


_HINTS = {
    "s3": "Compare the environment variables AWS_* with docs/releasing.md.",
    "gs": "Compare GOOGLE_APPLICATION_CREDENTIALS and the other variables with docs/releasing.md.",
    "az": "Compare the environment variables AZURE_* with docs/releasing.md.",
}


def check_endpoint(endpoint: str, *, insecure: bool) -> bool:
    """Return whether requests go without TLS; "" is the service's own endpoint, which has it.

    Raises:
        UsageError: The endpoint is not valid, or it has no TLS, is not on this host, and ``insecure`` is false.
    """
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        parts.port  # noqa: B018  raises ValueError for anything but a number
    except ValueError:
        host = ""
    if not endpoint:
        return False
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise UsageError("AWS_ENDPOINT_URL is not a valid URL", hint="Write https://host or https://host:port.")
    if parts.scheme == "https":
        return False
    if not insecure and not _is_this_host(host):
        raise UsageError(
            f"{printable_url(endpoint)} has no TLS: others in the network could read and change what is sent",
            hint="Use https, or allow it with --insecure.",
        )
    return True


def _is_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


def _client(environ: Mapping[str, str], seconds: int, *, plain: bool) -> ClientConfig:
    client: ClientConfig = {
        "allow_http": plain,
        "timeout": timedelta(seconds=seconds),
        "connect_timeout": timedelta(seconds=min(10, seconds)),
        "user_agent": f"envpack/{__version__}",
    }
    path = next((environ[name] for name in _CERTIFICATES if environ.get(name)), "")
    if path:
        try:
            client["root_certificate"] = read_file(path, _MAX_CERTIFICATES)
        except OSError as problem:
            raise UsageError(f"can't read the certificates in {path}: {problem.strerror}") from None
    return client
