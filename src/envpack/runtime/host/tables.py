"""The tables in ``data/``: rules as data, each row with its source and the date it was looked up."""

from __future__ import annotations

import json
import pkgutil
from functools import lru_cache
from typing import Any, Dict, NamedTuple

from envpack.runtime.host.versions import at_least, compare, major, major_minor, numbers

Row = Dict[str, Any]


@lru_cache(maxsize=None)
def table(file: str, name: str) -> list[Row]:
    """The rows of one table: ``table("cuda", "toolkits")``; from a folder and from a zip alike."""
    data = pkgutil.get_data(__name__, f"data/{file}.json")
    assert data is not None
    rows: list[Row] = json.loads(data)[name]
    return rows


class Rule(NamedTuple):
    """What decided a verdict: a row of a table, or a rule of ours, and where that is from."""

    text: str
    source: str = ""


NO_RULE = Rule("")


def cite(file: str, what: str, row: Row) -> Rule:
    """How a verdict names the row it used: file and what the row says, source and date."""
    return Rule(f"{file}.json: {what}", f"{row['source']} ({row['date']})")


def minimum_driver(cuda: str) -> Row | None:
    """The row that says from which driver on code made with this CUDA runs; None where no row reaches.

    From CUDA 11 on that is the major version's (minor-version compatibility), before the toolkit's own.
    """
    for row in table("cuda", "minor_compatibility"):
        if row["major"] == major(cuda):
            return row
    if 0 < major(cuda) < 11:
        return native_driver(cuda)
    return None


def driver_rule(row: Row | None) -> Rule:
    """How a verdict names a row of `minimum_driver`, or that none reaches."""
    if row is None:
        return Rule("newer than the tables: a driver runs the CUDA that its libcuda speaks, and all before it")
    if "major" in row:
        return cite(
            "cuda", f"minor-version compatibility: CUDA {row['major']}.x runs from {row['driver']} on", row
        )
    return cite("cuda", f"CUDA {row['cuda']} runs from its toolkit's driver on, {row['driver']}", row)


def native_driver(cuda: str) -> Row | None:
    """The row of the oldest driver that speaks all of this CUDA version (its first update, for "12.6")."""
    same = [row for row in table("cuda", "toolkits") if major_minor(row["cuda"]) == major_minor(cuda)]
    exact = [row for row in same if len(numbers(cuda)) > 2 and at_least(cuda, row["cuda"])]
    return exact[-1] if exact else same[0] if same else None


def native_toolkit(driver: str) -> Row | None:
    """The row of the newest toolkit that this driver speaks all of."""
    known = [row for row in table("cuda", "toolkits") if at_least(driver, row["driver"])]
    return known[-1] if known else None


def branch_cuda(driver: str) -> str:
    """The CUDA version that libcuda of this driver's branch speaks, such as "12.4"; "" for branches not known."""
    branch = major(driver)
    for row in table("cuda", "branches"):
        if row["branch"] == branch:
            return str(row["cuda"])
    found = [row for row in table("cuda", "toolkits") if major(row["driver"]) == branch]
    return major_minor(found[-1]["cuda"]) if found else ""


def newest_known_driver() -> str:
    """The newest driver in the table; what is newer is judged by rule."""
    return str(table("cuda", "toolkits")[-1]["driver"])


def isa_row(isa: str) -> Row | None:
    """The row that says which CUDA's compilers take PTX of this ISA version first; None where no row reaches."""
    rows = table("ptx", "isas")
    if not numbers(isa) or compare(isa, rows[-1]["isa"]) > 0:
        return None
    if compare(isa, rows[0]["isa"]) < 0:
        return rows[0]  # every driver from CUDA 11 on knows what came before
    return next((row for row in rows if compare(row["isa"], isa) == 0), None)


def newest_isa(cuda: str) -> str:
    """The newest PTX ISA that a driver of this CUDA version compiles; "" when it is older than the table."""
    known = [row["isa"] for row in table("ptx", "isas") if at_least(cuda, row["cuda"])]
    return known[-1] if known else ""


def made_isa(cuda: str) -> str:
    """The PTX ISA that this CUDA version's own compilers make; "" where no row reaches."""
    rows = table("ptx", "isas")
    return newest_isa(cuda) if at_least(rows[-1]["cuda"], cuda) else ""


def state_row(state: str) -> Row:
    """What a state of `Nvidia` means; a state of a newer envpack is an error of which nothing more is known."""
    rows = {row["state"]: row for row in table("states", "states")}
    return rows.get(state) or rows["error"]


def retired(compute_capability: str) -> Row | None:
    """The row that names the last driver branch for an old GPU; None for one that new drivers are made for."""
    for row in table("arch", "retired"):
        if at_least(compute_capability, row["first"]) and at_least(row["last"], compute_capability):
            return row
    return None


def distributions(glibc: str) -> str:
    """The first distributions with this glibc or a newer one: "RHEL 8 and Debian 10"; "" beyond the table."""
    return next((row["names"] for row in table("system", "glibc") if at_least(row["glibc"], glibc)), "")
