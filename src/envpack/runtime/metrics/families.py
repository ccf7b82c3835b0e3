"""The metrics that envpack exports: one row for each family, and the sample, one value of a family.

Names have the base unit as their suffix, and counters end in ``_total``:
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from typing import NamedTuple

GAUGE, COUNTER = "gauge", "counter"


class Family(NamedTuple):
    """A family of metrics.

    Attributes:
        name: Its name, without the prefix ``envpack_``.
        type: `GAUGE` or `COUNTER`.
        labels: The names of its labels.
        help: What its value is, in one sentence without the full stop.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


class Sample(NamedTuple):
    """One value of a family.

    Attributes:
        family: The name of the family, as in `Family`.
        labels: The values of its labels, in the family's order.
        value: The value; finite.
    """

    family: str
    labels: tuple[str, ...]
    value: int | float


PREFIX = "envpack_"

_PATH = ("path",)
_TREE = ("path", "generation")
_COMMAND = ("path", "command")
_GPU = ("uuid", "index", "name")

FAMILIES = (
    Family("info", GAUGE, ("version",), "1, with the version of envpack that wrote these metrics"),
    Family(
        "deployment_state",
        GAUGE,
        ("path", "state"),
        "1 for the state of the deployment, 0 for the others: ok, untested, not settled, unreadable, missing",
    ),
    Family(
        "deployment_info",
        GAUGE,
        ("path", "name", "version", "manifest_sha256"),
        "1, with the name, the version and the digest of the bundle that is deployed",
    ),
    Family("deployment_generation", GAUGE, _PATH, "The current generation; 0 for a tree that plain tar unpacked"),
    Family("deployment_kept_generations", GAUGE, _PATH, "The number of previous generations that still exist"),
    Family(
        "deployment_deployed_timestamp_seconds",
        GAUGE,
        _PATH,
        "When the current generation was deployed, in seconds since 1970",
    ),
    Family("deployment_size_bytes", GAUGE, _PATH, "Size of the files of the bundle, unpacked"),
    Family(
        "deployment_host_check",
        GAUGE,
        ("path", "result"),
        "1 for the result of the last check of this host, 0 for the others: passed, allowed, not checked",
    ),
    Family(
        "deployment_host_check_timestamp_seconds",
        GAUGE,
        _PATH,
        "When this host was last checked, by a deployment or an activation, in seconds since 1970",
    ),
    Family(
        "deployment_processes",
        GAUGE,
        _TREE,
        "Processes that run a program or use a library of the deployment: of its current generation, of one that "
        "is kept, or of one that is gone",
    ),
    Family(
        "deployment_resident_memory_bytes",
        GAUGE,
        _TREE,
        "Resident memory of these processes; memory that several of them share counts for each",
    ),
    Family("deployment_gpu_processes", GAUGE, ("path", "uuid"), "Processes of the deployment that use a GPU"),
    Family(
        "deployment_gpu_memory_used_bytes",
        GAUGE,
        ("path", "uuid"),
        "Memory of a GPU that processes of the deployment use",
    ),
    Family("command_starts_total", COUNTER, _COMMAND, "How often 'envpack run' has started the command"),
    Family(
        "command_last_start_timestamp_seconds",
        GAUGE,
        _COMMAND,
        "When 'envpack run' started the command last, in seconds since 1970",
    ),
    Family(
        "command_ready_seconds",
        GAUGE,
        _COMMAND,
        "Seconds from the last start of the command until it was ready, where 'envpack run' waited for that",
    ),
    Family("gpu_up", GAUGE, _GPU, "1 if the driver can use the GPU, 0 if it can't, as after an error of the GPU"),
    Family(
        "gpu_utilization_ratio", GAUGE, _GPU, "Share of the last sampling period in which the GPU was busy, 0 to 1"
    ),
    Family("gpu_memory_used_bytes", GAUGE, _GPU, "Memory of the GPU that is in use"),
    Family("gpu_memory_total_bytes", GAUGE, _GPU, "Memory of the GPU"),
    Family("gpu_temperature_celsius", GAUGE, _GPU, "Temperature of the GPU"),
    Family("gpu_processes", GAUGE, _GPU, "Processes that compute on the GPU, those of no deployment included"),
)
"""Every family, in the order in which they are written."""
