"""Where bundles are cut, and how their parts are listed."""

from __future__ import annotations

import pytest

from envpack.publish.git_hosts.pieces import cut_sizes, joined


@pytest.mark.parametrize(
    ("blocks", "sizes"),
    [
        ([10], [10]),
        ([60, 40], [100]),
        ([60, 41], [60, 41]),
        ([60, 40, 1], [100, 1]),
        ([30, 250, 20], [30, 100, 100, 70]),
        ([100, 100], [100, 100]),
        ([250, 50, 60], [100, 100, 100, 60]),
        ([], []),
    ],
)
def test_parts_begin_where_blocks_begin_if_that_is_possible(blocks: list[int], sizes: list[int]) -> None:
    assert cut_sizes(blocks, 100) == sizes


def test_parts_are_one_bundle_when_their_list_is_there() -> None:
    parts = {"a.tar.gz.001": 5, "a.tar.gz.002": 2, "a.tar.gz.sha256": 80, "b.tar.gz": 1}
    assert joined(parts) == (parts, set())
    whole = {"a.tar.gz": 7, "a.tar.gz.sha256": 80, "b.tar.gz": 1}
    assert joined({**parts, "a.tar.gz.parts.json": 300}) == (whole, {"a.tar.gz"})
    assert joined({"b.tar.gz": 1, "b.tar.gz.parts.json": 3})[1] == set()
