"""Paths of the files below ``.envpack/`` in a bundle and in a deployment."""

from __future__ import annotations

OWN = ".envpack"
"""The folder of what envpack adds. A bundle may have plain files in it, but none that envpack writes itself."""

RESERVED = frozenset(f"{OWN}/{name}" for name in ("prefix", "deployment.json", "lock", "check", "settling"))
"""Written at the destination, during the deployment and later (FORMAT.md, section 4)."""

MANIFEST_PATH = ".envpack/manifest.json"
DIGEST_PATH = ".envpack/manifest.sha256"
PATHS_PATH = ".envpack/paths.json"
HEAD_PATHS = (MANIFEST_PATH, DIGEST_PATH, PATHS_PATH)
"""What the head of a bundle holds, in this order: the first two in the first frame."""

RUNTIME_PATH = ".envpack/runtime.pyz"

DEPLOYMENT_PATH = ".envpack/deployment.json"

PREFIX_PATH = ".envpack/prefix"
"""Holds the prefix that is written in, and a newline; missing right after a plain unpacking, and while another one
is being written in."""

SETTLING_PATH = ".envpack/settling"
"""While a prefix is being written in: JSON with every prefix that may stand in some file (``prefixes``), and
whether one has ever been written in to the end (``settled``)."""

LOCK_PATH = ".envpack/lock"

STAMP_PATH = ".envpack/check"

OWN_FOLDER = ".envpack"
"""In it, what is no bundle's is envpack's: the record, the prefix, locks, stamps."""

OWN_PATHS = frozenset((*HEAD_PATHS, DEPLOYMENT_PATH, LOCK_PATH, PREFIX_PATH, SETTLING_PATH, STAMP_PATH))
"""What envpack itself keeps in a deployment, besides what the paths table lists: FORMAT.md, section 4."""
