"""``envpack sbom``: the software bill of materials of a bundle, a deployment or a lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from envpack.cli.console import Console, Result
from envpack.cli.options import LockEnvironment, argument, option, require_file
from envpack.cli.output import write_file
from envpack.cli.text import escape
from envpack.runtime.errors import UsageError

if TYPE_CHECKING:
    from envpack.contents.read import Inventory
    from envpack.release.locked import LockInventory


def sbom(
    console: Console,
    source: Annotated[
        str, argument(metavar="BUNDLE|DEST|LOCK", help="Bundle (path, URL or '-'), deployment, or lock file.")
    ],
    format: Annotated[
        Literal["cyclonedx-1.6", "cyclonedx-1.7", "spdx-2.3"],
        option(
            "--format", metavar="FORMAT", help="cyclonedx-1.6, cyclonedx-1.7 or spdx-2.3. [default: cyclonedx-1.6]"
        ),
    ] = "cyclonedx-1.6",
    output: Annotated[
        Path | None, option("--output", "-o", metavar="FILE", help="File to write. [default: stdout]")
    ] = None,
    platform: Annotated[
        str | None,
        option(
            "--platform", metavar="SUBDIR", help="Platform of a lock. [default: its only one, or this machine's]"
        ),
    ] = None,
    environment: LockEnvironment = None,
) -> Result:
    """Print a software bill of materials (SBOM).

    Lists the conda and pip packages with versions, hashes, licenses, package-urls and dependencies. A conda
    package contains the Python distributions in it under their names on PyPI, and a wheel the libraries that its
    own SBOM lists (PEP 770). Of a bundle, only the metadata of packages is read. The same bundle gives the same
    document. Of a lock, the packages are listed before anything is built; what a lock does not state is named in
    the document. An existing file is replaced.

    \b
    Examples:
      envpack sbom demo.tar.gz -o demo.cdx.json
      envpack sbom demo.lock --format spdx-2.3
      envpack sbom /opt/envs/demo | jq -r '.components[].purl'
    """
    from envpack.contents.cyclonedx import cyclonedx
    from envpack.contents.spdx import spdx

    require_file(output)
    manifest, digest, installed = _packages(source, platform, environment)
    if format == "spdx-2.3":
        data = spdx(manifest, digest, installed)
    else:
        data = cyclonedx(manifest, digest, installed, format.removeprefix("cyclonedx-"))
    if output is not None:
        write_file(output, data)
    result = {
        "format": format,
        "output": None if output is None else str(output),
        "packages": len(installed),
        "document": json.loads(data),
    }

    def show(console: Console) -> None:
        if output is None:
            console.out.write_bytes(data)
        else:
            console.out.write(escape(str(output)))

    return Result("sbom", result, show)


def _packages(source: str, platform: str | None, environment: str | None) -> Inventory | LockInventory:
    from envpack.bundle.codecs import FAST
    from envpack.contents.read import read_inventory
    from envpack.runtime.transport.open import local_path

    path = local_path(source)
    if source != "-" and isinstance(path, Path) and _is_text(path):
        from envpack.release.locked import is_lock, read_lock_inventory

        if is_lock(path):
            return read_lock_inventory(path, platform, environment)
    if platform or environment:
        raise UsageError(f"{source} is not a lock", hint="Use --platform and --environment with a lock only.")
    return read_inventory(source, FAST)


_BINARY = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK")  # gzip, zstd, zip


def _is_text(path: Path) -> bool:
    from envpack.runtime.fs.io import open_regular

    try:
        with open(path, "rb", opener=open_regular) as file:
            return not file.read(4).startswith(_BINARY)
    except OSError:
        return False
