"""The host check, shared by `envpack check`, a deployment and an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterable, Mapping

from envpack.runtime.errors import FormatError, HostError, UsageError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.layout import DEPLOYMENT_PATH
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.host.allowances import OTHER_NAMES
from envpack.runtime.host.checks.evaluate import GPU_MODES, allowing, evaluate, needs_gpu_facts
from envpack.runtime.host.checks.libraries import wanted_libraries
from envpack.runtime.host.checks.registry import REQUIREMENTS, wanted_of
from envpack.runtime.host.checks.verdict import FAILED, Verdict
from envpack.runtime.host.detect.gather import gather
from envpack.runtime.host.facts import HostFacts, facts_from_json
from envpack.runtime.tree.head import read_manifest

_WHAT_TO_GIVE = "Give the path of a bundle, of a deployment, or of a conda environment."


@dataclass(frozen=True)
class Policy:
    """The policy of a host check; make one with `parse_policy`.

    Attributes:
        gpu: One of `GPU_MODES`.
        allow: Names of requirements that may fail, and of OTHER_NAMES.
        check: Whether a deployment checks the host at all.
    """

    gpu: str = "required"
    allow: tuple[str, ...] = ()
    check: bool = True


def parse_policy(gpu: str = "required", allow: Iterable[str] = (), check: bool = True) -> Policy:
    """Return the policy that command-line words describe.

    Args:
        gpu: One of `GPU_MODES`.
        allow: Names of requirements that may fail; an item may hold several, separated by commas.
        check: Whether a deployment checks the host at all.

    Raises:
        UsageError: A word is unknown.
    """
    names = tuple(name.strip().replace("-", "_") for item in allow for name in item.split(",") if name.strip())
    if gpu not in GPU_MODES:
        raise UsageError(f"unknown GPU mode {gpu!r}", hint=f"Use one of: {', '.join(GPU_MODES)}.")
    unknown = [name for name in names if name not in (*REQUIREMENTS, *OTHER_NAMES)]
    if unknown:
        raise UsageError(
            f"unknown requirement {unknown[0]!r}",
            hint=f"Use one of: {', '.join(REQUIREMENTS)}, root-home, parent-owner, room.",
        )
    return Policy(gpu, tuple(dict.fromkeys(names)), check)


@dataclass(frozen=True)
class CheckReport:
    """The result of a comparison of an environment with a host.

    Attributes:
        path: The bundle or the directory, as text.
        name: Name of the environment.
        version: Version of the environment, or "".
        host: Name of the host, where the facts of another host were given; otherwise "".
        gpu: The GPU mode of the check, one of `GPU_MODES`.
        verdicts: One verdict for each requirement.
        kind: "bundle", "deployment", "unpacked" (by tar: it has a manifest and was not deployed) or "environment"
            (not made by envpack; it has no version).
    """

    path: str
    name: str
    version: str
    host: str
    gpu: str
    verdicts: tuple[Verdict, ...]
    kind: str = "bundle"

    @property
    def title(self) -> str:
        """The title of the environment, such as "demo 1.0"."""
        return f"{self.name} {self.version}".rstrip()

    def of(self, verdict: str) -> list[Verdict]:
        """Return the verdicts of one kind, such as "failed"."""
        return [item for item in self.verdicts if item.verdict == verdict]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.check/1``."""
        return {**vars(self), "verdicts": [item.as_dict() for item in self.verdicts]}

    def require(self, hint: str, *, with_result: bool = False) -> None:
        """Raise HostError when a requirement failed, with the message of each that did.

        Args:
            hint: The error's hint; {names} in it is replaced by the names of the failed requirements.
            with_result: Whether the error has the verdicts as its ``result``, for the JSON envelope of a check.
        """
        failed = self.of(FAILED)
        if failed:
            count = "a requirement is" if len(failed) == 1 else f"{len(failed)} requirements are"
            error = HostError(
                f"{self.host or 'this host'} can't run {self.title}: {count} not met",
                hint=hint.format(names=",".join(dict.fromkeys(item.requirement for item in failed))),
                details=[item.message for item in failed],
            )
            error.result = self.as_dict() if with_result else None
            raise error


