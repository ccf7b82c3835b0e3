"""Synchronous calls of rattler, which runs on threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rattler.networking import Client

T = TypeVar("T")

_GRACE = 0.05
"""Seconds to wait for rattler's threads after a result: they still release Python objects, and the interpreter
crashes when it exits meanwhile (seen with py-rattler 0.28 in 1 of 5 runs that did nothing after a solve).
"""


def run(call: Coroutine[Any, Any, T]) -> T:
    """Run a rattler call and return its result; an interrupt cancels it."""

    async def with_grace() -> T:
        try:
            return await call
        finally:
            await asyncio.sleep(_GRACE)

    return asyncio.run(with_grace())


def client() -> Client:
    """Return a client that knows the user's credentials: ~/.netrc, and those that rattler and pixi store."""
    from rattler.networking import Client

    return Client.default_client()
