"""`envpack check`, the check before a deployment and the one of an activation: one call for all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterable, Mapping

from envpack.runtime.deployment.protected_paths import ROOT_HOME
from envpack.runtime.errors import FormatError, HostError, UsageError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.layout import DEPLOYMENT_PATH
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.host.checks.evaluate import GPU_MODES, allowing, evaluate, needs_gpu_facts
from envpack.runtime.host.checks.verdict import FAILED, REQUIREMENTS, UNKNOWN, WARNING, Verdict
from envpack.runtime.host.detect.gather import gather
from envpack.runtime.host.facts import HostFacts, facts_from_json
from envpack.runtime.host.requirements import wanted_of
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from envpack.runtime.transport.open import local_path
from envpack.runtime.tree.head import read_manifest


@dataclass(frozen=True)
class Policy:
    """What is asked of a host. ``gpu``: one of `GPU_MODES`; ``allow``: requirements that may fail, and
    ROOT_HOME; ``check``: whether a deployment checks at all. Make one with `policy`."""

    gpu: str = "required"
    allow: tuple[str, ...] = ()
    check: bool = True


def policy(gpu: str = "required", allow: Iterable[str] = (), check: bool = True) -> Policy:
    """A policy from words of a command line (``allow`` may hold commas); UsageError for words nobody knows."""
    names = tuple(name.strip().replace("-", "_") for item in allow for name in item.split(",") if name.strip())
    if gpu not in GPU_MODES:
        raise UsageError(f"{gpu!r} is no way to treat GPUs", hint=f"There are: {', '.join(GPU_MODES)}.")
    unknown = [name for name in names if name not in (*REQUIREMENTS, ROOT_HOME)]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is no requirement that could be allowed to fail",
            hint=f"There are: {', '.join(REQUIREMENTS)}, root-home.",
        )
    return Policy(gpu, tuple(dict.fromkeys(names)), check)


@dataclass(frozen=True)
class Examined:
    """An environment compared with a host. ``kind``: "bundle", "deployment", "unpacked" (by tar: there is a
    manifest, and nobody deployed it) or "environment" (which envpack did not make; it has no version)."""

    path: str
    name: str
    version: str
    host: str
    gpu: str
    verdicts: tuple[Verdict, ...]
    kind: str = "bundle"

    @property
    def title(self) -> str:
        """What to call it: "demo 1.0"."""
        return f"{self.name} {self.version}".rstrip()

    def of(self, verdict: str) -> list[Verdict]:
        """The verdicts of one kind, such as "failed"."""
        return [item for item in self.verdicts if item.verdict == verdict]

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.check/1``."""
        return {**vars(self), "verdicts": [item.as_dict() for item in self.verdicts]}

    def require(self, hint: str) -> None:
        """Raises HostError with every failed requirement and its remedy; ``hint`` gets their names for {names}."""
        failed = self.of(FAILED)
        if failed:
            count = "a requirement is" if len(failed) == 1 else f"{len(failed)} requirements are"
            raise HostError(
                f"{self.host or 'this host'} can't run {self.title}: {count} not met",
                hint=hint.format(names=",".join(dict.fromkeys(item.requirement for item in failed))),
                details=[item.message for item in failed],
            )


def examine_manifest(
    manifest: Manifest, path: str, facts: HostFacts, asked: Policy, *, named: bool = False, deployed: bool = False
) -> Examined:
    """The verdicts on a manifest. ``named``: the facts are another host's, whose name is told then; ``deployed``:
    disk is not asked for. Pure."""
    found = evaluate(wanted_of(manifest), facts, gpu=asked.gpu, deployed=deployed)
    verdicts = tuple(allowing(found, asked.allow))
    host = facts.hostname if named else ""
    return Examined(path, manifest.name, manifest.version, host, asked.gpu, verdicts)


def examine(
    path: Path | str,
    *,
    facts: HostFacts | None = None,
    gpu: str | None = None,
    allow: Iterable[str] = (),
    destination: Path = Path(),
    decoders: Mapping[str, Decoder] = STANDARD,
) -> Examined:
    """Compares a bundle, at a path or URL, or the deployment in a folder, with ``facts`` (default: this host's).

    ``gpu``: one of `GPU_MODES`, by default what a deployment was made with, else "required"; ``allow``: names,
    beside those a deployment was made with; ``destination``: where a bundle would go. Raises FormatError or
    IntegrityError for what is neither, UsageError for unknown words.
    """
    path = local_path(path)
    root = path if isinstance(path, Path) and path.is_dir() else None
    if root is not None:
        manifest, recorded, name = read_manifest(root), recorded_policy(root), str(root)
    else:
        recorded = Policy()
        with open_bundle(path, decoders) as bundle:
            manifest, name = bundle.manifest, bundle.name
    asked = policy(gpu or recorded.gpu, (*recorded.allow, *allow))
    mine = facts if facts is not None else facts_for(manifest, asked, destination)
    examined = examine_manifest(manifest, name, mine, asked, named=facts is not None, deployed=root is not None)
    if root is None:
        return examined
    return replace(examined, kind="deployment" if (root / DEPLOYMENT_PATH).is_file() else "unpacked")


def facts_for(manifest: Manifest, asked: Policy, destination: Path = Path()) -> HostFacts:
    """This host's facts, as far as the manifest asks for them: looking at GPUs takes longest."""
    return gather(destination, gpu=needs_gpu_facts(wanted_of(manifest), asked.gpu))


def check_before(
    manifest: Manifest, bundle: str, destination: Path, asked: Policy, reporter: Reporter
) -> dict[str, Any]:
    """The check before a deployment: raises HostError, or warns and returns what the deployment records of it.

    Whether the disk has room is asked here only when the spec states how much it takes.
    """
    record: dict[str, Any] = {"check": asked.check, "gpu": asked.gpu, "allow": list(asked.allow), "overridden": []}
    if not asked.check:
        return record
    facts = facts_for(manifest, asked, destination)
    examined = examine_manifest(manifest, bundle, facts, asked, deployed="disk" not in manifest.requires)
    examined.require("Deploy it all the same with --allow {names}; 'envpack check BUNDLE' shows everything.")
    for item in examined.of(WARNING):
        reporter.warn(item.message)
    for item in examined.of(UNKNOWN):
        if item.remedy:
            reporter.note(item.message)
    record["overridden"] = [item.requirement for item in examined.verdicts if item.allowed]
    return record


def recorded_policy(root: Path) -> Policy:
    """What a deployment was made with; the default where nothing, or nothing readable, is recorded."""
    try:
        record = json.loads((root / DEPLOYMENT_PATH).read_text(encoding="utf-8"))["check"]
        return policy(record["gpu"], record["allow"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError):
        return Policy()


def facts_from_file(path: Path) -> HostFacts:
    """Facts out of a file, as ``envpack doctor --json`` prints them; FormatError for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}") from None
    except ValueError as problem:
        raise FormatError(f"{path}: not valid JSON ({problem})") from None
    return facts_from_json(document, str(path))
