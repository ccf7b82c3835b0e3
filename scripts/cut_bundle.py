"""Cut a bundle into parts as `envpack publish` does, for another program to upload: NAME.001, ... NAME.parts.json.

A bundle that is small enough stays whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from envpack.publish.base import Upload
from envpack.publish.git_hosts.github import LIMIT
from envpack.publish.git_hosts.pieces import pieces_of
from envpack.publish.local import sha256_of


def cut(bundle: Path, size: int) -> list[Path]:
    """Replace a bundle by its parts and their list, and return the files that are there then.

    Args:
        bundle: The bundle.
        size: The size of a part in bytes, at most.
    """
    if bundle.stat().st_size <= size:
        return [bundle]
    pieces = pieces_of(Upload(bundle.name, bundle, sha256_of(bundle)), size)
    for piece in pieces:
        with bundle.with_name(piece.name).open("xb") as file:
            file.writelines(piece.chunks())
    bundle.unlink()
    return [bundle.with_name(piece.name) for piece in pieces]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--size", type=int, default=LIMIT, help="bytes of a part, at most [default: GitHub's limit]"
    )
    arguments = parser.parse_args()
    print(*cut(arguments.bundle, arguments.size), sep="\n")


if __name__ == "__main__":
    main()
