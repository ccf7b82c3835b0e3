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
    from envpack.cli.approval import Approve
    from envpack.runtime.commands.verify import Verified
    from envpack.signing.bundle import Signed


def verify(
    console: Console,
    path: Annotated[
        str,
        argument(
            metavar="BUNDLE|DEST",
            help="A bundle (path, URL, or '-' for stdin), or a deployment.",
        ),
    ],
    key: Annotated[
        list[str] | None,
        option(
            "--key",
            metavar="KEY",
            help="Require a signature by this public key: a file, or a line that begins with RW. Repeatable.",
        ),
    ] = None,
    jobs: Jobs = None,
) -> Result:
    """Verify all files of a deployment, or a bundle.

    For a deployment, every file is read, and its digest is compared with the recorded one; the path of the
    deployment in files is converted back first. The exit code is 7 if a file is changed or missing. Files that are
    in no bundle are listed and are not an error. Byte-code that Python wrote is ignored.

    For a bundle, every digest in it is verified, and with --key also the signature next to it, BUNDLE.minisig. If
    --key is given several times, a signature by one of the keys is enough.

    \b
    Examples:
      envpack verify /opt/envs/demo
      envpack verify dist/demo-1.0-20251219-linux-64.tar.gz --key ci.pub
    """
    from envpack.bundle.codecs import FAST
    from envpack.runtime.commands.signature_requirement import other_program
    from envpack.runtime.commands.verify import verify as run
    from envpack.runtime.transport.open import located

    source = located(path)
    signatures: list[Signed] = []
    approve = _signature_check(source, key, signatures) if key else None
    found = run(source, reporter=console.reporter, jobs=jobs, decoders=FAST, approve=approve)
    signed = signatures[0] if signatures else None
    other = other_program(found.name, found.version, source, None)
    if signed is not None and other:
        console.reporter.warn(other)
    found.require(every=console.json or console.verbose)
    data = {**found.as_dict(), "signed": signed.as_dict() if signed is not None else None}
    return Result("verify", data, lambda console: _show(console, found, signed))


def _signature_check(path: Path | str, keys: list[str], found: list[Signed]) -> Approve:
    """Return a function that adds to ``found`` the signature of the manifest that is verified.

    The bundle is read once: a server could answer another time with another one.
    """
    from envpack.runtime.transport.open import STDIN
    from envpack.signing.bundle import check_manifest
    from envpack.signing.keys import public_key_of

    public_keys = [public_key_of(text) for text in keys]
    if path == STDIN:
        raise UsageError(
            "a bundle from stdin has no signature file",
            hint="Save the bundle and its .minisig file, and give the path of the bundle.",
        )
    if isinstance(path, Path) and path.is_dir():
        raise UsageError(
            f"{path} is a deployment; only bundles have signatures", hint="Run the command without --key."
        )

    def approve(manifest: bytes, bundle: Path | str) -> None:
        found.append(check_manifest(manifest, bundle, public_keys))

    return approve


def _show(console: Console, found: Verified, signed: Signed | None) -> None:
    out = console.out
    name = out.style(escape(f"{found.name} {found.version}"), "1")
    out.write(f"{name} is unchanged since it was packed: {escape(found.path)}")
    out.write(f"  {plural(found.files, 'path')}, {human_size(found.size)}, {human_time(found.seconds)}")
    if signed is not None:
        out.write(f"  signed by {signed.key.name}: {escape(signed.comment)}")
    if found.kind == "deployment" and not found.settled:
        out.write("  it was moved; the next activation writes the new path into its files")
    list_extra_files(console, found.extra, "in no bundle")
