#!/usr/bin/env python3
"""Take systems of envspecs/ through their whole life on this machine, with their services in examples/systems/.

Builds, packs, checks, deploys and tests each, starts its service with a tiny model on the CPU, queries it, changes
its code while it runs, rolls back and stops it; the figures go into the table of envspecs/README.md. Channels and
bundles are kept for the next run.

    scripts/systems.py build/systems pytorch-serving --python /usr/bin/python3.10
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from system_trial.known import SYSTEMS
from system_trial.server import serving
from system_trial.service import Service
from system_trial.workshop import REPOSITORY, Figures, StepError, Workshop, size

TABLE = REPOSITORY / "envspecs/README.md"
HEADINGS = (
    "system",
    "bundle",
    "installed",
    "build",
    "deploy and tests",
    "check",
    "ready",
    "answer",
    "code change: read, upgrade",
    "upgrade, rollback, stop",
    "machine",
)


def live(name: str, workshop: Workshop, figures: Figures) -> None:
    """Take one system through its life; raises StepError at the first step that does not do what it should."""
    system = SYSTEMS[name]
    base = workshop.build(name, system, figures)
    destination = workshop.root / name
    work = workshop.root / f"run-{name}"
    shutil.rmtree(work, ignore_errors=True)
    if destination.exists():
        workshop.envpack("remove", destination)

    source = Path(shutil.copytree(REPOSITORY / "examples/systems" / name, work / "source"))
    first = workshop.release(base, source, work / "first.tar.zst", "1")
    manifest = workshop.envpack("inspect", first)["result"]
    workshop.check(first, figures)
    deployed = workshop.deploy(first, destination)
    first.unlink()
    tests = len(deployed["tests"])
    figures.add("deploy and tests", f"{deployed['seconds']:.0f} s with {tests} tests")

    model = work / system.model
    make_model = [*workshop.program, "run", str(destination), "--", "python", "app/make_model.py", str(model)]
    subprocess.run(make_model, cwd=destination, check=True)
    with Service(workshop, destination, system, model, manifest) as service:
        figures.add("ready", f"{service.ready_seconds:.1f} s")
        figures.add("answer", service.ask("1"))
        second = workshop.release(base, source, work / "second.tar.zst", "2")
        with serving(work) as url:  # a server, as for other nodes: what a node has is not read again
            upgraded = workshop.deploy(f"{url}{second.name}", destination, "--no-test")
        second.unlink()
        read = f"{size(upgraded['read'])} of {size(upgraded['stored'])}"
        figures.add("code change: read, upgrade", f"{read}, {upgraded['seconds']:.1f} s")
        service.ask("1")  # what runs goes on as it began
    with Service(workshop, destination, system, model, manifest) as service:
        service.ask("2")
    workshop.envpack("rollback", destination)
    with Service(workshop, destination, system, model, manifest) as service:
        service.ask("1")
    figures.add("machine", f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.0f}, {workshop.gpu()}")
    ended = "by SIGTERM" if service.status == -signal.SIGTERM else f"exit status {service.status}"
    figures.add("upgrade, rollback, stop", f"yes, yes, {ended}")


def write_table(rows: Mapping[str, Mapping[str, str]]) -> None:
    """Put the rows into the table, in place of earlier ones of the same systems."""
    text = TABLE.read_text(encoding="utf-8")
    begin, end = text.index("| system |"), text.index("<!-- end of the table -->")
    lines = {line.split("|")[1].strip(): line for line in text[begin:end].splitlines()[2:]}
    for name, cells in rows.items():
        lines[name] = "| " + " | ".join([name, *(cells.get(heading, "") for heading in HEADINGS[1:])]) + " |"
    head = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    table = "\n".join([*head, *(lines[name] for name in SYSTEMS if name in lines)])
    TABLE.write_text(f"{text[:begin]}{table}\n{text[end:]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="the folder for the channel, the bundles and the deployments")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SYSTEMS)} (default: all)")
    parser.add_argument(
        "--python", type=Path, required=True, help="a CPython 3.10, the version that the specs name"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_intermixed_args()
    if unknown := set(options.names) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    workshop = Workshop(options.root.absolute(), options.python, options.jobs)
    workshop.root.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, str]] = {}
    failed = False
    for name in options.names or SYSTEMS:
        print(name, flush=True)
        figures = Figures()
        try:
            live(name, workshop, figures)
        except (StepError, subprocess.CalledProcessError) as error:
            failed = True
            print(f"{name} failed: {error}", file=sys.stderr)
            continue
        rows[name] = figures.cells
        write_table({name: figures.cells})
    return failed


if __name__ == "__main__":
    sys.exit(main())
