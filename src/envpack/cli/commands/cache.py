"""``envpack cache``: list and delete what earlier packing left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from envpack.cli.console import Console, Result
from envpack.cli.text import escape, plural
from envpack.runtime.errors import UsageError
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.bundle.cache.cache_files import CacheFacts


def cache(
    console: Console,
    action: Annotated[
        Literal["info", "clear"], typer.Argument(metavar="info|clear", help="Show the cache, or empty it.")
    ] = "info",
) -> Result:
    """Show or empty the cache of packed bundles.

    Packing keeps the last bundles in the cache, as hard links of the same files. They need disk space of their own
    only after the bundles are removed elsewhere. Parts that have not changed are copied from them, and are neither
    read nor compressed again. ENVPACK_CACHE=DIR uses another directory; an empty value switches the cache off.
    ENVPACK_CACHE_LIMIT is its maximum size in bytes (default 20 GiB).

    \b
    Examples:
      envpack cache
      envpack cache clear
    """
    from envpack.bundle.cache.cache_files import cache_facts, cache_folder, clear_cache

    folder = cache_folder(os.environ)
    if folder is None and "ENVPACK_CACHE" in os.environ:
        raise UsageError(
            "the cache is switched off", hint="ENVPACK_CACHE is empty: unset it, or set it to a directory."
        )
    if folder is None:
        relative = os.environ.get("XDG_CACHE_HOME")
        raise UsageError(
            "there is no cache: "
            + ("XDG_CACHE_HOME is no absolute path" if relative else "this user has no home directory"),
            hint="Set HOME or ENVPACK_CACHE to a directory.",
        )
    facts = clear_cache(folder) if action == "clear" else cache_facts(folder)
    data = {**facts._asdict(), "folder": str(facts.folder), "action": action}
    return Result("cache", data, lambda console: _show(console, action, facts))


def _show(console: Console, action: str, facts: CacheFacts) -> None:
    summary = f"{plural(facts.bundles, 'bundle')}, {human_size(facts.size)}"
    shared = facts.size - facts.own
    if shared:
        summary += f"; {human_size(shared)} of it {'is' if action == 'info' else 'remains'} in use elsewhere"
    console.out.write(f"{escape(str(facts.folder))}: {'removed ' if action == 'clear' else ''}{summary}")
