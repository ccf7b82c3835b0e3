"""Paths of the files in ``.envpack/`` in a bundle and in a deployment."""

from __future__ import annotations

OWN = ".envpack"
"""Folder of the files that envpack adds. A bundle may have plain files in it, except those that envpack writes."""

RESERVED = frozenset(f"{OWN}/{name}" for name in ("prefix", "deployment.json", "lock", "check", "settling"))
"""Files written at the destination, during the deployment and later (FORMAT.md, section 4)."""

MANIFEST_PATH = ".envpack/manifest.json"
DIGEST_PATH = ".envpack/manifest.sha256"
PATHS_PATH = ".envpack/paths.json"
HEAD_PATHS = (MANIFEST_PATH, DIGEST_PATH, PATHS_PATH)
"""Entries of a bundle's head, in this order; the first two are in the first frame."""

RUNTIME_PATH = ".envpack/runtime.pyz"

DEPLOYMENT_PATH = ".envpack/deployment.json"

PREFIX_PATH = ".envpack/prefix"
"""File with the installed prefix and a newline; missing after a plain ``tar -x``, and while another prefix is
being written."""

JOURNAL_PATH = ".envpack/settling"
"""Journal of the prefix rewrite, present while a prefix is being written: JSON with every prefix that a file may
contain (``prefixes``), and whether a rewrite was ever completed in this tree (``settled``)."""

LOCK_PATH = ".envpack/lock"

STAMP_PATH = ".envpack/check"

OWN_FOLDER = ".envpack"
"""Folder in which files that are not from the bundle are envpack's: the record, the prefix, locks, stamps."""

OWN_PATHS = frozenset((*HEAD_PATHS, DEPLOYMENT_PATH, LOCK_PATH, PREFIX_PATH, JOURNAL_PATH, STAMP_PATH))
"""Files that envpack itself writes in a deployment, besides those in the paths table: FORMAT.md, section 4."""
