"""Paths of the files in ``.envpack/`` in a bundle and in a deployment."""

from __future__ import annotations

OWN_FOLDER = ".envpack"
"""Folder of the files that envpack adds. A bundle may have plain files in it, except those of `OWN_PATHS`."""

MANIFEST_PATH = f"{OWN_FOLDER}/manifest.json"
DIGEST_PATH = f"{OWN_FOLDER}/manifest.sha256"
PATHS_PATH = f"{OWN_FOLDER}/paths.json"
HEAD_PATHS = (MANIFEST_PATH, DIGEST_PATH, PATHS_PATH)
"""Entries of a bundle's head, in this order; the first two are in the first frame."""

RUNTIME_PATH = f"{OWN_FOLDER}/runtime.pyz"

DEPLOYMENT_PATH = f"{OWN_FOLDER}/deployment.json"

PREFIX_PATH = f"{OWN_FOLDER}/prefix"
"""File with the installed prefix and a newline; missing after a plain ``tar -x``, and while another prefix is
being written."""

JOURNAL_PATH = f"{OWN_FOLDER}/settling"
"""Journal of the prefix rewrite, present while a prefix is being written: JSON with every prefix that a file may
contain (``prefixes``), and whether a rewrite was ever completed in this tree (``settled``)."""

LOCK_PATH = f"{OWN_FOLDER}/lock"

STAMP_PATH = f"{OWN_FOLDER}/check"

RUNS_PATH = f"{OWN_FOLDER}/runs"
"""Folder with the record of the starts of each named command: ``NAME.json``."""

OWN_PATHS = frozenset((*HEAD_PATHS, DEPLOYMENT_PATH, LOCK_PATH, PREFIX_PATH, JOURNAL_PATH, STAMP_PATH))
"""Files that are never in a paths table: those of the head, and those that envpack writes in a deployment
(FORMAT.md, section 4)."""
