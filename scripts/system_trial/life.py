"""The life of a system: built, deployed, started, watched, upgraded while it runs, rolled back, stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from system_trial.known import PICTURE, System, changed
from system_trial.metrics import Expected, metrics_of, stated
from system_trial.page import video_of_page
from system_trial.server import serving
from system_trial.service import Service
from system_trial.workshop import REPOSITORY, Built, Figures, StepError, Workshop, size


def live(name: str, system: System, workshop: Workshop, figures: Figures) -> None:
    """Take one system through its life; raises StepError at the first step that does not do what it should."""
    first, second = _build(name, system, workshop, figures)
    trial = _Trial(name, system, workshop, figures)
    trial.deploy(first.bundle)

    with trial.service() as service:
        figures.add("ready", f"{service.ready_seconds:.1f} s")
        figures.add("answer", service.ask("1"))
        figures.add("metrics", trial.metrics(service, 1))
        if system.page:
            figures.add("page", video_of_page(service.url, PICTURE, trial.work))
        figures.add("code change", trial.upgrade(first.bundle, "2"))
        service.ask("1")  # what runs goes on as it began
        figures.add("metrics", "after an upgrade: " + trial.metrics(service, 2, "untested", "kept"))
    with trial.service() as service:
        service.ask("2")
        figures.add("package change", f"{system.change[1]}: built in {second.seconds}")
        figures.add("package change", trial.upgrade(second.bundle, "3"))
        service.ask("2")
    with trial.service() as service:
        service.ask("3")
        trial.require_package(system.change[1])
    workshop.envpack("rollback", trial.destination)
    with trial.service() as service:
        service.ask("2")
        trial.require_package(system.change[0])
    figures.add("upgrades, rollback, stop", f"yes, yes, {service.ended()}")
    figures.add("machine", f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.0f}, {workshop.gpu()}")


def _build(name: str, system: System, workshop: Workshop, figures: Figures) -> tuple[Built, Built]:
    """Build the spec, and the spec with one other package, as for its next release."""
    spec = (REPOSITORY / f"envspecs/{name}.yml").read_text(encoding="utf-8")
    channel = workshop.make_channel(name, system)
    first = workshop.build(name, spec, channel)
    result = first.result
    figures.add("bundle", size(result["file_size"]))
    figures.add("installed", f"{size(result['size'])} in {result['files']:,} files, {result['packages']} packages")
    figures.add("build", first.seconds)
    return first, workshop.build(f"{name}-changed", changed(spec, system.change), channel)


@dataclass
class _Trial:
    """The deployment of a system, and what is made for it."""

    name: str
    system: System
    workshop: Workshop
    figures: Figures

    def __post_init__(self) -> None:
        self.destination = self.workshop.root / self.name
        self.work = self.workshop.root / f"run-{self.name}"
        self.model = self.work / self.system.model
        shutil.rmtree(self.work, ignore_errors=True)
        if self.destination.exists():
            self.workshop.envpack("remove", self.destination, "--force")  # services write there
        self.source = Path(shutil.copytree(REPOSITORY / "examples/systems" / self.name, self.work / "source"))

    def deploy(self, base: Path) -> None:
        """Deploy the first release, with the tests of its spec, and make the model."""
        bundle = self.workshop.release(base, self.source, self.work / "1.tar.zst", "1")
        self.manifest = self.workshop.envpack("inspect", bundle)["result"]
        self.workshop.check(bundle, self.figures)
        deployed = self.workshop.deploy(bundle, self.destination)
        bundle.unlink()
        self.figures.add("deploy and tests", f"{deployed['seconds']:.0f} s with {len(deployed['tests'])} tests")
        self._run("python", "app/make_model.py", str(self.model))

    def upgrade(self, base: Path, release: str) -> str:
        """Deploy a release from a web server, as other nodes do; returns what was read of it, and the time."""
        bundle = self.workshop.release(base, self.source, self.work / f"{release}.tar.zst", release)
        with serving(self.work) as server:
            done = self.workshop.deploy(f"{server.url}{bundle.name}", self.destination, "--no-test")
        all_of_it = bundle.stat().st_size
        bundle.unlink()
        read = f"{size(done['read'])} and a head of {size(server.sent - done['read'])} of {size(all_of_it)} read"
        return f"{read}, {done['seconds']:.1f} s"

    def service(self) -> Service:
        return Service(self.workshop, self.destination, self.system, self.model, self.manifest)

    def metrics(self, service: Service, generation: int, state: str = "ok", runs_from: str = "current") -> str:
        """Return what the metrics say; a new generation has no starts of its own yet."""
        starts = int(service.named and runs_from == "current")
        expected = Expected(self.destination, f"1.{generation}", generation, state, runs_from, starts)
        return stated(metrics_of(self.destination), expected)

    def require_package(self, pin: str) -> None:
        """Raise StepError if the deployment does not have the package of ``name==version``."""
        name, _, version = pin.partition("==")
        found = self._run("python", "-c", f"from importlib.metadata import version; print(version({name!r}))")
        if found.strip() != version:
            raise StepError(f"{pin} was to be deployed, and {found.strip()} is")

    def _run(self, *command: str) -> str:
        """Run a program with the environment activated, and return what it prints."""
        words = [*self.workshop.program, "run", str(self.destination), "--", *command]
        return subprocess.run(words, cwd=self.destination, stdout=subprocess.PIPE, text=True, check=True).stdout
