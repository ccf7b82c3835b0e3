"""The vulnerabilities of environments, how many of their packages can be judged, and what is not allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from envpack.audit.cvss import LEVELS
from envpack.audit.database import Database
from envpack.audit.ignore import Ignore
from envpack.audit.matching import Vulnerability, vulnerabilities
from envpack.contents.inventory import Installed
from envpack.contents.read import Inventory
from envpack.runtime.errors import AuditError
from envpack.runtime.format.manifest import Package

ANY = "any"
"""The value of --fail-on for vulnerabilities of every severity, also an unknown one."""

APPLIED, EXPIRED, UNMATCHED = "applied", "expired", "unmatched"


class Source(NamedTuple):
    """An environment to audit.

    Attributes:
        path: Its path or URL.
        inventory: Its packages; None where it can't be read.
        problem: Why it can't be read.
    """

    path: str
    inventory: Inventory | None
    problem: str = ""


class Finding(NamedTuple):
    """A vulnerability in an environment.

    Attributes:
        package: The package of the environment.
        distribution: The distribution of PyPI's kind in it: the package itself, if pip installed it.
        vulnerability: The vulnerability.
        ignored: Why it does not count; None if it counts.
    """

    package: Package
    distribution: Package
    vulnerability: Vulnerability
    ignored: Ignore | None


class Audited(NamedTuple):
    """An environment, with what was found.

    Attributes:
        path: Its path or URL.
        name: Its name, of its manifest.
        version: Its version.
        packages: Number of its packages.
        unjudged: The packages without a name on PyPI: there are no advisories about them.
        findings: The vulnerabilities, the worst first.
        problem: Why it can't be read; "" if it was.
    """

    path: str
    name: str = ""
    version: str = ""
    packages: int = 0
    unjudged: tuple[Package, ...] = ()
    findings: tuple[Finding, ...] = ()
    problem: str = ""

    @property
    def judged(self) -> int:
        """Return the number of packages that there may be advisories about."""
        return self.packages - len(self.unjudged)

    @property
    def coverage(self) -> float:
        """Return the percentage of packages that can be judged; 100 without packages."""
        return 100 * self.judged / self.packages if self.packages else 100


class Rules(NamedTuple):
    """What is not allowed; None: everything is.

    Attributes:
        fail_on: The lowest severity that is not allowed, one of `LEVELS`, or `ANY`.
        max_age: Most days since the newest advisory of the database was modified.
        coverage: Least percentage of packages that can be judged, in each environment.
    """

    fail_on: str | None = None
    max_age: int | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        environments: The environments.
        database: The database.
        ignores: What was to be ignored, with `APPLIED`, `EXPIRED` or `UNMATCHED`.
        now: The time of the audit.
    """

    environments: tuple[Audited, ...]
    database: Database
    ignores: tuple[tuple[Ignore, str], ...]
    now: datetime

    @property
    def age(self) -> int | None:
        """Return the age of the database in whole days; None if its records are dated in the future."""
        if self.database.modified is None:
            return None
        return max((self.now - self.database.modified).days, 0)

    def require(self, rules: Rules) -> None:
        """Raise AuditError with each reason for which the audit fails, and the result."""
        reasons = list(_reasons(self, rules))
        if reasons:
            error = AuditError("the audit failed", details=reasons)
            error.result = self.as_dict()
            raise error

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        modified = self.database.modified
        return {
            "database": {
                "paths": list(self.database.paths),
                "advisories": self.database.records,
                "modified": None if modified is None else modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "age_days": self.age,
            },
            "environments": [_environment(each) for each in self.environments],
            "ignores": [{**_ignore(ignore), "state": state} for ignore, state in self.ignores],
        }


def names_on_pypi(sources: Iterable[Source]) -> set[str]:
    """Return the canonical names of all distributions in some environments."""
    return {
        canonicalize_name(distribution.name)
        for source in sources
        if source.inventory is not None
        for installed in source.inventory.installed
        for distribution in _distributions(installed)
    }


