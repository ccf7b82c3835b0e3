"""``envpack cache``: what is kept of earlier packing, and letting go of it."""

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
        Literal["info", "clear"], typer.Argument(metavar="info|clear", help="Tell, or remove everything.")
    ] = "info",
) -> Result:
    """Tell what is kept of earlier packing, or remove it.

    Packing keeps the last bundles, as further names of the same files: they take room of their own once the
    bundles are removed elsewhere. What did not change since is taken out of them, neither read nor compressed.
    ENVPACK_CACHE names another folder, and switches it off when it is empty; ENVPACK_CACHE_LIMIT is the most
    bytes to be kept (20 GiB).

    \b
    Examples:
      envpack cache
      envpack cache clear
    """
    from envpack.bundle.cache.cache_files import cache_facts, cache_folder, clear_cache

    folder = cache_folder(os.environ)
    if folder is None:
        raise UsageError("the cache is switched off", hint="ENVPACK_CACHE is empty; unset it, or name a folder.")
    facts = clear_cache(folder) if action == "clear" else cache_facts(folder)
    data = {**facts._asdict(), "folder": str(facts.folder), "action": action}
    return Result("cache", data, lambda console: _show(console, action, facts))


def _show(console: Console, action: str, facts: CacheFacts) -> None:
    summary = f"{plural(facts.bundles, 'bundle')}, {human_size(facts.size)}"
    shared = facts.size - facts.own
    if shared:
        summary += f", of which {human_size(shared)} {'are' if action == 'info' else 'stay'} elsewhere, too"
    console.out.write(f"{escape(str(facts.folder))}: {'removed ' if action == 'clear' else ''}{summary}")
