"""A wheel as a conda package: noarch where it is pure, tied to one Python minor version where it is not."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from functools import cached_property
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from channel_maker.bytecode import byte_code
from channel_maker.errors import ChannelError
from channel_maker.interpreter import Interpreter
from channel_maker.package import (
    CHUNK,
    PackageIdentity,
    PackageMetadata,
    placeholder_for,
    write_conda,
)
from channel_maker.specs import MarkerEnvironment, applying, conda_clauses, conda_specs, same_result_range
from channel_maker.wheel_files import EntryPoint, Layout, parse_entry_points, wheel_files

# Part of every build string: raise it when the same wheel has to become a different package.
REVISION = 2


@dataclass(frozen=True)
class Wheel:
    """A wheel file and what its metadata says. Raises :class:`ChannelError` from whatever can't be read."""

    path: Path

    @cached_property
    def _parsed_name(self) -> tuple[str, str, frozenset[Tag]]:
        try:
            name, version, _, tags = parse_wheel_filename(self.path.name)
        except InvalidWheelFilename as error:
            raise ChannelError(f"{self.path} does not have the name of a wheel: {error}") from None
        return name, str(version), tags

    @property
    def name(self) -> str:
        """Normalised as PEP 503 says."""
        return self._parsed_name[0]

    @property
    def version(self) -> str:
        return self._parsed_name[1]

    @property
    def tags(self) -> frozenset[Tag]:
        return self._parsed_name[2]

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The files of the .dist-info folder that are read here, and the folder's name as ``""``."""
        with self.opened() as archive:
            folders = {name.split("/")[0] for name in archive.namelist()}
            matching = [
                folder
                for folder in sorted(folders)
                if folder.endswith(".dist-info")
                and canonicalize_name(folder.removesuffix(".dist-info").rpartition("-")[0]) == self.name
            ]
            if len(matching) != 1:
                raise ChannelError(f"{self.path.name} has no .dist-info directory with its name.")
            texts = {"": matching[0]}
            present = set(archive.namelist())
            for name in ("METADATA", "WHEEL", "entry_points.txt"):
                member = f"{matching[0]}/{name}"
                if member in present:
                    texts[name] = archive.read(member).decode("utf-8")
                elif name != "entry_points.txt":
                    raise ChannelError(f"{self.path.name} has no {name}.")
            return texts

    def opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ChannelError(f"{self.path} can't be read as a wheel: {error}") from None

    @property
    def dist_info(self) -> str:
        return self._texts[""]

    @cached_property
    def headers(self) -> Message:
        """METADATA's header."""
        return HeaderParser().parsestr(self._texts["METADATA"])

    @cached_property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        return parse_entry_points(self._texts.get("entry_points.txt", ""))

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        return tuple(self._requirement(str(line)) for line in self.headers.get_all("Requires-Dist", []))

    def _requirement(self, line: str) -> Requirement:
        try:
            return Requirement(line)
        except InvalidRequirement as error:
            raise ChannelError(f"{self.path.name} has an invalid requirement {line!r}: {error}") from None

    @cached_property
    def requires_python(self) -> SpecifierSet:
        text = str(self.headers.get("Requires-Python", ""))
        try:
            return SpecifierSet(text)
        except InvalidSpecifier:
            raise ChannelError(f"{self.path.name} has an invalid Requires-Python {text!r}.") from None

    @cached_property
    def is_noarch(self) -> bool:
        """Whether one package works with every Python."""
        wheel = HeaderParser().parsestr(self._texts["WHEEL"])
        return (
            str(wheel.get("Root-Is-Purelib", "")).lower() == "true"
            and all(tag.abi == "none" and tag.platform == "any" for tag in self.tags)
            and any(tag.interpreter == "py3" for tag in self.tags)
            and not self._has_headers()
        )

    def _has_headers(self) -> bool:
        data = self.dist_info.removesuffix("dist-info") + "data/headers/"
        with self.opened() as archive:
            return any(name.startswith(data) for name in archive.namelist())

    def fits(self, interpreter: Interpreter) -> bool:
        """Return whether the wheel's tags and Requires-Python fit ``interpreter``."""
        major, minor = (int(number) for number in interpreter.minor.split("."))
        platforms = list(platform_tags())
        accepted = {
            *cpython_tags((major, minor), platforms=platforms),
            *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
        }
        return bool(self.tags & accepted) and self.requires_python.contains(interpreter.version, prereleases=True)


