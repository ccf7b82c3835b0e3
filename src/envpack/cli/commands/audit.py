"""``envpack audit``: known vulnerabilities of the packages of bundles and deployments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from envpack.cli.console import Console, Result
from envpack.cli.options import argument, option, require_file
from envpack.cli.output import write_file
from envpack.cli.text import escape, human_date, plural, wrap
from envpack.runtime.errors import AuditError, EnvpackError, UsageError

if TYPE_CHECKING:
    from envpack.audit.report import Audit, Audited, Finding, Source

_OLD = 30
"""Age of a database in days from which on there is a warning; OSV's has new advisories every day."""

_STYLES = {"malicious": "1;37;41", "critical": "1;31", "high": "31", "medium": "33", "low": "36", "unknown": "2"}


def audit(
    console: Console,
    sources: Annotated[
        list[str] | None, argument(metavar="BUNDLE|DEST...", help="Bundles (path, URL or '-'), or deployments.")
    ] = None,
    db: Annotated[
        list[Path] | None,
        option("--db", metavar="PATH", help="Advisories: OSV's all.zip, a directory, or a JSON file. Repeatable."),
    ] = None,
    every: Annotated[
        bool, option("--all", help="Audit the deployments of this host, as 'envpack list' finds them.")
    ] = False,
    fail_on: Annotated[
        Literal["low", "medium", "high", "critical", "any"] | None,
        option("--fail-on", help="Fail if there is a vulnerability of this severity or a higher one."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        option("--ignore", metavar="ID:REASON:UNTIL", help="Don't count one until a date. Repeatable."),
    ] = None,
    max_age: Annotated[
        int | None,
        option("--max-age", metavar="DAYS", help="Fail if the newest advisory is older than this.", min=0),
    ] = None,
    require_coverage: Annotated[
        float | None,
        option(
            "--require-coverage",
            metavar="PERCENT",
            help="Fail if fewer packages can be judged.",
            min=0,
            max=100,
        ),
    ] = None,
    sarif: Annotated[
        Path | None, option("--sarif", metavar="FILE", help="Also write the result as SARIF 2.1.0.")
    ] = None,
) -> Result:
    """Show known vulnerabilities, from advisories on disk.

    The advisories are those of OSV about packages on PyPI. A conda package is judged by the Python distributions
    in it: py-opencv by opencv-python. Other conda packages have no advisory source. The output says how many of
    the packages can be judged, and how old the advisories are. Nothing is downloaded: docs/auditing.md says where
    advisories come from.

    The exit code is 12 if there is a vulnerability that --fail-on names, if --max-age or --require-coverage is
    not met, or if a deployment can't be read. Without these options, vulnerabilities are shown and it is 0. Those
    of an unknown severity count with --fail-on any only. A database that is missing, empty or damaged is an error
    (6).

    \b
    Examples:
      envpack audit demo.tar.gz --db all.zip
      envpack audit --all --db all.zip --fail-on high --max-age 7
      envpack audit demo.tar.gz --db all.zip \\
        --ignore 'GHSA-qr4w-53vh-m672:reads no images of users:2026-12-31'
    """
    from envpack.audit.database import HINT, read_database
    from envpack.audit.ignore import read_ignore
    from envpack.audit.report import Rules, names_on_pypi
    from envpack.audit.report import audit as judge
    from envpack.audit.sarif import sarif as to_sarif

    if not db:
        raise UsageError("option --db is missing: without advisories nothing can be judged", hint=HINT)
    if every == bool(sources):
        raise UsageError(
            "bundles and deployments, and --all, can't be combined"
            if every
            else "give a bundle, a deployment, or --all"
        )
    if (sources or []).count("-") > 1:
        raise UsageError("only one of them can come from standard input", hint="Give the paths of the other ones.")
    require_file(sarif)
    ignores = [read_ignore(text) for text in ignore or ()]
    found = list(_deployments() if every else _given(sources or []))
    now = datetime.now(timezone.utc)
    database = read_database(db, names_on_pypi(found), now, console.reporter)
    result = judge(found, database, ignores, now)
    if sarif is not None:
        write_file(sarif, to_sarif(result))
    _warn(console, result, checked=max_age is not None)
    try:
        result.require(Rules(fail_on, max_age, require_coverage))
    except AuditError:
        if not console.json:
            _show(console, result)
        raise
    return Result("audit", result.as_dict(), lambda console: _show(console, result))


def _given(sources: Sequence[str]) -> Iterator[Source]:
    from envpack.audit.report import Source
    from envpack.bundle.codecs import FAST
    from envpack.contents.read import read_inventory
    from envpack.runtime.transport.open import shown

    for path in dict.fromkeys(sources):
        yield Source("standard input" if path == "-" else shown(path), read_inventory(path, FAST))


def _deployments() -> Iterator[Source]:
    from envpack.runtime.deployment.listing import list_deployments

    return (_deployment(each.path) for each in list_deployments(sizes=False))


def _deployment(path: str) -> Source:
    from envpack.audit.report import Source
    from envpack.contents.read import read_inventory

    try:
        return Source(path, read_inventory(Path(path)))
    except EnvpackError as problem:
        return Source(path, None, problem.message)


def _warn(console: Console, found: Audit, *, checked: bool) -> None:
    from envpack.audit.report import EXPIRED, UNMATCHED

    for ignore, state in found.ignores:
        if state == EXPIRED:
            console.reporter.warn(f"{ignore.id} counts again: it was to be ignored until {ignore.until} only")
        elif state == UNMATCHED:
            console.reporter.warn(f"--ignore {ignore.id} matches nothing; it can be left out")
    if not checked and (found.age is None or found.age > _OLD):
        age = "dated later than the clock of this host" if found.age is None else f"{found.age} days old"
        console.reporter.warn(f"the database is {age}: newer vulnerabilities are not in it")


def _show(console: Console, found: Audit) -> None:
    out = console.out
    if not found.environments:
        out.write("no deployments are known; 'envpack list --scan ROOT' searches for them")
    groups: dict[tuple[str, ...], list[tuple[Audited, Finding]]] = {}
    for environment in found.environments:
        for finding in environment.findings:
            own = finding.distribution
            key = (finding.vulnerability.id, own.name, own.version, finding.package.kind, finding.package.name)
            groups.setdefault(key, []).append((environment, finding))
    worst = sorted(groups.values(), key=lambda group: [-part for part in group[0][1].vulnerability.rank])
    if found.environments:
        for line in wrap(_headline([group[0][1] for group in worst]), out.width, indent="  ", first=""):
            out.write(out.style(line, "1"))
    for group in worst:
        _show_finding(console, group, len(found.environments) > 1)
    out.write()
    out.pairs(_facts(found))


def _headline(findings: Sequence[Finding]) -> str:
    counting = [finding for finding in findings if finding.ignored is None]
    ignored = f" ({len(findings) - len(counting):,} ignored)" if len(counting) < len(findings) else ""
    if not counting:
        return f"no known vulnerabilities in the packages that can be judged{ignored}"
    severities = [_severity(finding) for finding in counting]
    kinds = ", ".join(f"{severities.count(kind):,} {kind}" for kind in _STYLES if kind in severities)
    packages = plural(len({finding.distribution.name for finding in counting}), "package")
    return f"{plural(len(counting), 'vulnerability')} in {packages}: {kinds}{ignored}"


def _severity(finding: Finding) -> str:
    return "malicious" if finding.vulnerability.malicious else finding.vulnerability.severity


def _show_finding(console: Console, group: Sequence[tuple[Audited, Finding]], several: bool) -> None:
    out = console.out
    finding = group[0][1]
    found, own = finding.vulnerability, finding.distribution
    severity = _severity(finding)
    out.write()
    first = f"{severity}  {escape(own.name)} {escape(own.version)}  {escape(found.id)}"
    fixed = f"fixed in {escape(found.fixed)}" if found.fixed else "no fixed version is known"
    style = "2" if finding.ignored else _STYLES[severity]
    head, *rest = wrap(f"{first}  {fixed}", out.width, indent="  ", first="")
    out.write(out.style(severity, style) + head.removeprefix(severity))
    for line in rest:
        out.write(line)
    lines = [found.summary] if found.summary else []
    if finding.package.kind == "conda":
        lines.append(f"in the conda package {finding.package.name} {finding.package.version}")
    if found.aliases:
        lines.append(f"also {', '.join(found.aliases)}")
    if several:
        lines += [f"in {environment.path}" for environment, _ in group]
    if finding.ignored:
        lines.append(f"ignored until {finding.ignored.until}: {finding.ignored.reason}")
    for text in lines:
        for line in wrap(escape(text), out.width, indent="    ", first="  "):
            out.write(line)


def _facts(found: Audit) -> Iterator[tuple[str, str]]:
    for environment in found.environments:
        where = f"{environment.path}: " if len(found.environments) > 1 else ""
        if environment.problem:
            yield "not audited", f"{environment.path}: {environment.problem}"
        else:
            yield "coverage", where + _coverage(environment)
    modified = found.database.modified
    age = "of an unknown date" if modified is None else f"the newest of {human_date(int(modified.timestamp()))}"
    days = "" if found.age is None else f", {plural(found.age, 'day')} old"
    yield "database", f"{found.database.records:,} advisories, {age}{days}"


def _coverage(environment: Audited) -> str:
    judged = f"{environment.judged:,} of {plural(environment.packages, 'package')} can be judged"
    if not environment.unjudged:
        return judged
    count = plural(len(environment.unjudged), "conda package")
    return f"{judged}; {count} {'has' if len(environment.unjudged) == 1 else 'have'} no advisory source"
