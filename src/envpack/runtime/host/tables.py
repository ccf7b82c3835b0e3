"""The tables in ``data/``: rules as data, each row with its source and the date on which it was looked up."""

from __future__ import annotations

import json
import pkgutil
from functools import lru_cache
from typing import Any, Dict, NamedTuple

from envpack.runtime.host.versions import at_least, compare, major, major_minor, numbers

Row = Dict[str, Any]


@lru_cache(maxsize=None)
def table(file: str, name: str) -> list[Row]:
    """Return the rows of one table: ``table("cuda", "toolkits")``.

    It is read from a folder or from a zip archive, wherever the package was imported from.
    """
    data = pkgutil.get_data(__name__, f"data/{file}.json")
    assert data is not None
    rows: list[Row] = json.loads(data)[name]
    return rows


class Rule(NamedTuple):
    """The rule that decided a verdict: a row of a table, or a rule of envpack, with its source."""

    text: str
    source: str = ""


NO_RULE = Rule("")


def cite(file: str, what: str, row: Row) -> Rule:
    """Return a rule that names the row a verdict used.

    Args:
        file: The table's file in ``data/``, without ".json".
        what: The content of the row in words.
        row: The row, for its source and date.
    """
    return Rule(f"{file}.json: {what}", f"{row['source']} ({row['date']})")


def driver_at_least(driver: str, needed: str) -> bool:
    """Return whether a driver is ``needed`` or newer.

    A driver without a number in its branch (580.00 of Jetson Thor) counts as one of that branch.
    """
    if major(driver) == major(needed) and not any(numbers(driver)[1:]):
        return True
    return at_least(driver, needed)


def minimum_driver(cuda: str) -> Row | None:
    """Return the row with the oldest driver that runs code made with this CUDA version; None when no row applies.

    From CUDA 11 on this is the row of the major version (minor-version compatibility), before that the row of the
    toolkit itself.
    """
    for row in table("cuda", "minor_compatibility"):
        if row["major"] == major(cuda):
            return row
    if 0 < major(cuda) < 11:
        return native_driver(cuda)
    return None


def driver_rule(row: Row | None) -> Rule:
    """Return a rule that names a row of `minimum_driver`, or says that no row covers the version."""
    if row is None:
        return Rule(
            "newer than the tables: a driver runs the CUDA that its libcuda supports, and all earlier versions"
        )
    if "major" in row:
        return cite(
            "cuda", f"minor-version compatibility: CUDA {row['major']}.x needs driver >= {row['driver']}", row
        )
    return cite("cuda", f"CUDA {row['cuda']} needs the driver of its toolkit, >= {row['driver']}", row)


def native_driver(cuda: str) -> Row | None:
    """Return the row of the oldest driver that fully supports this CUDA version; None when no row covers it.

    For a version without an update number, such as "12.6", this is the row of its first release.
    """
    same = [row for row in table("cuda", "toolkits") if major_minor(row["cuda"]) == major_minor(cuda)]
    exact = [row for row in same if len(numbers(cuda)) > 2 and at_least(cuda, row["cuda"])]
    return exact[-1] if exact else same[0] if same else None


def native_toolkit(driver: str) -> Row | None:
    """Return the row of the newest toolkit that this driver fully supports; None when it is older than all."""
    known = [row for row in table("cuda", "toolkits") if driver_at_least(driver, row["driver"])]
    return known[-1] if known else None


def branch_cuda(driver: str) -> str:
    """Return the CUDA version that libcuda of this driver's branch supports, such as "12.4"; "" when unknown."""
    branch = major(driver)
    for row in table("cuda", "branches"):
        if row["branch"] == branch:
            return str(row["cuda"])
    found = [row for row in table("cuda", "toolkits") if major(row["driver"]) == branch]
    return major_minor(found[-1]["cuda"]) if found else ""


def newest_known_driver() -> str:
    """Return the newest driver in the table; newer drivers are judged by rule."""
    return str(table("cuda", "toolkits")[-1]["driver"])


def isa_row(isa: str) -> Row | None:
    """Return the row with the first CUDA version that compiles PTX of this ISA version; None when unknown."""
    rows = table("ptx", "isas")
    if not numbers(isa) or compare(isa, rows[-1]["isa"]) > 0:
        return None
    if compare(isa, rows[0]["isa"]) < 0:
        return rows[0]  # every driver from CUDA 11 on knows what came before
    return next((row for row in rows if compare(row["isa"], isa) == 0), None)


def newest_isa(cuda: str) -> str:
    """Return the newest PTX ISA that a driver of this CUDA version compiles; "" when no row applies."""
    known = [row["isa"] for row in table("ptx", "isas") if at_least(cuda, row["cuda"])]
    return known[-1] if known else ""


def made_isa(cuda: str) -> str:
    """Return the PTX ISA that the compilers of this CUDA version write; "" when no row covers it."""
    rows = table("ptx", "isas")
    return newest_isa(cuda) if at_least(rows[-1]["cuda"], cuda) else ""


def state_row(state: str) -> Row:
    """Return the row that describes a state of `Nvidia`.

    A state that only a newer envpack knows is treated as "error".
    """
    rows = {row["state"]: row for row in table("states", "states")}
    return rows.get(state) or rows["error"]


def retired(compute_capability: str) -> Row | None:
    """Return the row with the last driver branch for an old GPU; None when new drivers still support it."""
    for row in table("arch", "retired"):
        if at_least(compute_capability, row["first"]) and at_least(row["last"], compute_capability):
            return row
    return None


def dropped(compute_capability: str) -> Row | None:
    """Return the row with the first CUDA that has no code for an old GPU; None where every CUDA has."""
    for row in table("arch", "dropped"):
        if compute_capability and at_least(row["last"], compute_capability):
            return row
    return None


def distributions(glibc: str) -> str:
    """Return the first distributions with this glibc or newer: "RHEL 8 and Debian 10"; "" when no row applies."""
    return next((row["names"] for row in table("system", "glibc") if at_least(row["glibc"], glibc)), "")
