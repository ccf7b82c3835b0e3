"""A file of more than 8 GiB, the size from which tar's plain numbers no longer do: packed, deployed, moved.

Run by ``make test-large``: half a minute, and 8 GiB of disk for the deployment.
"""

from __future__ import annotations

import os
from pathlib import Path

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.report import Reporter
from support.small_prefix import SmallPrefix, pack_elsewhere

SIZE = (8 << 30) + 4096
AT = 5 << 30


def test_a_file_over_8_gib_is_packed_in_little_memory_and_is_there_again(tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    mention = os.fsencode(made.path) + b"/lib"
    with (made.path / "weights.bin").open("wb") as file:
        file.truncate(SIZE)
        file.seek(AT)
        file.write(mention)
    memory, manifest = pack_elsewhere(made.path, tmp_path / "b.tar.zst")
    assert memory < 300 << 20
    assert manifest.size > SIZE
    (made.path / "weights.bin").unlink()
    deployed = tmp_path / "e"
    deploy(tmp_path / "b.tar.zst", deployed, reporter=Reporter(), decoders=FAST)
    with (deployed / "weights.bin").open("rb") as file:
        assert file.seek(0, os.SEEK_END) == SIZE
        file.seek(AT - 1)
        # what a shorter path leaves over are slashes
        assert file.read(len(mention) + 2) == b"\0" + os.fsencode(deployed) + b"///lib\0"
