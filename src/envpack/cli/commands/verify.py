"""``envpack verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Jobs, argument, option
from envpack.cli.output import list_extra_files
from envpack.cli.text import escape, human_time, plural
from envpack.runtime.errors import UsageError
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.commands.verify import Verified
    from envpack.signing.bundle import Signed


def verify(
    console: Console,
    path: Annotated[
        str,
        argument(
            metavar="BUNDLE|DEST",
            help="A bundle (a path, an URL, or '-'), or what one was deployed to.",
        ),
    ],
    key: Annotated[
        list[str] | None,
        option(
            "--key",
            metavar="KEY",
            help="Who has to have signed a bundle: a line that begins with RW, or a file. Repeatable.",
        ),
    ] = None,
    jobs: Jobs = None,
) -> Result:
    """Say which files of a deployment are changed, missing or extra.

    Every file is read, taken back to what the bundle stores where a place was written in, and compared by its
    digest. Exits with 7 when one is changed or missing. Files that no bundle brought are told, and are no damage;
    byte-code that Python wrote itself is not looked at. Of a bundle, every digest in it is checked, and with --key
    the signature beside it, BUNDLE.minisig.

    \b
    Examples:
      envpack verify /opt/envs/demo
      envpack verify dist/demo-1.0-20251219-linux-64.tar.gz --key ci.pub
    """
    from envpack.bundle.codecs import FAST
    from envpack.runtime.commands.verify import verify as run
    from envpack.runtime.transport.open import local_path

    source = local_path(path)
    signed = _signed(source, key) if key else None
    found = run(source, reporter=console.reporter, jobs=jobs, decoders=FAST)
    found.require(every=console.json or console.verbose)
    data = {**found.as_dict(), "signed": signed.as_dict() if signed is not None else None}
    return Result("verify", data, lambda console: _show(console, found, signed))


def _signed(path: Path | str, keys: list[str]) -> Signed:
    from envpack.bundle.codecs import FAST
    from envpack.runtime.transport.open import STDIN
    from envpack.signing.bundle import check_bundle
    from envpack.signing.keys import public_key_of

    public_keys = [public_key_of(text) for text in keys]
    if path == STDIN:
        raise UsageError("no signature comes with what is piped in", hint="Save the bundle, and its .minisig.")
    if isinstance(path, Path) and path.is_dir():
        raise UsageError(f"{path} is a deployment, and bundles are what is signed", hint="Leave --key out.")
    return check_bundle(path, public_keys, FAST)


def _show(console: Console, found: Verified, signed: Signed | None) -> None:
    out = console.out
    name = out.style(escape(f"{found.name} {found.version}"), "1")
    out.write(f"{name} is as it was packed: {escape(found.path)}")
    out.write(f"  {plural(found.files, 'path')}, {human_size(found.size)}, {human_time(found.seconds)}")
    if signed is not None:
        out.write(f"  signed by {signed.key.name}: {escape(signed.comment)}")
    if found.kind == "deployment" and not found.settled:
        out.write("  it was moved; the next activation writes the new place in")
    list_extra_files(console, found.extra, "that no bundle brought")
