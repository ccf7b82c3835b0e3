"""Threads that work in the background leave the machine to those in the foreground."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from envpack.runtime.parallel import resources
from envpack.runtime.parallel.threads import pool, processors


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_the_threads_give_way_and_the_caller_does_not() -> None:
    def own() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = own()
    with pool(2, "test") as threads:
        assert threads.submit(own).result() == max(10, before)
    assert own() == before


def test_there_is_one_at_least_and_no_more_than_affinity_allows() -> None:
    assert 1 <= processors() <= resources.processors()
