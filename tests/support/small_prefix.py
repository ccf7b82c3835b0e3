"""Environments made by hand, small enough to be packed and deployed in a test, and what becomes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from envpack.bundle.codecs import FAST
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter


class SmallPrefix:
    """An environment without packages, to be filled."""

    def __init__(self, prefix: Path) -> None:
        self.path = prefix
        self.write("conda-meta/history", "")

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> Path:
        place = self.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data.encode() if isinstance(data, str) else data)
        place.chmod(mode)
        return place

    def link(self, path: str, target: str | Path) -> None:
        place = self.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def pack(self, output: Path, reporter: Reporter | None = None, **settings: Any) -> Manifest:
        return pack_prefix(self.path, output, settings=PackSettings(**settings), reporter=reporter or Reporter())

    def moved(self, folder: Path, **settings: Any) -> Path:
        """Deploy it below ``folder``, and return the path."""
        folder.mkdir(parents=True, exist_ok=True)
        self.pack(folder / "b.tar.zst", **settings)
        deploy(folder / "b.tar.zst", folder / "deployed", reporter=Reporter(), decoders=FAST)
        return folder / "deployed"


_MEASURED = """
import sys
from pathlib import Path
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.runtime.report import Reporter
pack_prefix(Path(sys.argv[1]), Path(sys.argv[2]), settings=PackSettings(level=1), reporter=Reporter())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
# not ru_maxrss: it is at least what the process had that this one was started from (mm/exec_mmap, fs/exec.c)


def pack_elsewhere(prefix: Path, output: Path) -> tuple[int, Manifest]:
    """Pack in a separate process; return its maximum memory in bytes, and the manifest of the bundle."""
    command = [sys.executable, "-c", _MEASURED, str(prefix), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with open_bundle(output, FAST) as bundle:
        return int(done.stdout) * 1024, bundle.manifest