@dataclass(frozen=True)
class WheelPlan:
    """A package to be made from a wheel, for one interpreter or, with None, for all.

    Everything is known but the bytes.
    """

    wheel: Wheel
    identity: PackageIdentity
    metadata: PackageMetadata
    interpreter: Interpreter | None

    def write(self, out: Path, *, epoch: int) -> None:
        """Write the package file ``out``."""
        placeholder = placeholder_for(self.identity.name, epoch)
        try:
            with self.wheel.opened() as archive, tempfile.TemporaryDirectory(dir=out.parent) as scratch:
                minor = self.interpreter.minor if self.interpreter else None
                files = wheel_files(
                    archive,
                    self.wheel.dist_info,
                    Layout(minor, placeholder),
                    self.wheel.name,
                    self.wheel.entry_points,
                )
                if self.interpreter:
                    python = self.interpreter.executable
                    files += byte_code(files, python, epoch=epoch, scratch=Path(scratch))
                write_conda(out, self.identity, self.metadata, files, placeholder=placeholder, epoch=epoch)
        except ChannelError as error:
            raise ChannelError(
                f"{self.wheel.path.name}: {error.message}", hint=error.hint, details=error.details
            ) from None
        except zipfile.BadZipFile as error:
            raise ChannelError(f"{self.wheel.path.name} is damaged: {error}") from None


def plan_wheels(wheels: Collection[Wheel], interpreter: Interpreter) -> list[WheelPlan]:
    """Return a plan for each of ``wheels``, which are installed together for ``interpreter``."""
    by_name: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        by_name.setdefault(wheel.name, []).append(wheel)

    def requirements_of(name: str) -> Iterable[Requirement]:
        return by_name[name][0].requirements if name in by_name else ()

    versions = {name: [wheel.version for wheel in same] for name, same in by_name.items()}
    return [_plan(wheel, interpreter, requirements_of, versions) for wheel in wheels]


def _plan(
    wheel: Wheel,
    interpreter: Interpreter,
    requirements_of: Callable[[str], Iterable[Requirement]],
    versions: Mapping[str, Collection[str]],
) -> WheelPlan:
    def dependencies(environment: MarkerEnvironment) -> tuple[str, ...]:
        found = applying(wheel.requirements, environment, requirements_of=requirements_of)
        specs = {
            spec
            for requirement in found
            if canonicalize_name(requirement.name) != wheel.name
            for spec in conda_specs(
                requirement.name,
                requirement.specifier,
                versions.get(canonicalize_name(requirement.name), ()),
            )
        }
        return tuple(sorted(specs))

    depends = dependencies(interpreter.markers)
    noarch = wheel.is_noarch
    if noarch:
        clauses = [
            *conda_clauses(wheel.requires_python),
            same_result_range(interpreter.markers, dependencies) or "",
        ]
        python = f"python {','.join(clause for clause in clauses if clause)}".strip()
    else:
        python = interpreter.pin
    metadata = PackageMetadata(
        depends=(*depends, python),
        license=_license(wheel.headers),
        summary=_one_line(wheel.headers.get("Summary")),
        home=_one_line(wheel.headers.get("Home-page")),
        noarch_python=noarch,
        entry_points=tuple(str(entry) for entry in wheel.entry_points) if noarch else (),
    )
    identity = PackageIdentity(
        wheel.name,
        wheel.version,
        _build(wheel, metadata, "py" if noarch else interpreter.tag),
        "noarch" if noarch else interpreter.subdir,
    )
    return WheelPlan(wheel, identity, metadata, None if noarch else interpreter)


def _build(wheel: Wheel, metadata: PackageMetadata, tag: str) -> str:
    """``py311h1a2b3c4_0``: as conda-build's, a hash of what the package is made of, so that a changed wheel or a
    changed dependency is another package."""
    content = json.dumps([REVISION, wheel.sha256, metadata.depends])
    return f"{tag}h{hashlib.sha256(content.encode()).hexdigest()[:7]}_0"


def _license(headers: Message) -> str:
    for field in ("License-Expression", "License"):
        text = _one_line(headers.get(field))
        if text and len(text) <= 100 and text.upper() != "UNKNOWN":
            return text
    classifiers = [str(line) for line in headers.get_all("Classifier", [])]
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    return " AND ".join(names)


def _one_line(text: object) -> str:
    return re.sub(r"\s+", " ", str(text or "")).strip()
