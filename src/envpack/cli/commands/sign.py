"""``envpack sign``: a signature beside a bundle, and keys to sign with."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import argument, option
from envpack.cli.text import escape
from envpack.runtime.errors import UsageError

if TYPE_CHECKING:
    from envpack.publish.latest import PointerSigner
    from envpack.signing.keys import SecretKey

_MAX_PASSWORD = 4096
"""Characters of the longest password that is read from stdin, as of a line on a terminal (termios(3))."""


def sign(
    console: Console,
    bundles: Annotated[list[Path] | None, argument(metavar="[BUNDLE]...")] = None,
    key: Annotated[
        Path | None,
        option("--key", metavar="FILE", help="Secret key to sign with. [default: sign_key in config.toml]"),
    ] = None,
    comment: Annotated[
        str,
        option("--comment", metavar="TEXT", help="Comment, which is signed too. [default: the name of the file]"),
    ] = "",
    new_key: Annotated[
        Path | None,
        option("--new-key", metavar="NAME", help="Create the keys NAME.key (secret) and NAME.pub."),
    ] = None,
    no_password: Annotated[bool, option("--no-password", help="Don't encrypt the new secret key.")] = False,
) -> Result:
    """Sign bundles, or create a key pair.

    Writes BUNDLE.minisig, a signature of the bundle's manifest, which contains the digests of everything else in
    the bundle. Keys and signatures have the format of minisign: after tar has extracted the manifest,
    'minisign -Vm manifest.json -x BUNDLE.minisig -p NAME.pub' verifies it. The password of a key is asked for on a
    terminal, and otherwise read from stdin.

    \b
    Examples:
      envpack sign --new-key ci
      envpack sign dist/demo-1.0-20251219-linux-64.tar.gz --key ci.key
      envpack verify dist/demo-1.0-20251219-linux-64.tar.gz --key ci.pub
    """
    if new_key is not None:
        if bundles or key is not None or comment:
            raise UsageError("--new-key creates a key pair and does not sign", hint="Sign with a second command.")
        return _new_key(new_key, "" if no_password else _new_password())
    if not bundles:
        raise UsageError("a bundle is missing", hint="See 'envpack sign --help'.")
    from envpack.bundle.codecs import FAST
    from envpack.signing.bundle import sign_bundle

    secret = secret_key(console, key)
    signed = [sign_bundle(bundle, secret, comment, FAST) for bundle in bundles]

    def show(console: Console) -> None:
        for each in signed:
            console.out.write(escape(each.signature))

    return Result("sign", {"signed": [each.as_dict() for each in signed], "made": []}, show)


def secret_key(console: Console, path: Path | None) -> SecretKey:
    """Return the key to sign with: the option's, else that of config.toml; raise UsageError when there is none."""
    from envpack.config import load_config
    from envpack.signing.keys import secret_key_of

    path = path or load_config(console.environ).sign_key
    if path is None:
        raise UsageError(
            "a key is missing", hint="Give one with --key, or as 'sign_key' in config.toml. --new-key creates one."
        )
    return secret_key_of(path, lambda: _password(f"Password of {path}: "))


def pointer_signer(console: Console, key: Path | None, expires: int | None) -> PointerSigner | None:
    """Return the signer of pointers to the latest release; None where no key is given or set."""
    from envpack.config import load_config
    from envpack.publish.latest import VALID_DAYS, PointerSigner

    if key is None and load_config(console.environ).sign_key is None:
        if expires is not None:
            raise UsageError("--expires needs a key: only a signed pointer expires", hint="Give one with --key.")
        return None
    today = datetime.now(timezone.utc).date()
    return PointerSigner.for_days(secret_key(console, key), today, expires or VALID_DAYS)


def _new_key(name: Path, password: str) -> Result:
    from envpack.signing.keys import new_key, public_key_file, secret_key_file, write_new

    key = new_key()
    secret, public = name.with_name(name.name + ".key"), name.with_name(name.name + ".pub")
    write_new(secret, secret_key_file(key, password), 0o600)
    try:
        write_new(public, public_key_file(key.public), 0o644)
    except BaseException:
        secret.unlink()
        raise

    def show(console: Console) -> None:
        out = console.out
        out.pairs(
            [("secret key", f"{secret}{'' if password else ', not encrypted'}"), ("public key", str(public))]
        )
        out.write(f"  {'':<11}{key.public.text}")

    return Result("sign", {"signed": [], "made": [str(secret), str(public)], "key": key.public.text}, show)


def _new_password() -> str:
    password = _password("Password of the new key: ")
    if not password:
        raise UsageError("the password is empty", hint="Use --no-password to create a key without a password.")
    if sys.stdin.isatty() and _password("Repeat the password: ") != password:
        raise UsageError("the two passwords differ")
    return password


def _password(question: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(question)
    return sys.stdin.readline(_MAX_PASSWORD).rstrip("\n")
