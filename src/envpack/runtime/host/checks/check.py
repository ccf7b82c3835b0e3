"""One check of a host: a requirement, and its comparison with the facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator

from envpack.runtime.host.checks.verdict import Verdict
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.minimum import Form
from envpack.runtime.host.requirements import Requirements

HOST, SPACE, GPU = "host", "space", "gpu"


@dataclass(frozen=True)
class Check:
    """A check of one requirement.

    The names of requirements, the keys of a spec's ``requires``, and the tables in docs/ follow from the checks in
    `envpack.runtime.host.checks.registry.CHECKS`.

    Attributes:
        name: The name of the requirement, such as "glibc".
        verdicts: Compare the requirement with a host, and yield the verdicts, each with its remedy; none where the
            bundle has no such requirement.
        compares: What is compared, for docs/host-requirements.md.
        needs: The fields of `DetectedNeeds` that the check reads.
        facts: The fields of `HostFacts` that the check reads.
        form: The form in which a spec states the requirement; None when it can't.
        scope: HOST; SPACE for what a deployment that exists needs no longer; GPU for what ``--gpu`` is about.
    """

    name: str
    verdicts: Callable[[Requirements, HostFacts], Iterator[Verdict]]
    compares: str
    needs: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    form: Form | None = None
    scope: str = HOST
