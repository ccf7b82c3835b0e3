"""``envpack gc``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import STORE_VARIABLE, AnyParent, Store, choose_store, option
from envpack.cli.text import escape, plural
from envpack.runtime.errors import UsageError
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.store.gc import Collected


def gc(
    console: Console,
    store: Store = None,
    dry_run: Annotated[bool, option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    allow: AnyParent = None,
) -> Result:
    """Remove files that no deployment uses any more from the store.

    Files that current or previous generations use stay. The command waits for deployments that are using the
    store. A deployment that was moved with mv keeps its files, but no longer shares them with later deployments.

    \b
    Examples:
      envpack gc --store /opt/envs/.store --dry-run
      ENVPACK_STORE=/opt/envs/.store envpack gc
    """
    from envpack.config import load_config
    from envpack.runtime.store.gc import collect

    folder = choose_store(store, console.environ, load_config())
    if folder is None:
        raise UsageError(
            "no store is given", hint=f"Set it with --store DIR, {STORE_VARIABLE}, or 'store' in config.toml."
        )
    done = collect(folder, reporter=console.reporter, dry_run=dry_run, any_parent=allow is not None)
    return Result("gc", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: Collected) -> None:
    out = console.out
    verb = "would be removed" if done.dry_run else "removed"
    users = plural(len(done.deployments), "deployment")
    out.write(f"{plural(done.removed, 'segment')} {verb}: {human_size(done.freed)} of disk")
    out.write(f"  {escape(done.store)}: {plural(done.kept, 'segment')}, {human_size(done.size)}, used by {users}")
    if console.verbose:
        for path in done.deployments:
            out.write(f"    {escape(path)}")
    for path in done.forgotten:
        out.write(f"  not used any more by {escape(path)}")