def audit(sources: Iterable[Source], database: Database, ignores: Sequence[Ignore], now: datetime) -> Audit:
    """Return what the advisories of a database say of environments.

    Args:
        sources: The environments.
        database: The advisories about their packages, as `names_on_pypi` names these.
        ignores: Vulnerabilities that do not count.
        now: The time.
    """
    valid = [ignore for ignore in ignores if now.date() <= ignore.until]
    environments = tuple(_audited(source, database, valid) for source in sources)
    names = {
        name
        for environment in environments
        for finding in environment.findings
        for name in finding.vulnerability.names
    }

    def state(ignore: Ignore) -> str:
        if ignore.id not in names:
            return UNMATCHED
        return APPLIED if ignore in valid else EXPIRED

    return Audit(environments, database, tuple((ignore, state(ignore)) for ignore in ignores), now)


def _audited(source: Source, database: Database, ignores: Sequence[Ignore]) -> Audited:
    if source.inventory is None:
        return Audited(source.path, problem=source.problem)
    manifest, _, installed = source.inventory
    findings: list[Finding] = []
    for one in installed:
        for distribution in _distributions(one):
            name = canonicalize_name(distribution.name)
            for found in vulnerabilities(name, distribution.version, database.advisories.get(name, ())):
                ignored = next((ignore for ignore in ignores if ignore.id in found.names), None)
                findings.append(Finding(one.package, distribution, found, ignored))
    findings.sort(key=lambda one: ([-part for part in one.vulnerability.rank], one.distribution.name))
    unjudged = tuple(one.package for one in installed if not _distributions(one))
    return Audited(source.path, manifest.name, manifest.version, len(installed), unjudged, tuple(findings))


def _distributions(installed: Installed) -> list[Package]:
    """Return the distributions of a package, each once: there may be two directories with metadata of one."""
    found = {(one.name, one.package.version): one.package for one in installed.distributions}
    if installed.package.kind == "pypi":
        found.setdefault((canonicalize_name(installed.package.name), installed.package.version), installed.package)
    return list(found.values())


def _reasons(audit: Audit, rules: Rules) -> Iterator[str]:
    for one in audit.environments:
        if one.problem:
            yield f"{one.path} can't be audited: {one.problem}"
    if rules.max_age is not None and (audit.age is None or audit.age > rules.max_age):
        if audit.age is None:
            yield "the age of the database is unknown: all advisories are dated later than the clock of this host"
        else:
            yield f"the database is {audit.age} days old; --max-age is {rules.max_age}"
    for one in audit.environments:
        if rules.coverage is not None and not one.problem and one.coverage < rules.coverage:
            yield (
                f"{one.path}: {one.judged} of {one.packages} packages can be judged, {one.coverage:.1f} %; "
                f"--require-coverage is {rules.coverage:g} %"
            )
        counted = [finding.vulnerability for finding in one.findings if _counts(finding, rules.fail_on)]
        if counted:
            shown = ", ".join(dict.fromkeys(found.id for found in counted))
            yield f"{one.path}: {len(counted)} that --fail-on {rules.fail_on} does not allow: {shown}"


def _counts(finding: Finding, fail_on: str | None) -> bool:
    if fail_on is None or finding.ignored is not None:
        return False
    found = finding.vulnerability
    return fail_on == ANY or found.malicious or LEVELS.index(found.severity) >= LEVELS.index(fail_on)


def _environment(audited: Audited) -> dict[str, Any]:
    return {
        "path": audited.path,
        "name": audited.name,
        "version": audited.version,
        "problem": audited.problem or None,
        "packages": audited.packages,
        "judged": audited.judged,
        "unjudged": [_package(package) for package in audited.unjudged],
        "vulnerabilities": [_finding(finding) for finding in audited.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    found = finding.vulnerability
    return {
        "id": found.id,
        "aliases": list(found.aliases),
        "records": list(found.records),
        "malicious": found.malicious,
        "severity": found.severity,
        "score": found.score,
        "summary": found.summary,
        "fixed": found.fixed or None,
        "package": _package(finding.package),
        "distribution": {"name": finding.distribution.name, "version": finding.distribution.version},
        "ignored": _ignore(finding.ignored) if finding.ignored else None,
    }


def _package(package: Package) -> dict[str, str]:
    return {"kind": package.kind, "name": package.name, "version": package.version, "build": package.build}


def _ignore(ignore: Ignore) -> dict[str, str]:
    return {"id": ignore.id, "reason": ignore.reason, "until": ignore.until.isoformat()}
