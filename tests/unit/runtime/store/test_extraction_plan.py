"""The sources of a bundle's segments when it is extracted through a store."""

from __future__ import annotations

from envpack.runtime.format.manifest import Segment
from envpack.runtime.store.extraction import Action, actions

SEGMENTS = [Segment(id, ()) for id in ("conda:a", "conda:b", "empty", "pypi:c", "end")]
KEYS = {"conda:a": "1", "conda:b": "2", "pypi:c": "3"}


def chosen(ready: set[str], damaged: set[str]) -> list[tuple[str, Action]]:
    return [(segment.id, action) for segment, action in actions(SEGMENTS, KEYS, ready, damaged)]


def test_each_segment_with_paths_has_an_action_in_the_order_of_the_bundle() -> None:
    assert chosen(set(), set()) == [(id, Action.INGEST) for id in KEYS]


def test_what_the_store_has_is_placed_and_what_is_damaged_there_is_unpacked() -> None:
    assert chosen({"2"}, {"3"}) == [
        ("conda:a", Action.INGEST),
        ("conda:b", Action.PLACE),
        ("pypi:c", Action.UNPACK),
    ]
