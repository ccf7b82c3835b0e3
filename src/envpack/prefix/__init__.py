"""Reading an existing environment for packing: the owner of each file, and the bytes that are stored of it."""

from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import ENVIRONMENT, SOURCE_MTIME, Entry, Group, PrefixContents, Published, Stored
from envpack.prefix.relocate.normalize import FileNormalizer

__all__ = [
    "ENVIRONMENT",
    "SOURCE_MTIME",
    "Entry",
    "FileNormalizer",
    "Group",
    "PrefixContents",
    "Published",
    "Stored",
    "read_prefix",
]