def check_manifest(
    manifest: Manifest, path: str, facts: HostFacts, policy: Policy, *, named: bool = False, deployed: bool = False
) -> CheckReport:
    """Return the verdicts for a manifest; pure, without I/O.

    Args:
        manifest: The manifest to check.
        path: The bundle or directory that it comes from, as text.
        facts: Facts of the host.
        policy: Policy of the check.
        named: Whether the facts are those of another host, so that the result names it.
        deployed: Whether the environment is on its disk already; disk space is not checked then.
    """
    found = evaluate(wanted_of(manifest), facts, gpu=policy.gpu, deployed=deployed)
    verdicts = tuple(allowing(found, policy.allow))
    host = facts.hostname if named else ""
    return CheckReport(path, manifest.name, manifest.version, host, policy.gpu, verdicts)


def check(
    path: Path | str,
    *,
    facts: HostFacts | None = None,
    gpu: str | None = None,
    allow: Iterable[str] = (),
    destination: Path = Path(),
    decoders: Mapping[str, Decoder] = STANDARD,
    start_cuda: bool = False,
) -> CheckReport:
    """Compare a bundle, or a deployment, with a host.

    Args:
        path: Path or URL of a bundle, or the directory of a deployment.
        facts: Facts of the host (default: those of this host).
        gpu: One of `GPU_MODES` (default: the mode that a deployment was made with, else "required").
        allow: Names of requirements that may fail, in addition to those that a deployment was made with.
        destination: Directory where a bundle would be deployed; its disk is checked.
        decoders: Decoders by codec name.
        start_cuda: Whether to initialize CUDA on this host, if the bundle needs it.

    Raises:
        FormatError: ``path`` is neither a bundle nor a deployment.
        IntegrityError: ``path`` is damaged.
        UsageError: A word in ``gpu`` or ``allow`` is unknown.
    """
    if not isinstance(path, Path):
        from envpack.runtime.transport.open import local_path  # an activation checks a path

        path = local_path(path)
    root = path if isinstance(path, Path) and is_folder(path, follow=True) else None
    if root is not None:
        manifest, recorded, name = read_manifest(root, hint=_WHAT_TO_GIVE), recorded_policy(root), str(root)
    else:
        from envpack.runtime.reader.bundle import open_bundle  # an activation checks deployments only

        recorded = Policy()
        with open_bundle(path, decoders) as bundle:
            manifest, name = bundle.manifest, bundle.name
    policy = parse_policy(gpu or recorded.gpu, (*recorded.allow, *allow))
    host_facts = facts if facts is not None else facts_for(manifest, policy, destination, start_cuda)
    report = check_manifest(manifest, name, host_facts, policy, named=facts is not None, deployed=root is not None)
    if root is None:
        return report
    return replace(report, kind="deployment" if (root / DEPLOYMENT_PATH).is_file() else "unpacked")


def facts_for(
    manifest: Manifest, policy: Policy, destination: Path = Path(), start_cuda: bool = False
) -> HostFacts:
    """Return this host's facts, as far as the manifest requires them: the detection of GPUs takes longest.

    Args:
        manifest: the manifest of the bundle.
        policy: the policy of the check.
        destination: the path for which free disk space is measured.
        start_cuda: whether to initialize CUDA, if the bundle needs it.
    """
    wanted = wanted_of(manifest)
    gpu, libraries = needs_gpu_facts(wanted, policy.gpu), wanted_libraries(wanted)
    return gather(destination, gpu=gpu, libraries=libraries, start_cuda=start_cuda)


def recorded_policy(root: Path) -> Policy:
    """Return the policy that a deployment was made with; the default policy where no readable one is recorded."""
    try:
        record = json_value(read_file(root / DEPLOYMENT_PATH))["check"]
        return parse_policy(record["gpu"], record["allow"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError):
        return Policy()


def facts_from_file(path: Path) -> HostFacts:
    """Read host facts from a file that holds the output of ``envpack doctor --json``.

    Raises:
        FormatError: The file can't be read, or holds anything else.
    """
    try:
        document = json_value(read_file(path, stream=True))
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}") from None
    except ValueError as problem:
        raise FormatError(f"{path}: not valid JSON ({problem})") from None
    return facts_from_json(document, str(path))
