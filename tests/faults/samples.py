"""Three versions of a small environment of every kind of path, and their complete trees.

Whether a tree is complete is decided without envpack: it is compared with what tar extracts, byte for byte.
"""

from __future__ import annotations

import marshal
import os
import re
import stat
import struct
import subprocess
from pathlib import Path

NAME_OF_SOURCE = "environment-in-its-first-place-with-room-for-any-other-" + "x" * 90
VERSIONS = ("1", "2", "3", "fails")

Tree = dict[str, tuple[str, object]]
"""By path: "file" and (executable, bytes), "link" and its target, "folder" and None; hard links as files."""

CHANGING = re.compile(r"\.envpack/(deployment\.json|lock|check(\.\d+)?|settling|\..*\.(new|envpack-[0-9a-f]{16}))")
"""What a tree has or has not, what differs from one deployment of a bundle to the next, and what is on its way to
be one of those."""


def source(folder: Path) -> Path:
    return folder / NAME_OF_SOURCE


def make_bundles(folder: Path) -> None:
    """``demo-VERSION.tar.gz``; the tests of ``fails`` fail."""
    from support.small_prefix import SmallPrefix

    for version in VERSIONS:
        made = SmallPrefix(source(folder / version))
        place = str(made.path)
        made.write("bin/tool", f"#!/bin/sh\necho tool {place} {version}\n", 0o755)
        made.write("lib/text.cfg", f"prefix={place}\nagain={place}/lib\nversion={version}\n")
        made.write("lib/libreal.so.1", b"\x7fELF" + bytes(60) + place.encode() + b"/lib\0" + bytes(300))
        made.write("lib/module.py", f"PLACE = 'of {version}'\n")
        code = compile((made.path / "lib/module.py").read_text(), f"{place}/lib/module.py", "exec")
        head = b"\xa7\r\r\n" + struct.pack("<III", 0, 1577836800, 0)
        made.write("lib/module.pyc", head + marshal.dumps(code))
        made.write("lib/plain", b"plain " * 700 + version.encode())
        made.write("lib/empty", b"")
        made.write(f"lib/only-in-{version}", b"x")
        made.write("share/read-only/file", b"1")
        made.link("lib/libreal.so", "libreal.so.1")
        os.link(made.path / "bin/tool", made.path / "bin/tool-too")
        (made.path / "share/empty").mkdir()
        (made.path / "share/read-only").chmod(0o555)
        test = ("tool",) if version != "fails" else ("false",)
        made.pack(bundle(folder, version), name="demo", version=version, test=test, created=1577836800, level=1)


def bundle(folder: Path, version: str) -> Path:
    return folder / f"demo-{version}.tar.gz"


def unpack(folder: Path, version: str, place: Path) -> None:
    """As people do."""
    place.mkdir()
    subprocess.run(["tar", "-xf", bundle(folder, version), "-C", place], check=True)


def look(root: Path) -> Tree:
    """Everything that is in a tree, but what is `CHANGING`, and files that were to replace others."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            status = path.lstat()
            key = str(path.relative_to(root))
            if CHANGING.fullmatch(key) or (name[0] == "." and name.endswith(".envpack-new")):
                continue
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", str(path.readlink()))
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("folder", None)
            else:
                found[key] = ("file", (bool(status.st_mode & 0o100), path.read_bytes()))
    return found


def as_deployed(folder: Path, version: str, place: Path, scratch: Path) -> Tree:
    """Return the tree of a version at ``place``: the files as tar extracts them, with that path as the prefix."""
    unpack(folder, version, scratch)
    new = str(place).encode()
    found: Tree = {}
    for path, (kind, content) in look(scratch).items():
        if kind == "file":
            executable: bool
            data: bytes
            executable, data = content  # type: ignore[misc]
            placeholder = re.search(rb"/envpack_placeholder_[a-z_]+", data)
            if placeholder and not path.startswith(".envpack/"):
                data = _moved(path, data, placeholder[0], new)
            content = (executable, data)
        found[path] = (kind, content)
    found[".envpack/prefix"] = ("file", (False, new + b"\n"))
    return found


def _moved(path: str, data: bytes, old: bytes, new: bytes) -> bytes:
    if path.endswith(".pyc"):
        code = marshal.loads(data[16:])
        return data[:16] + marshal.dumps(code.replace(co_filename=new.decode() + "/lib/module.py"))
    if path.endswith(".so.1"):
        return data.replace(old, new.ljust(len(old), b"/"))  # a string's length is known to compiled code
    return data.replace(old, new)


def differences(found: Tree, wanted: Tree) -> list[str]:
    """Return how a tree differs from the expected one; byte-code that differs only in references is equal."""
    said = [f"{path} is missing" for path in wanted if path not in found]
    said += [f"{path} is too much" for path in found if path not in wanted]
    return said + [
        f"{path} differs" for path in wanted if path in found and not same(path, found[path], wanted[path])
    ]


def same(path: str, one: tuple[str, object], other: tuple[str, object]) -> bool:
    if one == other:
        return True
    if path.endswith(".pyc") and one[0] == other[0] == "file":
        try:
            codes = [marshal.loads(each[1][1][16:]) for each in (one, other)]  # type: ignore[index]
        except (ValueError, EOFError, TypeError):
            return False
        return bool(codes[0] == codes[1] and codes[0].co_filename == codes[1].co_filename)
    return False
