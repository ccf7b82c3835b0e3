"""Cut a bundle into parts, for places that limit the size of files: NAME.001, NAME.002, ... and NAME.parts.json.

``cat`` joins the parts, and ``envpack deploy .../NAME.parts.json`` reads them as they are. A bundle that is small
enough stays whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from envpack.runtime.transport.documents import PARTS, Part, SplitBundle

_CHUNK = 1 << 20


def cut(bundle: Path, size: int) -> list[Path]:
    """Replace a bundle by its parts.

    Args:
        bundle: The bundle.
        size: The size of a part in bytes, at most.

    Returns:
        The files that are there now: the bundle, or the parts and the list of them.
    """
    if bundle.stat().st_size <= size:
        return [bundle]
    parts: list[Part] = []
    whole = hashlib.sha256()
    with bundle.open("rb") as source:
        while source.peek():
            name, digest, left = f"{bundle.name}.{len(parts) + 1:03d}", hashlib.sha256(), size
            with bundle.with_name(name).open("xb") as target:
                while left and (chunk := source.read(min(left, _CHUNK))):
                    target.write(chunk)
                    digest.update(chunk)
                    whole.update(chunk)
                    left -= len(chunk)
            parts.append(Part(name, size - left, digest.hexdigest()))
    found = SplitBundle(bundle.name, bundle.stat().st_size, whole.hexdigest(), parts)
    listed = bundle.with_name(bundle.name + PARTS)
    listed.write_text(json.dumps(found.as_dict(), indent=2) + "\n", encoding="utf-8")
    bundle.unlink()
    return [*(bundle.with_name(part.name) for part in parts), listed]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", type=int, required=True, help="bytes of a part, at most")
    arguments = parser.parse_args()
    print(*cut(arguments.bundle, arguments.size), sep="\n")


if __name__ == "__main__":
    main()
