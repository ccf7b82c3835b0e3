"""The difference of two environments, from manifests and paths tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envpack.contents.difference import Contents, PackageChange, difference
from envpack.contents.markdown import markdown
from envpack.runtime.format.manifest import Frame, Manifest, Package, PathRecord, PathsTable, Segment
from envpack.runtime.format.needs import DetectedNeeds, Evidence, GpuCode
from envpack.runtime.format.services import Mount, Service
from support.bundle_factory import draft

NUMPY = Package("conda", "numpy", "2.1.0", build="py311_0", sha256="a" * 64, size=100, segment="conda:numpy")
SIX = Package("pypi", "six", "1.16", size=10, segment="pypi:six")


def contents(*packages: Package, table: PathsTable | None = None, **fields: object) -> Contents:
    return Contents("x.tar.gz", draft(packages=packages, **fields), table)


def record(path: str, sha256: str = "a", mode: int = 0o644, mtime: int = 1) -> PathRecord:
    return PathRecord(path, "file", mode, 1, sha256, mtime=mtime)


def changes(before: Contents, after: Contents) -> list[tuple[str, str, tuple[str, ...]]]:
    found = difference(before, after).packages
    return [(change.kind, change.package.name, change.fields) for change in found]


@pytest.mark.parametrize(
    ("fields", "expected"),
    {
        "version": ({"version": "2.1.3", "sha256": "b" * 64}, ("version",)),
        "build": ({"build": "py311_1", "sha256": "b" * 64}, ("build",)),
        "both": ({"version": "2.1.3", "build": "py311_1"}, ("version", "build")),
        "archive": ({"sha256": "b" * 64}, ("sha256",)),
        "digest unknown": ({"sha256": ""}, None),
        "mirror": ({"url": "https://mirror/numpy.conda", "channel": "mirror"}, None),
        "size alone": ({"size": 1}, None),
    }.values(),
)
def test_a_changed_package(fields: dict[str, str], expected: tuple[str, ...] | None) -> None:
    found = changes(contents(NUMPY), contents(replace(NUMPY, **fields)))  # type: ignore[arg-type]
    assert found == ([("changed", "numpy", expected)] if expected else [])


def test_a_distribution_of_a_repository_changes_with_its_commit() -> None:
    old, new = (replace(SIX, commit=commit * 40) for commit in "ab")
    assert changes(contents(old), contents(new)) == [("changed", "six", ("commit",))]


def test_packages_of_one_name_are_told_apart_by_kind() -> None:
    """torch of conda in place of torch of pip is another package."""
    found = changes(contents(NUMPY), contents(replace(NUMPY, kind="pypi")))
    assert found == [("removed", "numpy", ()), ("added", "numpy", ())]


def test_a_distribution_whose_name_is_spelled_in_another_way_is_the_same() -> None:
    old, new = replace(SIX, name="My_App"), replace(SIX, name="my-app", version="2")
    assert changes(contents(old), contents(new)) == [("changed", "my-app", ("version",))]


def test_a_distribution_that_is_there_twice() -> None:
    old, new = replace(SIX, version="1.15"), SIX
    assert changes(contents(old, new), contents(old)) == [("removed", "six", ())]


def test_files_of_a_package_that_is_the_same() -> None:
    """Byte-code of another Python, or a file that was edited after the installation."""
    before, after = (
        contents(NUMPY, table=PathsTable({"conda:numpy": (record("lib/numpy.py", digest),)})) for digest in "ab"
    )
    found = difference(before, after)
    assert found.packages == (PackageChange(NUMPY, NUMPY, ("files",)),)
    assert found.files == ((), (), ("lib/numpy.py",))


def test_files_of_packages_that_changed_are_explained() -> None:
    def side(digest: str, *packages: Package) -> Contents:
        names = {"numpy": "conda:numpy", "six.py": "pypi:six", "own.py": "files"}
        return contents(*packages, table=PathsTable({id: (record(name, digest),) for name, id in names.items()}))

    found = difference(side("a", NUMPY, SIX), side("b", replace(NUMPY, version="3"), SIX))
    assert found.files == ((), (), ("numpy", "own.py", "six.py"))
    assert found.unexplained_files() == ((), (), ("own.py", "six.py"))


def test_files_are_compared_wherever_they_are_stored() -> None:
    before = PathsTable(
        {"one": (record("same"), record("gone"), record("edited"), record("mode"), record("touched"))}
    )
    after = PathsTable(
        {
            "one": (record("new"), record("edited", "b"), record("mode", mode=0o755), record("touched", mtime=2)),
            "two": (record("same"), PathRecord("folder", "directory")),
        }
    )
    files = difference(contents(table=before), contents(table=after)).files
    assert files == (("new",), ("gone",), ("edited", "mode"))


def test_an_upgrade_reads_the_segments_that_differ() -> None:
    segments = tuple(Segment(id, (Frame(size, 3 * size, ""),)) for id, size in (("a", 1), ("b", 20), ("c", 300)))
    before = contents(table=PathsTable({"a": (record("1"),), "b": (record("2"),)}))
    after = contents(
        table=PathsTable({"a": (record("1"),), "b": (record("2", "b"),), "c": (record("3"),)}), segments=segments
    )
    assert difference(before, after).upgrade == (2, 320)


def test_without_a_table_files_are_not_compared() -> None:
    found = difference(contents(NUMPY), contents(NUMPY, table=PathsTable({})))
    assert (found.files, found.upgrade) == (None, None)


def test_requirements_and_settings() -> None:
    before = contents(
        requires={"driver": ">=525"},
        needs=DetectedNeeds(
            glibc=Evidence("2.17", "lib/a"), gpu_code=(GpuCode("lib/a", "torch", ("sm_90",), main=True),)
        ),
        variables={"A": "1", "B": "2"},
        test=("true",),
    )
    after = contents(
        requires={"driver": ">=550"},
        needs=DetectedNeeds(
            glibc=Evidence("2.17", "lib/b"),
            cuda=Evidence("12.4", "lib/c"),
            gpu_code=(
                GpuCode("lib/b", "torch", ("sm_90", "sm_100"), ("compute_100",), main=True),
                GpuCode("lib/c", "flash-attn", ("sm_80",), addon=True),
            ),
        ),
        variables={"B": "3"},
        commands={"serve": "serve"},
        services={"serve": Service(8000, "/ready")},
        mounts={"/models": Mount("/models", why="weights")},
        test=("true", "false"),
    )
    assert [tuple(change) for change in difference(before, after).settings] == [
        ("requires", "driver", ">=525", ">=550"),
        ("needs", "CUDA", None, "12.4"),
        ("needs", "GPU code", "sm_90", "sm_90, 100, PTX compute_100"),
        ("variables", "A", "1", None),
        ("variables", "B", "2", "3"),
        ("commands", "serve", None, "serve"),
        ("services", "serve", None, '{"port": 8000, "ready": "/ready"}'),
        ("mounts", "/models", None, '{"why": "weights"}'),
        ("test", "2", None, "false"),
    ]


def test_nothing_differs() -> None:
    same = contents(NUMPY, SIX, table=PathsTable({"conda:numpy": (record("lib/numpy.py"),)}))
    found = difference(same, same)
    assert (found.packages, found.settings, found.files, found.upgrade) == ((), (), ((), (), ()), (0, 0))


def release(version: str, *packages: Package, stored: int, **fields: object) -> Contents:
    manifest: Manifest = draft(
        packages=packages,
        version=version,
        subdir="linux-64",
        segments=(Segment("a", (Frame(stored, 2 * stored, ""),)),),
        size=2 * stored,
        **fields,
    )
    return Contents("x", manifest, PathsTable({"a": (record("a", version),)}))


def test_markdown() -> None:
    before = release("1.0", NUMPY, SIX, stored=1_000_000, requires={"driver": ">=525"})
    after = release(
        "1.1",
        replace(NUMPY, version="2.1.3", size=300),
        replace(SIX, name="x|<b>_y"),
        stored=1_500_000,
        requires={"driver": ">=550"},
    )
    assert (
        markdown(difference(before, after))
        == """\
## synthetic 1.0 → 1.1

linux-64, 2 packages, 1.5 MB compressed (+500 kB), 3.0 MB unpacked (+1.0 MB).
An upgrade reads 1.5 MB of 1.5 MB.

### Packages

| Package | Before | After | Size |
| --- | --- | --- | --- |
| numpy (conda) | 2.1.0 | 2.1.3 | +200 bytes |
| six (pypi) | 1.16 |  | -10 bytes |
| x\\|\\<b\\>\\_y (pypi) |  | 1.16 | +10 bytes |

### Requirements and settings

| Setting | Before | After |
| --- | --- | --- |
| requires: driver | \\>=525 | \\>=550 |

Files: 1 changed.
"""
    )
