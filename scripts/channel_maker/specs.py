"""Python requirements in conda's words: version specifiers to MatchSpec ranges, markers to Python ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from channel_maker.errors import ChannelError

MarkerEnvironment = Mapping[str, str]

# A patch release this high stands for "the last of its minor version".
_LAST_PATCH = 99
_MINORS = range(6, 21)


def conda_clauses(specifier: SpecifierSet, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Translate a PEP 440 specifier set to conda version clauses, all of which have to hold.

    ``known`` are versions that are in the channel: ``==2.7.1`` has to match a known ``2.7.1+cu126``, as PEP 440
    says and conda does not. Raises :class:`ChannelError` for a version that is none.
    """
    locals_ = [version for version in known if "+" in version]
    return tuple(_clause(part, locals_) for part in sorted(specifier, key=str))


def conda_specs(name: str, specifier: SpecifierSet, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the MatchSpecs of a requirement.

    There is more than one when a clause has alternatives: ``|`` binds weaker than a comma.

    Args:
        name: The name of the distribution.
        specifier: The versions that are required.
        known: The versions that exist.
    """
    package = canonicalize_name(name)
    clauses = conda_clauses(specifier, known)
    together = ",".join(clause for clause in clauses if "|" not in clause)
    alternatives = [clause for clause in clauses if "|" in clause]
    if together or not alternatives:
        alternatives.insert(0, together)
    return tuple(f"{package} {clause}".strip() for clause in alternatives)


def _clause(part: Specifier, locals_: Sequence[str]) -> str:
    operator, text = part.operator, part.version
    if operator in ("==", "!=") and text.endswith(".*"):
        prefix = _version(text[:-2], part)
        return f"{'!=' if operator == '!=' else ''}{prefix}.*"
    version = _version(text, part)
    if operator == "~=":
        epoch = f"{version.epoch}!" if version.epoch else ""
        series = ".".join(str(number) for number in version.release[:-1])
        return f">={version},{epoch}{series}.*"
    if operator in ("==", "==="):
        same = [known for known in locals_ if operator == "==" and part.contains(known, prereleases=True)]
        return "|".join(f"=={each}" for each in dict.fromkeys([str(version), *sorted(same)]))
    if operator == "<" and not (version.is_prerelease or version.is_postrelease):
        # PEP 440: "<V" leaves out V's own pre-releases; in conda's order a0 comes before all of them.
        return f"<{version}a0"
    return f"{operator}{version}"


def _version(text: str, part: Specifier) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise ChannelError(f"The version in {str(part)!r} can't be converted for conda.") from None


def same_result_range(environment: MarkerEnvironment, result: Callable[[MarkerEnvironment], object]) -> str | None:
    """Return the range of Python versions, around the environment's own, in which a function has the same result.

    ``result`` is a function of a marker environment, such as "the dependencies that apply". The range is in conda
    clauses (``">=3.8,<3.11.0a0"``), or None if the result is the same for every Python 3. Only the Python version
    varies: the package is for one platform's channel.
    """
    own = _numbers(environment["python_full_version"])
    points = {own, *((3, minor, patch) for minor in _MINORS for patch in (0, _LAST_PATCH))}
    ordered = sorted(points)
    here = ordered.index(own)
    expected = result(environment)
    same = [result(_at(environment, point)) == expected for point in ordered]
    first = here
    while first > 0 and same[first - 1]:
        first -= 1
    last = here
    while last + 1 < len(ordered) and same[last + 1]:
        last += 1
    clauses = []
    if first > 0:
        if ordered[first][2] == _LAST_PATCH:
            first += 1
        major, minor, patch = ordered[first]
        clauses.append(f">={major}.{minor}.{patch}" if patch else f">={major}.{minor}")
    if last + 1 < len(ordered):
        major, minor, patch = ordered[last]
        clauses.append(f"<{major}.{minor + 1}.0a0" if patch == _LAST_PATCH else f"<={major}.{minor}.{patch}")
    return ",".join(clauses) or None


def _numbers(version: str) -> tuple[int, int, int]:
    parsed = Version(version)
    return (parsed.major, parsed.minor, parsed.micro)


def _at(environment: MarkerEnvironment, point: tuple[int, int, int]) -> MarkerEnvironment:
    major, minor, patch = point
    full = f"{major}.{minor}.{patch}"
    return {
        **environment,
        "python_version": f"{major}.{minor}",
        "python_full_version": full,
        "implementation_version": full,
    }


def applying(
    requirements: Iterable[Requirement],
    environment: MarkerEnvironment,
    extras: frozenset[str] = frozenset(),
    requirements_of: Callable[[str], Iterable[Requirement]] = lambda name: (),
) -> tuple[Requirement, ...]:
    """Return the requirements that apply in an environment, each once.

    conda has no extras, so a requirement ``b[x]`` is replaced by ``b`` and its requirements for ``x``.

    Args:
        requirements: The requirements of a distribution.
        environment: The environment that markers are evaluated in.
        extras: The extras of the distribution that are requested.
        requirements_of: Return the requirements of another distribution, by its name.
    """
    found: dict[str, Requirement] = {}
    pending = [(tuple(requirements), extra) for extra in ("", *sorted(extras))]
    visited: set[tuple[str, str]] = set()
    while pending:
        candidates, extra = pending.pop(0)
        for requirement in candidates:
            marker = requirement.marker
            if marker is None:
                holds = extra == ""
            else:
                holds = marker.evaluate({**environment, "extra": extra}) and (
                    extra == "" or not marker.evaluate({**environment, "extra": ""})
                )
            if not holds:
                continue
            name = canonicalize_name(requirement.name)
            found.setdefault(f"{name} {requirement.specifier}", requirement)
            for wanted in sorted(requirement.extras):
                if (name, wanted) not in visited:
                    visited.add((name, wanted))
                    pending.append((tuple(requirements_of(name)), wanted))
    return tuple(found.values())
