"""The text of metrics: what a server that reads it gets is what was written."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from envpack.runtime.metrics.exposition import as_json, exposition
from envpack.runtime.metrics.families import COUNTER, FAMILIES, GAUGE, PREFIX, Sample

UNITS = ("seconds", "bytes", "ratio", "celsius")
OTHER_UNITS = r"(^|_)(percent|milliseconds|ms|minutes|hours|kb|mb|gb|mib|kilobytes|fahrenheit)(_|$)"


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values by family and labels, as Prometheus' own client reads them."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_each_family_has_a_name_that_prometheus_recommends() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z_]*", family.name)
        assert family.type in (GAUGE, COUNTER)
        assert family.name.endswith("_total") == (family.type == COUNTER)
        assert not re.search(OTHER_UNITS, family.name)
        for unit in UNITS:
            assert unit not in family.name.split("_") or family.name.endswith(f"_{unit}")
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in family.labels)
        assert family.help[-1] != "." and "\n" not in family.help and "\\" not in family.help


def test_every_family_is_written_with_its_help_and_type() -> None:
    samples = [Sample(family.name, ("x",) * len(family.labels), 1) for family in FAMILIES]
    read = list(text_string_to_metric_families(exposition(reversed(samples))))
    bare = [PREFIX + family.name.removesuffix("_total") for family in FAMILIES]  # as the parser names counters
    assert [family.name for family in read] == bare
    assert [family.type for family in read] == [family.type for family in FAMILIES]
    assert [family.documentation for family in read] == [f"{family.help}." for family in FAMILIES]
    assert [tuple(family.samples[0].labels) for family in read] == [family.labels for family in FAMILIES]


def test_a_family_without_samples_is_left_out() -> None:
    assert exposition([]) == ""
    assert as_json([]) == []
    assert "gpu" not in exposition([Sample("info", ("1.0",), 1)])


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/opt/envs/demo", "/opt/envs/demo"),
        ('/opt/a "b" \\n', '/opt/a "b" \\n'),
        ("/opt/two\nlines", "/opt/two\nlines"),
        ("/opt/\\", "/opt/\\"),
        ("/opt/é/日本", "/opt/é/日本"),
        ("/opt/{}, ={x}", "/opt/{}, ={x}"),
        ("/opt/\udcff\udc80", "/opt/\\xff\\x80"),  # bytes that are no UTF-8
        ("/opt/\ud800", "/opt/\\ud800"),
        ("/opt/\x1b[2J\r\t\0", "/opt/\\x1b[2J\\x0d\\x09\\x00"),
        ("/opt/\u202e", "/opt/\\u202e"),
        ("", ""),
        ("x" * 5000, "x" * 4096),
    ],
)
def test_a_label_is_read_as_it_was(path: str, read: str) -> None:
    text = exposition([Sample("deployment_generation", (path,), 3)])
    assert len(text.splitlines()) == 3
    assert parsed(text.encode().decode()) == {"envpack_deployment_generation": {(read,): 3}}


def test_two_samples_with_the_same_labels_are_one() -> None:
    """Else a server would refuse all of them."""
    samples = [Sample("deployment_generation", (path,), 1) for path in ("/a\udcff", "/a\\xff")]
    assert parsed(exposition(samples)) == {"envpack_deployment_generation": {("/a\\xff",): 1}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1795758317, "1795758317"),
        (0.25, "0.25"),
        (1e-9, "1e-09"),
        (2**53 - 1, "9007199254740991"),
        (2**80, "1.2089258196146292e+24"),
        (10**400, "+Inf"),
    ],
)
def test_numbers_are_written_as_a_float_can_hold_them(value: float, text: str) -> None:
    written = exposition([Sample("deployment_generation", ("/x",), value)])
    assert written.splitlines()[-1] == f'envpack_deployment_generation{{path="/x"}} {text}'
    assert parsed(written)["envpack_deployment_generation"][("/x",)] == float(text)


def test_the_json_has_the_same_samples() -> None:
    samples = [Sample("info", ("1.0",), 1), Sample("command_starts_total", ("/x", "serve"), 4)]
    assert [(each["name"], each["type"], each["samples"]) for each in as_json(samples)] == [
        ("envpack_info", "gauge", [{"labels": {"version": "1.0"}, "value": 1}]),
        (
            "envpack_command_starts_total",
            "counter",
            [{"labels": {"path": "/x", "command": "serve"}, "value": 4}],
        ),
    ]
