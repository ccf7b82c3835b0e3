"""What ``envpack metrics`` says of a deployment whose service runs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from system_trial.workshop import StepError

_PREFIX = "envpack_"


@dataclass(frozen=True)
class Expected:
    """What has to be in the metrics of a deployment.

    Attributes:
        destination: Its path.
        version: The version of its bundle.
        generation: Its current generation.
        state: Its state: ``ok``, or ``untested``.
        runs_from: The generation that the service runs from: ``current``, or ``kept`` after an upgrade.
        starts: How often ``envpack run`` has started its command since the bundle was deployed.
    """

    destination: Path
    version: str
    generation: int
    state: str = "ok"
    runs_from: str = "current"
    starts: int = 0


def metrics_of(destination: Path) -> str:
    """Return the metrics as a host without envpack reads them: with the runtime of the deployment."""
    words = (destination / "bin/python", destination / ".envpack/runtime.pyz", "metrics", destination)
    command = [str(word) for word in words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def stated(text: str, expected: Expected) -> str:
    """Return what Prometheus reads of the deployment in a text; raise StepError if it is not as expected."""
    path = str(expected.destination)
    processes = _value(text, "deployment_processes", path=path, generation=expected.runs_from)
    memory = _value(text, "deployment_resident_memory_bytes", path=path, generation=expected.runs_from)
    starts = _value(text, "command_starts_total", path=path, command="serve")
    found = {
        "the bundle": _value(text, "deployment_info", path=path, version=expected.version) == 1,
        "the state": _value(text, "deployment_state", path=path, state=expected.state) == 1,
        "the generation": _value(text, "deployment_generation", path=path) == expected.generation,
        "the processes": processes > 0,
        "the starts": starts == expected.starts,
    }
    if wrong := [name for name, right in found.items() if not right]:
        raise StepError(f"the metrics do not say {', '.join(wrong)} of {expected}:\n{text}")
    said = f"generation {expected.generation} ({expected.state}), {processes:.0f} process{'es' * (processes != 1)}"
    said += f" ({expected.runs_from}) with {memory / 1e6:.0f} MB"
    return f"{said}, {starts:.0f} start{'s' * (starts != 1)}" if starts else said


def _value(text: str, family: str, **labels: str) -> float:
    """Return the value of the sample that has these labels; 0 if there is none."""
    for found in text_string_to_metric_families(text):
        for sample in found.samples:
            if sample.name == _PREFIX + family and labels.items() <= sample.labels.items():
                return float(sample.value)
    return 0
