"""Reading from object stores: an URL is signed for a short time, and read as any other on an HTTP server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from envpack.publish.object_store.address import parse_address
from envpack.runtime.errors import FetchError, UsageError
from envpack.runtime.transport.base import ByteSource
from envpack.runtime.transport.open import unreadable_store

_VALID = timedelta(hours=1)
"""Time for which a signed URL can be used; another is signed when it has passed."""


def open_stored(text: str, environ: Mapping[str, str]) -> ByteSource:
    """Open a file in an object store.

    Args:
        text: Its address.
        environ: Environment variables, with the credentials and the endpoint.

    Raises:
        UsageError: The address or the settings are not valid, or obstore is not installed.
        FetchError: The store does not give the file.
    """
    from envpack.publish.object_store.connect import client_library, connect
    from envpack.runtime.transport.http.source import open_signed

    address = parse_address(text)
    if not address.name:
        raise UsageError(f"{address} is a bucket, not a bundle", hint=f"Write {address}/NAME.tar.gz.")
    try:
        obstore = client_library()
    except UsageError:
        raise unreadable_store(address.scheme) from None
    from envpack.publish.object_store.failures import ERRORS, failure

    # nothing is sent but by the reader of URLs, which reads http:// as it is given
    store = connect(address.parent, environ, insecure=True)

    def sign() -> str:
        try:
            return str(obstore.sign(store, "GET", address.name, _VALID))
        except ERRORS as problem:
            raise failure(problem, address, "read", FetchError) from None

    return open_signed(sign, str(address))
