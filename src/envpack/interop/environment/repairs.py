"""Repairs of what conda-pack and conda-unpack get wrong in an environment's files, each backed by evidence."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from dataclasses import replace

from envpack.interop.environment.conda_pack_files import is_placeholder
from envpack.interop.environment.entry_points import entry_points
from envpack.interop.environment.origin import RECORDED, Origin
from envpack.prefix.model import Entry, PrefixContents, Stored
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.deployment.source import Fixup

REASONS = {
    "interpreter": "conda-pack makes these scripts run the first python on PATH (issue 44 of conda-pack), or none "
    "if their interpreter has options; they run the python of the environment again",
    "skipped": "conda-unpack does not change files named bin/python*; they contain the path of the packed "
    "environment, or a placeholder",
    "unrecorded": "not in conda-pack's record, so conda-unpack does not change them; they contain the path of the "
    "packed environment, or a placeholder",
    "found": "the archive has no record of prefixes; the prefix was searched for in these files",
    "byte-code": "conda-unpack does not change the path of the packed environment in byte-code, and does not "
    "update the byte-code of sources that it changes",
    "times": "a zip rounds times, so Python would compile the sources again; the times recorded in the byte-code "
    "are restored",
    "copies": "conda-pack writes copies in place of links into a zip, and does not record them for conda-unpack",
    "linked": "conda-pack writes scripts that share an inode in a way that other programs can't read",
}
"""Kinds of repair, each with the reason for it."""

_THROUGH_ENV = re.compile(rb"#!/usr/bin/env (?P<name>[^\s/]+)(?P<rest>[^\n]*)")


class ArchiveNormalizer(FileNormalizer):
    """A normalizer for the files of an archive; ``repaired`` holds the paths repaired so far, by kind."""

    def __init__(self, contents: PrefixContents, origin: Origin) -> None:
        super().__init__(contents.prefix, contents)
        self.repaired: dict[str, list[str]] = defaultdict(list)
        self.verified = self.differing = 0
        self._contents, self._origin = contents, origin
        entries = [(group, entry) for group in contents.groups for entry in group.entries]
        self._conda = {e.path for g, e in entries if g.package is not None and g.package.kind == "conda"}
        placeholders = {e.published.placeholder for _, e in entries if e.published is not None}
        placeholders |= {record.placeholder for record in origin.records.values()}
        self._entry_points = entry_points(contents.prefix)
        self._placeholders = {name for name in placeholders if name} - set(contents.aliases)
        self._with_placeholders: dict[frozenset[bytes], FileNormalizer] = {}

    @property
    def repairs(self) -> tuple[Fixup, ...]:
        """Return the repairs made so far, in the order of REASONS."""
        return tuple(
            Fixup(kind, reason, tuple(sorted(self.repaired[kind], key=os.fsencode)))
            for kind, reason in REASONS.items()
            if self.repaired[kind]
        )

    def normalize(self, entry: Entry, data: FileData) -> Stored:
        """Return how a file is stored, repaired where a repair is verified, and record the repair."""
        script = self._restored_script(entry, data)
        content = data if script is None else script
        stored = super().normalize(entry, content)
        if entry.content is None:
            stored = self._store_placeholders(entry, content, stored)
            if entry.published is not None or entry.recorded:
                self.verified += not stored.modified
                self.differing += stored.modified
            kind = self._repair_kind(entry, data, stored)
            if kind:
                self.repaired[kind].append(entry.path)
        return stored

    def _restored_script(self, entry: Entry, data: FileData) -> bytes | None:
        """Return a script with the first line it had before conda-pack rewrote it to use ``env``.

        The result is None where nothing shows that the script had another first line. A file that a conda package
        published is verified later, by its digest. For others the evidence is the digest in pip's RECORD or in
        conda's record; that conda wrote the script itself, as an entry point; or conda-pack's record, which lists
        every other text in bin that no package published (``Packer.add``). A line with an option never worked:
        ``env`` takes program and option for one name.
        """
        line = _THROUGH_ENV.match(data) if isinstance(data, bytes) and entry.path.startswith("bin/") else None
        if line is None or not isinstance(data, bytes) or self._origin.layout != RECORDED:
            return None
        if entry.published is not None or entry.path in self._origin.records:
            return None
        program = self._contents.aliases[0] + b"/bin/" + line["name"]
        lines = (lead + program + line["rest"] + data[line.end() :] for lead in (b"#!", b"#! "))
        for candidate in lines:
            if entry.recorded and hashlib.sha256(candidate).hexdigest() == entry.recorded:
                return candidate
        if entry.path in self._conda:
            was_rewritten = entry.path in self._entry_points
        else:
            was_rewritten = not entry.path.startswith("bin/python")
        if not (was_rewritten or line["rest"].strip()) or not _is_utf8(data):
            return None
        name = os.fsdecode(line["name"])
        if not os.path.lexists(self._contents.prefix / "bin" / name):
            return None
        return b"#!" + program + line["rest"] + data[line.end() :]

    def _store_placeholders(self, entry: Entry, data: FileData, stored: Stored) -> Stored:
        """Store a file that no digest verifies and that may still hold placeholders of packages.

        Such files are copies of linked folders in a zip, and files of packages that state no digests.
        """
        if (entry.published is not None and not stored.modified) or entry.path.endswith(".pyc"):
            return stored
        record = self._origin.records.get(entry.path)
        if not is_placeholder(data) and (record is None or record.placeholder not in self._placeholders):
            return stored
        present = frozenset(name for name in self._placeholders if data.find(name) >= 0)
        if not present:
            return stored
        if present not in self._with_placeholders:
            aliases = (*self._contents.aliases, *sorted(present))
            self._with_placeholders[present] = FileNormalizer(
                self._contents.prefix, replace(self._contents, aliases=aliases)
            )
        return self._with_placeholders[present].normalize(entry, data)

    def _repair_kind(self, entry: Entry, data: FileData, stored: Stored) -> str:
        """Return the kind of repair that a file got, "" for none."""
        relocation = stored.relocation
        renamed = entry.path.endswith(".pyc") and stored.size != len(data)
        if relocation is None and not renamed:
            return ""
        if (
            relocation is not None
            and relocation.shebang is not None
            and isinstance(data, bytes)
            and _THROUGH_ENV.match(data)
        ):
            return "interpreter"
        if self._origin.layout != RECORDED:
            return "found"
        if entry.path.endswith(".pyc"):
            return "byte-code"
        if entry.path in self._origin.records:
            return ""
        return "skipped" if entry.path.startswith("bin/python") else "unrecorded"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
