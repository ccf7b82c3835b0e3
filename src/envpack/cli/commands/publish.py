"""``envpack publish``: bundles are put where others deploy them from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from envpack.cli.commands.sign import pointer_signer
from envpack.cli.console import Console, Result
from envpack.cli.options import Expires, Insecure, argument, option
from envpack.cli.text import escape
from envpack.runtime.errors import UsageError

if TYPE_CHECKING:
    from envpack.publish.base import Publisher
    from envpack.publish.latest import PointerSigner


@dataclass(frozen=True)
class _Done:
    source: str
    address: str
    sha256: str
    size: int
    published: bool
    latest: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "bundle": self.address,
            "sha256": self.sha256,
            "size": self.size,
            "published": self.published,
            "latest": self.latest or None,
        }


def publish(
    console: Console,
    paths: Annotated[
        list[str], argument(metavar="BUNDLE... TARGET", help="Bundles, and the place to publish them to.")
    ],
    key: Annotated[
        Path | None,
        option("--key", metavar="FILE", help="Sign the pointer to the latest release with this secret key."),
    ] = None,
    expires: Expires = None,
    insecure: Insecure = False,
) -> Result:
    """Publish bundles where hosts deploy them from.

    TARGET is a directory, s3://BUCKET/PATH, gs://, az://, oci://HOST/REPOSITORY, github:OWNER/REPO@TAG or
    gitlab:PROJECT. Beside each bundle are its checksum, manifest and SBOM, and its signature if there is one. The
    bundle is written last: if it exists, the other files exist too. A published name is never used again; the same
    bundle published again is left as it is, and one that was interrupted is continued.

    Prints the paths or URLs of the bundles, as 'envpack deploy' reads them. NAME-latest-SUBDIR.json beside them
    leads to the newest release of an environment: it can be deployed as if it were the bundle. It is signed with
    --key, or with 'sign_key' in config.toml, and then valid for some days: publish again to renew it.

    \b
    Examples:
      envpack publish dist/demo-1.0-20251219-linux-64.tar.gz /srv/bundles
      envpack publish dist/*.tar.gz oci://registry.example.org/team/demo
    """
    from envpack.publish.targets import TargetOptions, publisher_for

    if len(paths) < 2:
        raise UsageError("the target is missing", hint="Write 'envpack publish BUNDLE... TARGET'.")
    *bundles, target = paths
    names = [Path(bundle).name for bundle in bundles]
    options = TargetOptions(console.environ, insecure=insecure, writes=True, bundles=names)
    publisher = publisher_for(target, options)
    signer = pointer_signer(console, key, expires)
    done = [_publish(console, Path(bundle), publisher, signer) for bundle in bundles]

    def show(console: Console) -> None:
        for each in done:
            console.out.write(escape(each.address))

    return Result("publish", {"releases": [each.as_dict() for each in done]}, show)


def _publish(console: Console, bundle: Path, publisher: Publisher, signer: PointerSigner | None) -> _Done:
    from envpack.publish.latest import LatestRelease, point_to
    from envpack.publish.names import parse_bundle_name
    from envpack.publish.release import publish_files
    from envpack.release.documents import files_of

    reporter = console.reporter
    files, manifest = files_of(bundle, reporter)
    size = files.bundle.size
    name = parse_bundle_name(bundle.name)
    what = f"{name.name} {name.version}" if name is not None else bundle.name
    with reporter.step(f"Publishing {what}", total=size) as step:
        published = publish_files(publisher, files.reporting(step.advance))
        address = publisher.address(bundle.name)
        if not published:
            step.detail = "already there"
        latest = ""
        if name is not None:
            latest = point_to(publisher, LatestRelease(name, size, files.bundle.sha256, manifest), signer)
    return _Done(str(bundle), address, files.bundle.sha256, size, published, latest)
