"""envpack's command line with other processes at work however small the environment is.

``python tests/support/forced_parallel.py COMMAND ...``; SLOW: seconds that each file takes longer; the last line
on stderr says how many processes began.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from envpack.bundle import parallel_pack, segment_items
from envpack.bundle.cache import signature
from envpack.cli.app import main
from envpack.cli.console import Console
from envpack.runtime.reader import entries, partition

partition.SIZE = parallel_pack.UNIT = 1
parallel_pack.WORTH = 0
signature.RACY = -(10**9)  # the files are as old as the test
begun = 0
_fork = os.fork


def _counted() -> int:
    global begun
    child = _fork()
    begun += bool(child)
    return child


os.fork = _counted

if "SLOW" in os.environ:
    seconds = float(os.environ["SLOW"])
    _entries, _items = entries.entries, segment_items.segment_items

    def _slow_entries(*arguments: Any) -> Iterator[Any]:
        for entry in _entries(*arguments):
            time.sleep(seconds)
            yield entry

    def _slow_items(*arguments: Any) -> Iterator[Any]:
        for item in _items(*arguments):
            time.sleep(seconds)
            yield item

    partition.entries = _slow_entries  # type: ignore[assignment]
    parallel_pack.segment_items = _slow_items  # type: ignore[assignment]

code = main(sys.argv[1:], Console.of_process())
print(f"processes: {begun}", file=sys.stderr)
sys.exit(code)
