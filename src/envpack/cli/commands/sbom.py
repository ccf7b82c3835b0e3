"""``envpack sbom``: the software bill of materials of a bundle or a deployment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from envpack.cli.console import Console, Result
from envpack.cli.options import argument, option, require_file
from envpack.cli.output import write_file
from envpack.cli.text import escape


def sbom(
    console: Console,
    source: Annotated[str, argument(metavar="BUNDLE|DEST", help="Bundle (path, URL or '-'), or deployment.")],
    format: Annotated[
        Literal["cyclonedx-1.6", "cyclonedx-1.7"], option("--format", help="Format of the document.")
    ] = "cyclonedx-1.6",
    output: Annotated[
        Path | None, option("--output", "-o", metavar="FILE", help="File to write. [default: stdout]")
    ] = None,
) -> Result:
    """Print a software bill of materials (SBOM) in CycloneDX's JSON format.

    Lists the conda and pip packages with versions, hashes, licenses, package-urls and dependencies. A conda
    package contains the Python distributions in it under their names on PyPI, and a wheel the libraries that its
    own SBOM lists (PEP 770). Of a bundle, only the metadata of packages is read. The same bundle gives the same
    document. An existing file is replaced.

    \b
    Examples:
      envpack sbom demo.tar.gz -o demo.cdx.json
      envpack sbom /opt/envs/demo | jq -r '.components[].purl'
    """
    from envpack.bundle.codecs import FAST
    from envpack.contents.cyclonedx import cyclonedx
    from envpack.contents.read import read_inventory

    require_file(output)
    found = read_inventory(source, FAST)
    data = cyclonedx(*found, version=format.removeprefix("cyclonedx-"))
    if output is not None:
        write_file(output, data)
    result = {
        "format": format,
        "output": None if output is None else str(output),
        "packages": len(found.installed),
        "document": json.loads(data),
    }

    def show(console: Console) -> None:
        if output is None:
            console.out.write_bytes(data)
        else:
            console.out.write(escape(str(output)))

    return Result("sbom", result, show)
