"""``envpack release``: a spec becomes the files one publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envpack.cli.commands.sign import pointer_signer
from envpack.cli.console import Console, Result
from envpack.cli.option_groups import BuildOptions
from envpack.cli.options import Expires, Insecure, SpecOrLock, option, require_file
from envpack.cli.output import describe_built, report_changes
from envpack.cli.text import escape


def release(
    console: Console,
    *,
    spec: SpecOrLock = Path(),
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for the files.")] = Path(
        "dist"
    ),
    building: BuildOptions,
    key: Annotated[Path | None, option("--key", metavar="FILE", help="Sign with this secret key.")] = None,
    to: Annotated[
        list[str] | None,
        option("--to", metavar="TARGET", help="Publish there, too; see 'envpack publish'. Can be repeated."),
    ] = None,
    expires: Expires = None,
    insecure: Insecure = False,
) -> Result:
    """Build a bundle and its documents under a new name.

    Like 'envpack build', but existing files are never replaced: a second release on the same day gets '.1' after
    the date. Prints the paths of the bundle, checksum, manifest, SBOM and notes, and of the signature if a key is
    given with --key or as 'sign_key' in config.toml. The bundle is written last: if it exists, the other files
    exist too. The SBOM is that of 'envpack sbom'. The notes are those of 'envpack diff --markdown', from the
    newest release of this environment; the first has none. SOURCE_DATE_EPOCH sets the date. With --to, the name is
    one that is new in all targets, and the path or URL of the bundle there is printed, too.

    \b
    Examples:
      envpack release environment.lock
      envpack release demo.yml --to /srv/bundles --to s3://bundles/prod
    """
    from envpack.publish.local import LocalFolder
    from envpack.publish.targets import TargetOptions, publisher_for
    from envpack.release.new_release import release_bundle

    require_file(output)
    signer = pointer_signer(console, key, expires)
    secret = signer.key if signer is not None else None
    options = TargetOptions(console.environ, insecure=insecure, writes=True)
    targets = [publisher_for(target, options) for target in to or ()]
    recipe = building.recipe(spec, console.environ)
    made = release_bundle(recipe, LocalFolder(output), console.reporter, secret, targets, signer)
    report_changes(console, made.manifest.changes, made.selection)
    written = [
        made.bundle,
        made.checksum,
        made.manifest_file,
        made.sbom,
        made.notes,
        made.signature,
        *made.published,
    ]

    def show(console: Console) -> None:
        for path in filter(None, written):
            console.out.write(escape(str(path)))

    signature = str(made.signature) if made.signature is not None else None
    documents = {"manifest": str(made.manifest_file), "sbom": str(made.sbom), "notes": made.notes}
    published = [
        {"bundle": bundle, "latest": latest or None}
        for bundle, latest in zip(made.published, made.latest, strict=True)
    ]
    data = {**describe_built(made), **documents, "signature": signature, "published": published}
    return Result("release", data, show)
