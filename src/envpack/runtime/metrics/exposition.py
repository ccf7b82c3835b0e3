"""Prometheus' text format, version 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/ . Pure."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Union

from envpack.runtime.metrics.families import FAMILIES, PREFIX, Family, Sample
from envpack.runtime.report import visible

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LONGEST = 4096
"""Characters of a label's value: a path has no more bytes (PATH_MAX)."""

_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n"}

Value = Union[int, float]


def exposition(samples: Iterable[Sample]) -> str:
    """Return the text of the samples; a family without samples is left out."""
    return "".join(f"{line}\n" for family, found in _by_family(samples) for line in _lines(family, found))


def as_json(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Return the samples for JSON: the families, each with its samples."""
    return [
        {
            "name": PREFIX + family.name,
            "type": family.type,
            "help": family.help,
            "samples": [
                {"labels": dict(zip(family.labels, labels)), "value": value} for labels, value in found.items()
            ],
        }
        for family, found in _by_family(samples)
    ]


def _by_family(samples: Iterable[Sample]) -> Iterator[tuple[Family, dict[tuple[str, ...], Value]]]:
    """Yield the families that have samples, in the order of the table, with each combination of labels once.

    Two samples with the same labels would make a server refuse all of them. Names can become the same only when
    they are shortened, or where one has the escape of a byte that is no UTF-8 in it.
    """
    found: dict[str, dict[tuple[str, ...], Value]] = {}
    for sample in samples:
        found.setdefault(sample.family, {})[tuple(map(_valid, sample.labels))] = sample.value
    for family in FAMILIES:
        if family.name in found:
            yield family, found[family.name]


def _lines(family: Family, samples: dict[tuple[str, ...], Value]) -> Iterator[str]:
    name = PREFIX + family.name
    yield f"# HELP {name} {family.help}."
    yield f"# TYPE {name} {family.type}"
    for labels, value in samples.items():
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in zip(family.labels, labels))
        yield f"{name}{{{pairs}}} {_number(value)}"


def _valid(text: str) -> str:
    """Return a label's value as UTF-8 can express it, without what a terminal would act on."""
    return "".join(char if char.isprintable() or char == "\n" else visible(char) for char in text[:_LONGEST])


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _number(value: Value) -> str:
    """Return a number as Go and Python read it: what a float can't hold, such as 10**400, is infinite."""
    try:
        return str(value) if isinstance(value, int) and abs(value) < 1 << 53 else repr(float(value))
    except OverflowError:
        return "+Inf"
